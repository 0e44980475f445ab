//! Which protocol a session speaks, from the head of its HTTP request.
//!
//! SPDY clients list stream protocols in `X-Stream-Protocol-Version`, repeated
//! or with commas, WebSocket clients in `Sec-WebSocket-Protocol` (RFC 6455,
//! section 4.1); the client's order is its preference. What each protocol means
//! is in `k8s.io/apimachinery/pkg/util/remotecommand/constants.go` and in
//! KEP-4006.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// Name of the header with SPDY's stream protocols.
pub(crate) const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// Name of the header of a refusal, with the protocols that would do.
pub(crate) const ACCEPTED_PROTOCOLS: HeaderName =
    HeaderName::from_static("x-accepted-stream-protocol-versions");
/// Protocol names read from one request; more than any client offers.
const OFFERS_MAX: usize = 32;

/// How the error stream of a remote command is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// Text when something went wrong, nothing otherwise: v1 to v3.
    Text,
    /// `metav1.Status` as JSON: v4 and later.
    Status,
}

/// How WebSocket messages carry channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Binary messages: a byte with the channel, then the data.
    Binary,
    /// Text messages: a digit with the channel, then the data in base64.
    Base64,
}

/// A session over a WebSocket's channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Channels {
    pub(crate) encoding: Encoding,
    pub(crate) report: Report,
    /// Channel 255 closes another channel: v5.
    pub(crate) closes: bool,
}

/// A stream protocol of remote commands over SPDY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpdyCommand {
    pub(crate) report: Report,
    /// A terminal's client opens a stream for sizes: v3 and later.
    pub(crate) resizes: bool,
}

/// How a client wants to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upgrade {
    Spdy,
    WebSocket,
}

/// What both sides will speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chosen<P> {
    /// As the client wrote it; `None` where the client named nothing.
    pub(crate) name: Option<&'static str>,
    pub(crate) protocol: P,
}

/// A request that cannot become a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
    /// Names of protocols that would have done.
    pub(crate) accepted: Vec<&'static str>,
}

/// Protocols of remote commands over SPDY.
pub(crate) const SPDY_COMMAND: &[(&str, SpdyCommand)] = &[
    (
        "v4.channel.k8s.io",
        SpdyCommand {
            report: Report::Status,
            resizes: true,
        },
    ),
    (
        "v3.channel.k8s.io",
        SpdyCommand {
            report: Report::Text,
            resizes: true,
        },
    ),
    (
        "v2.channel.k8s.io",
        SpdyCommand {
            report: Report::Text,
            resizes: false,
        },
    ),
    (
        "channel.k8s.io",
        SpdyCommand {
            report: Report::Text,
            resizes: false,
        },
    ),
];

/// Protocols of remote commands over WebSocket. A client without any gets the
/// first.
pub(crate) const WEBSOCKET_COMMAND: &[(&str, Channels)] = &[
    ("", channels(Encoding::Binary, Report::Text)),
    ("channel.k8s.io", channels(Encoding::Binary, Report::Text)),
    (
        "base64.channel.k8s.io",
        channels(Encoding::Base64, Report::Text),
    ),
    (
        "v4.channel.k8s.io",
        channels(Encoding::Binary, Report::Status),
    ),
    (
        "v4.base64.channel.k8s.io",
        channels(Encoding::Base64, Report::Status),
    ),
    (
        "v5.channel.k8s.io",
        Channels {
            closes: true,
            ..channels(Encoding::Binary, Report::Status)
        },
    ),
];

/// The protocol of forwards over SPDY.
pub(crate) const SPDY_FORWARD: &[(&str, ())] = &[("portforward.k8s.io", ())];

/// How a WebSocket carries forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WebSocketForward {
    /// Two channels per port.
    Channels(Encoding),
    /// A whole SPDY connection in binary messages.
    Tunnel,
}

/// Protocols of forwards over WebSocket.
pub(crate) const WEBSOCKET_FORWARD: &[(&str, WebSocketForward)] = &[
    ("", WebSocketForward::Channels(Encoding::Binary)),
    (
        "v4.channel.k8s.io",
        WebSocketForward::Channels(Encoding::Binary),
    ),
    (
        "v4.base64.channel.k8s.io",
        WebSocketForward::Channels(Encoding::Base64),
    ),
    ("SPDY/3.1+portforward.k8s.io", WebSocketForward::Tunnel),
];

