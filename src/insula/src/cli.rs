//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::client::address::Address;
use crate::import::Import;
use crate::serve;
use crate::tag::Tag;

/// Runs containers on this machine.
///
/// Insula is a container runtime: `insula serve` is the daemon that kubelet, crictl and the other
/// commands here talk to over one socket. `insula run` starts a daemon by itself when none
/// listens.
#[derive(Debug, Parser)]
#[command(
    name = "insula",
    version,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  insula run redis.json             pull, run, follow the logs; Ctrl-C stops and removes
  insula run --detach redis.json    leave it running
  insula ps                         what runs
  insula logs -f redis              its output, as it comes
  insula exec redis -- redis-cli ping
  insula stop redis && insula rm redis

Names: an app's id (/redis or redis), a pod's name (redis-1), or the beginning of the id of a
container or a pod."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every client command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The daemon's socket.
    #[arg(
        long,
        global = true,
        env = "INSULA_ADDRESS",
        value_name = "ADDRESS",
        default_value = Address::DEFAULT
    )]
    pub(crate) address: Address,
    /// How to print results.
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables and lines for people.
    Table,
    /// One JSON document.
    Json,
}

/// Where a daemon that a command starts by itself keeps its files.
#[derive(Debug, Clone, Args)]
pub(crate) struct Embedded {
    /// Configuration file for a daemon started by this command.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "If no daemon listens",
        hide_short_help = true
    )]
    pub(crate) config: Option<PathBuf>,
    /// Directory for images, for a daemon started by this command.
    #[arg(
        long,
        value_name = "DIR",
        help_heading = "If no daemon listens",
        hide_short_help = true
    )]
    pub(crate) root: Option<PathBuf>,
    /// The daemon's state directory, where the progress of pulls is read too.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/run/insula",
        help_heading = "If no daemon listens",
        hide_short_help = true
    )]
    pub(crate) state: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon.
    Serve(serve::Args),
    Import(Import),
    Tag(Tag),
    #[command(flatten)]
    Client(ClientCommand),
}

/// Commands that talk to a daemon.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    Run(Run),
    Ps(Ps),
    Logs(Logs),
    Exec(Exec),
    Attach(Attach),
    PortForward(PortForward),
    Stop(Stop),
    Rm(Rm),
    Pull(Pull),
    Images(Images),
    Rmi(Rmi),
    Inspect(Inspect),
    Events(Events),
    /// Show what this host and the daemon can do.
    Doctor,
    /// Show the versions of this command and of the daemon.
    Version,
}

impl ClientCommand {
    /// Where a daemon keeps its files that this command may start; `None` if it starts none.
    pub(crate) fn embedded(&self) -> Option<&Embedded> {
        match self {
            ClientCommand::Run(command) => Some(&command.embedded),
            ClientCommand::Ps(command) => Some(&command.embedded),
            ClientCommand::Logs(command) => Some(&command.embedded),
            ClientCommand::Exec(command) => Some(&command.embedded),
            ClientCommand::Attach(command) => Some(&command.embedded),
            ClientCommand::PortForward(command) => Some(&command.embedded),
            ClientCommand::Stop(command) => Some(&command.embedded),
            ClientCommand::Rm(command) => Some(&command.embedded),
            ClientCommand::Pull(command) => Some(&command.embedded),
            ClientCommand::Images(command) => Some(&command.embedded),
            ClientCommand::Rmi(command) => Some(&command.embedded),
            ClientCommand::Inspect(command) => Some(&command.embedded),
            ClientCommand::Events(command) => Some(&command.embedded),
            ClientCommand::Doctor | ClientCommand::Version => None,
        }
    }
}

/// Which network an app gets that means the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Network {
    /// One of its own, with its ports mapped.
    Cni,
    /// The host's.
    Host,
}

/// Run an app from its definition.
///
/// Pulls the image, runs the app, and follows its logs. Ctrl-C stops and removes it; a second
/// Ctrl-C does not wait for the app.
///
/// The definition is Marathon's JSON. Fields that need a cluster are named in a notice; unknown
/// fields are errors. When the app ends by itself it is removed, and its exit code is that of
/// this command.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula run redis.json
  insula run --detach --name cache redis.json
  insula run --network host --timings redis.json
  insula run - < redis.json")]
