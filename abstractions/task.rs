// SPDX-License-Identifier: GPL-2.0

//! What [`Task`] does not tell yet.
//!
//! C header: [`include/linux/sched/task.h`](srctree/include/linux/sched/task.h)

use crate::bindings;
use kernel::task::Task;

/// Whether the task is gone for everybody but those who hold its `task_struct`: it has been reaped,
/// and the scheduler has left it.
///
/// Context: any.
pub fn is_dead(task: &Task) -> bool {
    // SAFETY: A reference is a valid pointer.
    unsafe { bindings::task_is_dead(task.as_ptr()) }
}
