// SPDX-License-Identifier: GPL-2.0

//! Measures what kptr_defer costs, in a virtual machine that counts an instruction as a nanosecond.
//!
//! `bench <kptr_defer.ko> <kptr_defer_guard.ko>`; each figure is a line
//! `bench: name=<…> value=<…> floor=<…> ratio=<…> unit=<…>`.

use libbpf_rs::{
    Object,
    ObjectBuilder,
    ProgramInput, //
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

/// As in bench.bpf.c.
const ROUNDS: u64 = 10_000;

/// The least of so many runs: interrupts and the like only add.
const RUNS: usize = 20;

/// What loading a module has brought about goes on for a while, the console for one.
const QUIET: Duration = Duration::from_secs(1);

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
    let object = ObjectBuilder::default()
        .open_file(env::current_exe()?.with_file_name("bench.bpf.o"))?
        .load()?;

    let floor = instructions(&object, "acquire_release")?;
    insmod(&engine)?;
    insmod(&guard)?;
    let before = calls("bpf_task_release")?;
    let value = instructions(&object, "acquire_release")?;
    if calls("bpf_task_release")? - before != ROUNDS * RUNS as u64 {
        return Err("the calls did not all pass the guard".into());
    }
    figure("guard_pass", value, floor);
    Ok(())
}

/// What one round of a program takes.
fn instructions(object: &Object, name: &str) -> Result<f64> {
    let program = object
        .progs_mut()
        .find(|program| program.name() == name)
        .ok_or_else(|| format!("there is no BPF program {name}"))?;
    thread::sleep(QUIET);
    let mut least = u32::MAX;
    for _ in 0..RUNS {
        let output = program.test_run(ProgramInput::default())?;
        least = least.min(output.return_value);
    }
    Ok(f64::from(least) / ROUNDS as f64)
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

fn figure(name: &str, value: f64, floor: f64) {
    println!(
        "bench: name={name} value={value:.1} floor={floor:.1} ratio={:.2} unit=instructions",
        value / floor
    );
}
