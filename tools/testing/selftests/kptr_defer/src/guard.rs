// SPDX-License-Identifier: GPL-2.0

//! The guard: programs that know nothing of kptr_defer give back the last references of tasks and
//! cgroups in NMI. Without it the kernel then runs what must not run there, with it the guard
//! catches them all.

use crate::{
    bpf::{
        Bpf,
        Globals,
        Reader, //
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
        debugfs,
        eventually,
        is_built_in,
        not_built_in,
        not_under_lockdep,
        KptrDefer,
        Loaded,
        GUARD, //
    },
    nmi::{
        one_by_one,
        run_on_ipis,
        OneByOne, //
    },
    tracing::Tracing,
    verifier,
    workload::{
        on_cpu,
        rounds,
        Objects, //
    },
};
use libbpf_rs::{
    Link,
    MapCore,
    MapFlags, //
};
use nmi_source::kernel_symbols;
use std::{
    fs,
    sync::Mutex, //
};

/// Of a task and a cgroup, in the maps of bpf/guard.bpf.c, which have room for 128.
pub fn pairs() -> Outcome<u64> {
    Ok(rounds(128)?.max(16).into())
}

const KINDS: [&str; 5] = [
    "array",
    "percpu_array",
    "hash",
    "hash_no_prealloc",
    "lru_hash",
];

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for kind in KINDS {
        tests.push(Test::new(
            format!("guard: without it, last references from {kind}, hardware breakpoint"),
            move || on_cpu(0, || not_caught(kind)),
        ));
        tests.push(Test::new(
            format!("guard: last references from {kind}, hardware breakpoint"),
            move || on_cpu(0, || caught_from(kind)),
        ));
    }
    for program in ["tp_btf", "raw_tp", "tp", "fentry"] {
        tests.push(Test::new(
            format!("guard: last references by {program}, NMI IPI"),
            move || caught_on_ipi(program),
        ));
    }
    for program in ["kprobe", "kprobe_multi"] {
        tests.push(Test::new(
            format!("guard: {program} cannot give back what it holds, no NMI"),
            move || {
                verifier::rejected(
                    "guard",
                    &format!("from_{program}"),
                    "calling kernel function bpf_task_release is not allowed",
                )
            },
        ));
    }
    tests.extend([
        Test::new(
            "guard: references of the living are given back, hardware breakpoint",
            of_the_living,
        ),
        Test::new(
            "guard: a map closed with last references in it, no NMI",
            map_closed,
        ),
        Test::new(
            "guard: last references by their destructors, hardware breakpoint",
            by_destructor,
        ),
        Test::new("guard: memory cgroups, hardware breakpoint", memory_cgroups),
        Test::new(
            "guard: says so once, and traces each, hardware breakpoint",
            says_so_once,
        ),
    ]);
    tests
}

/// `struct of_kind` of bpf/guard.bpf.c.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OfKind {
    pub objects: u64,
    pub released: u64,
    pub last: u64,
    pub freed: u64,
    pub freed_uneven: u64,
}

/// `struct of_watcher` of bpf/guard.bpf.c.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OfWatcher {
    pub right: u64,
    pub wrong: u64,
}

/// `struct seen` of bpf/guard.bpf.c.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub nmi: u64,
    pub not_nmi: u64,
    pub call_rcu: u64,
    pub queue_work: u64,
    pub task: OfKind,
    pub cgroup: OfKind,
    pub memcg: OfKind,
    pub fentry: OfWatcher,
    pub fexit: OfWatcher,
    pub kprobe: OfWatcher,
    pub unexpected: u64,
    pub users: u64,
    pub visits: u64,
    pub acquired: u64,
    pub refused: u64,
    pub turn: u64,
    pub timeouts: u64,
}

// SAFETY: Numbers.
unsafe impl Globals for Seen {}

impl Seen {
    pub fn last(&self) -> u64 {
        self.task.last + self.cgroup.last + self.memcg.last
    }

    /// Nothing ran in NMI that must not.
    pub fn safe(&self) -> Outcome {
        check!(
            self.call_rcu == 0 && self.queue_work == 0,
            "in NMI: {} call_rcu(), {} queue_work()",
            self.call_rcu,
            self.queue_work
        );
        Ok(())
    }
}

