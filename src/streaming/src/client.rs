//! The other end: what the `insula` command and the tests speak to a streaming
//! server. SPDY/3.1 with `v4.channel.k8s.io`, as kubelet does. A server that
//! speaks TLS is known by its certificate's fingerprint.

use crate::negotiate::STREAM_PROTOCOL;
use crate::remote::resize::Size;
use crate::remote::status::Status;
use crate::runtime::Streams;
use crate::spdy::{Connection, Limits, SpdyError, Stream, connect};
use crate::tls::pinned::{self, Fingerprint};
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long a server may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// Most that is read of a refusal's text, in bytes.
const REFUSAL_MAX: usize = 4096;
/// Most that is read of a status, in bytes.
const STATUS_MAX: u64 = 1 << 20;

/// A session cannot be opened or has failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is not one that this client can open.
    #[error("{url}: {problem}")]
    Url {
        /// Which.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The server cannot be reached or does not speak HTTP.
    #[error("the streaming server at {server}: {problem}")]
    Connection {
        /// Host and port.
        server: String,
        /// Why.
        problem: String,
    },
    /// The server answered with something else than a session.
    #[error("the streaming server refused the session: {status}: {text}")]
    Refused {
        /// Its HTTP status.
        status: StatusCode,
        /// What it said.
        text: String,
    },
    /// The session broke.
    #[error("the session: {0}")]
    Spdy(#[from] SpdyError),
    /// A stream of the session broke.
    #[error("the session: {0}")]
    Stream(#[from] std::io::Error),
    /// The other end says that the command could not be run to its end.
    #[error("{0}")]
    Failed(String),
}

/// A command, or a container, that this end is joined to. Streams that were
/// asked for are there; they may be taken out.
#[derive(Debug)]
pub struct Remote {
    /// What the command reads. Shutting it down is the end of its input.
    pub stdin: Option<Stream>,
    /// What it writes.
    pub stdout: Option<Stream>,
    /// What it writes as errors.
    pub stderr: Option<Stream>,
    /// Where the sizes of a terminal go.
    pub sizes: Option<Sizes>,
    /// How it ends.
    pub end: End,
}

/// Tells the other end how large the terminal is.
#[derive(Debug)]
pub struct Sizes(Stream);

/// Waits for the end of a session, which it also is when it is dropped.
#[derive(Debug)]
pub struct End {
    error: Stream,
    _connection: Connection,
}

/// Ports of a pod.
#[derive(Debug)]
pub struct Ports {
    connection: Connection,
    next: AtomicU64,
}

/// One connection to a port.
#[derive(Debug)]
pub struct Port {
    /// What is written to the port and read from it.
    pub data: Stream,
    /// Text, if something goes wrong.
    pub error: Stream,
}

/// Opens a session of exec or attach with the streams that its URL was asked
/// for with. An `https` URL needs the server's certificate.
pub async fn remote(
    url: &str,
    certificate: Option<Fingerprint>,
    wanted: Streams,
) -> Result<Remote, ClientError> {
    let connection = upgrade(url, certificate, "v4.channel.k8s.io").await?;
    let open = async |wanted: bool, kind| match wanted {
        true => connection.open(&[("streamType", kind)]).await.map(Some),
        false => Ok(None),
    };
    let error = connection.open(&[("streamType", "error")]).await?;
    let stdin = open(wanted.stdin, "stdin").await?;
    let sizes = open(wanted.terminal, "resize").await?.map(Sizes);
    let stdout = open(wanted.stdout, "stdout").await?;
    let stderr = open(wanted.stderr, "stderr").await?;
    Ok(Remote {
        stdin,
        stdout,
        stderr,
        sizes,
        end: End {
            error,
            _connection: connection,
        },
    })
}

/// Opens a session of port-forward. An `https` URL needs the server's
/// certificate.
pub async fn ports(url: &str, certificate: Option<Fingerprint>) -> Result<Ports, ClientError> {
    Ok(Ports {
        connection: upgrade(url, certificate, "portforward.k8s.io").await?,
        next: AtomicU64::new(0),
    })
}

async fn upgrade(
    url: &str,
    certificate: Option<Fingerprint>,
    protocol: &'static str,
) -> Result<Connection, ClientError> {
    let place = parse(url, certificate)?;
    let failed = |problem: String| ClientError::Connection {
        server: place.server.clone(),
        problem,
    };
    match tokio::time::timeout(ANSWER_DEADLINE, ask(&place, protocol)).await {
        Err(_) => Err(failed(format!("no answer in {ANSWER_DEADLINE:?}"))),
        Ok(Err(Unanswered::Http(error))) => Err(failed(error.to_string())),
        Ok(Err(Unanswered::Io(error))) => Err(failed(error.to_string())),
        Ok(Err(Unanswered::Refused(status, text))) => Err(ClientError::Refused { status, text }),
        Ok(Ok(connection)) => Ok(connection),
    }
}

/// Why there is no session.
enum Unanswered {
    Io(std::io::Error),
    Http(Box<dyn std::error::Error + Send + Sync>),
    Refused(StatusCode, String),
}

/// Where a URL leads.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    /// Host and port.
    server: String,
    /// The host alone, an IPv6 address without brackets.
    host: String,
    path: String,
    /// With TLS, whom to believe.
    certificate: Option<Fingerprint>,
}

async fn ask(place: &Place, protocol: &'static str) -> Result<Connection, Unanswered> {
    let stream = TcpStream::connect(&place.server)
        .await
        .map_err(Unanswered::Io)?;
    stream.set_nodelay(true).map_err(Unanswered::Io)?;
    match place.certificate {
        None => begin(stream, place, protocol).await,
        Some(certificate) => {
            let stream = pinned::connect(stream, &place.host, certificate).await;
            begin(stream.map_err(Unanswered::Io)?, place, protocol).await
        }
    }
}

async fn begin(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    place: &Place,
    protocol: &'static str,
) -> Result<Connection, Unanswered> {
    let http = |error: hyper::Error| Unanswered::Http(error.into());
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(http)?;
    let driving = tokio::spawn(connection.with_upgrades());
    let request = Request::post(&place.path)
        .header(header::HOST, &place.server)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1")
        .header(STREAM_PROTOCOL, protocol)
        .body(Empty::<Bytes>::new())
        .map_err(|error| Unanswered::Http(error.into()))?;
    let response = sender.send_request(request).await.map_err(http)?;
    let status = response.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        let body = Limited::new(response.into_body(), REFUSAL_MAX).collect();
        let text = body.await.map_err(Unanswered::Http)?.to_bytes();
        driving.abort();
        let text = String::from_utf8_lossy(&text).trim_end().to_owned();
        return Err(Unanswered::Refused(status, text));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(http)?;
    Ok(connect(TokioIo::new(upgraded), Limits::default()))
}

/// Where a URL leads. A certificate is for those that speak TLS alone.
fn parse(url: &str, certificate: Option<Fingerprint>) -> Result<Place, ClientError> {
    let wrong = |problem| ClientError::Url {
        url: url.to_owned(),
        problem,
    };
    let parsed: Uri = url.parse().map_err(|_| wrong("is not a URL"))?;
    let certificate = match (parsed.scheme_str(), certificate) {
        (Some("http"), _) => None,
        (Some("https"), Some(certificate)) => Some(certificate),
        (Some("https"), None) => {
            return Err(wrong(
                "the streaming server speaks TLS, and nobody has told by which certificate it is \
                 known; use kubectl, or crictl",
            ));
        }
        _ => return Err(wrong("is not an HTTP URL")),
    };
    let authority = parsed.authority().ok_or_else(|| wrong("names no server"))?;
    let host = authority.host().trim_matches(['[', ']']);
    let path = parsed.path_and_query().map_or("/", |path| path.as_str());
    Ok(Place {
        server: authority.to_string(),
        host: host.to_owned(),
        path: path.to_owned(),
        certificate,
    })
}

// === impl Sizes ===

impl Sizes {
    /// Tells a size.
    pub async fn send(&mut self, size: Size) -> std::io::Result<()> {
        let text = format!(r#"{{"Width":{},"Height":{}}}"#, size.columns, size.rows);
        self.0.write_all(text.as_bytes()).await?;
        self.0.flush().await
    }
}

// === impl End ===

impl End {
    /// Waits for the end. The exit code of a command, 0 where a container's
    /// streams have ended.
    pub async fn wait(mut self) -> Result<i32, ClientError> {
        let mut text = Vec::new();
        (&mut self.error)
            .take(STATUS_MAX)
            .read_to_end(&mut text)
            .await?;
        let status: Status = serde_json::from_slice(&text)
            .map_err(|_| ClientError::Failed("the session ended without saying how".to_owned()))?;
        if status.status == "Success" {
            return Ok(0);
        }
        let causes = status.details.iter().flat_map(|details| &details.causes);
        let code = causes
            .filter(|cause| cause.reason == "ExitCode")
            .find_map(|cause| cause.message.parse().ok());
        code.ok_or(ClientError::Failed(status.message))
    }
}

// === impl Ports ===

impl Ports {
    /// Opens a connection to a port.
    pub async fn open(&self, port: u16) -> Result<Port, ClientError> {
        let request = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let port = port.to_string();
        let headers = |kind| {
            [
                ("streamType", kind),
                ("port", port.as_str()),
                ("requestID", request.as_str()),
            ]
        };
        let error = self.connection.open(&headers("error")).await?;
        let data = self.connection.open(&headers("data")).await?;
        Ok(Port { data, error })
    }

    /// Waits until the session has ended, and says why.
    pub async fn closed(&self) -> String {
        self.connection.closed().await.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, parse};

    #[test]
    fn a_url_is_a_server_and_a_path() {
        let pin = format!("sha256:{}", "5a".repeat(32)).parse().unwrap();
        for (url, certificate, server, host) in [
            (
                "http://127.0.0.1:4000/exec/x",
                None,
                "127.0.0.1:4000",
                "127.0.0.1",
            ),
            (
                "http://127.0.0.1:4000/exec/x",
                Some(pin),
                "127.0.0.1:4000",
                "127.0.0.1",
            ),
            ("https://[::1]:4000/exec/x", Some(pin), "[::1]:4000", "::1"),
            (
                "https://node-1:4000/exec/x",
                Some(pin),
                "node-1:4000",
                "node-1",
            ),
        ] {
            let wanted = Place {
                server: server.into(),
                host: host.into(),
                path: "/exec/x".into(),
                certificate: certificate.filter(|_| url.starts_with("https")),
            };
            assert_eq!(parse(url, certificate).unwrap(), wanted, "{url}");
        }
        for wrong in ["https://127.0.0.1:1/exec/x", "unix:///x", "/exec/x", ""] {
            assert!(parse(wrong, None).is_err(), "{wrong}");
        }
    }
}
