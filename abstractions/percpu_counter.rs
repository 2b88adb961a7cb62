// SPDX-License-Identifier: GPL-2.0

//! Counters that cost next to nothing to count, in any context.
//!
//! C header: [`include/linux/percpu-defs.h`](srctree/include/linux/percpu-defs.h)

use crate::bindings;
use kernel::prelude::*;

/// A counter with a part of its own on each CPU.
///
/// # Invariants
///
/// The number is a per-CPU pointer from `alloc_percpu(u64)`, and is this counter's alone.
pub struct PerCpuCounter(usize);

impl PerCpuCounter {
    /// A counter at zero. May sleep.
    pub fn new() -> Result<Self> {
        // SAFETY: Module initialisation runs in process context.
        let counter = unsafe { bindings::alloc_percpu_u64() };
        if counter == 0 {
            return Err(ENOMEM);
        }
        // INVARIANT: It has just been allocated.
        Ok(Self(counter))
    }

    /// Counts one.
    ///
    /// Context: any, on architectures where `this_cpu_inc()` is safe in NMI.
    #[inline(always)]
    pub fn inc(&self) {
        // SAFETY: By the type invariant the counter is allocated.
        unsafe { bindings::this_cpu_inc_u64(self.0) };
    }

    /// The sum over all CPUs; exact when nobody counts at the same time.
    pub fn sum(&self) -> u64 {
        // SAFETY: By the type invariant the counter is allocated.
        unsafe { bindings::percpu_sum_u64(self.0) }
    }
}

impl Drop for PerCpuCounter {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the memory is ours, and it is not used again.
        unsafe { bindings::free_percpu_u64(self.0) };
    }
}
