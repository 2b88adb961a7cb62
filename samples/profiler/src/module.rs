// SPDX-License-Identifier: GPL-2.0

//! What the module tells about itself.

use crate::Result;
use std::{
    collections::BTreeMap,
    fs,
    path::Path, //
};

const STATS: &str = "/sys/kernel/debug/kptr_defer/stats";

/// The counters in debugfs that matter here.
#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) inline: u64,
    pub(crate) deferred: u64,
    pub(crate) drained: u64,
    pub(crate) max_batch: u64,
    pub(crate) handles_live: u64,
    /// How many drops took so many nanoseconds and up to twice that.
    pub(crate) latencies: BTreeMap<u64, u64>,
}

impl Stats {
    pub(crate) fn read() -> Result<Stats> {
        if !Path::new("/sys/module/kptr_defer").exists() {
            return Err("the module is not loaded: insmod kptr_defer.ko".into());
        }
        let text = fs::read_to_string(STATS).map_err(|err| {
            format!("cannot read {STATS}: {err} (mount -t debugfs none /sys/kernel/debug)")
        })?;
        Ok(Stats::parse(&text))
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
}

/// In which contexts the module defers.
pub(crate) fn defer_when() -> Result<String> {
    let when = fs::read_to_string("/sys/module/kptr_defer/parameters/defer_when")?;
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
}
