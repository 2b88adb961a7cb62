// SPDX-License-Identifier: GPL-2.0

//! A number that one context at a time changes, while any may read it.

use core::cell::UnsafeCell;

/// Read and written in one piece (`READ_ONCE()`, `WRITE_ONCE()`), which orders nothing.
///
/// An `Atomic<u64>` of the kernel crate would do, but in a module each access of that is a call.
#[repr(transparent)]
pub struct Gauge(UnsafeCell<u64>);

// SAFETY: The number is only accessed in one piece, and never borrowed.
unsafe impl Sync for Gauge {}

impl Gauge {
    /// Zero.
    pub const fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    /// Context: any.
    #[inline]
    pub fn get(&self) -> u64 {
        // SAFETY: The pointer is valid and aligned. A write at the same time is volatile, too.
        unsafe { self.0.get().read_volatile() }
    }

    /// Context: any, one at a time.
    #[inline]
    pub fn set(&self, number: u64) {
        // SAFETY: As above.
        unsafe { self.0.get().write_volatile(number) };
    }

    /// Context: any, one at a time. Needs no atomic operation for that reason.
    #[inline]
    pub fn add(&self, number: u64) {
        self.set(self.get().wrapping_add(number));
    }

    /// Context: any, one at a time.
    #[inline]
    pub fn raise_to(&self, number: u64) {
        if number > self.get() {
            self.set(number);
        }
    }
}
