// SPDX-License-Identifier: GPL-2.0

//! Tasks that are forked and exit, cgroups that are made and removed, and all else that can be held.

use crate::{
    check,
    ktap::{
        failed,
        Outcome,
        Stop, //
    },
    module::eventually,
    nmi::cpus, //
};
use std::{
    env,
    ffi::{
        c_int,
        c_void, //
    },
    fs, io,
    os::{
        fd::{
            AsRawFd,
            FromRawFd, //
        },
        unix::{
            fs::MetadataExt,
            process::CommandExt, //
        },
    },
    path::{
        Path,
        PathBuf, //
    },
    process::Command,
    thread,
    time::{
        Duration,
        Instant, //
    },
};

/// How often the longest tests do what they do. With `KPTR_DEFER_ROUNDS=1000` it is `at_most` times,
/// with less it is in proportion.
pub fn rounds(at_most: u32) -> Outcome<u32> {
    const ALL: u32 = 1000;

    let rounds = match env::var("KPTR_DEFER_ROUNDS") {
        Err(_) => ALL,
        Ok(rounds) => match rounds.parse() {
            Ok(rounds @ 1..=ALL) => rounds,
            _ => return failed(format!("KPTR_DEFER_ROUNDS={rounds} is not 1 to {ALL}")),
        },
    };
    Ok((at_most * rounds / ALL).max(5))
}

/// Forks children one after the other, on all CPUs in turn. Each calls `task` and exits. They have
/// this process's memory: to copy it takes an emulated processor longer than all else.
pub fn fork<F: Fn()>(children: u32, task: F) -> Outcome {
    extern "C" fn call<F: Fn()>(task: *mut c_void) -> c_int {
        // SAFETY: It is the `task` below, which is there until this has returned.
        let task = unsafe { &*task.cast::<F>() };
        task();
        0
    }
    let mut stack = vec![0u128; 4096];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;

    for child in 0..children {
        run_on(child % cpus())?;
        // SAFETY: The child has a stack of its own, and this task goes on when it has exited.
        let child = unsafe {
            libc::clone(
                call::<F>,
                stack.as_mut_ptr_range().end.cast(),
                flags,
                (&raw const task).cast_mut().cast(),
            )
        };
        if child == -1 {
            return Err(io::Error::last_os_error().into());
        }
        Child(child).wait()?;
    }
    run_on_all()
}

/// A child that has been forked.
pub struct Child(libc::pid_t);

impl Child {
    /// It runs `task` and exits.
    pub fn new(task: impl FnOnce() -> Outcome) -> Outcome<Child> {
        // SAFETY: This process has one thread, so the child may do whatever it could do itself.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error().into()),
            0 => {
                let status = match task() {
                    Ok(()) => 0,
                    Err(stop) => {
                        eprintln!("{stop:?}");
                        1
                    }
                };
                // SAFETY: Ends the child without running the parent's destructors.
                unsafe { libc::_exit(status) };
            }
            pid => Ok(Child(pid)),
        }
    }

    /// Returns when it has exited.
    pub fn wait(self) -> Outcome {
        let mut status = 0;
        // SAFETY: A child of ours, and a place for its status.
        let waited = unsafe { libc::waitpid(self.0, &mut status, 0) };
        check!(waited == self.0);
        check!(status == 0, "a child ended with status {status:#x}");
        Ok(())
    }
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

/// What handles can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Task,
    Cgroup,
    Cred,
    File,
    Mm,
}

/// Of the children of [`own`] and [`change`]; bpf/kinds.bpf.c knows them by it.
const FIRST_UID: u32 = 20_000;
const UIDS: u32 = 10_000;
/// And the file that they have open.
const FD: libc::c_int = 100;

/// The argument that this program is executed with to end an address space.
const EXIT: &str = "--exit";

