// SPDX-License-Identifier: GPL-2.0

//! Tasks that are forked and exit, and cgroups that are made and removed.

use crate::{
    check,
    ktap::{
        failed,
        Outcome,
        Stop, //
    },
    nmi::cpus, //
};
use std::{
    fs,
    io,
    os::unix::fs::MetadataExt,
    path::PathBuf, //
};

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

/// Runs `task` on one CPU.
pub fn on_cpu<T>(cpu: u32, task: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    run_on(cpu)?;
    let result = task();
    run_on_all()?;
    result
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

/// Tasks that wait and as many empty cgroups, until they end.
pub struct Objects {
    tasks: Vec<Waiting>,
    cgroups: Vec<PathBuf>,
    parent: Parent,
}

impl Objects {
    pub fn new(count: u32) -> Outcome<Objects> {
        Objects::in_parent(Parent::new()?, count)
    }

    /// The cgroups are memory cgroups, too.
    pub fn with_memory(count: u32) -> Outcome<Objects> {
        let parent = Parent::new()?;
        parent.enable_memory()?;
        Objects::in_parent(parent, count)
    }

    fn in_parent(parent: Parent, count: u32) -> Outcome<Objects> {
        let mut objects = Objects {
            tasks: Vec::new(),
            cgroups: Vec::new(),
            parent,
        };
        for number in 0..count {
            objects.tasks.push(Waiting::new()?);
            let cgroup = objects.parent.0.join(number.to_string());
            fs::create_dir(&cgroup)?;
            objects.cgroups.push(cgroup);
        }
        Ok(objects)
    }

    /// A pid and the id of a cgroup each.
    pub fn ids(&self) -> Outcome<Vec<(libc::pid_t, u64)>> {
        let mut ids = Vec::new();
        for (task, cgroup) in self.tasks.iter().zip(&self.cgroups) {
            ids.push((task.pid, fs::metadata(cgroup)?.ino()));
        }
        Ok(ids)
    }

    pub fn parent(&self) -> &Parent {
        &self.parent
    }

    /// The tasks die and the cgroups are removed. References to them may remain.
    pub fn end(mut self) -> Outcome {
        self.tasks.clear();
        for cgroup in self.cgroups.drain(..) {
            fs::remove_dir(cgroup)?;
        }
        Ok(())
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        for cgroup in &self.cgroups {
            let _ = fs::remove_dir(cgroup);
        }
    }
}

/// A task that waits until it is killed. It shares the memory, which is what forking spends most of
/// its time on.
struct Waiting {
    pid: libc::pid_t,
    _stack: Box<[u128]>,
}

impl Waiting {
    fn new() -> io::Result<Waiting> {
        extern "C" fn wait(_: *mut libc::c_void) -> libc::c_int {
            // SAFETY: The task dies with the test.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            loop {
                // SAFETY: Takes nothing.
                unsafe { libc::pause() };
            }
        }

        let mut stack = vec![0; 512].into_boxed_slice();
        let top = stack.as_mut_ptr_range().end;
        let flags = libc::CLONE_VM | libc::SIGCHLD;
        // SAFETY: The stack is the task's own until it is dead. All it does is to make system calls.
        match unsafe { libc::clone(wait, top.cast(), flags, std::ptr::null_mut()) } {
            -1 => Err(io::Error::last_os_error()),
            pid => Ok(Waiting { pid, _stack: stack }),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // SAFETY: A child of ours, whose status nobody wants.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}

/// The cgroup of the tests.
#[derive(Clone)]
pub struct Parent(PathBuf);

impl Parent {
    pub fn new() -> Outcome<Parent> {
        let mounts = fs::read_to_string("/proc/mounts")?;
        let root = mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let folder = words.next()?;
            (words.next()? == "cgroup2").then(|| PathBuf::from(folder))
        });
        let Some(root) = root else {
            return Err(Stop::Skipped("no cgroup2 is mounted".into()));
        };
        let parent = root.join("kptr_defer_test");
        match fs::create_dir(&parent) {
            Err(err) if err.kind() != io::ErrorKind::AlreadyExists => Err(err.into()),
            _ => Ok(Parent(parent)),
        }
    }

    fn enable_memory(&self) -> Outcome {
        for folder in [self.0.parent(), Some(&*self.0)].into_iter().flatten() {
            fs::write(folder.join("cgroup.subtree_control"), "+memory")?;
        }
        Ok(())
    }

    /// Memory cgroups that were removed, and that somebody has a reference to.
    pub fn dying_memory_cgroups(&self) -> Outcome<u64> {
        let stat = fs::read_to_string(self.0.join("cgroup.stat"))?;
        let number = stat
            .lines()
            .find_map(|line| line.strip_prefix("nr_dying_subsys_memory "));
        match number.and_then(|number| number.parse().ok()) {
            Some(number) => Ok(number),
            None => failed(format!("no nr_dying_subsys_memory in '{stat}'")),
        }
    }
}
