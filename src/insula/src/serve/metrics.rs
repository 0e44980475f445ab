//! `GET /metrics` in the text format of Prometheus.

use super::config::Address;
use super::place;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use insula_streaming::Sessions;
use prometheus::{Encoder as _, Registry, TextEncoder};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

/// How long a client may take to send its request's head.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// How long one connection may last.
const CONNECTION_DEADLINE: Duration = Duration::from_mins(1);
/// Connections served at the same time; more wait.
const CONNECTIONS_MAX: usize = 16;

/// Where metrics are served.
#[derive(Debug)]
pub(crate) enum Endpoint {
    Unix(UnixListener),
    Loopback(TcpListener),
}

/// The registries of all rooms.
#[derive(Debug, Clone)]
pub(crate) struct Gatherer {
    registries: Vec<Registry>,
    /// Those whose number changes by itself, as they expire.
    sessions: Option<Sessions>,
}

/// Listens where the configuration says.
pub(crate) async fn listen(address: &Address) -> Result<Endpoint, String> {
    let failed = |error: std::io::Error| format!("cannot serve metrics on {address}: {error}");
    match address {
        Address::Unix(path) => {
            let listener = place::listen(path).map_err(|error| error.to_string())?;
            UnixListener::from_std(listener)
                .map(Endpoint::Unix)
                .map_err(failed)
        }
        Address::Loopback(address) => TcpListener::bind(address)
            .await
            .map(Endpoint::Loopback)
            .map_err(failed),
    }
}

/// Answers until the task that it runs in is dropped.
pub(crate) async fn serve(endpoint: Endpoint, gatherer: Gatherer) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        let gatherer = gatherer.clone();
        let accepted = match &endpoint {
            Endpoint::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(async move {
                    answer(stream, gatherer).await;
                    drop(permit);
                });
            }),
            Endpoint::Loopback(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(async move {
                    answer(stream, gatherer).await;
                    drop(permit);
                });
            }),
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "cannot take a connection for metrics");
            // Out of descriptors: others have to close theirs first.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, gatherer: Gatherer) {
    let service = service_fn(move |request: Request<Incoming>| {
        let gatherer = gatherer.clone();
        async move { Ok::<_, Infallible>(gatherer.respond(request.method(), request.uri().path())) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_DEADLINE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection for metrics failed"),
        Err(_) => tracing::debug!("a connection for metrics was closed: it took too long"),
    }
}

// === impl Gatherer ===

impl Gatherer {
    pub(crate) fn new(registries: Vec<Registry>) -> Self {
        Self {
            registries,
            sessions: None,
        }
    }

    pub(crate) fn with_sessions(self, sessions: Sessions) -> Self {
        Self {
            sessions: Some(sessions),
            ..self
        }
    }

    fn respond(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let plain = |status: StatusCode, text: &'static str| {
            let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
            *response.status_mut() = status;
            response
        };
        if path != "/metrics" {
            return plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n");
        }
        if method != Method::GET {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
        }
        match self.text() {
            Ok(text) => {
                let mut response = Response::new(Full::new(Bytes::from(text)));
                if let Ok(kind) = TextEncoder::new().format_type().parse() {
                    response.headers_mut().insert(CONTENT_TYPE, kind);
                }
                response
            }
            Err(error) => {
                tracing::error!(%error, "cannot encode the metrics");
                plain(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "metrics cannot be encoded\n",
                )
            }
        }
    }

    fn text(&self) -> prometheus::Result<Vec<u8>> {
        if let Some(sessions) = &self.sessions {
            sessions.refresh_metrics();
        }
        let families: Vec<_> = self.registries.iter().flat_map(Registry::gather).collect();
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::{Gatherer, Method, StatusCode, listen, serve};
    use crate::serve::config::Address;
    use prometheus::{IntCounter, Registry};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn gatherer() -> Gatherer {
        let registries = ["one_total", "two_total"].map(|name| {
            let registry = Registry::new();
            let counter = IntCounter::new(name, "help").unwrap();
            counter.inc();
            registry.register(Box::new(counter)).unwrap();
            registry
        });
        Gatherer::new(registries.to_vec())
    }

    /// One line of the text format: a comment, or a name with labels and a value.
    fn is_sample(line: &str) -> bool {
        let Some((series, value)) = line.rsplit_once(' ') else {
            return false;
        };
        let (name, labels) = series
            .split_once('{')
            .map_or((series, None), |(name, rest)| (name, Some(rest)));
        let named = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        named && labels.is_none_or(|labels| labels.ends_with('}')) && value.parse::<f64>().is_ok()
    }

    #[tokio::test]
    async fn the_page_parses_and_every_name_is_documented() {
        let registry = Registry::new();
        let _calls = insula_server::CallMetrics::new(&registry).unwrap();
        let pods = insula_pods::Metrics::new().unwrap();
        let text = Gatherer::new(vec![registry, pods.registry().clone()])
            .text()
            .unwrap();
        let text = String::from_utf8(text).unwrap();
        let documented = include_str!("../../../../docs/metrics.md");
        let mut kinds = 0;
        for line in text.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, _) = kind.split_once(' ').unwrap();
                assert!(documented.contains(&format!("`{name}`")), "{name}");
                kinds += 1;
            } else {
                assert!(line.starts_with("# HELP ") || is_sample(line), "{line}");
            }
        }
        assert!(kinds >= 6, "{text}");
        assert!(text.contains("insula_build_info{version="), "{text}");
        for wrong in ["", "name", "name{a=\"b\" 1", "na-me 1", "name one"] {
            assert!(!is_sample(wrong), "{wrong}");
        }
    }

    #[test]
    fn only_metrics_are_served() {
        let gatherer = gatherer();
        for (method, path, want) in [
            (Method::GET, "/metrics", StatusCode::OK),
            (Method::GET, "/", StatusCode::NOT_FOUND),
            (Method::POST, "/metrics", StatusCode::METHOD_NOT_ALLOWED),
        ] {
            assert_eq!(gatherer.respond(&method, path).status(), want);
        }
    }

    #[tokio::test]
    async fn all_registries_are_in_one_answer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.sock");
        let endpoint = listen(&Address::Unix(path.clone())).await.unwrap();
        let server = tokio::spawn(serve(endpoint, gatherer()));
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("one_total 1\n") && answer.contains("two_total 1\n"));
        server.abort();
    }
}
