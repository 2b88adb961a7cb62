// SPDX-License-Identifier: GPL-2.0

//! kptr_defer for kernel modules in Rust: owned values that may be dropped in any context, NMI
//! included.
//!
//! Include this file in your crate root, by this name, and build the module against the
//! `Module.symvers` of `kptr_defer.ko`:
//!
//! ```ignore
//! #[path = "<folder of kptr_defer>/include/kptr_defer.rs"]
//! mod kptr_defer;
//! ```
//!
//! Any value can be wrapped. What its drop needs on the queue is allocated with the wrapper, so the
//! drop itself allocates nothing and cannot fail:
//!
//! ```ignore
//! let task = DeferredRef::<Task>::new(ARef::from(task), GFP_KERNEL)?;
//! let table = Deferred::new(KBox::new(Table::default(), GFP_KERNEL)?, GFP_KERNEL)?;
//! drop(task); // in NMI, too
//! ```
//!
//! A type of your own can bring along the memory for it, and nothing has to be allocated at all:
//!
//! ```ignore
//! struct Thing {
//!     slot: Slot,
//!     name: KVec<u8>,
//! }
//!
//! impl_has_slot! {
//!     impl HasSlot for Thing { self.slot }
//! }
//!
//! let thing = DeferredArc::<Thing>::from(Arc::new(thing, GFP_KERNEL)?);
//! let boxed = DeferredBox::<Thing>::from(KBox::new(another, GFP_KERNEL)?);
//! ```
//!
//! Where a value is dropped is part of the type. [`InProcess`], the default, is a kworker: the drop
//! may sleep. [`InHardIrq`] is for values that [are fit for it](DropsInHardIrq).
//!
//! A module that has ever dropped one of these calls [`barrier`] when it is unloaded, after the last
//! drop and before its code goes away.

#![allow(dead_code, unreachable_pub, unused_imports)]

use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::{
        Deref,
        DerefMut, //
    },
    ptr::{
        self,
        NonNull, //
    },
};
use kernel::{
    alloc::Flags,
    prelude::*,
    sync::{
        aref::{
            ARef,
            AlwaysRefCounted, //
        },
        Arc, //
    },
    task::Task,
    types::Opaque, //
};

/// As in `include/kptr_defer.h`.
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct kptr_defer_slot {
    node: *mut kptr_defer_slot,
    dtor: Option<Destructor>,
}

type Destructor = unsafe extern "C" fn(*mut kptr_defer_slot);

extern "C" {
    fn kptr_defer_drop(slot: *mut kptr_defer_slot, dtor: Destructor) -> bool;
    fn kptr_defer_drop_sleepable(slot: *mut kptr_defer_slot, dtor: Destructor);
    fn kptr_defer_barrier();
}

/// Returns when every drop that has been deferred before has finished. What these drops have
/// deferred in turn is not waited for; for that call it again.
///
/// Context: process context, may sleep.
pub fn barrier() {
    // SAFETY: This module depends on kptr_defer.
    unsafe { kptr_defer_barrier() }
}

/// Where a value of type `V` is dropped: [`InProcess`] or [`InHardIrq`].
pub trait DropContext<V>: private::DropContext {}

/// In a kworker, soon, whatever the context is in which it is given up. The drop may sleep.
pub struct InProcess;

/// At once, or soon and in hard interrupt context (on PREEMPT_RT in process context) if it is given
/// up in NMI.
///
/// A drop that is not deferred runs and frees memory in the context that it comes from. On PREEMPT_RT
/// that must not be a real hard interrupt, nor under a raw spinlock; [`InProcess`] is good there.
pub struct InHardIrq;

impl<V> DropContext<V> for InProcess {}
impl<V: DropsInHardIrq> DropContext<V> for InHardIrq {}

/// What may be dropped in hard interrupt context.
///
/// # Safety
///
/// Dropping a value of this type, or giving back a reference to it if it is reference-counted, does
/// not sleep, and takes no lock that somebody holds with interrupts on. On PREEMPT_RT it may be any
/// atomic context but a real hard interrupt.
pub unsafe trait DropsInHardIrq {}

