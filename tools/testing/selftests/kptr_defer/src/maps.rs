// SPDX-License-Identifier: GPL-2.0

//! Handles in every kind of map, taken and given back in NMI while tasks are forked and exit.
//!
//! What breaks when one fails: a reference given back in NMI was lost, dropped twice, or dropped
//! right there.

use crate::{
    bpf::{
        Bpf,
        Counted, //
    },
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
    nmi::Source,
    workload, //
};
use std::{
    thread::sleep,
    time::Duration, //
};

/// The maps of bpf/maps.bpf.c.
pub const KINDS: [&str; 7] = [
    "array",
    "percpu_array",
    "hash",
    "hash_no_prealloc",
    "percpu_hash",
    "lru_hash",
    "lru_percpu_hash",
];

pub fn tests(sources: &[Source]) -> Vec<Test> {
    let mut tests = Vec::new();
    for source in sources.iter().copied() {
        for kind in KINDS {
            let name = format!("maps: {kind}, {}", source.name());
            tests.push(Test::new(name, move || {
                fork_under("", &[source], &[kind]).map(drop)
            }));
        }
    }
    if sources.is_empty() {
        return tests;
    }
    let names: Vec<_> = sources.iter().map(|source| source.name()).collect();
    let name = format!("maps: all kinds at once, {}", names.join(" + "));
    let sources = sources.to_vec();
    tests.push(Test::new(name, move || {
        fork_under("", &sources, &KINDS).map(drop)
    }));
    tests
}

/// Forks under these sources, with kptr_defer loaded with `params`, and checks all numbers.
pub fn fork_under(params: &str, sources: &[Source], kinds: &[&str]) -> Outcome<Stats> {
    let module = KptrDefer::load(params)?;
    let mut programs = Vec::new();
    for source in sources {
        for kind in kinds.iter().take(source.programs_at_once()) {
            programs.push((source, kind, source.program(kind)));
        }
    }
    let mut names: Vec<&str> = programs.iter().map(|(_, _, name)| &name[..]).collect();
    names.push("on_call_rcu");
    let bpf = Bpf::load("maps", &names)?;
    let watch = bpf.program("on_call_rcu")?.attach()?;
    let mut hooks = Vec::new();
    for (source, kind, _) in &programs {
        hooks.push(source.attach(&bpf, kind)?);
    }
    let children = || workload::fork(50, || sources.iter().for_each(|source| source.run_into()));
    children()?;
    // The dead give up their own references some RCU grace periods after they were reaped.
    eventually("a last reference is given back in NMI", || {
        sleep(Duration::from_millis(200));
        children()?;
        // A task in several maps has its last reference dropped, too, but not where programs see it.
        Ok(bpf.counted()?.last_in_nmi > 0 || kinds.len() > 1)
    })?;
    drop((hooks, watch));

    let counted = bpf.counted()?;
    drop(bpf);
    let stats = module.settled()?;
    really_happened(&counted)?;
    add_up(&counted, &stats)?;
    module.unload()?;
    Ok(stats)
}

/// No exact numbers: of nested programs the kernel skips some.
fn really_happened(counted: &Counted) -> Outcome {
    note(format!(
        "nmi={} acquired_in_nmi={} released_in_nmi={} last_in_nmi={}",
        counted.nmi, counted.acquired_in_nmi, counted.released_in_nmi, counted.last_in_nmi
    ));
    check!(counted.nmi > 0);
    check!(counted.not_nmi == 0);
    check!(counted.acquired_in_nmi > 0);
    check!(counted.released_in_nmi > 0);
    check!(counted.call_rcu_in_nmi == 0);
    Ok(())
}

/// The programs' numbers and the module's own: here nested programs do not matter.
fn add_up(counted: &Counted, stats: &Stats) -> Outcome {
    let (inline, deferred) = (stats.get("inline")?, stats.get("deferred")?);
    check!(
        deferred == counted.released_in_nmi,
        "released in NMI: {}, deferred: {deferred}",
        counted.released_in_nmi
    );
    check!(
        inline + deferred == counted.acquired,
        "acquired: {}, dropped: {inline} inline, {deferred} deferred",
        counted.acquired
    );
    let acquire_failed = stats.get("acquire_failed")?;
    check!(
        acquire_failed == counted.acquire_failed,
        "NULL from acquire: {}, acquire_failed: {acquire_failed}",
        counted.acquire_failed
    );
    Ok(())
}
