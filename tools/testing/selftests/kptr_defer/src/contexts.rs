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
    nmi::send_ipis, //
};
use libbpf_rs::{
    ProgramInput,
    ProgramMut, //
};
use nmi_source::KernelWrites;

const ROUNDS: u32 = 50;

pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::new("contexts: perf_event, hardware breakpoint", perf_event),
        Test::new("contexts: syscall, no NMI", syscall),
    ];
    for kind in ["tp_btf", "raw_tp", "fentry", "kprobe"] {
        let name = format!("contexts: {kind}, NMI IPI");
        tests.push(Test::new(name, move || on_ipi(kind)));
    }
    tests
}

fn perf_event() -> Outcome {
    let writes = KernelWrites::new()?;
    let attach = |program: &ProgramMut<'_>| Ok(writes.event()?.attach(program)?);
    in_nmi("from_perf_event", attach, || Ok(writes.hit(1)?))
}

fn on_ipi(kind: &str) -> Outcome {
    // Not x86: no function for the programs to attach to.
    send_ipis(1)?;
    let attach = |program: &ProgramMut<'_>| Ok(program.attach()?);
    in_nmi(&format!("from_{kind}"), attach, || send_ipis(1))
}

/// In each round a syscall program fills the slot, for `program` to empty in NMI.
fn in_nmi<Hook>(
    program: &str,
    attach: impl Fn(&ProgramMut<'_>) -> Outcome<Hook>,
    raise: impl Fn() -> Outcome,
) -> Outcome {
    let module = KptrDefer::load("")?;
    let bpf = Bpf::load("contexts", &[program, "from_syscall"])?;
    let syscall = bpf.program("from_syscall")?;
    let hook = attach(&bpf.program(program)?)?;
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
