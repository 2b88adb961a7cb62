// SPDX-License-Identifier: GPL-2.0

//! The guard while others are at work: on the object that is on the queue, on the guard itself, and
//! on many objects at once.

use crate::{
    bpf::Bpf,
    check,
    guard::{
        self,
        give_back_in_nmi,
        last_words,
        pairs,
        put,
        put_dying,
        put_last,
        used_by,
        Guard,
        Numbers,
        Seen,
        Watch, //
    },
    kmsg::Kmsg,
    ktap::{
        failed,
        note,
        Outcome,
        Stop,
        Test, //
    },
    module::{
        debugfs,
        eventually,
        not_built_in,
        not_under_lockdep,
        KptrDefer,
        Loaded,
        GUARD, //
    },
    nmi::{
        cpus,
        end_of_ipis,
        one_by_one,
        run_on_ipis,
        send_ipis,
        OneByOne,
        Source, //
    },
    workload::{
        on_cpu,
        rounds,
        Objects, //
    },
};
use std::{
    fs,
    sync::{
        atomic::{
            AtomicBool,
            Ordering, //
        },
        Barrier, //
    },
    thread,
    time::Duration, //
};

const ROUNDS: u64 = 20;

/// Of `enum turn` in bpf/guard.bpf.c.
const USED: u64 = 3;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "guard_races: another CPU uses what is queued, hardware breakpoint",
            || used_while_queued("syscall_use", 2),
        ),
        Test::new(
            "guard_races: another CPU uses it in NMI, hardware breakpoint",
            || used_while_queued("use_queued", 2),
        ),
        Test::new(
            "guard_races: another CPU has the last one after the drain, hardware breakpoint",
            || used_while_queued("outlive", 4),
        ),
        Test::new(
            "guard_races: all CPUs use the same object, NMI IPI",
            used_by_all,
        ),
        Test::new(
            "guard_races: two CPUs give back the last two at once, NMI IPI",
            last_two,
        ),
        Test::new(
            "guard_races: without it, the last one of a memory cgroup, hardware breakpoint",
            || {
                not_under_lockdep()?;
                let seen = last_of_memory_cgroups()?.0;
                check!(seen.queue_work == seen.memcg.last);
                Ok(())
            },
        ),
        Test::new(
            "guard_races: the last one of a memory cgroup, hardware breakpoint",
            || {
                let guard = Guard::load("")?;
                let (_, watch) = last_of_memory_cgroups()?;
                guard.caught_all(&watch)?;
                guard.unload()
            },
        ),
        Test::new("guard_races: a storm of last references, NMI IPI", storm),
        Test::new(
            "guard_races: loaded and unloaded in a storm, hardware breakpoint + NMI IPI",
            reloaded,
        ),
        Test::new(
            "guard_races: unload waits for what is queued, hardware breakpoint",
            unload_waits,
        ),
    ]
}

/// Runs `task`, which goes on until it is told to stop, on a thread of its own.
pub fn alongside<T>(
    task: impl FnOnce(&AtomicBool) -> Outcome + Send,
    meanwhile: impl FnOnce() -> Outcome<T>,
) -> Outcome<T> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let task = scope.spawn(|| task(&stop));
        let result = meanwhile();
        stop.store(true, Ordering::Relaxed);
        task.join().expect("no panic").and(result)
    })
}

/// NMIs on all CPUs, so many that everything else still goes on.
fn storm_of_ipis(stop: &AtomicBool) -> Outcome {
    while !stop.load(Ordering::Relaxed) {
        Source::Ipi.run_into();
        thread::sleep(Duration::from_millis(4));
    }
    Ok(())
}

/// Runs the program in NMIs that interrupt nothing that would mind, with a pause after each.
pub fn hit(bpf: &Bpf, program: &str, pause: Duration, stop: &AtomicBool) -> Outcome {
    let nmis = OneByOne::attach(bpf, program)?;
    while !stop.load(Ordering::Relaxed) {
        nmis.raise()?;
        thread::sleep(pause);
    }
    Ok(())
}

fn needs_two_cpus() -> Outcome {
    if cpus() < 2 {
        return Err(Stop::Skipped("there is no second CPU".into()));
    }
    Ok(())
}