const fn channels(encoding: Encoding, report: Report) -> Channels {
    Channels {
        encoding,
        report,
        closes: false,
    }
}

/// What the client wants to upgrade to.
pub(crate) fn upgrade(headers: &HeaderMap) -> Result<Upgrade, Refusal> {
    let named = |header: &HeaderName, wanted: &str| {
        offers(headers, header).any(|token| token.eq_ignore_ascii_case(wanted))
    };
    if named(&header::CONNECTION, "upgrade") {
        if named(&header::UPGRADE, "websocket") {
            return Ok(Upgrade::WebSocket);
        }
        if named(&header::UPGRADE, "spdy/3.1") {
            return Ok(Upgrade::Spdy);
        }
    }
    Err(Refusal::bad(
        "unable to upgrade: the request needs `Connection: Upgrade` and `Upgrade: SPDY/3.1` or \
         `Upgrade: websocket`",
    ))
}

/// The first protocol of a SPDY client that is in the table.
pub(crate) fn spdy<P: Copy>(
    headers: &HeaderMap,
    table: &[(&'static str, P)],
) -> Result<Chosen<P>, Refusal> {
    if offers(headers, &STREAM_PROTOCOL).next().is_none() {
        return Err(Refusal::bad(
            "unable to upgrade: the header X-Stream-Protocol-Version is required",
        ));
    }
    choose(headers, &STREAM_PROTOCOL, table)
}

/// The first protocol of a WebSocket client that is in the table, or the
/// nameless one if it has no wishes.
pub(crate) fn websocket<P: Copy>(
    headers: &HeaderMap,
    table: &[(&'static str, P)],
) -> Result<Chosen<P>, Refusal> {
    if offers(headers, &header::SEC_WEBSOCKET_PROTOCOL)
        .next()
        .is_some()
    {
        return choose(headers, &header::SEC_WEBSOCKET_PROTOCOL, table);
    }
    match table.iter().find(|(name, _)| name.is_empty()) {
        Some((_, protocol)) => Ok(Chosen {
            name: None,
            protocol: *protocol,
        }),
        None => Err(Refusal::none_accepted(table)),
    }
}

/// The key of a WebSocket's opening handshake (RFC 6455, section 4.2.1).
pub(crate) fn websocket_key(headers: &HeaderMap) -> Result<&HeaderValue, Refusal> {
    let version = headers.get(header::SEC_WEBSOCKET_VERSION);
    if version.is_none_or(|version| version != "13") {
        return Err(Refusal::bad(
            "the header Sec-WebSocket-Version has to be 13",
        ));
    }
    match headers.get(header::SEC_WEBSOCKET_KEY) {
        // Sixteen bytes in base64.
        Some(key) if key.len() == 24 => Ok(key),
        _ => Err(Refusal::bad(
            "the header Sec-WebSocket-Key has to be 16 bytes in base64",
        )),
    }
}

fn choose<P: Copy>(
    headers: &HeaderMap,
    header: &HeaderName,
    table: &[(&'static str, P)],
) -> Result<Chosen<P>, Refusal> {
    offers(headers, header)
        .find_map(|offer| table.iter().find(|(name, _)| *name == offer))
        .map(|(name, protocol)| Chosen {
            name: Some(*name),
            protocol: *protocol,
        })
        .ok_or_else(|| Refusal::none_accepted(table))
}

/// The items of a header that may be repeated and hold lists. Values that are
/// not ASCII name nothing that we know.
fn offers<'a>(headers: &'a HeaderMap, header: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(header)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .take(OFFERS_MAX)
}

// === impl Refusal ===

impl Refusal {
    pub(crate) fn bad(text: &str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            text: text.to_owned(),
            accepted: Vec::new(),
        }
    }

    fn none_accepted<P>(table: &[(&'static str, P)]) -> Self {
        let accepted: Vec<_> = table
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| !name.is_empty())
            .collect();
        Self {
            status: StatusCode::FORBIDDEN,
            text: format!(
                "unable to upgrade: none of the protocols offered is served here, use {}",
                accepted.join(", ")
            ),
            accepted,
        }
    }
}

#[cfg(test)]
mod tests;
