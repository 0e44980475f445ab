//! The streams of a remote command over SPDY.

use super::session::Client;
use crate::negotiate::SpdyCommand;
use crate::runtime::{StreamError, Streams};
use crate::spdy::{Incoming, Stream};
use std::collections::HashMap;
use std::time::Duration;

/// Waits for the client to open its streams, each named by its header
/// `streamType`.
pub(super) async fn gather(
    incoming: &mut Incoming,
    wanted: Streams,
    protocol: SpdyCommand,
    limit: Duration,
) -> Result<Client, StreamError> {
    let names: Vec<&'static str> = [
        ("error", true),
        ("stdin", wanted.stdin),
        ("stdout", wanted.stdout),
        ("stderr", wanted.stderr),
        ("resize", wanted.terminal && protocol.resizes),
    ]
    .into_iter()
    .filter_map(|(name, wanted)| wanted.then_some(name))
    .collect();
    let mut streams = HashMap::new();
    let all = async {
        while streams.len() < names.len() {
            let stream = incoming.next().await.ok_or_else(super::gone)?;
            let kind = stream.header("streamType");
            match names.iter().find(|name| Some(**name) == kind) {
                Some(name) if !streams.contains_key(name) => {
                    streams.insert(*name, stream);
                }
                // Dropping it resets it, which tells the client.
                _ => tracing::debug!(?kind, "a stream that is not part of the session"),
            }
        }
        Ok::<_, StreamError>(())
    };
    match tokio::time::timeout(limit, all).await {
        Ok(gathered) => gathered?,
        Err(_) => {
            return Err(StreamError::Deadline {
                stage: "waiting for the client's streams",
                after: limit,
            });
        }
    }
    let error = streams.remove("error").ok_or_else(super::gone)?;
    let mut output = |name| {
        streams
            .remove(name)
            .map(|stream: Stream| Box::new(stream) as _)
    };
    let (stdout, stderr) = (output("stdout"), output("stderr"));
    let mut input = |name| {
        streams
            .remove(name)
            .map(|stream: Stream| Box::new(stream) as _)
    };
    Ok(Client {
        stdin: input("stdin"),
        resize: input("resize"),
        stdout,
        stderr,
        error: Box::new(error),
        report: protocol.report,
    })
}
