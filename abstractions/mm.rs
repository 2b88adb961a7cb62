// SPDX-License-Identifier: GPL-2.0

//! What [`kernel::mm`] cannot do yet.
//!
//! C header: [`include/linux/sched.h`](srctree/include/linux/sched.h)

use crate::bindings;
use core::ptr::NonNull;
use kernel::mm::Mm;

/// Whether this is the address space of the current task, so that it is there while the task runs.
///
/// Context: any.
#[inline]
pub fn is_of_current(mm: NonNull<Mm>) -> bool {
    // SAFETY: There are no requirements.
    mm.as_ptr() == unsafe { bindings::current_mm() }.cast()
}
