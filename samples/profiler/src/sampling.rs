// SPDX-License-Identifier: GPL-2.0

//! The BPF programs, what makes them run, and what they have counted.

use crate::{
    beside_program,
    options::{
        Choice,
        Options, //
    },
    problem,
    Result, //
};
use libbpf_rs::{
    set_print,
    Map,
    MapCore,
    MapFlags,
    Object,
    ObjectBuilder,
    PrintLevel,
    ProgramInput,
    ProgramMut, //
};
use nmi_source::{
    cycles_interrupt,
    kernel_symbols,
    Attached,
    Event,
    Scope, //
};
use serde::{
    Serialize,
    Serializer, //
};
use std::{
    cell::Cell,
    collections::HashSet,
    fmt,
    fs,
    sync::Mutex, //
};

const BPF_OBJECT: &str = "profiler.bpf.o";

/// Samples per second of a busy CPU: not in step with what happens a thousand times a second.
const FREQUENCY: u64 = 999;
const MAX_FREQUENCY: &str = "/proc/sys/kernel/perf_event_max_sample_rate";

/// Where a breakpoint tells something about a task: what it asks of the kernel, its memory, its
/// birth and its end. As many as x86 has debug registers.
const FUNCTIONS: [&str; 4] = [
    "do_sys_openat2",
    "handle_mm_fault",
    "kernel_clone",
    "do_exit",
];

/// What the program has counted, on all CPUs.
#[derive(Clone, Serialize)]
pub(crate) struct Counts {
    pub(crate) samples: u64,
    /// Of those, where the table had no room for another command.
    pub(crate) without_command: u64,
    pub(crate) acquired: u64,
    pub(crate) not_acquired: u64,
    #[serde(rename = "drops_in_nmi")]
    pub(crate) drops: u64,
    pub(crate) last_references: u64,
    /// Drops because a handle was being looked at when an NMI had a newer one for its place.
    #[serde(rename = "drops_by_looking")]
    pub(crate) looking: u64,
}

/// How often tasks of one name were sampled, and those of them that are held.
#[derive(Clone, Serialize)]
pub(crate) struct Command {
    #[serde(rename = "command")]
    pub(crate) name: String,
    pub(crate) samples: u64,
    pub(crate) tasks: Vec<Task>,
    #[serde(skip)]
    key: Vec<u8>,
}

/// A task that is held, alive or not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Task {
    pub(crate) pid: u32,
    pub(crate) tgid: u32,
    pub(crate) state: State,
}

/// What it is doing, by two members of `task_struct`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct State {
    state: u32,
    exit_state: u32,
}

impl State {
    /// Of `linux/sched.h`, and what `ps` has for them.
    const LETTERS: [(u32, &str); 7] = [
        (0x402, "I"),
        (0x01, "S"),
        (0x02, "D"),
        (0x1000, "D"),
        (0x04, "T"),
        (0x08, "t"),
        (0x40, "P"),
    ];
    const EXIT_DEAD: u32 = 0x10;
    const EXIT_ZOMBIE: u32 = 0x20;

    fn name(self) -> &'static str {
        if self.exit_state & State::EXIT_ZOMBIE != 0 {
            return "Z";
        }
        if self.exit_state & State::EXIT_DEAD != 0 {
            return "exited";
        }
        State::LETTERS
            .into_iter()
            .find(|(bits, _)| self.state & bits == *bits)
            .map_or("R", |(_, letter)| letter)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The loaded programs and their maps.
pub(crate) struct Profile {
    object: Object,
    looking: Cell<u64>,
}

/// What libbpf has complained about.
static SAID: Mutex<String> = Mutex::new(String::new());

impl Profile {
    pub(crate) fn load() -> Result<Profile> {
        let path = beside_program(BPF_OBJECT)?;
        if !path.exists() {
            return Err(problem(
                format!("{} is missing", path.display()),
                "It is built with the profiler, and has to be in the same folder: \
                 make -C samples/profiler",
            ));
        }
        set_print(Some((PrintLevel::Warn, |_, words| {
            SAID.lock().unwrap().push_str(&words)
        })));
        let object = ObjectBuilder::default()
            .open_file(&path)
            .and_then(|object| object.load())
            .map_err(|err| not_loaded(&err, &SAID.lock().unwrap()))?;
        Ok(Profile {
            object,
            looking: Cell::new(0),
        })
    }

    fn program(&self, name: &str) -> Result<ProgramMut<'_>> {
        self.object
            .progs_mut()
            .find(|program| program.name() == name)
            .ok_or_else(|| format!("the BPF object has no program '{name}'").into())
    }

