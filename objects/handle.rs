// SPDX-License-Identifier: GPL-2.0

//! A handle: the small object of ours that a BPF program holds in place of somebody else's.
//!
//! It brings along the slot that its drop may need. Its memory is the price, paid when the reference
//! is taken, where failing is allowed.

use super::reserve::RESERVE;
use crate::{
    abstractions::nolock::NolockBox,
    bindings::kptr_defer_slot,
    defer::{
        pending::PendingDrop,
        ENGINE, //
    },
};
use core::ptr::NonNull;
use kernel::{
    container_of,
    sync::aref::{
        ARef,
        AlwaysRefCounted, //
    },
    types::Opaque, //
};

/// An object that handles can hold.
///
/// # Safety
///
/// Dropping its [`ARef`] is fit for hard interrupt context, as all destructors of BPF kptrs have to
/// be.
pub(crate) unsafe trait Object:
    AlwaysRefCounted + Sized + Send + Sync + 'static
{
    /// Whether nobody should take new references any more.
    ///
    /// Context: any.
    fn is_dying(&self) -> bool;
}

/// A reference to an object, and the slot for giving it back.
///
/// # Invariants
///
/// `object` comes from [`ARef::into_raw`]; its reference is the handle's.
#[repr(C)]
pub(crate) struct Handle<T: Object> {
    pub(super) object: NonNull<T>,
    pub(super) slot: Opaque<kptr_defer_slot>,
}

impl<T: Object> Handle<T> {
    /// Takes a reference to `object`. `None` when there is no memory or the object is dying.
    ///
    /// Context: any.
    ///
    /// # Safety
    ///
    /// The caller pins this module, as a BPF program does by its kfuncs.
    #[inline]
    pub(super) unsafe fn acquire(object: &T) -> Option<NonNull<Self>> {
        // SAFETY: The module is loaded.
        let (stats, reserve) = unsafe { (ENGINE.get().stats(), RESERVE.get()) };
        // Memory before the reference, which, once taken, could not be dropped in every context.
        let block = if object.is_dying() {
            None
        } else {
            reserve.block()
        };
        let handle = block.map(|block| {
            // INVARIANT: The handle takes the reference over.
            block.write(Self {
                object: ARef::into_raw(ARef::from(object)),
                slot: Opaque::zeroed(),
            })
        });
        match handle {
            Some(_) => stats.acquired.inc(),
            None => stats.acquire_failed.inc(),
        }
        handle.map(NolockBox::into_raw)
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
        // SAFETY: The handle is valid, so is the place of its slot.
        let slot = unsafe { NonNull::new_unchecked((*handle.as_ptr()).slot.get()) };
        // SAFETY: The handle is the caller's, who gives it up: the slot is not in use, and `free` can
        // be called once.
        let drop = unsafe { PendingDrop::new(slot, Self::free) };
        // SAFETY: The module is loaded.
        unsafe { ENGINE.get() }.give_back(drop);
    }

    /// # Safety
    ///
    /// `slot` is that of a handle from [`acquire`](Self::acquire) which nobody uses any more.
    unsafe extern "C" fn free(slot: *mut kptr_defer_slot) {
        let slot = Opaque::cast_from(slot);
        // SAFETY: By the safety requirement the slot is in a handle.
        let handle = unsafe { container_of!(slot, Self, slot) };
        // SAFETY: By the safety requirement; the memory of a handle comes from a `NolockBox`.
        drop(unsafe { NolockBox::from_raw(NonNull::new_unchecked(handle.cast_mut())) });
    }
}

impl<T: Object> Drop for Handle<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is ours.
        drop(unsafe { ARef::from_raw(self.object) });
        // SAFETY: The engine is not dropped before its last drop is done.
        unsafe { ENGINE.get() }.stats().released.inc();
    }
}

/// Defines what the kfuncs of a kind call, and asserts that BPF and Rust mean the same handle.
macro_rules! bpf_kind {
    ($object:ty as $raw:ident, in $handle:ident . $field:ident {
        acquire: $acquire:ident,
        release: $release:ident $(,)?
    }) => {
        const _: () = {
            use super::handle::Handle;
            use crate::bindings::{
                $handle,
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
            assert!(size_of::<Handle<$object>>() == size_of::<$handle>());
            assert!(offset_of!(Handle<$object>, object) == offset_of!($handle, $field));
            assert!(offset_of!(Handle<$object>, slot) == offset_of!($handle, slot));

            /// # Safety
            ///
            /// For the kfunc only: `object` is a trusted or an RCU pointer.
            #[no_mangle]
            unsafe extern "C" fn $acquire(object: NonNull<$raw>) -> *mut $handle {
                // SAFETY: BPF guarantees that the object is there during the call; its type in Rust
                // is a transparent wrapper. A program that calls a kfunc pins the module.
                let handle = unsafe { Handle::acquire(object.cast::<$object>().as_ref()) };
                handle.map_or(ptr::null_mut(), |handle| handle.cast().as_ptr())
            }

            /// # Safety
            ///
            /// For the kfunc and the destructor only: `handle` comes from acquire, and is given up.
            #[no_mangle]
            unsafe extern "C" fn $release(handle: NonNull<$handle>) {
                // SAFETY: BPF guarantees that. The program or the map pins the module.
                unsafe { Handle::release(handle.cast::<Handle<$object>>()) };
            }
        };
    };
}
pub(super) use bpf_kind;
