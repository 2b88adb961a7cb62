// SPDX-License-Identifier: GPL-2.0

//! Each source really raises NMIs: a program that is run by nothing else asks the kernel's
//! `in_nmi()`. The other tests use the sources that pass this one.

use crate::{
    bpf::Bpf,
    check,
    ktap::{
        note,
        Outcome,
        Stop,
        Test, //
    },
    nmi::Source,
    workload, //
};

pub fn tests() -> Vec<Test> {
    let test = |source: Source| {
        Test::new(format!("sources: {}", source.name()), move || {
            let nmi = raises_nmis(source)?;
            note(format!("nmi={nmi}"));
            Ok(())
        })
    };
    Source::ALL.iter().copied().map(test).collect()
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
