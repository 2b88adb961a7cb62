// SPDX-License-Identifier: GPL-2.0

//! Others that look at a guarded function, or redirect it: each of them and the guard still do what
//! they are there for.

use crate::{
    bpf::Bpf,
    check,
    guard::{
        self,
        pairs,
        put_last,
        Guard,
        OfWatcher,
        Seen,
        Watch, //
    },
    guard_races::{
        alongside,
        hit, //
    },
    ktap::{
        note,
        Outcome,
        Stop,
        Test, //
    },
    module::{
        eventually,
        not_built_in,
        Loaded,
        GUARD,
        LIVEPATCH, //
    },
    nmi::{
        one_by_one,
        run_on_ipis, //
    },
    tracing::Tracing,
};
use libbpf_rs::Link;
use nmi_source::kernel_symbol;
use std::{
    fs,
    path::Path,
    sync::atomic::AtomicBool,
    time::Duration, //
};

const WATCHERS: [&str; 3] = ["fentry_release", "fexit_release", "kprobe_release"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    Guard,
    Other,
}

pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::new(
            "guard_beside: fentry, fexit and kprobe attached before it, NMI IPI",
            || watched(First::Other),
        ),
        Test::new(
            "guard_beside: fentry, fexit and kprobe attached after it, NMI IPI",
            || watched(First::Guard),
        ),
        Test::new("guard_beside: function tracer, NMI IPI", traced),
    ];
    for (loaded, loaded_first) in [("before", First::Other), ("after", First::Guard)] {
        for (unloaded, unloaded_first) in [("before", First::Other), ("after", First::Guard)] {
            tests.push(Test::new(
                format!(
                    "guard_beside: livepatch loaded {loaded} it and unloaded {unloaded} it, NMI IPI"
                ),
                move || livepatched(loaded_first, unloaded_first),
            ));
        }
    }
    tests
}

/// Programs that fill a map and give back all of it in NMI.
fn load(watchers: &[&str]) -> Outcome<(Bpf, Watch)> {
    guard::load(&[&["put_array", "look_array", "from_tp_btf"], watchers].concat())
}

fn give_back_last_ones(bpf: &Bpf, watch: &Watch) -> Outcome {
    put_last(bpf, "array", watch, pairs()?)?;
    run_on_ipis(&bpf.program("from_tp_btf")?)
}

fn attach(bpf: &Bpf, programs: &[&str]) -> Outcome<Vec<Link>> {
    let mut links = Vec::new();
    for program in programs {
        links.push(bpf.program(program)?.attach()?);
    }
    Ok(links)
}

fn watched(first: First) -> Outcome {
    let (bpf, watch) = load(&WATCHERS)?;
    let (guard, links);
    if first == First::Guard {
        guard = Guard::load("")?;
        links = attach(&bpf, &WATCHERS)?;
    } else {
        links = attach(&bpf, &WATCHERS)?;
        guard = Guard::load("")?;
    }
    give_back_last_ones(&bpf, &watch)?;
    let seen = guard.caught_all(&watch)?;
    drop(links);
    for (name, OfWatcher { right, wrong }) in [
        ("fentry", seen.fentry),
        ("fexit", seen.fexit),
        ("kprobe", seen.kprobe),
    ] {
        note(format!("{name}: right={right} wrong={wrong}"));
        check!(right == pairs()? && wrong == 0);
    }
    check!(seen.last() == 2 * pairs()?);
    drop(bpf);
    guard.unload()
}

fn traced() -> Outcome {
    let guard = Guard::load("")?;
    let (bpf, watch) = load(&[])?;
    let tracing = Tracing::new()?;
    tracing.set("set_ftrace_filter", "bpf_task_release")?;
    tracing.set("current_tracer", "function")?;
    give_back_last_ones(&bpf, &watch)?;
    tracing.set("tracing_on", "0")?;
    let seen = guard.caught_all(&watch)?;
    let traced = tracing.lines_with(&[": bpf_task_release <-"])?;
    note(format!("traced={traced}"));
    check!(traced == seen.task.released);
    check!(seen.last() == 2 * pairs()?);
    drop((tracing, bpf));
    guard.unload()
}

