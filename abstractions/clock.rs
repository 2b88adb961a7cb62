// SPDX-License-Identifier: GPL-2.0

//! A clock for short times: where there is one, a counter of the processor, which takes an instruction
//! to read.
//!
//! On x86 it is the TSC, elsewhere `ktime_get_mono_fast_ns()`. Where the TSCs of two processors differ, a
//! time that begins on one and ends on the other one is wrong by as much: for statistics only.

use crate::bindings;

/// What the clock of this CPU shows.
///
/// Context: any.
#[inline(always)]
pub fn ticks() -> u64 {
    // SAFETY: It may be called from any context.
    unsafe { bindings::clock_ticks() }
}

/// How long so many ticks take, in nanoseconds; zero if that is not known.
///
/// Context: any.
pub fn ticks_to_ns(ticks: u64) -> u64 {
    // SAFETY: It may be called from any context.
    unsafe { bindings::clock_ticks_to_ns(ticks) }
}
