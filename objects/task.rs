// SPDX-License-Identifier: GPL-2.0

//! Tasks, held by their `usage` count as `get_task_struct()` does.
//!
//! The last `put_task_struct()` calls `call_rcu()` (`include/linux/sched/task.h`), which must not
//! happen in NMI.

use super::handle::{
    bpf_kind,
    Object, //
};
use crate::{
    abstractions::task::is_dead,
    defer::pending::InHardIrq, //
};
use core::ptr::NonNull;
use kernel::{
    sync::aref::AlwaysRefCounted,
    task::Task, //
};

// SAFETY: `put_task_struct()` calls `call_rcu()` at most, which frees the task.
unsafe impl Object for Task {
    type DropsIn = InHardIrq;

    /// A task is dying when nobody can find it any more; its `usage` may be held much longer.
    unsafe fn try_get(task: NonNull<Self>) -> bool {
        // SAFETY: The caller says that the task is there; RCU pointers to it have a `usage`, too.
        let task = unsafe { task.as_ref() };
        let alive = !is_dead(task);
        if alive {
            task.inc_ref();
        }
        alive
    }

    unsafe fn put(task: NonNull<Self>) {
        // SAFETY: The caller owns a reference.
        unsafe { Self::dec_ref(task) };
    }
}

bpf_kind!(task: Task as task_struct);
