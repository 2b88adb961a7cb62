// SPDX-License-Identifier: GPL-2.0

//! Waiting for a work item.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use crate::bindings;
use kernel::workqueue::Work;

/// Waits until a work item that was queued before the call has returned.
///
/// Context: process context, may sleep.
pub fn flush_work<T: ?Sized, const ID: u64>(work: &Work<T, ID>) {
    // SAFETY: A reference is a valid pointer.
    let work = unsafe { Work::raw_get(work) };
    // SAFETY: The work is initialised, as there is a reference to it, and stays so during the call.
    unsafe { bindings::flush_work(work) };
}
