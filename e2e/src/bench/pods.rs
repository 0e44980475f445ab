//! Pods one at a time: from RunPodSandbox to a running workload, and away again.

use super::client::{Network, Phases};
use super::error::Result;
use super::figure::{Figure, Samples};
use super::run::{GAP, Run};
use std::time::Duration;

/// The rows of one kind of network.
struct Rows {
    network: Network,
    up: &'static str,
    up_with_gaps: &'static str,
    down: &'static str,
}

const ROWS: [Rows; 2] = [
    Rows {
        network: Network::Bridge,
        up: "pod-up-bridge",
        up_with_gaps: "pod-up-bridge-gaps",
        down: "pod-down-bridge",
    },
    Rows {
        network: Network::Host,
        up: "pod-up-host",
        up_with_gaps: "pod-up-host-gaps",
        down: "pod-down-host",
    },
];

/// Measures pods up and down.
pub async fn measure(run: &mut Run) -> Result<()> {
    let effort = run.settings.effort;
    for rows in ROWS {
        if run.wants(rows.up) || run.wants(rows.down) {
            // The first makes what all share: the bridge, the image's mount.
            one_by_one(run, rows.network, 1, Duration::ZERO).await?;
            let (ups, downs) = one_by_one(run, rows.network, effort.pods, Duration::ZERO).await?;
            emit_ups(run, rows.up, &ups);
            if let Some(samples) = Samples::milliseconds(&downs) {
                run.emit(&Figure::spread(rows.down, &samples));
            }
        }
        if run.wants(rows.up_with_gaps) {
            let (ups, _) = one_by_one(run, rows.network, effort.pods_with_gaps, GAP).await?;
            emit_ups(run, rows.up_with_gaps, &ups);
        }
    }
    Ok(())
}

/// Each pod is gone before the next comes, so that all find the same.
async fn one_by_one(
    run: &mut Run,
    network: Network,
    count: usize,
    gap: Duration,
) -> Result<(Vec<Phases>, Vec<Duration>)> {
    let workload = run.settings.sleeper();
    let (mut ups, mut downs) = (Vec::new(), Vec::new());
    for _ in 0..count {
        tokio::time::sleep(gap).await;
        let pod = run.client.pod_up(network, &workload).await?;
        ups.push(pod.phases);
        downs.push(run.client.pod_down(&pod.id).await?);
    }
    Ok((ups, downs))
}

fn emit_ups(run: &Run, row: &'static str, ups: &[Phases]) {
    let median = |of: fn(&Phases) -> Duration| {
        Samples::milliseconds(&ups.iter().map(of).collect::<Vec<_>>())
    };
    let Some(total) = median(Phases::total) else {
        return;
    };
    let mut figure = Figure::spread(row, &total);
    for (name, samples) in [
        ("run", median(|phases| phases.run)),
        ("create", median(|phases| phases.create)),
        ("start", median(|phases| phases.start)),
    ] {
        figure
            .details
            .extend(samples.map(|samples| (name, samples.median())));
    }
    run.emit(&figure);
}
