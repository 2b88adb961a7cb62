// SPDX-License-Identifier: GPL-2.0

//! A module with a kptr type of its own, given back in an NMI that lands while the lock is held
//! that its destructor takes.

use crate::{
    acquire::preempt_rt,
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
        debugfs,
        debugfs_number,
        eventually,
        KptrDefer,
        Loaded,
        Stats,
        USER, //
    },
    nmi::{
        cpus,
        Source, //
    },
};
use libbpf_rs::ProgramInput;
use nmi_source::{
    kernel_symbol,
    Event,
    Scope, //
};
use std::fs;

pub fn tests() -> Vec<Test> {
    let source = Source::PERF_EVENT.name();
    vec![
        Test::new(
            format!("c_api: destructor takes a lock, {source}"),
            deferred,
        ),
        Test::new(
            format!("c_api: it deadlocks when not deferred, {source}"),
            not_deferred,
        ),
        Test::new(
            format!("c_api: runs in hard irq, in a kworker on PREEMPT_RT, {source}"),
            in_hard_irq_or_kworker,
        ),
        Test::new(
            "c_api: defer_when=irqsoff, lock held but no NMI",
            with_interrupts_off,
        ),
        Test::new(
            format!("c_api: user module's exit waits for its drops, {source}"),
            exit_waits,
        ),
    ]
}

const ROUNDS: u64 = 1000;

/// Takes the lock, with the program running each time while it is held.
fn lock(rounds: u64) -> Outcome {
    Ok(fs::write(
        debugfs("kptr_defer_test_user/lock"),
        rounds.to_string(),
    )?)
}

fn deadlocks() -> Outcome<u64> {
    debugfs_number("kptr_defer_test_user/deadlocks")
}

/// Runs a program in NMI each time the lock is held, or while it is held for long.
fn in_nmi_under_lock(bpf: &Bpf, program: &str, rounds: u64) -> Outcome<Counted> {
    // Where these are no IPIs, they are from the PMU, too: does it interrupt in NMI?
    Source::Ipi.opens()?;
    let mut hooks = Vec::new();
    for cpu in 0..cpus() {
        let event = match Source::PERF_EVENT {
            // The timer interrupt restarts it when it was throttled, and is over by then.
            Source::Cycles => Event::cycles(Scope::Cpu(cpu), 1_000_000)?,
            _ => Event::execute(
                Scope::Cpu(cpu),
                kernel_symbol("kptr_defer_test_user_locked")?,
            )?,
        };
        hooks.push(event.attach(&bpf.program(program)?)?);
    }
    eventually("something is given back in NMI", || {
        lock(rounds)?;
        Ok(bpf.counted()?.released_in_nmi > 0)
    })?;
    drop(hooks);
    let counted = bpf.counted()?;
    note(format!(
        "nmi={} released_in_nmi={}",
        counted.nmi, counted.released_in_nmi
    ));
    check!(counted.nmi > 0);
    check!(counted.not_nmi == 0);
    check!(counted.released_in_nmi > 0);
    Ok(counted)
}

fn deferred() -> Outcome {
    let module = KptrDefer::load("")?;
    let user = Loaded::new(USER, "")?;
    let bpf = Bpf::load("c_api", &["swap"])?;
    let counted = in_nmi_under_lock(&bpf, "swap", ROUNDS)?;
    check!(deadlocks()? == 0);
    check!(debugfs_number("kptr_defer_test_user/dropped_in_nmi")? == 0);
    check!(module.settled()?.get("deferred")? == counted.released_in_nmi);
    drop(bpf);
    user.unload()?;
    module.unload()
}

/// The negative control of [`deferred`].
fn not_deferred() -> Outcome {
    let module = KptrDefer::load("")?;
    let user = Loaded::new(USER, "inline_drop=1")?;
    let bpf = Bpf::load("c_api", &["swap"])?;
    let counted = in_nmi_under_lock(&bpf, "swap", ROUNDS)?;
    let deadlocks = deadlocks()?;
    note(format!("deadlocks={deadlocks}"));
    check!(deadlocks > 0);
    check!(debugfs_number("kptr_defer_test_user/dropped_in_nmi")? == counted.released_in_nmi);
    check!(module.settled()?.get("deferred")? == 0);
    drop(bpf);
    user.unload()?;
    module.unload()
}

fn in_hard_irq_or_kworker() -> Outcome {
    let module = KptrDefer::load("")?;
    let user = Loaded::new(USER, "")?;
    let bpf = Bpf::load("c_api", &["fill", "empty", "on_free"])?;
    let watch = bpf.program("on_free")?.attach()?;
    bpf.program("fill")?.test_run(ProgramInput::default())?;
    let released = in_nmi_under_lock(&bpf, "empty", 1)?.released_in_nmi;
    module.settled()?;
    drop(watch);
    let counted = bpf.counted()?;
    note(format!(
        "freed={} freed_in_hardirq={} freed_in_kworker={}",
        counted.freed, counted.freed_in_hardirq, counted.freed_in_kworker
    ));
    let in_place = if preempt_rt() {
        counted.freed_in_kworker
    } else {
        counted.freed_in_hardirq
    };
    check!(counted.freed == released && in_place == released);
    drop(bpf);
    user.unload()?;
    module.unload()
}

/// A program may meet the lock without an NMI: that is what irqsoff is for, and nmi is not.
fn with_interrupts_off() -> Outcome {
    for (params, deadlocks_expected) in [("defer_when=irqsoff", false), ("defer_when=nmi", true)] {
        let module = KptrDefer::load(params)?;
        let user = Loaded::new(USER, "")?;
        let bpf = Bpf::load("c_api", &["swap_on_entry"])?;
        let link = bpf.program("swap_on_entry")?.attach()?;
        lock(ROUNDS)?;
        drop(link);
        let (released, deadlocks) = (bpf.counted()?.released, deadlocks()?);
        let deferred = module.settled()?.get("deferred")?;
        note(format!(
            "{params}: released={released} deferred={deferred} deadlocks={deadlocks}"
        ));
        check!(released > 0);
        check!((deadlocks > 0) == deadlocks_expected);
        check!(deferred == if deadlocks_expected { 0 } else { released });
        drop(bpf);
        user.unload()?;
        module.unload()?;
    }
    Ok(())
}

/// Slow drops are still under way when the module goes. Without kptr_defer_barrier() in its exit
/// they would run code that is gone; before that, the exit warns about the missing ones.
fn exit_waits() -> Outcome {
    let module = KptrDefer::load("budget=1")?;
    let user = Loaded::new(USER, "drop_ms=10")?;
    let bpf = Bpf::load("c_api", &["fill", "empty"])?;
    bpf.program("fill")?.test_run(ProgramInput::default())?;
    let released = in_nmi_under_lock(&bpf, "empty", 1)?.released_in_nmi;
    drop(bpf);
    user.unload()?;
    let stats = Stats::read()?;
    check!(stats.get("deferred")? == released);
    check!(stats.get("drained")? == released);
    module.unload()
}
