// SPDX-License-Identifier: GPL-2.0

//! A model test of the queue: the files of `defer/` and `abstractions/` themselves, with loom's atomics
//! below what they call of the kernel, in all orders in which things can happen. What scenarios come to is
//! how often the `irq_work` and a work item have drained.

extern crate pinned_init as pin_init;

mod abstractions;
mod bindings;
#[path = "../check.rs"]
mod check;
mod cpu;
mod defer;
#[path = "../nmi.rs"]
mod nmi;
mod object;
mod scenarios;

use bindings::Weakened;
use check::{
    Check,
    Outcome::{
        FailWith,
        Hold, //
    },
    UNORDERED,
};
use kernel::sync::atomic;
use scenarios::{
    with,
    Drained, //
};
use std::process::ExitCode;

const LOST: &str = "deadlock";

const fn drained(by_irq_work: u64, by_work_item: u64) -> Drained {
    Drained {
        by_irq_work,
        by_work_item,
    }
}

macro_rules! weak {
    ($model:ident, $($what:ident),*) => {
        || with(
            Weakened { $($what: true,)* ..Weakened::default() },
            atomic::Weakened::default(),
            scenarios::$model,
        )
    };
}

macro_rules! weak_atomic {
    ($model:ident, $($what:ident),*) => {
        || with(
            Weakened::default(),
            atomic::Weakened { $($what: true,)* ..atomic::Weakened::default() },
            scenarios::$model,
        )
    };
}

const CHECKS: &[Check<Drained>] = &[
    Check {
        name: "queue: two CPUs drop",
        model: scenarios::two_drop,
        preemptions: Some(3),
        has_to: Hold(&[drained(3, 2), drained(4, 2), drained(5, 2)]),
    },
    Check {
        name: "queue: two CPUs drop twice",
        model: scenarios::two_drop_twice,
        preemptions: Some(2),
        has_to: Hold(&[drained(4, 2), drained(5, 2), drained(6, 2), drained(7, 2)]),
    },
    Check {
        name: "queue: two drops in one NMI",
        model: scenarios::two_in_one_nmi,
        preemptions: Some(3),
        has_to: Hold(&[drained(3, 2), drained(4, 2), drained(5, 2), drained(6, 2)]),
    },
    Check {
        name: "queue: an NMI comes anywhere in drops and drain",
        model: scenarios::nmi_anywhere,
        preemptions: Some(2),
        has_to: Hold(&[
            drained(3, 2),
            drained(4, 2),
            drained(5, 2),
            drained(6, 2),
            drained(7, 2),
        ]),
    },
    Check {
        name: "queue: more drops than the budget",
        model: scenarios::over_budget,
        preemptions: Some(2),
        has_to: Hold(&[
            drained(2, 3),
            drained(2, 4),
            drained(3, 3),
            drained(3, 4),
            drained(4, 3),
            drained(4, 4),
            drained(5, 3),
        ]),
    },
    Check {
        name: "queue: a barrier",
        model: scenarios::barrier,
        preemptions: Some(2),
        has_to: Hold(&[
            drained(3, 3),
            drained(4, 3),
            drained(5, 2),
            drained(5, 3),
            drained(5, 4),
            drained(6, 3),
        ]),
    },
    Check {
        name: "queue: drops that may sleep",
        model: scenarios::sleepable,
        preemptions: Some(2),
        has_to: Hold(&[drained(2, 2), drained(2, 3), drained(2, 4), drained(2, 5)]),
    },
    Check {
        name: "queue: to add is no release",
        model: weak!(two_drop, add_is_relaxed),
        preemptions: Some(3),
        has_to: FailWith(&[UNORDERED, "created: src/queue/object.rs"]),
    },
    Check {
        name: "queue: to take all is no acquire",
        model: weak!(two_drop, take_is_relaxed),
        preemptions: Some(3),
        has_to: FailWith(&[UNORDERED, "created: src/queue/object.rs"]),
    },
    Check {
        name: "queue: the first is not told that it is",
        model: weak!(two_drop, first_is_not_told),
        preemptions: Some(3),
        has_to: FailWith(&[LOST]),
    },
    Check {
        name: "queue: nobody looks again when the baton is put down",
        model: weak!(two_drop, looks_once),
        preemptions: Some(3),
        has_to: FailWith(&[LOST]),
    },
    Check {
        name: "queue: the irq_work orders nothing",
        model: weak!(two_drop_twice, irq_work_is_relaxed),
        preemptions: Some(3),
        has_to: FailWith(&[LOST]),
    },
    Check {
        name: "queue: an irq_work that runs cannot be queued",
        model: weak!(two_drop, irq_work_is_pending_while_it_runs),
        preemptions: Some(3),
        has_to: FailWith(&[LOST]),
    },
    Check {
        name: "queue: everybody gets the baton",
        model: weak_atomic!(two_drop, cmpxchg_succeeds),
        preemptions: Some(3),
        has_to: FailWith(&["two drain at once"]),
    },
    Check {
        name: "queue: to put down the baton is a release only",
        model: weak_atomic!(two_drop, xchg_is_release),
        preemptions: Some(3),
        has_to: FailWith(&[LOST]),
    },
];

fn main() -> ExitCode {
    check::main(CHECKS)
}
