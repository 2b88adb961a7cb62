// SPDX-License-Identifier: GPL-2.0

//! A handle: the small object of ours that a BPF program holds in place of somebody else's.
//!
//! It brings along the slot that its drop may need. Its memory is the price, paid when the reference
//! is taken, where failing is allowed.
//!
//! What the kfunc `_get` returns is good until the program's RCU read-side critical section ends, even
//! when the handle is given back before that. Where the kernel does not free the object by RCU the
//! handle sees to it, and keeps the last of what it holds for one grace period more.

use super::reserve::RESERVE;
use crate::{
    abstractions::{
        context::in_nmi,
        nolock::NolockBox,
        rcu, //
    },
    bindings::{
        callback_head,
        kptr_defer_slot, //
    },
    defer::{
        pending::{
            Destructor,
            PendingDrop, //
        },
        queue::Lane,
        stats::{
            ACQUIRED,
            ACQUIRE_FAILED,
            RELEASED, //
        },
        ENGINE, //
    },
};
use core::ptr::NonNull;
use kernel::{
    container_of,
    types::Opaque, //
};

/// An object that handles can hold.
///
/// # Safety
///
/// - [`try_get`](Self::try_get) may be called in any context.
/// - What it has taken, [`put`](Self::put) and [`PUT_AFTER_READERS`](Self::PUT_AFTER_READERS) give back
///   between them; on any CPU, where [`DropsIn`](Self::DropsIn) says.
/// - The object's memory stays what it is until an RCU grace period has passed since `put`, or until
///   `PUT_AFTER_READERS`.
pub(crate) unsafe trait Object: Sized + 'static {
    /// Where giving it back is allowed.
    type DropsIn: Lane;

    /// Takes a reference, unless the object is dying; tells whether it has.
    ///
    /// # Safety
    ///
    /// `object` is there during the call, as an RCU pointer or held by the caller; the result belongs
    /// to a [`Handle`].
    unsafe fn try_get(object: NonNull<Self>) -> bool;

    /// Whether what has been taken is an object that a program may see: one could be found that is
    /// still being made.
    ///
    /// # Safety
    ///
    /// The caller holds a reference.
    unsafe fn is_complete(_object: NonNull<Self>) -> bool {
        true
    }

    /// Gives back what [`try_get`](Self::try_get) took.
    ///
    /// # Safety
    ///
    /// The caller owns it, and gives it up.
    unsafe fn put(object: NonNull<Self>);

    /// Gives back the rest, an RCU grace period later. Unsafe to call for the same reason.
    const PUT_AFTER_READERS: Option<unsafe fn(NonNull<Self>)> = None;
}

/// A reference to an object, and the slot for giving it back.
///
/// # Invariants
///
/// What [`Object::try_get`] has taken of `object` is the handle's.
#[repr(C)]
pub(crate) struct Handle<T: Object> {
    /// Once it is off the queue, the node of an RCU callback, and then perhaps on the queue again.
    pub(super) slot: Opaque<kptr_defer_slot>,
    pub(super) object: NonNull<T>,
}

impl<T: Object> Handle<T> {
    /// Takes a reference to `object`. `None` when there is no memory or the object is dying.
    ///
    /// Context: any.
    ///
    /// # Safety
    ///
    /// `object` is there during the call, as an RCU pointer or held by the caller, who pins this
    /// module, as a BPF program does by its kfuncs.
    #[inline]
    pub(super) unsafe fn acquire(object: NonNull<T>) -> Option<NonNull<Self>> {
        // SAFETY: The same is asked of the caller.
        unsafe { Self::acquire_found(|| Some(object)) }
    }

    /// The same with what `find` finds, if it still does once the reference has been taken.
    ///
    /// # Safety
    ///
    /// As of [`acquire`](Self::acquire).
    #[inline]
    pub(super) unsafe fn acquire_found(
        find: impl Fn() -> Option<NonNull<T>>,
    ) -> Option<NonNull<Self>> {
        // SAFETY: The module is loaded.
        let stats = unsafe { ENGINE.get() }.stats();
        // SAFETY: The object is there.
        let handle = find().and_then(|object| unsafe { Self::take(object) });
        let right = handle.filter(|&handle| {
            stats.counts.inc::<ACQUIRED>();
            // SAFETY: The handle is valid, and holds a reference.
            let right = unsafe {
                let object = (*handle.as_ptr()).object;
                find() == Some(object) && T::is_complete(object)
            };
            if !right {
                // SAFETY: Nobody else has seen the handle.
                unsafe { Self::give_back_uncounted(handle, Self::drained_uncounted) };
            }
            right
        });
        if right.is_none() {
            stats.counts.inc::<ACQUIRE_FAILED>();
        }
        right
    }