// SAFETY: The drop gives back a reference.
unsafe impl<T: DropsInHardIrq + AlwaysRefCounted> DropsInHardIrq for ARef<T> {}
// SAFETY: The drop drops a `T`, if any, and calls `kfree()`, which is fit for hard interrupts.
unsafe impl<T: DropsInHardIrq> DropsInHardIrq for Arc<T> {}
// SAFETY: As above.
unsafe impl<T: DropsInHardIrq> DropsInHardIrq for KBox<T> {}
// SAFETY: It is dropped as the `P` that it is.
unsafe impl<P: DropsInHardIrq> DropsInHardIrq for Pin<P> {}
// SAFETY: `put_task_struct()` calls `call_rcu()` at most.
unsafe impl DropsInHardIrq for Task {}

mod private {
    use super::*;

    pub trait DropContext {
        /// # Safety
        ///
        /// `slot` is valid and not handed over already; `dtor` may be called once with it, in the
        /// context that this stands for.
        unsafe fn hand_over(slot: *mut kptr_defer_slot, dtor: Destructor);
    }

    impl DropContext for InProcess {
        #[inline]
        unsafe fn hand_over(slot: *mut kptr_defer_slot, dtor: Destructor) {
            // SAFETY: As the caller promises.
            unsafe { kptr_defer_drop_sleepable(slot, dtor) }
        }
    }

    impl DropContext for InHardIrq {
        #[inline]
        unsafe fn hand_over(slot: *mut kptr_defer_slot, dtor: Destructor) {
            // SAFETY: As the caller promises.
            unsafe { kptr_defer_drop(slot, dtor) };
        }
    }
}

/// What a deferred drop needs, 16 bytes: a field of the type that is dropped.
#[repr(transparent)]
pub struct Slot(Opaque<kptr_defer_slot>);

// SAFETY: Only who owns what the slot is in uses it, when it is dropped.
unsafe impl Send for Slot {}
// SAFETY: Nothing can be done with a `&Slot`.
unsafe impl Sync for Slot {}

impl Slot {
    /// Needs no initialisation.
    #[inline]
    pub const fn new() -> Self {
        Self(Opaque::uninit())
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new()
    }
}

/// A type with a [`Slot`]. To be implemented with [`impl_has_slot!`].
///
/// # Safety
///
/// The two functions are inverses of each other, and lead to a field, well aligned, that nothing else
/// uses.
pub unsafe trait HasSlot {
    /// The slot in what `ptr` points to.
    ///
    /// # Safety
    ///
    /// `ptr` points to a valid value.
    unsafe fn raw_get_slot(ptr: *mut Self) -> *mut Slot;

    /// What the slot is in.
    ///
    /// # Safety
    ///
    /// `slot` is from [`raw_get_slot`](Self::raw_get_slot).
    unsafe fn slot_container_of(slot: *mut Slot) -> *mut Self;
}

/// Implements [`HasSlot`]. Does not compile unless the field is a [`Slot`].
///
/// ```ignore
/// impl_has_slot! {
///     impl HasSlot for Thing { self.slot }
///     impl{T: Send} HasSlot for Pair<T> { self.slot }
/// }
/// ```
macro_rules! impl_has_slot {
    ($(impl$({$($generics:tt)*})? HasSlot for $type:ty { self.$field:ident })*) => {$(
        // SAFETY: Compiles only if the field is there, has the right type, and can be referred to.
        unsafe impl$(<$($generics)*>)? $crate::kptr_defer::HasSlot for $type {
            #[inline]
            unsafe fn raw_get_slot(ptr: *mut Self) -> *mut $crate::kptr_defer::Slot {
                // Not in a packed type.
                let _ = |this: &Self| _ = &this.$field;
                // SAFETY: The caller promises that the pointer is valid.
                unsafe { &raw mut (*ptr).$field }
            }

            #[inline]
            unsafe fn slot_container_of(slot: *mut $crate::kptr_defer::Slot) -> *mut Self {
                // SAFETY: The caller promises that it is this field.
                unsafe { ::kernel::container_of!(slot, Self, $field) }
            }
        }
    )*};
}
pub(crate) use impl_has_slot;

