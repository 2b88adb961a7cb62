// SPDX-License-Identifier: GPL-2.0

//! Functions of the kernel, by their names.
//!
//! C headers: [`include/linux/kprobes.h`](srctree/include/linux/kprobes.h),
//! [`include/linux/kallsyms.h`](srctree/include/linux/kallsyms.h)

use crate::bindings;
use kernel::{
    error::from_err_ptr,
    prelude::*,
    str::CStr, //
};

/// Where a function of the kernel is.
///
/// # Invariants
///
/// The address is that of the entry of a function in the kernel's text, which has this size.
#[derive(Clone, Copy)]
pub struct KernelFunction {
    address: usize,
    size: usize,
}

impl KernelFunction {
    /// Looks for a function that can be probed.
    ///
    /// `ENOENT` if the kernel has none of this name.
    ///
    /// Context: process context, may sleep.
    pub fn find(name: &CStr) -> Result<Self> {
        let mut size = 0;
        // SAFETY: The name is a C string, and the size can be written.
        let entry = unsafe { bindings::function_entry(name.as_char_ptr(), &mut size) };
        // INVARIANT: It is the entry, and the size of the same function.
        Ok(Self {
            address: from_err_ptr(entry)? as usize,
            size,
        })
    }

    /// The address.
    pub fn address(self) -> usize {
        self.address
    }

    /// Whether an address is in it.
    #[inline(always)]
    pub fn contains(self, address: usize) -> bool {
        address.wrapping_sub(self.address) < self.size
    }
}