/// One CPU gives back last references in NMI, and stays there: they stay on the queue. Meanwhile
/// another one, which found the objects before, runs `program`.
fn used_while_queued(program: &str, last: u64) -> Outcome {
    needs_two_cpus()?;
    let guard = Guard::load("")?;
    let by_syscall = program.starts_with("syscall");
    let in_nmi = one_by_one(program);
    let (bpf, watch) = guard::load(&[
        "put_array",
        "look_array",
        &one_by_one("hold_queue"),
        if by_syscall { program } else { &in_nmi },
    ])?;
    for _ in 0..ROUNDS {
        put_last(&bpf, "array", &watch, 1)?;
        // What attaching does could wait for a CPU that is in NMI.
        let both_attached = Barrier::new(2);
        let use_queued = || {
            if by_syscall {
                both_attached.wait();
                return bpf.call(program, &mut []).map(drop);
            }
            let nmis = OneByOne::attach(&bpf, program)?;
            both_attached.wait();
            nmis.raise()
        };
        let hold_queue = || {
            let nmis = OneByOne::attach(&bpf, "hold_queue")?;
            both_attached.wait();
            // It waits for the other CPU here and not in NMI, so that no fault there waits for it.
            eventually("given back and used", || {
                nmis.raise()?;
                Ok(watch.seen()?.turn == USED)
            })
        };
        thread::scope(|scope| {
            let user = scope.spawn(|| on_cpu(1, use_queued));
            let holder = on_cpu(0, hold_queue);
            user.join().expect("no panic").and(holder)
        })?;
    }
    let seen = guard.caught_all(&watch)?;
    note(format!(
        "nmi={} last={} acquired={}",
        seen.nmi,
        seen.last(),
        seen.acquired
    ));
    check!(seen.timeouts == 0);
    check!(seen.refused == 0);
    check!(seen.acquired >= 2 * ROUNDS);
    check!(seen.last() == last * ROUNDS);
    drop(bpf);
    guard.unload()
}

/// None of their references is the last, the map has that.
fn used_by_all() -> Outcome {
    let guard = Guard::load("")?;
    let (bpf, watch) = guard::load(&["put_array", "look_array", "ipi_use", &one_by_one("array")])?;
    put_last(&bpf, "array", &watch, 1)?;
    for _ in 0..ROUNDS {
        run_on_ipis(&bpf.program("ipi_use")?)?;
    }
    used_by(&bpf, "array", &watch, 1)?;
    check!(guard.sum()?.last_refs == 0);
    give_back_in_nmi(&bpf, "array")?;
    let seen = watch.all_freed()?;
    note(format!("acquired={}", seen.acquired));
    check!(seen.refused == 0 && seen.acquired > 0);
    check!(guard.sum()?.last_refs == 2);
    drop(bpf);
    guard.unload()
}

/// One of the two is the last, whichever it is.
fn last_two() -> Outcome {
    needs_two_cpus()?;
    let guard = Guard::load("")?;
    let (bpf, watch) = guard::load(&["put_array", "put_hash", "look_array", "ipi_both"])?;
    for round in 1..=5 {
        let objects = Objects::new(pairs()?)?;
        put(&bpf, "array", &objects)?;
        put(&bpf, "hash", &objects)?;
        objects.end()?;
        used_by(&bpf, "array", &watch, 2)?;
        run_on_ipis(&bpf.program("ipi_both")?)?;
        watch.all_freed()?.safe()?;
        for function in ["bpf_task_release", "bpf_cgroup_release"] {
            let numbers = guard.of(function)?;
            check!(
                numbers.nmi == 2 * numbers.last_refs && numbers.last_refs == round * pairs()?,
                "{function}: {numbers:?}"
            );
        }
    }
    drop(bpf);
    guard.unload()
}

/// Between being killed and giving up the reference that keeps it alive until then, a memory cgroup
/// still hands out references. One taken there, in NMI, is the last one soon.
fn last_of_memory_cgroups() -> Outcome<(Seen, Watch)> {
    needs_two_cpus()?;
    let (bpf, watch) = guard::load(&["put_array", "on_css_killed", &one_by_one("last_memcg")])?;
    let killed = bpf.program("on_css_killed")?.attach()?;
    let nmis = OneByOne::attach(&bpf, "last_memcg")?;
    for round in 0..ROUNDS {
        let objects = Objects::with_memory(1)?;
        put(&bpf, "array", &objects)?;
        let parent = objects.parent().clone();
        objects.end()?;
        eventually("the last reference is given back", || {
            nmis.raise()?;
            Ok(watch.seen()?.memcg.last > round)
        })?;
        eventually("the memory cgroup is freed", || {
            Ok(parent.dying_memory_cgroups()? == 0)
        })?;
    }
    drop((nmis, killed, bpf));
    let seen = watch.all_freed()?;
    note(format!(
        "last={} queue_work={}",
        seen.last(),
        seen.queue_work
    ));
    check!(seen.timeouts == 0);
    check!(seen.last() == ROUNDS);
    Ok((seen, watch))
}

