// SPDX-License-Identifier: GPL-2.0

//! What Rust knows of `shim.h` and of the kernel functions listed in `Kbuild`, by bindgen. The types
//! are those of the `kernel` crate.

#![allow(
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

pub(crate) use kernel::bindings::*;

include!(env!("KPTR_DEFER_GUARD_BINDINGS"));
