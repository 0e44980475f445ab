//! `insula run`: an app definition becomes pods, for as long as this command runs or longer.
//!
//! ```text
//! definition -> daemon -> image -> pods --detach--> return
//!                                   |
//!                                   +-> follow logs -> all ended, or Ctrl-C
//!                                                         -> stop -> remove -> daemon ends
//! ```
//! Whatever fails after the first pod was asked for, all pods of this run are stopped and removed.

mod instances;
mod interrupts;
mod ports;
mod timings;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use futures_util::future::try_join_all;
use insula_apps::{App, MAX_DEFINITION_BYTES, NetworkChoice, Networking, Notice, label};
use insula_cri_api::v1::{PodSandboxFilter, PodSandboxState};
use serde::Serialize;

use self::instances::{Run as AppRun, Started};
use self::interrupts::Interrupts;
use self::timings::Timings;
use super::Outcome;
use super::error::ClientError;
use super::exec::exit_code;
use super::images::id_of;
use super::logs::{self, Printer, Standard};
use super::output::{print, print_json, say};
use super::pull::pull;
use super::session::Session;
use crate::cli::{Format, Global, Network, Run};

/// Exit code of a command that Ctrl-C ended before the app ran: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// A pod that was left running, as a program reads it.
#[derive(Debug, Serialize)]
struct Left<'a> {
    app: &'a str,
    pod: &'a str,
    pod_id: &'a str,
    container_id: &'a str,
    ports: Vec<String>,
}

/// Runs an app.
pub(crate) async fn run(global: &Global, args: &Run) -> Outcome {
    let mut timings = Timings::new();
    let mut interrupts = Interrupts::new().map_err(ClientError::file("listen for signals"))?;
    let (app, networking) = define(args)?;
    timings.end("definition");

    let session = Session::open(global, &args.embedded).await?;
    timings.end(if session.started_daemon() {
        "daemon start"
    } else {
        "connection"
    });
    // Boxed: everything that a run holds is in this one future.
    let outcome = Box::pin(with_session(
        &session,
        args,
        &app,
        &networking,
        &mut interrupts,
        &mut timings,
    ))
    .await;
    let closed = session.close().await;
    timings.end("close");
    if args.timings {
        say(&timings.to_string());
    }
    let code = outcome?;
    closed?;
    Ok(code)
}

/// Reads the definition, says what is to be known about it, and decides its network.
fn define(args: &Run) -> Result<(App, Networking), ClientError> {
    let file = args.definition.display().to_string();
    let text =
        read_definition(&args.definition).map_err(ClientError::file(format!("read {file}")))?;
    let wrong = |source| ClientError::Definition {
        file: file.clone(),
        source,
    };
    let (mut app, notices) = insula_apps::parse(&text).map_err(wrong)?;
    if let Some(id) = &args.name {
        app.id = id.clone();
    }
    let choice = args.network.map(|network| match network {
        Network::Cni => NetworkChoice::Cni,
        Network::Host => NetworkChoice::Host,
    });
    let networking = app.networking(choice).map_err(wrong)?;
    for notice in notices.iter().chain(&networking.notices) {
        say(&notice_line(notice));
    }
    Ok((app, networking))
}

fn notice_line(notice: &Notice) -> String {
    format!("notice: {notice}")
}

/// One byte more than allowed tells that it is too long.
fn read_definition(path: &Path) -> io::Result<Vec<u8>> {
    let limit = MAX_DEFINITION_BYTES as u64 + 1;
    let mut text = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut text)?;
    } else {
        File::open(path)?.take(limit).read_to_end(&mut text)?;
    }
    Ok(text)
}

