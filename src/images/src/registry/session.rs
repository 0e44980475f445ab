//! The conversation of one pull with the hosts that serve its registry.

use std::path::PathBuf;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use hyper::body::Incoming;
use tokio::sync::Mutex;

use super::auth::{Credentials, RegistryAuth};
use super::challenge::Challenge;
use super::hosts::{Host, hosts_for};
use super::transport::{Transport, authorization};
use super::{Timeouts, redacted, token};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::{self, Descriptor, MAX_DOCUMENT};
use crate::reference::Reference;

/// Hosts, connections and tokens for one reference.
pub(crate) struct Session {
    reference: Reference,
    pub(super) peers: Vec<Peer>,
    pub(super) timeouts: Timeouts,
}

/// One host with its connections and what it was last authorised by.
pub(super) struct Peer {
    pub(super) host: Host,
    pub(super) transport: Transport,
    credentials: Option<Credentials>,
    authorization: Mutex<Option<HeaderValue>>,
}

/// A manifest or index as a registry sent it.
pub(crate) struct FetchedDocument {
    pub(crate) digest: Digest,
    pub(crate) content_type: Option<String>,
    pub(crate) bytes: Bytes,
}

// === impl Session ===

impl Session {
    /// Reads the configuration of the reference's registry. Nothing is sent yet.
    pub(crate) async fn open(
        reference: &Reference,
        config_paths: Vec<PathBuf>,
        auth: Option<&RegistryAuth>,
        timeouts: Timeouts,
    ) -> Result<Self> {
        let domain = reference.domain().to_owned();
        let read = tokio::task::spawn_blocking(move || hosts_for(&domain, &config_paths)).await;
        let hosts = read.map_err(|_| Error::Cancelled(reference.to_string()))??;
        let peers = hosts.into_iter().map(|host| {
            let credentials = match auth {
                Some(auth) => auth.for_host(host.name())?,
                None => None,
            };
            Ok(Peer {
                transport: Transport::new(&host, timeouts),
                host,
                credentials,
                authorization: Mutex::new(None),
            })
        });
        Ok(Self {
            reference: reference.clone(),
            peers: peers.collect::<Result<_>>()?,
            timeouts,
        })
    }

    /// The digest that the reference stands for now, if a host tells it without sending the
    /// document. Proves that the credentials are good for it.
    pub(crate) async fn head(&self) -> Result<Option<Digest>> {
        let by_tag = self.reference.digest().is_none();
        let mut errors = Vec::new();
        for peer in self.peers.iter().filter(|peer| peer.serves(by_tag)) {
            let headers = accept();
            let object = self.reference.object();
            match peer
                .request(Method::HEAD, &self.reference, "manifests", object, &headers)
                .await
            {
                Ok((response, _)) => return Ok(content_digest(&response)),
                Err(error) => errors.push(error),
            }
        }
        Err(self.combine(errors))
    }

    /// The document that the reference names.
    pub(crate) async fn resolve(&self) -> Result<FetchedDocument> {
        self.document(self.reference.object(), self.reference.digest())
            .await
    }

    /// A document by its descriptor.
    pub(crate) async fn manifest(&self, descriptor: &Descriptor) -> Result<FetchedDocument> {
        self.document(descriptor.digest.as_str(), Some(&descriptor.digest))
            .await
    }

    async fn document(&self, object: &str, expected: Option<&Digest>) -> Result<FetchedDocument> {
        let mut errors = Vec::new();
        for peer in self
            .peers
            .iter()
            .filter(|peer| peer.serves(expected.is_none()))
        {
            match peer.document(&self.reference, object, expected).await {
                Ok(document) => return Ok(document),
                Err(error) => errors.push(error),
            }
        }
        Err(self.combine(errors))
    }

    /// A small blob (the configuration), whole.
    pub(crate) async fn small_blob(&self, descriptor: &Descriptor) -> Result<Bytes> {
        let mut errors = Vec::new();
        for peer in self.peers.iter().filter(|peer| peer.serves(false)) {
            match peer.small_blob(&self.reference, descriptor).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => errors.push(error),
            }
        }
        Err(self.combine(errors))
    }

    pub(super) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// One error for many hosts. The registry itself was asked last and weighs most.
    pub(super) fn combine(&self, mut errors: Vec<Error>) -> Error {
        let Some(last) = errors.pop() else {
            return Error::Unavailable(format!(
                "no host of hosts.toml for {} has the capability that is needed",
                self.reference.domain()
            ));
        };
        if errors.is_empty() {
            return last;
        }
        let before: Vec<String> = errors.iter().map(Error::cause).collect();
        let before = before.join("; ");
        match last {
            Error::NotFound { what, detail }
                if errors.iter().all(|e| matches!(e, Error::NotFound { .. })) =>
            {
                Error::NotFound {
                    what,
                    detail: format!("{detail}; before that: {before}"),
                }
            }
            Error::Unauthorized { host, what, reason } => Error::Unauthorized {
                host,
                what,
                reason: format!("{reason}; before that: {before}"),
            },
            Error::DeadlineExceeded { stage, waited } => Error::DeadlineExceeded {
                stage: format!("(after {before}) {stage}"),
                waited,
            },
            last @ (Error::NoSpace { .. } | Error::Io { .. } | Error::Corrupt { .. }) => last,
            last => Error::Unavailable(format!("{}; before that: {before}", last.cause())),
        }
    }
}

