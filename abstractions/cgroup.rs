// SPDX-License-Identifier: GPL-2.0

//! Cgroups.
//!
//! C header: [`include/linux/cgroup.h`](srctree/include/linux/cgroup.h)

use crate::bindings;
use core::ptr::NonNull;
use kernel::types::Opaque;

/// Wraps the kernel's `struct cgroup`.
#[repr(transparent)]
pub struct Cgroup(Opaque<bindings::cgroup>);

impl Cgroup {
    /// Takes a reference as `cgroup_tryget()` does, if there is one left; tells whether it has. That
    /// one is for [`put`](Self::put).
    ///
    /// Context: any.
    #[inline]
    pub fn try_get(&self) -> bool {
        // SAFETY: A reference is a valid pointer.
        unsafe { bindings::cgroup_tryget(self.0.get()) }
    }

    /// Gives back a reference. The last one goes to a workqueue.
    ///
    /// Context: any but NMI.
    ///
    /// # Safety
    ///
    /// The caller owns a reference, and gives it up.
    #[inline]
    pub unsafe fn put(this: NonNull<Self>) {
        // SAFETY: The caller owns a reference.
        unsafe { bindings::cgroup_put(Opaque::cast_into(&raw const (*this.as_ptr()).0)) };
    }
}
