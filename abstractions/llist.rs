// SPDX-License-Identifier: GPL-2.0

//! Lock-less singly linked lists.
//!
//! Many contexts add, one takes all. Neither locks, allocates or waits, so both work from any
//! context, NMI included, on architectures with an NMI-safe `cmpxchg()`.
//!
//! ```text
//!  add(item)                                   take_all()
//!  ---------                                   ----------
//!  any number at once, any context             any number at once, any context
//!  tells whether the list was empty            the items, newest first, as a `Chain` of one's own
//! ```
//!
//! The list owns the items that are on it, a [`Chain`] those that were taken. There is no operation
//! that takes a single item from the shared list: it would need all its callers to exclude each
//! other (`include/linux/llist.h` has the table).
//!
//! # Examples
//!
//! ```ignore
//! struct Job {
//!     node: Opaque<bindings::llist_node>,
//!     number: u32,
//! }
//!
//! struct Queued(KBox<Job>);
//!
//! // SAFETY: The node is a field of the job, nothing else uses it, and the job stays where it is
//! // until it is a box again.
//! unsafe impl Linked for Queued {
//!     fn into_node(self) -> NonNull<bindings::llist_node> {
//!         let job = KBox::into_raw(self.0);
//!         // SAFETY: The job is valid, so its fields are not at null.
//!         unsafe { NonNull::new_unchecked(Opaque::cast_into(&raw const (*job).node)) }
//!     }
//!
//!     unsafe fn from_node(node: NonNull<bindings::llist_node>) -> Self {
//!         let node = Opaque::cast_from(node.as_ptr());
//!         // SAFETY: The caller promises that `into_node` has made a pointer of the box that the
//!         // node is in, and that it becomes a box again only here.
//!         Self(unsafe { KBox::from_raw(container_of!(node, Job, node).cast_mut()) })
//!     }
//! }
//!
//! let queue = LockLessList::new();
//! for number in 0..3 {
//!     let job = Job { node: Opaque::uninit(), number };
//!     // The first one tells that somebody has to be called who takes them.
//!     assert_eq!(queue.add(Queued(KBox::new(job, GFP_KERNEL)?)), number == 0);
//! }
//!
//! let mut jobs = queue.take_all();
//! assert_eq!(jobs.pop().map(|job| job.0.number), Some(2));
//! # Ok::<(), Error>(())
//! ```
//!
//! C header: [`include/linux/llist.h`](srctree/include/linux/llist.h)

use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    },
};
use kernel::types::Opaque;

/// An owned item that a list can link through a `struct llist_node` inside it.
///
/// # Safety
///
/// - The node that [`into_node`] returns is valid for writes until [`from_node`] has taken it back,
///   and nothing else accesses it in between.
/// - [`from_node`] of the node that [`into_node`] returned gives back the same item.
///
/// [`into_node`]: Self::into_node
/// [`from_node`]: Self::from_node
pub unsafe trait Linked: Sized {
    /// Gives up the item for the node inside it.
    fn into_node(self) -> NonNull<bindings::llist_node>;

    /// Takes back the item that `node` is in.
    ///
    /// # Safety
    ///
    /// `node` comes from [`into_node`](Self::into_node), and from each call of that there is at
    /// most one of this.
    unsafe fn from_node(node: NonNull<bindings::llist_node>) -> Self;
}

/// A list that any context can add to and take all from.
///
/// # Invariants
///
/// Every node on the list comes from [`Linked::into_node`] and has not been taken back.
#[repr(transparent)]
pub struct LockLessList<T: Linked> {
    head: Opaque<bindings::llist_head>,
    /// Items go in and come out, so neither a longer- nor a shorter-lived type may stand for `T`.
    _items: PhantomData<*mut T>,
}

// SAFETY: The list is a queue between contexts: it can go where its items can.
unsafe impl<T: Linked + Send> Send for LockLessList<T> {}
// SAFETY: All operations on `head` are atomic, and give each item to one taker only.
unsafe impl<T: Linked + Send> Sync for LockLessList<T> {}

