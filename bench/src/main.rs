// SPDX-License-Identifier: GPL-2.0

//! Measures what kptr_defer costs, in a virtual machine that counts instructions.
//!
//! `bench <kptr_defer.ko> <kptr_defer_guard.ko>`; each figure is a line
//! `bench: name=<…> value=<…> floor=<…> ratio=<…> unit=<…>`.

mod measure;

use measure::{
    Bench,
    Context, //
};
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
    let [engine, guard] = env::args()
        .skip(1)
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "usage: bench <kptr_defer.ko> <kptr_defer_guard.ko>")?;
    insmod(&engine)?;
    insmod(
        &env::current_exe()?
            .with_file_name("kptr_defer_bench.ko")
            .to_string_lossy(),
    )?;
    let bench = Bench::load()?;
    thread::sleep(QUIET);

    drops(&bench)?;
    raises(&bench)?;
    drains(&bench)?;
    guard_pass(&bench, &guard)
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
    instructions("plain_drop", following("task")?, following("task_plain")?);
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
    instructions("drain_slot", drain("object")?, drain("object_floor")?);
    Ok(())
}

fn guard_pass(bench: &Bench, guard: &str) -> Result<()> {
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
