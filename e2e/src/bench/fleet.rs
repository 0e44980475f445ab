//! Many pods: how fast they come, what lists and memory are with them, and a daemon that dies.

use super::client::{Client, Network, Pod, Workload};
use super::error::{Error, Result};
use super::figure::{Figure, Samples, milliseconds};
use super::processes::{self, Daemon};
use super::run::Run;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How many pods there are.
const PODS: usize = 30;
/// How many calls are under way at a time.
const AT_A_TIME: usize = 8;
/// A daemon that does not list its pods by then has lost them.
const RESTART_LIMIT: Duration = Duration::from_secs(30);

/// Measures throughput on both networks, and the rest with the pods of the second.
pub async fn measure(run: &mut Run) -> Result<()> {
    if run.wants("throughput-host") {
        let pods = bring_up(run, Network::Host, "throughput-host").await?;
        take_down(run, pods).await?;
    }
    let with_pods = [
        "throughput-bridge",
        "list-containers",
        "list-stats",
        "memory",
        "memory-daemon",
        "restart",
    ];
    if !run.settings.choice.any(&with_pods) {
        return Ok(());
    }
    let before = processes::per_pod()?;
    let pods = bring_up(run, Network::Bridge, "throughput-bridge").await?;
    lists(run).await?;
    memory(run, &before)?;
    if run.wants("restart") {
        restart(run).await?;
    }
    take_down(run, pods).await
}

async fn bring_up(run: &Run, network: Network, row: &'static str) -> Result<Vec<Pod>> {
    let clock = Instant::now();
    let pods = many_up(&run.client, network, &run.settings.sleeper()).await?;
    run.emit(&Figure::single(
        row,
        per_second(pods.len(), clock.elapsed()),
    ));
    Ok(pods)
}

/// So many per second.
fn per_second(count: usize, time: Duration) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from) / time.as_secs_f64()
}

async fn many_up(client: &Client, network: Network, workload: &Workload) -> Result<Vec<Pod>> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..AT_A_TIME {
        let (mut client, workload, next) = (client.clone(), workload.clone(), Arc::clone(&next));
        workers.spawn(async move {
            let mut pods = Vec::new();
            while next.fetch_add(1, Ordering::Relaxed) < PODS {
                pods.push(client.pod_up(network, &workload).await?);
            }
            Ok::<_, Error>(pods)
        });
    }
    gather(workers).await
}

async fn take_down(run: &Run, pods: Vec<Pod>) -> Result<()> {
    let mut workers = JoinSet::new();
    for share in pods.chunks(pods.len().div_ceil(AT_A_TIME)) {
        let (mut client, share) = (run.client.clone(), share.to_vec());
        workers.spawn(async move {
            for pod in &share {
                client.pod_down(&pod.id).await?;
            }
            Ok::<_, Error>(Vec::<Pod>::new())
        });
    }
    gather(workers).await.map(|_| ())
}

/// What all workers made; if one failed, its error once all have ended.
async fn gather(mut workers: JoinSet<Result<Vec<Pod>>>) -> Result<Vec<Pod>> {
    let (mut pods, mut failure) = (Vec::new(), None);
    while let Some(ended) = workers.join_next().await {
        match ended {
            Ok(Ok(some)) => pods.extend(some),
            Ok(Err(error)) => failure = Some(error),
            Err(error) => failure = Some(Error::Unexpected(error.to_string())),
        }
    }
    failure.map_or(Ok(pods), Err)
}

async fn lists(run: &mut Run) -> Result<()> {
    let (mut containers, mut stats) = (Vec::new(), Vec::new());
    for _ in 0..run.settings.effort.lists {
        if run.wants("list-containers") {
            let (count, time) = run.client.list_containers().await?;
            complete("ListContainers", count)?;
            containers.push(time);
        }
        if run.wants("list-stats") {
            let (count, time) = run.client.list_stats().await?;
            complete("ListContainerStats", count)?;
            stats.push(time);
        }
    }
    for (row, times) in [("list-containers", containers), ("list-stats", stats)] {
        if let Some(samples) = Samples::milliseconds(&times) {
            run.emit(&Figure::spread(row, &samples));
        }
    }
    Ok(())
}

/// A list that is quick because it lacks something is no figure.
fn complete(call: &str, count: usize) -> Result<()> {
    if count == PODS {
        return Ok(());
    }
    Err(Error::Unexpected(format!(
        "{call} lists {count} of {PODS} containers"
    )))
}

fn memory(run: &Run, before: &BTreeSet<u32>) -> Result<()> {
    if run.wants("memory") {
        let mut total = 0;
        for &pid in processes::per_pod()?.difference(before) {
            total += processes::memory(pid)?;
        }
        let pods = u32::try_from(PODS).unwrap_or(u32::MAX);
        let total = u32::try_from(total).map_or(f64::INFINITY, f64::from);
        if total == 0.0 {
            let message = "no process of the runtime's is seen beside the pods";
            return Err(Error::Unexpected(message.to_owned()));
        }
        run.emit(&Figure::single("memory", total / f64::from(pods)));
    }
    let daemon = run.settings.pid_file.as_deref();
    if let Some(file) = daemon.filter(|_| run.wants("memory-daemon")) {
        let value = processes::memory(processes::read_pid(file)?)?;
        let value = u32::try_from(value).map_or(f64::INFINITY, f64::from);
        run.emit(&Figure::single("memory-daemon", value));
    }
    Ok(())
}

/// Kills the daemon and starts it as it was; until every pod is listed READY.
async fn restart(run: &mut Run) -> Result<()> {
    let Some(file) = run.settings.pid_file.clone() else {
        return Ok(());
    };
    let daemon = Daemon::read(processes::read_pid(&file)?)?;
    daemon.kill()?;
    let clock = Instant::now();
    let pid = daemon.start()?;
    std::fs::write(&file, format!("{pid}\n"))
        .map_err(|error| Error::file("cannot write", &file, error))?;
    run.client = until_all_listed(&run.settings.endpoint, &file, clock).await?;
    run.emit(&Figure::single("restart", milliseconds(clock.elapsed())));
    Ok(())
}

async fn until_all_listed(endpoint: &str, file: &Path, clock: Instant) -> Result<Client> {
    loop {
        let answer = match Client::connect(endpoint).await {
            Ok(mut client) => client.ready_pods().await.map(|count| (client, count)),
            Err(error) => Err(error),
        };
        let last = match answer {
            Ok((client, PODS)) => return Ok(client),
            Ok((_, count)) => format!("{count} of {PODS} pods are READY"),
            Err(error) => error.to_string(),
        };
        if clock.elapsed() > RESTART_LIMIT {
            return Err(Error::Unexpected(format!(
                "the daemon in {} was started again {} s ago, and still: {last}",
                file.display(),
                RESTART_LIMIT.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
