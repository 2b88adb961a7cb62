// SPDX-License-Identifier: GPL-2.0

//! Giving way to livepatches. A livepatch of a guarded function could not be loaded otherwise, see
//! [`attached`](crate::attached).

use crate::{
    abstractions::module_static::Alive,
    bindings,
    Guards,
    GUARDS, //
};
use kernel::{
    error::to_result,
    ffi::c_char,
    prelude::*,
    str::CStr,
    sync::Arc, //
};

/// Gives way to every livepatch that is loaded while this lives.
pub(crate) struct LivepatchWatch {
    _guards: Arc<Alive<Guards>>,
}

impl LivepatchWatch {
    /// May sleep.
    pub(crate) fn new(guards: Arc<Alive<Guards>>) -> Result<Self> {
        // SAFETY: The guards are alive.
        to_result(unsafe { bindings::kptr_defer_guard_watch_livepatches() })?;
        Ok(Self { _guards: guards })
    }
}

impl Drop for LivepatchWatch {
    fn drop(&mut self) {
        // SAFETY: It has been registered. This waits for its calls.
        unsafe { bindings::kptr_defer_guard_stop_watching() };
    }
}

/// # Safety
///
/// For the notifier only: `name` is a string.
#[no_mangle]
unsafe extern "C" fn kptr_defer_guard_rust_livepatch_coming(name: *const c_char) {
    // SAFETY: The caller promises that it is a string.
    let name = unsafe { CStr::from_char_ptr(name) };
    // SAFETY: The guards are alive for as long as livepatches are watched.
    match unsafe { GUARDS.get() }.give_way() {
        Ok(()) => pr_info!("gives way to livepatch {name}\n"),
        Err(err) => pr_warn!("what is guarded cannot be patched by {name}: {err:?}\n"),
    }
}
