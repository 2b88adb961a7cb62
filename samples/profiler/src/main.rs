// SPDX-License-Identifier: GPL-2.0

//! A small profiler on top of kptr_defer.
//!
//! On each NMI a BPF program takes a handle on the task that runs, and gives an older one back
//! right there. This side finds an NMI source, shows what was seen, and in the end holds the
//! program's own counts against the module's: not one reference may have got lost.

use std::{
    env, fmt, fs,
    process::ExitCode,
    thread,
    time::{
        Duration,
        Instant, //
    },
};

mod module;
mod sampling;
mod workload;

use module::Stats;
use sampling::{
    Counts,
    Profile, //
};
use workload::Workload;

const USAGE: &str = "\
usage: profiler [--seconds N] [--workload] [--at-least DROPS]

Samples all CPUs for N seconds (5) with the kernel module kptr_defer and shows
which commands ran.

  --workload          let processes come and go meanwhile
  --at-least DROPS    go on until so many references were given back in NMI (1),
                      and fail if that takes more than a minute longer";

/// How much longer than asked for it samples if there were too few drops.
const EXTENSION: Duration = Duration::from_secs(60);

/// How long all handles may take to be dropped once the maps are closed.
const TEARDOWN_LIMIT: Duration = Duration::from_secs(20);
/// How many commands are shown.
const TOP: usize = 12;

/// What is said to the user when this cannot go on.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

struct Options {
    duration: Duration,
    workload: bool,
    at_least: u64,
}

