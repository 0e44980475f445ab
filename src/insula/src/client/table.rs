//! Tables for people: aligned with spaces, three between columns, readable without colour.

use std::fmt::{self, Write};

/// Rows of cells under a heading.
#[derive(Debug)]
pub(crate) struct Table<const COLUMNS: usize> {
    heading: [&'static str; COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(crate) fn new(heading: [&'static str; COLUMNS]) -> Self {
        Self {
            heading,
            rows: Vec::new(),
        }
    }

    /// Adds a row. Control characters are shown escaped: cells come from images and labels.
    pub(crate) fn row(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells.map(|cell| {
            if cell.chars().any(char::is_control) {
                cell.escape_debug().to_string()
            } else {
                cell
            }
        }));
    }
}

impl<const COLUMNS: usize> fmt::Display for Table<COLUMNS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = self.heading.map(str::len);
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut line = |cells: &[&str; COLUMNS]| {
            let mut text = String::new();
            for (cell, width) in cells.iter().zip(widths) {
                write!(text, "{cell:width$}   ")?;
            }
            writeln!(f, "{}", text.trim_end())
        };
        line(&self.heading)?;
        for row in &self.rows {
            line(&row.each_ref().map(String::as_str))?;
        }
        Ok(())
    }
}

/// The first twelve characters of an id, which is what people see and type.
pub(crate) fn short_id(id: &str) -> String {
    id.strip_prefix("sha256:")
        .unwrap_or(id)
        .chars()
        .take(12)
        .collect()
}

/// Bytes with a unit of 1024: `117 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scaled = count;
    let mut rest = 0;
    while scaled >= 1024 && unit < UNITS.len() - 1 {
        rest = scaled % 1024;
        scaled /= 1024;
        unit += 1;
    }
    if unit == 0 || scaled >= 100 {
        format!("{scaled} {}", UNITS[unit])
    } else {
        format!("{scaled}.{} {}", rest * 10 / 1024, UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(["NAME", "STATE", "IP"]);
        table.row(["redis".into(), "Running".into(), "10.0.0.2".into()]);
        table.row(["r\u{e9}".into(), "Exited (1)".into(), String::new()]);
        table.row(["x\u{1b}[31m".into(), String::new(), "-".into()]);
        assert_eq!(
            table.to_string(),
            "NAME          STATE        IP\n\
             redis         Running      10.0.0.2\n\
             r\u{e9}            Exited (1)\n\
             x\\u{1b}[31m                -\n"
        );
        assert_eq!(Table::new(["NAME", "IP"]).to_string(), "NAME   IP\n");
    }

    #[test]
    fn ids_and_sizes() {
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("abc"), "abc");
        for (count, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (123_000_000, "117 MiB"),
            (12_300_000, "11.7 MiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(bytes(count), want);
        }
    }
}
