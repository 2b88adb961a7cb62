// SPDX-License-Identifier: GPL-2.0

//! What is counted for each function.

use crate::abstractions::percpu::PerCpuU64;
use kernel::prelude::*;

/// The counters of a guarded function. They may be counted in any context.
pub(crate) struct Counts {
    /// Calls, in NMI or not, and those too that the guard makes itself when it drains.
    pub(crate) calls: PerCpuU64,
    /// Calls in NMI.
    pub(crate) nmi: PerCpuU64,
    /// Those of them that were about to give back a last reference.
    pub(crate) last_refs: PerCpuU64,
    /// Those that have been given back since.
    pub(crate) drained: PerCpuU64,
}

impl Counts {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            calls: PerCpuU64::new()?,
            nmi: PerCpuU64::new()?,
            last_refs: PerCpuU64::new()?,
            drained: PerCpuU64::new()?,
        })
    }

    pub(crate) fn numbers(&self) -> Numbers {
        // In this order, so that nothing is shown as drained that is not shown as caught, and so on.
        let drained = self.drained.sum();
        let last_refs = self.last_refs.sum();
        let nmi = self.nmi.sum();
        Numbers {
            calls: self.calls.sum(),
            nmi,
            last_refs,
            drained,
        }
    }
}

/// What the user sees of [`Counts`].
#[derive(Default)]
pub(crate) struct Numbers {
    pub(crate) calls: u64,
    pub(crate) nmi: u64,
    pub(crate) last_refs: u64,
    pub(crate) drained: u64,
}

impl Numbers {
    pub(crate) fn add(&mut self, other: &Self) {
        self.calls = self.calls.wrapping_add(other.calls);
        self.nmi = self.nmi.wrapping_add(other.nmi);
        self.last_refs = self.last_refs.wrapping_add(other.last_refs);
        self.drained = self.drained.wrapping_add(other.drained);
    }
}
