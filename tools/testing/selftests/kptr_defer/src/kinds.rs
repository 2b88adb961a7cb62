// SPDX-License-Identifier: GPL-2.0

//! Handles on each kind of object, while the objects end as they do in real life.
//!
//! What breaks when one fails: an object was freed while a handle held it, or never; it was put in
//! NMI, where its kernel code must not run; a dying one was held; or the numbers do not add up.

use crate::{
    bpf::{
        missed,
        Bpf,
        Counted, //
    },
    check,
    ktap::{
        failed,
        note,
        Outcome,
        Stop,
        Test, //
    },
    module::{
        eventually,
        KptrDefer,
        Stats, //
    },
    nmi::{
        cpus,
        Source, //
    },
    workload::{
        self,
        Child,
        Kind, //
    },
};
use libbpf_rs::Link;
use std::{
    fs,
    os::unix::process::parent_id,
    path::Path,
    thread::sleep,
    time::Duration, //
};

/// Enough of them for every slot to be used again.
fn children() -> Outcome<u32> {
    Ok(workload::rounds(30)?.max(12))
}

/// All slots of a map in bpf/kinds.bpf.c.
const SLOTS: u64 = 15;

pub fn tests(sources: &[Source]) -> Vec<Test> {
    let mut tests = vec![
        // What the other kinds keep for their readers cannot end while a program looks at it.
        Test::new("kinds: cgroup, taken while it ends, no NMI", || {
            taken_while_it_ends(Kind::Cgroup)
        }),
        Test::new("kinds: cred, for one access only, no NMI", prepared_cred),
        Test::new("kinds: file, refused while it is opened, no NMI", opening),
        Test::new(
            "kinds: mm, of another task is refused, no NMI",
            mm_of_other_task,
        ),
    ];
    for kind in Kind::ALL {
        let name = kind.name();
        let mut add = |what: &str, test: fn(Kind) -> Outcome| {
            tests.push(Test::new(format!("kinds: {name}, {what}"), move || {
                test(kind)
            }));
        };
        add("read after its end, no NMI", read_after_end);
        add("refused while it is freed, no NMI", dying);
        add("map closed, no NMI", map_closed);
        add("any type of program, no NMI", any_program);
        for source in sources.iter().copied() {
            tests.push(Test::new(
                format!("kinds: {name}, {}, {}", kind.end(), source.name()),
                move || given_back_after_end(kind, source),
            ));
            // The thread that has the others in turn runs into no breakpoint.
            if source == Source::Breakpoint && [Kind::Task, Kind::Mm].contains(&kind) {
                continue;
            }
            tests.push(Test::new(
                format!(
                    "kinds: {name}, taken while it is changed, {}",
                    source.name()
                ),
                move || taken_in_change(kind, source),
            ));
        }
    }
    tests
}

/// The module, the programs of bpf/kinds.bpf.c for one kind, and those that watch the kernel.
struct Setup {
    kind: Kind,
    watches: Vec<Link>,
    bpf: Bpf,
    // Dropped when nothing pins it any more.
    module: KptrDefer,
}

/// `struct args` of bpf/kinds.bpf.c, without the slot that it begins with.
struct Args {
    id: u64,
    refs: u64,
    again: bool,
    passed_on: u64,
}

impl Setup {
    /// With these programs, too.
    fn new(kind: Kind, programs: &[String]) -> Outcome<Setup> {
        let name = kind.name();
        let mut watches = vec![
            format!("freed_{name}"),
            "on_call_rcu".into(),
            "on_css_release".into(),
            "on_fput".into(),
            "on_mmput".into(),
        ];
        if kind == Kind::Mm {
            watches.push("ended_mm".into());
        }
        let module = KptrDefer::load("")?;
        let empty = [format!("empty_{name}")];
        let bpf = Bpf::load("kinds", &[&watches, programs, &empty].concat())?;
        let attach = |name: &String| Ok(bpf.program(name)?.attach()?);
        let links = watches.iter().map(attach).collect::<Outcome<_>>()?;
        Ok(Setup {
            kind,
            module,
            bpf,
            watches: links,
        })
    }

