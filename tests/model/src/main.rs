// SPDX-License-Identifier: GPL-2.0

//! A model test of the borrowed node: the file `defer/borrowed.rs` itself, with loom's atomics and
//! memory below it, in all orders in which things can happen. What scenarios come to is how often the
//! object has been queued.

#[path = "../../../defer/borrowed.rs"]
mod borrowed;

mod bindings;
mod check;
mod controls;
mod count;
mod nmi;
mod object;
mod scenarios;

use check::{
    Check,
    Outcome::{
        FailWith,
        Hold, //
    },
    UNORDERED,
};
use controls::{
    DrainLooksLater,
    GivesUpTheLast,
    LastIsUnordered,
    NotAtomic,
    PutIsUnordered,
    QueuesAny, //
};
use object::Kernel;
use std::process::ExitCode;

const IDLE_MEMORY: &str = "created: src/bindings.rs";
const IS_ALIVE: &str = "created: src/object.rs";

const CHECKS: &[Check<u32>] = &[
    Check {
        name: "two holders drop",
        model: scenarios::two_drop::<Kernel>,
        preemptions: None,
        has_to: Hold(&[1]),
    },
    Check {
        name: "three holders drop",
        model: scenarios::three_drop::<Kernel>,
        preemptions: None,
        has_to: Hold(&[1]),
    },
    Check {
        name: "the only holder drops, another comes and goes",
        model: scenarios::one_drops_one_comes_and_goes::<Kernel>,
        preemptions: None,
        has_to: Hold(&[1, 2]),
    },
    Check {
        name: "another comes and goes twice while the object is queued",
        model: scenarios::one_comes_and_goes_twice_while_queued::<Kernel>,
        preemptions: None,
        has_to: Hold(&[1, 2, 3]),
    },
    Check {
        name: "two others come and go while the object is queued",
        model: scenarios::two_come_and_go_while_queued::<Kernel>,
        preemptions: Some(6),
        has_to: Hold(&[1, 2, 3]),
    },
    Check {
        name: "one holder drops outside NMI",
        model: scenarios::one_drops_outside_nmi::<Kernel>,
        preemptions: None,
        has_to: Hold(&[0, 1]),
    },
    Check {
        name: "one holder drops outside NMI, another comes and goes",
        model: scenarios::one_drops_outside_nmi_one_comes_and_goes::<Kernel>,
        preemptions: Some(4),
        has_to: Hold(&[0, 1, 2]),
    },
    Check {
        name: "two objects are queued",
        model: scenarios::two_objects::<Kernel>,
        preemptions: None,
        has_to: Hold(&[2]),
    },
    Check {
        name: "an NMI comes anywhere in a drop",
        model: scenarios::nmi_in_a_drop::<Kernel>,
        preemptions: None,
        has_to: Hold(&[1, 2]),
    },
    Check {
        name: "an NMI comes anywhere in the drain",
        model: scenarios::nmi_in_the_drain::<Kernel>,
        preemptions: None,
        has_to: Hold(&[1, 2]),
    },
    Check {
        name: "the object has used its idle memory before, under a reference",
        model: scenarios::idle_memory_used_before::<Kernel>,
        preemptions: None,
        has_to: Hold(&[0, 1]),
    },
    Check {
        name: "the object uses its idle memory without a reference",
        model: scenarios::idle_memory_used_without_reference::<Kernel>,
        preemptions: None,
        has_to: FailWith(&[UNORDERED, IDLE_MEMORY, "@ src/scenarios.rs"]),
    },
    Check {
        name: "whether it is the last is found out in two steps",
        model: scenarios::two_drop::<NotAtomic>,
        preemptions: None,
        has_to: FailWith(&["deaths of the object", "left: 0"]),
    },
    Check {
        name: "the last is given back, then queued",
        model: scenarios::two_drop::<GivesUpTheLast>,
        preemptions: None,
        has_to: FailWith(&["a reference is given back that nobody holds"]),
    },
    Check {
        name: "any reference is queued",
        model: scenarios::two_drop::<QueuesAny>,
        preemptions: None,
        has_to: FailWith(&["the node is on the queue already"]),
    },
    Check {
        name: "the drain looks at the node when it has given back the reference",
        model: scenarios::one_comes_and_goes_twice_while_queued::<DrainLooksLater>,
        preemptions: None,
        has_to: FailWith(&[UNORDERED, IDLE_MEMORY, "@ src/controls.rs"]),
    },
    Check {
        name: "to give back is no release",
        model: scenarios::two_drop::<PutIsUnordered>,
        preemptions: None,
        has_to: FailWith(&[UNORDERED, IS_ALIVE]),
    },
    Check {
        name: "to find out that it is the last is no acquire",
        model: scenarios::one_comes_and_goes_twice_while_queued::<LastIsUnordered>,
        preemptions: None,
        has_to: FailWith(&[UNORDERED, IDLE_MEMORY]),
    },
];

fn main() -> ExitCode {
    check::main(CHECKS)
}
