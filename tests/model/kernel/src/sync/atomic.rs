// SPDX-License-Identifier: GPL-2.0

//! Atomics in the kernel's manner.
//!
//! `i32` is loom's: what the queue's protocol is made of.

#[cfg(feature = "loom")]
use crate::shadow;
use core::cell::UnsafeCell;
use loom::sync::atomic::{
    fence,
    AtomicI32,
    Ordering, //
};
#[cfg(feature = "loom")]
use std::sync::Arc;

/// Before and after, as a read-modify-write operation of the kernel without a suffix. One that fails
/// to change anything orders nothing.
pub struct Full;

/// What a check may have wrong with [`Full`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weakened {
    /// `xchg()` does not order what comes after it.
    pub xchg_is_release: bool,
    /// `cmpxchg()` finds what it looks for, whatever there is.
    pub cmpxchg_succeeds: bool,
}

static WEAKENED: std::sync::Mutex<Weakened> = std::sync::Mutex::new(Weakened {
    xchg_is_release: false,
    cmpxchg_succeeds: false,
});

/// For all that comes.
pub fn weaken(weakened: Weakened) {
    *WEAKENED.lock().unwrap() = weakened;
}

fn weakened() -> Weakened {
    if cfg!(feature = "loom") {
        *WEAKENED.lock().unwrap()
    } else {
        Weakened::default()
    }
}

/// Calls the operation with full barriers on both sides.
pub fn full<R>(operation: impl FnOnce(Ordering) -> R) -> R {
    fence(Ordering::SeqCst);
    let result = operation(Ordering::AcqRel);
    fence(Ordering::SeqCst);
    result
}

pub struct Atomic<T>(UnsafeCell<T>);

// SAFETY: What is in it is only used to make the atomic that stands for it.
unsafe impl<T> Sync for Atomic<T> {}
// SAFETY: A number.
unsafe impl<T> Send for Atomic<T> {}

impl<T> Atomic<T> {
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }
}

impl Atomic<i32> {
    #[cfg(not(feature = "loom"))]
    fn shadow(&self) -> &AtomicI32 {
        // SAFETY: It is used as an atomic only.
        unsafe { AtomicI32::from_ptr(self.0.get()) }
    }

    #[cfg(feature = "loom")]
    fn shadow(&self) -> Arc<AtomicI32> {
        // SAFETY: It is never written to.
        shadow::of(self.0.get(), || AtomicI32::new(unsafe { *self.0.get() }))
    }

    pub fn cmpxchg(&self, old: i32, new: i32, _: Full) -> Result<i32, i32> {
        let value = self.shadow();
        if weakened().cmpxchg_succeeds {
            return Ok(value.swap(new, Ordering::AcqRel));
        }
        fence(Ordering::SeqCst);
        let result = value.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed);
        if result.is_ok() {
            fence(Ordering::SeqCst);
        }
        result
    }

    pub fn xchg(&self, new: i32, _: Full) -> i32 {
        let value = self.shadow();
        if weakened().xchg_is_release {
            return value.swap(new, Ordering::Release);
        }
        full(|order| value.swap(new, order))
    }
}
