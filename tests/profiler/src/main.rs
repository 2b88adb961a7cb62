// SPDX-License-Identifier: GPL-2.0

//! Tests the profiler as its users run it, on a kernel that has not loaded the module yet.
//!
//! ```text
//! profiler_test <folder with profiler, profiler.bpf.o and others> <kptr_defer.ko>
//! ```
//!
//! It needs root, and a machine of its own: it unmounts debugfs, for one. Prints KTAP.

use nmi_source::{
    cycles_interrupt,
    kernel_symbol,
    Event,
    Scope, //
};
use rustix::{
    mount::{
        mount,
        unmount,
        MountFlags,
        UnmountFlags, //
    },
    process::Signal,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    env,
    error::Error,
    ffi::OsString,
    fmt,
    fs,
    path::PathBuf,
    process::ExitCode, //
};

mod program;
mod terminal;

use program::{
    ended_with,
    wait_for,
    Program,
    Running, //
};
use terminal::OnTerminal;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// Fails the test, with these words, if the condition does not hold.
macro_rules! ensure {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err(format!($($words)+).into());
        }
    };
}
pub(crate) use ensure;

/// Why a test is not run here.
#[derive(Debug)]
struct Skipped(&'static str);

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Skipped {}

const DEBUGFS: &str = "/sys/kernel/debug";

/// Where everything is.
struct Machine {
    folder: PathBuf,
    module: OsString,
    has_pmu: bool,
}

impl Machine {
    fn profiler(&self, args: &str) -> Program {
        Program::new(&self.folder.join("profiler"), args)
    }

    fn source(&self) -> &'static str {
        if self.has_pmu {
            "pmu-cycles"
        } else {
            "hw-breakpoint"
        }
    }
}

