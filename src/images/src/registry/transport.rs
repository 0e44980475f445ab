//! One host's HTTP clients, with deadlines and redirects.

use std::error::Error as StdError;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, LOCATION, RANGE, USER_AGENT};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioExecutor;
use tokio::sync::OnceCell;

use super::hosts::{Host, TlsFiles};
use super::{Timeouts, host_of, redacted, tls};
use crate::error::{Error, Result};

const AGENT: &str = concat!("insula/", env!("CARGO_PKG_VERSION"));
/// Redirects that are followed for one request; registries need one or two.
const MAX_REDIRECTS: usize = 10;

type Body = Full<Bytes>;

/// The connections of one host, kept for one pull.
pub(super) struct Transport {
    /// The configured host, the only one that sees its client certificate.
    origin: Option<Uri>,
    tls: TlsFiles,
    timeouts: Timeouts,
    proxies: Matcher,
    plain: Client<HttpConnector, Body>,
    /// With the client certificate: for the host itself.
    own: OnceCell<Client<HttpsConnector<HttpConnector>, Body>>,
    /// Without: for hosts it redirects to.
    foreign: OnceCell<Client<HttpsConnector<HttpConnector>, Body>>,
}

// === impl Transport ===

impl Transport {
    pub(super) fn new(host: &Host, timeouts: Timeouts) -> Self {
        let connect = host.dial_timeout.unwrap_or(timeouts.connect);
        Self::with(
            host.origin(),
            host.tls.clone(),
            Timeouts {
                connect,
                ..timeouts
            },
        )
    }

    /// A transport for a host that nothing is configured for.
    pub(super) fn bare(timeouts: Timeouts) -> Self {
        Self::with(None, TlsFiles::default(), timeouts)
    }

    fn with(origin: Option<Uri>, tls: TlsFiles, timeouts: Timeouts) -> Self {
        Self {
            origin,
            tls,
            proxies: Matcher::from_env(),
            plain: client(connector(timeouts.connect)),
            own: OnceCell::new(),
            foreign: OnceCell::new(),
            timeouts,
        }
    }

    /// Sends a request without a body and follows redirects. `headers` that may be sent only to
    /// the origin of `url` go in `private`; on a redirect to another origin they are dropped.
    pub(super) async fn get(
        &self,
        method: Method,
        url: &Uri,
        public: &HeaderMap,
        private: &HeaderMap,
    ) -> Result<Response<Incoming>> {
        let mut at = url.clone();
        let mut method = method;
        for _ in 0..=MAX_REDIRECTS {
            let home = same_origin(&at, url);
            let mut headers = public.clone();
            if home {
                headers.extend(private.clone());
            }
            let response = self
                .send(method.clone(), &at, headers, Bytes::new())
                .await?;
            let status = response.status();
            if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response
                .headers()
                .get(LOCATION)
                .and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| resolve(&at, location));
            at = next.ok_or_else(|| {
                Error::Unavailable(format!("{} redirects to nowhere ({status})", redacted(&at)))
            })?;
            if status == StatusCode::SEE_OTHER && method != Method::HEAD {
                method = Method::GET;
            }
        }
        Err(Error::Unavailable(format!(
            "{} redirects more than {MAX_REDIRECTS} times",
            redacted(url)
        )))
    }

    /// Sends a form to a token server. Redirects are not followed: the form holds a secret.
    pub(super) async fn post(
        &self,
        url: &Uri,
        headers: HeaderMap,
        form: String,
    ) -> Result<Response<Incoming>> {
        self.send(Method::POST, url, headers, form.into()).await
    }

    async fn send(
        &self,
        method: Method,
        url: &Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.clone();
        *request.uri_mut() = without_user(url);
        *request.headers_mut() = headers;
        request
            .headers_mut()
            .insert(USER_AGENT, HeaderValue::from_static(AGENT));
        tracing::debug!(%method, url = redacted(url), range = ?request.headers().get(RANGE), "request");
        let home = self
            .origin
            .as_ref()
            .is_some_and(|origin| same_origin(origin, url));
        let limit = self.timeouts.connect + self.timeouts.progress;
        let sent = tokio::time::timeout(limit, self.dispatch(url, request, home)).await;
        match sent {
            Ok(result) => result,
            Err(_) => Err(Error::DeadlineExceeded {
                stage: format!(
                    "waiting for {} to answer {method} {}",
                    host_of(url),
                    redacted(url)
                ),
                waited: limit,
            }),
        }
    }

    async fn dispatch(
        &self,
        url: &Uri,
        request: Request<Body>,
        home: bool,
    ) -> Result<Response<Incoming>> {
        let sent = if let Some(proxy) = self.proxies.intercept(url) {
            let mut tunnel = Tunnel::new(proxy.uri().clone(), connector(self.timeouts.connect));
            if let Some(auth) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(auth.clone());
            }
            // One connection each: a proxy is the exception, and pools would need one per target.
            client(self.https(tunnel, home).await?)
                .request(request)
                .await
        } else if url.scheme() == Some(&Scheme::HTTP) {
            self.plain.request(request).await
        } else {
            let cell = if home { &self.own } else { &self.foreign };
            let make = || async {
                Ok::<_, Error>(client(
                    self.https(connector(self.timeouts.connect), home).await?,
                ))
            };
            cell.get_or_try_init(make).await?.request(request).await
        };
        sent.map_err(|error| {
            Error::Unavailable(format!("cannot reach {}: {}", host_of(url), causes(&error)))
        })
    }

    async fn https<C>(&self, connector: C, home: bool) -> Result<HttpsConnector<C>> {
        let files = self.tls.clone();
        let loaded = tokio::task::spawn_blocking(move || tls::client_config(&files, home)).await;
        let config = loaded.map_err(|_| Error::Cancelled("the TLS set-up".into()))??;
        // HTTP/1.1 only: one connection per layer is faster than streams that share a window.
        Ok(hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector))
    }

    /// The next piece of a body, within the progress deadline. None at its end.
    pub(super) async fn next_piece(&self, body: &mut Incoming, url: &Uri) -> Result<Option<Bytes>> {
        loop {
            let frame = tokio::time::timeout(self.timeouts.progress, body.frame()).await;
            let Ok(frame) = frame else {
                return Err(Error::DeadlineExceeded {
                    stage: format!("reading {} from {}", redacted(url), host_of(url)),
                    waited: self.timeouts.progress,
                });
            };
            match frame {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => {
                    return Err(Error::Unavailable(format!(
                        "the connection to {} broke while reading {}: {}",
                        host_of(url),
                        redacted(url),
                        causes(&error)
                    )));
                }
            }
        }
    }

    /// A whole body of at most `limit` bytes.
    pub(super) async fn read_all(
        &self,
        response: Response<Incoming>,
        url: &Uri,
        limit: u64,
    ) -> Result<Vec<u8>> {
        let mut body = response.into_body();
        let mut all = Vec::new();
        while let Some(piece) = self.next_piece(&mut body, url).await? {
            if (all.len() + piece.len()) as u64 > limit {
                return Err(Error::corrupt(
                    redacted(url),
                    format!("it is larger than {limit} bytes"),
                ));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }
}

fn connector(timeout: Duration) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(timeout));
    connector.set_nodelay(true);
    connector.set_keepalive(Some(Duration::from_mins(1)));
    connector
}

