// SPDX-License-Identifier: GPL-2.0

//! A model test of the borrowed node: the file `defer/borrowed.rs` itself, with loom's atomics and
//! memory below it, in all orders in which things can happen.
//!
//! ```text
//! kptr_defer_model --list            kind and name of each check
//! kptr_defer_model <name>            makes one
//! ```
//!
//! A *scenario* has to hold, and to reach all that it is there for. A *control* is a scenario with
//! something wrong in it: it has to fail, and for the reason that it is there for.
//!
//! loom takes every order of steps into account, and what a load may find then under the C11 memory
//! model, except for what is stored later only. It knows nothing of NMIs, which come on the same CPU:
//! see `nmi.rs`.

#[path = "../../../defer/borrowed.rs"]
mod borrowed;

mod bindings;
mod controls;
mod count;
mod nmi;
mod object;
mod scenarios;

use controls::{
    DrainLooksLater,
    GivesUpTheLast,
    LastIsUnordered,
    NotAtomic,
    PutIsUnordered,
    QueuesAny, //
};
use object::Kernel;
use std::{
    collections::BTreeSet,
    env, mem, panic,
    process::{
        self,
        ExitCode, //
    },
    sync::{
        Arc,
        Mutex, //
    },
};

struct Check {
    name: &'static str,
    /// Tells how often the object has been queued.
    model: fn() -> u32,
    has_to: Outcome,
}

#[derive(Clone, Copy)]
enum Outcome {
    /// It holds, and all these are how often the object is queued.
    Hold { queued: &'static [u32] },
    /// The same, but not more than so many preemptions are tried.
    HoldWithin {
        preemptions: usize,
        queued: &'static [u32],
    },
    /// It fails, in these words.
    FailWith(&'static [&'static str]),
}
use Outcome::{
    FailWith,
    Hold,
    HoldWithin, //
};

const UNORDERED: &str = "Causality violation: Concurrent";
const IDLE_MEMORY: &str = "created: src/bindings.rs";
const IS_ALIVE: &str = "created: src/object.rs";

const CHECKS: &[Check] = &[
    Check {
        name: "two holders drop",
        model: scenarios::two_drop::<Kernel>,
        has_to: Hold { queued: &[1] },
    },
    Check {
        name: "three holders drop",
        model: scenarios::three_drop::<Kernel>,
        has_to: Hold { queued: &[1] },
    },
    Check {
        name: "the only holder drops, another comes and goes",
        model: scenarios::one_drops_one_comes_and_goes::<Kernel>,
        has_to: Hold { queued: &[1, 2] },
    },
    Check {
        name: "another comes and goes twice while the object is queued",
        model: scenarios::one_comes_and_goes_twice_while_queued::<Kernel>,
        has_to: Hold { queued: &[1, 2, 3] },
    },
    Check {
        name: "two others come and go while the object is queued",
        model: scenarios::two_come_and_go_while_queued::<Kernel>,
        has_to: HoldWithin {
            preemptions: 6,
            queued: &[1, 2, 3],
        },
    },
    Check {
        name: "one holder drops outside NMI",
        model: scenarios::one_drops_outside_nmi::<Kernel>,
        has_to: Hold { queued: &[0, 1] },
    },
    Check {
        name: "one holder drops outside NMI, another comes and goes",
        model: scenarios::one_drops_outside_nmi_one_comes_and_goes::<Kernel>,
        has_to: HoldWithin {
            preemptions: 4,
            queued: &[0, 1, 2],
        },
    },
    Check {
        name: "two objects are queued",
        model: scenarios::two_objects::<Kernel>,
        has_to: Hold { queued: &[2] },
    },
    Check {
        name: "an NMI comes anywhere in a drop",
        model: scenarios::nmi_in_a_drop::<Kernel>,
        has_to: Hold { queued: &[1, 2] },
    },
    Check {
        name: "an NMI comes anywhere in the drain",
        model: scenarios::nmi_in_the_drain::<Kernel>,
        has_to: Hold { queued: &[1, 2] },
    },
    Check {
        name: "the object has used its idle memory before, under a reference",
        model: scenarios::idle_memory_used_before::<Kernel>,
        has_to: Hold { queued: &[0, 1] },
    },
    Check {
        name: "the object uses its idle memory without a reference",
        model: scenarios::idle_memory_used_without_reference::<Kernel>,
        has_to: FailWith(&[UNORDERED, IDLE_MEMORY, "@ src/scenarios.rs"]),
    },
    Check {
        name: "whether it is the last is found out in two steps",
        model: scenarios::two_drop::<NotAtomic>,
        has_to: FailWith(&["deaths of the object", "left: 0"]),
    },
    Check {
        name: "the last is given back, then queued",
        model: scenarios::two_drop::<GivesUpTheLast>,
        has_to: FailWith(&["a reference is given back that nobody holds"]),
    },
    Check {
        name: "any reference is queued",
        model: scenarios::two_drop::<QueuesAny>,
        has_to: FailWith(&["the node is on the queue already"]),
    },
    Check {
        name: "the drain looks at the node when it has given back the reference",
        model: scenarios::one_comes_and_goes_twice_while_queued::<DrainLooksLater>,
        has_to: FailWith(&[UNORDERED, IDLE_MEMORY, "@ src/controls.rs"]),
    },
    Check {
        name: "to give back is no release",
        model: scenarios::two_drop::<PutIsUnordered>,
        has_to: FailWith(&[UNORDERED, IS_ALIVE]),
    },
    Check {
        name: "to find out that it is the last is no acquire",
        model: scenarios::one_comes_and_goes_twice_while_queued::<LastIsUnordered>,
        has_to: FailWith(&[UNORDERED, IDLE_MEMORY]),
    },
];