type Test = (&'static str, fn(&Machine) -> Result);

/// In this order: the module is loaded by one of them, and unloaded by the last.
const TESTS: [Test; 20] = [
    ("help: on stdout, for everybody", help),
    ("options: what is wrong is said", wrong_options),
    ("error: the module is not loaded", not_loaded),
    ("error: not root", not_root),
    ("error: debugfs is not mounted", no_debugfs),
    ("error: the module has no counters", no_counters),
    ("error: the module is of another version", other_version),
    ("error: the BPF object is missing", no_object),
    ("error: the BPF object is damaged", damaged_object),
    ("error: no PMU, or too many samples", no_such_pmu),
    ("error: addresses are hidden", hidden_addresses),
    ("error: breakpoints are in use", no_breakpoints),
    ("json: the numbers add up", numbers),
    ("json: what has become of a task", fate_of_a_task),
    (
        "lines: SIGINT ends it, handles of others are an error",
        two_at_a_time,
    ),
    ("lines: nobody reads on", broken_pipe),
    ("view: q ends it", view),
    (
        "view: at another size, Ctrl-C and SIGTERM end it",
        view_interrupted,
    ),
    ("view: an error ends it", view_error),
    ("the module can be unloaded", unloaded),
];

fn main() -> ExitCode {
    let args = Vec::from_iter(env::args_os().skip(1));
    let [folder, module] = args.as_slice() else {
        eprintln!("usage: profiler_test <folder> <module>");
        return ExitCode::from(2);
    };
    let machine = Machine {
        folder: folder.into(),
        module: module.into(),
        has_pmu: cycles_interrupt(0).is_ok(),
    };
    let mut failed = false;
    println!("TAP version 13\n1..{}", TESTS.len());
    for (number, (name, test)) in (1..).zip(TESTS) {
        match test(&machine) {
            Ok(()) => println!("ok {number} - {name}"),
            Err(why) if why.is::<Skipped>() => println!("ok {number} - {name} # SKIP {why}"),
            Err(why) => {
                for line in why.to_string().lines() {
                    println!("# {line}");
                }
                println!("not ok {number} - {name}");
                failed = true;
            }
        }
    }
    ExitCode::from(u8::from(failed))
}

fn help(machine: &Machine) -> Result {
    let said = machine.profiler("--help").by_nobody().output()?;
    ended_with(0, &said)?;
    ensure!(
        said.stdout.contains("--json") && said.stderr.is_empty(),
        "{said}"
    );
    Ok(())
}

fn wrong_options(machine: &Machine) -> Result {
    for (args, words) in [
        ("--seconds 0", "\"0\""),
        ("--source nmi", "one of auto, pmu and breakpoint"),
        ("--source breakpoint --frequency 9", "of no use"),
        ("--loud", "--loud"),
    ] {
        let said = machine.profiler(args).output()?;
        ended_with(2, &said)?;
        ensure!(said.stderr.contains(words), "{args}: {said}");
        ensure!(said.stderr.contains("profiler --help"), "{args}: {said}");
    }
    Ok(())
}

/// That it says what is wrong and what to do, in two lines at most, and nothing else.
fn complains(profiler: Program, wrong: &str, remedy: &str) -> Result {
    let said = profiler.output()?;
    ended_with(1, &said)?;
    let words = &said.stderr;
    ensure!(
        words.starts_with("profiler: ") && words.contains(wrong) && words.contains(remedy),
        "not \"{wrong}\" and \"{remedy}\", but {said}"
    );
    ensure!(
        words.lines().count() <= 2 && said.stdout.is_empty(),
        "more than that: {said}"
    );
    Ok(())
}

fn not_loaded(machine: &Machine) -> Result {
    complains(
        machine.profiler(""),
        "kptr_defer is not loaded",
        "insmod kptr_defer.ko",
    )?;
    let loaded = Program::new("insmod".as_ref(), "")
        .arg(&machine.module)
        .output()?;
    ended_with(0, &loaded)
}

fn not_root(machine: &Machine) -> Result {
    complains(
        machine.profiler("").by_nobody(),
        "no CAP_SYS_ADMIN",
        "as root",
    )
}

/// Without debugfs, while the test runs.
struct Unmounted;

impl Unmounted {
    fn now() -> Result<Unmounted> {
        unmount(DEBUGFS, UnmountFlags::DETACH)?;
        Ok(Unmounted)
    }
}

impl Drop for Unmounted {
    fn drop(&mut self) {
        mount("debugfs", DEBUGFS, "debugfs", MountFlags::empty(), None)
            .expect("debugfs can be mounted again");
    }
}

fn no_debugfs(machine: &Machine) -> Result {
    let _unmounted = Unmounted::now()?;
    complains(
        machine.profiler(""),
        "debugfs is not mounted",
        "mount -t debugfs",
    )
}

fn no_counters(machine: &Machine) -> Result {
    const FOLDER: &str = "/sys/kernel/debug/kptr_defer";

    mount("none", FOLDER, "tmpfs", MountFlags::empty(), None)?;
    let seen = complains(
        machine.profiler(""),
        "cannot read /sys/kernel/debug/kptr_defer/stats",
        "from one source tree",
    );
    unmount(FOLDER, UnmountFlags::DETACH)?;
    seen
}

/// A program that has been built for functions that the module does not have.
fn other_version(machine: &Machine) -> Result {
    let other = machine.folder.join("other/profiler");
    complains(
        Program::new(&other, ""),
        "the module does not have the functions",
        "from one source tree",
    )
}

/// The profiler in a folder of that name, and nothing else there.
fn alone(machine: &Machine, name: &str) -> Result<PathBuf> {
    let folder = machine.folder.join(name);
    fs::create_dir_all(&folder)?;
    fs::copy(machine.folder.join("profiler"), folder.join("profiler"))?;
    Ok(folder)
}

fn no_object(machine: &Machine) -> Result {
    complains(
        Program::new(&alone(machine, "alone")?.join("profiler"), ""),
        "profiler.bpf.o is missing",
        "make -C samples/profiler",
    )
}

fn damaged_object(machine: &Machine) -> Result {
    let folder = alone(machine, "damaged")?;
    fs::write(folder.join("profiler.bpf.o"), "nothing of the kind")?;
    complains(
        Program::new(&folder.join("profiler"), ""),
        "cannot load profiler.bpf.o",
        "libbpf: ",
    )
}

fn no_such_pmu(machine: &Machine) -> Result {
    if machine.has_pmu {
        complains(
            machine.profiler("--source pmu --frequency 1000000000"),
            "more than kernel.perf_event_max_sample_rate",
            "raise that",
        )
    } else {
        complains(
            machine.profiler("--source pmu"),
            "no PMU cycles",
            "--source breakpoint",
        )
    }
}

fn hidden_addresses(machine: &Machine) -> Result {
    const RESTRICT: &str = "/proc/sys/kernel/kptr_restrict";

    if !cfg!(target_arch = "x86_64") {
        // There are no breakpoints to be had at any address.
        return complains(machine.profiler("--source breakpoint"), "only x86", "");
    }
    let before = fs::read_to_string(RESTRICT)?;
    fs::write(RESTRICT, "2")?;
    let seen = complains(
        machine.profiler("--source breakpoint"),
        "hides its addresses",
        "kernel.kptr_restrict=0",
    );
    fs::write(RESTRICT, before)?;
    seen
}

fn no_breakpoints(machine: &Machine) -> Result {
    if !cfg!(target_arch = "x86_64") {
        return Err(Skipped("breakpoints are no NMIs but on x86").into());
    }
    // One of four, of which the profiler wants all.
    let _taken = Event::execute(Scope::Cpu(0), kernel_symbol("do_exit")?)?;
    complains(
        machine.profiler("--source breakpoint"),
        "debug registers are all in use",
        "--source pmu",
    )
}

/// The counters of the module.
fn stats() -> Result<BTreeMap<String, u64>> {
    let stats = fs::read_to_string("/sys/kernel/debug/kptr_defer/stats")?;
    let parsed = stats.lines().filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    Ok(parsed.collect())
}

fn nothing_is_held() -> Result {
    // The memory of maps goes a little after the program that had them.
    wait_for(|| Ok((stats()?["handles_live"] == 0).then_some(()))).map_err(|_| {
        format!(
            "handles_live is {:?}",
            stats().map(|stats| stats["handles_live"])
        )
        .into()
    })
}

fn number(record: &Value, name: &str) -> Result<u64> {
    record[name]
        .as_u64()
        .ok_or_else(|| format!("{name} is no number in {record}").into())
}

/// What it counts itself, what it tells of the module, and what the module tells.
fn numbers(machine: &Machine) -> Result {
    let before = stats()?;
    let mut profiler = Running::start(machine.profiler("--json --workload --top 5000"))?;
    let mut lines = 0;
    wait_for(|| {
        let line: Value = serde_json::from_str(&profiler.line()?)?;
        lines += 1;
        let some = number(&line["progress"], "last_references")? > 0;
        Ok((some && lines > 1).then_some(()))
    })?;
    profiler.process.signal(Signal::INT)?;
    let said = profiler.end()?;
    ended_with(0, &said)?;
    let after = stats()?;
    let records: Vec<Value> = said
        .stdout
        .lines()
        .map(serde_json::from_str)
        .collect::<std::result::Result<_, _>>()?;
    let (summary, progress) = records.split_last().ok_or("it said nothing")?;
    let summary = &summary["summary"];

    for name in [
        "samples",
        "acquired",
        "drops_in_nmi",
        "deferred",
        "last_references",
    ] {
        let mut before = 0;
        for record in progress
            .iter()
            .map(|line| &line["progress"])
            .chain([summary])
        {
            let now = number(record, name)?;
            ensure!(before <= now, "{name}: first {before}, then {now}: {said}");
            before = now;
        }
        ensure!(before > 0, "{name} is 0: {said}");
    }
    ensure!(summary["source"] == machine.source(), "{summary}");
    ensure!(summary["complaints"] == serde_json::json!([]), "{summary}");
    ensure!(
        summary["lost"] == 0 && summary["handles_live"] == 0,
        "{summary}"
    );

    // The module's own counters.
    for name in ["inline", "deferred", "drained"] {
        let (told, counted) = (number(summary, name)?, after[name] - before[name]);
        ensure!(
            told == counted,
            "{name}: {told} told, the module has counted {counted}"
        );
    }
    let adds_up = |what: &str, left: u64, right: u64| -> Result {
        ensure!(left == right, "{what}: {left} and {right} in {summary}");
        Ok(())
    };
    let n = |name| number(summary, name);
    adds_up(
        "acquired and dropped",
        n("acquired")?,
        n("inline")? + n("drained")?,
    )?;
    adds_up("deferred and in NMI", n("deferred")?, n("drops_in_nmi")?)?;
    adds_up(
        "inline, by whom",
        n("inline")?,
        n("drops_by_teardown")? + n("drops_by_looking")?,
    )?;
    let commands = summary["commands"].as_array().ok_or("no commands")?;
    let samples = commands.iter().map(|command| number(command, "samples"));
    adds_up(
        "samples and those of commands",
        n("samples")?,
        samples.sum::<Result<u64>>()? + n("without_command")?,
    )?;
    adds_up("commands", n("commands_seen")?, commands.len() as u64)
}

/// The tasks that are held for a command, and their states.
fn tasks_of(progress: &Value, command: &str) -> Vec<(u64, String)> {
    let commands = progress["progress"]["commands"].as_array();
    let command = commands
        .into_iter()
        .flatten()
        .find(|one| one["command"] == command);
    let tasks = command.and_then(|command| command["tasks"].as_array());
    tasks
        .into_iter()
        .flatten()
        .filter_map(|task| Some((task["pid"].as_u64()?, task["state"].as_str()?.to_owned())))
        .collect()
}

/// A handle tells of a task also when it is no more.
fn fate_of_a_task(machine: &Machine) -> Result {
    // A command that no other has the name of.
    let script = machine.folder.join("known");
    fs::write(&script, "#!/bin/sh\nwhile :; do : </dev/null; done\n")?;
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let known = Running::start(Program::new(&script, ""))?;
    let pid = u64::from(known.process.0.id());

    let mut profiler = Running::start(machine.profiler("--json --top 5000"))?;
    let state_is = |profiler: &mut Running, wanted: fn(&str) -> bool| {
        wait_for(|| {
            let progress = serde_json::from_str(&profiler.line()?)?;
            let tasks = tasks_of(&progress, "known");
            let found = tasks
                .iter()
                .any(|(one, state)| *one == pid && wanted(state));
            Ok(found.then_some(()))
        })
    };
    state_is(&mut profiler, |state| ["R", "S", "D"].contains(&state))
        .map_err(|err| format!("not seen alive: {err}"))?;
    drop(known);
    state_is(&mut profiler, |state| state == "exited")
        .map_err(|err| format!("not seen exited: {err}"))?;
    ensure!(
        !PathBuf::from(format!("/proc/{pid}")).exists(),
        "{pid} is still there"
    );
    profiler.process.signal(Signal::INT)?;
    ended_with(0, &profiler.end()?)?;
    nothing_is_held()
}

fn two_at_a_time(machine: &Machine) -> Result {
    let mut profiler = Running::start(machine.profiler("--workload"))?;
    wait_for(|| {
        let line = profiler.line()?;
        Ok((line.contains(" handles live") && !line.contains(" 0 handles live")).then_some(()))
    })?;
    complains(
        machine.profiler(""),
        "other BPF programs hold",
        "Stop those programs",
    )?;
    profiler.process.signal(Signal::INT)?;
    let said = profiler.end()?;
    ended_with(0, &said)?;
    let last = said.stdout.lines().last().unwrap_or("");
    ensure!(
        last.starts_with("profiler: kernel=") && last.ends_with(" lost=0"),
        "{said}"
    );
    ensure!(said.stdout.contains("in NMI, by the program"), "{said}");
    nothing_is_held()
}

fn broken_pipe(machine: &Machine) -> Result {
    let mut profiler = Running::start(machine.profiler(""))?;
    profiler.line()?;
    profiler.close_pipe();
    let said = profiler.end()?;
    ended_with(0, &said)?;
    ensure!(said.stderr.is_empty(), "{said}");
    nothing_is_held()
}

fn view(machine: &Machine) -> Result {
    let mut view = OnTerminal::start(machine.profiler("--workload"), 24, 80)?;
    let shown = view.shows(|lines| lines.iter().any(|line| line.contains(" exited")))?;
    ensure!(shown[0].contains("q ends it"), "{shown:#?}");
    ensure!(
        shown.iter().any(|line| line.contains("samples")),
        "{shown:#?}"
    );
    ensure!(
        shown.iter().any(|line| line.starts_with("  command ")),
        "{shown:#?}"
    );
    if !machine.has_pmu {
        ensure!(shown[2].contains("no PMU cycles"), "{shown:#?}");
    }
    ensure!(view.has_taken_the_terminal(), "the terminal is as it was");
    view.types(b"q")?;
    view.ends_with(0, " lost=0")?;
    nothing_is_held()
}

fn view_interrupted(machine: &Machine) -> Result {
    let mut view = OnTerminal::start(machine.profiler("--workload"), 24, 80)?;
    view.shows(|lines| lines.iter().any(|line| line.contains("tasks held")))?;
    view.resize(10, 40)?;
    // All of it is there, some clipped.
    view.shows(|lines| {
        lines[0].contains("q ends it") && lines[1].ends_with('…') && lines[9].starts_with("  ")
    })?;
    view.types(b"\x03")?;
    view.ends_with(0, " lost=0")?;

    let mut view = OnTerminal::start(machine.profiler(""), 24, 80)?;
    view.shows(|lines| lines.iter().any(|line| line.contains("tasks held")))?;
    view.process.signal(Signal::TERM)?;
    view.ends_with(0, " lost=0")?;
    nothing_is_held()
}

fn view_error(machine: &Machine) -> Result {
    let mut view = OnTerminal::start(machine.profiler(""), 24, 80)?;
    view.shows(|lines| lines.iter().any(|line| line.contains("tasks held")))?;
    {
        let _unmounted = Unmounted::now()?;
        view.ends_with(1, "mount -t debugfs debugfs /sys/kernel/debug")?;
    }
    nothing_is_held()
}

/// Where something was lost the kernel warns, which fails the run.
fn unloaded(_machine: &Machine) -> Result {
    // Whatever a map has pinned goes with its memory.
    wait_for(|| {
        let said = Program::new("rmmod".as_ref(), "kptr_defer").output()?;
        Ok(said.status.success().then_some(()))
    })
}
