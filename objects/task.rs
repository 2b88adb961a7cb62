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
use kernel::{
    sync::aref::ARef,
    task::Task, //
};

impl Object for Task {
    fn try_get(&self) -> Option<ARef<Self>> {
        (!is_dead(self)).then(|| self.into())
    }
}

bpf_kind! {
    Task as task_struct, in kptr_defer_task.task {
        acquire: kptr_defer_rust_task_acquire,
        release: kptr_defer_rust_task_release,
    }
}
