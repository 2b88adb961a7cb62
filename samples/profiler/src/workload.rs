// SPDX-License-Identifier: GPL-2.0

//! Processes and threads that come and go, so that there is something to sample whose last
//! reference the profiler holds.
//!
//! The profiler executes itself under the names of commands, as links to it in a folder. The shells
//! have no threads and may fork; what they fork takes a name, does a little of what a command of
//! that name would do, and exits.

use crate::Result;
use std::{
    env,
    ffi::CStr,
    fmt,
    fs::{
        self,
        File, //
    },
    hint::black_box,
    io::Write,
    os::unix::{
        fs::symlink,
        process::CommandExt, //
    },
    path::{
        Path,
        PathBuf, //
    },
    process::{
        Child,
        Command,
        Stdio, //
    },
    thread,
    time::Duration,
};

const SHELL: &str = "sh";
const COMPILER: &str = "cc";

/// The running workload; it ends when this is dropped.
pub(crate) struct Workload {
    shells: Vec<Child>,
    links: PathBuf,
}

impl Workload {
    pub(crate) fn start() -> Result<Workload> {
        let mut workload = Workload {
            shells: Vec::new(),
            links: env::temp_dir().join(format!("profiler-workload-{}", std::process::id())),
        };
        fs::create_dir(&workload.links)?;
        for name in [SHELL, COMPILER] {
            symlink(env::current_exe()?, workload.links.join(name))?;
        }
        for _ in 0..=thread::available_parallelism()?.get() {
            // A group of its own, to be ended with all that it has forked.
            let shell = Command::new(workload.links.join(SHELL))
                .current_dir(&workload.links)
                .process_group(0)
                .stdin(Stdio::null())
                .spawn()?;
            workload.shells.push(shell);
        }
        Ok(workload)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} shells that fork, execute and exit",
            self.shells.len()
        )
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        for shell in &mut self.shells {
            // SAFETY: Takes numbers only; the group exists until its leader is waited for.
            unsafe { libc::kill(-(shell.id() as libc::pid_t), libc::SIGKILL) };
            let _ = shell.wait();
        }
        let _ = fs::remove_dir_all(&self.links);
    }
}

/// Is a part of the workload, and does not return, if the program was executed under such a name.
pub(crate) fn be_part() {
    let path = env::args_os().next().map(PathBuf::from);
    match path.as_deref().and_then(Path::file_name) {
        Some(name) if name == SHELL => shell(),
        Some(name) if name == COMPILER => {
            allocate(64);
            std::process::exit(0)
        }
        _ => (),
    }
}

fn shell() -> ! {
    // SAFETY: Takes numbers only. Should the profiler die, so does this.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    for turn in 0.. {
        run(c"cat", || {
            let _ = fs::read("/proc/self/status");
        });
        run(c"ls", || {
            let _ = fs::read_dir("/proc/self/fd").map(Iterator::count);
        });
        run(c"ld", || allocate(16));
        run(c"logger", || {
            let _ = File::options()
                .write(true)
                .open("/dev/null")
                .and_then(|mut null| null.write_all(b"."));
        });
        run(c"server", || {
            thread::scope(|scope| {
                for _ in 0..16 {
                    scope.spawn(|| {
                        take_name(c"worker");
                        let _ = fs::metadata("/proc/self");
                    });
                }
            });
        });
        if turn % 4 == 0 {
            run(c"make", || {
                // In the folder of the links.
                let _ = Command::new(Path::new(".").join(COMPILER)).exec();
            });
        }
    }
    unreachable!("the loop has no end but a signal")
}

/// Runs `body` in a child of that name, and waits for it.
fn run(name: &CStr, body: impl FnOnce()) {
    // SAFETY: A shell has one thread, so that the child finds every lock as it should be.
    match unsafe { libc::fork() } {
        0 => {
            take_name(name);
            body();
            // SAFETY: Ends the process without the parent's exit handlers.
            unsafe { libc::_exit(0) }
        }
        -1 => thread::sleep(Duration::from_millis(10)),
        child => {
            // SAFETY: Waits for that child; a null status is not written to.
            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        }
    }
}

fn take_name(name: &CStr) {
    // SAFETY: The name is a string that ends in zero.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Touches so many pages of new memory.
fn allocate(pages: usize) {
    let mut memory = vec![0u8; pages * 4096];
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
    }
    black_box(memory);
}