pub(crate) struct Run {
    /// App definition; - is standard input.
    #[arg(value_name = "APP.json")]
    pub(crate) definition: PathBuf,
    /// Leave the app running and return.
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// Which network an app gets that names none.
    #[arg(long, value_enum)]
    pub(crate) network: Option<Network>,
    /// Run it under another id than the definition's.
    #[arg(long, value_name = "ID")]
    pub(crate) name: Option<insula_apps::AppId>,
    /// Print how long each phase took.
    #[arg(long)]
    pub(crate) timings: bool,
    #[command(flatten)]
    pub(crate) embedded: Embedded,
}

/// List pods and their containers.
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Also what has ended.
    #[arg(long, short)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) embedded: Embedded,
}

/// Print what a container wrote.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula logs redis
  insula logs -f --tail 20 redis
  insula logs --since 10m --timestamps redis-1
  insula logs --since 2026-01-31T08:00:00Z redis")]
pub(crate) struct Logs {
    /// App, pod or container.
    pub(crate) name: String,
    /// Go on until the container ends.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only the last lines.
    #[arg(long, value_name = "LINES")]
    pub(crate) tail: Option<u64>,
    /// Only lines since a time, or that many seconds, minutes, hours or days ago (30s, 10m, 2h, 1d).
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<crate::client::time::Since>,
    /// Begin each line with its time.
    #[arg(long, short)]
    pub(crate) timestamps: bool,
    #[command(flatten)]
    pub(crate) embedded: Embedded,
}

/// Run a command in a container.
///
/// Ends with the command's exit code. With -i or -t the command has this terminal's streams as
/// it runs; otherwise what it wrote is printed when it has ended.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula exec redis -- redis-cli ping
  insula exec -it redis -- sh
  insula exec -i redis -- sh -c 'cat >/data/dump' < dump
  insula exec --timeout 5 redis -- sh -c 'ls -l /data'")]
pub(crate) struct Exec {
    /// App, pod or container.
    pub(crate) name: String,
    /// Kill the command after this many seconds.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 0,
        hide_default_value = true,
        conflicts_with_all = ["interactive", "tty"]
    )]
    pub(crate) timeout: u32,
    /// Give the command this terminal's input.
    #[arg(long, short)]
    pub(crate) interactive: bool,
    /// Give the command a terminal.
    #[arg(long, short)]
    pub(crate) tty: bool,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    #[command(flatten)]
    pub(crate) embedded: Embedded,
}

/// Join the streams of a container's main process.
///
/// Shows what it writes from now on, until it ends. Whoever leaves ends nothing, but the input of
/// a container that wants it from one client only.
#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// App, pod or container.
    pub(crate) name: String,
    /// Give the container this terminal's input; it must have been made with one.
    #[arg(long, short)]
    pub(crate) interactive: bool,
    /// The container has a terminal.
    #[arg(long, short)]
    pub(crate) tty: bool,
    #[command(flatten)]
    pub(crate) embedded: Embedded,
}

/// Forward local ports to ports of a pod.
///
/// Listens on 127.0.0.1 until Ctrl-C. The pod's ports are those of its own loopback interface.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula port-forward redis 6379
  insula port-forward redis 16379:6379 :8080")]
pub(crate) struct PortForward {
    /// App, pod or container.
    pub(crate) name: String,
    /// PORT, LOCAL:PORT, or :PORT for any local one.
    #[arg(required = true, value_name = "PORT")]
    pub(crate) ports: Vec<PortPair>,
    #[command(flatten)]
    pub(crate) embedded: Embedded,
}

/// A local port and the pod's port that it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortPair {
    /// 0 is any that is free.
    pub(crate) local: u16,
    /// The pod's.
    pub(crate) remote: u16,
}

