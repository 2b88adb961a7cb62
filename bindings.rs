// SPDX-License-Identifier: GPL-2.0

//! What Rust knows of `shim/shim.h` and of the kernel functions listed in `Kbuild`, by bindgen. The
//! types are those of the `kernel` crate.
//!
//! An inline function of the kernel is a function of `shim/helpers.c` here, and a call. Where a drop
//! in NMI would spend most of its time in such calls, Rust has the instructions itself.

pub(crate) use generated::*;
#[cfg(not(all(CONFIG_X86_64, CONFIG_SMP)))]
pub(crate) use helpers_any::{
    this_cpu_inc_u64,
    this_cpu_read_u64,
    this_cpu_write_u64, //
};
#[cfg(all(CONFIG_X86_64, CONFIG_SMP))]
pub(crate) use helpers_x86_64::{
    clock_ticks,
    in_nmi,
    llist_add,
    this_cpu_inc_u64,
    this_cpu_read_u64,
    this_cpu_write_u64,
    this_cpu_xchg_u64, //
};

#[cfg(not(all(CONFIG_X86_64, CONFIG_SMP)))]
#[path = "shim/helpers_any.rs"]
mod helpers_any;
#[cfg(all(CONFIG_X86_64, CONFIG_SMP))]
#[path = "shim/helpers_x86_64.rs"]
mod helpers_x86_64;

#[allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]
mod generated {
    pub(crate) use kernel::bindings::*;

    include!(env!("KPTR_DEFER_BINDINGS"));
}
