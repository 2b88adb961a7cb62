// SPDX-License-Identifier: GPL-2.0

//! Each source really raises NMIs: a program that is run by nothing else asks the kernel's
//! `in_nmi()`. The other tests use the sources that pass this one.
//!
//! `KPTR_DEFER_SOURCES` names those, with commas between them, that this machine has: they fail
//! instead of being skipped.

use crate::{
    bpf::Bpf,
    check,
    ktap::{
        failed,
        note,
        Outcome,
        Stop,
        Test, //
    },
    nmi::Source,
    workload, //
};
use std::env;

pub fn tests() -> Vec<Test> {
    let test = |source: Source| {
        Test::new(format!("sources: {}", source.name()), move || {
            let nmi = match raises_nmis(source) {
                Err(Stop::Skipped(why)) if is_expected(source) => return failed(why),
                nmi => nmi?,
            };
            note(format!("nmi={nmi}"));
            Ok(())
        })
    };
    Source::ALL.iter().copied().map(test).collect()
}

fn is_expected(source: Source) -> bool {
    let expected = env::var("KPTR_DEFER_SOURCES").unwrap_or_default();
    expected.split(',').any(|name| name == source.name())
}

pub fn that_raise_nmis() -> Vec<Source> {
    let raises_nmis = |source: &Source| raises_nmis(*source).is_ok();
    Source::ALL.iter().copied().filter(raises_nmis).collect()
}

/// How often the program ran.
fn raises_nmis(source: Source) -> Outcome<u64> {
    source.opens()?;
    let bpf = Bpf::load("sources", &[source.program("count")])?;
    let hooks = source.attach(&bpf, "count")?;
    workload::fork(20, || source.run_into())?;
    drop(hooks);

    let counted = bpf.counted()?;
    if counted.nmi == 0 && counted.not_nmi > 0 {
        // arm64 without irqchip.gicv3_pseudo_nmi=1, for one.
        return Err(Stop::Skipped("it interrupts, but not in NMI".into()));
    }
    check!(counted.nmi > 0, "no NMI");
    check!(
        counted.not_nmi == 0,
        "{} runs were in no NMI",
        counted.not_nmi
    );
    Ok(counted.nmi)
}
