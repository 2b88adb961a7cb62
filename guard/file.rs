// SPDX-License-Identifier: GPL-2.0

//! The debugfs file with the counters.

use crate::{
    abstractions::module_static::Alive,
    bindings,
    Guards,
    GUARDS, //
};
use core::ptr::NonNull;
use kernel::{
    fmt,
    prelude::*,
    seq_file::{
        seq_print,
        SeqFile, //
    },
    sync::Arc, //
};

/// Shows the counters of all guards, for as long as this lives.
pub(crate) struct File {
    file: *mut bindings::dentry,
    _guards: Arc<Alive<Guards>>,
}

// SAFETY: What belongs to debugfs can be removed from any thread.
unsafe impl Send for File {}
// SAFETY: There is nothing to be done with a shared reference.
unsafe impl Sync for File {}

impl File {
    /// Creates it. May sleep. As usual with debugfs, failing to is no error.
    pub(crate) fn new(guards: Arc<Alive<Guards>>) -> Self {
        Self {
            // SAFETY: The guards that the file shows are alive.
            file: unsafe { bindings::kptr_defer_guard_file_create() },
            _guards: guards,
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: It has been created, and is not used again.
        unsafe { bindings::kptr_defer_guard_file_remove(self.file) };
    }
}

struct Table<'a>(&'a Guards);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "function calls nmi last_refs drained")?;
        for guard in self.0.iter() {
            let numbers = guard.numbers();
            f.write_fmt(fmt!(
                "{} {} {} {} {}\n",
                guard.name(),
                numbers.calls,
                numbers.nmi,
                numbers.last_refs,
                numbers.drained
            ))?;
        }
        Ok(())
    }
}

/// # Safety
///
/// For the file only: `m` is valid.
#[no_mangle]
unsafe extern "C" fn kptr_defer_guard_rust_show(m: NonNull<bindings::seq_file>) {
    // SAFETY: The caller promises that it is valid.
    let m = unsafe { SeqFile::from_raw(m.as_ptr()) };
    // SAFETY: The file is removed, which waits for its readers, before the guards go away.
    seq_print!(m, "{}", Table(unsafe { GUARDS.get() }));
}
