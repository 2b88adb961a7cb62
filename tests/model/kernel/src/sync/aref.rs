// SPDX-License-Identifier: GPL-2.0

use core::{
    ops::Deref,
    ptr::NonNull, //
};

/// # Safety
///
/// The object lives as long as it has been counted more often than it has been given back.
pub unsafe trait AlwaysRefCounted {
    fn inc_ref(&self);

    /// # Safety
    ///
    /// The caller owns a reference.
    unsafe fn dec_ref(object: NonNull<Self>);
}

pub struct ARef<T: AlwaysRefCounted>(NonNull<T>);

// SAFETY: A shared reference.
unsafe impl<T: AlwaysRefCounted + Sync> Send for ARef<T> {}

impl<T: AlwaysRefCounted> From<&T> for ARef<T> {
    fn from(object: &T) -> Self {
        object.inc_ref();
        Self(object.into())
    }
}

impl<T: AlwaysRefCounted> Deref for ARef<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: It is counted.
        unsafe { self.0.as_ref() }
    }
}

impl<T: AlwaysRefCounted> Drop for ARef<T> {
    fn drop(&mut self) {
        // SAFETY: This is the reference.
        unsafe { T::dec_ref(self.0) };
    }
}
