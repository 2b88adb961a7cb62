// SPDX-License-Identifier: GPL-2.0

//! Memory that can be allocated and freed in any context.
//!
//! C header: [`include/linux/slab.h`](srctree/include/linux/slab.h), `kmalloc_nolock()`

use crate::bindings;
use core::{
    marker::PhantomData,
    mem::{
        ManuallyDrop,
        MaybeUninit, //
    },
    ptr::NonNull,
};

/// A value in memory of its own, allocated without taking any lock.
///
/// # Invariants
///
/// The pointer comes from `kmalloc_nolock()`, points to a valid `T`, and is this box's alone.
#[repr(transparent)]
pub struct NolockBox<T>(NonNull<T>, PhantomData<T>);

// SAFETY: The box owns its value, it can go where that can.
unsafe impl<T: Send> Send for NolockBox<T> {}

impl<T> NolockBox<T> {
    /// Gives up the box for its pointer.
    #[inline]
    pub fn into_raw(self) -> NonNull<T> {
        ManuallyDrop::new(self).0
    }

    /// Takes back a box from its pointer.
    ///
    /// # Safety
    ///
    /// The pointer comes from [`into_raw`](Self::into_raw), and from each call of that there is at
    /// most one of this.
    #[inline]
    pub unsafe fn from_raw(pointer: NonNull<T>) -> Self {
        // INVARIANT: `into_raw` has given up what the invariant says of the pointer.
        Self(pointer, PhantomData)
    }
}

impl<T> NolockBox<MaybeUninit<T>> {
    /// Memory for a `T`; `None` when there is none to be had without waiting for a lock.
    ///
    /// On `PREEMPT_RT` that is always so in NMI and in hard interrupt context.
    ///
    /// Context: any.
    #[inline]
    pub fn new_uninit() -> Option<Self> {
        const { assert!(size_of::<T>() > 0 && align_of::<T>() <= align_of::<usize>()) };

        // SAFETY: It may be called from any context.
        let memory = unsafe { bindings::kmalloc_nolock(size_of::<T>()) };
        // INVARIANT: The memory is large enough, new, and any content of it is a valid
        // `MaybeUninit`.
        Some(Self(NonNull::new(memory.cast())?, PhantomData))
    }

    /// Puts a value into the memory, of whatever type fits.
    #[inline]
    pub fn write<U>(self, value: U) -> NolockBox<U> {
        const { assert!(size_of::<U>() <= size_of::<T>() && align_of::<U>() <= align_of::<T>()) };

        let pointer = self.into_raw().cast::<U>();
        // SAFETY: By the type invariant the memory is valid for writes of a `T`, so of a `U`.
        unsafe { pointer.write(value) };
        // INVARIANT: The pointer has just been given up, and now points to a valid `U`.
        NolockBox(pointer, PhantomData)
    }
}

impl<T> Drop for NolockBox<T> {
    /// Context: any, if the value can be dropped there.
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant there is a valid value of ours, and it is not used again.
        unsafe { self.0.drop_in_place() };
        // SAFETY: By the type invariant the memory comes from `kmalloc_nolock()` and is ours.
        unsafe { bindings::kfree_nolock(self.0.as_ptr().cast()) };
    }
}
