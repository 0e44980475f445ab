//! The server: connections, sessions, and the tokens that lead to them.

use crate::forward;
use crate::http::{Asked, Kind, Plan, negotiate, no_session, refuse, target, too_many};
use crate::metrics::Metrics;
use crate::negotiate::WebSocketForward;
use crate::remote::{self, Command};
use crate::runtime::{AttachRequest, ExecRequest, ForwardRequest, Runtime, StreamError};
use crate::socket::Socket;
use crate::spdy::Limits;
use crate::tls::pinned::Fingerprint;
use crate::tls::{Reloading, TlsError, TlsFiles};
use crate::token::{TokenError, Tokens};
use crate::websocket;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tracing::Instrument as _;

/// Connections at the same time; more wait to be taken.
const CONNECTIONS_MAX: usize = 2048;
/// Sessions at the same time; one more is refused, with a word.
const SESSIONS_MAX: usize = 1024;
/// How long a client may take for a TLS handshake, and for the head of its
/// request.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Longest head of a request, in bytes. kubelet passes on the headers of its
/// own client.
const HEAD_MAX: usize = 64 << 10;
/// How long until a silent connection is probed, so that a client whose machine
/// is gone is noticed.
const KEEPALIVE: Duration = Duration::from_mins(1);

/// How the server is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens; port 0 is any.
    pub address: SocketAddr,
    /// TLS, if it is to be spoken.
    pub tls: Option<TlsFiles>,
    /// How long a session may be silent.
    pub idle: Duration,
    /// How long a client may take to open the streams of its session.
    pub creation: Duration,
}

/// The server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be had.
    #[error("cannot serve exec, attach and port-forward on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// TLS cannot be offered.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A server that listens, and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    settings: Settings,
    tls: Option<Arc<Reloading>>,
    sessions: Sessions,
}

/// Gives out URLs. A clone is a handle on the same server.
#[derive(Debug, Clone)]
pub struct Sessions {
    base: String,
    tls: Option<Arc<Reloading>>,
    tokens: Arc<Mutex<Tokens<Asked>>>,
    metrics: Metrics,
}

/// What all connections share.
struct Shared {
    settings: Settings,
    tls: Option<Arc<Reloading>>,
    sessions: Sessions,
    runtime: Arc<dyn Runtime>,
    permits: Arc<Semaphore>,
}

/// A session whose answer is on its way to the client.
struct Beginning {
    upgrade: OnUpgrade,
    plan: Plan,
    kind: Kind,
    id: String,
    _permit: OwnedSemaphorePermit,
}

// === impl Server ===

impl Server {
    /// Listens. Calls may give out URLs from now on.
    pub async fn bind(settings: Settings, metrics: Metrics) -> Result<Self, ServerError> {
        let failed = |source| ServerError::Listen {
            address: settings.address,
            source,
        };
        let listener = TcpListener::bind(settings.address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tls = match settings.tls.clone() {
            None => None,
            Some(files) => {
                let open = move || Reloading::open(files, address.ip());
                let opened = tokio::task::spawn_blocking(open).await;
                let opened = opened.map_err(|error| TlsError::SelfSigned(error.to_string()))?;
                Some(Arc::new(opened?))
            }
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        Ok(Self {
            listener,
            settings,
            tls: tls.clone(),
            sessions: Sessions {
                base: format!("{scheme}://{address}"),
                tls,
                tokens: Arc::new(Mutex::new(Tokens::new())),
                metrics,
            },
        })
    }

    /// What gives out URLs.
    pub fn sessions(&self) -> Sessions {
        self.sessions.clone()
    }

    /// Serves until it is dropped, which ends all sessions.
    pub async fn serve(self, runtime: Arc<dyn Runtime>) {
        let shared = Arc::new(Shared {
            settings: self.settings,
            tls: self.tls,
            sessions: self.sessions,
            runtime,
            permits: Arc::new(Semaphore::new(SESSIONS_MAX)),
        });
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            // It is never closed.
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let shared = Arc::clone(&shared);
                    let span = tracing::debug_span!("streaming", %peer);
                    let connection = async move {
                        shared.connection(stream).await;
                        drop(permit);
                    };
                    connections.spawn(connection.instrument(span));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection for exec, attach or port-forward");
                    // Out of descriptors: others have to close theirs first.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    }
}

// === impl Sessions ===

impl Sessions {
    /// Where the server is reached, such as `http://127.0.0.1:40123`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The certificate by which a client of an `https` URL knows the server.
    /// Blocks while it is read again from its files.
    pub fn certificate(&self) -> Option<Fingerprint> {
        let tls = self.tls.as_ref()?;
        Some(tls.certificate(Instant::now()))
    }

    /// The URL of a command.
    pub fn exec(&self, request: ExecRequest) -> Result<String, TokenError> {
        self.url(Asked::Command(Command::Exec(request)))
    }

    /// The URL of the streams of a container's main process.
    pub fn attach(&self, request: AttachRequest) -> Result<String, TokenError> {
        self.url(Asked::Command(Command::Attach(request)))
    }

    /// The URL of forwards to a pod.
    pub fn port_forward(&self, request: ForwardRequest) -> Result<String, TokenError> {
        self.url(Asked::Forward(request))
    }

    /// Brings the metrics up to date: tokens expire without anybody noticing.
    pub fn refresh_metrics(&self) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        self.metrics.pending(tokens.pending(Instant::now()));
    }

    fn url(&self, asked: Asked) -> Result<String, TokenError> {
        let kind = asked.kind().name();
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let token = tokens.insert(asked, now);
        self.metrics.pending(tokens.pending(now));
        Ok(format!("{}/{kind}/{}", self.base, token?))
    }

    fn take(&self, kind: Kind, token: &str) -> Option<Asked> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let asked = tokens.take(token, now);
        self.metrics.pending(tokens.pending(now));
        asked.filter(|asked| asked.kind() == kind)
    }
}

// === impl Shared ===

impl Shared {
    async fn connection(&self, stream: TcpStream) {
        if let Err(error) = prepare(&stream) {
            tracing::debug!(%error, "a connection was gone before it began");
            return;
        }
        let socket = Socket::new(stream);
        let Some(tls) = &self.tls else {
            return self.http(socket.clone(), socket).await;
        };
        let tls = Arc::clone(tls);
        let acceptor = tokio::task::spawn_blocking(move || tls.acceptor(Instant::now())).await;
        let Ok(acceptor) = acceptor else { return };
        match tokio::time::timeout(HEAD_DEADLINE, acceptor.accept(socket.clone())).await {
            Ok(Ok(io)) => self.http(io, socket).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    }

    /// Answers requests until one of them has become a session, and serves that.
    async fn http<I>(&self, io: I, socket: Socket)
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let begun = Mutex::new(None);
        let service = service_fn(|mut request: Request<Incoming>| {
            let (response, beginning) = self.respond(&mut request);
            if beginning.is_some() {
                *begun.lock().unwrap_or_else(PoisonError::into_inner) = beginning;
            }
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_DEADLINE)
            .max_buf_size(HEAD_MAX)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades()
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "a connection failed");
            return;
        }
        let beginning = begun.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(beginning) = beginning {
            self.session(beginning, socket).await;
        }
    }

