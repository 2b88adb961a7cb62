// SPDX-License-Identifier: GPL-2.0

//! A CPU goes offline while NMIs drop handles on it.
//!
//! What breaks when it fails: drops that were deferred on that CPU, and with them all later ones,
//! wait until it comes back.

use crate::{
    bpf::Bpf,
    check,
    ktap::{
        note,
        Outcome,
        Stop,
        Test, //
    },
    module::{
        eventually,
        KptrDefer, //
    },
    nmi::{
        send_ipis,
        storm_until_offline,
        Source, //
    },
};
use std::{
    fs,
    io,
    path::Path,
    thread, //
};

const ONLINE: &str = "/sys/devices/system/cpu/cpu1/online";
const ROUNDS: u32 = 5;

pub fn tests(sources: &[Source]) -> Vec<Test> {
    if !sources.contains(&Source::Ipi) {
        return Vec::new();
    }
    vec![Test::new(
        "hotplug: a CPU goes offline while it drops, NMI IPI",
        offline,
    )]
}

/// CPU 1 is offline for as long as this lives.
pub struct Offline;

impl Offline {
    pub fn new() -> io::Result<Offline> {
        fs::write(ONLINE, "0")?;
        Ok(Offline)
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        if let Err(err) = fs::write(ONLINE, "1") {
            note(format!("CPU 1 stays offline: {err}"));
        }
    }
}

/// Or the test is skipped.
pub fn second_cpu() -> Outcome {
    if !Path::new(ONLINE).exists() {
        return Err(Stop::Skipped(
            "there is no second CPU to take offline".into(),
        ));
    }
    Ok(())
}

fn offline() -> Outcome {
    second_cpu()?;
    let module = KptrDefer::load("")?;
    let bpf = Bpf::load("contexts", &["from_tp_btf"])?;
    let hook = bpf.program("from_tp_btf")?.attach()?;
    for _ in 0..ROUNDS {
        let before = bpf.counted()?.nmi;
        let sender = thread::spawn(|| storm_until_offline(1).is_ok());
        // More NMIs than may be left of the last round.
        eventually("the storm has begun", || {
            Ok(sender.is_finished() || bpf.counted()?.nmi > before + 10)
        })?;
        let offline = Offline::new()?;
        check!(sender.join().unwrap_or(false), "no NMI storm");
        send_ipis(1)?;
        // One handle is in the map.
        module.settled_but(1)?;
        drop(offline);
    }
    drop(hook);

    let counted = bpf.counted()?;
    drop(bpf);
    note(format!(
        "nmi={} released_in_nmi={}",
        counted.nmi, counted.released_in_nmi
    ));
    check!(counted.released_in_nmi > 0);
    let stats = module.settled()?;
    check!(stats.get("deferred")? == counted.released_in_nmi);
    module.unload()
}
