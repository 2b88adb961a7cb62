// SPDX-License-Identifier: GPL-2.0

//! Whether the figures are there, and meet their aims.

use crate::{
    measured::{
        Figure,
        Measured, //
    },
    tables::TABLES,
};
use std::fmt;

/// What is to be reached.
#[derive(Clone, Copy)]
pub(crate) enum Aim {
    /// At most so many times the floor.
    Times(f64),
    /// At most so much more than the floor.
    More(f64),
    /// At most that.
    Limit(f64),
    /// That, and the floor too.
    Exactly(f64),
    /// Nothing: it is told as it is.
    None,
}

impl Aim {
    fn is_met(self, figure: &Figure) -> bool {
        match self {
            Aim::Times(times) => figure.ratio() <= times,
            Aim::More(more) => figure.value <= figure.floor + more,
            Aim::Limit(most) => figure.value <= most,
            Aim::Exactly(value) => figure.value == value && figure.floor == value,
            Aim::None => true,
        }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Aim::Times(times) => write!(f, "≤ {times} times"),
            Aim::More(more) => write!(f, "≤ {more} more"),
            Aim::Limit(most) => write!(f, "≤ {most}"),
            Aim::Exactly(value) => write!(f, "{value}"),
            Aim::None => f.write_str("–"),
        }
    }
}

/// A figure that has to be measured.
pub(crate) struct Aimed {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) floor: &'static str,
    pub(crate) aim: Aim,
}

pub(crate) fn all() -> impl Iterator<Item = &'static Aimed> {
    TABLES.iter().flat_map(|table| table.figures)
}

/// What is wrong with what has been measured.
pub(crate) fn complaints(measured: &Measured) -> Vec<String> {
    let mut complaints = Vec::new();
    for aimed in all() {
        match measured.get(aimed.name) {
            Some(figure) if aimed.aim.is_met(figure) => (),
            Some(figure) => complaints.push(format!(
                "{} misses its aim, {}: value={:.1} floor={:.1} ratio={:.2} unit={}",
                aimed.name,
                aimed.aim,
                figure.value,
                figure.floor,
                figure.ratio(),
                figure.unit
            )),
            None if measured.why_skipped(aimed.name).is_some() => (),
            None => complaints.push(format!("{} was not measured", aimed.name)),
        }
    }
    for name in measured.names() {
        if all().all(|aimed| aimed.name != name) {
            complaints.push(format!(
                "{name} is in no table (bench/report/src/tables.rs)"
            ));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::{
        all,
        complaints,
        Aim, //
    };
    use crate::measured::{
        Figure,
        Measured, //
    };

    fn met(aim: Aim, value: f64, floor: f64) -> bool {
        let unit = String::new();
        aim.is_met(&Figure { value, floor, unit })
    }

    #[test]
    fn aims() {
        assert!(met(Aim::Times(1.2), 12.0, 10.0) && !met(Aim::Times(1.2), 12.1, 10.0));
        assert!(met(Aim::More(5.0), 15.0, 10.0) && !met(Aim::More(5.0), 16.0, 10.0));
        assert!(met(Aim::Limit(16.0), 16.0, 24.0) && !met(Aim::Limit(16.0), 17.0, 24.0));
        assert!(met(Aim::Exactly(1.0), 1.0, 1.0) && !met(Aim::Exactly(1.0), 2.0, 2.0));
        assert!(met(Aim::None, 100.0, 1.0));
    }

    #[test]
    fn a_figure_that_is_missing_fails() {
        assert_eq!(complaints(&Measured::default()).len(), all().count());
    }
}
