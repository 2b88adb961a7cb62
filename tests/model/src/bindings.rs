// SPDX-License-Identifier: GPL-2.0

//! What `defer/borrowed.rs` imports: a slot, and the queue, on loom.
//!
//! The list is `include/linux/llist.h`, and it is drained as `defer/queue.rs` does it, turned round
//! first, by one at a time. Where the kernel has full barriers, acquire and release are all that is
//! used here.

use crate::nmi;
use loom::{
    cell::UnsafeCell,
    sync::atomic::{
        AtomicPtr,
        Ordering::{
            AcqRel,
            Relaxed, //
        },
    },
};
use std::{
    ptr,
    sync::atomic::{
        AtomicBool,
        Ordering, //
    },
};

pub(crate) type Destructor = unsafe extern "C" fn(*mut kptr_defer_slot);

/// Memory in an object: the queue's node, or what the object's death needs.
#[expect(non_camel_case_types)]
pub(crate) struct kptr_defer_slot {
    /// loom finds accesses by two threads that nothing orders.
    memory: UnsafeCell<Node>,
    /// What ought to be true; it orders nothing.
    is_queued: AtomicBool,
}

struct Node {
    next: *mut kptr_defer_slot,
    dtor: Option<Destructor>,
}

impl kptr_defer_slot {
    pub(crate) fn new() -> Self {
        Self {
            memory: UnsafeCell::new(Node {
                next: ptr::null_mut(),
                dtor: None,
            }),
            is_queued: AtomicBool::new(false),
        }
    }

    /// What `call_rcu()` and `queue_work()` do with the memory.
    #[track_caller]
    pub(crate) fn overwrite(&self) {
        assert!(
            !self.is_queued.load(Ordering::Relaxed),
            "the node is overwritten while it is on the queue"
        );
        self.write(|node| node.dtor = None);
    }

    #[track_caller]
    pub(crate) fn next(&self) -> *mut kptr_defer_slot {
        // SAFETY: loom ends the model if another thread may be writing.
        self.memory.with(|node| unsafe { (*node).next })
    }

    #[track_caller]
    fn dtor(&self) -> Option<Destructor> {
        // SAFETY: As above.
        self.memory.with(|node| unsafe { (*node).dtor })
    }

    #[track_caller]
    fn write<R>(&self, write: impl FnOnce(&mut Node) -> R) -> R {
        // SAFETY: loom ends the model if another thread may be using it.
        self.memory.with_mut(|node| write(unsafe { &mut *node }))
    }
}

loom::lazy_static! {
    static ref FIRST: AtomicPtr<kptr_defer_slot> = AtomicPtr::new(ptr::null_mut());
}

/// Makes the queue; left to whoever uses it first, that would order what they do.
pub(crate) fn queue_init() {
    FIRST.load(Relaxed);
}

/// In NMI: puts the slot on the queue.
///
/// # Safety
///
/// `slot` is valid until `dtor` has been called with it.
pub(crate) unsafe fn kptr_defer_drop(slot: *mut kptr_defer_slot, dtor: Option<Destructor>) -> bool {
    // SAFETY: The caller promises that it is valid.
    let node = unsafe { &*slot };
    assert!(
        !node.is_queued.swap(true, Ordering::Relaxed),
        "the node is on the queue already"
    );
    node.write(|node| node.dtor = dtor);

    let mut first = FIRST.load(Relaxed);
    loop {
        node.write(|node| node.next = first);
        nmi::may_come();
        match FIRST.compare_exchange(first, slot, AcqRel, Relaxed) {
            Ok(_) => break,
            Err(now) => first = now,
        }
    }
    nmi::may_come();
    true
}

/// Runs the drops until it finds the queue empty.
///
/// # Safety
///
/// What is on the queue is still valid; nobody else drains.
pub(crate) unsafe fn drain() {
    loop {
        let mut newest_first = FIRST.swap(ptr::null_mut(), AcqRel);
        if newest_first.is_null() {
            return;
        }
        let mut oldest_first = ptr::null_mut();
        // SAFETY: The caller promises that the slots are valid.
        while let Some(node) = unsafe { newest_first.as_ref() } {
            let slot = newest_first;
            newest_first = node.next();
            node.write(|node| node.next = oldest_first);
            oldest_first = slot;
        }
        // SAFETY: As above.
        while let Some(node) = unsafe { oldest_first.as_ref() } {
            let slot = oldest_first;
            oldest_first = node.next();
            let dtor = node
                .dtor()
                .expect("who queues a node gives it a destructor");
            node.is_queued.store(false, Ordering::Relaxed);
            nmi::may_come();
            // SAFETY: It is what was queued with the slot, and is called once.
            unsafe { dtor(slot) };
            nmi::may_come();
        }
    }
}
