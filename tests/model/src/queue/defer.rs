// SPDX-License-Identifier: GPL-2.0

//! The files themselves.

#![allow(dead_code)]

#[path = "../../../../defer/barrier.rs"]
pub(crate) mod barrier;
#[path = "../../../../defer/pending.rs"]
pub(crate) mod pending;
#[path = "../../../../defer/queue.rs"]
pub(crate) mod queue;
#[path = "../../../../defer/sleepable.rs"]
mod sleepable;
#[path = "../../../../defer/stats.rs"]
pub(crate) mod stats;
#[path = "../../../../defer/trace.rs"]
mod trace;
#[path = "../../../../defer/when.rs"]
pub(crate) mod when;
