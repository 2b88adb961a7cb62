// SPDX-License-Identifier: GPL-2.0

//! A program on a terminal of its own, and what is to be seen there.

use crate::{
    ensure,
    program::{
        wait_for,
        Process,
        Program, //
    },
    Result, Skipped,
};
use rustix::{
    process::Signal,
    pty::{
        ioctl_tiocgptpeer,
        openpt,
        unlockpt,
        OpenptFlags, //
    },
    termios::{
        tcgetattr,
        tcsetwinsize,
        Winsize, //
    },
};
use std::{
    fs::File,
    io::{
        Read,
        Write, //
    },
    os::{
        fd::OwnedFd,
        unix::net::UnixStream, //
    },
    sync::{
        Arc,
        Mutex, //
    },
    thread::{
        self,
        JoinHandle, //
    },
};

fn set_size(line: &OwnedFd, rows: u16, columns: u16) -> Result {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(line, size)?)
}

fn settings(line: &OwnedFd) -> Result<String> {
    Ok(format!("{:?}", tcgetattr(line)?))
}

pub(crate) struct OnTerminal {
    pub(crate) process: Process,
    keyboard: File,
    /// The side of the program.
    line: OwnedFd,
    before: String,
    screen: Arc<Mutex<vt100::Parser>>,
    reader: JoinHandle<()>,
}

impl OnTerminal {
    pub(crate) fn start(mut program: Program, rows: u16, columns: u16) -> Result<OnTerminal> {
        if UnixStream::pair().is_err() {
            return Err(Skipped("the view takes sockets, which this kernel does not have").into());
        }
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = openpt(flags)?;
        unlockpt(&terminal)?;
        let line = ioctl_tiocgptpeer(&terminal, flags)?;
        set_size(&line, rows, columns)?;
        let before = settings(&line)?;
        let child = program
            .command
            .env("TERM", "xterm")
            .stdin(line.try_clone()?)
            .stdout(line.try_clone()?)
            .stderr(line.try_clone()?)
            .spawn()?;
        // With the program's ends of the line.
        drop(program);
        let keyboard = File::from(terminal);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let reader = thread::spawn({
            let (mut output, screen) = (keyboard.try_clone()?, screen.clone());
            move || {
                let mut bytes = [0; 4096];
                // An error when nobody has the other side any more.
                while let Ok(n @ 1..) = output.read(&mut bytes) {
                    screen.lock().unwrap().process(&bytes[..n]);
                }
            }
        });
        Ok(OnTerminal {
            process: Process(child),
            keyboard,
            line,
            before,
            screen,
            reader,
        })
    }

    fn lines(&self) -> Vec<String> {
        let parser = self.screen.lock().unwrap();
        let columns = parser.screen().size().1;
        parser.screen().rows(0, columns).collect()
    }

    /// What is to be seen, as soon as that is as wanted.
    pub(crate) fn shows(&mut self, wanted: impl Fn(&[String]) -> bool) -> Result<Vec<String>> {
        wait_for(|| {
            let lines = self.lines();
            if let Some(status) = self.process.0.try_wait()? {
                return Err(format!("it has ended: {status}").into());
            }
            Ok(wanted(&lines).then_some(lines))
        })
        .map_err(|err| format!("{err}: {:#?}", self.lines()).into())
    }

    pub(crate) fn has_taken_the_terminal(&self) -> bool {
        let parser = self.screen.lock().unwrap();
        parser.screen().alternate_screen()
            && parser.screen().hide_cursor()
            && settings(&self.line).is_ok_and(|now| now != self.before)
    }

    pub(crate) fn types(&mut self, keys: &[u8]) -> Result {
        Ok(self.keyboard.write_all(keys)?)
    }

    /// Gives the terminal another size.
    pub(crate) fn resize(&self, rows: u16, columns: u16) -> Result {
        self.screen
            .lock()
            .unwrap()
            .screen_mut()
            .set_size(rows, columns);
        set_size(&self.line, rows, columns)?;
        // It is not the program's controlling terminal.
        self.process.signal(Signal::WINCH)
    }

    /// That it ends so, says that last, and leaves the terminal as it was.
    pub(crate) fn ends_with(mut self, code: i32, words: &str) -> Result {
        let status = self.process.0.wait()?;
        let after = settings(&self.line)?;
        drop(self.line);
        self.reader.join().map_err(|_| "the reader panicked")?;

        let parser = self.screen.lock().unwrap();
        let screen = parser.screen();
        let shown = screen.contents();
        ensure!(status.code() == Some(code), "{status}, not {code}: {shown}");
        ensure!(
            !screen.alternate_screen() && !screen.hide_cursor(),
            "the terminal is still the view's: {shown}"
        );
        ensure!(
            after == self.before,
            "{after}, not as before: {}",
            self.before
        );
        let last = shown.lines().last().unwrap_or("");
        ensure!(
            last.ends_with(words),
            "\"{words}\" is not the end of: {shown}"
        );
        Ok(())
    }
}
