// SPDX-License-Identifier: GPL-2.0

//! Those of the abstractions that the guard uses.

#![allow(dead_code, unreachable_pub)]

#[path = "../abstractions/context.rs"]
pub(crate) mod context;
#[path = "../abstractions/ftrace.rs"]
pub(crate) mod ftrace;
#[path = "../abstractions/kernel_function.rs"]
pub(crate) mod kernel_function;
#[path = "../abstractions/module_static.rs"]
pub(crate) mod module_static;
#[path = "../abstractions/percpu.rs"]
pub(crate) mod percpu;
