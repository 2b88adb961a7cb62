// SPDX-License-Identifier: GPL-2.0

//! The memory of handles, of which each CPU keeps what was freed there last.
//!
//! What breaks when one fails: each handle costs an allocation, or memory stays behind when the module
//! goes.

use crate::{
    bpf::{
        missed,
        Bpf, //
    },
    check,
    ktap::{
        note,
        Outcome,
        Test, //
    },
    module::{
        has_kasan,
        not_built_in,
        KptrDefer, //
    },
    no_memory::KEPT_BLOCKS,
    workload::on_cpu,
};

/// Of each program in bpf/kept_memory.bpf.c.
const HANDLES: u64 = 100;

pub fn tests() -> Vec<Test> {
    vec![Test::new(
        "kept_memory: it serves again, and goes with the module, no NMI",
        kept,
    )]
}

fn kept() -> Outcome {
    // What is kept from the tests before it stays.
    not_built_in("kptr_defer")?;
    let kept = if has_kasan()? { 0 } else { KEPT_BLOCKS };
    let module = KptrDefer::load("")?;
    let watch = Bpf::load("memory", &["allocated", "freed"])?;
    let links = [
        watch.program("allocated")?.attach()?,
        watch.program("freed")?.attach()?,
    ];
    let bpf = Bpf::load("kept_memory", &["one_by_one", "all_at_once"])?;
    let now = || {
        let blocks = watch.counted()?;
        note(format!(
            "allocated={} freed={}",
            blocks.objects, blocks.freed
        ));
        Ok::<_, crate::ktap::Stop>(blocks)
    };

    // Now and then the kernel refuses, and there is memory from elsewhere.
    let about = |number: u64, expected: u64| number.abs_diff(expected) <= HANDLES / 10;

    let all = on_cpu(0, || {
        bpf.call("all_at_once", &mut [])?;
        now()
    })?;
    check!(about(all.objects, HANDLES));
    check!(about(all.freed, HANDLES - kept));

    let one_by_one = on_cpu(0, || {
        bpf.call("one_by_one", &mut [])?;
        now()
    })?;
    let expected = if kept == 0 { HANDLES } else { 0 };
    check!(about(one_by_one.objects - all.objects, expected));
    check!(about(one_by_one.freed - all.freed, expected));

    let counted = bpf.counted()?;
    check!(counted.acquired == 2 * HANDLES);
    drop(bpf);
    module.settled()?;
    module.unload()?;
    let end = now()?;
    let missed = missed("freed");
    drop(links);
    check!(end.objects - end.freed <= missed, "missed={missed}");
    Ok(())
}
