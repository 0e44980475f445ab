//! Streams of containers and pods on a person's terminal: exec -i, attach and port-forward.

mod forward;
mod joined;
mod terminal;

pub(crate) use forward::port_forward;

use insula_cri_api::v1;
use insula_streaming::{Fingerprint, Streams};

use super::Outcome;
use super::connection::{QUESTION, answer};
use super::error::ClientError;
use super::exec::exit_code;
use super::inspect::parsed;
use super::names::Inventory;
use super::session::Session;
use crate::cli::{Attach, Exec};

/// Runs a command with this terminal's streams and ends with its exit code.
pub(crate) async fn exec(session: &Session, args: &Exec) -> Outcome {
    let inventory = Inventory::load(&session.client).await?;
    let container = inventory.container(&args.name)?;
    let streams = streams(args.interactive, args.tty);
    let request = v1::ExecRequest {
        container_id: container.id.clone(),
        cmd: args.command.clone(),
        tty: streams.terminal,
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
    };
    let doing = format!("run {:?} in {}", args.command.join(" "), args.name);
    let url = answer(&doing, QUESTION, session.client.runtime().exec(request)).await?;
    join(session, &doing, &url.url, streams).await
}

/// Joins a container's own streams until they end.
pub(crate) async fn attach(session: &Session, args: &Attach) -> Outcome {
    let inventory = Inventory::load(&session.client).await?;
    let container = inventory.container(&args.name)?;
    let streams = streams(args.interactive, args.tty);
    let request = v1::AttachRequest {
        container_id: container.id.clone(),
        tty: streams.terminal,
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
    };
    let doing = format!("attach to {}", args.name);
    let url = answer(&doing, QUESTION, session.client.runtime().attach(request)).await?;
    join(session, &doing, &url.url, streams).await
}

/// The certificate by which the streaming server is known, if the URL is of one that speaks TLS.
/// The daemon tells it, whose socket is root's.
async fn certificate(
    session: &Session,
    doing: &str,
    url: &str,
) -> Result<Option<Fingerprint>, ClientError> {
    if !url.starts_with("https:") {
        return Ok(None);
    }
    let request = v1::StatusRequest { verbose: true };
    let status = answer(doing, QUESTION, session.client.runtime().status(request)).await?;
    let told = status.info.get("streaming").map(|text| parsed(text));
    Ok(told.and_then(|told| told.get("certificate")?.as_str()?.parse().ok()))
}

/// A terminal has one stream for both kinds of output.
fn streams(interactive: bool, terminal: bool) -> Streams {
    Streams {
        stdin: interactive,
        stdout: true,
        stderr: !terminal,
        terminal,
    }
}

async fn join(session: &Session, doing: &str, url: &str, streams: Streams) -> Outcome {
    let certificate = certificate(session, doing, url).await?;
    let failed = |source| ClientError::Streams {
        doing: doing.to_owned(),
        source,
    };
    let remote = insula_streaming::client::remote(url, certificate, streams)
        .await
        .map_err(failed)?;
    // Raw from here on, and as it was when this is dropped.
    let raw = match streams.terminal && streams.stdin {
        true => terminal::Raw::enter().map_err(ClientError::file("set up the terminal"))?,
        false => None,
    };
    let ended = joined::run(remote).await;
    drop(raw);
    Ok(exit_code(ended.map_err(failed)?))
}
