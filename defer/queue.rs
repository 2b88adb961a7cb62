// SPDX-License-Identifier: GPL-2.0

//! The queue: one `irq_work`, and a lane for each context that drops may need: one list, one drainer
//! at a time.
//!
//! # Words
//!
//! A drop is *deferred* when it goes onto the queue and *drained* when it has been run from there. A
//! *batch* is what was on the list when the drainer took it. The *drainer* is whoever holds the
//! baton: the `irq_work`, or the work item that it has passed the baton on to.
//!
//! ```text
//!   any context         hard irq                                    process context
//!   ───────────         ────────                                    ───────────────
//!   add to the list
//!   was it empty? ─────> take the baton, else leave
//!                        ┌> take the list: a batch
//!                        │  turn it round: oldest first
//!                        │  run the drops ── over budget? ─────────> take the baton over
//!                        │  put the baton down                       go on until the list is empty
//!                        └─ has something come in?                   put the baton down, look again
//! ```
//!
//! # Why nothing is lost
//!
//! A drop that finds the list empty raises the `irq_work`. It does not when it finds a drop there
//! already, which whoever has raised it for that one will find in the same batch. An `irq_work` that
//! finds the baton held leaves: then the holder, who has yet to put it down, looks at the list after
//! that ([`baton`](crate::abstractions::baton)). A baton that has been passed on is held by a work item that
//! has been queued, and will run.
//!
//! # Why it is bounded
//!
//! In hard interrupt context the drainer turns round and runs at most `budget` drops, over all the
//! batches it takes. A batch that is longer goes to the workqueue as it is: its oldest drops are at
//! its end. On `PREEMPT_RT` all do: there the locks of a destructor may sleep.
//!
//! # Drops that may sleep
//!
//! They have a lane of their own ([`sleepable`](super::sleepable)), which the `irq_work` leaves to its
//! work item at once: nothing waits behind a drop that sleeps but others that may.

use super::{
    pending::{
        InHardIrq,
        InProcess,
        PendingDrop, //
    },
    sleepable::SLEEPABLE,
    stats::{
        LaneStats,
        Since,
        Stats,
        DEFERRED,
        INLINE, //
    },
    trace,
    when::DeferWhen, //
};
use crate::abstractions::{
    baton::{
        Baton,
        Held, //
    },
    context::{
        cond_resched,
        in_nmi,
        without_preemption, //
    },
    irq_work::{
        self,
        IrqWork, //
    },
    llist::{
        Chain,
        LockLessList, //
    },
    workqueue::OwnQueue,
};
use core::{
    mem,
    ptr::NonNull, //
};
use kernel::{
    impl_has_work, new_work,
    prelude::*,
    sync::aref::{
        ARef,
        AlwaysRefCounted, //
    },
    workqueue::{
        Work,
        WorkItem, //
    },
};

/// What a drainer has taken off the list and not run.
struct Batch {
    /// As they come off the list.
    newest_first: Chain<PendingDrop<InHardIrq>>,
    /// Turned round, ready to run. Complete once `newest_first` is empty.
    oldest_first: Chain<PendingDrop<InHardIrq>>,
    turned: u64,
    /// When the oldest was deferred.
    since: Since,
}

/// Whether a drainer is done.
#[derive(PartialEq)]
enum Drained {
    /// The list was found empty.
    All,
    /// The budget was spent first.
    Partly,
}

impl Batch {
    const fn new() -> Self {
        Self {
            newest_first: Chain::new(),
            oldest_first: Chain::new(),
            turned: 0,
            since: Since::UNKNOWN,
        }
    }

    /// Runs drops, oldest first, until the list is empty or `budget` is spent.
    fn drain(
        &mut self,
        list: &LockLessList<PendingDrop<InHardIrq>>,
        budget: &mut u32,
        stats: &Stats,
    ) -> Drained {
        loop {
            if self.newest_first.is_empty() && self.oldest_first.is_empty() {
                self.newest_first = list.take_all();
                self.turned = 0;
                if self.newest_first.is_empty() {
                    self.since = Since::UNKNOWN;
                    return Drained::All;
                }
            }

            let turned = self
                .oldest_first
                .push_reversed(&mut self.newest_first, (*budget).into());
            self.turned = self.turned.wrapping_add(turned);
            if *budget == 0 || !self.newest_first.is_empty() {
                return Drained::Partly;
            }
            stats.in_hard_irq.max_batch.raise_to(self.turned);
            stats
                .latency
                .record(mem::replace(&mut self.since, Since::UNKNOWN));

            // In registers: this is what is done for each drop.
            let mut left = *budget;
            let mut oldest_first = mem::replace(&mut self.oldest_first, Chain::new());
            while let Some(drop) = oldest_first.pop() {
                drop.run();
                stats.in_hard_irq.has_run();
                left -= 1;
                if left == 0 {
                    break;
                }
            }
            *budget = left;
            self.oldest_first = oldest_first;
            if !self.oldest_first.is_empty() {
                return Drained::Partly;
            }
        }
    }
}

