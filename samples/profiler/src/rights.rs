// SPDX-License-Identifier: GPL-2.0

//! What the system lets this process do.

use crate::{
    problem,
    Result, //
};
use rustix::process::{
    getrlimit,
    setrlimit,
    Resource,
    Rlimit, //
};
use std::fs;

/// Of `linux/capability.h`.
const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_BPF: u64 = 1 << 39;

/// Tells early what would otherwise fail somewhere, as "Operation not permitted".
pub(crate) fn check() -> Result<()> {
    let status = fs::read_to_string("/proc/self/status")?;
    let missing = missing(effective_capabilities(&status).ok_or("/proc has no capabilities")?);
    if missing.is_empty() {
        return Ok(());
    }
    Err(problem(
        format!(
            "not allowed to load BPF programs and to sample all tasks: no {}",
            missing.join(", no ")
        ),
        "Run it as root: sudo profiler. No value of kernel.perf_event_paranoid is enough for that.",
    ))
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn missing(capabilities: u64) -> Vec<&'static str> {
    [("CAP_BPF", CAP_BPF), ("CAP_PERFMON", CAP_PERFMON)]
        .into_iter()
        .filter(|(_, capability)| capabilities & (capability | CAP_SYS_ADMIN) == 0)
        .map(|(name, _)| name)
        .collect()
}

/// Each event is a few descriptors, on each CPU: as many as may be.
pub(crate) fn raise_open_files() -> Result<()> {
    let most = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    Ok(setrlimit(Resource::Nofile, limit)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities() {
        let status = "Name:\tprofiler\nCapPrm:\t0000000000000000\nCapEff:\t000000c000000000\n";
        let both = effective_capabilities(status).unwrap();
        assert_eq!(both, CAP_BPF | CAP_PERFMON);
        assert!(missing(both).is_empty());
        assert!(missing(CAP_SYS_ADMIN).is_empty());
        assert_eq!(missing(CAP_BPF), ["CAP_PERFMON"]);
        assert_eq!(missing(0), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(effective_capabilities("Name:\tprofiler\n"), None);
    }
}
