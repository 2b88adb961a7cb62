// SPDX-License-Identifier: GPL-2.0

//! A small profiler on top of kptr_defer.
//!
//! On each NMI a BPF program takes a handle on the task that runs, and gives an older one back
//! right there. This side finds an NMI source, shows what was seen, and in the end holds the
//! program's own counts against the module's: not one reference may have got lost.

use std::{
    env,
    error::Error,
    fmt, io,
    process::ExitCode,
    time::{
        Duration,
        Instant, //
    },
};

mod module;
mod options;
mod rights;
mod sampling;
mod show;
mod snapshot;
mod stop;
mod view;
mod workload;

use module::Stats;
use options::{
    Options,
    USAGE, //
};
use sampling::{
    Profile,
    Source, //
};
use show::Show;
use snapshot::{
    Snapshot,
    Summary, //
};
use stop::Stop;
use workload::Workload;

const STEP: Duration = Duration::from_secs(1);
/// How much longer than asked for it samples if there were too few drops.
const EXTENSION: Duration = Duration::from_secs(60);
/// How long all handles may take to be dropped once the maps are closed.
const TEARDOWN_LIMIT: Duration = Duration::from_secs(60);

/// What is said to the user when this cannot go on.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Something that the user can do something about.
pub(crate) fn problem(what: impl fmt::Display, remedy: impl fmt::Display) -> Box<dyn Error> {
    format!("{what}\n{remedy}").into()
}

fn main() -> ExitCode {
    workload::be_part();
    let options = match Options::from_args(lexopt::Parser::from_env()) {
        Ok(options) => options,
        Err(err) => {
            eprintln!("profiler: {err}\nSee: profiler --help");
            return ExitCode::from(2);
        }
    };
    if options.help {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Nobody reads on, as of `profiler | head`.
        Err(err) if is_broken_pipe(&*err) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("profiler: {err}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(err: &(dyn Error + 'static)) -> bool {
    err.downcast_ref::<io::Error>()
        .is_some_and(|err| err.kind() == io::ErrorKind::BrokenPipe)
}

fn run(options: &Options) -> Result<bool> {
    rights::check()?;
    rights::raise_open_files()?;
    let before = Stats::of_idle_module()?;
    let source = Source::choose(options)?;
    let profile = Profile::load()?;
    let stop = Stop::on_signals()?;

    let sampling = profile.sample(&source)?;
    let workload = options.workload.then(Workload::start).transpose()?;
    let start = Instant::now();
    let mut show = Show::begin(options, &source, workload.as_ref())?;
    watch(&mut show, &profile, &before, start, options, &stop)?;
    let show = show.close();
    drop(sampling);
    drop(workload);

    // Nothing samples any more: the module's counters stand still until the maps go.
    let last = Snapshot::take(&profile, &before, start.elapsed(), options.top())?;
    drop(profile);
    let after = Stats::when(TEARDOWN_LIMIT, |now| {
        now.handles_live == 0 && now.drained == now.deferred
    })?;
    let summary = Summary::of(&source, last, after.since(&before), options.at_least)?;
    show.summary(&summary)?;
    Ok(summary.is_good())
}

/// Shows what goes on, each second, until it is enough.
fn watch(
    show: &mut Show,
    profile: &Profile,
    before: &Stats,
    start: Instant,
    options: &Options,
    stop: &Stop,
) -> Result<()> {
    let mut step = start;
    loop {
        // What takes longer than that is not made up for.
        step = Instant::now().max(step + STEP);
        show.wait_until(step, stop)?;
        if stop.is_requested() {
            return Ok(());
        }
        let elapsed = start.elapsed();
        let snapshot = Snapshot::take(profile, before, elapsed, show.top(options))?;
        let drops = snapshot.counts.drops;
        show.progress(snapshot)?;
        let Some(duration) = options.duration else {
            continue;
        };
        let enough = elapsed >= duration && drops >= options.at_least;
        if enough || elapsed >= duration + EXTENSION {
            return Ok(());
        }
    }
}

/// The file of that name beside the program.
fn beside_program(name: &str) -> Result<std::path::PathBuf> {
    Ok(env::current_exe()?.with_file_name(name))
}
