// SPDX-License-Identifier: GPL-2.0

//! Exclusive access that nobody waits for, and that can be passed on to another context.
//!
//! ```text
//!            try_take()             pass_on()
//!   free ───────────────> held ────────────────> passed on
//!    ^                     │ ^                        │
//!    └─────────────────────┘ └────────────────────────┘
//!            drop                    take_over()
//! ```
//!
//! Who does not get the baton goes away, and relies on its holder for what it wanted to have done.
//! So a holder that puts it down has to look again whether something has come in:
//!
//! ```text
//!   one who comes                     the holder
//!   ─────────────                     ──────────
//!   leaves something to do
//!     (a full barrier)                drop
//!   try_take() fails                    (a full barrier)
//!                                     looks for something to do
//! ```
//!
//! Taking it and putting it down are full memory barriers: either the one who comes gets the baton,
//! or the holder sees what was left.

use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    ops::{
        Deref,
        DerefMut, //
    },
};
use kernel::sync::atomic::{
    Atomic,
    Full, //
};

const FREE: i32 = 0;
const HELD: i32 = 1;
const PASSED_ON: i32 = 2;

/// Exclusive access to a value, to be had at once or not at all.
///
/// # Invariants
///
/// While `state` is `HELD` exactly one [`Held`] exists, else none.
pub struct Baton<T> {
    state: Atomic<i32>,
    value: UnsafeCell<T>,
}

// SAFETY: The value can be reached through a `Held` only, of which there is one at a time.
unsafe impl<T: Send> Sync for Baton<T> {}

impl<T> Baton<T> {
    /// A baton that is free.
    pub const fn new(value: T) -> Self {
        // INVARIANT: It is free, and there is no `Held`.
        Self {
            state: Atomic::new(FREE),
            value: UnsafeCell::new(value),
        }
    }

    /// Takes the baton if it is free.
    ///
    /// Context: any.
    #[inline]
    pub fn try_take(&self) -> Option<Held<'_, T>> {
        self.change(FREE)
    }

    /// Takes the baton if it was passed on.
    ///
    /// Context: any.
    #[inline]
    pub fn take_over(&self) -> Option<Held<'_, T>> {
        self.change(PASSED_ON)
    }

    /// A `cmpxchg()` that fails orders nothing, but then the one who comes needs no more order than
    /// what it left before has brought with it.
    #[inline]
    fn change(&self, from: i32) -> Option<Held<'_, T>> {
        // INVARIANT: Only one caller changes `from`, which is not `HELD`, to `HELD`.
        self.state.cmpxchg(from, HELD, Full).ok().map(|_| Held {
            baton: self,
            next: FREE,
            _value: PhantomData,
        })
    }
}

/// Exclusive access to the value of a [`Baton`]; dropping it puts the baton down.
///
/// # Invariants
///
/// It is the only one of its baton.
#[must_use = "the baton is put down at once when unused"]
pub struct Held<'a, T> {
    baton: &'a Baton<T>,
    next: i32,
    /// It is as good as a unique reference, and no more shared between threads than that.
    _value: PhantomData<&'a mut T>,
}

impl<T> Held<'_, T> {
    /// Leaves the baton to whoever calls [`Baton::take_over`]; until then nobody can take it.
    pub fn pass_on(mut self) {
        self.next = PASSED_ON;
    }
}

impl<T> Drop for Held<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // INVARIANT: This is the only `Held`, and it is gone with this.
        self.baton.state.xchg(self.next, Full);
    }
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: By the type invariant nobody else can reach the value.
        unsafe { &*self.baton.value.get() }
    }
}

impl<T> DerefMut for Held<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: By the type invariant nobody else can reach the value.
        unsafe { &mut *self.baton.value.get() }
    }
}
