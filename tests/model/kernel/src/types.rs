// SPDX-License-Identifier: GPL-2.0

//! Memory that C code uses.

use core::{
    cell::UnsafeCell,
    mem::MaybeUninit, //
};
use pinned_init::PinInit;

#[repr(transparent)]
pub struct Opaque<T>(UnsafeCell<MaybeUninit<T>>);

impl<T> Opaque<T> {
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(MaybeUninit::new(value)))
    }

    pub const fn zeroed() -> Self {
        Self(UnsafeCell::new(MaybeUninit::zeroed()))
    }

    pub const fn get(&self) -> *mut T {
        self.0.get().cast()
    }

    pub fn ffi_init(init: impl FnOnce(*mut T)) -> impl PinInit<Self> {
        let init = |slot: *mut Self| {
            init(slot.cast());
            Ok(())
        };
        // SAFETY: The caller's function initialises it.
        unsafe { pinned_init::pin_init_from_closure(init) }
    }

    pub const fn cast_from(this: *mut T) -> *mut Self {
        this.cast()
    }
}
