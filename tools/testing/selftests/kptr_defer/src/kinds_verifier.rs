// SPDX-License-Identifier: GPL-2.0

//! Programs that the verifier must reject, for each kind of object, and some that it must accept.
//!
//! What breaks when one fails: a program that gets around reference counts or RCU is accepted, or a
//! pointer that include/kptr_defer.bpf.h says one can take handles on is none.

use crate::{
    bpf::{
        self,
        Bpf, //
    },
    ktap::{
        note,
        Outcome,
        Test, //
    },
    module::KptrDefer,
    verifier::rejected,
    workload::Kind, //
};

const NO_RCU_POINTER: &str = "must be a rcu pointer";
const NEEDS_RCU: &str = "requires RCU critical section protection";

/// The programs of bpf/kinds_verifier.bpf.c, each for all kinds.
const REJECTED: [(&str, &str); 6] = [
    ("leaked", "Unreleased reference"),
    ("released_twice", "expects referenced PTR_TO_BTF_ID"),
    (
        "released_as_another",
        "expected pointer to STRUCT kptr_defer_",
    ),
    ("acquired_untrusted", NO_RCU_POINTER),
    ("got_outside_rcu", NEEDS_RCU),
    ("acquired_after_rcu", NO_RCU_POINTER),
];

/// And for those that a kfunc finds,
const REJECTED_OF_FOUND: [(&str, &str); 1] = [("found_outside_rcu", NEEDS_RCU)];

/// which may be none.
const REJECTED_OF_NULL: [(&str, &str); 1] =
    [("not_checked_for_null", "Possibly NULL pointer passed")];

/// To the kernel's kfuncs that read files an RCU pointer is not enough.
const REJECTED_OF_FILE: [(&str, &str); 1] = [("passed_to_d_path", "must be referenced or trusted")];

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for kind in Kind::ALL {
        let mut programs = REJECTED.to_vec();
        if [Kind::Cred, Kind::Mm].contains(&kind) {
            programs.extend(REJECTED_OF_FOUND);
        }
        if [Kind::Cred, Kind::File, Kind::Mm].contains(&kind) {
            programs.extend(REJECTED_OF_NULL);
        }
        if kind == Kind::File {
            programs.extend(REJECTED_OF_FILE);
        }
        let name = format!("verifier: {}, what is rejected, no NMI", kind.name());
        tests.push(Test::new(name, move || all_rejected(kind, &programs)));
    }
    tests.push(Test::new(
        "verifier: another way to objects, no NMI",
        || {
            let module = KptrDefer::load("")?;
            Bpf::load("kinds_verifier", &["accepted_vma"])?;
            module.unload()
        },
    ));
    tests
}

fn all_rejected(kind: Kind, programs: &[(&str, &str)]) -> Outcome {
    let module = KptrDefer::load("")?;
    Bpf::load("kinds_verifier", &[format!("accepted_{}", kind.name())])?;
    for (program, message) in programs {
        bpf::forget_messages();
        note(program);
        let program = format!("{program}_{}", kind.name());
        rejected("kinds_verifier", &program, message)?;
    }
    module.unload()
}