/// The programs that look at what the kernel does. They stay when the maps go.
pub struct Watch {
    seen: Reader<Seen>,
    _links: Vec<Link>,
}

impl Watch {
    const PROGRAMS: [&'static str; 4] = [
        "on_call_rcu",
        "on_queue_work",
        "on_task_free",
        "on_cgroup_free",
    ];

    pub fn seen(&self) -> Outcome<Seen> {
        self.seen.read()
    }

    /// Each object that was put into a map is freed, once, when nobody has a reference any more.
    pub fn all_freed(&self) -> Outcome<Seen> {
        eventually("all freed", || {
            let seen = self.seen()?;
            Ok(seen.task.freed == seen.task.objects && seen.cgroup.freed == seen.cgroup.objects)
        })
        .or_else(|_| failed(format!("not freed: {:?}", self.seen()?)))?;
        let seen = self.seen()?;
        check!(seen.task.freed_uneven == 0 && seen.cgroup.freed_uneven == 0);
        Ok(seen)
    }
}

/// These programs of bpf/guard.bpf.c and those that watch, which are attached.
pub fn load(programs: &[&str]) -> Outcome<(Bpf, Watch)> {
    let bpf = Bpf::load("guard", &[programs, &Watch::PROGRAMS].concat())?;
    let mut links = Vec::new();
    for program in Watch::PROGRAMS {
        links.push(bpf.program(program)?.attach()?);
    }
    let seen = bpf.globals()?;
    Ok((
        bpf,
        Watch {
            seen,
            _links: links,
        },
    ))
}

/// Puts a reference of each object into the map.
pub fn put(bpf: &Bpf, map: &str, objects: &Objects) -> Outcome {
    for (slot, (pid, cgroup)) in (0u32..).zip(objects.ids()?) {
        // `struct put_args` of bpf/guard.bpf.c.
        let mut args = [0; 16];
        args[..4].copy_from_slice(&slot.to_ne_bytes());
        args[4..8].copy_from_slice(&pid.to_ne_bytes());
        args[8..].copy_from_slice(&cgroup.to_ne_bytes());
        let failure = bpf.call(&format!("put_{map}"), &mut args)?;
        check!(failure == 0, "put_{map} failed with {failure}");
    }
    Ok(())
}

/// Looks at what is in the map.
fn look(bpf: &Bpf, map: &str, watch: &Watch, expected_users: u64) -> Outcome<Seen> {
    bpf.call(
        &format!("look_{map}"),
        &mut expected_users.to_ne_bytes(), // `struct look_args`
    )?;
    watch.seen()
}

/// Waits until all that is in the map has so many users: the kernel itself gives up its own
/// references some time after an object's death.
pub fn used_by(bpf: &Bpf, map: &str, watch: &Watch, users: u64) -> Outcome {
    eventually("the kernel has given up its references", || {
        Ok(look(bpf, map, watch, users)?.unexpected == 0)
    })
}

/// Puts references of so many objects into the map, and lets the objects end.
pub fn put_dying(bpf: &Bpf, map: &str, count: u64) -> Outcome {
    let objects = Objects::new(count)?;
    put(bpf, map, &objects)?;
    objects.end()
}

/// The same, and waits until they are the last ones.
pub fn put_last(bpf: &Bpf, map: &str, watch: &Watch, count: u64) -> Outcome {
    put_dying(bpf, map, count)?;
    used_by(bpf, map, watch, 1)
}

/// What the guard counts for a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    pub calls: u64,
    pub nmi: u64,
    pub last_refs: u64,
    pub drained: u64,
}

/// Before the test began, when the guard is built in.
static COUNTED_BEFORE: Mutex<Vec<(String, Numbers)>> = Mutex::new(Vec::new());

/// kptr_defer and its guard, freshly loaded or built in.
pub struct Guard {
    module: Loaded,
    kptr_defer: KptrDefer,
    log: Kmsg,
}

