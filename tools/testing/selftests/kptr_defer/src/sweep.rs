// SPDX-License-Identifier: GPL-2.0

//! An NMI at every instruction of the paths that handles and drops take: those of the module, and of
//! the kernel functions that it calls there. In the NMI a program takes and drops, too.
//!
//! What breaks when one fails: a drop was lost, done twice, out of order, or beside another one of
//! its lane. Nothing more can be relied upon then, so the modules stay loaded.
//!
//! Only with `KPTR_DEFER_SWEEP=<n>`, at every n-th instruction. x86 only.

use crate::{
    bpf::Bpf,
    check,
    kernel_text::{
        Function,
        KernelText, //
    },
    ktap::{
        failed,
        note,
        Outcome,
        Stop,
        Test, //
    },
    module::{
        debugfs,
        debugfs_number,
        not_built_in,
        KptrDefer,
        Loaded, //
    },
    nmi::cpus,
    workload::on_cpu,
};
use libbpf_rs::{
    MapCore,
    MapFlags, //
};
use nmi_source::{
    Attached,
    Error,
    Event,
    Scope, //
};
use std::{
    collections::BTreeSet,
    env, fs,
    sync::atomic::{
        AtomicBool,
        Ordering, //
    },
    thread,
};

const DIR: &str = "kptr_defer_test_sweep";
const MODULE: &str = "kptr_defer_test_sweep";

/// The debug registers of a CPU.
const AT_ONCE: usize = 4;

/// What all paths begin with that lead to a drop.
const DROPPED: &str = "kptr_defer_test_sweep_dropped";

const STEP: &str = "KPTR_DEFER_SWEEP";

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    if env::var(STEP).is_err() {
        return tests;
    }
    for params in [
        "defer_when=always",
        "defer_when=always budget=1",
        "defer_when=nmi",
    ] {
        tests.push(Test::new(
            format!("sweep: NMIs at instructions, {params}"),
            move || sweep(params),
        ));
    }
    for (other, params) in [
        ("drains", "defer_when=always"),
        ("drops", "defer_when=always"),
        ("drops", "defer_when=always budget=1"),
    ] {
        tests.push(Test::new(
            format!("sweep: stopped at instructions while another CPU {other}, {params}"),
            move || sweep_stopped(other, params),
        ));
    }
    tests
}

/// From one instruction to the next.
fn step() -> Outcome<usize> {
    let step = env::var(STEP).unwrap_or_default();
    match step.parse() {
        Ok(step @ 1..=1000) => Ok(step),
        _ => failed(format!("{STEP}={step} is not 1 to 1000")),
    }
}

/// What became of an instruction.
#[derive(Clone, Copy, PartialEq)]
enum Hit {
    Yes,
    /// It was not executed.
    No,
    /// The kernel lets nothing interrupt it.
    Unprobed,
}

/// The breakpoints, and what they are for.
struct Sweep {
    text: KernelText,
    breakpoints: Vec<Vec<Attached>>,
    bpf: Bpf,
    /// Breakpoints of a CPU in use: with more than one only the first that is hit stops it.
    at_once: usize,
    points: u64,
    hit: u64,
    unprobed: u64,
}

impl Sweep {
    fn new(at_once: usize) -> Outcome<Sweep> {
        let bpf = Bpf::load("sweep", &["perf_point", "replace_in_process"])?;
        let text = KernelText::read()?;
        let anywhere = text.function(DROPPED)?.address;
        let mut breakpoints = Vec::new();
        for cpu in 0..cpus() {
            let mut of_cpu = Vec::new();
            for _ in 0..at_once {
                let event = Event::execute(Scope::Cpu(cpu), anywhere)?;
                of_cpu.push(event.attach(&bpf.program("perf_point")?)?);
            }
            breakpoints.push(of_cpu);
        }
        Ok(Sweep {
            text,
            breakpoints,
            bpf,
            at_once,
            points: 0,
            hit: 0,
            unprobed: 0,
        })
    }

