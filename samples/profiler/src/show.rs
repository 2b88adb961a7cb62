// SPDX-License-Identifier: GPL-2.0

//! The three ways to show what is going on: a view on a terminal, lines, JSON.

use crate::{
    options::Options,
    sampling::Source,
    snapshot::{
        Snapshot,
        Summary, //
    },
    stop::Stop,
    view::View,
    workload::Workload,
    Result,
};
use serde::Serialize;
use std::{
    io::{
        self,
        Write, //
    },
    time::Instant,
};

pub(crate) enum Show {
    View(View),
    Lines,
    Json,
}

/// A line of JSON.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Record<'a> {
    Progress(&'a Snapshot),
    Summary(&'a Summary),
}

impl Show {
    pub(crate) fn begin(
        options: &Options,
        source: &Source,
        workload: Option<&Workload>,
    ) -> Result<Show> {
        if options.json {
            if let Some(note) = &source.note {
                eprintln!("profiler: {note}");
            }
            return Ok(Show::Json);
        }
        if View::is_possible() {
            let view = View::open(source.to_string(), source.note.clone(), options.duration)?;
            return Ok(Show::View(view));
        }
        let mut out = io::stdout().lock();
        if let Some(note) = &source.note {
            writeln!(out, "{note}")?;
        }
        writeln!(out, "sampling {source}")?;
        if let Some(workload) = workload {
            writeln!(out, "workload: {workload}")?;
        }
        Ok(Show::Lines)
    }

    /// How many commands a snapshot is to have.
    pub(crate) fn top(&self, options: &Options) -> usize {
        match self {
            Show::View(_) => options.top_of(View::room()),
            Show::Lines => 0,
            Show::Json => options.top(),
        }
    }

    pub(crate) fn wait_until(&mut self, then: Instant, stop: &Stop) -> Result<()> {
        match self {
            Show::View(view) => view.wait_until(then, stop)?,
            Show::Lines | Show::Json => stop.sleep_until(then),
        }
        Ok(())
    }

    pub(crate) fn progress(&mut self, snapshot: Snapshot) -> Result<()> {
        match self {
            Show::View(view) => view.update(snapshot)?,
            Show::Lines => writeln!(io::stdout(), "{snapshot}")?,
            Show::Json => json(&Record::Progress(&snapshot))?,
        }
        Ok(())
    }

    /// The end of the view, if it is one.
    pub(crate) fn close(self) -> Show {
        match self {
            Show::View(_) => Show::Lines,
            show => show,
        }
    }

    pub(crate) fn summary(&self, summary: &Summary) -> Result<()> {
        match self {
            Show::Json => json(&Record::Summary(summary))?,
            _ => writeln!(io::stdout(), "\n{summary}")?,
        }
        Ok(())
    }
}

fn json(record: &Record<'_>) -> Result<()> {
    writeln!(io::stdout(), "{}", serde_json::to_string(record)?)?;
    Ok(())
}
