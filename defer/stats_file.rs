// SPDX-License-Identifier: GPL-2.0

//! The debugfs file with the counters.

use super::{
    queue::Engine,
    stats::Stats,
    ENGINE, //
};
use crate::{
    abstractions::module_static::Alive,
    bindings, //
};
use core::ptr::NonNull;
use kernel::{
    fmt,
    seq_file::{
        seq_print,
        SeqFile, //
    },
    sync::Arc, //
};

/// Shows the counters of the engine, for as long as this lives.
pub(crate) struct StatsFile {
    dir: *mut bindings::dentry,
    _engine: Arc<Alive<Engine>>,
}

// SAFETY: What belongs to debugfs can be removed from any thread.
unsafe impl Send for StatsFile {}
// SAFETY: There is nothing to be done with a shared reference.
unsafe impl Sync for StatsFile {}

impl StatsFile {
    /// Creates it. May sleep. As usual with debugfs, failing to is no error.
    pub(crate) fn new(engine: Arc<Alive<Engine>>) -> Self {
        Self {
            // SAFETY: The engine that the file shows is alive.
            dir: unsafe { bindings::kptr_defer_stats_file_create() },
            _engine: engine,
        }
    }
}

impl Drop for StatsFile {
    fn drop(&mut self) {
        // SAFETY: It has been created, and is not used again.
        unsafe { bindings::kptr_defer_stats_file_remove(self.dir) };
    }
}

struct Lines<'a>(&'a Stats);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f)
    }
}

/// # Safety
///
/// For the file only: `m` is valid.
#[no_mangle]
unsafe extern "C" fn kptr_defer_rust_stats_show(m: NonNull<bindings::seq_file>) {
    // SAFETY: The caller promises that it is valid.
    let m = unsafe { SeqFile::from_raw(m.as_ptr()) };
    // SAFETY: The file is removed, which waits for its readers, before the engine goes away.
    seq_print!(m, "{}", Lines(unsafe { ENGINE.get() }.stats()));
}
