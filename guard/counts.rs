// SPDX-License-Identifier: GPL-2.0

//! What is counted for each function.

use crate::abstractions::percpu::PerCpuU64;
use kernel::prelude::*;

/// The counters of a guarded function. They may be counted in any context.
pub(crate) struct Counts(PerCpuU64<{ Self::COUNTS }>);

/// A call, in NMI or not, and one that the guard makes itself when it drains, too.
pub(crate) const CALLS: usize = 0;
/// A call in NMI.
pub(crate) const NMI: usize = 1;
/// One of them that was about to give back a last reference.
pub(crate) const LAST_REFS: usize = 2;
/// One of those has been given back since.
pub(crate) const DRAINED: usize = 3;

impl Counts {
    const COUNTS: usize = 4;

    pub(crate) fn new() -> Result<Self> {
        Ok(Self(PerCpuU64::new()?))
    }

    /// Counts one more.
    #[inline(always)]
    pub(crate) fn count<const WHAT: usize>(&self) {
        self.0.inc::<WHAT>();
    }

    pub(crate) fn numbers(&self) -> Numbers {
        // In this order, so that nothing is shown as drained that is not shown as caught, and so on.
        let drained = self.0.sum::<DRAINED>();
        let last_refs = self.0.sum::<LAST_REFS>();
        let nmi = self.0.sum::<NMI>();
        Numbers {
            calls: self.0.sum::<CALLS>(),
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
