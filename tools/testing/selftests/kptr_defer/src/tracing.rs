// SPDX-License-Identifier: GPL-2.0

//! The kernel's tracing, in an instance of its own.

use crate::ktap::Outcome;
use std::{
    fs,
    path::PathBuf, //
};

pub struct Tracing(PathBuf);

impl Tracing {
    pub fn new() -> Outcome<Tracing> {
        let instance = PathBuf::from("/sys/kernel/tracing/instances/kptr_defer_test");
        fs::create_dir(&instance)?;
        Ok(Tracing(instance))
    }

    pub fn set(&self, file: &str, text: &str) -> Outcome {
        Ok(fs::write(self.0.join(file), text)?)
    }

    /// How many lines of the trace contain all these words.
    pub fn lines_with(&self, words: &[&str]) -> Outcome<u64> {
        let trace = fs::read_to_string(self.0.join("trace"))?;
        let lines = trace
            .lines()
            .filter(|line| words.iter().all(|word| line.contains(word)));
        Ok(lines.count() as u64)
    }

    /// What stands behind this word in all lines of this event together.
    pub fn sum(&self, event: &str, word: &str) -> Outcome<u64> {
        let trace = fs::read_to_string(self.0.join("trace"))?;
        let number = |line: &str| -> Option<u64> {
            let (_, event) = line.split_once(&format!(": {event} "))?;
            let (_, number) = event.split_once(word)?;
            number.split(' ').next()?.parse().ok()
        };
        Ok(trace.lines().filter_map(number).sum())
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
