// SPDX-License-Identifier: GPL-2.0

//! What [`kernel::sync::rcu`] does not have yet: callbacks.
//!
//! C header: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h)

use crate::bindings;

/// Calls `func` with `head` when all that read under RCU now have ended, and as soon as that is so.
///
/// Context: any but NMI.
///
/// # Safety
///
/// `head` is valid for writes and nothing else uses it, until `func` is called, in softirq context.
/// The module of `func` calls [`barrier`] before it goes.
pub unsafe fn call(
    head: *mut bindings::callback_head,
    func: unsafe extern "C" fn(*mut bindings::callback_head),
) {
    // SAFETY: The caller promises what RCU asks for.
    unsafe { bindings::call_rcu_hurry(head, Some(func)) };
}

/// Waits until all callbacks that were queued before have returned.
///
/// Context: process context, may sleep.
pub fn barrier() {
    // SAFETY: There are no requirements but the context.
    unsafe { bindings::rcu_barrier() };
}
