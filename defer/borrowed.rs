// SPDX-License-Identifier: GPL-2.0

//! The borrowed node: queueing the last reference to an object that is somebody else's.
//!
//! Many an object keeps memory for its own death: the `rcu_head` that frees it, the work item that
//! takes it apart. Nothing uses that memory as long as anybody holds a reference. So whoever is about
//! to give back the last reference, where it must not be given back, can put it on the queue in that
//! memory, **still held**; the drain gives it back, by the object's ordinary release function.
//!
//! ```text
//!   references   who holds them
//!   ──────────   ──────────────
//!       2        this program and somebody else     put_unless_last(): 2 ─> 1, done
//!       1        this program                       put_unless_last(): no. Queue it: still 1
//!       1        the queue                          the idle memory is the queue's node
//!     2, 3, 2    others come and go                 put_unless_last(): never the last
//!       1        the queue                          the drain: 1 ─> 0, the object dies as ever
//! ```
//!
//! # Why it is sound
//!
//! - *Nobody frees the object while it is on the queue*: the queue holds a counted reference.
//! - *Nobody uses the node's memory meanwhile*: it is used after the last reference, or by who holds
//!   a reference of its own until it is done with it; and the queue holds the only one.
//! - *It is queued at most once*: who drops a reference holds it until then. While the queue holds
//!   one, that makes two, so that what is dropped is not the last.
//! - *The drain may find others holding references*: then its own is an ordinary one, and the last is
//!   theirs to queue again. The node is free for that: the queue has taken it off, and does not touch
//!   it after it has given back its reference.
//!
//! `tests/model` checks this with loom, on this file, and the memory orders with herd7.

use crate::bindings::{
    kptr_defer_drop,
    kptr_defer_slot, //
};
use core::ptr::NonNull;

/// An object whose last reference can wait on the queue.
///
/// # Safety
///
/// - A new reference is only made by who holds one, or from a count that is not zero.
/// - [`put_unless_last`](Self::put_unless_last) finds out that it is the last, and leaves it, in one
///   atomic step; and gives it back in one otherwise.
/// - [`idle_memory`](Self::idle_memory) is a valid slot that nothing else reads or writes while the
///   count is not zero, but who holds a reference until it is done with it; in every kernel that this
///   is built for.
/// - What was done before a reference was given back, by either function, is over for whoever
///   `put_unless_last` then tells that theirs is the last, and before the end of the object.
/// - [`put`](Self::put) is fit for hard interrupt context, on `PREEMPT_RT` for process context.
pub(crate) unsafe trait LastReference {
    /// Gives back a reference, unless it is the last; tells whether it has.
    ///
    /// Context: any.
    ///
    /// # Safety
    ///
    /// The caller owns a reference to `object`, and gives it up if the result is `true`.
    unsafe fn put_unless_last(object: NonNull<Self>) -> bool;

    /// Gives back a reference as it is done everywhere else.
    ///
    /// # Safety
    ///
    /// The caller owns a reference to `object`, and gives it up.
    unsafe fn put(object: NonNull<Self>);

    /// The memory that the object keeps for its own death.
    ///
    /// Context: any.
    ///
    /// # Safety
    ///
    /// `object` is valid.
    unsafe fn idle_memory(object: NonNull<Self>) -> NonNull<kptr_defer_slot>;

    /// The object whose memory that is.
    ///
    /// # Safety
    ///
    /// `memory` comes from [`idle_memory`](Self::idle_memory).
    unsafe fn from_idle_memory(memory: NonNull<kptr_defer_slot>) -> NonNull<Self>;
}

/// What used to be the last reference when it was tried to give it back.
///
/// # Invariants
///
/// It owns a reference to the object, and the object's idle memory is its own.
pub(crate) struct Last<T: LastReference + ?Sized>(NonNull<T>);

impl<T: LastReference + ?Sized> Last<T> {
    /// Gives back a reference, unless it is the last: then here it is.
    ///
    /// Context: any.
    ///
    /// # Safety
    ///
    /// The caller owns a reference to `object`, and gives it up.
    #[inline(always)]
    pub(crate) unsafe fn of(object: NonNull<T>) -> Option<Self> {
        // SAFETY: The caller owns a reference, and gives it up.
        if unsafe { T::put_unless_last(object) } {
            return None;
        }
        // INVARIANT: The reference has not been given back. It was the only one, so no other `Last`
        // of the object exists: that would own one, too. From here on everybody else will find that
        // there is this one besides their own.
        Some(Self(object))
    }

    /// Gives the reference back, in a context that is fit for it.
    pub(crate) fn put(self) {
        // SAFETY: By the type invariant the reference is ours, and it is given up here.
        unsafe { T::put(self.0) };
    }

    /// Puts the reference on the queue, from where `drained` gets it. Nothing is allocated.
    ///
    /// Context: NMI; elsewhere `drained` may be called at once.
    ///
    /// # Safety
    ///
    /// `drained` takes the reference with [`from_queue`](Self::from_queue), and may be called until
    /// [`kptr_defer_barrier()`](crate::bindings::kptr_defer_barrier) says that it no longer is.
    #[inline(always)]
    pub(crate) unsafe fn queue(self, drained: unsafe extern "C" fn(*mut kptr_defer_slot)) {
        // SAFETY: By the type invariant there is a reference, so the object is valid.
        let slot = unsafe { T::idle_memory(self.0) };
        // SAFETY: By the type invariant the slot is ours. The caller promises the rest.
        unsafe { kptr_defer_drop(slot.as_ptr(), Some(drained)) };
    }

    /// Takes the reference off the queue.
    ///
    /// # Safety
    ///
    /// This is called by what was given to [`queue`](Self::queue), with what that was called with,
    /// once.
    pub(crate) unsafe fn from_queue(slot: NonNull<kptr_defer_slot>) -> Self {
        // INVARIANT: `queue` has put reference and memory there, nobody has taken them since.
        // SAFETY: The slot is that of `queue`.
        Self(unsafe { T::from_idle_memory(slot) })
    }
}