async fn with_session(
    session: &Session,
    args: &Run,
    app: &App,
    networking: &Networking,
    interrupts: &mut Interrupts,
    timings: &mut Timings,
) -> Outcome {
    refuse_second(session, app).await?;
    let image = tokio::select! {
        image = image(session, app) => image?,
        () = interrupts.next() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    timings.end("image");

    let run = AppRun::new(session, app, networking, image).await?;
    let code = match start(&run, interrupts, timings).await {
        Ok(Some(started)) if args.detach => return leave(session, app, &started),
        Ok(Some(started)) => follow(session, &started, interrupts, timings).await,
        Ok(None) => Ok(ExitCode::from(INTERRUPTED)),
        Err(error) => Err(error),
    };
    let stopped = tokio::select! {
        stopped = run.stop(None) => stopped,
        // The second Ctrl-C: whoever is asked twice does not wait.
        () = interrupts.next() => run.stop(Some(0)).await,
    };
    timings.end("stop");
    // What cannot be stopped in good order is removed by force all the same.
    let removed = run.remove().await;
    timings.end("remove");
    let code = code?;
    stopped?;
    removed?;
    Ok(code)
}

/// An app has one run at a time.
async fn refuse_second(session: &Session, app: &App) -> Result<(), ClientError> {
    let filter = PodSandboxFilter {
        label_selector: [(label::APP_ID.to_owned(), app.id.to_string())].into(),
        ..Default::default()
    };
    let pods = session.client.pods(Some(filter)).await?;
    let Some(pod) = pods.first() else {
        return Ok(());
    };
    let id = &app.id;
    Err(ClientError::Usage(
        if pod.state() == PodSandboxState::SandboxReady {
            format!(
                "{id} is running already: remove it first (insula rm --force {id}), or give this \
                 one another id with --name"
            )
        } else {
            format!(
                "{id} is stopped and still there: remove it first (insula rm {id}), or give this \
                 one another id with --name"
            )
        },
    ))
}

/// The image's id, pulled if it has to be.
async fn image(session: &Session, app: &App) -> Result<String, ClientError> {
    if !app.force_pull
        && let Some(id) = id_of(session, &app.image).await?
    {
        return Ok(id);
    }
    pull(session, &app.image).await
}

/// Starts every instance; `None` if interrupted between two.
async fn start(
    run: &AppRun<'_>,
    interrupts: &mut Interrupts,
    timings: &mut Timings,
) -> Result<Option<Vec<Started>>, ClientError> {
    let mut started = Vec::new();
    for index in 0..run.instances() {
        if interrupts.came() {
            return Ok(None);
        }
        started.push(run.start(index, timings).await?);
    }
    Ok(Some(started))
}

fn leave(session: &Session, app: &App, started: &[Started]) -> Outcome {
    match session.format {
        Format::Json => {
            let left: Vec<_> = started
                .iter()
                .map(|one| Left {
                    app: app.id.as_str(),
                    pod: &one.pod_name,
                    pod_id: &one.pod_id,
                    container_id: &one.container_id,
                    ports: one.ports.iter().map(ToString::to_string).collect(),
                })
                .collect();
            print_json(&left)?;
        }
        Format::Table => {
            for one in started {
                print(&format!("{}\n", one.pod_name))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what the app writes until all its containers have ended or the person has had enough.
///
/// The exit code is that of the first instance that failed.
async fn follow(
    session: &Session,
    started: &[Started],
    interrupts: &mut Interrupts,
    timings: &mut Timings,
) -> Outcome {
    let several = started.len() > 1;
    let followers = started.iter().map(|one| async move {
        let prefix = several.then(|| format!("[{}] ", one.pod_name));
        let mut printer = Printer::new(Standard, None, false, prefix);
        logs::follow_container(&session.client, &one.container_id, &mut printer).await?;
        logs::status(&session.client, &one.container_id).await
    });
    let ended = tokio::select! {
        ended = try_join_all(followers) => ended,
        () = interrupts.next() => {
            timings.end("run");
            say("stopping; Ctrl-C again to kill");
            return Ok(ExitCode::SUCCESS);
        }
    };
    timings.end("run");
    for (one, status) in started.iter().zip(ended?) {
        if status.exit_code != 0 {
            let why = match status.reason.as_str() {
                "" | "Error" => String::new(),
                reason => format!(" ({reason})"),
            };
            say(&format!(
                "{} ended with exit code {}{why}",
                one.pod_name, status.exit_code
            ));
            return Ok(exit_code(status.exit_code));
        }
    }
    Ok(ExitCode::SUCCESS)
}
