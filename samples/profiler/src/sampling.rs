// SPDX-License-Identifier: GPL-2.0

//! The BPF program, what makes it run, and what it has counted.

use crate::{
    beside_program,
    Result, //
};
use libbpf_rs::{
    Map,
    MapCore,
    MapFlags,
    Object,
    ObjectBuilder,
    ProgramMut, //
};
use nmi_source::{
    cycles_interrupt,
    kernel_symbols,
    Attached,
    Event,
    Scope, //
};
use std::{
    fmt,
    fs, //
};

const BPF_OBJECT: &str = "profiler.bpf.o";

/// About 3000 samples a second of a busy CPU.
const CYCLES: u64 = 1_000_000;

/// Where a breakpoint tells something about a task: what it asks of the kernel, its memory, its
/// birth and its end. As many as x86 has debug registers.
const FUNCTIONS: [&str; 4] = [
    "do_sys_openat2",
    "handle_mm_fault",
    "kernel_clone",
    "do_exit",
];

/// What the program has counted, on all CPUs.
pub(crate) struct Counts {
    pub(crate) samples: u64,
    pub(crate) acquired: u64,
    pub(crate) not_acquired: u64,
    pub(crate) drops: u64,
    pub(crate) last_references: u64,
}

/// How often tasks of one name were sampled.
pub(crate) struct Command {
    pub(crate) name: String,
    pub(crate) samples: u64,
}

/// The loaded program and its maps.
pub(crate) struct Profile(Object);

impl Profile {
    pub(crate) fn load() -> Result<Profile> {
        let path = beside_program(BPF_OBJECT)?;
        if !path.exists() {
            return Err(format!("{} is missing: run make", path.display()).into());
        }
        let object = ObjectBuilder::default()
            .open_file(&path)
            .and_then(|object| object.load())
            .map_err(|err| format!("cannot load {}: {err:#}", path.display()))?;
        Ok(Profile(object))
    }

    /// Lets the program run on NMIs of the best source there is, on all CPUs.
    pub(crate) fn attach(&self) -> Result<Source> {
        let program = self
            .0
            .progs_mut()
            .find(|program| program.name() == "sample")
            .ok_or("the BPF object has no program 'sample'")?;
        let cpus = online_cpus()?;
        match cycles_interrupt(cpus[0]) {
            Ok(()) => Source::cycles(&program, &cpus),
            Err(no_cycles) if no_cycles.is_skip() => {
                println!("{no_cycles}");
                Source::breakpoints(&program, &cpus)
                    .map_err(|err| format!("no NMI source: {err}").into())
            }
            Err(err) => Err(err.into()),
        }
    }

    fn map(&self, name: &str) -> Result<Map<'_>> {
        self.0
            .maps()
            .find(|map| map.name() == name)
            .ok_or_else(|| format!("the BPF object has no map '{name}'").into())
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
            acquired: count(1)?,
            not_acquired: count(2)?,
            drops: count(3)?,
            last_references: count(4)?,
        })
    }

    /// All commands seen, those with the most samples first.
    pub(crate) fn commands(&self) -> Result<Vec<Command>> {
        let map = self.map("commands")?;
        let mut commands = Vec::new();
        for name in map.keys() {
            if let Some(value) = map.lookup(&name, MapFlags::ANY)? {
                // struct command in profiler.bpf.c; its handles read as zeroes.
                commands.push(Command {
                    name: String::from_utf8_lossy(&name)
                        .trim_end_matches('\0')
                        .to_owned(),
                    samples: leading_u64(&value),
                });
            }
        }
        commands.sort_by_key(|command| std::cmp::Reverse(command.samples));
        Ok(commands)
    }
}

/// What raises the NMIs, until it is dropped.
pub(crate) struct Source {
    name: &'static str,
    what: String,
    cpus: usize,
    _attached: Vec<Attached>,
}

impl Source {
    fn cycles(program: &ProgramMut<'_>, cpus: &[u32]) -> Result<Source> {
        let attached = cpus
            .iter()
            .map(|&cpu| Event::cycles(Scope::Cpu(cpu), CYCLES)?.attach(program))
            .collect::<nmi_source::Result<_>>()?;
        Ok(Source {
            name: "pmu-cycles",
            what: format!("every {CYCLES} CPU cycles"),
            cpus: cpus.len(),
            _attached: attached,
        })
    }

    fn breakpoints(program: &ProgramMut<'_>, cpus: &[u32]) -> Result<Source> {
        let mut attached = Vec::new();
        for address in kernel_symbols(FUNCTIONS)? {
            for &cpu in cpus {
                attached.push(Event::execute(Scope::Cpu(cpu), address)?.attach(program)?);
            }
        }
        Ok(Source {
            name: "hw-breakpoint",
            what: format!("hardware breakpoints on {}", FUNCTIONS.join(", ")),
            cpus: cpus.len(),
            _attached: attached,
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "on {} CPUs: {}", self.cpus, self.what)
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
    use super::parse_ranges;

    #[test]
    fn cpu_lists() {
        assert_eq!(parse_ranges("0").unwrap(), [0]);
        assert_eq!(parse_ranges("0-2,5,7-8").unwrap(), [0, 1, 2, 5, 7, 8]);
        assert!(parse_ranges("").is_err());
    }
}
