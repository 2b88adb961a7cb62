// SPDX-License-Identifier: GPL-2.0

//! Acquire and release from each type of program, in NMI wherever that type can run there.

use crate::{
    bpf::Bpf,
    check,
    ktap::{
        note,
        Outcome,
        Test, //
    },
    module::KptrDefer,
    nmi::{
        send_ipis,
        Source, //
    },
};
use libbpf_rs::ProgramInput;

const ROUNDS: u32 = 50;

pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::new(
            format!("contexts: perf_event, {}", Source::PERF_EVENT.name()),
            perf_event,
        ),
        Test::new("contexts: syscall, no NMI", syscall),
    ];
    for kind in ["tp_btf", "raw_tp", "fentry", "kprobe"] {
        let name = format!("contexts: {kind}, NMI IPI");
        tests.push(Test::new(name, move || on_ipi(kind)));
    }
    tests
}

fn perf_event() -> Outcome {
    // Where these are no IPIs, they are from the PMU, too: does it interrupt in NMI?
    Source::Ipi.opens()?;
    let attach = |bpf: &Bpf| Source::PERF_EVENT.attach(bpf, "replace");
    in_nmi("perf_replace", attach, || {
        Source::PERF_EVENT.run_into();
        Ok(())
    })
}

fn on_ipi(kind: &str) -> Outcome {
    let program = format!("from_{kind}");
    let attach = |bpf: &Bpf| Ok(bpf.program(&program)?.attach()?);
    in_nmi(&program, attach, || send_ipis(1))
}

/// In each round a syscall program fills the slot, for `program` to empty in NMI.
fn in_nmi<Hook>(
    program: &str,
    attach: impl Fn(&Bpf) -> Outcome<Hook>,
    raise: impl Fn() -> Outcome,
) -> Outcome {
    let module = KptrDefer::load("")?;
    let bpf = Bpf::load("contexts", &[program, "from_syscall"])?;
    let syscall = bpf.program("from_syscall")?;
    let hook = attach(&bpf)?;
    for _ in 0..ROUNDS {
        syscall.test_run(ProgramInput::default())?;
        raise()?;
    }
    drop(hook);

    let counted = bpf.counted()?;
    drop(bpf);
    note(format!(
        "nmi={} acquired_in_nmi={} released_in_nmi={}",
        counted.nmi, counted.acquired_in_nmi, counted.released_in_nmi
    ));
    check!(counted.nmi > 0);
    check!(counted.not_nmi == 0);
    check!(counted.acquired_in_nmi > 0);
    check!(counted.released_in_nmi > 0);
    let stats = module.settled()?;
    check!(stats.get("deferred")? == counted.released_in_nmi);
    check!(stats.get("inline")? + stats.get("deferred")? == counted.acquired);
    module.unload()
}

fn syscall() -> Outcome {
    let module = KptrDefer::load("")?;
    let bpf = Bpf::load("contexts", &["from_syscall"])?;
    for _ in 0..ROUNDS {
        bpf.program("from_syscall")?
            .test_run(ProgramInput::default())?;
    }

    let counted = bpf.counted()?;
    drop(bpf);
    check!(counted.acquired == u64::from(ROUNDS));
    check!(counted.released == u64::from(ROUNDS - 1));
    let stats = module.settled()?;
    check!(stats.get("deferred")? == 0);
    check!(stats.get("inline")? == u64::from(ROUNDS));
    module.unload()
}
