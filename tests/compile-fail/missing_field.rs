// SPDX-License-Identifier: GPL-2.0

//! The macro is given a field that is not there.

#[path = "../../include/kptr_defer.rs"]
mod kptr_defer;

use kptr_defer::{
    impl_has_slot,
    Slot, //
};

struct Thing {
    slot: Slot,
}

#[cfg(not(misuse))]
impl_has_slot! {
    impl HasSlot for Thing { self.slot }
}

#[cfg(misuse)]
impl_has_slot! {
    impl HasSlot for Thing { self.slots } //~ no field `slots` on type
}
