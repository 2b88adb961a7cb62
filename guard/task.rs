// SPDX-License-Identifier: GPL-2.0

//! Tasks, held by their `rcu_users` count as `bpf_task_acquire()` does.
//!
//! `task->rcu` is idle while that count is not zero (Linux 7.2 and 7.3). What uses it is
//! `put_task_struct_rcu_user()`, at zero; `put_task_struct()`, at a `usage` of zero, of which
//! `rcu_users` holds one until its RCU callback has run; and `delayed_free_task()`, for a task that
//! has never been started.

use crate::{
    abstractions::kernel_function::KernelFunction,
    bindings::{
        self,
        kptr_defer_slot,
        task_struct, //
    },
    borrowed::LastReference,
    guarded::Argument, //
};
use core::{
    mem::transmute,
    ptr::NonNull, //
};
use kernel::{
    prelude::*,
    str::CStr,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// Where `bpf_task_release_dtor()` is: of all that gives back such a reference the one that may be
/// called through a pointer. Null before [`Argument::prepare`].
static RELEASE: Atomic<usize> = Atomic::new(0);

// SAFETY: `bpf_task_acquire()` and its like take a reference if there is one (`rcu_users` is set once,
// when the task is made; a task that dies badly adds one to its own). `refcount_dec_not_one()` is one
// atomic step, and a release as `refcount_dec_and_test()` is; finding the last is an acquire. The head
// of this file says who uses `rcu`. The last put calls `call_rcu()`, which may be called in hard
// interrupt context.
unsafe impl LastReference for task_struct {
    #[inline(always)]
    unsafe fn put_unless_last(task: NonNull<Self>) -> bool {
        // SAFETY: The caller owns a reference, so the task is valid.
        unsafe { bindings::task_put_unless_last(task.as_ptr()) }
    }

    unsafe fn put(task: NonNull<Self>) {
        let release = RELEASE.load(Relaxed) as *const ();
        // SAFETY: `RELEASE` is the entry of `void bpf_task_release_dtor(void *)`: nothing is guarded
        // before that has been found.
        let release = unsafe { transmute::<*const (), unsafe extern "C" fn(*mut c_void)>(release) };
        // SAFETY: The caller gives up a reference.
        unsafe { release(task.as_ptr().cast()) };
    }

    #[inline(always)]
    unsafe fn idle_memory(task: NonNull<Self>) -> NonNull<kptr_defer_slot> {
        // SAFETY: The caller promises that the task is valid; then so is a field of it.
        unsafe { NonNull::new_unchecked(bindings::task_slot(task.as_ptr())) }
    }

    unsafe fn from_idle_memory(memory: NonNull<kptr_defer_slot>) -> NonNull<Self> {
        // SAFETY: The caller promises that this is a field of a task.
        unsafe { NonNull::new_unchecked(bindings::task_of_slot(memory.as_ptr())) }
    }
}

// SAFETY: A stand-in's count begins with one that is never given back, and each call gets another.
unsafe impl Argument for task_struct {
    type Object = Self;

    const WOULD_RUN: &'static CStr = c"call_rcu";

    fn prepare() -> Result {
        RELEASE.store(
            KernelFunction::find(c"bpf_task_release_dtor")?.address(),
            Relaxed,
        );
        Ok(())
    }

    #[inline(always)]
    unsafe fn object(task: NonNull<Self>) -> NonNull<Self> {
        task
    }

    fn new_stand_in() -> *mut Self {
        // SAFETY: There are no requirements but the context.
        unsafe { bindings::task_stand_in_new() }
    }

    #[inline(always)]
    unsafe fn lend(stand_in: NonNull<Self>) {
        // SAFETY: The caller promises that it is a stand-in.
        unsafe { bindings::task_stand_in_lend(stand_in.as_ptr()) };
    }
}
