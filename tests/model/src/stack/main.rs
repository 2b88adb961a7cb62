// SPDX-License-Identifier: GPL-2.0

//! A model test of the boxes that each CPU keeps: `abstractions/percpu_stack.rs` itself, with numbers for
//! boxes. Before each access to a CPU's numbers something may come between: an interrupt, which pushes or
//! pops and may be interrupted itself, or the task goes to another CPU. All ways are tried in which that
//! can happen a few times. It is called like the other models (`../check.rs`).

mod abstractions;
mod bindings;
mod world;

use abstractions::{
    nolock::NolockBox,
    percpu_stack::PerCpuStack, //
};
use std::{
    env,
    mem::MaybeUninit,
    panic,
    process::ExitCode, //
};
use world::{
    choose,
    World, //
};

type Stack = PerCpuStack<MaybeUninit<u64>, 2>;

/// Pushes or pops, as it is chosen.
fn use_once(stack: &Stack) {
    let boxed = if choose(2) == 0 {
        let new = NolockBox::<MaybeUninit<u64>>::new_uninit();
        stack.push(new.unwrap_or_else(|| unreachable!("there is memory")))
    } else {
        stack.pop().or_else(|| {
            world::miss();
            None
        })
    };
    // What is popped is used for a while: what comes between must not find it.
    if let Some(boxed) = boxed {
        world::hold(boxed.into_raw());
    }
}

/// One way.
fn way(wrong: world::Wrong) {
    world::begin(wrong);
    let stack = Stack::new().unwrap_or_else(|_| unreachable!("there is memory"));
    for _ in 0..choose(3) {
        use_once(&stack);
    }
    world::set_interruptions(4, use_once, &stack);
    for _ in 0..3 {
        use_once(&stack);
    }
    world::set_interruptions(0, use_once, &stack);
    world::let_go(|pointer| {
        // SAFETY: It was a box's, and is let go of once.
        drop(unsafe { NolockBox::<MaybeUninit<u64>>::from_raw(pointer.cast()) });
    });
    drop(stack);
    world::end();
}

struct Check {
    name: &'static str,
    wrong: world::Wrong,
    /// What it says when it fails, as a control has to.
    fails_with: &'static [&'static str],
}

const CHECKS: &[Check] = &[
    Check {
        name: "kept memory: an interrupt or another CPU at any step",
        wrong: world::Wrong {
            exchange_in_two_steps: false,
            exchange_tells_nothing: false,
        },
        fails_with: &[],
    },
    Check {
        name: "kept memory: an exchange in two steps",
        wrong: world::Wrong {
            exchange_in_two_steps: true,
            exchange_tells_nothing: false,
        },
        fails_with: &[world::TWICE, world::LOST],
    },
    Check {
        name: "kept memory: what was in a cell is forgotten",
        wrong: world::Wrong {
            exchange_in_two_steps: false,
            exchange_tells_nothing: true,
        },
        fails_with: &[world::LOST],
    },
];

/// Tries all ways, until one fails.
fn run(check: &Check) -> Result<World, String> {
    panic::set_hook(Box::new(|_| ()));
    world::first_way();
    loop {
        if let Err(why) = panic::catch_unwind(|| way(check.wrong)) {
            let why = why.downcast_ref::<String>().cloned().or_else(|| {
                let why = why.downcast_ref::<&str>()?;
                Some((*why).to_owned())
            });
            return Err(why.unwrap_or_default());
        }
        if !world::next_way() {
            return Ok(world::summary());
        }
    }
}

fn main() -> ExitCode {
    let Some(name) = env::args().nth(1) else {
        eprintln!("usage: kptr_defer_model_stack --list, or with the name of a check");
        return ExitCode::FAILURE;
    };
    let kind = |check: &Check| match check.fails_with {
        [] => "scenario",
        _ => "control",
    };
    if name == "--list" {
        for check in CHECKS {
            println!("{}\t{}", kind(check), check.name);
        }
        return ExitCode::SUCCESS;
    }
    let Some(check) = CHECKS.iter().find(|check| check.name == name) else {
        eprintln!("there is no check '{name}'");
        return ExitCode::FAILURE;
    };
    let as_it_has_to = match run(check) {
        Ok(world) => {
            println!(
                "{} ways, {} boxes, {} popped, none popped though some were kept: {}",
                world.ways, world.boxes, world.popped, world.missed
            );
            // Otherwise nothing has come between.
            check.fails_with.is_empty() && world.missed > 0 && world.popped > 0
        }
        Err(why) => {
            println!("fails: {why}");
            check.fails_with.iter().any(|words| why.contains(words))
        }
    };
    match as_it_has_to {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
