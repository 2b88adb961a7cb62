// SPDX-License-Identifier: GPL-2.0

//! The lane of drops that may sleep: a list, and the work item that empties it.
//!
//! A drop that finds the list empty raises the `irq_work`, which queues the work item. A work item does
//! not overlap with itself, and when it is queued while it runs it runs once more: so it is the one
//! drainer, and what comes in after it has looked brings it back. It has a workqueue of its own, without
//! `WQ_MEM_RECLAIM`: a drop may wait for work on any other.

use super::{
    pending::{
        InProcess,
        PendingDrop, //
    },
    queue::{
        Lane,
        Queue, //
    },
    stats::{
        LaneStats,
        Stats, //
    },
    trace, //
};
use crate::abstractions::{
    context::cond_resched,
    llist::Chain, //
};
use kernel::{
    impl_has_work,
    sync::aref::ARef,
    workqueue::WorkItem, //
};

/// The work item that runs them.
pub(super) const SLEEPABLE: u64 = 1;

impl_has_work! {
    impl HasWork<Self, SLEEPABLE> for Queue { self.sleepable_work }
}

impl Queue {
    /// Has the drops run, if there are any.
    ///
    /// Context: any but NMI.
    pub(super) fn leave_sleepable_to_workqueue(&self) {
        if !self.sleepable.is_empty() {
            // If it is queued already, it has not looked at the list yet.
            let _ = self
                .sleepable_workqueue
                .enqueue::<_, SLEEPABLE>(ARef::from(self));
        }
    }
}

impl WorkItem<SLEEPABLE> for Queue {
    type Pointer = ARef<Self>;

    fn run(this: ARef<Self>) {
        let stats = InProcess::stats(&this.stats);
        stats.workqueue_runs.add(1);
        trace::drained(c"sleepable", stats, || loop {
            let mut newest_first = this.sleepable.take_all();
            if newest_first.is_empty() {
                return;
            }
            let mut oldest_first = Chain::new();
            let drops = oldest_first.push_reversed(&mut newest_first, u64::MAX);
            stats.max_batch.raise_to(drops);
            while let Some(drop) = oldest_first.pop() {
                drop.run();
                stats.has_run();
                cond_resched();
            }
        });
    }
}

impl Lane for InProcess {
    /// Whoever gives it back may hold a lock, or be in an RCU read-side critical section.
    const ALWAYS_DEFERRED: bool = true;

    fn add(queue: &Queue, drop: PendingDrop<Self>) -> bool {
        let first = queue.sleepable.add(drop);
        if first {
            // Or what the irq_work finds in the other lane would have waited since it was last raised.
            queue.stats.raises();
        }
        first
    }

    fn stats(stats: &Stats) -> &LaneStats {
        &stats.in_process
    }
}
