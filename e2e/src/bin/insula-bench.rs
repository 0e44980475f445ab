//! The benchmark client: measures a runtime behind any CRI socket. `hack/bench` sets up what it
//! measures; by hand it is `insula-bench measure --endpoint unix:///run/insula/insula.sock …`.
#![forbid(unsafe_code)]

#[path = "../bench/mod.rs"]
mod bench;

use bench::error::Error;
use bench::rows::Choice;
use bench::run::{Effort, Run, Settings};
use bench::table::Table;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Measures container runtimes behind their CRI sockets.
#[derive(Debug, Parser)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Measures one runtime once; prints a line of JSON per row
    Measure(Target),
    /// Counts system calls, processes and mounts of one runtime; prints a line of JSON per row
    Counts(Target),
    /// Prints one table of the lines in the given files; fails if a count is above its limit
    Table {
        /// Files with lines of figures, of any number of runs and runtimes
        files: Vec<PathBuf>,
    },
    /// Prints the ids of all rows, as --only takes them
    Rows,
}

#[derive(Args, Debug)]
struct Target {
    /// The CRI socket: unix:///...
    #[arg(long, env = "CONTAINER_RUNTIME_ENDPOINT")]
    endpoint: String,
    /// Name of the runtime in the figures
    #[arg(long)]
    runtime: String,
    /// A directory on the disk, for logs
    #[arg(long)]
    disk: PathBuf,
    /// A directory on a tmpfs, for logs
    #[arg(long)]
    tmpfs: PathBuf,
    /// File with the daemon's process id; without it its memory and restart are not measured
    #[arg(long)]
    pid_file: Option<PathBuf>,
    /// A small image with sleep and true
    #[arg(long, default_value = "registry.k8s.io/e2e-test-images/busybox:1.29-2")]
    image: String,
    /// An image whose yes(1) is that of coreutils
    #[arg(long, default_value = "registry.k8s.io/e2e-test-images/nginx:1.14-2")]
    log_image: String,
    /// The image to pull; without it pulls are not measured
    #[arg(long)]
    pull_image: Option<String>,
    /// Only the rows whose ids begin so; may be given more than once
    #[arg(long)]
    only: Vec<String>,
    /// Few samples: enough to see that everything works
    #[arg(long)]
    quick: bool,
}

impl Target {
    fn settings(self) -> Result<Settings, Error> {
        Ok(Settings {
            choice: Choice::parse(&self.only).map_err(Error::Unexpected)?,
            effort: if self.quick {
                Effort::QUICK
            } else {
                Effort::FULL
            },
            endpoint: self.endpoint,
            runtime: self.runtime,
            image: self.image,
            log_image: self.log_image,
            pull_image: self.pull_image,
            disk: self.disk,
            tmpfs: self.tmpfs,
            pid_file: self.pid_file,
        })
    }
}

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return told(&Error::Unexpected(format!("cannot start: {error}"))),
    };
    match runtime.block_on(perform(Command::parse().verb)) {
        Ok(code) => code,
        Err(error) => told(&error),
    }
}

fn told(error: &Error) -> ExitCode {
    eprintln!("insula-bench: {error}");
    ExitCode::FAILURE
}

async fn perform(verb: Verb) -> Result<ExitCode, Error> {
    match verb {
        Verb::Measure(target) => Run::open(target.settings()?).await?.measure().await?,
        Verb::Counts(target) => {
            let mut run = Run::open(target.settings()?).await?;
            bench::counts::measure(&mut run).await?;
        }
        Verb::Table { files } => return table(&files),
        Verb::Rows => {
            for row in bench::rows::ROWS {
                println!("{:<20} {}, {}", row.id, row.title, row.unit);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table(files: &[PathBuf]) -> Result<ExitCode, Error> {
    let mut text = String::new();
    for file in files {
        let more = std::fs::read_to_string(file);
        text += &more.map_err(|error| Error::file("cannot read", file, error))?;
    }
    let table = Table::parse(&text).map_err(Error::Unexpected)?;
    print!("{}", table.render());
    let over = table.over_limits();
    for sentence in &over {
        eprintln!("insula-bench: {sentence}");
    }
    Ok(if over.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
