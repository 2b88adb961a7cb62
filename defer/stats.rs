// SPDX-License-Identifier: GPL-2.0

//! What is counted.

use crate::abstractions::{
    clock,
    gauge::Gauge,
    percpu::PerCpuU64, //
};
use kernel::{
    fmt,
    prelude::*, //
};

/// How long drops have waited, by powers of two.
///
/// A drop that finds the queue empty notes the time, as it raises the `irq_work` anyway. That runs on
/// the same CPU, so a note on each CPU tells it how long the oldest drop of its batch has waited. When
/// another drainer has taken that drop first, the wait may be told of the next one, or of none.
pub(crate) struct Latency {
    buckets: [Gauge; Self::BUCKETS],
}

/// When the oldest drop of a batch was deferred, if that is known.
#[derive(Clone, Copy)]
pub(crate) struct Since(u64);

impl Since {
    pub(crate) const UNKNOWN: Self = Self(0);
}

impl Latency {
    /// The last one takes all that is longer: 2^39 ns are nine minutes.
    const BUCKETS: usize = 40;

    const fn new() -> Self {
        Self {
            buckets: [const { Gauge::new() }; Self::BUCKETS],
        }
    }

    /// The drop that has waited since then is about to be run, by the drainer.
    pub(crate) fn record(&self, since: Since) {
        if since.0 == 0 {
            return;
        }
        let waited_ns = clock::ticks_to_ns(clock::ticks().saturating_sub(since.0));
        let Some(log2) = waited_ns.checked_ilog2() else {
            return;
        };
        if let Some(bucket) = self.buckets.get((log2 as usize).min(Self::BUCKETS - 1)) {
            bucket.add(1);
        }
    }
}

/// What the drainer of a lane counts.
pub(crate) struct LaneStats {
    /// Drops from the queue that have been done.
    drained: Gauge,
    /// Whether what is being run from the queue is a barrier or the like.
    no_drop: Gauge,
    /// Times that a work item drained.
    pub(crate) workqueue_runs: Gauge,
    /// The most drops that were found on the queue at once.
    pub(crate) max_batch: Gauge,
}

impl LaneStats {
    const fn new() -> Self {
        Self {
            drained: Gauge::new(),
            no_drop: Gauge::new(),
            workqueue_runs: Gauge::new(),
            max_batch: Gauge::new(),
        }
    }

    /// What comes off the queue here is no drop and does not count: called from its destructor.
    pub(crate) fn is_no_drop(&self) {
        self.no_drop.set(1);
    }

    /// Drops from the queue that have been done.
    pub(crate) fn drained(&self) -> u64 {
        self.drained.get()
    }

    /// The drainer has run what came off the queue.
    #[inline]
    pub(crate) fn has_run(&self) {
        if self.no_drop.get() == 0 {
            self.drained.add(1);
        } else {
            self.next_is_a_drop();
        }
    }

    #[cold]
    fn next_is_a_drop(&self) {
        self.no_drop.set(0);
    }
}

/// The counters of an engine.
///
/// What any context counts is counted per CPU, what the one who drains counts is a [`Gauge`].
pub(crate) struct Stats {
    /// What is counted on each CPU.
    pub(crate) counts: PerCpuU64<{ Self::COUNTS }>,
    /// Times that the `irq_work` ran and was the one to drain.
    pub(crate) irq_work_runs: Gauge,
    pub(crate) in_hard_irq: LaneStats,
    pub(crate) in_process: LaneStats,
    /// Of the drops that need not wait for process context.
    pub(crate) latency: Latency,
}

/// A drop went onto the queue.
pub(crate) const DEFERRED: usize = 0;
/// When this CPU last raised the `irq_work`; zero once that has been looked at.
const RAISED_AT: usize = 1;
/// A drop was done at once, in the context it came from.
pub(crate) const INLINE: usize = 2;
/// A handle was given to a BPF program.
pub(crate) const ACQUIRED: usize = 3;
/// The object of a handle has been dropped.
pub(crate) const RELEASED: usize = 4;
/// A handle was asked for in vain.
pub(crate) const ACQUIRE_FAILED: usize = 5;

impl Stats {
    const COUNTS: usize = 6;

    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            counts: PerCpuU64::new()?,
            irq_work_runs: Gauge::new(),
            in_hard_irq: LaneStats::new(),
            in_process: LaneStats::new(),
            latency: Latency::new(),
        })
    }

    /// This CPU raises the `irq_work`.
    #[inline(always)]
    pub(crate) fn raises(&self) {
        self.counts.set::<RAISED_AT>(clock::ticks());
    }

    /// The `irq_work` runs on this CPU.
    pub(crate) fn since_raised(&self) -> Since {
        Since(self.counts.replace::<RAISED_AT>(0))
    }

    fn lanes(&self) -> [&LaneStats; 2] {
        [&self.in_hard_irq, &self.in_process]
    }

    /// Drops done at once, in the context they came from.
    pub(crate) fn inline(&self) -> u64 {
        self.counts.sum::<INLINE>()
    }

    /// Drops that went onto the queue.
    pub(crate) fn deferred(&self) -> u64 {
        self.counts.sum::<DEFERRED>()
    }

    /// Handles that were asked for in vain.
    pub(crate) fn acquire_failed(&self) -> u64 {
        self.counts.sum::<ACQUIRE_FAILED>()
    }

    /// Drops from the queue that have been done.
    pub(crate) fn drained(&self) -> u64 {
        self.lanes().map(LaneStats::drained).iter().sum()
    }

    /// Handles that have not been dropped.
    pub(crate) fn handles_live(&self) -> u64 {
        // In this order, so that one which comes and goes meanwhile does not make it negative.
        let released = self.counts.sum::<RELEASED>();
        self.counts.sum::<ACQUIRED>().saturating_sub(released)
    }

    /// Writes `name value` lines, the form of the debugfs file.
    pub(crate) fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "inline {}", self.inline())?;
        // In this order, so that no drop is shown as drained that is not shown as deferred.
        let drained = self.drained();
        writeln!(f, "deferred {}", self.deferred())?;
        writeln!(f, "drained {drained}")?;
        writeln!(f, "irq_work_runs {}", self.irq_work_runs.get())?;
        let workqueue_runs = self.lanes().map(|lane| lane.workqueue_runs.get());
        writeln!(f, "workqueue_runs {}", workqueue_runs.iter().sum::<u64>())?;
        let max_batch = self.lanes().map(|lane| lane.max_batch.get());
        writeln!(f, "max_batch {}", max_batch.iter().max().unwrap_or(&0))?;
        writeln!(f, "acquire_failed {}", self.acquire_failed())?;
        writeln!(f, "handles_live {}", self.handles_live())?;
        for (log2, bucket) in self.latency.buckets.iter().enumerate() {
            if bucket.get() != 0 {
                writeln!(f, "latency_ns_{} {}", 1u64 << log2, bucket.get())?;
            }
        }
        Ok(())
    }
}