impl Options {
    fn from_args() -> std::result::Result<Options, lexopt::Error> {
        use lexopt::prelude::*;

        let mut options = Options {
            duration: Duration::from_secs(5),
            workload: false,
            at_least: 1,
        };
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                Long("seconds") => options.duration = Duration::from_secs(args.value()?.parse()?),
                Long("workload") => options.workload = true,
                Long("at-least") => options.at_least = args.value()?.parse()?,
                _ => return Err(arg.unexpected()),
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    workload::be_part();
    let options = match Options::from_args() {
        Ok(options) => options,
        Err(err) => {
            eprintln!("profiler: {err}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            eprintln!("profiler: {err}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<bool> {
    // SAFETY: Takes nothing, returns a number.
    if unsafe { libc::geteuid() } != 0 {
        return Err("needs root: it loads BPF programs and opens perf events for all tasks".into());
    }
    let before = Stats::read()?;
    if before.handles_live != 0 {
        return Err(format!(
            "{} handles of other BPF programs are live: their drops could not be told from ours. \
             Stop those programs first",
            before.handles_live
        )
        .into());
    }

    let profile = Profile::load()?;
    let source = profile.attach()?;
    let source_name = source.name();
    println!("sampling {source}");
    let workload = options.workload.then(Workload::start).transpose()?;
    watch(&profile, options)?;
    drop(source);
    drop(workload);

    // Nothing samples any more: the module's counters stand still until the maps go.
    let counts = profile.counts()?;
    let sampled = Stats::read()?.since(&before);
    println!();
    print_commands(&profile)?;
    drop(profile);
    let after = settled(&before)?;
    println!();
    print_drops(&counts, &sampled, &after);
    println!();
    print_latencies(&after);

    let complaints = complaints(options, &counts, &sampled, &after)?;
    for complaint in &complaints {
        println!("WRONG: {complaint}");
    }
    println!(
        "\ndemo: kernel={} nmi_source={source_name} nmi_drops={} deferred={} drained={} lost={}",
        fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        counts.drops,
        after.deferred,
        after.drained,
        lost(&counts, &after),
    );
    Ok(complaints.is_empty())
}

fn watch(profile: &Profile, options: &Options) -> Result<()> {
    const STEP: Duration = Duration::from_secs(1);

    let start = Instant::now();
    loop {
        let left = options.duration.saturating_sub(start.elapsed());
        thread::sleep(if left.is_zero() { STEP } else { left.min(STEP) });
        let counts = profile.counts()?;
        let elapsed = start.elapsed();
        println!(
            "{:4.0} s  {:8} samples  {:8} drops in NMI  {:6} last references  {:4} handles live",
            elapsed.as_secs_f64(),
            counts.samples,
            counts.drops,
            counts.last_references,
            Stats::read()?.handles_live,
        );
        let enough = elapsed >= options.duration && counts.drops >= options.at_least;
        if enough || elapsed >= options.duration + EXTENSION {
            return Ok(());
        }
    }
}

fn print_commands(profile: &Profile) -> Result<()> {
    let commands = profile.commands()?;
    let all: u64 = commands.iter().map(|command| command.samples).sum();
    println!("top commands by samples");
    for command in commands.iter().take(TOP) {
        let share = percent(command.samples, all);
        println!(
            "  {:<15} {:>8}  {share:>5.1} %  {}",
            command.name,
            command.samples,
            bar(share, 100.0)
        );
    }
    if let Some(more) = commands.len().checked_sub(TOP + 1) {
        println!("  and {} more", more + 1);
    }
    Ok(())
}

/// The module's counters once it holds nothing any more.
fn settled(before: &Stats) -> Result<Stats> {
    let start = Instant::now();
    loop {
        let now = Stats::read()?.since(before);
        if now.handles_live == 0 && now.drained == now.deferred || start.elapsed() > TEARDOWN_LIMIT
        {
            return Ok(now);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn print_drops(counts: &Counts, sampled: &Stats, after: &Stats) {
    let teardown = after.deferred + after.inline - sampled.deferred - sampled.inline;
    println!("drops");
    let line = |n: u64, what: &dyn fmt::Display| println!("  {n:>8}  {what}");
    line(
        counts.drops,
        &format_args!(
            "in NMI, by the program ({:.1} %); the module deferred {} of them",
            percent(counts.drops, counts.acquired),
            sampled.deferred
        ),
    );
    line(
        counts.last_references,
        &"of those were the last reference to a task that had exited",
    );
    line(teardown, &"elsewhere, by the teardown of the maps");
    line(
        counts.acquired,
        &format_args!("handles acquired in all, {} refused", counts.not_acquired),
    );
    line(after.max_batch, &"in the largest batch");
}

fn print_latencies(after: &Stats) {
    println!("from queueing to drop");
    let most = after.latencies.values().copied().max().unwrap_or(1).max(1);
    for (&from_ns, &n) in after.latencies.iter().filter(|(_, &n)| n > 0) {
        println!(
            "  {:>7} … {:>7}  {:>7}  {}",
            Nanoseconds(from_ns).to_string(),
            Nanoseconds(from_ns * 2).to_string(),
            n,
            bar(n as f64, most as f64)
        );
    }
}

/// References that were taken and never given back, by both counts.
fn lost(counts: &Counts, after: &Stats) -> i128 {
    i128::from(counts.acquired) - i128::from(after.inline) - i128::from(after.drained)
}

fn complaints(
    options: &Options,
    counts: &Counts,
    sampled: &Stats,
    after: &Stats,
) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    if counts.drops < options.at_least {
        complaints.push(format!(
            "{} drops in NMI, of at least {}",
            counts.drops, options.at_least
        ));
    }
    // What `in_nmi()` said in the module about each of them.
    if module::defer_when()? == "nmi" && sampled.deferred != counts.drops {
        complaints.push(format!(
            "the program dropped {} in what should be NMI, the module deferred {}",
            counts.drops, sampled.deferred
        ));
    }
    if after.deferred != after.drained {
        complaints.push(format!(
            "{} drops deferred, {} drained",
            after.deferred, after.drained
        ));
    }
    if after.handles_live != 0 {
        complaints.push(format!("{} handles are still live", after.handles_live));
    }
    if lost(counts, after) != 0 {
        complaints.push(format!(
            "{} handles acquired, {} dropped",
            counts.acquired,
            after.inline + after.drained
        ));
    }
    Ok(complaints)
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

fn bar(part: f64, whole: f64) -> String {
    const WIDTH: f64 = 40.0;

    "#".repeat((part / whole * WIDTH).ceil() as usize)
}

struct Nanoseconds(u64);

impl fmt::Display for Nanoseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ns @ 0..1_000 => write!(f, "{ns} ns"),
            ns @ 1_000..1_000_000 => write!(f, "{} µs", ns / 1_000),
            ns @ 1_000_000..1_000_000_000 => write!(f, "{} ms", ns / 1_000_000),
            ns => write!(f, "{} s", ns / 1_000_000_000),
        }
    }
}

/// The file of that name beside the program.
fn beside_program(name: &str) -> Result<std::path::PathBuf> {
    Ok(env::current_exe()?.with_file_name(name))
}
