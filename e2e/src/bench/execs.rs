//! ExecSync of `true`: what every probe of a container costs.

use super::client::Network;
use super::error::Result;
use super::figure::{Figure, Samples};
use super::run::{GAP, Run};
use std::time::Duration;

/// Measures execs in one pod, back to back and with gaps.
pub async fn measure(run: &mut Run) -> Result<()> {
    if !run.settings.choice.any(&["exec", "exec-gaps"]) {
        return Ok(());
    }
    let effort = run.settings.effort;
    let pod = run
        .client
        .pod_up(Network::Host, &run.settings.sleeper())
        .await?;
    let runs = [
        ("exec", effort.execs, Duration::ZERO),
        ("exec-gaps", effort.execs_with_gaps, GAP),
    ];
    for (row, count, gap) in runs {
        if !run.wants(row) {
            continue;
        }
        let mut times = Vec::new();
        for _ in 0..count {
            tokio::time::sleep(gap).await;
            times.push(run.client.exec(&pod.container, &["true"]).await?);
        }
        if let Some(samples) = Samples::milliseconds(&times) {
            run.emit(&Figure::spread(row, &samples));
        }
    }
    run.client.pod_down(&pod.id).await?;
    Ok(())
}