    /// Calls a syscall program of the kind on a slot. `None`: the slot is empty.
    fn call(&self, program: &str, slot: u64) -> Outcome<Option<Args>> {
        let mut args: Vec<u8> = [slot, 0, 0, 0, 0].map(u64::to_ne_bytes).concat();
        let empty = self
            .bpf
            .call(&format!("{program}_{}", self.kind.name()), &mut args)?;
        let mut words = args.chunks_exact(8).skip(1).map(|word| {
            let word = word.try_into().unwrap_or_default();
            u64::from_ne_bytes(word)
        });
        let mut word = || words.next().unwrap_or_default();
        Ok((empty == 0).then(|| Args {
            id: word(),
            refs: word(),
            again: word() != 0,
            passed_on: word(),
        }))
    }

    fn call_filled(&self, program: &str, slot: u64) -> Outcome<Args> {
        match self.call(program, slot)? {
            Some(args) => Ok(args),
            None => failed(format!("{program} found no handle")),
        }
    }

    /// Takes a handle on a new object, which ends; returns when it is the last that holds it.
    fn fill(&self, number: u32, slot: u64) -> Outcome<u64> {
        let id = workload::own(self.kind, number, || {
            // If it fails, the slot is empty.
            let _ = self.call("fill", slot);
        })?;
        eventually("the handle is the last reference", || {
            let is_last = self.call_filled("look_at", slot)?.refs == 1;
            if !is_last {
                // What it took for a look may be put after the readers only.
                sleep(Duration::from_millis(100));
            }
            Ok(is_last)
        })?;
        Ok(id)
    }

    /// Gives all back, and waits for what is left to be freed.
    fn end(self) -> Outcome<Counted> {
        self.call("empty", 0)?;
        let freed_program = format!("freed_{}", self.kind.name());
        let freed = eventually("all objects are freed", || {
            // A CPU that is idle keeps the address space that was there last, and khugepaged, while it
            // sleeps, the one that it has come to.
            workload::fork(cpus(), || ())?;
            wake_khugepaged()?;
            let counted = self.bpf.counted()?;
            Ok(counted.freed + missed(&freed_program) >= counted.objects)
        });
        let counted = self.bpf.counted()?;
        let missed = missed(&freed_program);
        note(format!(
            "nmi={} acquired={} acquire_failed={} released_in_nmi={} last_in_nmi={} objects={} freed={} missed={missed}",
            counted.nmi,
            counted.acquired,
            counted.acquire_failed,
            counted.released_in_nmi,
            counted.last_in_nmi,
            counted.objects,
            counted.freed
        ));
        if freed.is_err() {
            let stats = Stats::read()?;
            let (deferred, drained) = (stats.get("deferred")?, stats.get("drained")?);
            note(format!("deferred={deferred} drained={drained}"));
        }
        freed?;
        let Setup {
            kind,
            module,
            bpf,
            watches,
        } = self;
        drop((watches, bpf));
        let stats = module.settled()?;
        check!(counted.objects > 0);
        check!(counted.freed <= counted.objects);
        check!(counted.freed + missed >= counted.objects);
        check!(counted.freed_while_held == 0);
        check!(counted.put_in_nmi == 0);
        check!(counted.released == counted.acquired);
        check!(stats.get("acquire_failed")? == counted.acquire_failed);
        let (inline, deferred) = (stats.get("inline")?, stats.get("deferred")?);
        let expected = match kind {
            Kind::Mm => counted.released,
            _ => counted.released_in_nmi,
        };
        check!(deferred == expected, "deferred {deferred}, not {expected}");
        check!(inline + deferred == counted.acquired);
        module.unload()?;
        Ok(counted)
    }
}

/// It wakes when it is told how long to sleep.
fn wake_khugepaged() -> Outcome {
    let sleep = Path::new("/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs");
    if sleep.exists() {
        fs::write(sleep, fs::read_to_string(sleep)?.trim())?;
    }
    Ok(())
}

