// SPDX-License-Identifier: GPL-2.0

//! The tracepoints: each drop that is deferred in NMI is told of, there and then; and what drains tell
//! adds up to them. Programs see it, and so does the kernel's trace.

use crate::{
    bpf::{
        missed,
        Bpf,
        Globals, //
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
    tracing::Tracing,
    workload::{
        self,
        rounds, //
    },
};

pub fn tests(sources: &[Source]) -> Vec<Test> {
    let test = |source: Source| {
        Test::new(
            format!("tracepoints: each drop, and all drains, {}", source.name()),
            move || told_of(source),
        )
    };
    sources.iter().copied().map(test).collect()
}

/// `struct seen` of bpf/tracepoints.bpf.c.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Seen {
    nmi: u64,
    not_nmi: u64,
    tasks: u64,
    mms: u64,
    drop_deferred: u64,
    other_slot: u64,
    other_context: u64,
    no_dtor: u64,
    drain: u64,
    by_irq_work: u64,
    by_workqueue: u64,
    by_sleepable: u64,
    drain_in_nmi: u64,
    drops: u64,
    duration_ns: u64,
}

// SAFETY: Numbers.
unsafe impl Globals for Seen {}

fn told_of(source: Source) -> Outcome {
    let module = KptrDefer::load("")?;
    let tracing = Tracing::new()?;
    let give_back = source.program("give_back");
    let bpf = Bpf::load(
        "tracepoints",
        &[&give_back[..], "on_drop_deferred", "on_drain"],
    )?;
    tracing.set("events/kptr_defer/enable", "1")?;
    let watch = (
        bpf.program("on_drop_deferred")?.attach()?,
        bpf.program("on_drain")?.attach()?,
    );
    let hooks = source.attach(&bpf, "give_back")?;
    workload::fork(rounds(200)?.max(20), || source.run_into())?;
    drop(hooks);

    let deferred = module.settled()?.get("deferred")?;
    // A drain is counted when it begins, and tells what it has done when it is over. One that finds
    // nothing left may come after all others, and one that has interrupted the program does not run it.
    let globals = bpf.globals::<Seen>()?;
    let mut seen = globals.read()?;
    let (mut runs, mut lines, mut not_seen) = (0, 0, 0);
    let all_told = eventually("all drains have told what they have done", || {
        let stats = Stats::read()?;
        runs = stats.get("irq_work_runs")? + stats.get("workqueue_runs")?;
        lines = tracing.lines_with(&["drain:"])?;
        not_seen = missed("on_drain");
        seen = globals.read()?;
        let drained = tracing.sum("drain:", "drops=")?;
        Ok(drained == deferred && lines == runs && seen.drain + not_seen == runs)
    });
    note(format!(
        "runs={runs} lines={lines} missed={not_seen} {seen:?}"
    ));
    all_told?;
    drop(watch);
    drop(bpf);

    check!(seen.nmi > 0 && seen.not_nmi == 0);
    check!(seen.tasks > 0 && seen.mms > 0);
    check!(deferred == seen.tasks + seen.mms);

    check!(tracing.lines_with(&["drop_deferred:", "slot=", "dtor="])? == deferred);
    check!(seen.drop_deferred == deferred);
    check!(seen.other_slot == 0);
    check!(seen.other_context == 0);
    check!(seen.no_dtor == 0);

    check!(seen.by_irq_work + seen.by_workqueue + seen.by_sleepable == seen.drain);
    check!(seen.by_irq_work > 0 && seen.by_sleepable > 0);
    check!(seen.drain_in_nmi == 0);
    check!(seen.drops == deferred || not_seen > 0 && seen.drops < deferred);
    check!(seen.duration_ns > 0);
    module.unload()
}
