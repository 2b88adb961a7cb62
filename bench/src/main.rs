// SPDX-License-Identifier: GPL-2.0

//! Measures what kptr_defer costs, in a virtual machine that counts instructions.
//!
//! `bench <kptr_defer.ko> <kptr_defer_guard.ko>`, and, where processors really run at the same time,
//! `bench throughput <kptr_defer.ko>`; each figure is a line
//! `bench: name=<…> value=<…> floor=<…> ratio=<…> unit=<…>`.

mod measure;
mod throughput;

use measure::{
    Bench,
    Context,
    Flood, //
};
use nmi_source::kernel_symbol;
use std::{
    env,
    fs,
    process::{
        Command,
        ExitCode, //
    },
    thread,
    time::Duration, //
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What loading a module has brought about goes on for a while, the console for one.
const QUIET: Duration = Duration::from_secs(1);

/// Drops in one hard interrupt, if the parameter `budget=` does not say otherwise.
const BUDGET: u64 = 256;

/// Fewer than the handles that a CPU keeps memory for.
const SOME: u64 = 16;
const FEW: u64 = 100;
const MANY: u64 = 1000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("bench: {err}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments = env::args().skip(1).collect::<Vec<_>>();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["throughput", engine] => throughput::measure(&load(engine)?),
        [engine, guard] => costs(&load(engine)?, guard),
        _ => Err("usage: bench throughput <kptr_defer.ko>, or bench <kptr_defer.ko> <kptr_defer_guard.ko>".into()),
    }
}

fn load(engine: &str) -> Result<Bench> {
    insmod(engine)?;
    insmod(
        &env::current_exe()?
            .with_file_name("kptr_defer_bench.ko")
            .to_string_lossy(),
    )?;
    let bench = Bench::load()?;
    thread::sleep(QUIET);
    Ok(bench)
}

fn costs(bench: &Bench, guard: &str) -> Result<()> {
    drops(bench)?;
    raises(bench)?;
    drains(bench)?;
    cycles(bench)?;
    rivals(bench)?;
    memory(bench)?;
    interrupts_off(bench)?;
    guarded(bench, guard)
}

fn drops(bench: &Bench) -> Result<()> {
    let nmi = |program| bench.took(Context::Nmi, program, FEW);
    let process = |program| bench.took(Context::Process, program, FEW);

    for (name, value, floor) in [
        ("nmi_drop", nmi("task")?, nmi("task_floor")?),
        ("nmi_slot_drop", nmi("object")?, nmi("object_floor")?),
    ] {
        instructions(&format!("{name}_first"), value.first, floor.first);
        instructions(&format!("{name}_next"), value.following, floor.following);
    }

    let following = |program| Ok::<_, Box<dyn std::error::Error>>(process(program)?.following);
    let plain = following("task_plain")?;
    instructions("plain_drop", following("task")?, plain);
    instructions("plain_drop_of_many", following("task_of_many")?, plain);
    let pair = following("pair")?;
    instructions("acquire_release", pair, following("pair_floor")?);
    instructions("acquire_release_plain", pair, following("pair_plain")?);
    Ok(())
}

fn raises(bench: &Bench) -> Result<()> {
    let _watch = bench.watch("irq_work_raised")?;
    let raises = |program| {
        Ok::<_, Box<dyn std::error::Error>>(bench.once(Context::Nmi, program, MANY)?.raises as f64)
    };
    figure(
        "nmi_raises",
        raises("task")?,
        raises("task_floor")?,
        "raises",
    );
    Ok(())
}

fn drains(bench: &Bench) -> Result<()> {
    let _watch = (
        bench.watch("irq_work_begins")?,
        bench.watch("irq_work_ends")?,
    );
    let interrupt = |program, rounds| {
        Ok::<_, Box<dyn std::error::Error>>(bench.took(Context::Nmi, program, rounds)?.interrupt)
    };
    let nothing = interrupt("interrupt", 1)?;
    let drain = |program| {
        Ok::<_, Box<dyn std::error::Error>>((interrupt(program, BUDGET)? - nothing) / BUDGET as f64)
    };
    instructions("drain_task", drain("task")?, drain("task_floor")?);
    let slot = drain("object")?;
    instructions("drain_slot", slot, drain("object_floor")?);
    instructions("drain_slot_in_order", slot, drain("object_in_order")?);
    Ok(())
}

/// What a reference costs that is taken, kept in a map, taken out and dropped: in NMI, and when it
/// has been drained.
struct Cycle {
    in_nmi: f64,
    drained: f64,
}

