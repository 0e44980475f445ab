//! The streaming server of a daemon.

use super::config;
use super::{Error, system};
use insula_streaming::{Metrics, Server, Settings, TlsFiles};
use prometheus::Registry;
use std::path::PathBuf;
use std::time::Duration;

/// Listens where the configuration says.
pub(super) async fn listen(
    config: &config::Streaming,
    registry: &Registry,
) -> Result<Server, Error> {
    let metrics = Metrics::new(registry)
        .map_err(|error| system("the streaming server's metrics")(error.to_string()))?;
    Ok(Server::bind(settings(config), metrics).await?)
}

fn settings(config: &config::Streaming) -> Settings {
    let given = |path: &PathBuf| (!path.as_os_str().is_empty()).then(|| path.clone());
    let tls = TlsFiles {
        identity: given(&config.certificate).zip(given(&config.key)),
        client_ca: given(&config.client_ca),
    };
    Settings {
        address: config.address,
        tls: config.tls.then_some(tls),
        idle: Duration::from_secs(config.idle_timeout.into()),
        creation: Duration::from_secs(config.creation_timeout.into()),
    }
}
