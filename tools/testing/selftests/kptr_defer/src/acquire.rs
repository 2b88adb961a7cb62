// SPDX-License-Identifier: GPL-2.0

//! Acquire that fails: a NULL for the program, a number for the administrator, nothing to drop.

use crate::{
    bpf::Bpf,
    check,
    ktap::{
        note,
        Outcome,
        Test, //
    },
    module::{
        eventually,
        KptrDefer,
        Stats, //
    },
    nmi::{
        one_by_one,
        OneByOne, //
    },
    workload,
};
use std::fs;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("acquire: NULL for a task that is dead, no NMI", dead_task),
        Test::new(
            "acquire: NULL without memory, hardware breakpoint",
            no_memory,
        ),
    ]
}

fn dead_task() -> Outcome {
    const CHILDREN: u64 = 30;

    let module = KptrDefer::load("")?;
    let bpf = Bpf::load("acquire", &["dead_task"])?;
    let link = bpf.program("dead_task")?.attach()?;
    workload::fork(CHILDREN as u32, || ())?;
    eventually("the tasks are gone, an RCU grace period later", || {
        Ok(bpf.counted()?.acquire_failed >= CHILDREN)
    })?;
    drop(link);

    let counted = bpf.counted()?;
    drop(bpf);
    let stats = module.settled()?;
    note(format!("acquire_failed={}", counted.acquire_failed));
    check!(counted.acquired == 0);
    check!(stats.get("acquire_failed")? == counted.acquire_failed);
    check!(stats.get("inline")? + stats.get("deferred")? == 0);
    module.unload()
}

/// Two thousand in one NMI. On PREEMPT_RT no memory can be had there but what was set aside; on other
/// kernels the allocator may have it all, then only the numbers are checked.
fn no_memory() -> Outcome {
    let module = KptrDefer::load("")?;
    let bpf = Bpf::load("acquire", &[one_by_one("many")])?;
    let nmis = OneByOne::attach(&bpf, "many")?;
    nmis.raise()?;
    drop(nmis);

    let counted = bpf.counted()?;
    note(format!(
        "nmi={} acquired_in_nmi={} acquire_failed={}",
        counted.nmi, counted.acquired_in_nmi, counted.acquire_failed
    ));
    check!(counted.nmi == 1);
    check!(counted.acquired_in_nmi > 0);
    check!(counted.acquire_failed > 0 || !preempt_rt());
    check!(Stats::read()?.get("handles_live")? == counted.acquired);
    drop(bpf);
    let stats = module.settled()?;
    check!(stats.get("acquire_failed")? == counted.acquire_failed);
    check!(stats.get("inline")? + stats.get("deferred")? == counted.acquired);
    module.unload()
}

pub fn preempt_rt() -> bool {
    fs::read_to_string("/proc/version").is_ok_and(|version| version.contains("PREEMPT_RT"))
}