    fn map(&self, name: &str) -> Result<Map<'_>> {
        self.object
            .maps()
            .find(|map| map.name() == name)
            .ok_or_else(|| format!("the BPF object has no map '{name}'").into())
    }

    /// Lets the program run on these NMIs, until the result is dropped.
    pub(crate) fn sample(&self, source: &Source) -> Result<Vec<Attached>> {
        let program = self.program("sample")?;
        let attached = source
            .events()?
            .into_iter()
            .map(|event| event.attach(&program))
            .collect::<nmi_source::Result<_>>()?;
        Ok(attached)
    }

    pub(crate) fn counts(&self) -> Result<Counts> {
        let map = self.map("counts")?;
        let count = |index: u32| -> Result<u64> {
            let per_cpu = map
                .lookup_percpu(&index.to_ne_bytes(), MapFlags::ANY)?
                .ok_or("a count is missing")?;
            Ok(per_cpu.iter().map(|bytes| leading_u64(bytes)).sum())
        };
        // The order of enum counted in profiler.bpf.c.
        Ok(Counts {
            samples: count(0)?,
            without_command: count(1)?,
            acquired: count(2)?,
            not_acquired: count(3)?,
            drops: count(4)?,
            last_references: count(5)?,
            looking: self.looking.get(),
        })
    }

    /// The `top` commands with the most samples and the tasks held for them, and how many commands
    /// there are in all.
    pub(crate) fn commands(&self, top: usize) -> Result<(Vec<Command>, usize)> {
        let map = self.map("commands")?;
        let mut commands = Vec::new();
        for key in map.keys() {
            if let Some(value) = map.lookup(&key, MapFlags::ANY)? {
                // struct command in profiler.bpf.c; its handles read as zeroes.
                commands.push(Command {
                    name: String::from_utf8_lossy(&key)
                        .trim_end_matches('\0')
                        .to_owned(),
                    samples: leading_u64(&value),
                    tasks: Vec::new(),
                    key,
                });
            }
        }
        let all = commands.len();
        commands.sort_by_key(|command| std::cmp::Reverse(command.samples));
        commands.truncate(top);
        let look = self.program("look")?;
        for command in &mut commands {
            command.tasks = self.look(&look, &command.key)?;
        }
        Ok((commands, all))
    }

    /// What the tasks that are held for a command are doing. To user space the handles in a map are
    /// nothing, so a program has to look.
    fn look(&self, program: &ProgramMut<'_>, command: &[u8]) -> Result<Vec<Task>> {
        const TASKS: usize = 4;

        // struct look in profiler.bpf.c
        let mut look = [0; 16 + 4 + TASKS * 16];
        look[..16].copy_from_slice(command);
        program.test_run(ProgramInput {
            context_in: Some(&mut look),
            ..ProgramInput::default()
        })?;
        let mut words = look[16..]
            .chunks_exact(4)
            .map(|bytes| u32::from_ne_bytes(bytes.try_into().expect("there are four")));
        let mut next = || words.next().unwrap_or(0);
        self.looking.set(self.looking.get() + u64::from(next()));
        let mut tasks = Vec::from_iter((0..TASKS).map(|_| Task {
            pid: next(),
            tgid: next(),
            state: State {
                state: next(),
                exit_state: next(),
            },
        }));
        // One that is seen while another CPU makes room for itself may get a second place.
        let mut pids = HashSet::from([0]);
        tasks.retain(|task| pids.insert(task.pid));
        Ok(tasks)
    }
}

/// Why the programs did not load, with what libbpf said.
fn not_loaded(err: &libbpf_rs::Error, said: &str) -> Box<dyn std::error::Error> {
    if said.contains("(func ksym) 'bpf_kptr_defer") {
        return problem(
            "the module does not have the functions that the profiler was built for",
            "It is of another version: make both from one source tree, and load that module.",
        );
    }
    problem(
        format!("cannot load {BPF_OBJECT}: {err}"),
        match err.kind() {
            libbpf_rs::ErrorKind::PermissionDenied => {
                "BPF programs are not allowed here: in a container it takes CAP_SYS_ADMIN of the host, \
                 and /sys/kernel/security/lockdown must not be at confidentiality."
            }
            _ => said.trim_end(),
        },
    )
}

/// What raises the NMIs.
pub(crate) struct Source {
    kind: Kind,
    cpus: Vec<u32>,
    /// Why it is not the one that would be better.
    pub(crate) note: Option<String>,
}

enum Kind {
    Cycles { frequency: u64 },
    Breakpoints,
}

impl Source {
    /// The one that is asked for, or else the best that there is.
    pub(crate) fn choose(options: &Options) -> Result<Source> {
        let cpus = online_cpus()?;
        let (kind, note) = if options.source == Choice::Breakpoint {
            (Kind::Breakpoints, None)
        } else {
            match cycles_interrupt(cpus[0]) {
                Ok(()) => {
                    let frequency = frequency(options.frequency, max_frequency()?)?;
                    (Kind::Cycles { frequency }, None)
                }
                Err(err)
                    if options.source == Choice::Auto
                        && err.is_skip()
                        && cfg!(target_arch = "x86_64") =>
                {
                    let note = format!("{err}: breakpoints instead");
                    (Kind::Breakpoints, Some(note))
                }
                Err(err) => return Err(no_pmu(&err)),
            }
        };
        Ok(Source { kind, cpus, note })
    }

