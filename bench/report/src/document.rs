// SPDX-License-Identifier: GPL-2.0

//! The document: its tables are between markers, `<!-- table <name> -->` and `<!-- end of table -->`.

use crate::{
    figures::Aimed,
    measured::Measured,
    tables::TABLES,
    Result, //
};
use std::fmt::Write as _;

const END: &str = "<!-- end of table -->\n";

/// The document with new tables.
pub(crate) fn filled(document: &str, measured: &Measured) -> Result<String> {
    let mut document = document.to_owned();
    for table in TABLES {
        let begin = format!("<!-- table {} -->\n", table.name);
        let (before, rest) = document
            .split_once(&begin)
            .ok_or_else(|| format!("the document has no {}", begin.trim_end()))?;
        let (_, after) = rest.split_once(END).ok_or("a table has no end")?;
        let mut rows = String::from(
            "| | measured | floor | | times | aim |\n| --- | --- | --- | --- | --- | --- |\n",
        );
        for figure in table.figures {
            row(&mut rows, figure, measured)?;
        }
        document = format!("{before}{begin}{rows}{END}{after}");
    }
    Ok(document)
}

fn row(rows: &mut String, aimed: &Aimed, measured: &Measured) -> Result<()> {
    let Aimed {
        what, floor, aim, ..
    } = aimed;
    match measured.get(aimed.name) {
        Some(figure) => writeln!(
            rows,
            "| {what} | {} {} | {floor} | {} | {:.2} | {aim} |",
            number(figure.value),
            figure.unit,
            number(figure.floor),
            figure.ratio(),
        )?,
        None => {
            let why = measured.why_skipped(aimed.name).unwrap_or("not measured");
            writeln!(rows, "| {what} | {why} | {floor} | | | {aim} |")?;
        }
    }
    Ok(())
}

/// As many digits as mean something.
fn number(value: f64) -> String {
    if value >= 1e6 {
        return format!("{:.1} million", value / 1e6);
    }
    match value {
        value if value >= 1000.0 || value == value.round() => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        filled,
        END,
        TABLES, //
    };
    use crate::measured::Measured;

    #[test]
    fn old_tables_are_replaced() {
        let mut empty = String::new();
        for table in TABLES {
            empty += &format!("text\n<!-- table {} -->\nold\n{END}", table.name);
        }
        let once = filled(&empty, &Measured::default()).unwrap();
        assert!(!once.contains("old") && once.contains("text"));
        assert_eq!(filled(&once, &Measured::default()).unwrap(), once);
        assert!(filled("text", &Measured::default()).is_err());
    }
}
