// SPDX-License-Identifier: GPL-2.0

//! Programs that are run, and what they say.

use crate::{
    ensure,
    Result, //
};
use rustix::{
    process::{
        kill_process,
        Pid,
        Signal, //
    },
    thread::{
        set_thread_uid,
        Uid, //
    },
};
use std::{
    ffi::OsStr,
    fmt,
    io::{
        BufRead,
        BufReader,
        Read, //
    },
    path::Path,
    process::{
        Child,
        ChildStdout,
        Command,
        ExitStatus,
        Stdio, //
    },
    thread,
    time::{
        Duration,
        Instant, //
    },
};

const PATIENCE: Duration = Duration::from_secs(120);

/// What `look` finds, as soon as it does.
pub(crate) fn wait_for<T>(mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(found) = look()? {
            return Ok(found);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(format!("not within {PATIENCE:?}").into())
}

/// A program that is to be run.
pub(crate) struct Program {
    pub(crate) command: Command,
    is_by_nobody: bool,
}

impl Program {
    pub(crate) fn new(path: &Path, args: &str) -> Program {
        let mut command = Command::new(path);
        command.args(args.split_whitespace()).stdin(Stdio::null());
        Program {
            command,
            is_by_nobody: false,
        }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Program {
        self.command.arg(arg);
        self
    }

    /// As a user who may nothing.
    pub(crate) fn by_nobody(mut self) -> Program {
        self.is_by_nobody = true;
        self
    }

    fn spawn(&mut self) -> Result<Child> {
        let command = &mut self.command;
        if !self.is_by_nobody {
            return Ok(command.spawn()?);
        }
        // `CommandExt::uid()` takes sockets, which not every kernel has.
        thread::scope(|scope| {
            let spawned = scope.spawn(|| {
                set_thread_uid(Uid::from_raw(65534))?;
                command.spawn()
            });
            Ok(spawned.join().map_err(|_| "the thread panicked")??)
        })
    }

    /// All that it says, once it has ended.
    pub(crate) fn output(self) -> Result<Said> {
        Running::start(self)?.end()
    }
}

/// What a program has said, and how it ended.
pub(crate) struct Said {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Said {
            status,
            stdout,
            stderr,
        } = self;
        write!(f, "{status}\nstdout:\n{stdout}\nstderr:\n{stderr}")
    }
}

pub(crate) fn ended_with(code: i32, said: &Said) -> Result {
    ensure!(said.status.code() == Some(code), "not {code}: {said}");
    Ok(())
}

/// A process that is killed if its end is not awaited.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn signal(&self, signal: Signal) -> Result {
        Ok(kill_process(Pid::from_child(&self.0), signal)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that runs, and is listened to.
pub(crate) struct Running {
    pub(crate) process: Process,
    stdout: Option<BufReader<ChildStdout>>,
    read: String,
}

impl Running {
    pub(crate) fn start(mut program: Program) -> Result<Running> {
        program
            .command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = program
            .spawn()
            .map_err(|err| format!("{:?}: {err}", program.command))?;
        Ok(Running {
            stdout: child.stdout.take().map(BufReader::new),
            process: Process(child),
            read: String::new(),
        })
    }

    /// The next line that it says.
    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let stdout = self.stdout.as_mut().ok_or("the pipe is closed")?;
        if stdout.read_line(&mut line)? == 0 {
            return Err("it has ended".into());
        }
        self.read.push_str(&line);
        Ok(line)
    }

    pub(crate) fn close_pipe(&mut self) {
        self.stdout = None;
    }

    /// What it has said in all, once it has ended.
    pub(crate) fn end(mut self) -> Result<Said> {
        let mut stdout = std::mem::take(&mut self.read);
        if let Some(mut pipe) = self.stdout.take() {
            pipe.read_to_string(&mut stdout)?;
        }
        let mut stderr = String::new();
        if let Some(mut pipe) = self.process.0.stderr.take() {
            pipe.read_to_string(&mut stderr)?;
        }
        let status = self.process.0.wait()?;
        Ok(Said {
            status,
            stdout,
            stderr,
        })
    }
}
