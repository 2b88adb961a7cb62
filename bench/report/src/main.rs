// SPDX-License-Identifier: GPL-2.0

//! Holds what the benchmark has measured against its aims, and writes it down.
//!
//! `bench_report <measured> <document> <into>` reads the lines `bench: name=<…> …` of the file
//! `measured`, and writes `document` into the folder `into`, with new tables between its markers, and
//! the plots that it shows. Fails when a figure is missing, or misses its aim.

mod document;
mod figures;
mod measured;
mod plots;
mod tables;

use measured::Measured;
use std::{
    env,
    fs,
    path::Path,
    process::ExitCode, //
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            eprintln!("bench: {err}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let [measured, document, into] = env::args()
        .skip(1)
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "usage: bench_report <measured> <document> <folder to write to>")?;
    let measured = Measured::parse(&fs::read_to_string(measured)?)?;
    let complaints = figures::complaints(&measured);
    for complaint in &complaints {
        eprintln!("bench: {complaint}");
    }

    let document = Path::new(&document);
    let name = document.file_name().ok_or("the document has no name")?;
    let stem = document.file_stem().ok_or("the document has no name")?;
    let into = Path::new(&into);
    let plots = into.join(stem);
    fs::create_dir_all(&plots)?;
    plots::draw(&measured, &plots)?;
    let text = document::filled(&fs::read_to_string(document)?, &measured)?;
    fs::write(into.join(name), text)?;
    Ok(complaints.is_empty())
}
