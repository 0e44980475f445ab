//! The rows of the table: what is measured, which direction is better, and what is promised.
//!
//! The budgets are those of `SPECIFICATION.md`; a test holds the two together.

/// Whether less or more of a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Times, memory, counts.
    Less,
    /// Throughput.
    More,
}

/// One figure of the benchmark.
#[derive(Debug)]
pub struct Row {
    /// What `--only` takes, whole or the beginning of it.
    pub id: &'static str,
    /// What it says in the table.
    pub title: &'static str,
    /// Unit of the figure.
    pub unit: &'static str,
    /// The better direction.
    pub better: Better,
    /// What is promised, if anything: on the reference machine with the reference CNI plugins.
    pub budget: Option<f64>,
    /// By how many times the peer is to be beaten.
    pub factor: f64,
}

/// A row where less is better.
const fn less(
    id: &'static str,
    title: &'static str,
    unit: &'static str,
    budget: Option<f64>,
    factor: f64,
) -> Row {
    Row {
        id,
        title,
        unit,
        better: Better::Less,
        budget,
        factor,
    }
}

/// A row where more is better.
const fn more(
    id: &'static str,
    title: &'static str,
    unit: &'static str,
    budget: Option<f64>,
    factor: f64,
) -> Row {
    Row {
        better: Better::More,
        ..less(id, title, unit, budget, factor)
    }
}

/// All rows, in the order of the table. The p99 of a latency is shown beside it and has no row.
pub const ROWS: &[Row] = &[
    less("pod-up-bridge", "pod up, CNI bridge", "ms", Some(60.0), 2.0),
    less(
        "pod-up-bridge-gaps",
        "pod up, CNI bridge, gaps of 1 s",
        "ms",
        Some(60.0),
        2.0,
    ),
    less("pod-up-host", "pod up, host network", "ms", Some(5.0), 2.0),
    less(
        "pod-up-host-gaps",
        "pod up, host network, gaps of 1 s",
        "ms",
        None,
        2.0,
    ),
    less("pod-down-bridge", "pod down, CNI bridge", "ms", None, 1.0),
    less(
        "pod-down-host",
        "pod down, host network",
        "ms",
        Some(15.0),
        1.0,
    ),
    less("exec", "ExecSync(true)", "ms", Some(2.0), 2.0),
    less("exec-gaps", "ExecSync(true), gaps of 1 s", "ms", None, 2.0),
    more(
        "throughput-bridge",
        "pods up, 8 at a time, CNI bridge",
        "pods/s",
        None,
        1.0,
    ),
    more(
        "throughput-host",
        "pods up, 8 at a time, host network",
        "pods/s",
        Some(100.0),
        1.0,
    ),
    less(
        "list-containers",
        "ListContainers, 30 pods",
        "ms",
        Some(0.4),
        1.0,
    ),
    less(
        "list-stats",
        "ListContainerStats, 30 pods",
        "ms",
        Some(5.0),
        1.0,
    ),
    less(
        "memory",
        "memory per pod beside the workload",
        "KiB",
        Some(300.0),
        2.0,
    ),
    less(
        "memory-daemon",
        "memory of the daemon with 30 pods",
        "KiB",
        None,
        1.0,
    ),
    less(
        "restart",
        "daemon killed with 30 pods: all listed",
        "ms",
        Some(100.0),
        1.0,
    ),
    more(
        "logs-tmpfs",
        "logs to tmpfs, 128-byte lines",
        "MiB/s",
        Some(1000.0),
        2.0,
    ),
    more(
        "logs-disk",
        "logs to disk, 128-byte lines",
        "MiB/s",
        None,
        2.0,
    ),
    less(
        "logs-tmpfs-exec",
        "ExecSync(true) meanwhile, tmpfs",
        "ms",
        None,
        2.0,
    ),
    less(
        "logs-disk-exec",
        "ExecSync(true) meanwhile, disk",
        "ms",
        None,
        2.0,
    ),
    less(
        "pull",
        "pull, 4 gzip layers, 150 MB to 480 MB",
        "s",
        Some(1.0),
        1.0,
    ),
];

/// A count: the same on every machine, so more than the limit is a failure.
const fn count(id: &'static str, title: &'static str, limit: Option<f64>) -> Row {
    less(id, title, "", limit, 1.0)
}