/// The queue, as its `irq_work` and its work item see it.
#[pin_data]
pub(crate) struct Queue {
    /// The first two to be dropped: that waits for their work, which uses the rest.
    workqueue: OwnQueue,
    pub(super) sleepable_workqueue: OwnQueue,
    list: LockLessList<PendingDrop<InHardIrq>>,
    batch: Baton<Batch>,
    /// Drops in one hard interrupt.
    budget: u32,
    #[pin]
    rest: Work<Queue, REST>,
    pub(super) sleepable: LockLessList<PendingDrop<InProcess>>,
    #[pin]
    pub(super) sleepable_work: Work<Queue, SLEEPABLE>,
    pub(super) stats: Stats,
}

/// The work item that is left what a hard interrupt cannot do.
const REST: u64 = 0;

impl_has_work! {
    impl HasWork<Self, REST> for Queue { self.rest }
}

// SAFETY: Only the work item holds such a reference; nobody outside of this file can make one. A
// queue waits for its workqueue before it is gone: counting would tell nothing.
unsafe impl AlwaysRefCounted for Queue {
    #[inline]
    fn inc_ref(&self) {}

    #[inline]
    unsafe fn dec_ref(_: NonNull<Self>) {}
}

impl irq_work::Handler for Queue {
    fn run(&self) {
        self.leave_sleepable_to_workqueue();
        let mut budget = if cfg!(CONFIG_PREEMPT_RT) {
            0
        } else {
            self.budget
        };
        let mut since = self.stats.since_raised();
        while !self.list.is_empty() {
            let Some(mut batch) = self.batch.try_take() else {
                // Its holder will look at the list again.
                return;
            };
            self.stats.irq_work_runs.add(1);
            batch.since = mem::replace(&mut since, Since::UNKNOWN);
            let drained = trace::drained(c"irq_work", &self.stats.in_hard_irq, || {
                batch.drain(&self.list, &mut budget, &self.stats)
            });
            if drained == Drained::Partly {
                self.leave_to_workqueue(batch);
                return;
            }
        }
    }
}

impl WorkItem<REST> for Queue {
    type Pointer = ARef<Self>;

    fn run(this: ARef<Self>) {
        let mut baton = this.batch.take_over();
        while let Some(mut batch) = baton {
            this.stats.in_hard_irq.workqueue_runs.add(1);
            trace::drained(c"workqueue", &this.stats.in_hard_irq, || {
                while {
                    let mut budget = this.budget;
                    batch.drain(&this.list, &mut budget, &this.stats) == Drained::Partly
                } {
                    cond_resched();
                }
            });
            drop(batch);
            if this.list.is_empty() {
                break;
            }
            baton = this.batch.try_take();
        }
    }
}

impl Queue {
    fn leave_to_workqueue(&self, batch: Held<'_, Batch>) {
        batch.pass_on();
        // It cannot be queued already: whoever queues it has held the baton, and nobody has until
        // the work item has taken it over.
        let _ = self.workqueue.enqueue::<_, REST>(ARef::from(self));
    }
}

/// The drops of one kind of context, on their way.
pub(crate) trait Lane: Sized {
    /// Whether such a drop is never run where it is given back.
    const ALWAYS_DEFERRED: bool;

    /// Adds to the list, and tells whether that was empty.
    fn add(queue: &Queue, drop: PendingDrop<Self>) -> bool;

    /// What its drainer counts.
    fn stats(stats: &Stats) -> &LaneStats;
}

impl Lane for InHardIrq {
    const ALWAYS_DEFERRED: bool = false;

    #[inline(always)]
    fn add(queue: &Queue, drop: PendingDrop<Self>) -> bool {
        let first = queue.list.add(drop);
        if first {
            queue.stats.raises();
        }
        first
    }

