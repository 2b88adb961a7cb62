// SPDX-License-Identifier: GPL-2.0

//! Waiting for the drops that are under way.
//!
//! One drainer at a time, oldest first: so whatever was queued before a barrier has been done when
//! the barrier itself comes off the queue.

use super::{
    pending::PendingDrop,
    queue::Engine, //
};
use crate::bindings::kptr_defer_slot;
use core::ptr::NonNull;
use kernel::{
    container_of,
    prelude::*,
    sync::Completion,
    types::Opaque, //
};

/// Waits on the queue like a drop.
#[pin_data]
struct Barrier<'a> {
    #[pin]
    queued: Opaque<kptr_defer_slot>,
    engine: &'a Engine,
    #[pin]
    reached: Completion,
}

impl Barrier<'_> {
    /// # Safety
    ///
    /// `slot` is that of a barrier whose owner waits for `reached`.
    unsafe extern "C" fn reach(slot: *mut kptr_defer_slot) {
        let slot = Opaque::cast_from(slot);
        // SAFETY: By the safety requirement the slot is in a barrier, which exists until `reached`
        // is complete.
        let this = unsafe { &*container_of!(slot, Self, queued) };
        this.engine.stats().is_no_drop();
        this.reached.complete_all();
    }
}

impl Engine {
    /// Waits until every drop deferred before the call has finished.
    ///
    /// Context: process context, may sleep.
    pub(crate) fn barrier(&self) {
        pin_init::stack_pin_init!(let barrier = pin_init!(Barrier {
            queued: Opaque::zeroed(),
            engine: self,
            reached <- Completion::new(),
        }));
        // SAFETY: An `Opaque` is not at null.
        let slot = unsafe { NonNull::new_unchecked(barrier.queued.get()) };
        // SAFETY: The slot is used for this only, and stays until it has been reached: that is
        // waited for. What `reach` does may be done in any context but NMI.
        self.defer(unsafe { PendingDrop::new(slot, Barrier::reach) });
        barrier.reached.wait_for_completion();
    }
}
