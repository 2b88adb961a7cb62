// SPDX-License-Identifier: GPL-2.0

//! A check: a model, and what has to come of it.
//!
//! ```text
//! <program> --list            kind and name of each check
//! <program> <name>            makes one
//! ```
//!
//! A *scenario* has to hold, and to reach all that it is there for. A *control* is a scenario with
//! something wrong in it: it has to fail, and for the reason that it is there for.
//!
//! loom takes every order of steps into account, and what a load may find then under the C11 memory
//! model, except for what is stored later only. It knows nothing of NMIs, which come on the same CPU:
//! see `nmi.rs`.

use crate::nmi;
use std::{
    collections::BTreeSet,
    env,
    fmt::Debug,
    mem, panic,
    process::{
        self,
        ExitCode, //
    },
    sync::{
        Arc,
        Mutex, //
    },
};

pub(crate) struct Check<S: 'static> {
    pub(crate) name: &'static str,
    /// Tells what it has come to.
    pub(crate) model: fn() -> S,
    /// Not more of them are tried.
    pub(crate) preemptions: Option<usize>,
    pub(crate) has_to: Outcome<S>,
}

pub(crate) enum Outcome<S: 'static> {
    /// It holds, and comes to all of these.
    Hold(&'static [S]),
    /// It fails, in these words.
    FailWith(&'static [&'static str]),
}
use Outcome::{
    FailWith,
    Hold, //
};

/// loom's, for accesses that nothing orders.
pub(crate) const UNORDERED: &str = "Causality violation: Concurrent";

impl<S: Debug + Ord + Send> Check<S> {
    fn kind(&self) -> &'static str {
        match self.has_to {
            Hold(_) => "scenario",
            FailWith(_) => "control",
        }
    }

    fn explore(&self) -> Explored<S> {
        let mut loom = loom::model::Builder::new();
        loom.preemption_bound = self.preemptions;
        loom.location = matches!(self.has_to, FailWith(_));
        let explored = Arc::new(Mutex::new(Explored {
            executions: 0,
            came_to: BTreeSet::new(),
        }));
        let model = self.model;
        while {
            let explored = explored.clone();
            loom.check(move || {
                let came_to = model();
                let mut explored = explored.lock().unwrap();
                explored.executions += 1;
                explored.came_to.insert(came_to);
            });
            nmi::is_one_place_later()
        } {}
        let mut explored = explored.lock().unwrap();
        Explored {
            executions: explored.executions,
            came_to: mem::take(&mut explored.came_to),
        }
    }

    fn run(&self) -> ExitCode {
        match self.has_to {
            Hold(expected) => {
                let Explored {
                    executions,
                    came_to,
                } = self.explore();
                match self.preemptions {
                    Some(n) => print!("{executions} executions, all with at most {n} preemptions"),
                    None => print!("{executions} executions, all there are"),
                }
                println!("; they come to {came_to:?}");
                if came_to.iter().eq(expected) {
                    ExitCode::SUCCESS
                } else {
                    println!("expected: {expected:?}");
                    ExitCode::FAILURE
                }
            }
            FailWith(words) => {
                expect_failure(words);
                let Explored { executions, .. } = self.explore();
                println!("{executions} executions, and nothing was found");
                ExitCode::FAILURE
            }
        }
    }
}

struct Explored<S> {
    executions: u64,
    came_to: BTreeSet<S>,
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

/// What the program is called for.
pub(crate) fn main<S: Debug + Ord + Send>(checks: &[Check<S>]) -> ExitCode {
    let argument = env::args().nth(1);
    if argument.as_deref() == Some("--list") {
        for check in checks {
            println!("{}\t{}", check.kind(), check.name);
        }
        return ExitCode::SUCCESS;
    }
    match checks
        .iter()
        .find(|check| Some(check.name) == argument.as_deref())
    {
        Some(check) => check.run(),
        None => {
            eprintln!("usage: --list | <name>");
            ExitCode::FAILURE
        }
    }
}
