// SPDX-License-Identifier: GPL-2.0

//! The sample in C: objects whose slot shares its memory with the rcu_head that they need after it,
//! given back in NMI, and by the end of a map.

use crate::{
    bpf::Bpf,
    check,
    ktap::{
        note,
        Outcome,
        Test, //
    },
    module::{
        eventually,
        KptrDefer,
        Loaded, //
    },
    nmi::run_on_ipis,
    workload::rounds,
};
use libbpf_rs::ProgramInput;
use std::fs;

const SAMPLE: &str = "kptr_defer_sample_c";

/// Of each other one a reference stays in a map.
const IN_MAP: u64 = 125;

pub fn tests() -> Vec<Test> {
    vec![Test::new(
        "sample_c: the slot in a union with an rcu_head, NMI IPI",
        all_freed,
    )]
}

fn number(name: &str) -> Outcome<u64> {
    let number = fs::read_to_string(format!("/sys/module/{SAMPLE}/parameters/{name}"))?;
    Ok(number.trim().parse().unwrap_or_default())
}

fn all_freed() -> Outcome {
    let module = KptrDefer::load("")?;
    let sample = Loaded::new(SAMPLE, "")?;
    let bpf = Bpf::load("sample_c", &["fill", "empty"])?;
    let (fill, empty) = (bpf.program("fill")?, bpf.program("empty")?);
    for _ in 0..rounds(20)? {
        fill.test_run(ProgramInput::default())?;
        run_on_ipis(&empty)?;
    }
    let counted = bpf.counted()?;
    note(format!(
        "nmi={} made={} released_in_nmi={} last_in_nmi={}",
        counted.nmi, counted.acquired, counted.released_in_nmi, counted.last_in_nmi
    ));
    check!(counted.nmi > 0);
    check!(counted.not_nmi == 0);
    check!(counted.last_in_nmi > 0);
    check!(number("made")? == counted.acquired);
    eventually("all are freed but those in a map", || {
        Ok(number("freed")? == counted.acquired - IN_MAP)
    })?;
    drop(bpf);
    // With those on their way it is unloaded, and warns if any is not freed then.
    sample.unload()?;
    let stats = module.settled()?;
    check!(stats.get("inline")? + stats.get("deferred")? == counted.acquired);
    check!(stats.get("deferred")? >= counted.last_in_nmi);
    check!(stats.get("inline")? >= IN_MAP);
    module.unload()
}
