// SPDX-License-Identifier: GPL-2.0

//! Runs the BPF programs of bench.bpf.c, and reads what they have measured.

use crate::Result;
use libbpf_rs::{
    Link,
    MapCore,
    MapFlags,
    Object,
    ObjectBuilder,
    ProgramInput,
    ProgramMut, //
};
use nmi_source::{
    Attached,
    KernelWrites, //
};
use std::{
    env,
    thread,
    time::Duration, //
};

/// The least of so many runs: interrupts and the like only add.
const RUNS: usize = 20;

/// They take long.
const RUNS_OF_FLOOD: usize = 3;

/// `struct measured` of bench.bpf.c.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Measured {
    rounds: u64,
    runs: u64,
    runs_in_nmi: u64,
    failed: u64,
    first: u64,
    others: u64,
    in_round: u64,
    pub(crate) raises: u64,
    interrupts: u64,
    entered: u64,
    pub(crate) longest: u64,
    queue_per_cpu: u64,
    pub(crate) memory: Memory,
}

/// What a reference takes, in bytes.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Memory {
    /// What the allocator gives for a handle, and what is in it.
    pub(crate) handle: u64,
    pub(crate) handle_content: u64,
    pub(crate) slot: u64,
    /// The link of a list, which a slot cannot do without.
    pub(crate) node: u64,
}

impl Measured {
    const SIZE: usize = size_of::<Self>();

    fn to_bytes(self) -> [u8; Self::SIZE] {
        // SAFETY: Numbers, and no gaps between them.
        unsafe { std::mem::transmute(self) }
    }

    fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        // SAFETY: Any bytes are numbers.
        unsafe { std::mem::transmute(bytes) }
    }
}

/// Where a program runs.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Context {
    /// In the NMI that the kernel's write to a watched byte is.
    Nmi,
    Process,
}

/// What a program took in one run, the clock's own share subtracted; or the least of several.
#[derive(Clone, Copy)]
pub(crate) struct Took {
    /// The first round.
    pub(crate) first: f64,
    /// Each of the following, on average.
    pub(crate) following: f64,
    /// Its longest interrupt for an `irq_work`, if those are watched.
    pub(crate) interrupt: f64,
}

impl Took {
    const INFINITE: Self = Self {
        first: f64::INFINITY,
        following: f64::INFINITY,
        interrupt: f64::INFINITY,
    };

    fn least(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            following: self.following.min(other.following),
            interrupt: self.interrupt.min(other.interrupt),
        }
    }

    fn without(self, clock: Self) -> Self {
        Self {
            first: self.first - clock.first,
            following: self.following - clock.following,
            interrupt: self.interrupt,
        }
    }
}

/// Drops in one NMI.
#[derive(Clone, Copy)]
pub(crate) struct Flood {
    pub(crate) drops: u64,
    /// With a queue on each CPU and a loop over it, in place of kptr_defer.
    pub(crate) queue_per_cpu: bool,
}

impl From<Flood> for Measured {
    fn from(flood: Flood) -> Self {
        Self {
            rounds: flood.drops,
            queue_per_cpu: flood.queue_per_cpu.into(),
            ..Self::default()
        }
    }
}

pub(crate) struct Bench {
    object: Object,
    writes: KernelWrites,
}

impl Bench {
    pub(crate) fn load() -> Result<Self> {
        Ok(Self {
            object: ObjectBuilder::default()
                .open_file(env::current_exe()?.with_file_name("bench.bpf.o"))?
                .load()?,
            writes: KernelWrites::new()?,
        })
    }

