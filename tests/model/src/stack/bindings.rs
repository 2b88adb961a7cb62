// SPDX-License-Identifier: GPL-2.0

//! What `abstractions/` calls of the kernel. A per-CPU pointer is the offset in each CPU's numbers; memory
//! is an address that nobody looks at.

use crate::world::{
    between,
    with, //
};
use std::{
    ffi::c_void,
    ptr, //
};

pub(crate) const CPUS: usize = 2;

/// Not at zero, which is none.
const FIRST: usize = 8;

fn number(at: usize) -> usize {
    (at - FIRST) / size_of::<u64>()
}

pub(crate) unsafe fn alloc_percpu_u64(count: usize) -> usize {
    with(|world| world.numbers = std::array::from_fn(|_| vec![0; count]));
    FIRST
}

pub(crate) unsafe fn free_percpu_u64(_: usize) {
    with(|world| world.numbers = Default::default());
}

pub(crate) unsafe fn this_cpu_read_u64<const INDEX: usize>(at: usize) -> u64 {
    between();
    with(|world| world.numbers[world.cpu][number(at) + INDEX])
}

pub(crate) unsafe fn this_cpu_write_u64<const INDEX: usize>(at: usize, value: u64) {
    between();
    with(|world| world.numbers[world.cpu][number(at) + INDEX] = value);
}

pub(crate) unsafe fn this_cpu_xchg_u64(at: usize, value: u64) -> u64 {
    between();
    let before = with(|world| world.numbers[world.cpu][number(at)]);
    if with(|world| world.wrong.exchange_in_two_steps) {
        between();
    }
    with(|world| {
        world.numbers[world.cpu][number(at)] = value;
        if world.wrong.exchange_tells_nothing {
            return 0;
        }
        before
    })
}

pub(crate) unsafe fn per_cpu_take_u64(at: usize, cpu: u32) -> u64 {
    with(|world| std::mem::take(&mut world.numbers[cpu as usize][number(at)]))
}

pub(crate) unsafe fn kmalloc_nolock(_: usize) -> *mut c_void {
    let address = with(|world| world.allocate());
    ptr::without_provenance_mut(address)
}

pub(crate) unsafe fn kfree_nolock(memory: *mut c_void) {
    with(|world| world.free(memory.addr()));
}