// === impl Peer ===

impl Peer {
    /// Whether this host may be asked: for a tag it must resolve, for a digest it must have.
    pub(super) fn serves(&self, by_tag: bool) -> bool {
        if by_tag {
            self.host.capabilities.resolve
        } else {
            self.host.capabilities.pull
        }
    }

    async fn document(
        &self,
        reference: &Reference,
        object: &str,
        expected: Option<&Digest>,
    ) -> Result<FetchedDocument> {
        let (response, url) = self
            .request(Method::GET, reference, "manifests", object, &accept())
            .await?;
        let content_type = response.headers().get(CONTENT_TYPE);
        let content_type = content_type
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let stated = content_digest(&response);
        let bytes = self
            .transport
            .read_all(response, &url, MAX_DOCUMENT)
            .await?;
        let what = format!("the manifest at {}", redacted(&url));
        let expected = expected.or(stated.as_ref());
        if let Some(expected) = expected {
            expected.verify(&bytes, &what)?;
        }
        let digest = expected.cloned().unwrap_or_else(|| Digest::sha256(&bytes));
        Ok(FetchedDocument {
            digest,
            content_type,
            bytes: bytes.into(),
        })
    }

    async fn small_blob(&self, reference: &Reference, descriptor: &Descriptor) -> Result<Bytes> {
        let object = descriptor.digest.as_str();
        let (response, url) = self
            .request(Method::GET, reference, "blobs", object, &HeaderMap::new())
            .await?;
        let bytes = self
            .transport
            .read_all(response, &url, MAX_DOCUMENT)
            .await?;
        descriptor
            .digest
            .verify(&bytes, &format!("the blob at {}", redacted(&url)))?;
        Ok(bytes.into())
    }

    /// Sends a request, answers one challenge, and turns every status but success into an error.
    pub(super) async fn request(
        &self,
        method: Method,
        reference: &Reference,
        kind: &str,
        object: &str,
        public: &HeaderMap,
    ) -> Result<(Response<Incoming>, Uri)> {
        let url = self.host.url(reference.repository(), kind, object)?;
        let used = self.authorization.lock().await.clone();
        let private = authorization(used.clone(), &self.host.headers);
        let mut response = self
            .transport
            .get(method.clone(), &url, public, &private)
            .await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(challenge) = challenge(&response)
        {
            let fresh = self
                .authorize(&url, reference, &challenge, used.as_ref())
                .await?;
            let private = authorization(Some(fresh), &self.host.headers);
            response = self.transport.get(method, &url, public, &private).await?;
        }
        self.check(response, &url, reference)
            .map(|response| (response, url))
    }

    /// A new authorisation, unless another request of this pull got one meanwhile.
    async fn authorize(
        &self,
        url: &Uri,
        reference: &Reference,
        challenge: &Challenge,
        used: Option<&HeaderValue>,
    ) -> Result<HeaderValue> {
        let mut current = self.authorization.lock().await;
        if let Some(current) = current.as_ref()
            && Some(current) != used
        {
            return Ok(current.clone());
        }
        let credentials = self.credentials.as_ref();
        let fresh = token::answer(
            &self.transport,
            url,
            reference.repository(),
            challenge,
            credentials,
        )
        .await?;
        *current = Some(fresh.clone());
        Ok(fresh)
    }

    fn check(
        &self,
        response: Response<Incoming>,
        url: &Uri,
        reference: &Reference,
    ) -> Result<Response<Incoming>> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let host = self.host.name().to_owned();
        Err(match status.as_u16() {
            401 | 403 => Error::Unauthorized {
                host,
                what: reference.name(),
                reason: format!(
                    "it answered {status}{}",
                    if self.credentials.is_some() {
                        ""
                    } else {
                        " and no credentials were given for this host"
                    }
                ),
            },
            404 => Error::NotFound {
                what: reference.to_string(),
                detail: format!(" at {host}"),
            },
            429 => Error::Unavailable(format!(
                "{host} answered {status}: it limits the rate of pulls; wait, or use credentials or a mirror"
            )),
            _ => Error::Unavailable(format!("{host} answered {status} for {}", redacted(url))),
        })
    }
}

fn accept() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static(manifest::ACCEPT));
    debug_assert!(!headers.contains_key(AUTHORIZATION));
    headers
}

fn challenge(response: &Response<Incoming>) -> Option<Challenge> {
    let mut best = None;
    for header in response.headers().get_all(WWW_AUTHENTICATE) {
        match Challenge::parse(header.to_str().ok()?) {
            Some(bearer @ Challenge::Bearer { .. }) => return Some(bearer),
            other => best = best.or(other),
        }
    }
    best
}

fn content_digest(response: &Response<Incoming>) -> Option<Digest> {
    response
        .headers()
        .get("docker-content-digest")?
        .to_str()
        .ok()?
        .parse()
        .ok()
}
