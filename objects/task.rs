// SPDX-License-Identifier: GPL-2.0

//! Tasks, held by their `usage` count as `get_task_struct()` does.
//!
//! The last `put_task_struct()` calls `call_rcu()` (`include/linux/sched/task.h`), which must not
//! happen in NMI.

use super::handle::{
    bpf_kind,
    Object, //
};
use crate::abstractions::task::is_dead;
use kernel::task::Task;

// SAFETY: `put_task_struct()` calls `call_rcu()` at most.
unsafe impl Object for Task {
    fn is_dying(&self) -> bool {
        is_dead(self)
    }
}

bpf_kind! {
    Task as task_struct, in kptr_defer_task.task {
        acquire: kptr_defer_rust_task_acquire,
        release: kptr_defer_rust_task_release,
    }
}
