// SPDX-License-Identifier: GPL-2.0

//! Memory that nobody knows any more. Of all that was allocated since the tests began kmemleak finds
//! objects that are planted, and no others.

use crate::{
    check,
    ktap::{
        failed,
        note,
        Outcome,
        Test, //
    },
    module::{
        debugfs,
        eventually,
        KptrDefer,
        Loaded, //
    },
    nmi::end_of_ipis,
};
use std::{
    fs,
    io::ErrorKind,
    thread::sleep,
    time::Duration, //
};

const PLANT: &str = "kptr_defer_test_plant";

/// Younger objects are not reported.
const MIN_AGE: Duration = Duration::from_secs(5);

pub fn tests() -> Vec<Test> {
    if !debugfs("kmemleak").exists() {
        return Vec::new();
    }
    let since = jiffies();
    vec![Test::new(
        "leaks: none since the tests began but planted ones, NMI IPI",
        move || none_but_planted(since?),
    )]
}

fn jiffies() -> Outcome<u64> {
    match number_after("\njiffies: ", &fs::read_to_string("/proc/timer_list")?) {
        Some(jiffies) => Ok(jiffies),
        None => failed("/proc/timer_list has no jiffies"),
    }
}

fn number_after(word: &str, text: &str) -> Option<u64> {
    text.split_once(word)?.1.lines().next()?.trim().parse().ok()
}

fn unreferenced(since: u64) -> Outcome<Vec<String>> {
    // An object that has changed since the last time is not reported either.
    for _ in 0..2 {
        match fs::write(debugfs("kmemleak"), "scan") {
            Err(err) if err.kind() == ErrorKind::PermissionDenied => {
                return failed("kmemleak has turned itself off");
            }
            scanned => scanned?,
        }
    }
    let text = fs::read_to_string(debugfs("kmemleak"))?;
    Ok(text
        .split("unreferenced object ")
        .filter(|report| number_after(", jiffies ", report).is_some_and(|jiffies| jiffies >= since))
        .map(str::to_string)
        .collect())
}

fn none_but_planted(since: u64) -> Outcome {
    end_of_ipis()?;
    let module = KptrDefer::load("")?;
    let plant = Loaded::new(PLANT, "what=leak planted=1")?;
    sleep(MIN_AGE + Duration::from_secs(1));
    let (mut planted, mut others) = (Vec::new(), Vec::new());
    // A scan may miss what is just being moved; what is lost stays lost.
    let only_planted = eventually("nothing but what was planted is unreferenced", || {
        (planted, others) = unreferenced(since)?
            .into_iter()
            .partition(|report| report.contains("  planted."));
        Ok(others.is_empty() && !planted.is_empty())
    });
    note(format!("{} planted ones found", planted.len()));
    note(planted.first().cloned().unwrap_or_default());
    check!(others.is_empty(), "unreferenced: {}", others.concat());
    check!(!planted.is_empty(), "none of the planted ones was found");
    only_planted?;
    plant.unload()?;
    module.unload()
}