/// What `--counts` shows, per pod or exec. Plugins and workloads are counted with the runtime.
pub const COUNTS: &[Row] = &[
    count(
        "count-up-bridge-syncs",
        "pod up, CNI bridge: fsync and fdatasync",
        Some(2.0),
    ),
    count(
        "count-up-bridge-mounts",
        "pod up, CNI bridge: mounts on the host",
        Some(1.0),
    ),
    count(
        "count-up-bridge-programs",
        "pod up, CNI bridge: programs executed",
        None,
    ),
    count(
        "count-up-host-syncs",
        "pod up, host network: fsync and fdatasync",
        Some(2.0),
    ),
    count(
        "count-up-host-mounts",
        "pod up, host network: mounts on the host",
        Some(1.0),
    ),
    count(
        "count-up-host-programs",
        "pod up, host network: programs executed",
        Some(2.0),
    ),
    count(
        "count-up-host-processes",
        "pod up, host network: processes made",
        Some(4.0),
    ),
    count(
        "count-up-host-calls",
        "pod up, host network: system calls",
        Some(2000.0),
    ),
    count(
        "count-exec-syncs",
        "ExecSync(true): fsync and fdatasync",
        Some(0.0),
    ),
    count(
        "count-exec-programs",
        "ExecSync(true): programs executed",
        Some(1.0),
    ),
    count(
        "count-exec-processes",
        "ExecSync(true): processes made",
        Some(2.0),
    ),
    count(
        "count-exec-calls",
        "ExecSync(true): system calls",
        Some(400.0),
    ),
    count(
        "count-stats-syncs",
        "ListContainerStats, 100 pods: fsync and fdatasync",
        Some(0.0),
    ),
    count(
        "count-stats-processes",
        "ListContainerStats, 100 pods: processes made",
        Some(0.0),
    ),
    count(
        "count-stats-calls",
        "ListContainerStats, 100 pods: system calls",
        Some(8800.0),
    ),
    count(
        "count-down-host-syncs",
        "pod down, host network: fsync and fdatasync",
        Some(2.0),
    ),
    count(
        "count-down-host-programs",
        "pod down, host network: programs executed",
        Some(0.0),
    ),
    count(
        "count-down-host-calls",
        "pod down, host network: system calls",
        Some(800.0),
    ),
];

/// Which rows a run is to measure.
#[derive(Clone, Debug, Default)]
pub struct Choice(Vec<String>);

impl Choice {
    /// The rows whose ids begin with one of the given; all of them if none is given.
    pub fn parse(beginnings: &[String]) -> Result<Self, String> {
        match beginnings
            .iter()
            .find(|wanted| !ROWS.iter().any(|row| row.id.starts_with(wanted.as_str())))
        {
            Some(unknown) => {
                let known: Vec<_> = ROWS.iter().map(|row| row.id).collect();
                Err(format!(
                    "no row is called {unknown}: there are {}",
                    known.join(", ")
                ))
            }
            None => Ok(Self(beginnings.to_vec())),
        }
    }

    /// Whether the row is wanted.
    pub fn has(&self, id: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|wanted| id.starts_with(wanted.as_str()))
    }

    /// Whether one of the rows is wanted.
    pub fn any(&self, ids: &[&str]) -> bool {
        ids.iter().any(|id| self.has(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_their_beginning() {
        let choose = |wanted: &[&str]| {
            Choice::parse(&wanted.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let all = choose(&[]).unwrap();
        assert!(ROWS.iter().all(|row| all.has(row.id)));
        let some = choose(&["pod-up", "exec"]).unwrap();
        assert!(some.has("pod-up-host-gaps") && some.has("exec-gaps"));
        assert!(!some.has("pod-down-host") && !some.any(&["memory", "logs-tmpfs"]));
        assert!(
            choose(&["pod-sideways"])
                .unwrap_err()
                .contains("pod-up-host")
        );
    }

    #[test]
    fn the_specification_promises_these_budgets() {
        let text = include_str!("../../../SPECIFICATION.md");
        for row in ROWS {
            let Some(budget) = row.budget else { continue };
            let line = text
                .lines()
                .find(|line| line.contains(&format!("`hack/bench --only {}`", row.id)))
                .unwrap_or_else(|| panic!("SPECIFICATION.md has no command for {}", row.id));
            let promise = format!("{budget} {}", row.unit);
            let plain = line.replace(',', "");
            assert!(
                plain.contains(&promise),
                "{} is {promise}, not: {line}",
                row.id
            );
        }
    }

    #[test]
    fn the_specification_has_these_limits() {
        let text = include_str!("../../../SPECIFICATION.md").replace(',', "");
        for row in COUNTS {
            let Some(limit) = row.budget else { continue };
            let end = format!("| `{}` | {limit} |", row.id);
            assert!(
                text.lines().any(|line| line.ends_with(&end)),
                "no line of SPECIFICATION.md ends with {end}"
            );
        }
    }
}
