// SPDX-License-Identifier: GPL-2.0

//! Numbers on each CPU, which cost next to nothing to count, in any context.
//!
//! C header: [`include/linux/percpu-defs.h`](srctree/include/linux/percpu-defs.h)

use crate::bindings;
use kernel::prelude::*;

/// `N` numbers of its own on each CPU.
///
/// All methods work from any context on architectures whose `this_cpu` operations are safe in NMI
/// (`ARCH_HAS_NMI_SAFE_THIS_CPU_OPS`), but for [`new`](Self::new) and dropping, which may sleep.
///
/// # Invariants
///
/// The number is a per-CPU pointer to `N` times `u64` from `alloc_percpu_u64()`, and belongs to this
/// value alone.
pub struct PerCpuU64<const N: usize>(usize);

impl<const N: usize> PerCpuU64<N> {
    /// Zero on each CPU.
    pub fn new() -> Result<Self> {
        // SAFETY: There are no requirements but the context.
        let numbers = unsafe { bindings::alloc_percpu_u64(N) };
        if numbers == 0 {
            return Err(ENOMEM);
        }
        // INVARIANT: They have just been allocated.
        Ok(Self(numbers))
    }

    /// Adds one to this CPU's number `I`.
    #[inline(always)]
    pub fn inc<const I: usize>(&self) {
        const { assert!(I < N) };
        // SAFETY: By the type invariant it is allocated.
        unsafe { bindings::this_cpu_inc_u64::<I>(self.0) };
    }

    /// Sets this CPU's number `I`.
    #[inline(always)]
    pub fn set<const I: usize>(&self, number: u64) {
        const { assert!(I < N) };
        // SAFETY: By the type invariant it is allocated.
        unsafe { bindings::this_cpu_write_u64::<I>(self.0, number) };
    }

    /// Replaces this CPU's number `I`, and returns what it was.
    pub fn replace<const I: usize>(&self, number: u64) -> u64 {
        const { assert!(I < N) };
        // SAFETY: By the type invariant it is allocated.
        unsafe { bindings::this_cpu_xchg_u64(self.0.wrapping_add(I * size_of::<u64>()), number) }
    }

    /// The sum of the numbers `I` of all CPUs; exact when nobody counts at the same time.
    pub fn sum<const I: usize>(&self) -> u64 {
        const { assert!(I < N) };
        // SAFETY: By the type invariant it is allocated.
        unsafe { bindings::percpu_sum_u64(self.0.wrapping_add(I * size_of::<u64>())) }
    }
}

impl<const N: usize> Drop for PerCpuU64<N> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is allocated and ours, and it is not used again.
        unsafe { bindings::free_percpu_u64(self.0) };
    }
}