impl<T: Linked> LockLessList<T> {
    /// An empty list.
    pub const fn new() -> Self {
        // INVARIANT: There is no node on the list.
        Self {
            head: Opaque::new(bindings::llist_head {
                first: ptr::null_mut(),
            }),
            _items: PhantomData,
        }
    }

    /// Adds `item` and tells whether the list was empty before.
    ///
    /// Whoever finds it empty is the one who has to see to it that the items will be taken. Adding
    /// is a full memory barrier.
    ///
    /// Context: any.
    #[inline(always)]
    pub fn add(&self, item: T) -> bool {
        // INVARIANT: The node comes from `into_node` just now.
        // SAFETY: `head` is a valid list head. By the safety requirements of `Linked` the node is
        // valid, and ours alone, until it is taken back from the list.
        unsafe { bindings::llist_add(item.into_node().as_ptr(), self.head.get()) }
    }

    /// Takes all items, newest first. A full memory barrier.
    ///
    /// Context: any.
    #[inline]
    pub fn take_all(&self) -> Chain<T> {
        // INVARIANT: By the type invariant each node comes from `into_node`; with the head emptied
        // in one atomic step the nodes are this chain's alone.
        Chain {
            // SAFETY: `head` is a valid list head.
            first: unsafe { bindings::llist_del_all(self.head.get()) },
            _items: PhantomData,
        }
    }

    /// Whether there was nothing on the list at some moment during the call.
    ///
    /// Context: any.
    #[inline]
    pub fn is_empty(&self) -> bool {
        // SAFETY: `head` is a valid list head.
        unsafe { bindings::llist_empty(self.head.get()) }
    }
}

impl<T: Linked> Drop for LockLessList<T> {
    fn drop(&mut self) {
        drop(self.take_all());
    }
}

/// A chain of items that somebody owns alone.
///
/// Dropping it drops the items.
///
/// # Invariants
///
/// `first` is null or the first of a null-terminated chain of nodes, each of which comes from
/// [`Linked::into_node`] and is on no other list.
pub struct Chain<T: Linked> {
    first: *mut bindings::llist_node,
    _items: PhantomData<T>,
}

// SAFETY: A chain owns its items, it can go where they can.
unsafe impl<T: Linked + Send> Send for Chain<T> {}

impl<T: Linked> Chain<T> {
    /// An empty chain.
    pub const fn new() -> Self {
        // INVARIANT: Null is the empty chain.
        Self {
            first: ptr::null_mut(),
            _items: PhantomData,
        }
    }

    /// Whether there is nothing on the chain.
    pub fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// Moves items from the front of another chain to the front of this one, one after another: the
    /// first becomes the last of them. At most `limit`; tells how many.
    #[inline]
    pub fn push_reversed(&mut self, other: &mut Self, limit: u64) -> u64 {
        let (mut first, mut rest) = (self.first, other.first);
        let mut left = limit;
        if limit == 0 {
            return 0;
        }
        while let Some(node) = NonNull::new(rest) {
            // SAFETY: By the type invariant the node is valid.
            rest = unsafe { (*node.as_ptr()).next };
            // SAFETY: As above, and it is on no chain now.
            unsafe { (*node.as_ptr()).next = first };
            first = node.as_ptr();
            left -= 1;
            if left == 0 {
                break;
            }
        }
        // INVARIANT: Both go on with what was not moved. What was comes from `into_node`.
        self.first = first;
        other.first = rest;
        limit.wrapping_sub(left)
    }

    /// Takes the item at the front.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let node = NonNull::new(self.first)?;
        // INVARIANT: The chain goes on with what follows the node.
        // SAFETY: By the type invariant the node is valid.
        self.first = unsafe { (*node.as_ptr()).next };
        // SAFETY: By the type invariant the node comes from `into_node`. It is not on the chain any
        // more, so it is not taken back a second time.
        Some(unsafe { T::from_node(node) })
    }
}

impl<T: Linked> Drop for Chain<T> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}
