// SPDX-License-Identifier: GPL-2.0

//! The engine: drops on their way from a context that cannot run them to one that can.

pub(crate) mod barrier;
pub(crate) mod pending;
pub(crate) mod queue;
pub(crate) mod stats;
pub(crate) mod stats_file;
pub(crate) mod when;

mod exports;
mod sleepable;
mod trace;

use self::queue::Engine;
use crate::abstractions::module_static::ModuleStatic;

/// The one engine there is.
pub(crate) static ENGINE: ModuleStatic<Engine> = ModuleStatic::new();
