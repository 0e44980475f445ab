//! Connections to a port of a pod, for port forwarding.

use crate::env::Env;
use crate::error::{Error, Result};
use crate::files::blocking;
use crate::registry::Snapshot;
use crate::status::PodState;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpSocket;

/// Refuses a pod that no port can be forwarded to.
pub(crate) fn check(snapshot: &Snapshot) -> Result<()> {
    let pod = &snapshot.pod;
    match pod.state {
        PodState::Ready => Ok(()),
        PodState::NotReady => Err(Error::FailedPrecondition(format!(
            "no port of pod {} can be forwarded: it is not ready{}{}",
            pod.id,
            if pod.message.is_empty() { "" } else { ": " },
            pod.message
        ))),
    }
}

/// Connects to a port of the pod's loopback, `127.0.0.1` or else `::1`. The
/// socket is made inside the pod's network namespace and belongs there for good;
/// connecting is done from here. It is non-blocking.
pub(crate) async fn connect(
    env: &Env,
    snapshot: &Snapshot,
    port: u16,
) -> Result<std::net::TcpStream> {
    check(snapshot)?;
    let pod = &snapshot.pod.id;
    let deadline = env.config.deadlines.connect;
    let begun = Instant::now();
    let mut refusals = Vec::new();
    for address in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let address = SocketAddr::new(address, port);
        let left = deadline.saturating_sub(begun.elapsed());
        let namespace = snapshot.pod.network_namespace.clone();
        match dial(env, namespace, address, left).await {
            Ok(stream) => return Ok(stream),
            Err(Error::DeadlineExceeded { .. }) => {
                return Err(Error::DeadlineExceeded {
                    stage: format!("connect to {address} in pod {pod}"),
                    after: begun.elapsed(),
                });
            }
            Err(error) => refusals.push(format!("{address}: {error}")),
        }
    }
    Err(Error::FailedPrecondition(format!(
        "cannot connect to port {port} of pod {pod}: {}",
        refusals.join(", ")
    )))
}

async fn dial(
    env: &Env,
    namespace: Option<std::path::PathBuf>,
    address: SocketAddr,
    deadline: Duration,
) -> Result<std::net::TcpStream> {
    let stage = "connect";
    let begun = Instant::now();
    let host = Arc::clone(&env.host);
    let socket = blocking("make a socket", deadline, move || {
        host.tcp_socket(namespace.as_deref(), address.is_ipv6())
    })
    .await?;
    let socket = TcpSocket::from_std_stream(socket.into());
    let left = deadline.saturating_sub(begun.elapsed());
    let stream = tokio::time::timeout(left, socket.connect(address))
        .await
        .map_err(|_| Error::DeadlineExceeded {
            stage: stage.to_owned(),
            after: begun.elapsed(),
        })?;
    stream
        .and_then(tokio::net::TcpStream::into_std)
        .map_err(|error| Error::FailedPrecondition(error.to_string()))
}