impl std::str::FromStr for PortPair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (local, remote) = text.split_once(':').unwrap_or((text, text));
        let port = |text: &str| text.parse::<std::num::NonZeroU16>().map(u16::from);
        let local = if local.is_empty() { Ok(0) } else { port(local) };
        match (local, port(remote)) {
            (Ok(local), Ok(remote)) => Ok(Self { local, remote }),
            _ => Err("expected PORT, LOCAL:PORT or :PORT, each from 1 to 65535".into()),
        }
    }
}

/// Stop apps, pods or containers.
///
/// An app stays listed (insula ps --all) until it is removed.
#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// Apps, pods or containers.
    #[arg(required_unless_present = "all", value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Every pod there is, whoever made it.
    #[arg(long, conflicts_with = "names")]
    pub(crate) all: bool,
    /// Seconds between the stop signal and SIGKILL; the app's own grace period if not given.
    #[arg(long, short, value_name = "SECONDS")]
    pub(crate) timeout: Option<u32>,
    #[command(flatten)]
    pub(crate) embedded: Embedded,
}

/// Remove stopped apps, pods or containers.
///
/// An app goes with its logs and its sandbox directory.
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Apps, pods or containers.
    #[arg(required_unless_present = "all", value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Every pod there is, whoever made it.
    #[arg(long, conflicts_with = "names")]
    pub(crate) all: bool,
    /// Also if it runs.
    #[arg(long, short)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) embedded: Embedded,
}

/// Pull an image and print its id.
///
/// Shows how far each layer is: bars on a terminal, lines elsewhere.
#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// Image, such as redis, redis:8 or quay.io/org/app@sha256:...
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) embedded: Embedded,
}

/// List images.
#[derive(Debug, Args)]
pub(crate) struct Images {
    #[command(flatten)]
    pub(crate) embedded: Embedded,
}

/// Remove images with all their names.
#[derive(Debug, Args)]
pub(crate) struct Rmi {
    /// Names or ids.
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
    #[command(flatten)]
    pub(crate) embedded: Embedded,
}

/// Show what happens to pods and containers, as it happens.
///
/// One line for each: created, started, stopped, deleted. With --output json each line is a JSON
/// document. Ctrl-C ends it.
#[derive(Debug, Args)]
pub(crate) struct Events {
    #[command(flatten)]
    pub(crate) embedded: Embedded,
}

/// Show everything about a container, as JSON.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// App, pod or container.
    pub(crate) name: String,
    /// Only the launch plan: what is done to start it, step by step.
    #[arg(long)]
    pub(crate) plan: bool,
    /// Only the launch plan in the words of the OCI runtime specification.
    #[arg(long, conflicts_with = "plan")]
    pub(crate) oci: bool,
    #[command(flatten)]
    pub(crate) embedded: Embedded,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_parse() {
        for line in [
            "insula run redis.json",
            "insula run -d --network host --name /x --timings redis.json",
            "insula ps -a --output json",
            "insula --address unix:///tmp/x.sock logs -f --tail 3 --since 10m redis",
            "insula exec redis -- sh -c true",
            "insula exec -it redis -- sh",
            "insula attach -i redis",
            "insula port-forward redis 80 8080:80 :80",
            "insula stop -t 0 a b",
            "insula rm --force --all",
            "insula inspect --plan redis",
            "insula inspect --oci redis",
            "insula import -",
            "insula import --from-containerd --list",
            "insula import --name x:1 --root /r app.tar",
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert!(
                parsed.is_ok(),
                "{line}: {}",
                parsed.map_or_else(|e| e.to_string(), |_| String::new())
            );
        }
        for line in [
            "insula",
            "insula run",
            "insula exec redis",
            "insula exec -i --timeout 5 redis -- sh",
            "insula port-forward redis",
            "insula port-forward redis 0",
            "insula port-forward redis 80:",
            "insula port-forward redis 80:65536",
            "insula run --network cluster redis.json",
            "insula run --name /A redis.json",
            "insula --address tcp://1.2.3.4 ps",
            "insula logs --since yesterday redis",
            "insula import",
            "insula rm",
            "insula stop --all redis",
            "insula import --from-containerd x.tar",
            "insula import --namespace x x.tar",
            "insula import --name A x.tar",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
