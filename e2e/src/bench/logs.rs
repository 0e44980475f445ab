//! A container that writes as fast as it can: how many of its bytes reach the log, and what an
//! ExecSync in the same container takes meanwhile.

use super::client::{Network, Pod, Workload};
use super::error::{Error, Result};
use super::figure::{Figure, Samples};
use super::run::Run;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A line as the container writes it, its newline included.
const LINE: usize = 128;
/// Until the rate is steady.
const WARM_UP: Duration = Duration::from_millis(300);
/// How much of a log is read to learn how long its lines are.
const SAMPLE: u64 = 1 << 20;

/// Measures logs on tmpfs and on disk.
pub async fn measure(run: &mut Run) -> Result<()> {
    let places = [
        ("logs-tmpfs", "logs-tmpfs-exec", run.settings.tmpfs.clone()),
        ("logs-disk", "logs-disk-exec", run.settings.disk.clone()),
    ];
    for (row, meanwhile, directory) in places {
        if !run.settings.choice.any(&[row, meanwhile]) {
            continue;
        }
        let pod = run
            .client
            .pod_up(Network::Host, &writer(run, directory))
            .await?;
        let measured = one(run, row, meanwhile, &pod).await;
        let removed = run.client.pod_down(&pod.id).await;
        // Gigabytes that need not reach the disk any more.
        remove(&pod.log)?;
        measured?;
        removed?;
    }
    Ok(())
}

fn writer(run: &Run, logs: PathBuf) -> Workload {
    Workload {
        image: run.settings.log_image.clone(),
        command: vec!["yes".to_owned(), "x".repeat(LINE - 1)],
        logs,
    }
}

async fn one(run: &mut Run, row: &'static str, meanwhile: &'static str, pod: &Pod) -> Result<()> {
    let window = run.settings.effort.log_window;
    tokio::time::sleep(WARM_UP).await;
    let share = payload_share(&pod.log)?;
    let (before, clock) = (length(&pod.log)?, Instant::now());
    tokio::time::sleep(window).await;
    let grown = length(&pod.log)?.saturating_sub(before);
    let seconds = clock.elapsed().as_secs_f64();
    let mebibytes = f64::from(u32::try_from(grown >> 10).unwrap_or(u32::MAX)) / 1024.0;
    run.emit(&Figure::single(row, mebibytes * share / seconds));

    // As kubelet rotates; it also keeps the files small.
    remove(&pod.log)?;
    run.client.reopen_log(&pod.container).await?;
    let (mut times, clock) = (Vec::new(), Instant::now());
    while clock.elapsed() < window || times.len() < 3 {
        times.push(run.client.exec(&pod.container, &["true"]).await?);
    }
    if let Some(samples) = Samples::milliseconds(&times) {
        let mut figure = Figure::spread(meanwhile, &samples);
        figure.details.push(("median", figure.value));
        figure.value = samples.percentile(99);
        figure.p99 = None;
        run.emit(&figure);
    }
    Ok(())
}

fn length(path: &Path) -> Result<u64> {
    let data = fs::metadata(path).map_err(|error| Error::file("cannot read", path, error))?;
    Ok(data.len())
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(|error| Error::file("cannot remove", path, error))
}

/// Which part of a log the container wrote: each line has a time and a stream before it.
fn payload_share(path: &Path) -> Result<f64> {
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(SAMPLE).read_to_end(&mut start))
        .map_err(|error| Error::file("cannot read", path, error))?;
    share_of(&start)
        .ok_or_else(|| Error::Unexpected(format!("{} has no line of the writer's", path.display())))
}

/// The share in whole lines; `None` if there is none, or one that is not the writer's.
fn share_of(log: &[u8]) -> Option<f64> {
    let end = log.iter().rposition(|&byte| byte == b'\n')? + 1;
    let lines = log[..end].split(|&byte| byte == b'\n');
    let (mut count, mut whole) = (0_u32, true);
    for line in lines.filter(|line| !line.is_empty()) {
        count += 1;
        whole &=
            line.ends_with(&[b'x'; LINE - 1]) && line.windows(10).any(|part| part == b" stdout F ");
    }
    let bytes = u32::try_from(end).ok()?;
    let payload = f64::from(count) * f64::from(u32::try_from(LINE).ok()?);
    (whole && count > 0).then(|| payload / f64::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_the_payload() {
        let text = "x".repeat(LINE - 1);
        let line = format!("2026-01-01T00:00:00.000000000Z stdout F {text}\n");
        let share = share_of(line.repeat(3).as_bytes()).unwrap();
        assert!((share - 128.0 / 168.0).abs() < 1e-9);
        // A line that is being written does not count.
        assert_eq!(share_of(format!("{line}2026-01").as_bytes()), Some(share));
        for wrong in [
            "",
            "half a line",
            &line.replace(" F ", " P "),
            &line.replace("xxx", ""),
        ] {
            assert_eq!(share_of(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
