// SPDX-License-Identifier: GPL-2.0

//! A kptr type of one's own, `struct sample_buffer`: BPF programs make buffers, share them, keep them
//! in maps, and give them back in any context, NMI included. Their destructor takes a mutex and calls
//! `vfree()`, so it must run in process context, and there it runs.
//!
//! ```text
//! make && make -C samples/rust
//! insmod kptr_defer.ko && insmod build/<release>/sample_rust/kptr_defer_sample_rust.ko
//! ```
//!
//! `kfuncs.c` is what BPF has to see in C.

use core::ptr;
use kernel::{
    error::to_result,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
};
use kptr_defer::{
    impl_has_slot,
    DeferredArc,
    Slot, //
};

#[path = "../../include/kptr_defer.rs"]
mod kptr_defer;

module! {
    type: Sample,
    name: "kptr_defer_sample_rust",
    authors: ["The kptr_defer authors"],
    description: "A kptr type in Rust that is safe in NMI",
    license: "GPL v2",
}

kernel::sync::global_lock! {
    // SAFETY: Initialised before BPF knows the kfuncs.
    unsafe(uninit) static DROPPED: Mutex<usize> = 0;
}

/// `struct sample_buffer` is what is in an `Arc` of this.
struct Buffer {
    slot: Slot,
    bytes: VVec<u8>,
}

impl_has_slot! {
    impl HasSlot for Buffer { self.slot }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        *DROPPED.lock() += self.bytes.len();
    }
}

#[no_mangle]
extern "C" fn rust_sample_buffer_create(size: usize) -> *const Buffer {
    let create = || {
        let slot = Slot::new();
        let bytes = VVec::from_elem(0, size, GFP_KERNEL)?;
        Arc::new(Buffer { slot, bytes }, GFP_KERNEL)
    };
    create().map_or(ptr::null(), Arc::into_raw)
}

/// # Safety
///
/// `buffer` is a reference that the caller keeps.
#[no_mangle]
unsafe extern "C" fn rust_sample_buffer_acquire(buffer: *const Buffer) -> *const Buffer {
    // SAFETY: It is a reference, by `Arc::into_raw()`.
    Arc::into_raw(unsafe { ArcBorrow::from_raw(buffer) }.into())
}

/// # Safety
///
/// `buffer` is a reference that the caller gives up.
#[no_mangle]
unsafe extern "C" fn rust_sample_buffer_release(buffer: *const Buffer) {
    // SAFETY: It is a reference, by `Arc::into_raw()`.
    let buffer = unsafe { Arc::from_raw(buffer) };
    drop(DeferredArc::<Buffer>::from(buffer));
}

extern "C" {
    fn sample_register_kfuncs() -> i32;
}

struct Sample;

impl kernel::Module for Sample {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        // SAFETY: This is the one call.
        unsafe { DROPPED.init() };
        // SAFETY: This is the one call.
        to_result(unsafe { sample_register_kfuncs() })?;
        Ok(Self)
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        kptr_defer::barrier();
        pr_info!("dropped {} bytes\n", *DROPPED.lock());
    }
}
