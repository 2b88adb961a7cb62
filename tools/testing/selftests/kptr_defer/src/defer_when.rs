// SPDX-License-Identifier: GPL-2.0

//! Where drops are deferred, and where they are not, for each value of `defer_when=`.

use crate::{
    bpf::Bpf,
    check,
    ktap::{
        note,
        Outcome,
        Test, //
    },
    module::{
        debugfs,
        debugfs_number,
        KptrDefer,
        Loaded,
        USER, //
    },
    nmi::send_ipis,
};
use std::fs;

/// Where kptr_defer_test_nmi.ko calls a function that programs attach to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    Process,
    IrqsOff,
    HardIrq,
    Nmi,
}

impl Context {
    pub const ALL: [Context; 4] = [
        Context::Process,
        Context::IrqsOff,
        Context::HardIrq,
        Context::Nmi,
    ];

    /// As it stands in the names of the tests.
    pub fn name(self) -> &'static str {
        match self {
            Context::Process => "process context",
            Context::IrqsOff => "interrupts off",
            Context::HardIrq => "hard irq",
            Context::Nmi => "NMI IPI",
        }
    }

    /// The program `<name>_on_point` or `<name>_on_nmi_point`.
    pub fn program(self, name: &str) -> String {
        match self {
            Context::Nmi => format!("{name}_on_nmi_point"),
            _ => format!("{name}_on_point"),
        }
    }

    /// Lets the program run there, in NMI on each CPU.
    pub fn run(self, bpf: &Bpf, name: &str, rounds: u32) -> Outcome {
        let file = match self {
            Context::Process => "process",
            Context::IrqsOff => "irqsoff",
            Context::HardIrq => "hardirq",
            Context::Nmi => {
                send_ipis(1)?;
                "send"
            }
        };
        let hook = bpf.program(&self.program(name))?.attach()?;
        fs::write(
            debugfs("kptr_defer_test_nmi").join(file),
            rounds.to_string(),
        )?;
        drop(hook);
        Ok(())
    }
}

const ROUNDS: u32 = 50;

pub fn tests() -> Vec<Test> {
    use Context::*;

    let deferred_in: [(&str, &[Context]); 4] = [
        ("", &[Nmi]),
        ("nmi", &[Nmi]),
        ("irqsoff", &[IrqsOff, HardIrq, Nmi]),
        ("always", &[Process, IrqsOff, HardIrq, Nmi]),
    ];
    let mut tests = Vec::new();
    for (when, contexts) in deferred_in {
        for context in Context::ALL {
            let deferred = contexts.contains(&context);
            let name = format!(
                "defer_when: {} {}, {}",
                if when.is_empty() { "by default" } else { when },
                if deferred { "defers" } else { "does not defer" },
                context.name()
            );
            tests.push(Test::new(name, move || given_back(when, context, deferred)));
        }
    }
    tests
}

fn given_back(when: &str, context: Context, deferred: bool) -> Outcome {
    let params = match when {
        "" => String::new(),
        _ => format!("defer_when={when}"),
    };
    let module = KptrDefer::load(&params)?;
    let user = Loaded::new(USER, "")?;
    let bpf = Bpf::load("defer_when", &[context.program("give_back")])?;
    context.run(&bpf, "give_back", ROUNDS)?;

    let counted = bpf.counted()?;
    note(format!(
        "nmi={} not_nmi={} released={}",
        counted.nmi, counted.not_nmi, counted.released
    ));
    check!(counted.released >= ROUNDS.into());
    check!((counted.nmi > 0) == (context == Context::Nmi));
    check!((counted.not_nmi > 0) == (context != Context::Nmi));
    let (expected_deferred, expected_inline) = if deferred {
        (counted.released, 0)
    } else {
        (0, counted.released)
    };
    let stats = module.settled()?;
    check!(stats.get("deferred")? == expected_deferred);
    check!(stats.get("inline")? == expected_inline);
    // What kptr_defer_drop() returned.
    check!(debugfs_number("kptr_defer_test_user/deferred")? == expected_deferred);
    check!(debugfs_number("kptr_defer_test_user/dropped")? == counted.released);
    drop(bpf);
    user.unload()?;
    module.unload()
}
