// SPDX-License-Identifier: GPL-2.0

//! Drops on all CPUs at once, by kptr_defer and with a queue on each CPU.

use crate::{
    figure,
    measure::{
        Bench,
        Flood, //
    },
    Result, //
};
use nmi_source::{
    kernel_symbol,
    Event,
    Scope, //
};
use std::{
    io, mem,
    sync::atomic::{
        AtomicBool,
        Ordering::Relaxed, //
    },
    thread,
    time::{
        Duration,
        Instant, //
    },
};

/// In one NMI.
const DROPS: u64 = 1000;

const DURATION: Duration = Duration::from_millis(300);

/// Both ways in turn, so that what else the machine does is fair.
const RUNS: usize = 5;

/// A system call that does next to nothing, and that nobody else makes.
const INTERRUPTED: &str = "__x64_sys_getppid";

pub(crate) fn measure(bench: &Bench) -> Result<()> {
    let address = kernel_symbol(INTERRUPTED)?;
    for cpus in [1, 2, 4] {
        let program = bench.program("nmi_flood")?;
        let _attached = (0..cpus)
            .map(|cpu| Event::execute(Scope::Cpu(cpu), address)?.attach(&program))
            .collect::<nmi_source::Result<Vec<_>>>()?;
        let mut rates = [Vec::new(), Vec::new()];
        for _ in 0..RUNS {
            for (rates, queue_per_cpu) in rates.iter_mut().zip([false, true]) {
                bench.set_flood(Flood {
                    drops: DROPS,
                    queue_per_cpu,
                })?;
                rates.push(drops_per_second(bench, cpus)?);
            }
        }
        let [shared, own] = rates.map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            rates[RUNS / 2]
        });
        figure(&format!("throughput_{cpus}"), shared, own, "drops/s");
    }
    Ok(())
}

/// How many are done, and not only queued.
fn drops_per_second(bench: &Bench, cpus: u32) -> Result<f64> {
    let stop = AtomicBool::new(false);
    let (rate, workers) = thread::scope(|scope| {
        let workers = (0..cpus)
            .map(|cpu| {
                let stop = &stop;
                scope.spawn(move || {
                    run_on(cpu)?;
                    while !stop.load(Relaxed) {
                        // SAFETY: Takes nothing and changes nothing.
                        unsafe { libc::syscall(libc::SYS_getppid) };
                    }
                    Ok::<_, io::Error>(())
                })
            })
            .collect::<Vec<_>>();
        // All are there then.
        thread::sleep(DURATION / 10);
        let rate = (|| {
            let (start, before) = (Instant::now(), bench.flooded()?);
            thread::sleep(DURATION);
            Ok::<_, Box<dyn std::error::Error>>(
                (bench.flooded()? - before) as f64 / start.elapsed().as_secs_f64(),
            )
        })();
        stop.store(true, Relaxed);
        let workers = workers
            .into_iter()
            .try_for_each(|worker| worker.join().expect("it does not panic"));
        (rate, workers)
    });
    workers?;
    // What is still queued would be counted next time.
    bench.wait_for_flood()?;
    rate
}

fn run_on(cpu: u32) -> io::Result<()> {
    // SAFETY: All zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `CPU_SET` checks the index against the size of the set.
    unsafe { libc::CPU_SET(cpu as usize, &mut set) };
    // SAFETY: `set` is a whole CPU set.
    match unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
