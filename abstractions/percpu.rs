// SPDX-License-Identifier: GPL-2.0

//! A number on each CPU, which costs next to nothing to count, in any context.
//!
//! C header: [`include/linux/percpu-defs.h`](srctree/include/linux/percpu-defs.h)

use crate::bindings;
use kernel::prelude::*;

/// A number of its own on each CPU.
///
/// All methods work from any context on architectures whose `this_cpu` operations are safe in NMI
/// (`ARCH_HAVE_NMI_SAFE_THIS_CPU_OPS`), but for [`new`](Self::new) and dropping, which may sleep.
///
/// # Invariants
///
/// The number is a per-CPU pointer from `alloc_percpu(u64)`, and belongs to this value alone.
pub struct PerCpuU64(usize);

impl PerCpuU64 {
    /// Zero on each CPU.
    pub fn new() -> Result<Self> {
        // SAFETY: There are no requirements but the context.
        let numbers = unsafe { bindings::alloc_percpu_u64() };
        if numbers == 0 {
            return Err(ENOMEM);
        }
        // INVARIANT: It has just been allocated.
        Ok(Self(numbers))
    }

    /// Adds one to this CPU's number.
    #[inline(always)]
    pub fn inc(&self) {
        // SAFETY: By the type invariant it is allocated.
        unsafe { bindings::this_cpu_inc_u64(self.0) };
    }

    /// Replaces this CPU's number, and returns what it was.
    #[inline(always)]
    pub fn replace(&self, number: u64) -> u64 {
        // SAFETY: By the type invariant it is allocated.
        unsafe { bindings::this_cpu_xchg_u64(self.0, number) }
    }

    /// The sum over all CPUs; exact when nobody counts at the same time.
    pub fn sum(&self) -> u64 {
        // SAFETY: By the type invariant it is allocated.
        unsafe { bindings::percpu_sum_u64(self.0) }
    }
}

impl Drop for PerCpuU64 {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is allocated and ours, and it is not used again.
        unsafe { bindings::free_percpu_u64(self.0) };
    }
}
