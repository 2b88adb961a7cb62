// SPDX-License-Identifier: GPL-2.0

//! What the benchmark has printed.

use crate::Result;
use std::collections::BTreeMap;

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) value: f64,
    /// The floor, or the rival.
    pub(crate) floor: f64,
    pub(crate) unit: String,
}

impl Figure {
    pub(crate) fn ratio(&self) -> f64 {
        self.value / self.floor
    }
}

#[derive(Default)]
pub(crate) struct Measured {
    figures: BTreeMap<String, Figure>,
    /// What cannot be measured on this kernel, and why.
    skipped: BTreeMap<String, String>,
}

impl Measured {
    pub(crate) fn parse(lines: &str) -> Result<Self> {
        let mut measured = Self::default();
        for line in lines.lines() {
            let Some(line) = line.strip_prefix("bench: ") else {
                continue;
            };
            measured.add(line).map_err(|err| format!("{err}: {line}"))?;
        }
        Ok(measured)
    }

    fn add(&mut self, line: &str) -> Result<()> {
        if let Some(skipped) = line.strip_prefix("skipped=") {
            let (name, why) = skipped.split_once(" why=").ok_or("no reason")?;
            self.skipped.insert(name.to_owned(), why.to_owned());
            return Ok(());
        }
        let fields = line
            .split(' ')
            .filter_map(|field| field.split_once('='))
            .collect::<BTreeMap<_, _>>();
        let field = |name| fields.get(name).copied().ok_or(format!("no {name}="));
        let figure = Figure {
            value: field("value")?.parse()?,
            floor: field("floor")?.parse()?,
            unit: field("unit")?.to_owned(),
        };
        field("ratio")?.parse::<f64>()?;
        match self.figures.insert(field("name")?.to_owned(), figure) {
            None => Ok(()),
            Some(_) => Err("measured twice".into()),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Figure> {
        self.figures.get(name)
    }

    pub(crate) fn why_skipped(&self, name: &str) -> Option<&str> {
        self.skipped.get(name).map(String::as_str)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.figures.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::Measured;

    #[test]
    fn lines() {
        let line = "bench: name=x value=3.0 floor=2.0 ratio=1.50 unit=instructions";
        let measured = Measured::parse(&format!("  BOOT Linux\n{line}\n")).unwrap();
        assert_eq!(measured.get("x").unwrap().ratio(), 1.5);
        assert!(measured.get("y").is_none());
        assert!(Measured::parse("bench: name=x value=3.0 floor=2.0 unit=n").is_err());
        assert!(Measured::parse(&format!("{line}\n{line}")).is_err());
    }
}
