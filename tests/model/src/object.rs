// SPDX-License-Identifier: GPL-2.0

//! An object with a count and memory for its own death, and references to it.

use crate::{
    bindings::{
        drain,
        kptr_defer_slot,
        queue_init, //
    },
    borrowed::{
        Last,
        LastReference, //
    },
    count::Count,
    nmi,
};
use loom::cell::UnsafeCell;
use std::{
    marker::PhantomData,
    mem::offset_of,
    ptr::NonNull,
    sync::atomic::{
        AtomicU32,
        Ordering::Relaxed, //
    },
};

/// How references are given back: as the kernel does it, or in a way that is known to be wrong.
pub(crate) trait Manner: Sized + 'static {
    fn put_unless_last(count: &Count) -> bool {
        count.dec_not_one()
    }

    /// Tells whether it was the last.
    fn put(count: &Count) -> bool {
        count.dec_and_test()
    }

    /// What the drain calls.
    ///
    /// # Safety
    ///
    /// `slot` comes from [`Last::queue`].
    unsafe extern "C" fn drained(slot: *mut kptr_defer_slot) {
        // SAFETY: Slots are not at null; the caller promises the rest.
        unsafe { Last::<Object<Self>>::from_queue(NonNull::new_unchecked(slot)) }.put();
    }
}

pub(crate) struct Kernel;

impl Manner for Kernel {}

pub(crate) struct Object<M> {
    count: Count,
    /// Holders look at it, the death of the object writes to it.
    is_alive: UnsafeCell<bool>,
    idle_memory: kptr_defer_slot,
    tally: Tally,
    _manner: PhantomData<M>,
}

/// What has happened. It orders nothing: these are not loom's atomics.
#[derive(Default)]
struct Tally {
    taken: AtomicU32,
    given_back: AtomicU32,
    queued: AtomicU32,
    deaths: AtomicU32,
}

impl<M: Manner> Object<M> {
    fn dies(&self) {
        self.idle_memory.overwrite();
        // SAFETY: loom ends the model if another thread may be using it.
        self.is_alive.with_mut(|alive| unsafe { *alive = false });
        self.tally.deaths.fetch_add(1, Relaxed);
    }
}

// SAFETY: For `Kernel` as the trait asks. The rest is there to be found out.
unsafe impl<M: Manner> LastReference for Object<M> {
    unsafe fn put_unless_last(object: NonNull<Self>) -> bool {
        // SAFETY: The caller owns a reference.
        let object = unsafe { object.as_ref() };
        let put = M::put_unless_last(&object.count);
        object.tally.given_back.fetch_add(put.into(), Relaxed);
        put
    }

    unsafe fn put(object: NonNull<Self>) {
        // SAFETY: Objects of the model keep their memory until it is done.
        let object = unsafe { object.as_ref() };
        object.tally.given_back.fetch_add(1, Relaxed);
        if M::put(&object.count) {
            object.dies();
        }
    }

    unsafe fn idle_memory(object: NonNull<Self>) -> NonNull<kptr_defer_slot> {
        // SAFETY: The object is valid, so is a field of it.
        unsafe { NonNull::new_unchecked(&raw mut (*object.as_ptr()).idle_memory) }
    }

    unsafe fn from_idle_memory(memory: NonNull<kptr_defer_slot>) -> NonNull<Self> {
        // SAFETY: The caller promises that this is a field of an object.
        unsafe { memory.byte_sub(offset_of!(Self, idle_memory)) }.cast()
    }
}

/// A reference. Nothing happens when it is dropped: it has to be given back.
#[must_use]
pub(crate) struct Held<M>(NonNull<Object<M>>);

// SAFETY: All of an object is atomic, or watched by loom.
unsafe impl<M> Send for Held<M> {}

impl<M: Manner> Held<M> {
    fn object(&self) -> &Object<M> {
        // SAFETY: Objects of the model keep their memory until it is done.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn look(&self) {
        // SAFETY: loom ends the model if another thread may be writing.
        let alive = self.object().is_alive.with(|alive| unsafe { *alive });
        assert!(alive, "the object has died under a holder");
    }

    /// As the guard does it in NMI.
    pub(crate) fn drop_in_nmi(self) {
        self.look();
        // SAFETY: The reference is given up.
        if let Some(last) = unsafe { Last::of(self.0) } {
            self.object().tally.queued.fetch_add(1, Relaxed);
            nmi::may_come();
            // SAFETY: `drained` takes it from there, and can be called until the model is done.
            unsafe { last.queue(M::drained) };
        }
    }

    /// As the kernel does it outside NMI.
    pub(crate) fn drop_elsewhere(self) {
        self.look();
        // SAFETY: The reference is given up.
        unsafe { Object::put(self.0) };
    }
}

/// The object as those see it who hold no reference: its memory does not go away.
pub(crate) struct Found<M>(NonNull<Object<M>>);

// SAFETY: As for `Held`.
unsafe impl<M> Send for Found<M> {}

impl<M> Clone for Found<M> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<M: Manner> Found<M> {
    /// A new object, to which there are `N` references.
    pub(crate) fn new<const N: usize>() -> (Self, [Held<M>; N]) {
        queue_init();
        let references = N as u32;
        let object = NonNull::from(Box::leak(Box::new(Object {
            count: Count::new(references),
            is_alive: UnsafeCell::new(true),
            idle_memory: kptr_defer_slot::new(),
            tally: Tally {
                taken: references.into(),
                ..Tally::default()
            },
            _manner: PhantomData,
        })));
        (Self(object), [(); N].map(|()| Held(object)))
    }

    pub(crate) fn acquire(&self) -> Option<Held<M>> {
        // SAFETY: Objects of the model keep their memory until it is done.
        let object = unsafe { self.0.as_ref() };
        object.count.inc_not_zero().then(|| {
            object.tally.taken.fetch_add(1, Relaxed);
            Held(self.0)
        })
    }

    /// As the work item that takes a css offline uses the memory, long before the css dies.
    #[track_caller]
    pub(crate) fn use_idle_memory(&self) {
        // SAFETY: Objects of the model keep their memory until it is done.
        unsafe { self.0.as_ref() }.idle_memory.overwrite();
    }

    /// All threads are done: drains, and tells how often the object has been queued.
    pub(crate) fn ends(self) -> u32 {
        // SAFETY: The objects are still there, and there is no other thread any more.
        unsafe { drain() };
        // SAFETY: There is nobody else who knows it any more.
        let object = unsafe { Box::from_raw(self.0.as_ptr()) };
        let [taken, given_back, queued, deaths] = [
            object.tally.taken,
            object.tally.given_back,
            object.tally.queued,
            object.tally.deaths,
        ]
        .map(AtomicU32::into_inner);
        assert_eq!(deaths, 1, "deaths of the object");
        assert_eq!(given_back, taken, "references given back");
        queued
    }
}
