//! `insula exec`.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use insula_cri_api::v1::ExecSyncRequest;
use serde::Serialize;

use super::Outcome;
use super::connection::{CHANGE, answer};
use super::error::ClientError;
use super::names::Inventory;
use super::output::print_json;
use super::session::Session;
use crate::cli::{Exec, Format};

/// A day: the CRI's "no limit" still has to end for this command.
const NO_LIMIT: Duration = Duration::from_hours(24);

#[derive(Debug, Serialize)]
struct Result {
    exit_code: i32,
    stdout: String,
    stderr: String,
}

/// Runs a command and ends with its exit code.
pub(crate) async fn exec(session: &Session, args: &Exec) -> Outcome {
    let inventory = Inventory::load(&session.client).await?;
    let container = inventory.container(&args.name)?;
    let limit = match args.timeout {
        0 => NO_LIMIT,
        seconds => CHANGE + Duration::from_secs(seconds.into()),
    };
    let request = ExecSyncRequest {
        container_id: container.id.clone(),
        cmd: args.command.clone(),
        timeout: args.timeout.into(),
    };
    let doing = format!("run {:?} in {}", args.command.join(" "), args.name);
    let result = answer(&doing, limit, session.client.runtime().exec_sync(request)).await?;
    match session.format {
        Format::Json => print_json(&Result {
            exit_code: result.exit_code,
            stdout: String::from_utf8_lossy(&result.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&result.stderr).into_owned(),
        })?,
        Format::Table => {
            let mut out = io::stdout().lock();
            out.write_all(&result.stdout)
                .and_then(|()| out.flush())
                .map_err(ClientError::output)?;
            // That nobody reads standard error is no trouble.
            let _ = io::stderr().lock().write_all(&result.stderr);
        }
    }
    Ok(exit_code(result.exit_code))
}

/// An exit code of ours for one of a container: what does not fit is 255.
pub(crate) fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}
