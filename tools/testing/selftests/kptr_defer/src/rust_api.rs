// SPDX-License-Identifier: GPL-2.0

//! The Rust API: a module that drops all kinds of owners in NMI and says where what they owned was
//! dropped, and the sample.

use crate::{
    acquire::preempt_rt,
    bpf::{
        Bpf,
        Counted, //
    },
    check,
    kmsg::Kmsg,
    ktap::{
        failed,
        note,
        Outcome,
        Test, //
    },
    module::{
        eventually,
        not_under_lockdep,
        KptrDefer,
        Loaded,
        Stats,
        RUST_SAMPLE,
        RUST_USER, //
    },
    nmi::{
        one_by_one,
        OneByOne, //
    },
    workload::{
        on_cpu,
        Parent, //
    },
};
use nmi_source::kernel_symbol;
use std::collections::HashMap;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("rust_api: drops in NMI, hardware breakpoint", in_nmi),
        Test::new("rust_api: drops in process context", in_process),
        Test::new(
            "rust_api: without it they run in NMI, hardware breakpoint",
            bare,
        ),
        Test::new("rust_api: no memory, the value comes back", no_memory),
        Test::new("rust_api: the sample, hardware breakpoint", sample),
    ]
}

const ROUNDS: u32 = 50;

/// What kptr_defer_test_rust.ko prepares for each context.
const KINDS: [&str; 7] = [
    "value",
    "box",
    "arc",
    "aref",
    "intrusive_box",
    "pinned_box",
    "shared",
];

/// The drops of these, and of a task reference.
const DROPS: u64 = (KINDS.len() as u64 + 1) * ROUNDS as u64;

/// How often something was dropped, and where.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Dropped {
    nmi: u32,
    irq: u32,
    process: u32,
}

const ALL_IN_PROCESS: Dropped = Dropped {
    nmi: 0,
    irq: 0,
    process: ROUNDS,
};

/// Runs a program in NMI on one CPU, after `before`, so often.
fn each_in_nmi(
    bpf: &Bpf,
    program: &str,
    rounds: u32,
    before: impl Fn() -> Outcome,
) -> Outcome<Counted> {
    let nmis = OneByOne::attach(bpf, program)?;
    on_cpu(0, || {
        for _ in 0..rounds {
            before()?;
            nmis.raise()?;
        }
        Ok(())
    })?;
    drop(nmis);
    let counted = bpf.counted()?;
    check!(counted.nmi == rounds.into() && counted.not_nmi == 0);
    Ok(counted)
}

/// The program that watches it.
fn on_mutex_lock() -> &'static str {
    match kernel_symbol("mutex_lock_nested") {
        Ok(_) => "on_mutex_lock_nested",
        Err(_) => "on_mutex_lock",
    }
}

fn call(bpf: &Bpf, program: &str) -> Outcome {
    let status = bpf.call(program, &mut [])? as i32;
    check!(status == 0, "{program} gives {status}");
    Ok(())
}

/// Unloads the module, and asks it where what it owned has been dropped.
fn unload(user: Loaded) -> Outcome<HashMap<String, Dropped>> {
    let parse = |line: &str| {
        let mut words = line.strip_prefix("kptr_defer_test_rust: ")?.rsplitn(4, ' ');
        let mut number = |name| words.next()?.strip_prefix(name)?.parse().ok();
        let (process, irq, nmi) = (number("process=")?, number("irq=")?, number("nmi=")?);
        Some((words.next()?.to_string(), Dropped { nmi, irq, process }))
    };
    let mut log = Kmsg::from_now_on()?;
    user.unload()?;
    Ok(log.read()?.iter().filter_map(|line| parse(line)).collect())
}

fn of(all: &HashMap<String, Dropped>, name: &str) -> Outcome<Dropped> {
    match all.get(name) {
        Some(dropped) => Ok(*dropped),
        None => failed(format!("nothing about '{name}' in the kernel log")),
    }
}

fn in_nmi() -> Outcome {
    let module = KptrDefer::load("")?;
    let user = Loaded::new(RUST_USER, "")?;
    let bpf = Bpf::load(
        "rust_api",
        &[
            "prepare",
            &one_by_one("drop"),
            "references",
            on_mutex_lock(),
        ],
    )?;
    let references = || bpf.call("references", &mut []);
    let watch = bpf.program(on_mutex_lock())?.attach()?;
    // Of a task that has had perf events the kernel keeps one.
    drop(OneByOne::attach(&bpf, "drop")?);
    let before = references()?;
    let counted = each_in_nmi(&bpf, "drop", ROUNDS, || call(&bpf, "prepare"))?;
    check!(counted.released_in_nmi == ROUNDS.into());
    let stats = module.settled()?;
    note(format!("deferred={}", stats.get("deferred")?));
    check!(stats.get("deferred")? == 2 * DROPS);
    check!(stats.get("inline")? == 0);
    eventually("the task's references are given back", || {
        Ok(references()? == before)
    })?;
    drop(watch);
    check!(bpf.counted()?.put_in_nmi == 0);
    drop(bpf);

    let dropped = unload(user)?;
    for kind in KINDS {
        let sleeping = of(&dropped, &format!("process {kind}"))?;
        check!(sleeping == ALL_IN_PROCESS, "process {kind}: {sleeping:?}");
        let other = of(&dropped, &format!("irq {kind}"))?;
        check!(
            other.nmi == 0 && other.irq + other.process == ROUNDS,
            "irq {kind}: {other:?}"
        );
        check!((other.irq == 0) == preempt_rt(), "irq {kind}: {other:?}");
    }
    module.unload()
}