/// Children of the workload run into NMIs, which take a handle each on what they have, and give back
/// one on what children before them had.
fn given_back_after_end(kind: Kind, source: Source) -> Outcome {
    let setup = Setup::new(kind, &[source.program(kind.name())])?;
    let hooks = source.attach(&setup.bpf, kind.name())?;
    let round = || -> Outcome {
        for number in 0..children()? {
            workload::own(kind, number, || source.run_into())?;
        }
        // Most of them are put by the kernel some time after they have ended.
        sleep(Duration::from_millis(200));
        Ok(())
    };
    round()?;
    // Not every child is met by the PMU.
    eventually("a last reference is given back in NMI", || {
        round()?;
        Ok(setup.bpf.counted()?.last_in_nmi > 0)
    })?;
    drop(hooks);

    let counted = setup.end()?;
    check!(counted.not_nmi == 0);
    check!(counted.acquired_in_nmi > 0);
    check!(counted.released_in_nmi > 0);
    if kind == Kind::Mm {
        note(format!(
            "ended_in_kworker={} freed_in_kworker={}",
            counted.ended_in_kworker, counted.freed_in_kworker
        ));
        check!(counted.ended_in_kworker >= counted.last_in_nmi);
        // A CPU that has been idle for long may have kept one or another.
        check!(2 * counted.freed_in_kworker > counted.freed);
    }
    Ok(())
}

/// What a program reads is what user space knows of the object, which it cannot reach any more.
fn read_after_end(kind: Kind) -> Outcome {
    let programs = ["fill", "look_at", "take_after_end_of"]
        .map(|program| format!("{program}_{}", kind.name()));
    let setup = Setup::new(kind, &programs)?;
    for number in 0..5 {
        let id = setup.fill(number, 0)?;
        let seen = setup.call_filled("look_at", 0)?;
        check!(seen.id == id, "{} instead of {id}", seen.id);
        // A task is dead when it is reaped, whoever holds what is left of it; an mm is the current
        // task's or cannot be taken.
        check!(seen.again != [Kind::Task, Kind::Mm].contains(&kind));
        let passed_on = match kind {
            Kind::Cgroup => workload::Parent::new()?.id()?,
            _ => 0,
        };
        check!(seen.passed_on == passed_on);
        let again = setup.call_filled("take_after_end_of", 0)?.again;
        // These are put after the readers.
        check!(again == [Kind::Cred, Kind::File].contains(&kind));
    }
    setup.end().map(drop)
}

/// Programs that the kernel calls when there is no reference left.
fn dying(kind: Kind) -> Outcome {
    refused(kind, &format!("on_dying_{}", kind.name()))
}

/// A program that the kernel calls with a file that is not open yet.
fn opening() -> Outcome {
    refused(Kind::File, "on_opening_file")
}

fn refused(kind: Kind, program: &str) -> Outcome {
    let module = KptrDefer::load("")?;
    let bpf = Bpf::load("kinds", &[program])?;
    let link = bpf.program(program)?.attach()?;
    let children = children()?;
    for number in 0..children {
        workload::own(kind, number, || ())?;
    }
    let all = || Ok(bpf.counted()?.dying_refused >= children.into());
    let seen = eventually("all have been refused", all);
    drop(link);

    let counted = bpf.counted()?;
    drop(bpf);
    let stats = module.settled()?;
    note(format!("dying_refused={}", counted.dying_refused));
    check!(counted.acquired == 0);
    if counted.dying_refused == 0 && [Kind::Cred, Kind::File].contains(&kind) {
        let why = match kind {
            Kind::Cred => "lsm= has no bpf, or no LSM that keeps data in credentials",
            _ => "lsm= has no bpf",
        };
        return Err(Stop::Skipped(format!("no LSM program runs: {why}")));
    }
    seen?;
    check!(counted.acquire_failed == counted.dying_refused);
    check!(stats.get("acquire_failed")? == counted.acquire_failed);
    module.unload()
}

fn needs_two_cpus() -> Outcome {
    match cpus() {
        1 => Err(Stop::Skipped("there is one CPU only".into())),
        _ => Ok(()),
    }
}

