// SPDX-License-Identifier: GPL-2.0

//! A drop that is still to be done.

use crate::{
    abstractions::llist::Linked,
    bindings::{
        kptr_defer_slot,
        llist_node, //
    },
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::container_of;

/// What drops the object that a slot is in.
pub(crate) type Destructor = unsafe extern "C" fn(*mut kptr_defer_slot);

/// The drop is fit for hard interrupt context, and any but NMI; on `PREEMPT_RT` for process context.
pub(crate) enum InHardIrq {}

/// The drop may sleep: it is always run in process context.
pub(crate) enum InProcess {}

/// The duty to drop an object, and the slot inside it with which that can be queued.
///
/// # Invariants
///
/// The slot is valid, this is all there is that may use it, and the destructor may be called with it
/// once, in the context that `C` says, on any CPU; for [`InHardIrq`] also in any context that
/// [`DeferWhen`] does not defer in.
///
/// [`DeferWhen`]: super::when::DeferWhen
pub(crate) struct PendingDrop<C> {
    slot: NonNull<kptr_defer_slot>,
    /// Written to the slot only when it is needed there.
    dtor: Destructor,
    _context: PhantomData<C>,
}

// SAFETY: By the type invariant the destructor may be called on any CPU.
unsafe impl<C> Send for PendingDrop<C> {}

impl<C> PendingDrop<C> {
    /// Takes on the duty to call `dtor`.
    ///
    /// # Safety
    ///
    /// What the type's invariant says holds for `slot` and `dtor`.
    #[inline(always)]
    pub(crate) unsafe fn new(slot: NonNull<kptr_defer_slot>, dtor: Destructor) -> Self {
        // INVARIANT: The caller promises what the invariant says.
        Self {
            slot,
            dtor,
            _context: PhantomData,
        }
    }

    /// The slot and the destructor, which stay this duty's.
    pub(super) fn as_parts(&self) -> (*const kptr_defer_slot, Destructor) {
        (self.slot.as_ptr(), self.dtor)
    }

    /// Drops the object.
    #[inline(always)]
    pub(crate) fn run(self) {
        // SAFETY: By the type invariant it may be called, once: `self` is gone with this.
        unsafe { (self.dtor)(self.slot.as_ptr()) };
    }
}

// SAFETY: By the type invariant the node in the slot is valid and nobody else's; a slot and its node
// can be told from each other.
unsafe impl<C> Linked for PendingDrop<C> {
    #[inline(always)]
    fn into_node(self) -> NonNull<llist_node> {
        let slot = self.slot.as_ptr();
        // SAFETY: By the type invariant the slot is valid, and ours.
        unsafe { (*slot).dtor = Some(self.dtor) };
        // SAFETY: The slot is valid, so is the place of its field.
        unsafe { NonNull::new_unchecked(&raw mut (*slot).node) }
    }

    #[inline(always)]
    unsafe fn from_node(node: NonNull<llist_node>) -> Self {
        // SAFETY: The caller promises that the node comes from `into_node`, so it is in a slot.
        let slot = unsafe { container_of!(node.as_ptr(), kptr_defer_slot, node) };
        // INVARIANT: The node carried the duty here.
        Self {
            // SAFETY: A slot that holds a node is not at null.
            slot: unsafe { NonNull::new_unchecked(slot) },
            // SAFETY: `into_node` has written it.
            dtor: unsafe { (*slot).dtor.unwrap_unchecked() },
            _context: PhantomData,
        }
    }
}
