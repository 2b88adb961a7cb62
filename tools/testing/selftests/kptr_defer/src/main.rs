// SPDX-License-Identifier: GPL-2.0

//! Tests of kptr_defer on the running kernel, as root.
//!
//! `kptr_defer_test [words]` runs the tests whose name contains one of the words, all of them
//! without any. The modules and BPF programs lie beside the executable. The output is KTAP, the
//! exit status kselftest's.

use crate::ktap::Test;
use std::{
    env,
    process::ExitCode, //
};

mod bpf;
#[cfg(target_arch = "x86_64")]
mod kernel_text;
mod kmsg;
mod ktap;
mod module;
mod nmi;
mod tracing;
mod workload;

// One file for each theme, with the BPF programs in bpf/<theme>.bpf.c.
mod acquire;
mod c_api;
mod contexts;
mod defer_when;
mod failing_memory;
mod guard;
mod guard_beside;
mod guard_load;
mod guard_races;
mod hotplug;
mod kept_memory;
mod kinds;
mod kinds_verifier;
mod leaks;
mod load;
mod maps;
mod messages;
mod no_memory;
mod rust_api;
mod sample_c;
mod sleepable;
mod sources;
#[cfg(target_arch = "x86_64")]
mod sweep;
mod teardown;
mod torture;
mod tracepoints;
mod under_fire;
mod verifier;

fn main() -> ExitCode {
    if workload::is_to_exit() {
        return ExitCode::SUCCESS;
    }
    if let Err(reason) = module::prepare() {
        module::restore();
        return ktap::skip_all(&reason);
    }
    let sources = sources::that_raise_nmis();
    let words: Vec<String> = env::args().skip(1).collect();
    let tests = [
        sources::tests(),
        messages::tests(),
        load::tests(),
        verifier::tests(),
        contexts::tests(),
        maps::tests(&sources),
        teardown::tests(&sources),
        tracepoints::tests(&sources),
        hotplug::tests(&sources),
        acquire::tests(),
        no_memory::tests(),
        kept_memory::tests(),
        failing_memory::tests(),
        defer_when::tests(),
        kinds::tests(&sources),
        kinds_verifier::tests(),
        sleepable::tests(),
        c_api::tests(),
        sample_c::tests(),
        rust_api::tests(),
        under_fire::tests(),
        #[cfg(target_arch = "x86_64")]
        sweep::tests(),
        torture::tests(),
        guard_load::tests(),
        guard::tests(),
        guard_beside::tests(),
        guard_races::tests(),
        leaks::tests(),
    ]
    .into_iter()
    .flatten()
    .filter(|test: &Test| words.is_empty() || words.iter().any(|word| test.name.contains(word)))
    .collect();
    let exit = ktap::run(tests);
    module::restore();
    exit
}