    fn events(&self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        match self.kind {
            Kind::Cycles { frequency } => {
                for &cpu in &self.cpus {
                    events.push(Event::cycles_at(Scope::Cpu(cpu), frequency)?);
                }
            }
            Kind::Breakpoints => {
                for address in kernel_symbols(FUNCTIONS)? {
                    for &cpu in &self.cpus {
                        let event = Event::execute(Scope::Cpu(cpu), address);
                        events.push(event.map_err(|err| no_breakpoint(&err))?);
                    }
                }
            }
        }
        Ok(events)
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Cycles { .. } => "pmu-cycles",
            Kind::Breakpoints => "hw-breakpoint",
        }
    }

    pub(crate) fn cpus(&self) -> usize {
        self.cpus.len()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "on {} CPUs: ", self.cpus.len())?;
        match self.kind {
            Kind::Cycles { frequency } => write!(f, "PMU cycles, {frequency} times a second"),
            Kind::Breakpoints => write!(f, "hardware breakpoints on {}", FUNCTIONS.join(", ")),
        }
    }
}

fn no_pmu(err: &nmi_source::Error) -> Box<dyn std::error::Error> {
    if !err.is_skip() {
        return err.to_string().into();
    }
    problem(
        err,
        if cfg!(target_arch = "x86_64") {
            "Run it on bare metal, or in a virtual machine under KVM with a vPMU (QEMU: -cpu host,pmu=on); \
             or take --source breakpoint."
        } else {
            "Run it on bare metal, or in a virtual machine under KVM with a vPMU; for NMIs the kernel has \
             to have ARM64_PSEUDO_NMI=y, and to be booted with irqchip.gicv3_pseudo_nmi=1."
        },
    )
}

fn no_breakpoint(err: &nmi_source::Error) -> Box<dyn std::error::Error> {
    match err {
        nmi_source::Error::Refused(_) => problem(
            err,
            "End what has them, a debugger or a tracer, or take --source pmu.",
        ),
        _ => err.to_string().into(),
    }
}

fn max_frequency() -> Result<u64> {
    Ok(fs::read_to_string(MAX_FREQUENCY)?.trim().parse()?)
}

/// The one that is wished for, if there may be so many samples.
fn frequency(wished: Option<u64>, most: u64) -> Result<u64> {
    match wished {
        Some(hertz) if hertz > most => Err(problem(
            format!("--frequency {hertz} is more than kernel.perf_event_max_sample_rate, {most}"),
            "Take less, or raise that with sysctl; the kernel lowers it when NMIs take too long.",
        )),
        Some(hertz) => Ok(hertz),
        None => Ok(FREQUENCY.min(most)),
    }
}

fn online_cpus() -> Result<Vec<u32>> {
    parse_ranges(fs::read_to_string("/sys/devices/system/cpu/online")?.trim())
}

/// The numbers in a list like `0-3,5`.
fn parse_ranges(list: &str) -> Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        numbers.extend(first.parse::<u32>()?..=last.parse()?);
    }
    Ok(numbers)
}

/// The number that the value of a map begins with.
fn leading_u64(value: &[u8]) -> u64 {
    let first = value.first_chunk().expect("a map value has its size");
    u64::from_ne_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        assert_eq!(parse_ranges("0").unwrap(), [0]);
        assert_eq!(parse_ranges("0-2,5,7-8").unwrap(), [0, 1, 2, 5, 7, 8]);
        assert!(parse_ranges("").is_err());
    }

    #[test]
    fn frequencies() {
        assert_eq!(frequency(None, 100_000).unwrap(), FREQUENCY);
        assert_eq!(frequency(None, 500).unwrap(), 500);
        assert_eq!(frequency(Some(4_000), 100_000).unwrap(), 4_000);
        let said = frequency(Some(4_001), 4_000).unwrap_err().to_string();
        assert!(said.contains("max_sample_rate, 4000"), "{said}");
    }

    #[test]
    fn states() {
        let name = |state, exit_state| State { state, exit_state }.name();
        assert_eq!(name(0, 0), "R");
        assert_eq!(name(0x2001, 0), "S");
        assert_eq!(name(0x102, 0), "D");
        assert_eq!(name(0x402, 0), "I");
        assert_eq!(name(0x80, 0x20), "Z");
        assert_eq!(name(0x80, 0x30), "Z");
        assert_eq!(name(0x80, 0x10), "exited");
    }
}
