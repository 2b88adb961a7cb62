// SPDX-License-Identifier: GPL-2.0

//! What is counted.

use crate::abstractions::{
    context::monotonic_fast_ns,
    percpu::PerCpuU64, //
};
use kernel::{
    fmt,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// A number that one context at a time changes, while any may read it.
pub(crate) struct Gauge(Atomic<u64>);

impl Gauge {
    const fn new() -> Self {
        Self(Atomic::new(0))
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Needs no atomic operation: the caller is the only one who writes.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    #[inline]
    fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    #[inline]
    pub(crate) fn raise_to(&self, n: u64) {
        if n > self.0.load(Relaxed) {
            self.0.store(n, Relaxed);
        }
    }
}

/// How long drops have waited, by powers of two.
///
/// A drop that finds the queue empty notes the time, as it raises the `irq_work` anyway. That runs on
/// the same CPU, so a note on each CPU tells it how long the oldest drop of its batch has waited. When
/// another drainer has taken that drop first, the wait may be told of the next one, or of none.
pub(crate) struct Latency {
    /// When this CPU last raised the `irq_work`; zero once that has been looked at.
    raised_ns: PerCpuU64,
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

    fn new() -> Result<Self> {
        Ok(Self {
            raised_ns: PerCpuU64::new()?,
            buckets: [const { Gauge::new() }; Self::BUCKETS],
        })
    }

    /// This CPU raises the `irq_work`.
    #[inline(always)]
    pub(crate) fn raised(&self) {
        self.raised_ns.replace(monotonic_fast_ns());
    }

    /// The `irq_work` runs on this CPU.
    pub(crate) fn since_raised(&self) -> Since {
        Since(self.raised_ns.replace(0))
    }

    /// The drop that has waited since then is about to be run, by the drainer.
    pub(crate) fn record(&self, since: Since) {
        if since.0 == 0 {
            return;
        }
        let waited_ns = monotonic_fast_ns().saturating_sub(since.0);
        let log2 = waited_ns.checked_ilog2().unwrap_or(0) as usize;
        if let Some(bucket) = self.buckets.get(log2.min(Self::BUCKETS - 1)) {
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

    /// The drainer has run what came off the queue.
    #[inline]
    pub(crate) fn has_run(&self) {
        if self.no_drop.get() != 0 {
            self.no_drop.set(0);
        } else {
            self.drained.add(1);
        }
    }
}

/// The counters of an engine.
///
/// What any context counts is counted per CPU, what the one who drains counts is a [`Gauge`].
pub(crate) struct Stats {
    /// Drops done at once, in the context they came from.
    pub(crate) inline: PerCpuU64,
    /// Drops that went onto the queue.
    pub(crate) deferred: PerCpuU64,
    /// Times that the `irq_work` ran and was the one to drain.
    pub(crate) irq_work_runs: Gauge,
    pub(crate) in_hard_irq: LaneStats,
    pub(crate) in_process: LaneStats,
    /// Of the drops that need not wait for process context.
    pub(crate) latency: Latency,
    /// Handles given to BPF programs.
    pub(crate) acquired: PerCpuU64,
    /// Handles whose object has been dropped.
    pub(crate) released: PerCpuU64,
    /// Handles that were asked for in vain.
    pub(crate) acquire_failed: PerCpuU64,
}

impl Stats {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            inline: PerCpuU64::new()?,
            deferred: PerCpuU64::new()?,
            irq_work_runs: Gauge::new(),
            in_hard_irq: LaneStats::new(),
            in_process: LaneStats::new(),
            latency: Latency::new()?,
            acquired: PerCpuU64::new()?,
            released: PerCpuU64::new()?,
            acquire_failed: PerCpuU64::new()?,
        })
    }

    fn lanes(&self) -> [&LaneStats; 2] {
        [&self.in_hard_irq, &self.in_process]
    }

    /// Drops from the queue that have been done.
    pub(crate) fn drained(&self) -> u64 {
        self.lanes().map(|lane| lane.drained.get()).iter().sum()
    }

    /// Handles that have not been dropped.
    pub(crate) fn handles_live(&self) -> u64 {
        // In this order, so that one which comes and goes meanwhile does not make it negative.
        let released = self.released.sum();
        self.acquired.sum().saturating_sub(released)
    }

    /// Writes `name value` lines, the form of the debugfs file.
    pub(crate) fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "inline {}", self.inline.sum())?;
        // In this order, so that no drop is shown as drained that is not shown as deferred.
        let drained = self.drained();
        writeln!(f, "deferred {}", self.deferred.sum())?;
        writeln!(f, "drained {drained}")?;
        writeln!(f, "irq_work_runs {}", self.irq_work_runs.get())?;
        let workqueue_runs = self.lanes().map(|lane| lane.workqueue_runs.get());
        writeln!(f, "workqueue_runs {}", workqueue_runs.iter().sum::<u64>())?;
        let max_batch = self.lanes().map(|lane| lane.max_batch.get());
        writeln!(f, "max_batch {}", max_batch.iter().max().unwrap_or(&0))?;
        writeln!(f, "acquire_failed {}", self.acquire_failed.sum())?;
        writeln!(f, "handles_live {}", self.handles_live())?;
        for (log2, bucket) in self.latency.buckets.iter().enumerate() {
            if bucket.get() != 0 {
                writeln!(f, "latency_ns_{} {}", 1u64 << log2, bucket.get())?;
            }
        }
        Ok(())
    }
}
