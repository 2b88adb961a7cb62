// SPDX-License-Identifier: GPL-2.0

//! What `helpers_x86_64.rs` has in another form than the helper of its name.

use super::generated;

/// # Safety
///
/// `numbers` is a per-CPU pointer to more than `INDEX` times `u64`.
#[inline(always)]
pub(crate) unsafe fn this_cpu_inc_u64<const INDEX: usize>(numbers: usize) {
    // SAFETY: The caller promises that it is.
    unsafe { generated::this_cpu_inc_u64(numbers.wrapping_add(INDEX * size_of::<u64>())) };
}

/// # Safety
///
/// `numbers` is a per-CPU pointer to more than `INDEX` times `u64`.
#[inline(always)]
pub(crate) unsafe fn this_cpu_read_u64<const INDEX: usize>(numbers: usize) -> u64 {
    // SAFETY: The caller promises that it is.
    unsafe { generated::this_cpu_read_u64(numbers.wrapping_add(INDEX * size_of::<u64>())) }
}

/// # Safety
///
/// `numbers` is a per-CPU pointer to more than `INDEX` times `u64`.
#[inline(always)]
pub(crate) unsafe fn this_cpu_write_u64<const INDEX: usize>(numbers: usize, number: u64) {
    // SAFETY: The caller promises that it is.
    unsafe {
        generated::this_cpu_write_u64(numbers.wrapping_add(INDEX * size_of::<u64>()), number)
    };
}
