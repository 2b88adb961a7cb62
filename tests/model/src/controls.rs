// SPDX-License-Identifier: GPL-2.0

//! Wrong ways of giving back a reference, which have to be found out.

use crate::{
    bindings::kptr_defer_slot,
    borrowed::Last,
    count::{
        is_counted,
        Count, //
    },
    object::{
        Manner,
        Object, //
    },
};
use loom::sync::atomic::Ordering::{
    Acquire,
    Relaxed,
    Release, //
};
use std::ptr::NonNull;

/// Looks first, gives back then: two steps.
pub(crate) struct NotAtomic;

impl Manner for NotAtomic {
    fn put_unless_last(count: &Count) -> bool {
        if is_counted(count.0.load(Acquire)) == 1 {
            return false;
        }
        is_counted(count.0.fetch_sub(1, Release));
        true
    }
}

/// The last is given back, too, and then queued.
pub(crate) struct GivesUpTheLast;

impl Manner for GivesUpTheLast {
    fn put_unless_last(count: &Count) -> bool {
        !count.dec_and_test()
    }
}

/// Any reference is queued, be it the last or not.
pub(crate) struct QueuesAny;

impl Manner for QueuesAny {
    fn put_unless_last(_: &Count) -> bool {
        false
    }
}

/// Whoever is told that theirs is the last does not wait for what others did before.
pub(crate) struct LastIsUnordered;

impl Manner for LastIsUnordered {
    fn put_unless_last(count: &Count) -> bool {
        let mut val = is_counted(count.0.load(Relaxed));
        while val != 1 {
            match count.0.compare_exchange(val, val - 1, Release, Relaxed) {
                Ok(_) => return true,
                Err(now) => val = is_counted(now),
            }
        }
        false
    }
}

/// What was done with a reference is not over when it is given back.
pub(crate) struct PutIsUnordered;

impl Manner for PutIsUnordered {
    fn put_unless_last(count: &Count) -> bool {
        let mut val = is_counted(count.0.load(Acquire));
        while val != 1 {
            match count.0.compare_exchange(val, val - 1, Relaxed, Acquire) {
                Ok(_) => return true,
                Err(now) => val = is_counted(now),
            }
        }
        false
    }

    fn put(count: &Count) -> bool {
        is_counted(count.0.fetch_sub(1, Acquire)) == 1
    }
}

/// The drain looks for the next node after it has given back the reference.
pub(crate) struct DrainLooksLater;

impl Manner for DrainLooksLater {
    unsafe extern "C" fn drained(slot: *mut kptr_defer_slot) {
        // SAFETY: The caller promises that it comes from `Last::queue`.
        let last = unsafe { Last::<Object<Self>>::from_queue(NonNull::new_unchecked(slot)) };
        last.put();
        // SAFETY: Objects of the model keep their memory until it is done.
        unsafe { (*slot).next() };
    }
}
