//! One run against one runtime: which groups, how many samples, where figures go.

use super::client::{Client, Workload};
use super::error::{Error, Result};
use super::figure::Figure;
use super::rows::Choice;
use super::{execs, fleet, logs, pods, pull};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Samples per row. A full run has enough for a p99 of the quick rows.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Pods one after the other.
    pub pods: usize,
    /// Pods with a pause before each.
    pub pods_with_gaps: usize,
    /// Execs one after the other.
    pub execs: usize,
    /// Execs with a pause before each.
    pub execs_with_gaps: usize,
    /// Lists one after the other.
    pub lists: usize,
    /// How long log bytes are counted.
    pub log_window: Duration,
}

impl Effort {
    /// What the table is made of.
    pub const FULL: Self = Self {
        pods: 20,
        pods_with_gaps: 6,
        execs: 200,
        execs_with_gaps: 12,
        lists: 50,
        log_window: Duration::from_secs(2),
    };
    /// Enough to see that everything works.
    pub const QUICK: Self = Self {
        pods: 4,
        pods_with_gaps: 2,
        execs: 30,
        execs_with_gaps: 3,
        lists: 10,
        log_window: Duration::from_secs(1),
    };
}

/// The pause of a latency "with gaps": what is cold after a second is cold for every probe.
pub const GAP: Duration = Duration::from_secs(1);

/// Everything a run is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The CRI socket, `unix:///…`.
    pub endpoint: String,
    /// Name of the runtime in the figures.
    pub runtime: String,
    /// Which rows.
    pub choice: Choice,
    /// How many samples.
    pub effort: Effort,
    /// A small image with `sleep` and `true`.
    pub image: String,
    /// An image whose `yes` writes as fast as a pipe takes it (coreutils).
    pub log_image: String,
    /// The image to pull, if pulls are measured.
    pub pull_image: Option<String>,
    /// A directory on the disk.
    pub disk: PathBuf,
    /// A directory on a tmpfs.
    pub tmpfs: PathBuf,
    /// The file with the daemon's process id: read for its memory, and rewritten by a restart.
    pub pid_file: Option<PathBuf>,
}

impl Settings {
    /// The workload of most rows: a process that does nothing.
    pub fn sleeper(&self) -> Workload {
        Workload {
            image: self.image.clone(),
            command: ["sleep", "1000000"].map(String::from).into(),
            logs: self.disk.clone(),
        }
    }
}

/// A run under way.
#[derive(Debug)]
pub struct Run {
    /// What it was told.
    pub settings: Settings,
    /// Its connection.
    pub client: Client,
    /// Since when.
    started: Instant,
}

impl Run {
    /// Connects, pulls what is needed, removes what an earlier run left.
    pub async fn open(settings: Settings) -> Result<Self> {
        for directory in [&settings.disk, &settings.tmpfs] {
            std::fs::create_dir_all(directory)
                .map_err(|error| Error::file("cannot make", directory, error))?;
        }
        let mut client = Client::connect(&settings.endpoint).await?;
        eprintln!("{}: {}", settings.runtime, client.version().await?);
        client.remove_all().await?;
        for image in [&settings.image, &settings.log_image] {
            client.pull(image).await?;
        }
        Ok(Self {
            settings,
            client,
            started: Instant::now(),
        })
    }

    /// Measures the chosen rows and prints a line for each.
    pub async fn measure(&mut self) -> Result<()> {
        let measured = self.groups().await;
        let removed = self.client.remove_all().await;
        measured.and(removed)
    }

    async fn groups(&mut self) -> Result<()> {
        pods::measure(self).await?;
        execs::measure(self).await?;
        fleet::measure(self).await?;
        logs::measure(self).await?;
        pull::measure(self).await
    }

    /// Whether the row is to be measured.
    pub fn wants(&self, row: &str) -> bool {
        self.settings.choice.has(row)
    }

    /// Prints a figure if its row was asked for.
    pub fn emit(&self, figure: &Figure) {
        if !self.wants(figure.row) {
            return;
        }
        println!("{}", figure.line(&self.settings.runtime));
        eprintln!(
            "{} {:6.1} s  {:<20} {:.3}",
            self.settings.runtime,
            self.started.elapsed().as_secs_f64(),
            figure.row,
            figure.value
        );
    }
}
