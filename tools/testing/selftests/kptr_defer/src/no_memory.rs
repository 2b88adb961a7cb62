// SPDX-License-Identifier: GPL-2.0

//! No memory for handles, at all: a livepatch of kptr_defer sees to it. Programs get NULL, and what
//! they hold is dropped as ever.

use crate::{
    bpf::{
        Bpf,
        Counted, //
    },
    check,
    ktap::{
        note,
        Outcome,
        Stop,
        Test, //
    },
    module::{
        eventually,
        has_kasan,
        not_built_in,
        KptrDefer,
        Loaded,
        Stats,
        GUARD, //
    },
    nmi::{
        cpus,
        run_on_ipis, //
    },
};
use libbpf_rs::ProgramInput;
use std::{
    fs,
    path::Path, //
};

const NO_MEMORY: &str = "kptr_defer_test_no_memory";

/// In objects/reserve.rs.
const SPARE_BLOCKS: u64 = 512;
pub const KEPT_BLOCKS: u64 = 32;

pub fn tests() -> Vec<Test> {
    vec![Test::new(
        "no_memory: NULL for programs, all is dropped, and there again, NMI IPI",
        no_memory,
    )]
}

struct NoMemory {
    _module: Loaded,
}

impl NoMemory {
    fn from_now_on() -> Outcome<NoMemory> {
        if !Path::new("/sys/kernel/livepatch").exists() {
            return Err(Stop::Skipped("a kernel without livepatches".into()));
        }
        // It gives way to a livepatch for good.
        not_built_in(GUARD)?;
        let no_memory = NoMemory {
            _module: Loaded::new(NO_MEMORY, "")?,
        };
        eventually("the livepatch is effective", || {
            Ok(fs::read_to_string(Self::file("transition"))?.trim() == "0")
        })?;
        Ok(no_memory)
    }

    fn file(name: &str) -> String {
        format!("/sys/kernel/livepatch/{NO_MEMORY}/{name}")
    }

    fn refused() -> Outcome<u64> {
        let refused = fs::read_to_string(format!("/sys/module/{NO_MEMORY}/parameters/refused"))?;
        Ok(refused.trim().parse().unwrap_or_default())
    }
}

impl Drop for NoMemory {
    fn drop(&mut self) {
        // Only then can its module be unloaded.
        let disabled = fs::write(Self::file("enabled"), "0").map_err(Stop::from);
        let gone = || Ok(!Path::new(&Self::file("")).exists());
        if disabled.and(eventually("it is gone", gone)).is_err() {
            note("the livepatch stays");
        }
    }
}

fn no_memory() -> Outcome {
    // What is kept from the tests before it stays.
    not_built_in("kptr_defer")?;
    let module = KptrDefer::load("")?;
    let bpf = Bpf::load("no_memory", &["hold", "acquire", "release"])?;
    bpf.program("hold")?.test_run(ProgramInput::default())?;
    let held = bpf.counted()?;
    check!(held.acquired > 0);
    check!(held.acquire_failed == 0);

    let no_memory = NoMemory::from_now_on()?;
    let acquire = bpf.program("acquire")?;
    run_on_ipis(&acquire)?;
    let spare = bpf.counted()?;
    note(format!(
        "nmi={} acquired_in_nmi={} acquire_failed={} refused={}",
        spare.nmi,
        spare.acquired_in_nmi,
        spare.acquire_failed,
        NoMemory::refused()?
    ));
    // Where two CPUs come to the same slot at once one gives back what it has taken, and that may serve
    // again.
    let live = |counted: &Counted| counted.acquired - counted.released;
    check!(spare.acquired_in_nmi >= SPARE_BLOCKS);
    check!(live(&spare) <= live(&held) + SPARE_BLOCKS);
    check!(spare.acquire_failed > 0);
    check!(NoMemory::refused()? >= SPARE_BLOCKS + spare.acquire_failed);

    run_on_ipis(&acquire)?;
    let none = bpf.counted()?;
    check!(none.nmi > spare.nmi);
    check!(live(&none) <= live(&held) + SPARE_BLOCKS);
    check!(none.acquire_failed > spare.acquire_failed);
    eventually("what was given back is drained", || {
        Ok(Stats::read()?.get("handles_live")? == live(&none))
    })?;

    run_on_ipis(&bpf.program("release")?)?;
    let released = bpf.counted()?;
    drop(bpf);
    note(format!("released_in_nmi={}", released.released_in_nmi));
    check!(released.released_in_nmi > SPARE_BLOCKS / 2);
    let stats = module.settled()?;
    check!(stats.get("deferred")? == released.released_in_nmi);
    check!(stats.get("inline")? + stats.get("deferred")? == released.acquired);
    check!(stats.get("acquire_failed")? == released.acquire_failed);

    // What a CPU has kept of that serves again.
    let bpf = Bpf::load("no_memory", &["acquire"])?;
    run_on_ipis(&bpf.program("acquire")?)?;
    let kept = bpf.counted()?;
    drop(bpf);
    note(format!("acquired_in_nmi={}", kept.acquired_in_nmi));
    check!(live(&kept) <= KEPT_BLOCKS * u64::from(cpus()));
    check!((kept.acquired_in_nmi > 0) != has_kasan()?);
    module.settled()?;
    drop(no_memory);

    let bpf = Bpf::load("no_memory", &["acquire"])?;
    let acquire = bpf.program("acquire")?;
    // On PREEMPT_RT the first one that gets NULL has the spare blocks replaced.
    eventually("there is memory again", || {
        run_on_ipis(&acquire)?;
        Ok(bpf.counted()?.acquired_in_nmi > SPARE_BLOCKS)
    })?;
    let again = bpf.counted()?;
    drop(bpf);
    let stats = module.settled()?;
    let counted = [released, kept, again];
    let sum = |of: fn(&Counted) -> u64| counted.iter().map(of).sum::<u64>();
    check!(stats.get("inline")? + stats.get("deferred")? == sum(|counted| counted.acquired));
    check!(stats.get("acquire_failed")? == sum(|counted| counted.acquire_failed));
    module.unload()
}
