// SPDX-License-Identifier: GPL-2.0

//! Loading and unloading the guard, and what it says when it cannot guard.

use crate::{
    check,
    guard::Guard,
    kmsg::Kmsg,
    ktap::{
        failed,
        note,
        Outcome,
        Stop,
        Test, //
    },
    module::{
        built,
        debugfs,
        insert,
        insert_image,
        is_loaded,
        not_built_in,
        remove,
        KptrDefer,
        Loaded,
        GUARD, //
    },
    teardown::unload_refused_while,
};
use std::{
    fs::{
        self,
        File, //
    },
    io, //
};

const FILE: &str = "kptr_defer_guard.ko";
const FTRACE: &str = "/proc/sys/kernel/ftrace_enabled";

const FUNCTIONS: [&str; 5] = [
    "bpf_task_release",
    "bpf_task_release_dtor",
    "bpf_cgroup_release",
    "bpf_cgroup_release_dtor",
    "bpf_put_mem_cgroup",
];

pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::new("guard_load: says what it guards, no NMI", says_so),
        Test::new("guard_load: twice is refused, no NMI", || {
            let guard = Guard::load("")?;
            refused(|| insert(FILE, ""), libc::EEXIST, &[])?;
            guard.unload()
        }),
        Test::new("guard_load: without kptr_defer is refused, no NMI", || {
            not_built_in("kptr_defer")?;
            refused(
                || insert(FILE, ""),
                libc::ENOENT,
                &["Unknown symbol kptr_defer_drop (err -2)"],
            )
        }),
        Test::new("guard_load: without ftrace is refused, no NMI", || {
            not_built_in(GUARD)?;
            match fs::write(FTRACE, "0") {
                Err(err) if err.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                    return Err(Stop::Skipped("ftrace cannot be switched off".into()));
                }
                result => result?,
            }
            let load = || insert(FILE, "");
            let result = nothing_to_guard(load, libc::EBUSY, str::to_string, "cannot attach");
            fs::write(FTRACE, "1")?;
            result
        }),
        Test::new("guard_load: ftrace stays on under it, no NMI", || {
            let guard = Guard::load("")?;
            check!(fs::write(FTRACE, "0").is_err());
            check!(fs::read_to_string(FTRACE)?.trim() == "1");
            guard.unload()
        }),
        Test::new("guard_load: no function in the kernel, no NMI", || {
            let image = without(&FUNCTIONS)?;
            let load = || insert_image(&image, "");
            nothing_to_guard(load, libc::ENODEV, renamed, "not in this kernel")
        }),
        Test::new("guard_load: unload refused while in use, no NMI", || {
            let guard = Guard::load("")?;
            unload_refused_while("kptr_defer", "the guard is loaded")?;
            let table = File::open(debugfs("kptr_defer/guard"))?;
            unload_refused_while(GUARD, "its table is open")?;
            drop(table);
            guard.unload()
        }),
    ];
    for function in FUNCTIONS {
        tests.push(Test::new(
            format!("guard_load: no {function} in the kernel, no NMI"),
            move || missing(function),
        ));
    }
    tests
}

fn says_so() -> Outcome {
    let mut guard = Guard::load("")?;
    let lines = guard.said()?;
    note(lines.join("\n"));
    check!(lines.len() == 1, "not one line but {lines:?}");
    let guarded = format!(" loaded: guards {}", FUNCTIONS.join(" "));
    check!(lines[0].starts_with("version ") && lines[0].ends_with(&guarded));
    let table = Guard::table()?;
    let names: Vec<&str> = table.iter().map(|(name, _)| &name[..]).collect();
    check!(names == FUNCTIONS, "the table has {names:?}");
    guard.unload()
}

/// Loading fails so, the kernel log says why, and nothing is left of it.
fn refused(load: impl FnOnce() -> io::Result<()>, errno: i32, why: &[&str]) -> Outcome {
    not_built_in(GUARD)?;
    let mut log = Kmsg::from_now_on()?;
    match load() {
        Err(err) if err.raw_os_error() == Some(errno) => (),
        Err(err) => return failed(format!("it was refused, but with: {err}")),
        Ok(()) => {
            remove(GUARD)?;
            return failed("it was loaded");
        }
    }
    let lines = log.read()?;
    for why in why {
        let why = format!("{GUARD}: {why}");
        check!(lines.contains(&why), "no '{why}' in {lines:?}");
    }
    Ok(())
}

/// Each function is named with the reason.
fn nothing_to_guard(
    load: impl FnOnce() -> io::Result<()>,
    errno: i32,
    name: impl Fn(&str) -> String,
    reason: &str,
) -> Outcome {
    let kptr_defer = KptrDefer::load("")?;
    let mut log = Kmsg::from_now_on()?;
    refused(load, errno, &["nothing to guard"])?;
    check!(!is_loaded(GUARD));
    check!(!debugfs("kptr_defer/guard").exists());
    let lines = log.read()?;
    note(lines.join("\n"));
    for function in FUNCTIONS {
        let why = format!("{GUARD}: {}() is not guarded: {reason}", name(function));
        check!(
            lines.iter().any(|line| line.starts_with(&why)),
            "no '{why}' in {lines:?}"
        );
    }
    kptr_defer.unload()
}

/// A name that no function of any kernel has, as long as this one.
fn renamed(function: &str) -> String {
    format!("{}gone", &function[..function.len() - 4])
}

/// The guard, looking for functions of other names.
fn without(functions: &[&str]) -> Outcome<Vec<u8>> {
    not_built_in(GUARD)?;
    let mut image = fs::read(built(FILE)?)?;
    for function in functions {
        let name = format!("\0{function}\0");
        let other = format!("\0{}\0", renamed(function));
        let mut found = false;
        for at in 0..image.len() - name.len() {
            if image[at..].starts_with(name.as_bytes()) {
                image[at..][..name.len()].copy_from_slice(other.as_bytes());
                found = true;
            }
        }
        check!(found, "no {function} in {FILE}");
    }
    Ok(image)
}

/// It is named, and the others are guarded. A task is drained with its destructor.
fn missing(function: &str) -> Outcome {
    let kptr_defer = KptrDefer::load("")?;
    let mut log = Kmsg::from_now_on()?;
    let guard = Loaded::from_image(GUARD, &without(&[function])?)?;
    let lines = log.read()?;
    note(lines.join("\n"));
    let table = Guard::table()?;
    for name in FUNCTIONS {
        let is_guarded = table.iter().any(|(guarded, _)| guarded == name);
        let named = |name: &str| {
            let line = format!("{GUARD}: {name}() is not guarded: ");
            lines.iter().any(|said| said.starts_with(&line))
        };
        let cannot =
            name == function || name == "bpf_task_release" && function == "bpf_task_release_dtor";
        check!(is_guarded != cannot, "{name}: {table:?}");
        check!(
            cannot == (named(name) || named(&renamed(name))),
            "{name}: {lines:?}"
        );
    }
    guard.unload()?;
    kptr_defer.unload()
}
