// SPDX-License-Identifier: GPL-2.0

//! Memory fails when a module is loaded, or a value is wrapped: the first allocation, the second, and so
//! on until none is left to fail.

use crate::{
    bpf::Bpf,
    check,
    ktap::{
        failed,
        note,
        Outcome,
        Stop,
        Test, //
    },
    module::{
        debugfs,
        insert,
        is_loaded,
        remove_when_free,
        KptrDefer,
        Loaded,
        GUARD,
        RUST_SAMPLE,
        RUST_USER, //
    },
};
use std::{
    fs,
    path::PathBuf, //
};

/// Of this thread: which allocation from now on is to fail. It counts down.
const FAIL_NTH: &str = "/proc/thread-self/fail-nth";

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("failing_memory: loading the module, no NMI", || {
            let failing = Failing::beneath("do_one_initcall")?;
            failing.until_loaded("kptr_defer", &["kptr_defer"])?;
            drop(failing);
            KptrDefer::load("")?.unload()
        }),
        Test::new("failing_memory: loading the guard, no NMI", || {
            user_loaded(GUARD, &["kptr_defer/guard"])
        }),
        Test::new("failing_memory: loading the sample in C, no NMI", || {
            user_loaded("kptr_defer_sample_c", &[])
        }),
        Test::new("failing_memory: loading the sample in Rust, no NMI", || {
            user_loaded(RUST_SAMPLE, &[])
        }),
        Test::new("failing_memory: wrapping values, no NMI", values_wrapped),
    ]
}

/// Memory fails only in what a kernel function calls, as long as this lives: the kernel's own module
/// loader complains when it gets none.
struct Failing(Vec<(PathBuf, String)>);

impl Failing {
    fn beneath(function: &str) -> Outcome<Failing> {
        let failslab = debugfs("failslab");
        if fs::metadata(FAIL_NTH).is_err() || !failslab.join("require-start").exists() {
            return Err(Stop::Skipped(
                "a kernel without FAILSLAB and FAULT_INJECTION_STACKTRACE_FILTER".into(),
            ));
        }
        let (start, end) = range_of(function)?;
        let mut settings = vec![
            ("ignore-gfp-wait", "N".to_string()),
            ("verbose", "0".to_string()),
            ("require-start", start),
            ("require-end", end),
        ];
        // What kmemleak takes for its own use it has a reserve of.
        if let Ok((start, end)) = range_of("__alloc_object") {
            settings.extend([("reject-start", start), ("reject-end", end)]);
        }
        let mut failing = Failing(Vec::new());
        for (name, value) in settings {
            let file = failslab.join(name);
            let found = fs::read_to_string(&file)?;
            fs::write(&file, value)?;
            failing.0.push((file, found));
        }
        Ok(failing)
    }

    /// Calls `task` until nothing fails any more, with what it returns and whether something has.
    fn until_none<T>(
        &self,
        mut task: impl FnMut() -> T,
        mut each: impl FnMut(T, bool) -> Outcome,
    ) -> Outcome {
        for nth in 1.. {
            fs::write(FAIL_NTH, nth.to_string())?;
            let result = task();
            let has_failed = fs::read_to_string(FAIL_NTH)?.trim() == "0";
            fs::write(FAIL_NTH, "0")?;
            each(result, has_failed)?;
            if !has_failed {
                note(format!("{} allocations have failed", nth - 1));
                check!(nth > 1);
                break;
            }
        }
        Ok(())
    }

    /// A load that fails says why, and leaves nothing of that behind in debugfs.
    fn until_loaded(&self, name: &'static str, files: &[&str]) -> Outcome {
        let mut in_spite = 0;
        self.until_none(
            || insert(&format!("{name}.ko"), ""),
            |loaded, has_failed| {
                match loaded {
                    Ok(()) => {
                        in_spite += u32::from(has_failed);
                        remove_when_free(name)?;
                    }
                    Err(err) => {
                        check!(
                            has_failed && err.raw_os_error() == Some(libc::ENOMEM),
                            "{err}"
                        );
                    }
                }
                check!(!is_loaded(name));
                for file in files {
                    check!(!debugfs(file).exists(), "{file} is left in debugfs");
                }
                Ok(())
            },
        )?;
        note(format!("{name}: {in_spite} loads succeeded nevertheless"));
        Ok(())
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        for (file, found) in &self.0 {
            if let Err(err) = fs::write(file, found.trim()) {
                note(format!("{} stays changed: {err}", file.display()));
            }
        }
    }
}

/// The addresses of a kernel function's code.
fn range_of(function: &str) -> Outcome<(String, String)> {
    let symbols = fs::read_to_string("/proc/kallsyms")?;
    let symbols = symbols.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        Some((address, words.nth(1)?))
    });
    let start = symbols.clone().find(|(_, name)| *name == function);
    let end = symbols
        .map(|(address, _)| address)
        .filter(|address| start.is_some_and(|(start, _)| *address > start))
        .min();
    match (start, end) {
        (Some((start, _)), Some(end)) => Ok((format!("{start:#x}"), format!("{end:#x}"))),
        _ => failed(format!("no {function} in /proc/kallsyms")),
    }
}

/// A module that uses kptr_defer.
fn user_loaded(name: &'static str, files: &[&str]) -> Outcome {
    let module = KptrDefer::load("")?;
    let failing = Failing::beneath("do_one_initcall")?;
    failing.until_loaded(name, files)?;
    drop(failing);
    Loaded::new(name, "")?.unload()?;
    module.unload()
}

fn values_wrapped() -> Outcome {
    let module = KptrDefer::load("")?;
    let user = Loaded::new(RUST_USER, "")?;
    let bpf = Bpf::load("rust_api", &["prepare", "drop_here"])?;
    let failing = Failing::beneath("bpf_prog_test_run_syscall")?;
    failing.until_none(
        || bpf.call("prepare", &mut []),
        |status, has_failed| {
            let expected = if has_failed { -libc::ENOMEM } else { 0 };
            check!(status? as i32 == expected);
            Ok(())
        },
    )?;
    drop(failing);
    check!(bpf.call("drop_here", &mut [])? == 0);
    drop(bpf);
    user.unload()?;
    module.unload()
}