impl Guard {
    pub fn load(params_of_kptr_defer: &str) -> Outcome<Guard> {
        let log = Kmsg::from_now_on()?;
        let kptr_defer = KptrDefer::load(params_of_kptr_defer)?;
        let module = Loaded::new(GUARD, "")?;
        COUNTED_BEFORE.lock().unwrap().clear();
        if is_built_in(GUARD) {
            let before = Guard::table()?;
            *COUNTED_BEFORE.lock().unwrap() = before;
        }
        Ok(Guard {
            module,
            kptr_defer,
            log,
        })
    }

    /// What the guard has said since it was loaded, or since the last call.
    pub fn said(&mut self) -> Outcome<Vec<String>> {
        not_built_in(GUARD)?;
        let lines = self.log.read()?;
        Ok(lines
            .iter()
            .filter_map(|line| line.strip_prefix("kptr_defer_guard: "))
            .map(str::to_string)
            .collect())
    }

    /// The guarded functions and their numbers.
    pub fn table() -> Outcome<Vec<(String, Numbers)>> {
        let text = fs::read_to_string(debugfs("kptr_defer/guard"))?;
        let mut lines = text.lines();
        check!(lines.next() == Some("function calls nmi last_refs drained"));
        let mut table = Vec::new();
        for line in lines {
            let mut words = line.split(' ');
            let function = words.next().unwrap_or_default();
            let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
            let [calls, nmi, last_refs, drained] = numbers[..] else {
                return failed(format!("the guard shows '{line}'"));
            };
            let numbers = Numbers {
                calls,
                nmi,
                last_refs,
                drained,
            };
            table.push((function.to_string(), numbers));
        }
        for ((_, now), (_, before)) in table.iter_mut().zip(&*COUNTED_BEFORE.lock().unwrap()) {
            now.calls -= before.calls;
            now.nmi -= before.nmi;
            now.last_refs -= before.last_refs;
            now.drained -= before.drained;
        }
        Ok(table)
    }

    pub fn of(&self, function: &str) -> Outcome<Numbers> {
        let table = Guard::table()?;
        match table.iter().find(|(name, _)| name == function) {
            Some((_, numbers)) => Ok(*numbers),
            None => failed(format!("{function} is not guarded: {table:?}")),
        }
    }

    pub fn sum(&self) -> Outcome<Numbers> {
        let mut sum = Numbers::default();
        for (_, numbers) in Guard::table()? {
            sum.calls += numbers.calls;
            sum.nmi += numbers.nmi;
            sum.last_refs += numbers.last_refs;
            sum.drained += numbers.drained;
        }
        Ok(sum)
    }

    /// All that programs have given back in NMI came by the guard, what they have seen as last
    /// references was caught, nothing else was, and all of it is freed.
    pub fn caught_all(&self, watch: &Watch) -> Outcome<Seen> {
        let seen = watch.seen()?;
        seen.safe()?;
        for (function, kind) in [
            ("bpf_task_release", seen.task),
            ("bpf_cgroup_release", seen.cgroup),
            ("bpf_put_mem_cgroup", seen.memcg),
        ] {
            let numbers = self.of(function)?;
            check!(
                numbers.nmi == kind.released && numbers.last_refs == kind.last,
                "{function}: {numbers:?}, programs saw {kind:?}"
            );
        }
        check!(self.sum()?.last_refs == seen.last());
        let seen = watch.all_freed()?;
        seen.safe()?;
        eventually("all drained", || {
            let sum = self.sum()?;
            Ok(sum.drained == sum.last_refs)
        })?;
        Ok(seen)
    }

    /// Unloads both and checks their last words, unless they are built in.
    pub fn unload(mut self) -> Outcome {
        let sum = self.sum()?;
        if !is_built_in(GUARD) {
            self.said()?;
            self.module.unload()?;
            let lines = self.log.read()?;
            check!(
                lines.iter().find_map(|line| last_words(line)) == Some(sum),
                "not {sum:?} in the kernel log but {lines:?}"
            );
        }
        let stats = self.kptr_defer.settled()?;
        check!(stats.get("deferred")? == sum.last_refs);
        self.kptr_defer.unload()
    }
}

