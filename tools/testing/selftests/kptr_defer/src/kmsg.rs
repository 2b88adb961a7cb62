// SPDX-License-Identifier: GPL-2.0

//! The kernel log, from a moment on.

use std::{
    fs::{
        File,
        OpenOptions, //
    },
    io::{
        self,
        ErrorKind,
        Read,
        Seek,
        SeekFrom, //
    },
    os::unix::fs::OpenOptionsExt,
};

pub struct Kmsg(File);

impl Kmsg {
    pub fn from_now_on() -> io::Result<Kmsg> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")?;
        file.seek(SeekFrom::End(0))?;
        Ok(Kmsg(file))
    }

    /// The messages since then, or since the last call.
    pub fn read(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        let mut record = [0; 8192];
        loop {
            match self.0.read(&mut record) {
                Ok(length) => {
                    let record = String::from_utf8_lossy(&record[..length]);
                    // "<level>,<number>,<time>,<flags>;<message>\n", then lines of details.
                    let message = record.split_once(';').map_or("", |(_, message)| message);
                    lines.push(message.lines().next().unwrap_or("").to_string());
                }
                Err(err) if err.kind() == ErrorKind::WouldBlock => return Ok(lines),
                // EPIPE: some were overwritten before they could be read.
                Err(err) if err.kind() == ErrorKind::BrokenPipe => (),
                Err(err) => return Err(err),
            }
        }
    }
}