    pub(crate) fn program(&self, name: &str) -> Result<ProgramMut<'_>> {
        self.object
            .progs_mut()
            .find(|program| program.name() == name)
            .ok_or_else(|| format!("there is no BPF program {name}").into())
    }

    /// A program that watches what others do, until the result is dropped.
    pub(crate) fn watch(&self, name: &str) -> Result<Link> {
        Ok(self.program(name)?.attach()?)
    }

    /// Runs `program` once with so many rounds.
    pub(crate) fn once(&self, context: Context, program: &str, rounds: u64) -> Result<Measured> {
        self.runner(context, program)?.run(rounds)
    }

    /// What `program` takes, in clocks.
    pub(crate) fn took(&self, context: Context, program: &str, rounds: u64) -> Result<Took> {
        let clock = self.least(context, "clock", rounds)?;
        Ok(self.least(context, program, rounds)?.without(clock))
    }

    fn least(&self, context: Context, program: &str, rounds: u64) -> Result<Took> {
        let runner = self.runner(context, program)?;
        let mut least = Took::INFINITE;
        for _ in 0..RUNS {
            let measured = runner.run(rounds)?;
            least = least.least(Took {
                first: measured.first as f64,
                following: measured.others as f64 / (rounds - 1).max(1) as f64,
                interrupt: measured.longest as f64,
            });
        }
        Ok(least)
    }

    /// Calls a program that is none of those that measure time.
    pub(crate) fn call(&self, program: &str) -> Result<Measured> {
        let output = self.program(program)?.test_run(ProgramInput::default())?;
        match output.return_value {
            0 => self.get(),
            _ => Err(format!("the BPF program {program} failed").into()),
        }
    }

    /// Drops so many at once, waits for them, and tells what the longest interrupt took meanwhile.
    pub(crate) fn flood(&self, flood: Flood) -> Result<f64> {
        let runner = self.runner(Context::Nmi, "flood")?;
        let mut least = f64::INFINITY;
        for _ in 0..RUNS_OF_FLOOD {
            let Flood { drops, .. } = flood;
            let end = self.flooded()? + drops;
            runner.run_with(flood.into())?;
            if self.wait_for_flood()? != end {
                return Err(format!("of {drops} drops some were lost").into());
            }
            least = least.min(self.get()?.longest as f64);
        }
        Ok(least)
    }

    /// What each run of `nmi_flood` does from now on.
    pub(crate) fn set_flood(&self, flood: Flood) -> Result<()> {
        self.set(flood.into())
    }

    /// How many drops of floods have been done.
    pub(crate) fn flooded(&self) -> Result<u64> {
        Ok(self.call("flood_done")?.first)
    }

    /// Returns when nothing changes any more.
    pub(crate) fn wait_for_flood(&self) -> Result<u64> {
        let mut before = self.flooded()?;
        loop {
            thread::sleep(Duration::from_millis(20));
            let done = self.flooded()?;
            if done == before {
                return Ok(done);
            }
            before = done;
        }
    }

    fn runner<'a>(&'a self, context: Context, program: &str) -> Result<Runner<'a>> {
        Ok(match context {
            Context::Process => Runner {
                bench: self,
                program: Some(self.program(&format!("process_{program}"))?),
                _attached: None,
            },
            Context::Nmi => Runner {
                bench: self,
                program: None,
                _attached: Some(
                    self.writes
                        .event()?
                        .attach(&self.program(&format!("nmi_{program}"))?)?,
                ),
            },
        })
    }

    fn globals(&self) -> Result<libbpf_rs::Map<'_>> {
        self.object
            .maps()
            .find(|map| map.name().to_string_lossy().ends_with(".bss"))
            .ok_or_else(|| "the BPF object has no .bss".into())
    }

    fn set(&self, measured: Measured) -> Result<()> {
        let key = 0u32.to_ne_bytes();
        Ok(self
            .globals()?
            .update(&key, &measured.to_bytes(), MapFlags::ANY)?)
    }

    fn get(&self) -> Result<Measured> {
        let bytes = self.globals()?.lookup(&0u32.to_ne_bytes(), MapFlags::ANY)?;
        let bytes = bytes.unwrap_or_default();
        let bytes = bytes.first_chunk().ok_or("the .bss is too small")?;
        Ok(Measured::from_bytes(*bytes))
    }
}

/// A program in the context where it is to run.
struct Runner<'a> {
    bench: &'a Bench,
    /// Nothing in NMI.
    program: Option<ProgramMut<'a>>,
    _attached: Option<Attached>,
}

impl Runner<'_> {
    /// Runs it once, and waits for what it has given back.
    fn run(&self, rounds: u64) -> Result<Measured> {
        self.run_with(Measured {
            rounds,
            ..Measured::default()
        })
    }

    fn run_with(&self, task: Measured) -> Result<Measured> {
        self.bench.set(task)?;
        match &self.program {
            Some(program) => {
                program.test_run(ProgramInput::default())?;
            }
            None => self.bench.writes.hit(1)?,
        }
        thread::sleep(Duration::from_millis(1));
        let measured = self.bench.get()?;
        let in_nmi = u64::from(self.program.is_none());
        if (measured.runs, measured.runs_in_nmi) != (1, in_nmi) {
            return Err(format!(
                "ran {} times, {} of them in NMI, in place of once",
                measured.runs, measured.runs_in_nmi
            )
            .into());
        }
        if measured.failed != 0 {
            return Err(format!("{} references were not to be had", measured.failed).into());
        }
        Ok(measured)
    }
}