/// What the guard says when it is unloaded.
pub fn last_words(line: &str) -> Option<Numbers> {
    let mut words = line
        .strip_prefix("kptr_defer_guard: unloaded: ")?
        .split(' ');
    let mut number = |name: &str| {
        words
            .next()?
            .strip_prefix(name)?
            .strip_prefix('=')?
            .parse()
            .ok()
    };
    Some(Numbers {
        calls: number("calls")?,
        nmi: number("nmi")?,
        last_refs: number("last_refs")?,
        drained: number("drained")?,
    })
}

/// Empties a full map in one NMI.
pub fn give_back_in_nmi(bpf: &Bpf, program: &str) -> Outcome {
    OneByOne::attach(bpf, program)?.raise()
}

/// The negative control: what the kernel does by itself.
fn not_caught(map: &str) -> Outcome {
    not_under_lockdep()?;
    not_built_in(GUARD)?;
    let (bpf, watch) = load_for(map)?;
    put_last(&bpf, map, &watch, pairs()?)?;
    give_back_in_nmi(&bpf, map)?;
    let seen = watch.seen()?;
    note(format!(
        "last={} call_rcu={} queue_work={}",
        seen.last(),
        seen.call_rcu,
        seen.queue_work
    ));
    check!(seen.nmi == 1);
    check!(seen.task.last == pairs()? && seen.cgroup.last == pairs()?);
    check!(seen.call_rcu == pairs()?);
    check!(seen.queue_work == pairs()?);
    watch.all_freed()?;
    Ok(())
}

fn load_for(map: &str) -> Outcome<(Bpf, Watch)> {
    load(&[
        &format!("put_{map}"),
        &format!("look_{map}"),
        &one_by_one(map),
    ])
}

fn caught_from(map: &str) -> Outcome {
    let guard = Guard::load("")?;
    let (bpf, watch) = load_for(map)?;
    put_last(&bpf, map, &watch, pairs()?)?;
    give_back_in_nmi(&bpf, map)?;
    all_were_last(&guard, &watch)?;
    drop(bpf);
    guard.unload()
}

fn all_were_last(guard: &Guard, watch: &Watch) -> Outcome {
    let seen = guard.caught_all(watch)?;
    note(format!("nmi={} last={}", seen.nmi, seen.last()));
    check!(seen.nmi > 0);
    check!(seen.not_nmi == 0);
    check!(seen.task.last == pairs()? && seen.cgroup.last == pairs()?);
    Ok(())
}

fn caught_on_ipi(kind: &str) -> Outcome {
    let guard = Guard::load("")?;
    let program = format!("from_{kind}");
    let (bpf, watch) = load(&["put_array", "look_array", &program])?;
    put_last(&bpf, "array", &watch, pairs()?)?;
    run_on_ipis(&bpf.program(&program)?)?;
    all_were_last(&guard, &watch)?;
    drop(bpf);
    guard.unload()
}

/// None is caught and none is lost: that of a second map is the last one when they are dead.
fn of_the_living() -> Outcome {
    let guard = Guard::load("")?;
    let (bpf, watch) = load(&[
        "put_array",
        "put_hash",
        "look_hash",
        &one_by_one("array"),
        &one_by_one("hash"),
    ])?;
    let objects = Objects::new(pairs()?)?;
    put(&bpf, "array", &objects)?;
    put(&bpf, "hash", &objects)?;
    let before = look(&bpf, "hash", &watch, 0)?.users;
    give_back_in_nmi(&bpf, "array")?;
    let after = look(&bpf, "hash", &watch, 0)?.users;
    let seen = watch.seen()?;
    note(format!(
        "released={} users: {before}, then {after}",
        seen.task.released
    ));
    check!(seen.task.released == pairs()? && seen.cgroup.released == pairs()?);
    check!(after + pairs()? == before);
    check!(seen.last() == 0);
    check!(guard.sum()?.nmi == 2 * pairs()?);
    check!(guard.sum()?.last_refs == 0);

    objects.end()?;
    used_by(&bpf, "hash", &watch, 1)?;
    give_back_in_nmi(&bpf, "hash")?;
    let seen = guard.caught_all(&watch)?;
    check!(seen.last() == 2 * pairs()?);
    drop(bpf);
    guard.unload()
}

