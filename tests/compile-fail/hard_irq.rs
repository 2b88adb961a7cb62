// SPDX-License-Identifier: GPL-2.0

//! A drop runs in hard interrupt context, and nobody has promised that it may.

#[path = "../../include/kptr_defer.rs"]
mod kptr_defer;

use kptr_defer::{
    impl_has_slot,
    Deferred,
    DeferredArc,
    DropsInHardIrq,
    InHardIrq,
    Slot, //
};

struct Thing {
    slot: Slot,
}

impl_has_slot! {
    impl HasSlot for Thing { self.slot }
}

#[cfg(not(misuse))]
// SAFETY: Has no destructor.
unsafe impl DropsInHardIrq for Thing {}

struct Keeper {
    thing: Deferred<Thing, InHardIrq>, //~ `kptr_defer::DropContext<Thing>`
}

struct Sharer {
    thing: DeferredArc<Thing, InHardIrq>, //~ `kptr_defer::DropContext<Arc<Thing>>`
}
