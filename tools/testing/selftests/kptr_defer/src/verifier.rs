// SPDX-License-Identifier: GPL-2.0

//! Programs that the verifier must reject, each with what it must say.

use crate::{
    bpf::{
        self,
        Bpf, //
    },
    check,
    ktap::{
        failed,
        note,
        Outcome,
        Test, //
    },
    module::KptrDefer,
};

/// For bpf_kptr_defer_task_release(), of something that is no handle acquired before.
const NOT_REFERENCED: &str =
    "bpf_kptr_defer_task_release expects referenced PTR_TO_BTF_ID passed to";

const WRONG_TYPE: &str =
    "expected pointer to STRUCT task_struct but R1 has a pointer to STRUCT kptr_defer_task";

/// The programs of bpf/verifier.bpf.c.
const REJECTED: [(&str, &str); 11] = [
    ("leaked", "Unreleased reference"),
    ("overwritten_in_map", "Unreleased reference"),
    ("released_twice", NOT_REFERENCED),
    ("used_after_release", "invalid mem access"),
    ("not_checked_for_null", "Possibly NULL pointer passed"),
    ("released_without_acquire", NOT_REFERENCED),
    ("released_as_task", WRONG_TYPE),
    ("acquired_from_handle", WRONG_TYPE),
    ("acquired_from_number", "STRUCT task_struct"),
    ("put_into_wrong_slot", "invalid kptr access"),
    ("loaded_from_map", NOT_REFERENCED),
];

pub fn tests() -> Vec<Test> {
    let mut tests = vec![Test::new(
        "verifier: balanced program accepted, no NMI",
        || {
            let module = KptrDefer::load("")?;
            Bpf::load("verifier", &["accepted"])?;
            module.unload()
        },
    )];
    for (program, message) in REJECTED {
        let name = format!("verifier: {program} rejected, no NMI");
        tests.push(Test::new(name, move || {
            let module = KptrDefer::load("")?;
            rejected("verifier", program, message)?;
            module.unload()
        }));
    }
    tests
}

pub fn rejected(theme: &str, program: &str, message: &str) -> Outcome {
    let loaded = Bpf::load(theme, &[program]).is_ok();
    let log = bpf::messages();
    if loaded {
        return failed("the verifier accepted it");
    }
    let Some(line) = log.lines().find(|line| line.contains(message)) else {
        return failed(format!("the verifier did not say '{message}'"));
    };
    note(line);
    check!(log.contains(program));
    Ok(())
}
