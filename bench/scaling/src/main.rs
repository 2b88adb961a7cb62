// SPDX-License-Identifier: GPL-2.0

//! What it costs that all processors share one queue: the files of `defer/` and `abstractions/`
//! themselves, in user space on real processors, against the same with a queue for each thread.
//!
//! An NMI is a function call, and so is the interrupt that the `irq_work` raises: what is left is the
//! queue, and the memory that processors take from each other.

extern crate pinned_init as pin_init;

#[path = "../../../tests/model/src/queue/abstractions.rs"]
mod abstractions;
mod bindings;
mod cpu;
#[path = "../../../tests/model/src/queue/defer.rs"]
mod defer;
mod run;

use std::{
    fs,
    num::NonZero,
    process::ExitCode,
    thread,
    time::{
        Duration,
        Instant, //
    }, //
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Undisturbed runs, both ways in turn, and how long it tries for them.
const RUNS: usize = 25;
const PATIENCE: Duration = Duration::from_secs(5);

const RATE: &str = "rate_that_matters";

/// How much of its time a processor may spend on waiting for the others before it matters.
const MATTERS: f64 = 0.01;

const SAMPLE_RATE: &str = "/proc/sys/kernel/perf_event_max_sample_rate";

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
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    for threads in [1, 2] {
        let name = format!("cores_{threads}");
        let measured = if processors < threads {
            Err("there is one processor")
        } else {
            measure(threads)?.ok_or("the machine was busy with something else")
        };
        match measured {
            Ok([shared, own]) => {
                figure(&name, shared, own, "ns");
                if threads == 2 {
                    rate_that_matters(shared - own)?;
                }
            }
            Err(why) => {
                skip(&name, why);
                if threads == 2 {
                    skip(RATE, why);
                }
            }
        }
    }
    Ok(())
}

/// Each drop finds the head of the list on the other processor, and pays for that.
fn rate_that_matters(waits_ns: f64) -> Result<()> {
    if waits_ns <= 0.0 {
        skip(RATE, "two threads did not wait for each other");
        return Ok(());
    }
    // How often perf samples at most.
    let most = fs::read_to_string(SAMPLE_RATE)?.trim().parse()?;
    figure(RATE, MATTERS / (waits_ns * 1e-9), most, "drops/s");
    Ok(())
}

/// What a drop and its drain take a thread when they share one queue, and when each has its own.
fn measure(threads: usize) -> Result<Option<[f64; 2]>> {
    let mut times = [Vec::new(), Vec::new()];
    let start = Instant::now();
    while times.iter().any(|times| times.len() < RUNS) && start.elapsed() < PATIENCE {
        for (times, queues) in times.iter_mut().zip([1, threads]) {
            times.extend(run::nanoseconds_per_drop(threads, queues)?);
        }
    }
    Ok(times.iter().all(|times| !times.is_empty()).then(|| {
        times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        })
    }))
}

fn skip(name: &str, why: &str) {
    println!("bench: skipped={name} why={why}");
}

fn figure(name: &str, value: f64, floor: f64, unit: &str) {
    println!(
        "bench: name={name} value={value:.1} floor={floor:.1} ratio={:.2} unit={unit}",
        value / floor
    );
}
