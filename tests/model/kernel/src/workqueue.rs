// SPDX-License-Identifier: GPL-2.0

//! Work items. The workqueue runs them one after the other, in the thread that calls
//! [`Queue::run_all`].

use crate::{
    shadow,
    sync::{
        aref::{
            ARef,
            AlwaysRefCounted, //
        },
        atomic::full, //
    },
};
use core::marker::PhantomData;
use loom::sync::{
    atomic::AtomicBool,
    Condvar,
    Mutex, //
};
use pinned_init::PinInit;
use std::{
    collections::VecDeque,
    sync::Arc, //
};

pub struct Work<T: ?Sized, const ID: u64 = 0>(u8, PhantomData<*const T>);

// SAFETY: What it stands for is atomic.
unsafe impl<T: ?Sized, const ID: u64> Sync for Work<T, ID> {}
// SAFETY: As above.
unsafe impl<T: ?Sized, const ID: u64> Send for Work<T, ID> {}

impl<T: ?Sized, const ID: u64> Work<T, ID> {
    pub fn new() -> impl PinInit<Self>
    where
        T: Sized,
    {
        let init = |slot: *mut Self| {
            // SAFETY: The caller passes a place for it.
            unsafe { slot.write(Self(0, PhantomData)) };
            Ok(())
        };
        // SAFETY: It is initialised.
        unsafe { pinned_init::pin_init_from_closure(init) }
    }

    /// # Safety
    ///
    /// It is valid.
    pub unsafe fn raw_get(this: *const Self) -> *mut u8 {
        this.cast_mut().cast()
    }

    fn is_pending(&self) -> Arc<AtomicBool> {
        shadow::of(&self.0, || AtomicBool::new(false))
    }
}

/// # Safety
///
/// `work` is a field of it.
pub unsafe trait HasWork<const ID: u64>: Sized {
    fn work(&self) -> &Work<Self, ID>;
}

pub trait WorkItem<const ID: u64 = 0> {
    type Pointer;

    fn run(this: Self::Pointer);
}

pub trait RawWorkItem<const ID: u64> {
    type EnqueueOutput;

    fn enqueue_on(self, queue: &Queue) -> Self::EnqueueOutput;
}

impl<T, const ID: u64> RawWorkItem<ID> for ARef<T>
where
    T: AlwaysRefCounted + HasWork<ID> + WorkItem<ID, Pointer = ARef<T>> + Sync + 'static,
{
    type EnqueueOutput = Result<(), Self>;

    /// As `queue_work()` and `process_one_work()`: it is not pending any more when it runs.
    fn enqueue_on(self, queue: &Queue) -> Result<(), Self> {
        let is_pending = self.work().is_pending();
        if full(|order| is_pending.swap(true, order)) {
            return Err(self);
        }
        let mut waiting = queue.0.waiting.lock().unwrap();
        waiting.push_back(Box::new(move || {
            full(|order| is_pending.swap(false, order));
            T::run(self);
        }));
        drop(waiting);
        queue.0.changed.notify_all();
        Ok(())
    }
}

type Runs = Box<dyn FnOnce() + Send>;

struct Waiting {
    waiting: Mutex<VecDeque<Runs>>,
    changed: Condvar,
}

/// A `struct workqueue_struct`.
pub struct Queue(Waiting);

impl Queue {
    pub fn new() -> Self {
        Self(Waiting {
            waiting: Mutex::new(VecDeque::new()),
            changed: Condvar::new(),
        })
    }

    /// # Safety
    ///
    /// It is valid as long as the result is used.
    pub unsafe fn from_raw<'a>(queue: *const Queue) -> &'a Queue {
        // SAFETY: The caller promises that it is valid.
        unsafe { &*queue }
    }

    pub fn enqueue<W: RawWorkItem<ID>, const ID: u64>(&self, work: W) -> W::EnqueueOutput {
        work.enqueue_on(self)
    }

    /// A kworker: runs what is there, and what comes, until `is_done` says that nothing will.
    pub fn run_all(&self, is_done: impl Fn() -> bool) {
        loop {
            let mut waiting = self.0.waiting.lock().unwrap();
            let runs = loop {
                if let Some(runs) = waiting.pop_front() {
                    break runs;
                }
                if is_done() {
                    return;
                }
                waiting = self.0.changed.wait(waiting).unwrap();
            };
            drop(waiting);
            runs();
        }
    }

    /// Has the kworker see whether it is done.
    pub fn wake(&self) {
        drop(self.0.waiting.lock());
        self.0.changed.notify_all();
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self::new()
    }
}
