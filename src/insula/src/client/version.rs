//! `insula version`.

use std::process::ExitCode;

use serde::Serialize;

use super::Outcome;
use super::connection::Client;
use super::error::ClientError;
use super::output::{print, print_json};
use crate::cli::{Format, Global};

#[derive(Debug, Serialize)]
struct Versions {
    client: &'static str,
    daemon: Option<Daemon>,
}

#[derive(Debug, Serialize)]
struct Daemon {
    name: String,
    version: String,
    api: String,
}

/// Prints both versions; starts no daemon.
pub(crate) async fn version(global: &Global) -> Outcome {
    let daemon = match Client::connect(&global.address).await {
        Ok(client) => {
            let answer = client.version().await?;
            Some(Daemon {
                name: answer.runtime_name,
                version: answer.runtime_version,
                api: answer.runtime_api_version,
            })
        }
        Err(ClientError::NoDaemon { .. }) => None,
        Err(error) => return Err(error),
    };
    let versions = Versions {
        client: env!("CARGO_PKG_VERSION"),
        daemon,
    };
    match global.output {
        Format::Json => print_json(&versions)?,
        Format::Table => {
            let daemon = versions.daemon.map_or_else(
                || format!("none listens at {}", global.address),
                |daemon| format!("{} {}, CRI {}", daemon.name, daemon.version, daemon.api),
            );
            print(&format!(
                "command   {}\ndaemon    {daemon}\n",
                versions.client
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
