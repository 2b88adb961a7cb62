// SPDX-License-Identifier: GPL-2.0

//! NMIs: they come on the CPU that a piece of code runs on, in between.
//!
//! To loom a CPU is a thread. What interrupts it is called from inside it, at one of the places that
//! say [`may_come`]. A model is run again and again, each time with the NMI one place later, until
//! there are no more places.

use std::{
    cell::RefCell,
    sync::atomic::{
        AtomicBool,
        AtomicUsize,
        Ordering::Relaxed, //
    },
};

struct Nmi {
    places_before: usize,
    handler: Box<dyn FnOnce()>,
}

loom::thread_local! {
    static NEXT: RefCell<Option<Nmi>> = RefCell::new(None);
}

static PLACES_BEFORE: AtomicUsize = AtomicUsize::new(0);
static HAS_COME: AtomicBool = AtomicBool::new(false);

/// Goes on to the next place, if an NMI has come at this one.
pub(crate) fn is_one_place_later() -> bool {
    PLACES_BEFORE.fetch_add(1, Relaxed);
    HAS_COME.swap(false, Relaxed)
}

/// Has an NMI come on this CPU.
pub(crate) fn will_come(handler: impl FnOnce() + 'static) {
    NEXT.with(|next| {
        next.replace(Some(Nmi {
            places_before: PLACES_BEFORE.load(Relaxed),
            handler: Box::new(handler),
        }))
    });
}

/// A place for an NMI.
pub(crate) fn may_come() {
    let comes = NEXT.with(|next| {
        let mut next = next.borrow_mut();
        let nmi = next.as_mut()?;
        match nmi.places_before.checked_sub(1) {
            Some(left) => {
                nmi.places_before = left;
                None
            }
            None => next.take(),
        }
    });
    if let Some(nmi) = comes {
        HAS_COME.store(true, Relaxed);
        (nmi.handler)();
    }
}
