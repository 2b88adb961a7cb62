// SPDX-License-Identifier: GPL-2.0

//! The tracepoints, which are defined and described in `shim/trace.h`.

use super::{
    pending::{
        Destructor,
        PendingDrop, //
    },
    stats::LaneStats, //
};
use crate::{
    abstractions::{
        clock,
        tracepoint::declare_trace, //
    },
    bindings::kptr_defer_slot,
};
use kernel::{
    ffi::c_char,
    prelude::*, //
};

declare_trace! {
    /// Context: any.
    ///
    /// # Safety
    ///
    /// None: neither is used.
    unsafe fn drop_deferred(slot: *const kptr_defer_slot, dtor: Option<Destructor>);

    /// Context: any.
    ///
    /// # Safety
    ///
    /// `by` is a C string.
    unsafe fn drain(by: *const c_char, drops: u64, duration_ns: u64);
}

/// Whether somebody wants to know of drops that are deferred.
///
/// Context: any.
#[inline(always)]
pub(super) fn drops_are_traced() -> bool {
    drop_deferred::is_on()
}

/// This drop is about to be queued.
///
/// Context: any.
pub(super) fn dropped<C>(drop: &PendingDrop<C>) {
    let (slot, dtor) = drop.as_parts();
    // SAFETY: There are no requirements.
    unsafe { drop_deferred::fire(slot, Some(dtor)) };
}

/// Runs `drain`, in which the drainer of the lane runs drops. The clock is only read for those who trace.
#[inline(always)]
pub(super) fn drained<R>(by: &CStr, lane: &LaneStats, drain: impl FnOnce() -> R) -> R {
    let before = drain::is_on().then(|| (clock::ticks(), lane.drained()));
    let result = drain();
    if let Some((start, drained)) = before {
        let drops = lane.drained().wrapping_sub(drained);
        let duration_ns = clock::ticks_to_ns(clock::ticks().saturating_sub(start));
        // SAFETY: It is one.
        unsafe { drain::fire(by.as_char_ptr(), drops, duration_ns) };
    }
    result
}