/// One CPU gives back the last handle, another one wants a new one on the same object.
fn taken_while_it_ends(kind: Kind) -> Outcome {
    needs_two_cpus()?;
    let programs = ["fill", "look_at", "take_until_end_of"]
        .map(|program| format!("{program}_{}", kind.name()));
    let setup = Setup::new(kind, &programs)?;
    let (mut refused, mut missed) = (0, 0);
    for number in 0..10 {
        setup.fill(number, 0)?;
        workload::on_cpu(1, || {
            let gives_back = Child::new(|| {
                let taking = || Ok(setup.bpf.counted()?.taking > number.into());
                eventually("the other one takes", taking)?;
                setup.call("empty", 0).map(drop)
            })?;
            let taken = workload::on_cpu(0, || setup.call("take_until_end_of", 0))?;
            match taken {
                Some(taken) if !taken.again => refused += 1,
                _ => missed += 1,
            }
            gives_back.wait()
        })?;
    }
    note(format!("refused={refused} missed={missed}"));
    check!(refused > 0);
    setup.end().map(drop)
}

/// The kernel frees them with their last reference, at once.
fn prepared_cred() -> Outcome {
    let programs = ["take_prepared_cred", "give_back_prepared_cred"].map(String::from);
    let setup = Setup::new(Kind::Cred, &programs)?;
    let link = setup.bpf.program("take_prepared_cred")?.attach()?;
    workload::own(Kind::Cred, 0, workload::access)?;
    drop(link);
    let Some(seen) = setup.call("give_back_prepared", 0)? else {
        return Err(Stop::Skipped("no LSM program runs: lsm= has no bpf".into()));
    };
    check!(seen.passed_on == 1, "they are freed by RCU");
    check!(seen.refs == 1);
    check!(seen.again, "freed before the readers were gone");
    setup.end().map(drop)
}

fn mm_of_other_task() -> Outcome {
    let setup = Setup::new(Kind::Mm, &["take_from_other_mm".into()])?;
    check!(
        !setup
            .call_filled("take_from_other", parent_id().into())?
            .again
    );
    let Setup {
        module,
        bpf,
        watches,
        ..
    } = setup;
    drop((watches, bpf));
    check!(module.settled()?.get("acquire_failed")? == 1);
    module.unload()
}

/// A thread runs into NMIs, which take what another thread of its process changes all the time.
fn taken_in_change(kind: Kind, source: Source) -> Outcome {
    needs_two_cpus()?;
    let program = format!("race_{}", kind.name());
    let setup = Setup::new(kind, &[source.program(&program)])?;
    let hooks = source.attach(&setup.bpf, &program)?;
    // The current task's other objects are not put before the NMI is over.
    let can_fail = [Kind::Cred, Kind::File].contains(&kind);
    let counted = setup.bpf.globals::<Counted>()?;
    workload::change(kind, move || {
        source.run_into();
        !can_fail
            || counted
                .read()
                .is_ok_and(|counted| counted.acquire_failed > 0)
    })?;
    drop(hooks);
    let counted = setup.end()?;
    check!(counted.acquired_in_nmi > 0);
    check!(counted.released_in_nmi > 0);
    check!(counted.acquire_failed > 0 || !can_fail);
    Ok(())
}

/// Handles that no program gives back.
fn map_closed(kind: Kind) -> Outcome {
    let setup = Setup::new(
        kind,
        &["fill", "look_at"].map(|program| format!("{program}_{}", kind.name())),
    )?;
    for slot in 0..SLOTS {
        setup.fill(slot as u32, slot)?;
    }
    let counted = setup.bpf.counted()?;
    let Setup {
        module,
        bpf,
        watches,
        ..
    } = setup;
    drop((watches, bpf));
    let stats = module.settled()?;
    let (inline, deferred) = (stats.get("inline")?, stats.get("deferred")?);
    note(format!("inline={inline} deferred={deferred}"));
    check!(counted.acquired - counted.released == SLOTS);
    check!(inline + deferred == counted.acquired);
    check!(if kind == Kind::Mm { inline } else { deferred } == 0);
    module.unload()
}

/// The verifier accepts acquire and release in each; `perf_event`, `tp_btf` and `syscall` run in the
/// other tests.
fn any_program(kind: Kind) -> Outcome {
    let programs = ["perf", "ipi", "raw_tp", "tp", "fentry", "kprobe", "fill"]
        .map(|program| format!("{program}_{}", kind.name()));
    let module = KptrDefer::load("")?;
    for program in &programs {
        if let Err(why) = Bpf::load("kinds", &[program]) {
            return failed(format!("{program}: {why:?}"));
        }
    }
    module.unload()
}