    /// Has NMIs at these instructions while `work` is done.
    fn at(&self, addresses: &[u64], work: &impl Fn(&Bpf) -> Outcome) -> Outcome<Vec<Hit>> {
        let points = self.bpf.map("points")?;
        let mut hits = Vec::new();
        for (index, &address) in addresses.iter().enumerate() {
            let mut hit = Hit::No;
            for of_cpu in &self.breakpoints {
                match of_cpu[index].move_to(address) {
                    Err(Error::NotThere(_)) => hit = Hit::Unprobed,
                    moved => moved?,
                }
            }
            hits.push(hit);
            // Its address and its hits.
            let value = [address.to_ne_bytes(), [0; 8]].concat();
            points.update(&(index as u32).to_ne_bytes(), &value, MapFlags::ANY)?;
        }
        let done = work(&self.bpf);
        nothing_wrong()
            .and(done)
            .map_err(|stop| self.after_nmis_at(addresses, stop))?;
        for (index, hit) in hits.iter_mut().enumerate() {
            let value = points.lookup(&(index as u32).to_ne_bytes(), MapFlags::ANY)?;
            let value = value.unwrap_or_default();
            check!(value.len() == 16);
            if value[8..] != [0; 8] {
                check!(*hit != Hit::Unprobed);
                *hit = Hit::Yes;
            }
        }
        Ok(hits)
    }

    fn after_nmis_at(&self, addresses: &[u64], stop: Stop) -> Stop {
        let places: Vec<String> = addresses
            .iter()
            .map(|&address| match self.text.function_at(address) {
                Ok(function) => format!("{}+{:#x}", function.name, address - function.address),
                Err(_) => format!("{address:#x}"),
            })
            .collect();
        match stop {
            Stop::Failed(why) => {
                Stop::Failed(format!("{why}, after NMIs at {}", places.join(", ")))
            }
            stop => stop,
        }
    }

    /// Those of the functions that are called in `work`.
    fn entered(
        &self,
        functions: Vec<Function>,
        work: &impl Fn(&Bpf) -> Outcome,
    ) -> Outcome<Vec<Function>> {
        let mut entered = Vec::new();
        let mut functions = functions.into_iter().peekable();
        while functions.peek().is_some() {
            let some: Vec<Function> = functions.by_ref().take(self.at_once).collect();
            let entries: Vec<u64> = some.iter().map(|function| function.address).collect();
            let hits = self.at(&entries, work)?;
            let is_entered = some
                .into_iter()
                .zip(hits)
                .filter(|(_, hit)| *hit != Hit::No);
            entered.extend(is_entered.map(|(function, _)| function));
        }
        Ok(entered)
    }

    /// At every `step`-th instruction of the functions. Returns which functions of the kernel those
    /// call that were executed.
    fn over(
        &mut self,
        functions: &[Function],
        step: usize,
        work: &impl Fn(&Bpf) -> Outcome,
    ) -> Outcome<BTreeSet<u64>> {
        let all: Vec<(usize, u64)> = (0..)
            .zip(functions)
            .flat_map(|(index, function)| {
                function.instructions.iter().map(move |i| (index, i.ip()))
            })
            .step_by(step)
            .collect();
        // Those that are hit at once are far from each other.
        let stride = all.len().div_ceil(self.at_once);
        let mut tallies = vec![Tally::default(); functions.len()];
        let mut called = BTreeSet::new();
        for first in 0..stride {
            let chosen: Vec<(usize, u64)> =
                all.iter().skip(first).step_by(stride).copied().collect();
            let addresses: Vec<u64> = chosen.iter().map(|(_, address)| *address).collect();
            for ((index, address), hit) in chosen.into_iter().zip(self.at(&addresses, work)?) {
                let function = &functions[index];
                tallies[index].add(address - function.address, hit);
                if hit == Hit::Yes {
                    called.extend(function.called_at(address));
                }
            }
        }
        for (function, tally) in functions.iter().zip(tallies) {
            note(format!("{}: {tally}", function.name));
            self.points += tally.points();
            self.hit += tally.hit;
            self.unprobed += tally.unprobed.len() as u64;
        }
        Ok(called)
    }

    fn sum_up(&self) {
        note(format!(
            "sweep: points={} hit={} unprobed={}",
            self.points, self.hit, self.unprobed
        ));
    }
}

/// Of a function.
#[derive(Clone, Default)]
struct Tally {
    hit: u64,
    not_executed: u64,
    /// Offsets.
    unprobed: Vec<u64>,
}

impl Tally {
    fn add(&mut self, offset: u64, hit: Hit) {
        match hit {
            Hit::Yes => self.hit += 1,
            Hit::No => self.not_executed += 1,
            Hit::Unprobed => self.unprobed.push(offset),
        }
    }

    fn points(&self) -> u64 {
        self.hit + self.not_executed + self.unprobed.len() as u64
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.hit, self.points())?;
        if let (Some(first), Some(last)) = (self.unprobed.first(), self.unprobed.last()) {
            write!(
                f,
                ", {} not to be probed (the kernel allows no breakpoint), +{first:#x} to +{last:#x}",
                self.unprobed.len()
            )?;
        }
        Ok(())
    }
}