    /// # Safety
    ///
    /// As of [`acquire`](Self::acquire).
    #[inline]
    unsafe fn take(object: NonNull<T>) -> Option<NonNull<Self>> {
        // Memory before the reference, which, once taken, could not be dropped in every context.
        // SAFETY: The module is loaded.
        let reserve = unsafe { RESERVE.get() };
        let block = reserve.block()?;
        // SAFETY: The object is there. What is taken goes into the handle.
        if !unsafe { T::try_get(object) } {
            reserve.put_back(block);
            return None;
        }
        // INVARIANT: The handle takes over what `try_get` has taken.
        let handle = block.write(Self {
            slot: Opaque::zeroed(),
            object,
        });
        Some(handle.into_raw())
    }

    /// Gives the reference back, here or as soon as possible.
    ///
    /// Context: any.
    ///
    /// # Safety
    ///
    /// `handle` comes from [`acquire`](Self::acquire), and from each call of that there is at most
    /// one of this. The caller pins this module.
    #[inline]
    pub(super) unsafe fn release(handle: NonNull<Self>) {
        if in_nmi() {
            // SAFETY: The same is asked of the caller; the module is loaded.
            unsafe { ENGINE.get().give_back_in_nmi(Self::into_drop(handle)) };
        } else {
            // SAFETY: The same is asked of the caller.
            unsafe { Self::release_outside_nmi(handle) };
        }
    }

    /// A function of its own, so that in NMI no registers are saved for what is done here.
    ///
    /// # Safety
    ///
    /// As of [`release`](Self::release). The context is not NMI.
    #[inline(never)]
    unsafe fn release_outside_nmi(handle: NonNull<Self>) {
        // SAFETY: The same is asked of the caller; the module is loaded.
        unsafe { ENGINE.get().give_back_outside_nmi(Self::into_drop(handle)) };
    }

    /// # Safety
    ///
    /// As of [`release`](Self::release).
    #[inline(always)]
    unsafe fn into_drop(handle: NonNull<Self>) -> PendingDrop<T::DropsIn> {
        // SAFETY: The handle is valid, so is the place of its slot.
        let slot = unsafe { NonNull::new_unchecked((*handle.as_ptr()).slot.get()) };
        // SAFETY: The handle is the caller's, who gives it up: the slot is not in use, and `drained`
        // can be called once.
        unsafe { PendingDrop::new(slot, Self::drained) }
    }

    /// # Safety
    ///
    /// `slot` is that of a handle from [`acquire`](Self::acquire) which nobody uses any more. The
    /// context is what `T::DropsIn` says.
    unsafe extern "C" fn drained(slot: *mut kptr_defer_slot) {
        // SAFETY: By the safety requirement the slot is in a handle.
        let handle = unsafe { Self::from_slot(slot) };
        // SAFETY: By the type invariant what was taken is the handle's, which nobody uses any more.
        unsafe { T::put((*handle.as_ptr()).object) };
        if T::PUT_AFTER_READERS.is_some() {
            const { assert!(size_of::<callback_head>() <= size_of::<kptr_defer_slot>()) };
            // SAFETY: The slot is not in use any more, so there is room for the callback's node. The
            // module waits for its callbacks before it goes.
            unsafe { rcu::call(slot.cast(), Self::readers_gone) };
        } else {
            // SAFETY: By the safety requirement.
            unsafe { Self::free(handle) };
        }
    }

    /// Puts the handle on the queue, but not as a drop that anybody has asked for.
    ///
    /// # Safety
    ///
    /// The handle's slot is not in use. `dtor` may be called once, where `T::DropsIn` says, and begins
    /// with [`is_no_drop`](Self::is_no_drop).
    unsafe fn give_back_uncounted(handle: NonNull<Self>, dtor: Destructor) {
        // SAFETY: The handle is valid, so is the place of its slot.
        let slot = unsafe { NonNull::new_unchecked((*handle.as_ptr()).slot.get()) };
        // SAFETY: By the safety requirement.
        let drop = unsafe { PendingDrop::<T::DropsIn>::new(slot, dtor) };
        // SAFETY: The module is loaded, and waits for this before it goes.
        unsafe { ENGINE.get() }.defer(drop);
    }

    fn is_no_drop() {
        // SAFETY: The module waits for the queue before it goes.
        T::DropsIn::stats(unsafe { ENGINE.get() }.stats()).is_no_drop();
    }

    /// # Safety
    ///
    /// As of [`drained`](Self::drained).
    unsafe extern "C" fn drained_uncounted(slot: *mut kptr_defer_slot) {
        Self::is_no_drop();
        // SAFETY: The same is asked of the caller.
        unsafe { Self::drained(slot) };
    }

