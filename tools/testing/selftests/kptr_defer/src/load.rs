// SPDX-License-Identifier: GPL-2.0

//! Loading and unloading, and the parameters.

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
    maps,
    module::{
        insert,
        is_loaded,
        not_built_in,
        remove,
        KptrDefer,
        Stats, //
    },
    nmi::Source,
    workload,
};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("load: says so in the kernel log, no NMI", says_so),
        Test::new("load: defer_when=sometimes is refused, no NMI", || {
            refused("kptr_defer.ko", "defer_when=sometimes", "defer_when")
        }),
        Test::new("load: budget=0 is refused, no NMI", || {
            refused("kptr_defer.ko", "budget=0", "budget")
        }),
        Test::new("load: budget=many is refused, no NMI", || {
            refused("kptr_defer.ko", "budget=many", "budget")
        }),
        Test::new("load: a module without its BTF is refused, no NMI", || {
            refused("kptr_defer_no_btf.ko", "", "BTF")
        }),
        Test::new("load: defer_when=always defers outside NMI, no NMI", || {
            check!(drops_of_a_fork("defer_when=always")?.get("inline")? == 0);
            Ok(())
        }),
        Test::new("load: defer_when=irqsoff, no NMI", || {
            drops_of_a_fork("defer_when=irqsoff").map(drop)
        }),
        Test::new(
            "load: budget=1 leaves the rest to the workqueue, hardware breakpoint",
            budget_of_one,
        ),
    ]
}

fn says_so() -> Outcome {
    let mut module = KptrDefer::load("defer_when=nmi budget=7")?;
    let lines = module.said()?;
    note(lines.join("\n"));
    check!(lines.len() == 1, "not one line but {lines:?}");
    for setting in ["defer_when=nmi", "budget=7"] {
        check!(lines[0].contains(setting), "no {setting} in '{}'", lines[0]);
    }
    module.unload()
}

/// Loading fails, and the kernel log names the culprit.
fn refused(file: &str, params: &str, culprit: &str) -> Outcome {
    not_built_in("kptr_defer")?;
    let mut log = Kmsg::from_now_on()?;
    match insert(file, params) {
        Err(err) => note(format!("insmod: {err}")),
        Ok(()) => {
            remove("kptr_defer")?;
            return failed(format!("{file} loaded with '{params}'"));
        }
    }
    let lines = log.read()?;
    note(lines.join("\n"));
    check!(!is_loaded("kptr_defer"));
    check!(
        lines
            .iter()
            .any(|line| line.contains("kptr_defer") && line.contains(culprit)),
        "nothing about {culprit} in {lines:?}"
    );
    Ok(())
}

/// Handles taken at fork, and dropped by the next fork or when the map goes.
fn drops_of_a_fork(params: &str) -> Outcome<Stats> {
    let module = KptrDefer::load(params)?;
    let bpf = Bpf::load("maps", &["fork_array"])?;
    let link = bpf.program("fork_array")?.attach()?;
    workload::fork(30, || ())?;
    drop(link);
    let acquired = bpf.counted()?.acquired;
    drop(bpf);
    let stats = module.settled()?;
    check!(acquired > 0);
    check!(stats.get("inline")? + stats.get("deferred")? == acquired);
    module.unload()?;
    Ok(stats)
}

/// One NMI runs three programs here, so it leaves up to three drops at once.
fn budget_of_one() -> Outcome {
    Source::ONE_BY_ONE.opens()?;
    let stats = maps::fork_under("budget=1", &[Source::ONE_BY_ONE], &maps::KINDS[..3])?;
    let runs = stats.get("workqueue_runs")?;
    note(format!("workqueue_runs={runs}"));
    check!(runs > 0);
    Ok(())
}