/// kptr_defer_test_livepatch.ko, for as long as this lives.
struct Livepatch {
    _module: Loaded,
}

impl Livepatch {
    fn load() -> Outcome<Livepatch> {
        if !Path::new("/sys/kernel/livepatch").exists() {
            return Err(Stop::Skipped("a kernel without livepatches".into()));
        }
        let dtor = kernel_symbol("bpf_task_release_dtor")?;
        let livepatch = Livepatch {
            _module: Loaded::new(LIVEPATCH, &format!("dtor={dtor:#x}"))?,
        };
        eventually("the livepatch is effective", || {
            let transition = fs::read_to_string(Livepatch::file("transition"))?;
            Ok(transition.trim() == "0")
        })?;
        Ok(livepatch)
    }

    fn file(name: &str) -> String {
        format!("/sys/kernel/livepatch/{LIVEPATCH}/{name}")
    }

    fn calls(&self) -> Outcome<u64> {
        let calls = fs::read_to_string(format!("/sys/module/{LIVEPATCH}/parameters/calls"))?;
        Ok(calls.trim().parse().unwrap_or_default())
    }
}

impl Drop for Livepatch {
    fn drop(&mut self) {
        // Only then can its module be unloaded.
        let disabled = fs::write(Livepatch::file("enabled"), "0").map_err(Stop::from);
        let gone = || Ok(!Path::new(&Livepatch::file("")).exists());
        if disabled.and(eventually("it is gone", gone)).is_err() {
            note("the livepatch stays");
        }
    }
}

fn livepatched(loaded_first: First, unloaded_first: First) -> Outcome {
    // It gives way for good.
    not_built_in(GUARD)?;
    let (bpf, watch) = load(&[&one_by_one("current")])?;
    let (mut guard, livepatch);
    if loaded_first == First::Guard {
        guard = Guard::load("")?;
        // Meanwhile calls come by the guard, each once.
        let pause = Duration::from_millis(1);
        let give_back = |stop: &AtomicBool| hit(&bpf, "current", pause, stop);
        livepatch = alongside(give_back, Livepatch::load)?;
    } else {
        livepatch = Livepatch::load()?;
        guard = Guard::load("")?;
    }
    let lines = guard.said()?;
    note(lines.join("\n"));
    let gave_way = if loaded_first == First::Guard {
        format!("gives way to livepatch {LIVEPATCH}")
    } else {
        "gives way to what redirects one of them already".to_string()
    };
    check!(lines.contains(&gave_way), "no '{gave_way}' in {lines:?}");

    give_back_last_ones(&bpf, &watch)?;
    let seen = caught(&guard, &watch, 1)?;
    let calls = livepatch.calls()?;
    note(format!("livepatched calls={calls}"));
    check!(calls >= pairs()? && calls <= seen.task.released);

    if unloaded_first == First::Guard {
        guard.unload()?;
        // Outside NMI: the second ones replace the first.
        put_last(&bpf, "array", &watch, pairs()?)?;
        put_last(&bpf, "array", &watch, pairs()?)?;
        check!(livepatch.calls()? == calls + pairs()?);
        drop((livepatch, bpf));
        watch.all_freed()?;
        return Ok(());
    }
    drop(livepatch);
    give_back_last_ones(&bpf, &watch)?;
    caught(&guard, &watch, 2)?;
    drop(bpf);
    guard.unload()
}

fn caught(guard: &Guard, watch: &Watch, rounds: u64) -> Outcome<Seen> {
    let seen = guard.caught_all(watch)?;
    note(format!("nmi={} last={}", seen.nmi, seen.last()));
    check!(seen.last() == 2 * rounds * pairs()?);
    Ok(seen)
}