/// Those fit for hard interrupt context are dropped at once, the others never where they are. The last
/// ones are when the module is unloaded, which waits for them.
fn in_process() -> Outcome {
    let module = KptrDefer::load("")?;
    let user = Loaded::new(RUST_USER, "")?;
    let bpf = Bpf::load("rust_api", &["prepare", "drop_here"])?;
    call(&bpf, "prepare")?;
    for _ in 1..ROUNDS {
        call(&bpf, "drop_here")?;
        call(&bpf, "prepare")?;
    }
    drop(bpf);
    let dropped = unload(user)?;
    for kind in KINDS {
        for context in ["process", "irq"] {
            let name = format!("{context} {kind}");
            let dropped = of(&dropped, &name)?;
            check!(dropped == ALL_IN_PROCESS, "{name}: {dropped:?}");
        }
    }
    let stats = Stats::read()?;
    check!(stats.get("inline")? == DROPS);
    check!(stats.get("deferred")? == DROPS);
    module.unload()
}

/// The negative control: what is not wrapped is dropped in NMI, and both kinds of evidence show it.
fn bare() -> Outcome {
    not_under_lockdep()?;
    let module = KptrDefer::load("")?;
    let user = Loaded::new(RUST_USER, "")?;
    let bpf = Bpf::load(
        "rust_api",
        &["prepare_bare", &one_by_one("drop"), on_mutex_lock()],
    )?;
    let watch = bpf.program(on_mutex_lock())?.attach()?;
    each_in_nmi(&bpf, "drop", 1, || call(&bpf, "prepare_bare"))?;
    drop(watch);
    check!(bpf.counted()?.put_in_nmi == 1);
    check!(module.settled()?.get("deferred")? == 0);
    drop(bpf);
    let dropped = of(&unload(user)?, "nmi bare")?;
    check!(dropped.nmi == 1 && dropped.irq + dropped.process == 0);
    module.unload()
}

fn no_memory() -> Outcome {
    let module = KptrDefer::load("")?;
    let user = Loaded::new(RUST_USER, "")?;
    let bpf = Bpf::load("rust_api", &["no_memory"])?;
    Parent::with_little_memory(16 << 20, || call(&bpf, "no_memory"))?;
    let deferred = module.settled()?.get("deferred")?;
    drop(bpf);
    let dropped = of(&unload(user)?, "process no_memory")?;
    note(format!("{deferred} wrapped before memory was refused"));
    check!(deferred > 0);
    check!(dropped.nmi + dropped.irq == 0);
    check!(u64::from(dropped.process) == deferred + 1);
    module.unload()
}

/// Half of the buffers are given back in NMI, the others by the teardown of the map.
fn sample() -> Outcome {
    const BUFFERS: u64 = 64;
    let module = KptrDefer::load("")?;
    let sample = Loaded::new(RUST_SAMPLE, "")?;
    let bpf = Bpf::load(
        "rust_api",
        &[
            "create_buffers",
            &one_by_one("release_buffers"),
            on_mutex_lock(),
        ],
    )?;
    call(&bpf, "create_buffers")?;
    check!(bpf.counted()?.acquired == BUFFERS);
    let watch = bpf.program(on_mutex_lock())?.attach()?;
    let counted = each_in_nmi(&bpf, "release_buffers", 1, || Ok(()))?;
    check!(counted.released_in_nmi == BUFFERS / 2);
    // Not those references that were not the last.
    check!(module.settled()?.get("deferred")? == BUFFERS / 2);
    drop(watch);
    check!(bpf.counted()?.put_in_nmi == 0);
    drop(bpf);

    let mut log = Kmsg::from_now_on()?;
    sample.unload()?;
    check!(Stats::read()?.get("deferred")? == BUFFERS);
    let expected = format!(
        "kptr_defer_sample_rust: dropped {} bytes",
        (1..=BUFFERS).sum::<u64>()
    );
    let lines = log.read()?;
    check!(lines.contains(&expected), "no '{expected}' but {lines:?}");
    module.unload()
}
