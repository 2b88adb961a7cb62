// SPDX-License-Identifier: GPL-2.0

//! Waiting for the drops that are under way.
//!
//! A lane has one drainer at a time, oldest first: so whatever was queued before a barrier has been
//! done when the barrier itself comes off the lane.

use super::{
    pending::{
        InHardIrq,
        InProcess,
        PendingDrop, //
    },
    queue::{
        Engine,
        Lane, //
    },
    stats::LaneStats,
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
    lane: &'a LaneStats,
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
        this.lane.is_no_drop();
        this.reached.complete_all();
    }
}

impl Engine {
    /// Waits until every drop deferred before the call has finished.
    ///
    /// Context: process context, may sleep.
    pub(crate) fn barrier(&self) {
        // In this order: what runs in hard interrupts may leave something to do that sleeps.
        self.wait_for::<InHardIrq>();
        self.wait_for::<InProcess>();
    }

    fn wait_for<C: Lane>(&self) {
        pin_init::stack_pin_init!(let barrier = pin_init!(Barrier {
            queued: Opaque::zeroed(),
            lane: C::stats(self.stats()),
            reached <- Completion::new(),
        }));
        // SAFETY: An `Opaque` is not at null.
        let slot = unsafe { NonNull::new_unchecked(barrier.queued.get()) };
        // SAFETY: The slot is used for this only, and stays until it has been reached: that is
        // waited for. What `reach` does may be done in any context but NMI.
        self.defer(unsafe { PendingDrop::<C>::new(slot, Barrier::reach) });
        barrier.reached.wait_for_completion();
    }
}
