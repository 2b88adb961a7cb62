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

use run::Load;
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

/// So many drops are measured, both ways in turn; with a busy machine fewer, but not too few.
const DROPS: usize = 3000;
const TOO_FEW: usize = 100;
const PATIENCE: Duration = Duration::from_secs(3);

/// How often each of two threads drops.
const RATES: [u32; 3] = [10_000, 100_000, 1_000_000];

/// Of those the one from which the next is reckoned.
const USUAL: u32 = 100_000;

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
    let one = Load {
        threads: 1,
        queues: 1,
        drops_per_second: USUAL,
    };
    let _ = measured("cores_1", one)?;
    for drops_per_second in RATES {
        let two = Load {
            threads: 2,
            drops_per_second,
            ..one
        };
        let waits = measured(&format!("cores_2_at_{drops_per_second}"), two)?;
        if drops_per_second == USUAL {
            rate_that_matters(waits)?;
        }
    }
    Ok(())
}

/// Prints what a drop and its drain take a thread with one queue, and with one for each; tells how much
/// longer it takes with one, or why that is not known.
fn measured(name: &str, load: Load) -> Result<std::result::Result<f64, &'static str>> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let took = if processors < load.threads {
        Err("there is one processor")
    } else {
        measure(load)?.ok_or("the machine was busy with something else")
    };
    match took {
        Ok([shared, own]) => figure(name, shared, own, "ns"),
        Err(why) => skip(name, why),
    }
    Ok(took.map(|[shared, own]| shared - own))
}

/// The medians.
fn measure(load: Load) -> Result<Option<[f64; 2]>> {
    let mut times = [Vec::new(), Vec::new()];
    let start = Instant::now();
    while times.iter().any(|times| times.len() < DROPS) && start.elapsed() < PATIENCE {
        for (times, queues) in times.iter_mut().zip([1, load.threads]) {
            times.extend(run::nanoseconds(Load { queues, ..load })?);
        }
    }
    let enough = times.iter().all(|times| times.len() >= TOO_FEW);
    Ok(enough.then(|| {
        times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        })
    }))
}

/// From the time that a drop takes longer because others drop as well.
fn rate_that_matters(longer_ns: std::result::Result<f64, &str>) -> Result<()> {
    match longer_ns {
        Ok(ns) if ns > 0.0 => {
            // How often perf samples at most.
            let most = fs::read_to_string(SAMPLE_RATE)?.trim().parse()?;
            figure(RATE, MATTERS / (ns * 1e-9), most, "drops/s");
        }
        Ok(_) => skip(RATE, "two threads did not wait for each other"),
        Err(why) => skip(RATE, why),
    }
    Ok(())
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
