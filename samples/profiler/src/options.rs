// SPDX-License-Identifier: GPL-2.0

//! The command line.

use std::{
    num::NonZero,
    time::Duration, //
};

pub(crate) const USAGE: &str = "\
usage: profiler [option...]

Samples what runs on all CPUs, in NMI, and shows how often it met which command
and what has become of the tasks that it met last: it holds them with handles of
the kernel module kptr_defer, also when they have exited.

It goes on until q or Ctrl-C, and ends with a summary. On a terminal it shows a
live view, elsewhere a line each second.

  --seconds N         end by itself after so long
  --source WHICH      what interrupts:
                      pmu         CPU cycles; not in most virtual machines
                      breakpoint  calls of a few kernel functions; x86 only
                      auto        pmu, else breakpoint (the default)
  --frequency HERTZ   of pmu: samples per second of a busy CPU (999)
  --top N             commands to show (12; in the view as many as fit)
  --json              a JSON object each second, {\"progress\": ...}, and one at
                      the end, {\"summary\": ...}; each on a line, counted from
                      the start
  --workload          let processes come and go meanwhile
  --at-least DROPS    do not end before so many references were given back in
                      NMI, and fail if that takes more than a minute longer
  --help              this

State of a task: R running, S sleeping, D waiting, I idle, T stopped, t traced,
P parked, Z zombie, exited.

It needs root, and the module: make && sudo insmod kptr_defer.ko

Exit status: 0; 1 if it could not run or a reference got lost; 2 for a wrong
option.";

/// How many commands are shown where there is no end to the lines.
const TOP: usize = 12;

/// What is to interrupt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Choice {
    Auto,
    Pmu,
    Breakpoint,
}

impl std::str::FromStr for Choice {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Choice, Self::Err> {
        match name {
            "auto" => Ok(Choice::Auto),
            "pmu" => Ok(Choice::Pmu),
            "breakpoint" => Ok(Choice::Breakpoint),
            _ => Err("it is one of auto, pmu and breakpoint"),
        }
    }
}

#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) duration: Option<Duration>,
    pub(crate) source: Choice,
    pub(crate) frequency: Option<u64>,
    top: Option<usize>,
    pub(crate) json: bool,
    pub(crate) workload: bool,
    pub(crate) at_least: u64,
    pub(crate) help: bool,
}

impl Options {
    pub(crate) fn from_args(mut args: lexopt::Parser) -> Result<Options, lexopt::Error> {
        use lexopt::prelude::*;

        let mut options = Options {
            duration: None,
            source: Choice::Auto,
            frequency: None,
            top: None,
            json: false,
            workload: false,
            at_least: 0,
            help: false,
        };
        while let Some(arg) = args.next()? {
            match arg {
                Long("seconds") => {
                    let seconds: NonZero<u32> = args.value()?.parse()?;
                    options.duration = Some(Duration::from_secs(seconds.get().into()));
                }
                Long("source") => options.source = args.value()?.parse()?,
                Long("frequency") => {
                    options.frequency = Some(args.value()?.parse::<NonZero<u64>>()?.get());
                }
                Long("top") => options.top = Some(args.value()?.parse()?),
                Long("json") => options.json = true,
                Long("workload") => options.workload = true,
                Long("at-least") => options.at_least = args.value()?.parse()?,
                Long("help") | Short('h') => options.help = true,
                _ => return Err(arg.unexpected()),
            }
        }
        if options.frequency.is_some() && options.source == Choice::Breakpoint {
            return Err(
                "--frequency is of no use with --source breakpoint: each call counts".into(),
            );
        }
        Ok(options)
    }

    /// How many commands are shown where there is no end to the lines.
    pub(crate) fn top(&self) -> usize {
        self.top.unwrap_or(TOP)
    }

    /// How many of them where there is room for so many.
    pub(crate) fn top_of(&self, room: usize) -> usize {
        self.top.map_or(room, |top| top.min(room))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &str) -> Result<Options, String> {
        let args = lexopt::Parser::from_args(args.split_whitespace());
        Options::from_args(args).map_err(|err| err.to_string())
    }

    #[test]
    fn all_options() {
        let options = parse("--seconds 3 --source pmu --frequency=99 --top 5 --json").unwrap();
        assert_eq!(options.duration, Some(Duration::from_secs(3)));
        assert_eq!((options.source, options.frequency), (Choice::Pmu, Some(99)));
        assert_eq!(
            (options.top(), options.top_of(3), options.top_of(9)),
            (5, 3, 5)
        );
        assert!(options.json && !options.workload && !options.help);
    }

    #[test]
    fn without_options() {
        let options = parse("").unwrap();
        assert_eq!((options.duration, options.source), (None, Choice::Auto));
        assert_eq!(
            (options.top(), options.top_of(3), options.top_of(40)),
            (12, 3, 40)
        );
    }

    #[test]
    fn wrong_options() {
        for (args, complaint) in [
            ("--seconds 0", "zero"),
            ("--seconds", "missing argument"),
            ("--source nmi", "one of auto, pmu and breakpoint"),
            ("--source breakpoint --frequency 9", "of no use"),
            ("--frequency fast", "invalid digit"),
            ("--loud", "invalid option '--loud'"),
            ("here", "unexpected argument"),
        ] {
            let said = parse(args).unwrap_err();
            assert!(said.contains(complaint), "{args}: {said}");
        }
    }

    /// A terminal has 80 columns at least.
    #[test]
    fn usage_fits_a_terminal() {
        for line in USAGE.lines() {
            assert!(line.len() <= 80, "{line}");
        }
    }
}