fn storm() -> Outcome {
    let volleys = rounds(40)?;
    let guard = Guard::load("")?;
    let (bpf, watch) = guard::load(&["put_array", "look_array", "ipi_last"])?;
    let hook = bpf.program("ipi_last")?.attach()?;
    let tasks = slab_objects("task_struct")?;
    for _ in 0..volleys {
        put_last(&bpf, "array", &watch, pairs()?)?;
        eventually("all are given back", || {
            send_ipis(10)?;
            let seen = watch.seen()?;
            Ok(seen.task.released == seen.task.objects)
        })?;
    }
    drop(hook);
    end_of_ipis()?;
    let seen = guard.caught_all(&watch)?;
    note(format!("nmi={} last={}", seen.nmi, seen.last()));
    check!(seen.last() == 2 * u64::from(volleys) * pairs()?);
    if let Some(before) = tasks {
        let mut now = 0;
        let freed = eventually("the tasks are freed", || {
            now = slab_objects("task_struct")?.unwrap_or_default();
            // Others come and go meanwhile.
            Ok(now < before + seen.task.last / 4)
        });
        note(format!("task_struct in use: {before}, then {now}"));
        freed?;
    }
    drop(bpf);
    guard.unload()
}

/// How many there are, if the kernel says so.
fn slab_objects(name: &str) -> Outcome<Option<u64>> {
    // A debug kernel holds on to what is freed, and finds leaks by itself.
    if debugfs("kmemleak").exists() {
        return Ok(None);
    }
    // What is free and at hand for a CPU counts as in use until then.
    let _ = fs::write(format!("/sys/kernel/slab/{name}/shrink"), "1");
    let Ok(slabs) = fs::read_to_string("/proc/slabinfo") else {
        return Ok(None);
    };
    let in_use = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
    };
    Ok(slabs.lines().find_map(in_use))
}

/// Last references are given back all the time, caught or not: those in NMIs that interrupt nothing
/// that would mind. In other NMIs, on all CPUs, others are.
fn reloaded() -> Outcome {
    let (at_least, at_most) = (rounds(50)?, 1000);
    not_under_lockdep()?;
    not_built_in(GUARD)?;
    send_ipis(1)?;
    let mut log = Kmsg::from_now_on()?;
    let kptr_defer = KptrDefer::load("")?;
    let (bpf, watch) = guard::load(&["put_array", &one_by_one("last"), "ipi_current"])?;
    let hook = bpf.program("ipi_current")?.attach()?;
    let given_back = || {
        let seen = watch.seen()?;
        Ok(seen.cgroup.last == seen.cgroup.objects)
    };
    let give_back = |stop: &AtomicBool| hit(&bpf, "last", Duration::from_millis(1), stop);
    let mut caught = Numbers::default();
    let (mut reloads, mut unloads) = (0, 0);
    let reload = || {
        while reloads < at_least || caught.last_refs == 0 && reloads < at_most {
            if given_back()? {
                put_dying(&bpf, "array", 16)?;
            }
            Loaded::new(GUARD, "")?.unload()?;
            reloads += 1;
            for numbers in log.read()?.iter().filter_map(|line| last_words(line)) {
                unloads += 1;
                caught.last_refs += numbers.last_refs;
                caught.drained += numbers.drained;
            }
        }
        eventually("all are given back", given_back)
    };
    alongside(storm_of_ipis, || alongside(give_back, reload))?;
    drop(hook);
    let seen = watch.all_freed()?;
    note(format!(
        "reloads={reloads} released={} last={} caught={} not caught: call_rcu={} queue_work={}",
        seen.task.released + seen.cgroup.released,
        seen.last(),
        caught.last_refs,
        seen.call_rcu,
        seen.queue_work
    ));
    check!(unloads == reloads);
    check!(caught.last_refs > 0);
    check!(caught.drained == caught.last_refs);
    check!(caught.last_refs + seen.call_rcu + seen.queue_work == seen.last());
    drop(bpf);
    kptr_defer.unload()
}

fn unload_waits() -> Outcome {
    let kptr_defer = KptrDefer::load("budget=1")?;
    let module = Loaded::new(GUARD, "")?;
    let (bpf, watch) =
        guard::load(&["put_array", "look_array", &one_by_one("array"), "slow_dtor"])?;
    let waiting = |(_, numbers): &(String, Numbers)| numbers.drained < numbers.last_refs;
    let (mut slow, mut given_back) = (None, 0);
    let mut log = Kmsg::from_now_on()?;
    // A kworker may have done them all before this gets to run again.
    eventually("something is queued", || {
        drop(slow.take());
        put_last(&bpf, "array", &watch, pairs()?)?;
        slow = Some(bpf.program("slow_dtor")?.attach()?);
        give_back_in_nmi(&bpf, "array")?;
        given_back += 2 * pairs()?;
        Ok(Guard::table()?.iter().any(waiting))
    })?;
    module.unload()?;
    let lines = log.read()?;
    let Some(numbers) = lines.iter().find_map(|line| last_words(line)) else {
        return failed(format!("no last words in {lines:?}"));
    };
    check!(numbers.last_refs == given_back);
    check!(numbers.drained == numbers.last_refs);
    drop(slow);
    watch.all_freed()?.safe()?;
    drop(bpf);
    kptr_defer.unload()
}
