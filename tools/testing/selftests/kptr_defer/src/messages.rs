// SPDX-License-Identifier: GPL-2.0

//! What the tests and the library that raises NMIs say when something is missing. Each message is
//! provoked once; Documentation/errors.md says what to do.

use crate::{
    check,
    hotplug::{
        self,
        Offline, //
    },
    ktap::{
        failed,
        note,
        Outcome,
        Test, //
    },
    module::{
        built,
        debugfs,
        not_built_in,
        KptrDefer,
        NMI_SOURCE, //
    },
};
use nmi_source::{
    kernel_symbol,
    Event,
    Scope, //
};
use std::{
    env,
    fs::{
        self,
        File, //
    },
    io,
    path::Path,
    process::Command,
    thread, //
};

/// Who is not root.
const NOBODY: u32 = 65534;

pub fn tests() -> Vec<Test> {
    [
        test("not root", || {
            as_nobody(|| {
                let mut this = Command::new("/proc/self/exe");
                skips(&mut this, "only root can load modules")
            })?
        }),
        test("a module is missing", module_missing),
        test("kptr_defer is in use", in_use),
        test("its own module is loaded", || {
            let why = format!("{NMI_SOURCE}.ko: File exists");
            skips(&mut Command::new("/proc/self/exe"), &why)
        }),
        test("not root for a breakpoint", || {
            let open = opener(0)?;
            refused(as_nobody(open)?, "needs root or CAP_PERFMON")
        }),
        test("hidden addresses", || {
            let found = as_nobody(|| kernel_symbol("do_exit"))?;
            refused(found, "the kernel hides its addresses: be root")
        }),
        test("no such function", || {
            let found = kernel_symbol("no_such_function");
            refused(found, "this kernel has no function no_such_function")
        }),
        test("too many open files", too_many_files),
        test("a CPU that is offline", || {
            hotplug::second_cpu()?;
            let _offline = Offline::new()?;
            refused(opener(1)?(), "that CPU is offline")
        }),
        #[cfg(target_arch = "x86_64")]
        test("no debug register left", no_debug_register),
        #[cfg(target_arch = "x86_64")]
        test("no breakpoint there", || {
            // Where breakpoints are handled.
            let address =
                kernel_symbol("exc_debug_kernel").or_else(|_| kernel_symbol("exc_debug"))?;
            let event = Event::execute(Scope::Cpu(0), address);
            refused(event, "the kernel allows no breakpoint at 0x")
        }),
    ]
    .into()
}

fn test(name: &str, run: fn() -> Outcome) -> Test {
    Test::new(format!("messages: {name}, no NMI"), run)
}

/// Opens an event on that CPU, as the machine has them.
fn opener(cpu: u32) -> Outcome<impl FnOnce() -> nmi_source::Result<Event> + Send> {
    // Who is not root does not see it.
    let address = kernel_symbol("do_exit")?;
    Ok(move || {
        if cfg!(target_arch = "x86_64") {
            Event::execute(Scope::Cpu(cpu), address)
        } else {
            Event::cycles(Scope::Cpu(cpu), 100_000)
        }
    })
}

/// It failed, and says so.
fn refused<T>(result: nmi_source::Result<T>, why: &str) -> Outcome {
    match result {
        Ok(_) => failed("it was not refused"),
        Err(err) => {
            note(&err);
            check!(err.to_string().contains(why), "no '{why}' in '{err}'");
            Ok(())
        }
    }
}

/// This program skips all tests, and says why.
fn skips(this: &mut Command, why: &str) -> Outcome {
    let output = this.arg("none").output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    check!(output.status.code() == Some(4), "{}", output.status);
    let Some((_, said)) = said.split_once("1..0 # SKIP ") else {
        return failed("it does not skip all");
    };
    note(format!("it says: {said}"));
    check!(said.contains(why), "no '{why}'");
    Ok(())
}

fn module_missing() -> Outcome {
    let folder = env::temp_dir().join("kptr_defer_test_messages");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder)?;
    let alone = folder.join("kptr_defer_test");
    fs::copy(built("kptr_defer_test")?, &alone)?;
    let outcome = skips(&mut Command::new(&alone), ".ko is not built");
    fs::remove_dir_all(&folder)?;
    outcome
}

fn in_use() -> Outcome {
    not_built_in("kptr_defer")?;
    let module = KptrDefer::load("")?;
    let reader = File::open(debugfs("kptr_defer/stats"))?;
    skips(
        &mut Command::new("/proc/self/exe"),
        "kptr_defer is in use: ",
    )?;
    drop(reader);
    check!(Path::new("/sys/module/kptr_defer").exists());
    module.unload()
}

/// In a thread that is not root.
fn as_nobody<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Outcome<T> {
    let thread = thread::spawn(move || {
        // The C library would have all threads change.
        // SAFETY: Takes numbers only.
        match unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) } {
            0 => Ok(f()),
            _ => Err(io::Error::last_os_error()),
        }
    });
    match thread.join() {
        Ok(result) => Ok(result?),
        Err(_) => failed("the thread panicked"),
    }
}

fn too_many_files() -> Outcome {
    let open = opener(0)?;
    let mut before = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: The limit is ours to write to.
    check!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut before) } == 0);
    let none = libc::rlimit {
        rlim_cur: 0,
        ..before
    };
    // SAFETY: Only reads the limit. No other thread opens anything.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &none) };
    let opened = open();
    // SAFETY: As above.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &before) };
    refused(opened, "too many open files, raise ulimit -n")
}

#[cfg(target_arch = "x86_64")]
fn no_debug_register() -> Outcome {
    let writes = nmi_source::KernelWrites::new()?;
    let mut events = Vec::new();
    for _ in 0..4 {
        events.push(writes.event()?);
    }
    refused(writes.event(), "the debug registers are all in use")
}
