// SPDX-License-Identifier: GPL-2.0

//! Tasks that are forked and exit.

use crate::{
    check,
    ktap::Outcome,
    nmi::cpus, //
};
use std::io;

/// Forks children one after the other, on all CPUs in turn. Each calls `task` and exits.
pub fn fork(children: u32, task: impl Fn()) -> Outcome {
    for child in 0..children {
        run_on(child % cpus())?;
        // SAFETY: This process has one thread, so the child may do whatever it could do itself.
        match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error().into()),
            0 => {
                task();
                // SAFETY: Ends the child without running the parent's destructors.
                unsafe { libc::_exit(0) };
            }
            pid => {
                // SAFETY: A child of ours, whose status nobody wants.
                let waited = unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
                check!(waited == pid);
            }
        }
    }
    run_on_all()
}

fn run_on(cpu: u32) -> Outcome {
    set_affinity(cpu..cpu + 1)
}

fn run_on_all() -> Outcome {
    set_affinity(0..cpus())
}

fn set_affinity(cpus: std::ops::Range<u32>) -> Outcome {
    // SAFETY: All zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus {
        // SAFETY: Checks the number against the size of the set.
        unsafe { libc::CPU_SET(cpu as usize, &mut set) };
    }
    // SAFETY: A whole CPU set.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) } != 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(())
}
