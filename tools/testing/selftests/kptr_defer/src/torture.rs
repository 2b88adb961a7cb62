// SPDX-License-Identifier: GPL-2.0

//! Everything at once and at random, for a while: kptr_defer_torture.ko, and beside it handles of all
//! kinds in NMI and elsewhere, maps that are closed with handles in them, and users of the module that
//! come and go.
//!
//! What breaks when one fails: a drop was lost, done twice, out of order or beside another one;
//! kptr_defer_barrier() returned too early; or a handle was not given back.
//!
//! Only with `KPTR_DEFER_TORTURE_SECONDS=<n>`, and so long.

use crate::{
    bpf::Bpf,
    check,
    kmsg::Kmsg,
    ktap::{
        failed,
        note,
        Outcome,
        Test, //
    },
    module::{
        not_built_in,
        KptrDefer,
        Loaded, //
    },
    nmi::send_ipis,
};
use std::{
    env,
    thread::sleep,
    time::{
        Duration,
        Instant, //
    },
};

const MODULE: &str = "kptr_defer_torture";

const SECONDS: &str = "KPTR_DEFER_TORTURE_SECONDS";

pub fn tests() -> Vec<Test> {
    if env::var(SECONDS).is_err() {
        return Vec::new();
    }
    vec![
        Test::new("torture: kptr_defer, NMI IPI", torture),
        Test::new("torture: busted, NMI IPI", busted),
    ]
}

fn duration() -> Outcome<Duration> {
    const LONGEST: u64 = 7 * 24 * 3600;

    let seconds = env::var(SECONDS).unwrap_or_default();
    match seconds.parse() {
        Ok(seconds @ 1..=LONGEST) => Ok(Duration::from_secs(seconds)),
        _ => failed(format!("{SECONDS}={seconds} is not 1 to {LONGEST}")),
    }
}

/// A number in a line of `name=<number>`.
fn number(line: &str, name: &str) -> Outcome<u64> {
    let word = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    match word.and_then(|word| word.parse().ok()) {
        Some(number) => Ok(number),
        None => failed(format!("no {name}= in '{line}'")),
    }
}

/// The last statistics, and how the test ended.
fn last_words(log: &mut Kmsg) -> Outcome<(String, String)> {
    let lines = log.read()?;
    let last = |what: &str| {
        let found = lines.iter().rev().find(|line| line.contains(what)).cloned();
        found.map_or_else(
            || failed(format!("nothing like '{what}' in the kernel log")),
            Ok,
        )
    };
    let numbers = ["-torture: handed=", "-torture: barriers="].map(last);
    let end = last("-torture:--- End of test: ")?;
    let [drops, rest] = numbers;
    Ok((format!("{}\n{}", drops?, rest?), end))
}

/// Programs and their maps, for a while. Returns how many handles they took.
fn handles() -> Outcome<u64> {
    let bpf = Bpf::load("torture", &["in_nmi", "in_process"])?;
    let hook = bpf.program("in_nmi")?.attach()?;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        bpf.call("in_process", &mut [])?;
    }
    drop(hook);
    send_ipis(1)?;
    Ok(bpf.counted()?.acquired)
}

/// A user of the module that hands over drops until it goes.
fn user() -> Outcome {
    let user = Loaded::new("kptr_defer_test_user", "")?;
    sleep(Duration::from_millis(10));
    user.unload()
}

fn torture() -> Outcome {
    let duration = duration()?;
    not_built_in("kptr_defer")?;
    send_ipis(1)?;
    let module = KptrDefer::load("")?;
    let mut log = Kmsg::from_now_on()?;
    let torture = Loaded::new(MODULE, "")?;
    let start = Instant::now();
    let mut acquired = 0;
    while start.elapsed() < duration {
        acquired += handles()?;
        user()?;
    }
    torture.unload()?;
    let (numbers, end) = last_words(&mut log)?;
    note(&numbers);
    note(&end);
    note(format!(
        "torture: seconds={} drops={} lost={} handles={acquired} barriers={} onoff={} nmis={}",
        start.elapsed().as_secs(),
        number(&numbers, "dropped")? + acquired,
        number(&numbers, "lost")?,
        number(&numbers, "barriers")?,
        number(&numbers, "onoff")?,
        number(&numbers, "nmis")?,
    ));
    check!(end.contains("End of test: SUCCESS"));
    check!(acquired > 0);
    check!(number(&numbers, "barriers")? > 0);
    check!(number(&numbers, "nmis")? > 0);
    module.unload()
}

/// The negative control: there is everything that must not be.
fn busted() -> Outcome {
    not_built_in("kptr_defer")?;
    send_ipis(1)?;
    let module = KptrDefer::load("")?;
    let mut log = Kmsg::from_now_on()?;
    let mut unseen = vec![
        "lost",
        "again",
        "out_of_order",
        "overlapped",
        "barrier_failures",
    ];
    for _ in 0..20 {
        let torture = Loaded::new(MODULE, "torture_type=busted")?;
        sleep(Duration::from_secs(3));
        torture.unload()?;
        let (numbers, end) = last_words(&mut log)?;
        note(&numbers);
        check!(end.contains("End of test: FAILURE"), "{end}");
        let mut still_unseen = Vec::new();
        for what in unseen {
            if number(&numbers, what)? == 0 {
                still_unseen.push(what);
            }
        }
        unseen = still_unseen;
        if unseen.is_empty() {
            break;
        }
    }
    check!(unseen.is_empty(), "never seen: {unseen:?}");
    module.unload()
}
