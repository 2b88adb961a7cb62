// SPDX-License-Identifier: GPL-2.0

//! Something is shared with a drop on another CPU that may not be shared.

#[path = "../../include/kptr_defer.rs"]
mod kptr_defer;

use core::cell::Cell;
use kptr_defer::{
    impl_has_slot,
    DeferredArc,
    DeferredBox,
    Slot, //
};

struct Thing {
    slot: Slot,
    count: Cell<u32>,
}

impl_has_slot! {
    impl HasSlot for Thing { self.slot }
}

struct Owner {
    thing: DeferredBox<Thing>,
}

#[cfg(misuse)]
struct Sharer {
    thing: DeferredArc<Thing>, //~ cannot be shared between threads safely
}
