// SPDX-License-Identifier: GPL-2.0

//! Runs `last_on_cpu.bpf.c` on NMIs of all CPUs while a command runs, then says which task each
//! CPU was last seen running:
//!
//! ```text
//! last_on_cpu <command> [argument...]
//! ```

use libbpf_rs::{
    num_possible_cpus,
    Object,
    ObjectBuilder,
    ProgramInput,
    ProgramMut, //
};
use nmi_source::{
    cycles_interrupt,
    kernel_symbol,
    Event,
    Scope, //
};
use std::{
    env,
    error::Error,
    process::{
        Command,
        ExitCode, //
    },
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(0) => {
            eprintln!("last_on_cpu: no NMI came");
            ExitCode::FAILURE
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("last_on_cpu: {err}");
            ExitCode::FAILURE
        }
    }
}

/// On how many CPUs a task was seen.
fn run() -> Result<usize> {
    let mut command = env::args().skip(1);
    let program = command.next().ok_or("usage: last_on_cpu <command>")?;
    let cpus = u32::try_from(num_possible_cpus()?)?;

    let object = ObjectBuilder::default()
        .open_file(env::current_exe()?.with_file_name("last_on_cpu.bpf.o"))?
        .load()
        .map_err(|err| format!("cannot load the BPF program: {err}. Is kptr_defer loaded?"))?;
    let sample = named(&object, "sample")?;
    let mut attached = Vec::new();
    for cpu in 0..cpus {
        attached.push(event(cpu)?.attach(&sample)?);
    }
    Command::new(program).args(command).status()?;
    drop(attached);

    let show = named(&object, "show")?;
    let mut seen_on = 0;
    for cpu in 0..cpus {
        // struct seen
        let mut seen = [0; 24];
        seen[..4].copy_from_slice(&cpu.to_ne_bytes());
        let output = show.test_run(ProgramInput {
            context_in: Some(&mut seen),
            ..ProgramInput::default()
        })?;
        if output.return_value != 0 {
            println!("cpu {cpu}: nobody");
            continue;
        }
        let (numbers, comm) = seen.split_at(8);
        let pid = i32::from_ne_bytes(numbers[4..].try_into()?);
        let comm = String::from_utf8_lossy(comm);
        println!("cpu {cpu}: {} {pid}", comm.trim_end_matches('\0'));
        seen_on += 1;
    }
    Ok(seen_on)
}

/// The PMU, or where there is none whoever opens a file.
fn event(cpu: u32) -> nmi_source::Result<Event> {
    match cycles_interrupt(cpu) {
        Ok(()) => Event::cycles(Scope::Cpu(cpu), 1_000_000),
        Err(err) if err.is_skip() => {
            Event::execute(Scope::Cpu(cpu), kernel_symbol("do_sys_openat2")?)
        }
        Err(err) => Err(err),
    }
}

fn named<'object>(object: &'object Object, name: &str) -> Result<ProgramMut<'object>> {
    object
        .progs_mut()
        .find(|program| program.name() == name)
        .ok_or_else(|| format!("there is no BPF program '{name}'").into())
}
