// SPDX-License-Identifier: GPL-2.0

//! The NMI sources, all used in the same way: attach a program, then let a task run into it.

use crate::{
    bpf::Bpf,
    ktap::{
        Outcome,
        Stop, //
    },
    module::debugfs,
};
use libbpf_rs::{
    Link,
    ProgramMut, //
};
use nmi_source::{
    cycles_interrupt,
    kernel_symbol,
    Attached,
    Event,
    KernelWrites,
    Scope, //
};
use std::{
    fs,
    hint::spin_loop,
    sync::OnceLock,
    time::{
        Duration,
        Instant, //
    },
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// PMU overflow.
    Cycles,
    /// Debug register on the entry of a system call that nothing else calls. x86 only.
    Breakpoint,
    /// From kptr_defer_test_nmi.ko to all CPUs: an IPI on x86, elsewhere PMU overflow.
    Ipi,
}

const X86: bool = cfg!(target_arch = "x86_64");

/// Programs run for as long as these live.
pub enum Hooks {
    OnEvents { _events: Vec<Attached> },
    OnTracepoint { _link: Link },
}

impl Source {
    pub const ALL: &[Source] = if X86 {
        &[Source::Cycles, Source::Breakpoint, Source::Ipi]
    } else {
        &[Source::Cycles, Source::Ipi]
    };

    /// For programs of type perf_event: it interrupts tasks that run into it.
    pub const PERF_EVENT: Source = if X86 {
        Source::Breakpoint
    } else {
        Source::Cycles
    };

    /// Of [`OneByOne`].
    pub const ONE_BY_ONE: Source = if X86 { Source::Breakpoint } else { Source::Ipi };

    /// As it stands in the names of the tests.
    pub fn name(self) -> &'static str {
        match self {
            Source::Cycles => "PMU cycles",
            Source::Breakpoint => "hardware breakpoint",
            Source::Ipi if X86 => "NMI IPI",
            Source::Ipi => "PMU cycles of a kernel counter",
        }
    }

    /// Whether this machine has it. What really arrives the programs count.
    pub fn opens(self) -> Outcome {
        match self {
            Source::Cycles => Ok(cycles_interrupt(0)?),
            Source::Breakpoint => {
                Event::execute(Scope::Cpu(0), breakpoint()?)?;
                Ok(())
            }
            Source::Ipi => send_ipis(1),
        }
    }

    /// Runs the program on this source on all CPUs: `perf_<name>` or, as a tracing program,
    /// `ipi_<name>`.
    pub fn attach(self, bpf: &Bpf, name: &str) -> Outcome<Hooks> {
        let program = bpf.program(&self.program(name))?;
        if self == Source::Ipi {
            return Ok(Hooks::OnTracepoint {
                _link: program.attach()?,
            });
        }
        let mut events = Vec::new();
        for cpu in 0..cpus() {
            let event = match self {
                Source::Cycles => Event::cycles(Scope::Cpu(cpu), 100_000)?,
                _ => Event::execute(Scope::Cpu(cpu), breakpoint()?)?,
            };
            events.push(event.attach(&program)?);
        }
        Ok(Hooks::OnEvents { _events: events })
    }

    /// How many programs it can run: x86 has four debug registers, and each program needs one.
    pub fn programs_at_once(self) -> usize {
        match self {
            Source::Breakpoint => 4,
            _ => usize::MAX,
        }
    }

    /// The name of the program that [`attach`](Source::attach) attaches.
    pub fn program(self, name: &str) -> String {
        match self {
            Source::Ipi => format!("ipi_{name}"),
            _ => format!("perf_{name}"),
        }
    }

    /// What a task does to be interrupted, about once.
    pub fn run_into(self) {
        match self {
            Source::Cycles => {
                let start = Instant::now();
                while start.elapsed() < Duration::from_millis(1) {
                    spin_loop();
                }
            }
            Source::Breakpoint => {
                // SAFETY: Takes nothing and changes nothing.
                unsafe { libc::syscall(libc::SYS_getppid) };
            }
            Source::Ipi => {
                // A round that did not arrive shows in the programs' counts.
                let _ = send_ipis(1);
            }
        }
    }
}

/// NMIs of this thread, one each time that it asks for one, for the program
/// [`one_by_one(name)`](one_by_one).
pub enum OneByOne {
    Writes {
        writes: KernelWrites,
        _attached: Attached,
    },
    Sent {
        _link: Link,
    },
}

impl OneByOne {
    pub fn attach(bpf: &Bpf, name: &str) -> Outcome<OneByOne> {
        let program = bpf.program(&one_by_one(name))?;
        if Source::ONE_BY_ONE == Source::Ipi {
            return Ok(OneByOne::Sent {
                _link: program.attach()?,
            });
        }
        let writes = KernelWrites::new()?;
        Ok(OneByOne::Writes {
            _attached: writes.event()?.attach(&program)?,
            writes,
        })
    }

    pub fn raise(&self) -> Outcome {
        match self {
            OneByOne::Writes { writes, .. } => Ok(writes.hit(1)?),
            OneByOne::Sent { .. } => send("send_here", 1),
        }
    }
}

pub fn one_by_one(name: &str) -> String {
    Source::ONE_BY_ONE.program(name)
}

pub fn cpus() -> u32 {
    // SAFETY: Takes a number and returns one.
    let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    cpus.try_into().unwrap_or(1)
}

/// That many rounds of NMI IPIs to all CPUs; returns when they have arrived.
pub fn send_ipis(rounds: u32) -> Outcome {
    send("send", rounds)
}

fn send(file: &str, rounds: u32) -> Outcome {
    let file = debugfs("kptr_defer_test_nmi").join(file);
    match fs::write(file, rounds.to_string()) {
        Err(err) if err.raw_os_error() == Some(libc::EOPNOTSUPP) => Err(Stop::Skipped(
            "no NMI IPIs but on x86, and the PMU does not interrupt in NMI here".into(),
        )),
        result => Ok(result?),
    }
}

/// Lets a tracing program run in one round of NMI IPIs; returns when it is done on all CPUs.
pub fn run_on_ipis(program: &ProgramMut<'_>) -> Outcome {
    let hook = program.attach()?;
    send_ipis(1)?;
    drop(hook);
    end_of_ipis()
}

/// Returns when no program is running in an NMI IPI that has been sent before: it is still the same
/// NMI when the program runs, and there is no other one before its end.
pub fn end_of_ipis() -> Outcome {
    send_ipis(1)
}

/// NMI IPIs to one CPU until it has gone offline.
pub fn storm_until_offline(cpu: u32) -> Outcome {
    Ok(fs::write(
        debugfs("kptr_defer_test_nmi/storm"),
        cpu.to_string(),
    )?)
}

fn breakpoint() -> nmi_source::Result<u64> {
    // Reading all symbols takes the kernel a while.
    static FOUND: OnceLock<u64> = OnceLock::new();

    if let Some(address) = FOUND.get() {
        return Ok(*address);
    }
    let address = kernel_symbol("__x64_sys_getppid")?;
    Ok(*FOUND.get_or_init(|| address))
}
