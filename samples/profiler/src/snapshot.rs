// SPDX-License-Identifier: GPL-2.0

//! What there is to tell, at some moment and at the end, and how it is told in lines.

use crate::{
    module::{
        defer_when,
        Stats, //
    },
    sampling::{
        Command,
        Counts,
        Profile,
        Source, //
    },
    Result,
};
use serde::Serialize;
use std::{
    fmt::{
        self,
        Write, //
    },
    fs,
    time::Duration,
};

/// All counts are from the start.
#[derive(Clone, Serialize)]
pub(crate) struct Snapshot {
    pub(crate) seconds: f64,
    #[serde(flatten)]
    pub(crate) counts: Counts,
    #[serde(flatten)]
    pub(crate) stats: Stats,
    pub(crate) commands_seen: usize,
    pub(crate) commands: Vec<Command>,
}

impl Snapshot {
    pub(crate) fn take(
        profile: &Profile,
        before: &Stats,
        elapsed: Duration,
        top: usize,
    ) -> Result<Snapshot> {
        let (commands, commands_seen) = profile.commands(top)?;
        Ok(Snapshot {
            seconds: elapsed.as_secs_f64(),
            counts: profile.counts()?,
            stats: Stats::read()?.since(before),
            commands_seen,
            commands,
        })
    }

    /// A heading, and a line for each command.
    pub(crate) fn command_table(&self) -> (String, Vec<String>) {
        let heading = format!(
            "  {:<15} {:>9}  {:>7}  tasks held",
            "command", "samples", "share"
        );
        let line = |command: &Command| {
            let mut line = format!(
                "  {:<15} {:>9}  {:>5.1} %",
                printable(&command.name),
                command.samples,
                percent(command.samples, self.counts.samples),
            );
            for task in &command.tasks {
                let _ = write!(line, "  {} {}", task.pid, task.state);
            }
            line
        };
        (heading, self.commands.iter().map(line).collect())
    }

    pub(crate) fn waiting_line(&self) -> String {
        format!(
            "half for less than {}, 99 % for less than {}",
            Nanoseconds(self.stats.waited_less_than(0.5)),
            Nanoseconds(self.stats.waited_less_than(0.99)),
        )
    }
}

/// The line of each second.
impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:4.0} s  {:8} samples  {:8} drops in NMI  {:6} last references  {:4} handles live",
            self.seconds,
            self.counts.samples,
            self.counts.drops,
            self.counts.last_references,
            self.stats.handles_live,
        )
    }
}

/// The end of it.
#[derive(Serialize)]
pub(crate) struct Summary {
    kernel: String,
    source: &'static str,
    cpus: usize,
    #[serde(flatten)]
    last: Snapshot,
    #[serde(skip)]
    deferred_while_sampling: u64,
    drops_by_teardown: u64,
    lost: i64,
    complaints: Vec<String>,
}

impl Summary {
    /// `last` is of the time when nothing sampled any more; `after`, when the maps were gone.
    pub(crate) fn of(
        source: &Source,
        last: Snapshot,
        after: Stats,
        at_least: u64,
    ) -> Result<Summary> {
        let dropped = |stats: &Stats| stats.inline + stats.deferred;
        let complaints = complaints(&last, &after, &defer_when()?, at_least);
        Ok(Summary {
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            source: source.name(),
            cpus: source.cpus(),
            deferred_while_sampling: last.stats.deferred,
            drops_by_teardown: dropped(&after) - dropped(&last.stats),
            lost: lost(&last.counts, &after),
            complaints,
            last: Snapshot {
                stats: after,
                ..last
            },
        })
    }

    pub(crate) fn is_good(&self) -> bool {
        self.complaints.is_empty()
    }
}

/// References that were taken and never given back, by both counts.
fn lost(counts: &Counts, after: &Stats) -> i64 {
    counts.acquired as i64 - after.inline as i64 - after.drained as i64
}

