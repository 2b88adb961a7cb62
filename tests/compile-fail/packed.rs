// SPDX-License-Identifier: GPL-2.0

//! The slot is where it may not be well aligned.

#[path = "../../include/kptr_defer.rs"]
mod kptr_defer;

use kptr_defer::{
    impl_has_slot,
    Slot, //
};

#[cfg_attr(misuse, repr(C, packed))]
struct Thing {
    byte: u8,
    slot: Slot,
}

impl_has_slot! {
    impl HasSlot for Thing { self.slot } //~ reference to packed field is unaligned
}
