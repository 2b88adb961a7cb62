// SPDX-License-Identifier: GPL-2.0

//! Cgroups and memory cgroups, both held by the count of a css (`struct cgroup_subsys_state`).
//!
//! `css->destroy_work` is idle until there is no reference left (Linux 7.2 and 7.3): only
//! `css_release()` and what it queues use it. Taking a css offline has work items of its own
//! (`destroy_rwork`), and a reference of its own.

use crate::{
    bindings::{
        self,
        cgroup,
        cgroup_subsys_state,
        kptr_defer_slot, //
    },
    borrowed::LastReference,
    guarded::Argument, //
};
use core::ptr::NonNull;
use kernel::str::CStr;

// SAFETY: All who take a reference without having one use `percpu_ref_tryget()` or its like. Whether a reference
// is the last is known in atomic mode only, where `atomic_long_add_unless()` is one atomic step; the
// mode does not change in an RCU read section. Giving back is a full barrier, or followed by a grace
// period; finding the last is an acquire. The head of this file says who uses `destroy_work`. The
// last put calls `queue_work()`, which may be called in hard interrupt context.
unsafe impl LastReference for cgroup_subsys_state {
    #[inline(always)]
    unsafe fn put_unless_last(css: NonNull<Self>) -> bool {
        // SAFETY: The caller owns a reference, so the css is valid.
        unsafe { bindings::css_put_unless_last(css.as_ptr()) }
    }

    unsafe fn put(css: NonNull<Self>) {
        // SAFETY: The caller gives up a reference.
        unsafe { bindings::css_put(css.as_ptr()) };
    }

    #[inline(always)]
    unsafe fn idle_memory(css: NonNull<Self>) -> NonNull<kptr_defer_slot> {
        // SAFETY: The caller promises that the css is valid; then so is a field of it.
        unsafe { NonNull::new_unchecked(bindings::css_slot(css.as_ptr())) }
    }

    unsafe fn from_idle_memory(memory: NonNull<kptr_defer_slot>) -> NonNull<Self> {
        // SAFETY: The caller promises that this is a field of a css.
        unsafe { NonNull::new_unchecked(bindings::css_of_slot(memory.as_ptr())) }
    }
}

// SAFETY: A stand-in is not counted (`CSS_NO_REF`).
unsafe impl Argument for cgroup {
    type Object = cgroup_subsys_state;

    const WOULD_RUN: &'static CStr = c"queue_work";

    #[inline(always)]
    unsafe fn object(cgroup: NonNull<Self>) -> NonNull<cgroup_subsys_state> {
        // SAFETY: The caller promises that the cgroup is valid; then so is a field of it.
        unsafe { NonNull::new_unchecked(bindings::cgroup_css(cgroup.as_ptr())) }
    }

    fn new_stand_in() -> *mut Self {
        // SAFETY: There are no requirements but the context.
        unsafe { bindings::cgroup_stand_in_new() }
    }
}

#[cfg(CONFIG_MEMCG)]
// SAFETY: A stand-in is not counted (`CSS_NO_REF`).
unsafe impl Argument for bindings::mem_cgroup {
    type Object = cgroup_subsys_state;

    const WOULD_RUN: &'static CStr = c"queue_work";

    #[inline(always)]
    unsafe fn object(memcg: NonNull<Self>) -> NonNull<cgroup_subsys_state> {
        // SAFETY: The caller promises that the memory cgroup is valid; then so is a field of it.
        unsafe { NonNull::new_unchecked(bindings::mem_cgroup_css(memcg.as_ptr())) }
    }

    fn new_stand_in() -> *mut Self {
        // SAFETY: There are no requirements but the context.
        unsafe { bindings::mem_cgroup_stand_in_new() }
    }
}