/// The destructors pass through.
fn map_closed() -> Outcome {
    let guard = Guard::load("")?;
    let (bpf, watch) = load(&["put_array", "look_array"])?;
    put_last(&bpf, "array", &watch, pairs()?)?;
    drop(bpf);
    watch.all_freed()?;
    for function in ["bpf_task_release_dtor", "bpf_cgroup_release_dtor"] {
        let numbers = guard.of(function)?;
        check!(numbers.calls == pairs()?, "{function}: {numbers:?}");
    }
    check!(guard.sum()?.nmi == 0);
    guard.unload()
}

fn by_destructor() -> Outcome {
    const DTORS: [&str; 2] = ["bpf_task_release_dtor", "bpf_cgroup_release_dtor"];

    let guard = Guard::load("")?;
    let (bpf, watch) = load(&["put_array", "look_array", &one_by_one("by_dtor")])?;
    let dtors = bpf.map("dtors")?;
    for (kind, address) in (0u32..).zip(kernel_symbols(DTORS)?) {
        dtors.update(&kind.to_ne_bytes(), &address.to_ne_bytes(), MapFlags::ANY)?;
    }
    put_last(&bpf, "array", &watch, pairs()?)?;
    give_back_in_nmi(&bpf, "by_dtor")?;
    let seen = watch.all_freed()?;
    seen.safe()?;
    check!(seen.last() == 2 * pairs()?);
    // It is counted when it has been freed.
    eventually("all drained", || {
        let sum = guard.sum()?;
        Ok(sum.drained == sum.last_refs)
    })?;
    for function in DTORS {
        let numbers = guard.of(function)?;
        note(format!("{function}: {numbers:?}"));
        check!(numbers.nmi == pairs()?);
        check!(numbers.last_refs == pairs()?);
        check!(numbers.drained == pairs()?);
    }
    drop(bpf);
    guard.unload()
}

fn memory_cgroups() -> Outcome {
    let guard = Guard::load("")?;
    let (bpf, watch) = load(&["put_array", "look_array", &one_by_one("memcg")])?;
    let objects = Objects::with_memory(pairs()?)?;
    put(&bpf, "array", &objects)?;
    let parent = objects.parent().clone();
    let dying = parent.dying_memory_cgroups()?;
    give_back_in_nmi(&bpf, "memcg")?;
    let seen = watch.seen()?;
    check!(seen.memcg.released == pairs()?);
    check!(seen.memcg.last == 0);
    check!(guard.of("bpf_put_mem_cgroup")?.nmi == pairs()?);
    check!(guard.sum()?.last_refs == 0);
    objects.end()?;
    eventually("memory cgroups are freed", || {
        Ok(parent.dying_memory_cgroups()? == dying)
    })?;
    drop(bpf);
    watch.all_freed()?;
    guard.unload()
}

fn says_so_once() -> Outcome {
    let mut guard = Guard::load("")?;
    let mut lines = guard.said()?;
    check!(lines.len() == 1, "not one line but {lines:?}");
    let tracing = Tracing::new()?;
    tracing.set("events/kptr_defer/guard_last_ref/enable", "1")?;
    let (bpf, watch) = load(&["put_array", "look_array", &one_by_one("array")])?;
    for _ in 0..2 {
        put_last(&bpf, "array", &watch, pairs()?)?;
        give_back_in_nmi(&bpf, "array")?;
    }
    let seen = guard.caught_all(&watch)?;
    lines = guard.said()?;
    note(lines.join("\n"));
    check!(lines.len() == 2, "not two lines but {lines:?}");
    for (function, would_have, caught) in [
        ("bpf_task_release", "call_rcu", seen.task.last),
        ("bpf_cgroup_release", "queue_work", seen.cgroup.last),
    ] {
        let expected = format!(
            "{function}() gave back a last reference in NMI: caught, it would have run \
             {would_have}() there"
        );
        check!(lines.contains(&expected), "no '{expected}' in {lines:?}");
        let traced = tracing.lines_with(&["guard_last_ref:", function, would_have])?;
        check!(traced == caught, "{function} traced {traced} times");
    }
    drop((bpf, tracing));
    guard.unload()
}
