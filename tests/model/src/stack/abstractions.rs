// SPDX-License-Identifier: GPL-2.0

//! The files themselves.

#![allow(dead_code)]

#[path = "../../../../abstractions/nolock.rs"]
pub(crate) mod nolock;
#[path = "../../../../abstractions/percpu_stack.rs"]
pub(crate) mod percpu_stack;