fn write(file: &str, value: &str) -> std::io::Result<()> {
    fs::write(debugfs(DIR).join(file), value)
}

/// Drops and waits, in process context.
fn drop_some() -> Outcome {
    match write("drop", "1") {
        Err(err) if err.raw_os_error() == Some(libc::ETIMEDOUT) => failed(format!(
            "lost: {} were handed over, {} dropped",
            debugfs_number(&format!("{DIR}/handed"))?,
            debugfs_number(&format!("{DIR}/dropped"))?
        )),
        result => Ok(result?),
    }
}

fn all_paths(bpf: &Bpf) -> Outcome {
    bpf.call("replace_in_process", &mut [])?;
    drop_some()?;
    match write("barrier", "1") {
        Err(err) if err.raw_os_error() == Some(libc::EIO) => {
            failed("kptr_defer_barrier() returned before what had been handed over was dropped")
        }
        result => Ok(result?),
    }
}

fn nothing_wrong() -> Outcome {
    let mut wrong = String::new();
    for what in ["dropped_again", "out_of_order", "overlapped"] {
        match debugfs_number(&format!("{DIR}/{what}"))? {
            0 => (),
            drops => wrong += &format!(" {what}={drops}"),
        }
    }
    check!(wrong.is_empty(), "wrong:{wrong}");
    Ok(())
}

fn with_modules(
    params: &str,
    test_params: &str,
    at_once: usize,
    test: impl FnOnce(&mut Sweep) -> Outcome,
) -> Outcome {
    not_built_in("kptr_defer")?;
    let module = KptrDefer::load(params)?;
    let all_deferred = u32::from(params.contains("defer_when=always"));
    let interrupted = Loaded::new(
        MODULE,
        &format!("all_deferred={all_deferred} {test_params}"),
    )?;
    let result = Sweep::new(at_once).and_then(|mut sweep| {
        test(&mut sweep)?;
        sweep.sum_up();
        Ok(())
    });
    if let Err(Stop::Failed(_)) = &result {
        // Unloading waits for what may never come.
        std::mem::forget((module, interrupted));
        return result;
    }
    result?;
    interrupted.unload()?;
    module.unload()
}

fn of_this_project(text: &KernelText) -> Outcome<Vec<Function>> {
    let mut functions = text.functions_of("kptr_defer")?;
    functions.push(text.function(DROPPED)?);
    Ok(functions)
}

fn sweep(params: &str) -> Outcome {
    let step = step()?;
    with_modules(params, "", AT_ONCE, |sweep| {
        let ours = sweep.entered(of_this_project(&sweep.text)?, &all_paths)?;
        let called = sweep.over(&ours, step, &all_paths)?;
        let mut functions = Vec::new();
        for address in called {
            let function = sweep.text.function_at(address)?;
            let is_new = |other: &Function| other.address != function.address;
            if ours.iter().chain(&functions).all(is_new) {
                functions.push(function);
            }
        }
        sweep.over(&functions, step, &all_paths)?;
        Ok(())
    })
}

/// The CPU that drops is stopped, and the other one does what `other` says.
fn sweep_stopped(other: &'static str, params: &str) -> Outcome {
    if cpus() < 2 {
        return Err(Stop::Skipped("there is one CPU only".into()));
    }
    let step = step()?;
    with_modules(params, "meet=1", 1, |sweep| {
        let done = AtomicBool::new(false);
        let result = thread::scope(|scope| {
            let other = scope.spawn(|| {
                on_cpu(1, || {
                    while !done.load(Ordering::Relaxed) {
                        match write("other", other) {
                            // Nobody has come: perhaps there will be no more.
                            Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => (),
                            result => result?,
                        }
                    }
                    Ok(())
                })
            });
            let swept = on_cpu(0, || {
                let work = |_: &Bpf| drop_some();
                let ours = sweep.entered(of_this_project(&sweep.text)?, &work)?;
                sweep.over(&ours, step, &work)
            });
            done.store(true, Ordering::Relaxed);
            let other = other.join();
            swept?;
            other.unwrap_or_else(|_| failed("a thread has panicked"))
        });
        result?;
        let stopped = debugfs_number(&format!("{DIR}/stopped"))?;
        let left_alone = debugfs_number(&format!("{DIR}/left_alone"))?;
        note(format!("stopped {stopped} times"));
        check!(stopped > 0);
        check!(
            left_alone == 0,
            "{left_alone} times the other CPU did not come"
        );
        Ok(())
    })
}