    fn stats(stats: &Stats) -> &LaneStats {
        &stats.in_hard_irq
    }
}

/// The queue and what drains it.
#[pin_data(PinnedDrop)]
pub(crate) struct Engine {
    when: DeferWhen,
    #[pin]
    queue: IrqWork<Queue>,
}

impl Engine {
    pub(crate) fn new(when: DeferWhen, budget: u32) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            when,
            queue <- IrqWork::new(try_pin_init!(Queue {
                workqueue: OwnQueue::new_reclaim(c"kptr_defer")?,
                sleepable_workqueue: OwnQueue::new_unbound(c"kptr_defer_sleepable")?,
                list: LockLessList::new(),
                batch: Baton::new(Batch::new()),
                budget,
                rest <- new_work!("kptr_defer::rest"),
                sleepable: LockLessList::new(),
                sleepable_work <- new_work!("kptr_defer::sleepable"),
                stats: Stats::new()?,
            }? Error)),
        }? Error)
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.queue.handler().stats
    }

    /// For what a hard interrupt must not do.
    pub(crate) fn workqueue(&self) -> &OwnQueue {
        &self.queue.handler().workqueue
    }

    /// Runs the drop, or defers it if this is a context to do so; tells whether it was deferred.
    ///
    /// Context: any.
    #[inline(always)]
    pub(crate) fn give_back<C: Lane>(&self, drop: PendingDrop<C>) -> bool {
        if in_nmi() {
            self.give_back_in_nmi(drop);
            true
        } else {
            self.give_back_outside_nmi(drop)
        }
    }

    /// Defers the drop.
    ///
    /// Context: NMI.
    #[inline(always)]
    pub(crate) fn give_back_in_nmi<C: Lane>(&self, drop: PendingDrop<C>) {
        if trace::drops_are_traced() {
            return self.defer_traced(drop);
        }
        self.stats().counts.inc::<DEFERRED>();
        self.defer_unpreempted(drop);
    }

    /// A function of its own for the same reason as [`may_defer_outside_nmi`].
    ///
    /// [`may_defer_outside_nmi`]: Self::may_defer_outside_nmi
    #[cold]
    #[inline(never)]
    fn defer_traced<C: Lane>(&self, drop: PendingDrop<C>) {
        self.stats().counts.inc::<DEFERRED>();
        trace::dropped(&drop);
        self.defer(drop);
    }

    /// Runs the drop, unless the context or `defer_when=` asks for more; tells whether it was deferred.
    ///
    /// Context: any but NMI.
    #[inline(always)]
    pub(crate) fn give_back_outside_nmi<C: Lane>(&self, drop: PendingDrop<C>) -> bool {
        if C::ALWAYS_DEFERRED || DeferWhen::not_only_in_nmi() {
            return self.may_defer_outside_nmi(drop);
        }
        self.stats().counts.inc::<INLINE>();
        drop.run();
        false
    }

    /// Not a part of what usually happens, which would have to save registers for it.
    #[cold]
    #[inline(never)]
    fn may_defer_outside_nmi<C: Lane>(&self, drop: PendingDrop<C>) -> bool {
        let deferred = C::ALWAYS_DEFERRED || self.when.is_now_outside_nmi();
        if deferred {
            self.defer_traced(drop);
        } else {
            self.stats().counts.inc::<INLINE>();
            drop.run();
        }
        deferred
    }

    /// Queues the drop, whatever the context, and counts nothing.
    ///
    /// Context: any.
    pub(crate) fn defer<C: Lane>(&self, drop: PendingDrop<C>) {
        without_preemption(|| self.defer_unpreempted(drop));
    }

    /// Whoever finds the list empty has to raise the `irq_work` at once: until it does, nobody will.
    ///
    /// Context: any that is not preemptible.
    #[inline(always)]
    fn defer_unpreempted<C: Lane>(&self, drop: PendingDrop<C>) {
        if C::add(self.queue.handler(), drop) {
            self.queue.queue();
        }
    }
}

#[pinned_drop]
impl PinnedDrop for Engine {
    /// Waits for all drops. No new ones can come: programs and maps pin the module by its kfuncs and
    /// destructors, other modules by its symbols.
    fn drop(self: Pin<&mut Self>) {
        self.barrier();
        // What may still be under way finds the queue empty. Dropping the `irq_work`, which comes
        // next, waits for its last run, and then the workqueue for its work.
    }
}
