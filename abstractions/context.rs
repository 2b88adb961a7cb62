// SPDX-License-Identifier: GPL-2.0

//! The context that code runs in.
//!
//! C headers: [`include/linux/preempt.h`](srctree/include/linux/preempt.h),
//! [`include/linux/irqflags.h`](srctree/include/linux/irqflags.h)

use crate::bindings;

/// Whether this runs in a non-maskable interrupt.
///
/// Context: any.
#[inline(always)]
pub fn in_nmi() -> bool {
    // SAFETY: It only reads this CPU's preempt count.
    unsafe { bindings::in_nmi() }
}

/// Whether interrupts are off on this CPU.
///
/// Context: any.
#[inline(always)]
pub fn irqs_disabled() -> bool {
    // SAFETY: It only reads this CPU's flags.
    unsafe { bindings::irqs_disabled() }
}

/// Lets others run, for code that loops for long.
///
/// Context: process context, may sleep.
pub fn cond_resched() {
    // SAFETY: There are no requirements but the context.
    unsafe { bindings::cond_resched() };
}

/// Runs `f` without being preempted.
///
/// Context: any.
#[inline]
pub fn without_preemption<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: It is enabled again below.
    unsafe { bindings::preempt_disable() };
    let result = f();
    // SAFETY: It has been disabled above.
    unsafe { bindings::preempt_enable() };
    result
}
