// SPDX-License-Identifier: GPL-2.0

//! Handles that no program gives back, because their map goes away; and the module, which may
//! not go away before that.

use crate::{
    bpf::Bpf,
    check,
    ktap::{
        failed,
        note,
        Outcome,
        Test, //
    },
    module::{
        debugfs,
        not_built_in,
        remove,
        KptrDefer,
        Stats, //
    },
    nmi::Source,
    workload,
};
use libbpf_rs::{
    MapCore,
    MapHandle, //
};
use std::{
    fs::File,
    io::ErrorKind,
    thread::sleep,
    time::Duration, //
};

const CHILDREN: u32 = 30;

pub fn tests(sources: &[Source]) -> Vec<Test> {
    let mut tests = Vec::new();
    for kind in [
        "array",
        "hash",
        "hash_no_prealloc",
        "lru_hash",
        "percpu_array",
    ] {
        tests.push(Test::new(
            format!("teardown: {kind} closed with handles in it, no NMI"),
            move || map_closed(kind),
        ));
    }
    for kind in ["hash", "hash_no_prealloc"] {
        tests.push(Test::new(
            format!("teardown: {kind} elements deleted from user space, no NMI"),
            move || elements_deleted(kind),
        ));
    }
    for source in sources.iter().copied() {
        tests.push(Test::new(
            format!(
                "teardown: program and map closed at work, {}",
                source.name()
            ),
            move || closed_at_work(source),
        ));
    }
    tests.push(Test::new(
        "teardown: unload refused while a map holds handles, clean after, no NMI",
        unload_refused,
    ));
    tests.push(Test::new(
        "teardown: unload refused while the stats are open, clean after, no NMI",
        unload_refused_to_reader,
    ));
    tests
}

/// A map with handles on dead tasks, and no program.
fn filled_map(kind: &str) -> Outcome<MapHandle> {
    let name = format!("fork_{kind}");
    let bpf = Bpf::load("maps", &[&name])?;
    let link = bpf.program(&name)?.attach()?;
    workload::fork(CHILDREN, || ())?;
    drop(link);
    let live = Stats::read()?.get("handles_live")?;
    note(format!("handles_live={live}"));
    check!(live > 0);
    bpf.map(kind)
}

fn map_closed(kind: &str) -> Outcome {
    let module = KptrDefer::load("")?;
    drop(filled_map(kind)?);
    module.settled()?;
    module.unload()
}

fn elements_deleted(kind: &str) -> Outcome {
    let module = KptrDefer::load("")?;
    let map = filled_map(kind)?;
    let keys: Vec<_> = map.keys().collect();
    check!(!keys.is_empty());
    for key in keys {
        map.delete(&key)?;
    }
    drop(map);
    module.settled()?;
    module.unload()
}

/// The last NMIs come while everything is being taken down.
fn closed_at_work(source: Source) -> Outcome {
    let module = KptrDefer::load("")?;
    let mut nmi = 0;
    for _ in 0..3 {
        let bpf = Bpf::load("maps", &[source.program("hash")])?;
        let hooks = source.attach(&bpf, "hash")?;
        workload::fork(20, || source.run_into())?;
        nmi += bpf.counted()?.nmi;
        drop(bpf);
        workload::fork(2, || source.run_into())?;
        drop(hooks);
    }
    note(format!("nmi={nmi}"));
    check!(nmi > 0);
    module.settled()?;
    module.unload()
}

fn unload_refused() -> Outcome {
    let module = KptrDefer::load("")?;
    let map = filled_map("array")?;
    // Long enough for the program to be gone: it is the map that holds the module.
    for _ in 0..5 {
        unload_refused_while("kptr_defer", "a map has handles")?;
        sleep(Duration::from_millis(100));
    }
    check!(Stats::read()?.get("handles_live")? > 0);
    drop(map);
    module.unload()
}

/// Closing the file after the module is gone would read what was in the module.
fn unload_refused_to_reader() -> Outcome {
    let module = KptrDefer::load("")?;
    let stats = File::open(debugfs("kptr_defer/stats"))?;
    unload_refused_while("kptr_defer", "its stats are open")?;
    drop(stats);
    module.unload()
}

pub fn unload_refused_while(module: &str, in_use: &str) -> Outcome {
    not_built_in(module)?;
    match remove(module) {
        Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::ResourceBusy) => Ok(()),
        Err(err) => failed(format!("unload was refused, but with: {err}")),
        Ok(()) => failed(format!("{module} was unloaded while {in_use}")),
    }
}
