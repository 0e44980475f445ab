//! The registry client: OCI distribution-spec over hyper.
//!
//! Redirects, retries and credentials are handled here and nowhere else, because each of them has
//! leaked secrets in other runtimes: `Authorization` goes to the host that asked for it and to no
//! other, and no error holds a URL's query or user info.

pub(crate) mod auth;
mod blob;
mod challenge;
pub(crate) mod hosts;
mod hosts_toml;
mod session;
mod tls;
mod token;
mod transport;

pub(crate) use self::blob::BlobSource;
pub(crate) use self::session::{FetchedDocument, Session};

use std::time::Duration;

/// How long the network may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To establish a TCP connection. `dial_timeout` of a `hosts.toml` overrides it.
    pub connect: Duration,
    /// Without a single byte on one connection: for the TLS handshake and the response's head
    /// together, then for each piece of a body. There is no limit on a whole layer, which may be
    /// large and slow.
    pub progress: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            progress: Duration::from_secs(30),
        }
    }
}

/// A URL for messages: scheme, host, port and path, without user info or query.
pub(crate) fn redacted(uri: &http::Uri) -> String {
    let host = uri.host().unwrap_or("?");
    let port = uri
        .port_u16()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    format!(
        "{}://{host}{port}{}",
        uri.scheme_str().unwrap_or("?"),
        uri.path()
    )
}

/// `host[:port]` of a URL, for messages.
pub(crate) fn host_of(uri: &http::Uri) -> String {
    let host = uri.host().unwrap_or("?");
    uri.port_u16()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

pub(crate) fn parse_hosts_toml(text: &str) -> bool {
    hosts_toml::parse(text).is_ok()
}

pub(crate) fn parse_challenge(header: &str) -> bool {
    challenge::Challenge::parse(header).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_in_messages_hold_no_secrets() {
        let uri: http::Uri = "https://user:CANARY@h.example:8443/a/b?sig=CANARY"
            .parse()
            .unwrap();
        assert_eq!(redacted(&uri), "https://h.example:8443/a/b");
        assert_eq!(host_of(&uri), "h.example:8443");
    }
}
