// SPDX-License-Identifier: GPL-2.0

//! Drops that may sleep: wherever they come from they end in process context, nothing but their like
//! waits for them, and a barrier does.

use crate::{
    bpf::{
        Bpf,
        Counted, //
    },
    check,
    defer_when::Context,
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
        Stats, //
    },
    nmi::run_on_ipis,
    workload::rounds,
};
use libbpf_rs::ProgramInput;
use std::{
    fs,
    thread,
    time::Duration, //
};

const SLEEP: &str = "kptr_defer_test_sleep";

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for context in Context::ALL {
        tests.push(Test::new(
            format!("sleepable: given back, {}", context.name()),
            move || given_back(context),
        ));
    }
    tests.extend([
        Test::new(
            "sleepable: a map closed with some in it, no NMI",
            map_closed,
        ),
        Test::new(
            "sleepable: others do not wait for one that sleeps, NMI IPI",
            others_do_not_wait,
        ),
        Test::new(
            "sleepable: kptr_defer_barrier() waits, NMI IPI",
            barrier_waits,
        ),
        Test::new("sleepable: user module's exit waits, NMI IPI", exit_waits),
    ]);
    tests
}

struct Sleepers {
    module: Loaded,
    kptr_defer: KptrDefer,
}

impl Sleepers {
    fn load() -> Outcome<Sleepers> {
        let kptr_defer = KptrDefer::load("")?;
        let module = Loaded::new(SLEEP, "")?;
        Ok(Sleepers { module, kptr_defer })
    }

    fn number(name: &str) -> Outcome<u64> {
        debugfs_number(&format!("{SLEEP}/{name}"))
    }

    /// Each has been dropped, once, where it may sleep.
    fn all_dropped() -> Outcome {
        let (acquired, dropped) = (Self::number("acquired")?, Self::number("dropped")?);
        check!(acquired == dropped, "acquired={acquired} dropped={dropped}");
        check!(Self::number("dropped_again")? == 0);
        check!(Self::number("dropped_where_it_cannot_sleep")? == 0);
        Ok(())
    }

    /// Unloads all, after nothing but `released` and `inline` drops.
    fn unload(self, released: u64, inline: u64) -> Outcome {
        let stats = self.kptr_defer.settled()?;
        check!(stats.get("deferred")? == released);
        check!(stats.get("inline")? == inline);
        Self::all_dropped()?;
        self.module.unload()?;
        self.kptr_defer.unload()
    }
}

/// Destructors do not return as long as this lives.
struct Hold;

impl Hold {
    const FILE: &'static str = "/sys/module/kptr_defer_test_sleep/parameters/hold";

    fn new() -> Outcome<Hold> {
        fs::write(Self::FILE, "1")?;
        Ok(Hold)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Err(err) = fs::write(Self::FILE, "0") {
            note(format!("destructors sleep on: {err}"));
        }
    }
}

fn fill(bpf: &Bpf) -> Outcome {
    bpf.program("fill")?.test_run(ProgramInput::default())?;
    check!(bpf.counted()?.acquired > 0);
    Ok(())
}

/// Has all of them given back.
fn give_back(bpf: &Bpf, context: Context) -> Outcome<Counted> {
    context.run(bpf, "empty", 1)?;
    let counted = bpf.counted()?;
    note(format!(
        "nmi={} not_nmi={} released={}",
        counted.nmi, counted.not_nmi, counted.released
    ));
    check!((counted.nmi > 0) == (context == Context::Nmi));
    check!((counted.not_nmi > 0) == (context != Context::Nmi));
    check!(counted.released == counted.acquired);
    Ok(counted)
}

fn given_back(context: Context) -> Outcome {
    let sleepers = Sleepers::load()?;
    let bpf = Bpf::load("sleepable", &["fill", &context.program("empty")])?;
    fill(&bpf)?;
    let released = give_back(&bpf, context)?.released;
    drop(bpf);
    sleepers.unload(released, 0)
}

fn map_closed() -> Outcome {
    let sleepers = Sleepers::load()?;
    let bpf = Bpf::load("sleepable", &["fill"])?;
    fill(&bpf)?;
    let acquired = bpf.counted()?.acquired;
    drop(bpf);
    eventually("the map's are dropped", || {
        Ok(Sleepers::number("dropped")? == acquired)
    })?;
    sleepers.unload(acquired, 0)
}

fn others_do_not_wait() -> Outcome {
    let rounds = rounds(20)?;
    let sleepers = Sleepers::load()?;
    let bpf = Bpf::load("sleepable", &["fill", "empty_on_nmi_point", "replace_task"])?;
    let hold = Hold::new()?;
    fill(&bpf)?;
    let released = give_back(&bpf, Context::Nmi)?.released;
    eventually("one sleeps", || Ok(Sleepers::number("asleep")? == 1))?;
    let program = bpf.program("replace_task")?;
    // The last one stays in the map.
    for _ in 0..=rounds {
        run_on_ipis(&program)?;
    }
    let tasks = bpf.counted()?.released_in_nmi - released;
    check!(tasks >= rounds.into());
    eventually("the others are dropped", || {
        Ok(Stats::read()?.get("drained")? == tasks)
    })?;
    check!(Sleepers::number("asleep")? == 1);
    check!(Sleepers::number("dropped")? == 0);
    drop(hold);
    drop(bpf);
    // One handle was left in the map.
    sleepers.unload(released + tasks, 1)
}

fn barrier_waits() -> Outcome {
    let sleepers = Sleepers::load()?;
    let bpf = Bpf::load("sleepable", &["fill", "empty_on_nmi_point"])?;
    let hold = Hold::new()?;
    fill(&bpf)?;
    let released = give_back(&bpf, Context::Nmi)?.released;
    let barrier = thread::spawn(|| {
        fs::write(debugfs(&format!("{SLEEP}/barrier")), "1")?;
        Sleepers::all_dropped()
    });
    thread::sleep(Duration::from_millis(200));
    let waits = !barrier.is_finished();
    drop(hold);
    check!(waits);
    match barrier.join() {
        Ok(all_dropped) => all_dropped?,
        Err(_) => check!(false, "the thread at the barrier panicked"),
    }
    drop(bpf);
    sleepers.unload(released, 0)
}

/// It warns about missing ones.
fn exit_waits() -> Outcome {
    let sleepers = Sleepers::load()?;
    let bpf = Bpf::load("sleepable", &["fill", "empty_on_nmi_point"])?;
    fill(&bpf)?;
    let released = give_back(&bpf, Context::Nmi)?.released;
    drop(bpf);
    let Sleepers { module, kptr_defer } = sleepers;
    module.unload()?;
    let stats = Stats::read()?;
    check!(stats.get("drained")? == released);
    check!(stats.get("workqueue_runs")? > 0);
    kptr_defer.unload()
}
