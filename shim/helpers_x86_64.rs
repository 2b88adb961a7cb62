// SPDX-License-Identifier: GPL-2.0

//! Inline functions of the kernel, in Rust. Each does what the helper of its name does
//! (`shim/helpers.c`), which is there for the other architectures.

use super::{
    kptr_defer_nmi_mask,
    llist_head,
    llist_node, //
};
use core::{
    arch::{
        asm,
        x86_64::_rdtsc, //
    },
    sync::atomic::{
        AtomicPtr,
        Ordering::{
            Relaxed,
            SeqCst, //
        },
    },
};

/// `in_nmi()` of `include/linux/preempt.h`, on `preempt_count()` of `asm/preempt.h`.
///
/// # Safety
///
/// There are no requirements.
#[inline(always)]
pub(crate) unsafe fn in_nmi() -> bool {
    // What is jumped to begins with a landing pad: one instruction more, which is not in NMI.
    'in_nmi: {
        // SAFETY: It reads this CPU's count.
        unsafe {
            asm!(
                "test dword ptr gs:[rip + __preempt_count], {}",
                "jz {}",
                const kptr_defer_nmi_mask,
                label { break 'in_nmi false },
                options(nostack, readonly),
            );
        }
        true
    }
}

/// `llist_add()` of `include/linux/llist.h`. A locked instruction is a full barrier.
///
/// # Safety
///
/// Both are valid, and the node is the caller's alone.
#[inline(always)]
pub(crate) unsafe fn llist_add(node: *mut llist_node, head: *mut llist_head) -> bool {
    // SAFETY: The head is valid; all that is done with it is atomic.
    let head = unsafe { AtomicPtr::from_ptr(&raw mut (*head).first) };
    let mut first = head.load(Relaxed);
    loop {
        // SAFETY: The node is valid, and on no list yet.
        unsafe { (*node).next = first };
        match head.compare_exchange_weak(first, node, SeqCst, Relaxed) {
            Ok(before) => return before.is_null(),
            Err(now) => first = now,
        }
    }
}

/// `this_cpu_inc()` of `include/linux/percpu-defs.h`, of the number `INDEX`.
///
/// # Safety
///
/// `numbers` is a per-CPU pointer to more than `INDEX` times `u64`.
#[inline(always)]
pub(crate) unsafe fn this_cpu_inc_u64<const INDEX: usize>(numbers: usize) {
    // SAFETY: It is one instruction, which hits this CPU's number whichever that is.
    unsafe {
        asm!(
            "inc qword ptr gs:[{} + {}]",
            in(reg) numbers,
            const INDEX * size_of::<u64>(),
            options(nostack),
        );
    }
}

/// `this_cpu_read()`, likewise.
///
/// # Safety
///
/// `numbers` is a per-CPU pointer to more than `INDEX` times `u64`.
#[inline(always)]
pub(crate) unsafe fn this_cpu_read_u64<const INDEX: usize>(numbers: usize) -> u64 {
    let number;
    // SAFETY: As above.
    unsafe {
        asm!(
            "mov {}, qword ptr gs:[{} + {}]",
            lateout(reg) number,
            in(reg) numbers,
            const INDEX * size_of::<u64>(),
            options(nostack, preserves_flags, readonly),
        );
    }
    number
}

/// `this_cpu_xchg()`, likewise, of the first number. `xchg` itself would be a locked instruction.
///
/// # Safety
///
/// `numbers` is a per-CPU pointer to one `u64` or more.
#[inline(always)]
pub(crate) unsafe fn this_cpu_xchg_u64(numbers: usize, number: u64) -> u64 {
    let before;
    // SAFETY: What it reads may be another CPU's by the time that it exchanges: then it tries again. The
    // exchange itself is one instruction.
    unsafe {
        asm!(
            "mov rax, qword ptr gs:[{numbers}]",
            "2:",
            "cmpxchg qword ptr gs:[{numbers}], {number}",
            "jnz 2b",
            numbers = in(reg) numbers,
            number = in(reg) number,
            out("rax") before,
            options(nostack),
        );
    }
    before
}

/// `this_cpu_write()`, likewise.
///
/// # Safety
///
/// `numbers` is a per-CPU pointer to more than `INDEX` times `u64`.
#[inline(always)]
pub(crate) unsafe fn this_cpu_write_u64<const INDEX: usize>(numbers: usize, number: u64) {
    // SAFETY: As above.
    unsafe {
        asm!(
            "mov qword ptr gs:[{} + {}], {}",
            in(reg) numbers,
            const INDEX * size_of::<u64>(),
            in(reg) number,
            options(nostack, preserves_flags),
        );
    }
}

/// `rdtsc()` of `asm/tsc.h`.
///
/// # Safety
///
/// There are no requirements.
#[inline(always)]
pub(crate) unsafe fn clock_ticks() -> u64 {
    // SAFETY: Every x86-64 processor has it.
    unsafe { _rdtsc() }
}
