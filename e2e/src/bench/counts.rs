//! Counts per pod and per exec: system calls, processes, programs, waits for the disk, mounts.

use super::client::{Network, Pod};
use super::error::{Error, Result};
use super::figure::Figure;
use super::processes;
use super::run::Run;
use super::trace::{Calls, Trace};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// How many pods a count is the mean of.
const PODS: u32 = 4;
/// How many execs.
const EXECS: u32 = 10;
/// How many pods are measured by one call for stats.
const MEASURED: u32 = 100;
/// How many such calls.
const MEASUREMENTS: u32 = 3;
/// Longer than a measurement is given out again.
const STALE: Duration = Duration::from_millis(1200);

/// The rows of one phase; an empty name is not shown.
struct Rows {
    syncs: &'static str,
    programs: &'static str,
    processes: &'static str,
    calls: &'static str,
}

const UP_BRIDGE: Rows = Rows {
    syncs: "count-up-bridge-syncs",
    programs: "count-up-bridge-programs",
    processes: "",
    calls: "",
};
const UP_HOST: Rows = Rows {
    syncs: "count-up-host-syncs",
    programs: "count-up-host-programs",
    processes: "count-up-host-processes",
    calls: "count-up-host-calls",
};
const EXEC: Rows = Rows {
    syncs: "count-exec-syncs",
    programs: "count-exec-programs",
    processes: "count-exec-processes",
    calls: "count-exec-calls",
};
const STATS: Rows = Rows {
    syncs: "count-stats-syncs",
    programs: "",
    processes: "count-stats-processes",
    calls: "count-stats-calls",
};
const DOWN_HOST: Rows = Rows {
    syncs: "count-down-host-syncs",
    programs: "count-down-host-programs",
    processes: "",
    calls: "count-down-host-calls",
};

/// Counts and prints everything. The traces stay in the run's directory on the disk.
pub async fn measure(run: &mut Run) -> Result<()> {
    let counted = phases(run).await;
    let removed = run.client.remove_all().await;
    counted.and(removed)
}

async fn phases(run: &mut Run) -> Result<()> {
    let before = processes::per_pod()?;
    // These two make what all pods share: the bridge, and the image's mount.
    for network in [Network::Bridge, Network::Host] {
        run.client.pod_up(network, &run.settings.sleeper()).await?;
    }
    let bridged = pods_up(run, &UP_BRIDGE, "count-up-bridge-mounts", Network::Bridge).await?;
    let pods = pods_up(run, &UP_HOST, "count-up-host-mounts", Network::Host).await?;

    let trace = attach(run, &before, &EXEC)?;
    for _ in 0..EXECS {
        run.client.exec(&pods[0].container, &["true"]).await?;
    }
    emit(run, &EXEC, trace.finish()?, EXECS);

    let trace = attach(run, &before, &DOWN_HOST)?;
    for pod in &pods {
        run.client.pod_down(&pod.id).await?;
    }
    emit(run, &DOWN_HOST, trace.finish()?, PODS);
    for pod in &bridged {
        run.client.pod_down(&pod.id).await?;
    }
    stats(run, &before).await
}

/// Calls for the stats of many pods, those of the pods before included.
async fn stats(run: &mut Run, before: &BTreeSet<u32>) -> Result<()> {
    while run.client.list_containers().await?.0 < MEASURED as usize {
        run.client
            .pod_up(Network::Host, &run.settings.sleeper())
            .await?;
    }
    let trace = attach(run, before, &STATS)?;
    for _ in 0..MEASUREMENTS {
        run.client.list_stats().await?;
        tokio::time::sleep(STALE).await;
    }
    emit(run, &STATS, trace.finish()?, MEASUREMENTS);
    Ok(())
}

async fn pods_up(
    run: &mut Run,
    rows: &Rows,
    mount_row: &'static str,
    network: Network,
) -> Result<Vec<Pod>> {
    let mounts = processes::mounts()?;
    let trace = attach(run, &processes::per_pod()?, rows)?;
    let mut pods = Vec::new();
    for _ in 0..PODS {
        pods.push(run.client.pod_up(network, &run.settings.sleeper()).await?);
    }
    emit(run, rows, trace.finish()?, PODS);
    let more = processes::mounts()?.saturating_sub(mounts);
    show(
        run,
        mount_row,
        u32::try_from(more).unwrap_or(u32::MAX),
        PODS,
    );
    Ok(pods)
}

/// Traces the daemon and the processes of the pods that came since.
fn attach(run: &Run, before: &BTreeSet<u32>, rows: &Rows) -> Result<Trace> {
    let file = run.settings.pid_file.clone();
    let file: PathBuf = file.ok_or_else(|| {
        Error::Unexpected("counts need --pid-file: the daemon's process id".to_owned())
    })?;
    let mut pids = vec![processes::read_pid(&file)?];
    pids.extend(processes::per_pod()?.difference(before));
    let output = format!("{}-{}.strace", run.settings.runtime, rows.syncs);
    Trace::attach(&pids, &run.settings.disk.join(output))
}

fn emit(run: &Run, rows: &Rows, calls: Calls, per: u32) {
    show(run, rows.syncs, calls.syncs, per);
    show(run, rows.programs, calls.programs, per);
    show(run, rows.processes, calls.processes, per);
    show(run, rows.calls, calls.all, per);
}

fn show(run: &Run, row: &'static str, total: u32, per: u32) {
    if !row.is_empty() {
        run.emit(&Figure::single(row, f64::from(total) / f64::from(per)));
    }
}