fn cycle(bench: &Bench, program: &str, in_one_nmi: u64) -> Result<Cycle> {
    let _watch = (
        bench.watch("irq_work_begins")?,
        bench.watch("irq_work_ends")?,
    );
    let nothing = bench.took(Context::Nmi, "interrupt", 1)?.interrupt;
    let took = bench.took(Context::Nmi, program, in_one_nmi)?;
    // There is none when nothing is queued.
    let drain = (took.interrupt - nothing).max(0.0) / in_one_nmi as f64;
    Ok(Cycle {
        in_nmi: took.following,
        drained: took.following + drain,
    })
}

fn cycles(bench: &Bench) -> Result<()> {
    for (suffix, in_one_nmi) in [("", SOME), ("_burst", BUDGET)] {
        let ours = cycle(bench, "cycle", in_one_nmi)?;
        let pool = cycle(bench, "cycle_pool", in_one_nmi)?;
        instructions(&format!("cycle_nmi{suffix}"), ours.in_nmi, pool.in_nmi);
        instructions(&format!("cycle{suffix}"), ours.drained, pool.drained);
    }
    Ok(())
}

/// What the kernel has, against the same floor as the drops.
fn rivals(bench: &Bench) -> Result<()> {
    let floor = bench.took(Context::Nmi, "object_floor", FEW)?;
    let rival = |program, rounds| bench.took(Context::Nmi, program, rounds);

    let task_work = rival("task_work", FEW)?;
    instructions("task_work_first", task_work.first, floor.first);
    instructions("task_work_next", task_work.following, floor.following);
    match kernel_symbol("kfree_call_rcu_nolock") {
        Ok(_) => {
            let kfree_rcu = rival("kfree_rcu_nolock", FEW)?;
            instructions("kfree_rcu_nolock", kfree_rcu.following, floor.following);
        }
        Err(why) => println!("bench: skipped=kfree_rcu_nolock why={why}"),
    }
    // Of those there are not many to be had in one NMI.
    let cpumask = rival("cpumask", 1)?;
    instructions("bpf_mem_free", cpumask.first, floor.following);
    Ok(())
}

fn memory(bench: &Bench) -> Result<()> {
    let memory = bench.call("memory")?.memory;
    let pointer = size_of::<usize>() as u64;

    let bytes = |name, value, floor| figure(name, value as f64, floor as f64, "bytes");
    bytes("memory_slot", memory.slot, memory.node + pointer);
    bytes("memory_handle", memory.handle, memory.handle_content);
    Ok(())
}

/// The longest stretch with interrupts off, however many drops are on the queue.
fn interrupts_off(bench: &Bench) -> Result<()> {
    let _watch = (
        bench.watch("irq_work_begins")?,
        bench.watch("irq_work_ends")?,
    );
    let longest = |drops, queue_per_cpu| {
        bench.flood(Flood {
            drops,
            queue_per_cpu,
        })
    };
    let floor = longest(BUDGET, false)?;
    for queued in [1_000, 10_000, 100_000, 1_000_000] {
        instructions(
            &format!("irqs_off_{queued}"),
            longest(queued, false)?,
            floor,
        );
        instructions(
            &format!("irqs_off_in_a_loop_{queued}"),
            longest(queued, true)?,
            floor,
        );
    }
    Ok(())
}

/// What it costs to pass the guard; and a whole cycle in NMI that it makes safe.
fn guarded(bench: &Bench, guard: &str) -> Result<()> {
    let pair = || {
        Ok::<_, Box<dyn std::error::Error>>(
            bench.took(Context::Process, "pair_floor", FEW)?.following,
        )
    };
    let floor = pair()?;
    insmod(guard)?;
    thread::sleep(QUIET);
    let before = calls("bpf_task_release")?;
    let value = pair()?;
    if calls("bpf_task_release")? - before == 0 {
        return Err("the calls did not pass the guard".into());
    }
    instructions("guard_pass", value, floor);

    let pool = cycle(bench, "cycle_pool", SOME)?;
    let guarded = cycle(bench, "cycle_guarded", SOME)?;
    instructions("cycle_guarded", guarded.drained, pool.drained);
    Ok(())
}

fn insmod(module: &str) -> Result<()> {
    match Command::new("insmod").arg(module).status()?.success() {
        true => Ok(()),
        false => Err(format!("cannot load {module}").into()),
    }
}

/// What the guard has counted.
fn calls(function: &str) -> Result<u64> {
    let table = fs::read_to_string("/sys/kernel/debug/kptr_defer/guard")?;
    table
        .lines()
        .filter_map(|line| {
            line.strip_prefix(function)?
                .strip_prefix(' ')?
                .split(' ')
                .next()
        })
        .next()
        .and_then(|calls| calls.parse().ok())
        .ok_or_else(|| format!("no {function} in {table}").into())
}

fn instructions(name: &str, value: f64, floor: f64) {
    figure(name, value, floor, "instructions");
}

fn figure(name: &str, value: f64, floor: f64, unit: &str) {
    println!(
        "bench: name={name} value={value:.1} floor={floor:.1} ratio={:.2} unit={unit}",
        value / floor
    );
}
