//! A connection for the time of one command.

use std::path::PathBuf;

use super::connection::Client;
use super::embedded::{self, Daemon};
use super::error::ClientError;
use super::output::say;
use crate::cli::{Embedded, Format, Global};

/// What every command has.
#[derive(Debug)]
pub(crate) struct Session {
    /// The connection.
    pub(crate) client: Client,
    /// How to print results.
    pub(crate) format: Format,
    /// The daemon's state directory.
    pub(crate) state: PathBuf,
    /// The daemon, if this command started it.
    daemon: Option<Daemon>,
}

impl Session {
    /// Connects, and starts a daemon first if none listens.
    ///
    /// At an address of the person's own a daemon is started only if its directories are given
    /// too: with the default ones it would be a second daemon over the same state.
    pub(crate) async fn open(global: &Global, place: &Embedded) -> Result<Self, ClientError> {
        let address = &global.address;
        let (client, daemon) = match Client::connect(address).await {
            Err(ClientError::NoDaemon { .. }) if address.is_default() || place.root.is_some() => {
                embedded::start(address, place).await?
            }
            connected => (connected?, None),
        };
        Ok(Self {
            client,
            format: global.output,
            state: place.state.clone(),
            daemon,
        })
    }

    /// Whether this command started the daemon.
    pub(crate) fn started_daemon(&self) -> bool {
        self.daemon.is_some()
    }

    /// Ends the daemon if this command started it and no pod is left.
    pub(crate) async fn close(self) -> Result<(), ClientError> {
        let Some(daemon) = self.daemon else {
            return Ok(());
        };
        if self.client.pods(None).await?.is_empty() {
            return daemon.stop().await;
        }
        say(&format!(
            "the daemon goes on, because there are pods; it is process {0} (kill {0} ends it, the \
             pods stay)",
            daemon.pid()
        ));
        Ok(())
    }
}
