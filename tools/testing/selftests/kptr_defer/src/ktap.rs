// SPDX-License-Identifier: GPL-2.0

//! Runs tests and reports them in KTAP.

use crate::{
    bpf,
    kmsg::Kmsg,
    nmi::Source, //
};
use std::{
    fmt::Display,
    io,
    process::ExitCode, //
};

const EXIT_SKIP: u8 = 4;

/// Why a test did not pass.
#[derive(Debug)]
pub enum Stop {
    Failed(String),
    Skipped(String),
}

pub type Outcome<T = ()> = Result<T, Stop>;

pub fn failed<T>(why: impl Display) -> Outcome<T> {
    Err(Stop::Failed(why.to_string()))
}

impl From<io::Error> for Stop {
    fn from(err: io::Error) -> Stop {
        Stop::Failed(err.to_string())
    }
}

impl From<libbpf_rs::Error> for Stop {
    fn from(err: libbpf_rs::Error) -> Stop {
        Stop::Failed(format!("{err:#}"))
    }
}

impl From<nmi_source::Error> for Stop {
    fn from(err: nmi_source::Error) -> Stop {
        if err.is_skip() {
            Stop::Skipped(err.to_string())
        } else {
            Stop::Failed(err.to_string())
        }
    }
}

/// Fails the test with the condition, or the given message, unless the condition holds.
#[macro_export]
macro_rules! check {
    ($condition:expr) => {
        $crate::check!($condition, "not so: {}", stringify!($condition))
    };
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return $crate::ktap::failed(format!($($message)+));
        }
    };
}

pub struct Test {
    pub name: String,
    run: Box<dyn FnOnce() -> Outcome>,
}

impl Test {
    /// The name says what raises the NMIs on x86.
    pub fn new(name: impl Into<String>, run: impl FnOnce() -> Outcome + 'static) -> Test {
        let name = name.into();
        Test {
            name: name
                .replace("NMI IPI", Source::Ipi.name())
                .replace("hardware breakpoint", Source::ONE_BY_ONE.name()),
            run: Box::new(run),
        }
    }
}

/// A line for the reader, not for the verdict.
pub fn note(text: impl Display) {
    for line in text.to_string().lines() {
        println!("# {line}");
    }
}

pub fn run(tests: Vec<Test>) -> ExitCode {
    let (mut failures, mut passes) = (0, 0);
    println!("TAP version 13\n1..{}", tests.len());
    for (number, Test { name, run }) in (1..).zip(tests) {
        let log = Kmsg::from_now_on();
        bpf::forget_messages();
        match run().and_then(|()| no_complaints(log)) {
            Ok(()) => {
                passes += 1;
                println!("ok {number} {name}");
            }
            Err(Stop::Skipped(why)) => println!("ok {number} {name} # SKIP {why}"),
            Err(Stop::Failed(why)) => {
                failures += 1;
                note(bpf::messages());
                note(why);
                println!("not ok {number} {name}");
            }
        }
    }
    if failures > 0 {
        ExitCode::FAILURE
    } else if passes == 0 {
        ExitCode::from(EXIT_SKIP)
    } else {
        ExitCode::SUCCESS
    }
}

pub fn skip_all(reason: &str) -> ExitCode {
    println!("TAP version 13\n1..0 # SKIP {reason}");
    ExitCode::from(EXIT_SKIP)
}

/// Whatever a test looks at, it fails if the kernel complained meanwhile.
fn no_complaints(log: io::Result<Kmsg>) -> Outcome {
    no_complaints_in(log?.read()?)
}

pub fn no_complaints_in(log: Vec<String>) -> Outcome {
    const COMPLAINTS: [&str; 7] = [
        "BUG:",
        "WARNING:",
        "INFO: rcu",
        "INFO: task",
        "Oops",
        "refcount_t:",
        "suspicious RCU usage",
    ];

    for line in log {
        check!(
            !COMPLAINTS.iter().any(|word| line.contains(word)),
            "the kernel says: {line}"
        );
    }
    Ok(())
}