    /// # Safety
    ///
    /// `head` is the node in the slot of a handle, which has been put.
    unsafe extern "C" fn readers_gone(head: *mut callback_head) {
        // SAFETY: By the safety requirement it is in a handle.
        let handle = unsafe { Self::from_slot(head.cast()) };
        if T::DropsIn::ALWAYS_DEFERRED {
            // SAFETY: RCU has called back, so the slot is not in use.
            unsafe { Self::give_back_uncounted(handle, Self::put_rest_uncounted) };
        } else {
            // SAFETY: It has been put. A softirq will do where a hard interrupt does.
            unsafe { Self::put_rest(handle) };
        }
    }

    /// # Safety
    ///
    /// `slot` is that of a handle which has been put. The context is what `T::DropsIn` says.
    unsafe extern "C" fn put_rest_uncounted(slot: *mut kptr_defer_slot) {
        Self::is_no_drop();
        // SAFETY: By the safety requirement.
        unsafe { Self::put_rest(Self::from_slot(slot)) };
    }

    /// # Safety
    ///
    /// `handle` has been put, and nobody uses it any more. The context is what `T::DropsIn` says.
    unsafe fn put_rest(handle: NonNull<Self>) {
        if let Some(put) = T::PUT_AFTER_READERS {
            // SAFETY: By the type invariant what was taken is the handle's; `put` has given back the
            // other part.
            unsafe { put((*handle.as_ptr()).object) };
        }
        // SAFETY: By the safety requirement.
        unsafe { Self::free(handle) };
    }

    /// # Safety
    ///
    /// `slot` is that of a handle.
    unsafe fn from_slot(slot: *mut kptr_defer_slot) -> NonNull<Self> {
        let slot = Opaque::cast_from(slot);
        // SAFETY: By the safety requirement.
        unsafe { NonNull::new_unchecked(container_of!(slot, Self, slot).cast_mut()) }
    }

    /// # Safety
    ///
    /// `handle` comes from [`acquire`](Self::acquire), holds nothing any more, and nobody uses it.
    unsafe fn free(handle: NonNull<Self>) {
        // SAFETY: The engine is not dropped before its last handle is.
        unsafe { ENGINE.get() }.stats().counts.inc::<RELEASED>();
        // SAFETY: By the safety requirement; the memory of a handle is a block.
        let block = unsafe { NolockBox::from_raw(handle.cast()) };
        // SAFETY: The reserve goes after the last handle has been drained.
        unsafe { RESERVE.get() }.put_back(block);
    }
}

/// Defines what the kfuncs of a kind call, and asserts that BPF and Rust mean the same handle.
macro_rules! bpf_kind {
    ($kind:ident: $object:ty as $raw:ident) => {
        ::kernel::macros::paste! {
            const _: () = {
                use super::handle::Handle;
                use crate::bindings::{
                    [<kptr_defer_ $kind>],
                    $raw, //
                };
                use core::{
                    mem::offset_of,
                    ptr::{
                        self,
                        NonNull, //
                    },
                };

                assert!(size_of::<$object>() == size_of::<$raw>());
                assert!(size_of::<Handle<$object>>() == size_of::<[<kptr_defer_ $kind>]>());
                assert!(
                    offset_of!(Handle<$object>, object) == offset_of!([<kptr_defer_ $kind>], $kind)
                );
                assert!(
                    offset_of!(Handle<$object>, slot) == offset_of!([<kptr_defer_ $kind>], slot)
                );

                /// # Safety
                ///
                /// For the kfunc only: `object` is a trusted or an RCU pointer.
                #[no_mangle]
                unsafe extern "C" fn [<kptr_defer_rust_ $kind _acquire>](
                    object: NonNull<$raw>,
                ) -> *mut [<kptr_defer_ $kind>] {
                    // SAFETY: BPF guarantees that the object is there during the call; its type in
                    // Rust is a transparent wrapper. A program that calls a kfunc pins the module.
                    let handle = unsafe { Handle::acquire(object.cast::<$object>()) };
                    handle.map_or(ptr::null_mut(), |handle| handle.cast().as_ptr())
                }

                /// # Safety
                ///
                /// For the kfunc and the destructor only: `handle` comes from acquire, and is given
                /// up.
                #[no_mangle]
                unsafe extern "C" fn [<kptr_defer_rust_ $kind _release>](
                    handle: NonNull<[<kptr_defer_ $kind>]>,
                ) {
                    // SAFETY: BPF guarantees that. The program or the map pins the module.
                    unsafe { Handle::release(handle.cast::<Handle<$object>>()) };
                }
            };
        }
    };
}
pub(super) use bpf_kind;
