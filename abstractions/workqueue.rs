// SPDX-License-Identifier: GPL-2.0

//! What [`kernel::workqueue`] does not have yet.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use crate::bindings;
use kernel::workqueue::{
    Queue,
    Work, //
};

/// The system's workqueue for work that need not run on the CPU that queued it.
///
/// It is `system_dfl_wq`, which replaces `system_unbound_wq`.
pub fn system_default() -> &'static Queue {
    // SAFETY: The pointer is set early during boot, and then for good.
    unsafe { Queue::from_raw(bindings::system_dfl_wq) }
}

/// Waits until a work item that was queued before the call has returned.
///
/// Context: process context, may sleep.
pub fn flush_work<T: ?Sized, const ID: u64>(work: &Work<T, ID>) {
    // SAFETY: A reference is a valid pointer.
    let work = unsafe { Work::raw_get(work) };
    // SAFETY: The work is initialised, as there is a reference to it, and stays so during the call.
    unsafe { bindings::flush_work(work) };
}