/// A pointer that owns something with a slot: `KBox<T>` or `Arc<T>`, pinned or not.
///
/// # Safety
///
/// What is given up with `into_slot` stays as it is, and nobody else uses its slot, until `from_slot`
/// takes it back.
pub unsafe trait SlotPointer: Sized + Send + 'static {
    /// Gives up the ownership, and returns the slot unless others own it as well.
    ///
    /// Context: any, NMI included.
    fn into_slot(self) -> Option<NonNull<Slot>>;

    /// Takes the ownership back.
    ///
    /// # Safety
    ///
    /// `slot` is from `into_slot`, and not taken back already.
    unsafe fn from_slot(slot: NonNull<Slot>) -> Self;
}

// SAFETY: There is no other owner.
unsafe impl<T: HasSlot + Send + 'static> SlotPointer for KBox<T> {
    #[inline]
    fn into_slot(self) -> Option<NonNull<Slot>> {
        // SAFETY: The box is valid.
        NonNull::new(unsafe { T::raw_get_slot(KBox::into_raw(self)) })
    }

    #[inline]
    unsafe fn from_slot(slot: NonNull<Slot>) -> Self {
        // SAFETY: The caller promises that it comes from `into_slot`.
        unsafe { KBox::from_raw(T::slot_container_of(slot.as_ptr())) }
    }
}

// SAFETY: Only the last owner uses the slot.
unsafe impl<T: HasSlot + Send + Sync + 'static> SlotPointer for Arc<T> {
    #[inline]
    fn into_slot(self) -> Option<NonNull<Slot>> {
        let last = Arc::from(Arc::into_unique_or_drop(self)?);
        // SAFETY: The `Arc` is valid.
        NonNull::new(unsafe { T::raw_get_slot(Arc::into_raw(last).cast_mut()) })
    }

    #[inline]
    unsafe fn from_slot(slot: NonNull<Slot>) -> Self {
        // SAFETY: The caller promises that it comes from `into_slot`.
        unsafe { Arc::from_raw(T::slot_container_of(slot.as_ptr())) }
    }
}

// SAFETY: It is the `P` that it is.
unsafe impl<P: SlotPointer + Deref> SlotPointer for Pin<P> {
    #[inline]
    fn into_slot(self) -> Option<NonNull<Slot>> {
        // SAFETY: It is pinned for whoever takes it back.
        unsafe { Pin::into_inner_unchecked(self) }.into_slot()
    }

    #[inline]
    unsafe fn from_slot(slot: NonNull<Slot>) -> Self {
        // SAFETY: The caller promises that it comes from `into_slot`, where it was pinned.
        unsafe { Pin::new_unchecked(P::from_slot(slot)) }
    }
}

/// # Safety
///
/// `slot` is from [`SlotPointer::into_slot`] of a `P`, and not taken back already.
unsafe extern "C" fn drop_owner<P: SlotPointer>(slot: *mut kptr_defer_slot) {
    // SAFETY: As the caller promises; such a slot is never null.
    drop(unsafe { P::from_slot(NonNull::new_unchecked(slot.cast())) });
}

/// Drops `owner` where `C` says.
///
/// # Safety
///
/// It may be dropped there.
#[inline]
unsafe fn defer_drop<P: SlotPointer, C: private::DropContext>(owner: P) {
    if let Some(slot) = owner.into_slot() {
        // SAFETY: The slot is nobody's any more until `drop_owner` is called, where the caller says.
        unsafe { C::hand_over(slot.as_ptr().cast(), drop_owner::<P>) }
    }
}

/// An owner of something with a slot, that may be dropped in any context, NMI included.
///
/// What it owns is dropped in the context `C`. Nothing is allocated.
pub struct Intrusive<P: SlotPointer, C: DropContext<P> = InProcess>(
    ManuallyDrop<P>,
    PhantomData<C>,
);

/// A box of a type with a slot that may be dropped in any context.
pub type DeferredBox<T, C = InProcess> = Intrusive<KBox<T>, C>;

