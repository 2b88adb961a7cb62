// SPDX-License-Identifier: GPL-2.0

//! Objects that CPUs give back, and what has to be true of how they are dropped.

use crate::{
    bindings::kptr_defer_slot,
    defer::pending::PendingDrop,
    nmi, //
};
use loom::{
    cell::UnsafeCell,
    sync::atomic::AtomicBool, //
};
use std::{
    ptr::{
        self,
        NonNull, //
    },
    sync::{
        atomic::{
            AtomicU32,
            Ordering::Relaxed, //
        },
        Arc, //
    },
};

/// What drops have in common. It orders nothing.
#[derive(Default)]
pub(crate) struct Tally {
    /// In each lane; loom's, so that it tries what may come in between.
    is_dropping: [AtomicBool; 2],
    /// The number of the last one of each CPU, in each lane.
    last_of_cpu: [[AtomicU32; CPUS]; 2],
    pub(crate) given_back: AtomicU32,
    pub(crate) dropped: AtomicU32,
}

/// Two, an NMI on one of them, and what has been there before.
pub(crate) const CPUS: usize = 4;

/// Whoever gives it back does so for the CPU, with numbers that rise from one.
#[repr(C)]
struct Object {
    slot: kptr_defer_slot,
    /// Written to by the one who gives it back, and then by the one who drops it.
    content: UnsafeCell<u32>,
    cpu: usize,
    number: u32,
    lane: usize,
    tally: Arc<Tally>,
}

/// A lane of the queue.
pub(crate) trait LaneNumber {
    const NUMBER: usize;
}

impl LaneNumber for crate::defer::pending::InHardIrq {
    const NUMBER: usize = 0;
}

impl LaneNumber for crate::defer::pending::InProcess {
    const NUMBER: usize = 1;
}

/// A new object, to be given back.
pub(crate) fn object<C: LaneNumber>(tally: &Arc<Tally>, cpu: usize, number: u32) -> PendingDrop<C> {
    let object = Box::into_raw(Box::new(Object {
        slot: kptr_defer_slot {
            node: crate::bindings::llist_node {
                next: ptr::null_mut(),
            },
            dtor: None,
        },
        content: UnsafeCell::new(0),
        cpu,
        number,
        lane: C::NUMBER,
        tally: tally.clone(),
    }));
    tally.given_back.fetch_add(1, Relaxed);
    // SAFETY: loom ends the model if another thread may be using it.
    unsafe { (*object).content.with_mut(|content| *content = number) };
    // SAFETY: It is not at null, and nobody else's; `drop_object` takes it back.
    unsafe { PendingDrop::new(NonNull::new_unchecked(object.cast()), drop_object) }
}

/// # Safety
///
/// It is the slot of an object, which nobody else has.
unsafe extern "C" fn drop_object(slot: *mut kptr_defer_slot) {
    // SAFETY: The slot is the first in it, and it comes from a box.
    let object = unsafe { Box::from_raw(slot.cast::<Object>()) };
    let Tally {
        is_dropping,
        last_of_cpu,
        dropped,
        ..
    } = &*object.tally;
    assert!(
        !is_dropping[object.lane].swap(true, Relaxed),
        "two drain at once"
    );
    nmi::may_come();
    object.content.with_mut(|content| {
        // SAFETY: loom ends the model if another thread may be using it.
        let number = unsafe { content.replace(0) };
        assert_eq!(number, object.number, "the object is another one");
    });
    let last = last_of_cpu[object.lane][object.cpu].swap(object.number, Relaxed);
    assert_eq!(last + 1, object.number, "not the oldest first");
    dropped.fetch_add(1, Relaxed);
    is_dropping[object.lane].store(false, Relaxed);
}

impl Tally {
    /// The number of the last that a CPU has given back, of those that need not sleep.
    pub(crate) fn dropped_of(&self, cpu: usize) -> u32 {
        self.last_of_cpu[0][cpu].load(Relaxed)
    }
}