impl Kind {
    pub const ALL: [Kind; 5] = [
        Kind::Task,
        Kind::Cgroup,
        Kind::Cred,
        Kind::File,
        Kind::Mm, //
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Task => "task",
            Kind::Cgroup => "cgroup",
            Kind::Cred => "cred",
            Kind::File => "file",
            Kind::Mm => "mm",
        }
    }

    /// How its objects end.
    pub fn end(self) -> &'static str {
        match self {
            Kind::Task => "exit",
            Kind::Cgroup => "rmdir",
            Kind::Cred => "setuid",
            Kind::File => "close",
            Kind::Mm => "exec",
        }
    }
}

/// Forks a child with an object of its own, which calls `task` and ends the object. Returns what the
/// object is known by: pid, inode number, uid, inode number, break.
pub fn own(kind: Kind, number: u32, task: impl Fn()) -> Outcome<u64> {
    run_on(number % cpus())?;
    let uid = FIRST_UID + number;
    let cgroup = Parent::new()?.0.join(number.to_string());
    let brk = brk(0) + u64::from(number) + 1;
    let id = match kind {
        Kind::Task | Kind::Mm => brk,
        Kind::Cgroup => {
            fs::create_dir(&cgroup)?;
            fs::metadata(&cgroup)?.ino()
        }
        Kind::Cred => uid.into(),
        Kind::File => open_file()?,
    };
    let child = Child::new(|| {
        match kind {
            Kind::Cgroup => enter(&cgroup)?,
            Kind::Mm => check!(self::brk(brk) == brk),
            _ => (),
        }
        // From here on programs take what it has.
        set_uid(uid)?;
        task();
        match kind {
            Kind::Task | Kind::Cgroup => Ok(()),
            Kind::Cred => set_uid(FIRST_UID + UIDS),
            Kind::File => close_file(),
            Kind::Mm => Err(Command::new("/proc/self/exe").arg(EXIT).exec().into()),
        }
    })?;
    let id = if kind == Kind::Task {
        child.0 as u64
    } else {
        id
    };
    if kind == Kind::File {
        close_file()?;
    }
    child.wait()?;
    if kind == Kind::Cgroup {
        remove(&cgroup)?;
    }
    run_on_all()?;
    Ok(id)
}

/// Whether this is what [`own`] and [`change`] have executed.
pub fn is_to_exit() -> bool {
    env::args().nth(1).is_some_and(|arg| arg == EXIT)
}

/// Forks a child with two threads. One, on the last CPU, has another object again and again, and ends
/// the one before; the other one, on the first CPU, calls `task` again and again, longer if it has not
/// returned true.
pub fn change(kind: Kind, task: impl Fn() -> bool + Send + 'static) -> Outcome {
    const CALLS: u32 = 200;
    const LEAST: Duration = Duration::from_secs(1);
    const MOST: Duration = Duration::from_secs(60);

    let parent = Parent::new()?;
    let child = Child::new(|| {
        let mut cgroups = ["one", "other"].map(|name| parent.0.join(name));
        if kind == Kind::Cgroup {
            fs::create_dir(&cgroups[0])?;
            enter(&cgroups[0])?;
        }
        open_file()?;
        set_uid(FIRST_UID)?;
        let calls = thread::spawn(move || {
            run_on(0)?;
            let start = Instant::now();
            let (mut called, mut enough) = (0, false);
            while start.elapsed() < LEAST || (called < CALLS || !enough) && start.elapsed() < MOST {
                enough |= task();
                called += 1;
            }
            Ok(())
        });
        run_on(cpus() - 1)?;
        for number in (0..UIDS).cycle() {
            if calls.is_finished() {
                break;
            }
            match kind {
                Kind::Task => drop(thread::spawn(|| ()).join()),
                Kind::Cgroup => {
                    cgroups.swap(0, 1);
                    fs::create_dir(&cgroups[0])?;
                    enter(&cgroups[0])?;
                    remove(&cgroups[1])?;
                }
                Kind::Cred => set_uid(FIRST_UID + number)?,
                // Closes the one that was open there.
                Kind::File => drop(open_file()?),
                Kind::Mm => {
                    Command::new("/proc/self/exe").arg(EXIT).status()?;
                }
            }
        }
        let called = calls
            .join()
            .unwrap_or_else(|_| failed("a thread has panicked"));
        if kind == Kind::Cgroup {
            set_uid(FIRST_UID + UIDS)?;
            enter(parent.0.parent().unwrap_or(Path::new("/")))?;
            remove(&cgroups[0])?;
        }
        called
    })?;
    child.wait()
}

