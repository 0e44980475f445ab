//! `insula logs`: reads the log files of containers, in the format of the CRI.

mod file;
mod line;
mod printer;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use insula_cri_api::v1::{ContainerState, ContainerStatus};
use tonic::Code;

use self::file::LogFile;
pub(crate) use self::printer::{Printer, Sink, Standard};
use super::Outcome;
use super::connection::Client;
use super::error::ClientError;
use super::names::Inventory;
use super::session::Session;
use super::time::Moment;
use crate::cli::Logs;

/// How often a file is looked at that had nothing new.
const TICK: Duration = Duration::from_millis(50);
/// How often the container's state is asked for meanwhile.
const STATE_TICK: Duration = Duration::from_millis(500);
/// How long a daemon may be away (for an upgrade) while its logs are followed.
const AWAY: Duration = Duration::from_mins(1);

/// Prints a container's log.
pub(crate) async fn logs(session: &Session, args: &Logs) -> Outcome {
    let inventory = Inventory::load(&session.client).await?;
    let container = inventory.container(&args.name)?;
    let status = status(&session.client, &container.id).await?;
    if status.log_path.is_empty() {
        return Err(ClientError::Usage(format!(
            "{} has no log file: its pod was made without a log directory",
            args.name
        )));
    }
    let since = args.since.map(|since| since.moment(Moment::now()));
    let mut printer = Printer::new(Standard, since, args.timestamps, None);
    let mut file = LogFile::open(&status.log_path).map_err(ClientError::file(format!(
        "open the log {}",
        status.log_path
    )))?;
    if let Some(lines) = args.tail {
        file.skip_to_last(lines)
            .map_err(ClientError::file(format!("read {}", status.log_path)))?;
    }
    if args.follow {
        follow(&session.client, &container.id, file, &mut printer).await?;
    } else {
        copy(&mut file, &mut printer)?;
        printer.end()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Follows a container's log from its beginning, once it is there, until the container ends.
pub(crate) async fn follow_container(
    client: &Client,
    id: &str,
    printer: &mut Printer<impl Sink>,
) -> Result<(), ClientError> {
    let path = status(client, id).await?.log_path;
    let file = LogFile::open(&path).map_err(ClientError::file(format!("open the log {path}")))?;
    follow(client, id, file, printer).await
}

pub(crate) async fn status(client: &Client, id: &str) -> Result<ContainerStatus, ClientError> {
    let answer = client.container_status(id, false).await?;
    answer.status.ok_or_else(|| ClientError::Incomplete {
        doing: "ask for a container's state".into(),
        what: "status",
    })
}

/// Copies what is there; true if there was anything.
fn copy(file: &mut LogFile, printer: &mut Printer<impl Sink>) -> Result<bool, ClientError> {
    let mut any = false;
    while let Some(chunk) = file
        .next_chunk()
        .map_err(ClientError::file("read the log"))?
    {
        printer.take(chunk)?;
        any = true;
    }
    Ok(any)
}

async fn follow(
    client: &Client,
    id: &str,
    mut file: LogFile,
    printer: &mut Printer<impl Sink>,
) -> Result<(), ClientError> {
    let mut last_answer = Instant::now();
    let mut next_question = Instant::now();
    loop {
        if let Some(chunk) = file
            .next_chunk()
            .map_err(ClientError::file("read the log"))?
        {
            printer.take(chunk)?;
            // A container that never stops writing must not keep a Ctrl-C waiting.
            tokio::task::yield_now().await;
            continue;
        }
        if Instant::now() >= next_question {
            next_question = Instant::now() + STATE_TICK;
            match ended(client, id).await {
                Ok(true) => {
                    // What was written between the last look and the end.
                    copy(&mut file, printer)?;
                    return printer.end();
                }
                Ok(false) => last_answer = Instant::now(),
                Err(error) if is_away(&error) && last_answer.elapsed() < AWAY => {}
                Err(error) => return Err(error),
            }
            continue;
        }
        tokio::time::sleep(TICK).await;
    }
}

/// A container that was removed has ended, too.
async fn ended(client: &Client, id: &str) -> Result<bool, ClientError> {
    match status(client, id).await {
        Ok(status) => Ok(status.state() == ContainerState::ContainerExited),
        Err(error) if error.is_not_found() => Ok(true),
        Err(error) => Err(error),
    }
}

fn is_away(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { status, .. }
        if matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled))
}
