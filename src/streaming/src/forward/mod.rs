//! Forwards of a client's connections to ports of a pod.
//!
//! [`pairs`] finds the two streams that belong together, [`copy`] serves one
//! connection, whatever carries it.

mod copy;
mod pairs;

use crate::negotiate::{Channels, Encoding, Report};
use crate::runtime::{ForwardRequest, Runtime, StreamError};
use crate::spdy::{self, Stream};
use crate::websocket::mux::{Mux, Writer};
use crate::websocket::tunnel::Tunnel;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use pairs::{Named, Pair, Pairs};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;

/// Ports of one WebSocket with base64: a channel's number is one digit there.
const PORTS_MAX_BASE64: usize = 5;
/// Ports of one WebSocket otherwise.
const PORTS_MAX: usize = 64;

/// How often it is looked whether a stream's partner is late.
const LOOK: Duration = Duration::from_secs(1);
/// How long a client may take to read an error.
const TOLD: Duration = Duration::from_secs(5);

/// How many ports a client may name that speaks WebSocket without SPDY.
pub(crate) fn ports_max(encoding: Encoding) -> usize {
    match encoding {
        Encoding::Base64 => PORTS_MAX_BASE64,
        Encoding::Binary => PORTS_MAX,
    }
}

/// Serves forwards over SPDY until the client or the pod ends.
pub(crate) async fn over_spdy<I>(
    io: I,
    request: &ForwardRequest,
    runtime: &dyn Runtime,
    limits: spdy::Limits,
    creation: Duration,
) -> Result<(), StreamError>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (connection, mut incoming) = spdy::serve(io, limits);
    let forwards = async {
        let mut pairs = Pairs::new();
        let mut running = FuturesUnordered::new();
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                stream = incoming.next() => match stream {
                    None => return,
                    Some(stream) => match add(&mut pairs, stream) {
                        Ok(Some(pair)) => {
                            running.push(forward(pair, &request.pod, runtime).boxed());
                        }
                        Ok(None) => {}
                        // Dropped, the stream is reset.
                        Err(unfit) => tracing::debug!(%unfit, "a stream that is not part of a forward"),
                    },
                },
                Some(()) = running.next() => {}
                _ = look.tick() => {
                    for stream in pairs.expire(creation, Instant::now()) {
                        let late = StreamError::Deadline {
                            stage: "waiting for the data stream of a forward",
                            after: creation,
                        };
                        running.push(tell(stream, late).boxed());
                    }
                }
            }
        }
    };
    tokio::select! {
        () = forwards => {}
        _ = connection.closed() => {}
        () = runtime.pod_ended(&request.pod) => {}
    }
    connection.close();
    connection.closed().await;
    Ok(())
}

/// As [`over_spdy`], with the whole SPDY connection in WebSocket messages.
pub(crate) async fn over_tunnel<I>(
    socket: WebSocketStream<I>,
    request: &ForwardRequest,
    runtime: &dyn Runtime,
    limits: spdy::Limits,
    creation: Duration,
) -> Result<(), StreamError>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    over_spdy(Tunnel::new(socket), request, runtime, limits, creation).await
}

/// Serves one connection to each port of the request over a WebSocket's
/// channels: two for each port, data and errors. The first message of each is
/// the port's number, little-endian.
pub(crate) async fn over_channels<I>(
    socket: WebSocketStream<I>,
    request: &ForwardRequest,
    runtime: &dyn Runtime,
    encoding: Encoding,
) -> Result<(), StreamError>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let protocol = Channels {
        encoding,
        report: Report::Text,
        closes: false,
    };
    let mut mux = Mux::new(socket, protocol);
    let mut forwards = FuturesUnordered::new();
    for (port, number) in request.ports.iter().zip((0u8..).step_by(2)) {
        let data = tokio::io::join(mux.reader(number), mux.writer(number));
        let error = mux.writer(number + 1);
        forwards.push(forward_channels(*port, data, error, &request.pod, runtime));
    }
    let all = async { while forwards.next().await.is_some() {} };
    let driving = mux.drive();
    tokio::pin!(all, driving);
    tokio::select! {
        () = &mut all => {}
        driven = &mut driving => return Ok(driven?),
        () = runtime.pod_ended(&request.pod) => return Ok(()),
    }
    // The writers are gone, so this says goodbye.
    Ok(driving.await?)
}

fn add(pairs: &mut Pairs<Stream>, stream: Stream) -> Result<Option<Pair<Stream>>, pairs::Unfit> {
    let header = |name| stream.header(name).map(str::to_owned);
    let (port, request, kind) = (header("port"), header("requestID"), header("streamType"));
    let named = Named {
        id: stream.id(),
        port: port.as_deref(),
        request: request.as_deref(),
        kind: kind.as_deref(),
    };
    pairs.add(named, stream, Instant::now())
}

async fn forward(pair: Pair<Stream>, pod: &str, runtime: &dyn Runtime) {
    let Pair {
        port,
        data,
        mut error,
    } = pair;
    match serve(port, data, pod, runtime).await {
        Ok(()) => {
            // The client waits for it; if it is gone nobody does.
            let _ = error.shutdown().await;
        }
        Err(failed) => tell(error, failed).await,
    }
}

async fn forward_channels(
    port: u16,
    mut data: tokio::io::Join<DuplexStream, Writer>,
    mut error: Writer,
    pod: &str,
    runtime: &dyn Runtime,
) {
    let number = port.to_le_bytes();
    let greeted = async {
        data.write_all(&number).await?;
        error.write_all(&number).await
    };
    if greeted.await.is_err() {
        return;
    }
    if let Err(failed) = serve(port, data, pod, runtime).await {
        tell(error, failed).await;
    }
}

async fn serve(
    port: u16,
    client: impl AsyncRead + AsyncWrite,
    pod: &str,
    runtime: &dyn Runtime,
) -> Result<(), StreamError> {
    let failed = |error: &dyn std::fmt::Display| {
        StreamError::Runtime(format!(
            "error forwarding port {port} to pod {pod}: {error}"
        ))
    };
    let socket = runtime
        .connect(pod, port)
        .await
        .map_err(|error| failed(&error))?;
    let socket = TcpStream::from_std(socket).map_err(|error| failed(&error))?;
    copy::both_ways(client, socket)
        .await
        .map_err(|error| failed(&error))
}

/// Writes an error for a person to read, if the client is still there.
async fn tell(mut stream: impl AsyncWrite + Unpin, error: StreamError) {
    tracing::debug!(%error, "a forwarded connection failed");
    let text = error.to_string();
    let told = async {
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await
    };
    // Whoever does not read it in time has lost only words.
    let _ = tokio::time::timeout(TOLD, told).await;
}
