//! Serving the two services on a unix socket.

use crate::deadline::Deadline;
use crate::service::Service;
use insula_cri_api::v1::image_service_server::ImageServiceServer;
use insula_cri_api::v1::runtime_service_server::RuntimeServiceServer;
use std::future::Future;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::server::NamedService as _;
use tonic::transport::Server;
use tonic_health::server::HealthReporter;

/// Largest request and answer in bytes: what kubelet and crictl use.
const MESSAGE_MAX: usize = 16 << 20;

/// Who may talk to the socket, beside root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// A user id: the daemon's own.
    pub uid: u32,
}

/// Serving failed.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The transport gave up.
    #[error("the gRPC server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// Calls were still running when their time was over.
    #[error("calls were still running {:.1} s after the daemon was asked to stop", .0.as_secs_f64())]
    StillRunning(Duration),
}

/// Serves until `stop` is ready, then takes no more connections and gives the
/// calls in flight `grace` to end.
pub async fn serve(
    listener: UnixListener,
    service: Service,
    allowed: Allowed,
    stop: impl Future<Output = ()> + Send,
    grace: Duration,
) -> Result<(), ServeError> {
    let (mut health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<RuntimeServiceServer<Service>>().await;
    health.set_serving::<ImageServiceServer<Service>>().await;
    let runtime = RuntimeServiceServer::new(service.clone())
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX);
    let pods = service.pods().clone();
    let image = ImageServiceServer::new(service)
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX);
    let incoming = UnixListenerStream::new(listener).filter(move |accepted| {
        accepted
            .as_ref()
            .map_or(true, |stream| allowed.admits(stream))
    });

    let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = Server::builder()
        .add_service(health_service)
        .add_service(Deadline::new(runtime))
        .add_service(Deadline::new(image))
        .serve_with_incoming_shutdown(incoming, async {
            // An error means that the other end is gone: stop as well.
            let _ = stopped.await;
        });
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return Ok(ended?),
        () = stop => {}
    }
    say_goodbye(&mut health).await;
    pods.stop_events();
    let _ = stopping.send(());
    match tokio::time::timeout(grace, serving).await {
        Ok(ended) => Ok(ended?),
        Err(_) => Err(ServeError::StillRunning(grace)),
    }
}

/// Tells those who watch the health, and ends their streams, which would go on
/// for ever.
async fn say_goodbye(health: &mut HealthReporter) {
    health
        .set_not_serving::<RuntimeServiceServer<Service>>()
        .await;
    health
        .set_not_serving::<ImageServiceServer<Service>>()
        .await;
    for name in [
        RuntimeServiceServer::<Service>::NAME,
        ImageServiceServer::<Service>::NAME,
        "",
    ] {
        health.clear_service_status(name).await;
    }
}

// === impl Allowed ===

impl Allowed {
    /// The socket's mode keeps others out; its credentials are checked as well,
    /// since a mode can be changed by mistake and a socket handed on.
    fn admits(self, stream: &UnixStream) -> bool {
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == 0 || peer.uid() == self.uid => true,
            Ok(peer) => {
                tracing::warn!(
                    uid = peer.uid(),
                    pid = peer.pid(),
                    "refused a connection of another user"
                );
                false
            }
            Err(error) => {
                tracing::warn!(%error, "refused a connection without credentials");
                false
            }
        }
    }
}
