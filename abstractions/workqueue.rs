// SPDX-License-Identifier: GPL-2.0

//! What [`kernel::workqueue`] does not have yet: a workqueue of one's own, and waiting for work.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    workqueue::{
        Queue,
        RawWorkItem,
        Work, //
    },
};

/// A workqueue of one's own, for work that need not run on the CPU that queued it.
///
/// # Invariants
///
/// The pointer comes from `alloc_workqueue()` and is this value's alone.
pub struct OwnQueue(NonNull<bindings::workqueue_struct>);

// SAFETY: A workqueue can be used from any thread.
unsafe impl Send for OwnQueue {}
// SAFETY: Its operations are thread-safe.
unsafe impl Sync for OwnQueue {}

impl OwnQueue {
    /// A workqueue for short work, which has to run even when there is no memory for a new kworker:
    /// `WQ_UNBOUND`, `WQ_HIGHPRI` and `WQ_MEM_RECLAIM`. May sleep.
    pub fn new_reclaim(name: &CStr) -> Result<Self> {
        // SAFETY: The name is a C string.
        let queue = unsafe { bindings::alloc_reclaim_workqueue(name.as_char_ptr()) };
        // INVARIANT: It has just been allocated.
        NonNull::new(queue).map(Self).ok_or(ENOMEM)
    }

    /// A workqueue for work that may wait for anything, work on other workqueues too: `WQ_UNBOUND`.
    /// May sleep.
    pub fn new_unbound(name: &CStr) -> Result<Self> {
        // SAFETY: The name is a C string.
        let queue = unsafe { bindings::alloc_unbound_workqueue(name.as_char_ptr()) };
        // INVARIANT: It has just been allocated.
        NonNull::new(queue).map(Self).ok_or(ENOMEM)
    }

    /// Enqueues a work item, as [`Queue::enqueue`] does.
    pub fn enqueue<W, const ID: u64>(&self, work: W) -> W::EnqueueOutput
    where
        W: RawWorkItem<ID> + Send + 'static,
    {
        // SAFETY: By the type invariant the workqueue is valid, as long as this.
        unsafe { Queue::from_raw(self.0.as_ptr()) }.enqueue(work)
    }
}

impl Drop for OwnQueue {
    /// Waits for all work that is queued. May sleep.
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is ours, and it is not used again.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
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