fn complaints(last: &Snapshot, after: &Stats, defer_when: &str, at_least: u64) -> Vec<String> {
    let (counts, sampled) = (&last.counts, &last.stats);
    let mut complaints = Vec::new();
    if counts.drops < at_least {
        complaints.push(format!(
            "{} drops in NMI, of at least {at_least}",
            counts.drops
        ));
    }
    // What `in_nmi()` said in the module about each of them.
    if defer_when == "nmi" && sampled.deferred != counts.drops {
        complaints.push(format!(
            "the program dropped {} in what should be NMI, the module deferred {}{}",
            counts.drops,
            sampled.deferred,
            if cfg!(target_arch = "aarch64") && sampled.deferred == 0 {
                ": these interrupts are no NMIs; boot a kernel that has ARM64_PSEUDO_NMI=y with \
                 irqchip.gicv3_pseudo_nmi=1"
            } else {
                ""
            },
        ));
    }
    if after.deferred != after.drained {
        complaints.push(format!(
            "{} drops deferred, {} drained",
            after.deferred, after.drained
        ));
    }
    if after.handles_live != 0 {
        complaints.push(format!("{} handles are still live", after.handles_live));
    }
    if lost(counts, after) != 0 {
        complaints.push(format!(
            "{} handles acquired, {} dropped, unless other programs have used the module meanwhile",
            counts.acquired,
            after.inline + after.drained
        ));
    }
    complaints
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (counts, after) = (&self.last.counts, &self.last.stats);

        let (heading, commands) = self.last.command_table();
        writeln!(f, "{heading}")?;
        for line in &commands {
            writeln!(f, "{line}")?;
        }
        if self.last.commands_seen > commands.len() {
            writeln!(f, "  and {} more", self.last.commands_seen - commands.len())?;
        }

        writeln!(f, "\ndrops")?;
        let mut line = |n: u64, what: fmt::Arguments<'_>| writeln!(f, "  {n:>8}  {what}");
        line(
            counts.drops,
            format_args!(
                "in NMI, by the program ({:.1} %); the module deferred {} of them",
                percent(counts.drops, counts.acquired),
                self.deferred_while_sampling
            ),
        )?;
        line(
            counts.last_references,
            format_args!("of those were the last reference to a task that had exited"),
        )?;
        line(
            self.drops_by_teardown,
            format_args!("elsewhere, by the teardown of the maps"),
        )?;
        if counts.looking > 0 {
            line(
                counts.looking,
                format_args!("elsewhere, because a newer task had come while one was looked at"),
            )?;
        }
        line(
            counts.acquired,
            format_args!("handles acquired in all, {} refused", counts.not_acquired),
        )?;
        line(
            after.max_batch,
            format_args!("in the largest batch since the module was loaded"),
        )?;

        writeln!(f, "\nfrom queueing to drop, the oldest of each batch")?;
        let most = after.latencies.values().copied().max().unwrap_or(1).max(1);
        for (&from_ns, &n) in after.latencies.iter().filter(|(_, &n)| n > 0) {
            writeln!(
                f,
                "  {:>7} … {:>7}  {:>7}  {}",
                Nanoseconds(from_ns).to_string(),
                Nanoseconds(from_ns * 2).to_string(),
                n,
                bar(n as f64, most as f64)
            )?;
        }

        writeln!(f)?;
        for complaint in &self.complaints {
            writeln!(f, "WRONG: {complaint}")?;
        }
        write!(
            f,
            "profiler: kernel={} nmi_source={} nmi_drops={} deferred={} drained={} lost={}",
            self.kernel, self.source, counts.drops, after.deferred, after.drained, self.lost,
        )
    }
}

/// A task may call itself what it likes.
pub(crate) fn printable(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

fn bar(part: f64, whole: f64) -> String {
    const WIDTH: f64 = 40.0;

    "#".repeat((part / whole * WIDTH).ceil() as usize)
}

struct Nanoseconds(u64);

impl fmt::Display for Nanoseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ns @ 0..1_000 => write!(f, "{ns} ns"),
            ns @ 1_000..1_000_000 => write!(f, "{} µs", ns / 1_000),
            ns @ 1_000_000..1_000_000_000 => write!(f, "{} ms", ns / 1_000_000),
            ns => write!(f, "{} s", ns / 1_000_000_000),
        }
    }
}