    fn respond(
        &self,
        request: &mut Request<Incoming>,
    ) -> (Response<Full<Bytes>>, Option<Beginning>) {
        let (kind, token) = match target(request.method(), request.uri().path()) {
            Ok(found) => found,
            Err(refused) => return (*refused, None),
        };
        // Before the token is used up, so that the client may come again.
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return (too_many(), None);
        };
        let Some(asked) = self.sessions.take(kind, token) else {
            return (no_session(), None);
        };
        let id = asked.id().to_owned();
        match negotiate(asked, request.headers()) {
            Err(refusal) => (refuse(refusal), None),
            Ok((plan, response)) => {
                let beginning = Beginning {
                    upgrade: hyper::upgrade::on(request),
                    plan,
                    kind,
                    id,
                    _permit: permit,
                };
                (response, Some(beginning))
            }
        }
    }

    async fn session(&self, beginning: Beginning, socket: Socket) {
        let Beginning {
            upgrade,
            plan,
            kind,
            id,
            _permit,
        } = beginning;
        let _open = self.sessions.metrics.opened(kind);
        let begun = Instant::now();
        let session = async {
            let io = upgrade.await.map_err(std::io::Error::other)?;
            self.run(plan, TokioIo::new(io)).await
        };
        let ended = tokio::select! {
            ended = session => ended,
            () = socket.idle(self.settings.idle) => Err(StreamError::Deadline {
                stage: "an open session",
                after: self.settings.idle,
            }),
            () = socket.abandoned() => {
                Err(StreamError::Client(std::io::ErrorKind::ConnectionReset.into()))
            }
        };
        let (kind, seconds) = (kind.name(), begun.elapsed().as_secs_f64());
        match ended {
            Ok(()) => tracing::info!(kind, id, seconds, "session ended"),
            Err(StreamError::Client(error)) => {
                tracing::info!(kind, id, seconds, %error, "session ended by its client");
            }
            Err(error) => tracing::warn!(kind, id, seconds, %error, "session failed"),
        }
    }

    async fn run<I>(&self, plan: Plan, io: I) -> Result<(), StreamError>
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let runtime = &*self.runtime;
        let creation = self.settings.creation;
        let limits = Limits {
            idle: self.settings.idle,
            ..Limits::default()
        };
        match plan {
            Plan::CommandOverSpdy(command, protocol) => {
                remote::over_spdy(io, &command, runtime, protocol, limits, creation).await
            }
            Plan::CommandOverWebSocket(command, protocol) => {
                let socket = websocket::accept(io).await;
                remote::over_websocket(socket, &command, runtime, protocol).await
            }
            Plan::ForwardOverSpdy(request) => {
                forward::over_spdy(io, &request, runtime, limits, creation).await
            }
            Plan::ForwardOverWebSocket(request, protocol) => {
                let socket = websocket::accept(io).await;
                match protocol {
                    WebSocketForward::Tunnel => {
                        forward::over_tunnel(socket, &request, runtime, limits, creation).await
                    }
                    WebSocketForward::Channels(encoding) => {
                        forward::over_channels(socket, &request, runtime, encoding).await
                    }
                }
            }
        }
    }
}

/// Keys that are typed are sent at once, and a peer that is gone is noticed.
fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_keepalive(stream, true)?;
    rustix::net::sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    Ok(())
}
