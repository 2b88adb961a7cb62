// SPDX-License-Identifier: GPL-2.0

//! The macro is given a field that is no slot, though it leads to one.

#[path = "../../include/kptr_defer.rs"]
mod kptr_defer;

use kernel::prelude::*;
use kptr_defer::{
    impl_has_slot,
    Slot, //
};

struct Thing {
    slot: Slot,
    boxed: KBox<Slot>,
}

#[cfg(not(misuse))]
impl_has_slot! {
    impl HasSlot for Thing { self.slot }
}

#[cfg(misuse)]
impl_has_slot! {
    impl HasSlot for Thing { self.boxed } //~ expected `*mut Slot`, found `*mut Box<Slot, Kmalloc>`
}