/// A reference to a shared value with a slot that may be dropped in any context; the last one defers
/// the drop of the value. All owners should be of this type: a plain [`Arc`] that is the last one
/// drops the value where it is.
pub type DeferredArc<T, C = InProcess> = Intrusive<Arc<T>, C>;

impl<P: SlotPointer, C: DropContext<P>> Intrusive<P, C> {
    /// The owner that it was made from.
    pub fn into_inner(self) -> P {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again, and not dropped.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl<P: SlotPointer, C: DropContext<P>> From<P> for Intrusive<P, C> {
    fn from(owner: P) -> Self {
        Self(ManuallyDrop::new(owner), PhantomData)
    }
}

impl<P: SlotPointer + Clone, C: DropContext<P>> Clone for Intrusive<P, C> {
    fn clone(&self) -> Self {
        P::clone(self).into()
    }
}

impl<P: SlotPointer, C: DropContext<P>> Deref for Intrusive<P, C> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.0
    }
}

impl<P: SlotPointer, C: DropContext<P>> DerefMut for Intrusive<P, C> {
    fn deref_mut(&mut self) -> &mut P {
        &mut self.0
    }
}

impl<P: SlotPointer, C: DropContext<P>> Drop for Intrusive<P, C> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `C` is a context for a `P`, and nothing uses it after this.
        unsafe { defer_drop::<P, C>(ManuallyDrop::take(&mut self.0)) }
    }
}

struct Node<V> {
    slot: Slot,
    value: V,
}

impl_has_slot! {
    impl{V} HasSlot for Node<V> { self.slot }
}

/// An owned value, of any type, that may be dropped in any context, NMI included.
///
/// The value is dropped in the context `C`. It is a value that may be sent elsewhere, because the drop
/// runs on another CPU maybe. A clone of the value, of an `ARef` say, is not deferred.
pub struct Deferred<V: Send + 'static, C: DropContext<V> = InProcess>(
    ManuallyDrop<KBox<Node<V>>>,
    PhantomData<C>,
);

/// A reference to an object with a count of its own, a [`Task`] say, that may be given back in any
/// context.
pub type DeferredRef<T, C = InProcess> = Deferred<ARef<T>, C>;

impl<V: Send + 'static, C: DropContext<V>> Deferred<V, C> {
    /// Wraps a value. On failure, the error has it.
    ///
    /// Context: any in which memory can be allocated with these flags; not NMI.
    pub fn new(value: V, flags: Flags) -> Result<Self, NotDeferred<V>> {
        match KBox::new_uninit(flags) {
            Ok(node) => {
                let slot = Slot::new();
                let node = KBox::write(node, Node { slot, value });
                Ok(Self(ManuallyDrop::new(node), PhantomData))
            }
            Err(_) => Err(NotDeferred(value)),
        }
    }

    /// The value.
    ///
    /// Context: any in which memory can be freed; not NMI.
    pub fn into_inner(self) -> V {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is not used again, and not dropped.
        KBox::into_inner(unsafe { ManuallyDrop::take(&mut this.0) }).value
    }
}

impl<V: Send + 'static, C: DropContext<V>> Deref for Deferred<V, C> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.0.value
    }
}

impl<V: Send + 'static, C: DropContext<V>> DerefMut for Deferred<V, C> {
    fn deref_mut(&mut self) -> &mut V {
        &mut self.0.value
    }
}

impl<V: Send + 'static, C: DropContext<V>> Drop for Deferred<V, C> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `C` is a context for a `V`, and then for its box. Nothing uses it after this.
        unsafe { defer_drop::<_, C>(ManuallyDrop::take(&mut self.0)) }
    }
}

/// A value for which there was no memory: [`ENOMEM`] for `?`, or the value for who wants it back.
pub struct NotDeferred<V>(V);

impl<V> NotDeferred<V> {
    /// The value.
    pub fn into_inner(self) -> V {
        self.0
    }
}

impl<V> From<NotDeferred<V>> for Error {
    fn from(_: NotDeferred<V>) -> Self {
        ENOMEM
    }
}
