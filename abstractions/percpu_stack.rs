// SPDX-License-Identifier: GPL-2.0

//! A few boxes on each CPU, for whoever needs the next one there: what SLUB has sheaves for, but in any
//! context.
//!
//! The boxes of a CPU lie in cells, and a number says how many of those are full. A cell is emptied and
//! filled by an exchange, which nothing on that CPU can come between: no box is ever lost or handed out
//! twice. The number is only a hint. It is out of date when an NMI or another task has had its turn since
//! it was read, or the caller has moved to another CPU. Then an empty cell is found below it, and the next
//! one is looked at; or full ones stay above it, until the number reaches them again, and the boxes in
//! them come back from the push that does.
//!
//! Nothing has to be ordered: a box is popped on the CPU where it was pushed, and what moves a task to
//! another CPU orders what the task does before and after.

use super::nolock::NolockBox;
use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    },
};
use kernel::{
    cpu::nr_cpu_ids,
    prelude::*, //
};

/// Which of the numbers says how many cells are full, as far as is known.
const TOP: usize = 0;

/// Up to `N` boxes on each CPU.
///
/// All methods work from any context on architectures whose `this_cpu` operations are safe in NMI
/// (`ARCH_HAS_NMI_SAFE_THIS_CPU_OPS`), but for [`new`](Self::new) and dropping, which may sleep.
///
/// # Invariants
///
/// The number is a per-CPU pointer to `1 + N` times `u64` from `alloc_percpu_u64()`, and belongs to this
/// value alone. The first is at most `N`. Each of the others is zero, or a pointer from
/// [`NolockBox::into_raw`] which belongs to this value.
pub struct PerCpuStack<T, const N: usize>(usize, PhantomData<NolockBox<T>>);

// SAFETY: Any number of contexts may use it at once; each box goes from one to another of them.
unsafe impl<T: Send, const N: usize> Sync for PerCpuStack<T, N> {}

impl<T, const N: usize> PerCpuStack<T, N> {
    /// Empty on each CPU.
    pub fn new() -> Result<Self> {
        // SAFETY: There are no requirements but the context.
        let numbers = unsafe { bindings::alloc_percpu_u64(1 + N) };
        if numbers == 0 {
            return Err(ENOMEM);
        }
        // INVARIANT: They have just been allocated, as zeroes.
        Ok(Self(numbers, PhantomData))
    }

    /// The last box that was pushed on this CPU. `None` when there is none, and sometimes when another
    /// context has come between.
    ///
    /// Context: any.
    #[inline(always)]
    pub fn pop(&self) -> Option<NolockBox<T>> {
        // SAFETY: By the type invariant it is allocated.
        let mut top = unsafe { bindings::this_cpu_read_u64::<TOP>(self.0) };
        while top != 0 {
            // INVARIANT: Zero; and a number that is less than one of at most `N`.
            // SAFETY: By the type invariant `top` is at most `N`, whichever CPU's it was.
            let popped = unsafe {
                let popped = bindings::this_cpu_xchg_u64(self.cell(top), 0);
                top = top.wrapping_sub(1);
                bindings::this_cpu_write_u64::<TOP>(self.0, top);
                Self::content(popped)
            };
            if popped.is_some() {
                return popped;
            }
        }
        None
    }

    /// Pushes a box on this CPU. Returns a box that there is no room for: this or another one.
    ///
    /// Context: any.
    #[inline(always)]
    pub fn push(&self, pushed: NolockBox<T>) -> Option<NolockBox<T>> {
        // SAFETY: By the type invariant it is allocated.
        let top = unsafe { bindings::this_cpu_read_u64::<TOP>(self.0) };
        if top >= N as u64 {
            return Some(pushed);
        }
        let top = top.wrapping_add(1);
        let pushed = pushed.into_raw().as_ptr().expose_provenance() as u64;
        // INVARIANT: The pointer has been given up by its box; `top` is at most `N`.
        // SAFETY: `top` is at most `N`.
        unsafe {
            let before = bindings::this_cpu_xchg_u64(self.cell(top), pushed);
            bindings::this_cpu_write_u64::<TOP>(self.0, top);
            Self::content(before)
        }
    }

    #[inline(always)]
    fn cell(&self, number: u64) -> usize {
        self.0
            .wrapping_add((number as usize).wrapping_mul(size_of::<u64>()))
    }

    /// # Safety
    ///
    /// It has just been taken out of a cell.
    #[inline(always)]
    unsafe fn content(cell: u64) -> Option<NolockBox<T>> {
        let content = NonNull::new(ptr::with_exposed_provenance_mut(cell as usize))?;
        // SAFETY: By the type invariant it is a box's pointer, which belongs to the caller now.
        Some(unsafe { NolockBox::from_raw(content) })
    }
}

impl<T, const N: usize> Drop for PerCpuStack<T, N> {
    fn drop(&mut self) {
        for cpu in 0..nr_cpu_ids() {
            for number in 1..=N as u64 {
                // SAFETY: By the type invariant there are that many on each CPU; nobody else uses them
                // any more.
                drop(unsafe { Self::content(bindings::per_cpu_take_u64(self.cell(number), cpu)) });
            }
        }
        // SAFETY: By the type invariant it is allocated and ours, and it is not used again.
        unsafe { bindings::free_percpu_u64(self.0) };
    }
}
