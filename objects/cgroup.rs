// SPDX-License-Identifier: GPL-2.0

//! Cgroups, of the default hierarchy or another, held as `cgroup_get()` does. A cgroup that has been
//! removed can be held as long as somebody else still holds it.
//!
//! The last `cgroup_put()` calls `queue_work()` (`css_release()` in `kernel/cgroup/cgroup.c`), which
//! must not happen in NMI.

use super::handle::{
    bpf_kind,
    Object, //
};
use crate::{
    abstractions::cgroup::Cgroup,
    defer::pending::InHardIrq, //
};
use core::ptr::NonNull;

// SAFETY: `cgroup_put()` calls `queue_work()` at most; the cgroup is freed by RCU after that.
unsafe impl Object for Cgroup {
    type DropsIn = InHardIrq;

    unsafe fn try_get(cgroup: NonNull<Self>) -> bool {
        // SAFETY: The caller says that it is there.
        unsafe { cgroup.as_ref() }.try_get()
    }

    unsafe fn put(cgroup: NonNull<Self>) {
        // SAFETY: The caller owns a reference.
        unsafe { Cgroup::put(cgroup) };
    }
}

bpf_kind!(cgroup: Cgroup as cgroup);
