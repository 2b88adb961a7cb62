// SPDX-License-Identifier: GPL-2.0

//! Abstractions that know nothing of this module, and could stand in the `kernel` crate.

#![expect(unreachable_pub)]

pub(crate) mod baton;
#[cfg(CONFIG_CGROUPS)]
pub(crate) mod cgroup;
pub(crate) mod clock;
pub(crate) mod context;
pub(crate) mod cred;
pub(crate) mod file;
pub(crate) mod gauge;
pub(crate) mod irq_work;
pub(crate) mod llist;
pub(crate) mod mm;
pub(crate) mod module_static;
pub(crate) mod nolock;
pub(crate) mod percpu;
pub(crate) mod percpu_stack;
pub(crate) mod rcu;
pub(crate) mod static_key;
pub(crate) mod task;
pub(crate) mod tracepoint;
pub(crate) mod workqueue;
