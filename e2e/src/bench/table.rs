//! Lines of figures from several runs and runtimes, as one table.

use super::figure::Samples;
use super::rows::{Better, COUNTS, ROWS, Row};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The runtime that is measured; every other is a peer.
const OURS: &str = "insula";

/// All values and 99th percentiles of one runtime's row.
#[derive(Default)]
struct Cell {
    values: Vec<f64>,
    p99s: Vec<f64>,
}

/// Figures by runtime and row.
#[derive(Default)]
pub struct Table {
    cells: BTreeMap<(String, String), Cell>,
}

impl Table {
    /// Reads lines of figures; a line that is none is an error with its text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut table = Self::default();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let wrong = || format!("not a figure: {line}");
            let value: Value = serde_json::from_str(line).map_err(|_| wrong())?;
            let text = |key: &str| value[key].as_str().map(str::to_owned).ok_or_else(wrong);
            let cell = table.cells.entry((text("runtime")?, text("row")?));
            let cell = cell.or_default();
            cell.values.push(value["value"].as_f64().ok_or_else(wrong)?);
            cell.p99s.extend(value["p99"].as_f64());
        }
        Ok(table)
    }

    fn peers(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.cells.keys().map(|(name, _)| name.as_str()).collect();
        names.dedup();
        names.retain(|name| *name != OURS);
        names
    }

    /// The median over the runs, and that of the 99th percentiles.
    fn figure(&self, runtime: &str, row: &Row) -> Option<(f64, Option<f64>)> {
        let cell = self.cells.get(&(runtime.to_owned(), row.id.to_owned()))?;
        let middle = |values: &[f64]| Samples::new(values.to_vec()).map(|all| all.median());
        Some((middle(&cell.values)?, middle(&cell.p99s)))
    }

    /// The table for people, in Markdown.
    pub fn render(&self) -> String {
        let peers = self.peers();
        let mut out = String::from("| figure |");
        let mut rule = String::from("|---|");
        for name in &peers {
            let _ = write!(out, " {name} |");
            rule.push_str("---|");
        }
        let _ = writeln!(out, " {OURS} | times better | budget |\n{rule}---|---|---|");
        for row in ROWS.iter().chain(COUNTS) {
            let ours = self.figure(OURS, row);
            let theirs: Vec<_> = peers.iter().map(|name| self.figure(name, row)).collect();
            if ours.is_none() && theirs.iter().all(Option::is_none) {
                continue;
            }
            let unit = if row.unit.is_empty() { "" } else { ", " };
            let _ = write!(out, "| {}{unit}{} |", row.title, row.unit);
            for figure in theirs.iter().chain([&ours]) {
                let _ = write!(out, " {} |", shown(*figure));
            }
            let first = theirs.first().copied().flatten();
            let _ = writeln!(
                out,
                " {} | {} |",
                lead(row, first, ours),
                promise(row, ours)
            );
        }
        out
    }

    /// The counts of ours that are above their limits: a sentence for each.
    pub fn over_limits(&self) -> Vec<String> {
        COUNTS
            .iter()
            .filter_map(|row| {
                let (value, _) = self.figure(OURS, row)?;
                let limit = row.budget.filter(|&limit| value > limit)?;
                Some(format!("{}: {}, at most {limit}", row.title, number(value)))
            })
            .collect()
    }
}

/// A figure with about three digits, and its p99.
fn shown(figure: Option<(f64, Option<f64>)>) -> String {
    match figure {
        None => "-".to_owned(),
        Some((value, None)) => number(value),
        Some((value, Some(p99))) => format!("{} (p99 {})", number(value), number(p99)),
    }
}

fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// How many times better, and whether that is less than wanted.
fn lead(row: &Row, theirs: Option<(f64, Option<f64>)>, ours: Option<(f64, Option<f64>)>) -> String {
    let (Some((theirs, _)), Some((ours, _))) = (theirs, ours) else {
        return "-".to_owned();
    };
    if ours == 0.0 || theirs == 0.0 {
        return "-".to_owned();
    }
    let times = match row.better {
        Better::Less => theirs / ours,
        Better::More => ours / theirs,
    };
    let short = if times < row.factor {
        format!(", wanted {}", row.factor)
    } else {
        String::new()
    };
    format!("{times:.1}{short}")
}

/// The budget, and whether it is missed.
fn promise(row: &Row, ours: Option<(f64, Option<f64>)>) -> String {
    let Some(budget) = row.budget else {
        return "-".to_owned();
    };
    let (sign, missed) = match row.better {
        Better::Less => ("≤", ours.is_some_and(|(value, _)| value > budget)),
        Better::More => ("≥", ours.is_some_and(|(value, _)| value < budget)),
    };
    format!("{sign} {budget}{}", if missed { ", missed" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(runtime: &str, row: &str, value: f64, p99: Option<f64>) -> String {
        serde_json::json!({"runtime": runtime, "row": row, "value": value, "p99": p99}).to_string()
    }

    #[test]
    fn medians_leads_and_budgets() {
        let text = [
            line("containerd", "exec", 36.0, Some(50.0)),
            line("insula", "exec", 1.0, Some(2.0)),
            line("containerd", "exec", 40.0, Some(60.0)),
            line("insula", "exec", 1.0, Some(4.0)),
            line("containerd", "logs-tmpfs", 50.0, None),
            line("insula", "logs-tmpfs", 75.0, None),
            line("insula", "memory", 290.0, None),
        ]
        .join("\n");
        let table = Table::parse(&text).unwrap().render();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(
            lines,
            [
                "| figure | containerd | insula | times better | budget |",
                "|---|---|---|---|---|",
                "| ExecSync(true), ms | 38.0 (p99 55.0) | 1.00 (p99 3.00) | 38.0 | ≤ 2 |",
                "| memory per pod beside the workload, KiB | - | 290 | - | ≤ 300 |",
                "| logs to tmpfs, 128-byte lines, MiB/s | 50.0 | 75.0 | 1.5, wanted 2 | ≥ 1000, missed |",
            ]
        );
    }

    #[test]
    fn counts_above_their_limits_are_told() {
        let text = [
            line("containerd", "count-exec-programs", 9.0, None),
            line("insula", "count-exec-programs", 1.0, None),
            line("containerd", "count-exec-syncs", 3.0, None),
            line("insula", "count-exec-syncs", 0.0, None),
            line("insula", "count-up-bridge-syncs", 2.5, None),
        ]
        .join("\n");
        let table = Table::parse(&text).unwrap();
        let last = "| ExecSync(true): fsync and fdatasync | 3.00 | 0.00 | - | ≤ 0 |";
        assert!(table.render().lines().any(|line| line == last));
        let over = table.over_limits();
        assert_eq!(
            over,
            ["pod up, CNI bridge: fsync and fdatasync: 2.50, at most 2"]
        );
    }

    #[test]
    fn what_is_no_figure_is_shown() {
        let wrong = Table::parse("{\"runtime\": \"insula\"}").err().unwrap();
        assert!(wrong.contains("not a figure"), "{wrong}");
    }
}
