// SPDX-License-Identifier: GPL-2.0

//! A static that lives as long as its module is loaded.
//!
//! For what C code reaches without a pointer to it: exported functions, kfuncs.

use core::{
    cell::UnsafeCell,
    mem::MaybeUninit,
    ptr, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// A pinned value in a static, initialised when the module is loaded.
///
/// # Invariants
///
/// While an [`Alive`] of it exists, `value` is initialised and pinned. There is at most one.
pub struct ModuleStatic<T> {
    taken: Atomic<bool>,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: The value is only handed out as a shared reference, while an `Alive` exists that has been
// made, and will be dropped, by whatever thread loads and unloads the module.
unsafe impl<T: Send + Sync> Sync for ModuleStatic<T> {}

impl<T: Send + Sync> ModuleStatic<T> {
    /// A static that is not initialised.
    pub const fn new() -> Self {
        // INVARIANT: There is no `Alive` yet.
        Self {
            taken: Atomic::new(false),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Initialises the value, for as long as the result lives.
    ///
    /// A second call fails with `EBUSY`.
    pub fn init(&'static self, init: impl PinInit<T, Error>) -> Result<Alive<T>> {
        if self.taken.xchg(true, Relaxed) {
            return Err(EBUSY);
        }
        // SAFETY: Only one caller gets here, and there is no `Alive` yet: nobody else accesses it.
        let memory: &'static mut MaybeUninit<T> = unsafe { &mut *self.value.get() };
        memory.write_pin_init(init)?;
        // INVARIANT: The value is initialised and pinned, and this is the only `Alive`.
        Ok(Alive(self))
    }

    /// The value.
    ///
    /// # Safety
    ///
    /// The [`Alive`] of this static exists, and will until the caller is done with the value.
    #[inline(always)]
    pub unsafe fn get(&'static self) -> &'static T {
        // SAFETY: By the safety requirement and the type invariant the value is initialised, and
        // stays so.
        unsafe { &*self.value.get().cast::<T>() }
    }
}

/// Keeps the value of a [`ModuleStatic`] alive, and drops it in the end.
///
/// # Invariants
///
/// It is the only one of its static.
pub struct Alive<T: Send + Sync + 'static>(&'static ModuleStatic<T>);

impl<T: Send + Sync> Alive<T> {
    /// The value.
    pub fn get(&self) -> &T {
        // SAFETY: This is the `Alive` of the static, and the result does not outlive it.
        unsafe { self.0.get() }
    }
}

impl<T: Send + Sync> Drop for Alive<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the value is initialised, and nobody can reach it after
        // this. `taken` stays set: a module is loaded once.
        unsafe { ptr::drop_in_place(self.0.value.get().cast::<T>()) };
    }
}