#[derive(Default)]
struct Explored {
    executions: u64,
    queued: BTreeSet<u32>,
}

fn explore(check: &Check) -> Explored {
    let mut loom = loom::model::Builder::new();
    match check.has_to {
        Hold { .. } => {}
        HoldWithin { preemptions, .. } => loom.preemption_bound = Some(preemptions),
        FailWith(_) => loom.location = true,
    }
    let explored = Arc::new(Mutex::new(Explored::default()));
    let model = check.model;
    while {
        let explored = explored.clone();
        loom.check(move || {
            bindings::queue_init();
            let queued = model();
            let mut explored = explored.lock().unwrap();
            explored.executions += 1;
            explored.queued.insert(queued);
        });
        nmi::is_one_place_later()
    } {}
    let mut explored = explored.lock().unwrap();
    mem::take(&mut explored)
}

/// Ends the program with the verdict when the model fails: it cannot be unwound through the queue.
fn expect_failure(words: &'static [&'static str]) {
    panic::set_hook(Box::new(move |info| {
        let said = info.to_string();
        let (_where, said) = said.split_once('\n').unwrap_or_default();
        println!("{}", said.trim());
        let is_expected = words.iter().all(|words| said.contains(words));
        process::exit(if is_expected { 0 } else { 1 });
    }));
}

fn holds(check: &Check, expected: &[u32], bound: &str) -> ExitCode {
    let Explored { executions, queued } = explore(check);
    println!("{executions} executions, {bound}; the object is queued {queued:?} times");
    if queued.iter().eq(expected) {
        ExitCode::SUCCESS
    } else {
        println!("expected: {expected:?} times");
        ExitCode::FAILURE
    }
}

fn run(check: &Check) -> ExitCode {
    match check.has_to {
        Hold { queued } => holds(check, queued, "all there are"),
        HoldWithin {
            preemptions,
            queued,
        } => holds(
            check,
            queued,
            &format!("all with at most {preemptions} preemptions"),
        ),
        FailWith(words) => {
            expect_failure(words);
            let Explored { executions, .. } = explore(check);
            println!("{executions} executions, and nothing was found");
            ExitCode::FAILURE
        }
    }
}

fn main() -> ExitCode {
    let argument = env::args().nth(1);
    if argument.as_deref() == Some("--list") {
        for check in CHECKS {
            let kind = match check.has_to {
                Hold { .. } | HoldWithin { .. } => "scenario",
                FailWith(_) => "control",
            };
            println!("{kind}\t{}", check.name);
        }
        return ExitCode::SUCCESS;
    }
    match CHECKS
        .iter()
        .find(|check| Some(check.name) == argument.as_deref())
    {
        Some(check) => run(check),
        None => {
            eprintln!("usage: kptr_defer_model --list | <name>");
            ExitCode::FAILURE
        }
    }
}