/// The real one, of this thread only: enough for credentials of its own, and it stays root.
fn set_uid(uid: u32) -> Outcome {
    // SAFETY: Takes numbers.
    if unsafe { libc::syscall(libc::SYS_setresuid, uid, 0, 0) } != 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(())
}

/// The kernel does it with credentials that it makes for this, as the real user is not root.
pub fn access() {
    // SAFETY: A terminated string.
    unsafe { libc::access(c"/".as_ptr(), libc::R_OK) };
}

fn brk(address: u64) -> u64 {
    // SAFETY: The heap only grows, and by what the allocator has not asked for.
    unsafe { libc::syscall(libc::SYS_brk, address) as u64 }
}

fn open_file() -> Outcome<u64> {
    // SAFETY: A terminated string.
    let fd = unsafe { libc::memfd_create(c"kptr_defer_test".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error().into());
    }
    // SAFETY: It was just opened, and nobody else knows it.
    let file = unsafe { fs::File::from_raw_fd(fd) };
    // SAFETY: Nothing else uses that descriptor.
    if unsafe { libc::dup3(file.as_raw_fd(), FD, libc::O_CLOEXEC) } != FD {
        return Err(io::Error::last_os_error().into());
    }
    Ok(file.metadata()?.ino())
}

fn close_file() -> Outcome {
    // SAFETY: Nothing else uses that descriptor.
    if unsafe { libc::close(FD) } != 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(())
}

/// With all threads.
fn enter(cgroup: &Path) -> Outcome {
    Ok(fs::write(cgroup.join("cgroup.procs"), "0")?)
}

/// As soon as the last task that was in there is gone.
fn remove(cgroup: &Path) -> Outcome {
    eventually("the cgroup is empty", || match fs::remove_dir(cgroup) {
        Err(err) if err.kind() == io::ErrorKind::ResourceBusy => Ok(false),
        result => Ok(result.map(|()| true)?),
    })
}

/// Tasks that wait and as many empty cgroups, until they end.
pub struct Objects {
    tasks: Vec<Waiting>,
    cgroups: Vec<PathBuf>,
    parent: Parent,
}

impl Objects {
    pub fn new(count: u64) -> Outcome<Objects> {
        Objects::in_parent(Parent::new()?, count)
    }

    /// The cgroups are memory cgroups, too.
    pub fn with_memory(count: u64) -> Outcome<Objects> {
        let parent = Parent::new()?;
        parent.enable_memory()?;
        Objects::in_parent(parent, count)
    }

    fn in_parent(parent: Parent, count: u64) -> Outcome<Objects> {
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

    pub fn id(&self) -> Outcome<u64> {
        Ok(fs::metadata(&self.0)?.ino())
    }

    fn enable_memory(&self) -> Outcome {
        for folder in [self.0.parent(), Some(&*self.0)].into_iter().flatten() {
            fs::write(folder.join("cgroup.subtree_control"), "+memory")?;
        }
        Ok(())
    }

    /// Runs `task` where the kernel gives no more than `bytes` for what is accounted for.
    pub fn with_little_memory<T>(bytes: u64, task: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let parent = Parent::new()?;
        parent.enable_memory()?;
        let cgroup = parent.0.join("little_memory");
        let found_in = fs::read_to_string("/proc/self/cgroup")?;
        let found_in = found_in.lines().find_map(|line| line.strip_prefix("0::/"));
        let found_in = parent.0.with_file_name(found_in.unwrap_or_default());
        fs::create_dir(&cgroup)?;
        fs::write(cgroup.join("memory.max"), bytes.to_string())?;
        fs::write(cgroup.join("cgroup.procs"), "0")?;
        let result = task();
        fs::write(found_in.join("cgroup.procs"), "0")?;
        fs::remove_dir(cgroup)?;
        result
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
