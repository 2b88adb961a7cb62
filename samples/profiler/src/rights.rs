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

/// Tells early what would otherwise fail somewhere, as "Operation not permitted".
pub(crate) fn check() -> Result<()> {
    let status = fs::read_to_string("/proc/self/status")?;
    if may_look_up_btf(effective_capabilities(&status).ok_or("/proc has no capabilities")?) {
        return Ok(());
    }
    Err(problem(
        "not allowed to load BPF programs that call a module: no CAP_SYS_ADMIN",
        "Run it as root: sudo profiler. No value of kernel.perf_event_paranoid is enough for that.",
    ))
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// CAP_BPF and CAP_PERFMON are not enough: the module's functions are found by its BTF, which nobody
/// else may look up.
fn may_look_up_btf(capabilities: u64) -> bool {
    capabilities & CAP_SYS_ADMIN != 0
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
        let bpf_and_perfmon = effective_capabilities(status).unwrap();
        assert_eq!(bpf_and_perfmon, (1 << 38) | (1 << 39));
        assert!(!may_look_up_btf(bpf_and_perfmon));
        assert!(may_look_up_btf(CAP_SYS_ADMIN));
        assert_eq!(effective_capabilities("Name:\tprofiler\n"), None);
    }
}