fn client<C>(connector: C) -> Client<C, Body>
where
    C: hyper_util::client::legacy::connect::Connect + Clone,
{
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .http1_max_buf_size(1024 * 1024)
        .build(connector)
}

/// Scheme, host and port are the same.
fn same_origin(a: &Uri, b: &Uri) -> bool {
    let port = |uri: &Uri| {
        uri.port_u16()
            .unwrap_or(if uri.scheme() == Some(&Scheme::HTTPS) {
                443
            } else {
                80
            })
    };
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    a.scheme() == b.scheme() && host(a) == host(b) && port(a) == port(b)
}

/// A `Location`, absolute or relative to the page it came from. Only HTTP.
fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    // A fragment never goes over the wire.
    let location = location.split('#').next().unwrap_or_default();
    let uri: Uri = if location.contains("://") {
        location.parse().ok()?
    } else {
        let scheme = base.scheme_str()?;
        if let Some(rest) = location.strip_prefix("//") {
            format!("{scheme}://{rest}").parse().ok()?
        } else {
            let authority = base.authority()?;
            let path = if location.starts_with('/') {
                location.to_owned()
            } else {
                let directory = base
                    .path()
                    .rsplit_once('/')
                    .map_or("", |(directory, _)| directory);
                format!("{directory}/{location}")
            };
            format!("{scheme}://{authority}{path}").parse().ok()?
        }
    };
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    (known && uri.host().is_some_and(|host| !host.is_empty())).then_some(uri)
}

/// User info in a redirect's URL is dropped: hyper would send it on as part of the host.
fn without_user(uri: &Uri) -> Uri {
    let Some(authority) = uri.authority() else {
        return uri.clone();
    };
    let Some((_, host)) = authority.as_str().rsplit_once('@') else {
        return uri.clone();
    };
    let mut parts = uri.clone().into_parts();
    parts.authority = host.parse().ok();
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

/// An error with its causes, none of which holds a URL.
fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// A header map with `Authorization` alone.
pub(super) fn authorization(
    value: Option<HeaderValue>,
    more: &[(http::HeaderName, HeaderValue)],
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in more {
        headers.append(name.clone(), value.clone());
    }
    if let Some(value) = value {
        headers.insert(AUTHORIZATION, value);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_resolve() {
        let base: Uri = "https://r.example/v2/a/blobs/x?y".parse().unwrap();
        let cases = [
            (
                "https://s.example/b?sig=1#f",
                Some("https://s.example/b?sig=1"),
            ),
            ("//s.example/b", Some("https://s.example/b")),
            ("/b?z", Some("https://r.example/b?z")),
            ("b", Some("https://r.example/v2/a/blobs/b")),
            ("file:///etc/passwd", None),
            ("ftp://s.example/", None),
            ("https:///x", None),
        ];
        for (location, expected) in cases {
            let expected = expected.map(|text| text.parse::<Uri>().unwrap());
            assert_eq!(resolve(&base, location), expected, "{location}");
        }
    }

    #[test]
    fn origins() {
        let same = |a: &str, b: &str| same_origin(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(same("https://r.example/a", "https://R.example:443/b"));
        assert!(!same("https://r.example/", "http://r.example/"));
        assert!(!same("https://r.example/", "https://r.example:444/"));
        assert!(!same("https://r.example/", "https://r.example.evil/"));
        assert!(!same("https://r.example/", "https://r.example@evil/"));
    }

    #[test]
    fn user_info_is_dropped() {
        let uri = without_user(&"https://u:p@h:1/x?y".parse().unwrap());
        assert_eq!(uri, "https://h:1/x?y".parse::<Uri>().unwrap());
    }
}
