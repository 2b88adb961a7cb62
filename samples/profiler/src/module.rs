// SPDX-License-Identifier: GPL-2.0

//! What the module tells about itself.

use crate::{
    problem,
    Result, //
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    thread,
    time::{
        Duration,
        Instant, //
    },
};

const MODULE: &str = "/sys/module/kptr_defer";
const DEBUGFS: &str = "/sys/kernel/debug";
const STATS: &str = "/sys/kernel/debug/kptr_defer/stats";

/// The counters in debugfs that matter here.
#[derive(Clone, Default, Serialize)]
pub(crate) struct Stats {
    pub(crate) inline: u64,
    pub(crate) deferred: u64,
    pub(crate) drained: u64,
    pub(crate) max_batch: u64,
    pub(crate) handles_live: u64,
    /// How often the oldest drop of a batch waited so many nanoseconds and up to twice that.
    #[serde(rename = "latency_ns")]
    pub(crate) latencies: BTreeMap<u64, u64>,
}

impl Stats {
    pub(crate) fn read() -> Result<Stats> {
        if !Path::new(MODULE).exists() {
            return Err(problem(
                "the kernel module kptr_defer is not loaded",
                "Load it: make && sudo insmod kptr_defer.ko, or modprobe kptr_defer where it is installed.",
            ));
        }
        match fs::read_to_string(STATS) {
            Ok(text) => Ok(Stats::parse(&text)),
            Err(err) => Err(unreadable(&err)),
        }
    }

    /// The counters of the module while nobody holds a handle: others' could not be told from ours.
    pub(crate) fn of_idle_module() -> Result<Stats> {
        // What a program has just let go of takes a moment.
        let stats = Stats::when(Duration::from_secs(10), |stats| stats.handles_live == 0)?;
        if stats.handles_live == 0 {
            return Ok(stats);
        }
        Err(problem(
            format!(
                "other BPF programs hold {} handles: their drops could not be told from the profiler's",
                stats.handles_live
            ),
            "Stop those programs first: `bpftool map` tells who they are.",
        ))
    }

    /// The counters once they are as wished, or when that has taken too long.
    pub(crate) fn when(patience: Duration, wished: impl Fn(&Stats) -> bool) -> Result<Stats> {
        let start = Instant::now();
        loop {
            let stats = Stats::read()?;
            if wished(&stats) || start.elapsed() > patience {
                return Ok(stats);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lines of names and values; those not known here are for others.
    fn parse(text: &str) -> Stats {
        let mut stats = Stats::default();
        for line in text.lines() {
            let Some((name, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let Ok(value) = value.parse() else {
                continue;
            };
            match name {
                "inline" => stats.inline = value,
                "deferred" => stats.deferred = value,
                "drained" => stats.drained = value,
                "max_batch" => stats.max_batch = value,
                "handles_live" => stats.handles_live = value,
                _ => {
                    let from_ns = name
                        .strip_prefix("latency_ns")
                        .and_then(|rest| rest.get(1..));
                    if let Some(from_ns) = from_ns.and_then(|ns| ns.parse().ok()) {
                        stats.latencies.insert(from_ns, value);
                    }
                }
            }
        }
        stats
    }

    /// What has been counted since then.
    pub(crate) fn since(mut self, before: &Stats) -> Stats {
        self.inline -= before.inline;
        self.deferred -= before.deferred;
        self.drained -= before.drained;
        for (from_ns, n) in &before.latencies {
            self.latencies.entry(*from_ns).and_modify(|now| *now -= n);
        }
        self
    }

    /// What this part of the drops waited less than, in nanoseconds; 0 if there were none.
    pub(crate) fn waited_less_than(&self, part: f64) -> u64 {
        let all: u64 = self.latencies.values().sum();
        let mut seen = 0;
        for (from_ns, n) in &self.latencies {
            seen += n;
            if *n > 0 && seen as f64 >= part * all as f64 {
                return 2 * from_ns;
            }
        }
        0
    }
}

/// Why a module that is loaded has no counters to read.
fn unreadable(err: &io::Error) -> Box<dyn std::error::Error> {
    if err.kind() == io::ErrorKind::NotFound && !has_debugfs() {
        return problem(
            "debugfs is not mounted, where the module's counters are",
            format!("Mount it: mount -t debugfs debugfs {DEBUGFS}"),
        );
    }
    problem(
        format!("cannot read {STATS}: {err}"),
        match err.kind() {
            io::ErrorKind::NotFound => {
                "That module is not of this profiler's version: make both from one source tree."
            }
            _ => "It is for root, and not there when the kernel is locked down: sudo profiler",
        },
    )
}

fn has_debugfs() -> bool {
    fs::read_to_string("/proc/self/mounts").is_ok_and(|mounts| {
        mounts
            .lines()
            .any(|mount| mount.split(' ').nth(1) == Some(DEBUGFS))
    })
}

/// In which contexts the module defers.
pub(crate) fn defer_when() -> Result<String> {
    let when = fs::read_to_string(format!("{MODULE}/parameters/defer_when"))?;
    Ok(when.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::Stats;

    #[test]
    fn stats_are_parsed_and_subtracted() {
        let before = Stats::parse("inline 1\ndeferred 10\ndrained 9\nlatency_ns_1024 4\n");
        let after = Stats::parse(
            "inline 3\ndeferred 20\ndrained 20\nirq_work_runs 5\nmax_batch 7\nhandles_live 2\n\
             latency_ns_1024 6\nlatency_ns 2048 1\n",
        );
        let since = after.since(&before);
        assert_eq!((since.inline, since.deferred, since.drained), (2, 10, 11));
        assert_eq!((since.max_batch, since.handles_live), (7, 2));
        assert_eq!(Vec::from_iter(since.latencies), [(1024, 2), (2048, 1)]);
    }

    #[test]
    fn latencies() {
        let stats =
            Stats::parse("latency_ns_1 0\nlatency_ns_2 98\nlatency_ns_4 1\nlatency_ns_8 1\n");
        assert_eq!(stats.waited_less_than(0.5), 4);
        assert_eq!(stats.waited_less_than(0.99), 8);
        assert_eq!(stats.waited_less_than(1.0), 16);
        assert_eq!(Stats::default().waited_less_than(0.5), 0);
    }
}
