//! The HTTP side: a request with a token becomes a session, or is refused.

use crate::forward;
use crate::negotiate::{
    self, ACCEPTED_PROTOCOLS, Channels, Refusal, STREAM_PROTOCOL, SpdyCommand, Upgrade,
    WebSocketForward,
};
use crate::remote::Command;
use crate::runtime::ForwardRequest;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// What a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Command(Command),
    Forward(ForwardRequest),
}

/// What a session speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    CommandOverSpdy(Command, SpdyCommand),
    CommandOverWebSocket(Command, Channels),
    ForwardOverSpdy(ForwardRequest),
    ForwardOverWebSocket(ForwardRequest, WebSocketForward),
}

/// First part of a path, and label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Exec,
    Attach,
    PortForward,
}

/// The kind and the token of a request that is for us.
pub(crate) fn target<'a>(
    method: &Method,
    path: &'a str,
) -> Result<(Kind, &'a str), Box<Response<Full<Bytes>>>> {
    let parts = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    let found = parts.and_then(|(kind, token)| Some((Kind::parse(kind)?, token)));
    let Some(found) = found else {
        return Err(Box::new(no_session()));
    };
    if *method != Method::GET && *method != Method::POST {
        let mut refused = answer(StatusCode::METHOD_NOT_ALLOWED, "GET or POST only\n");
        let allowed = HeaderValue::from_static("GET, POST");
        refused.headers_mut().insert(header::ALLOW, allowed);
        return Err(Box::new(refused));
    }
    Ok(found)
}

/// The session of a request and the answer that begins it.
pub(crate) fn negotiate(
    asked: Asked,
    headers: &HeaderMap,
) -> Result<(Plan, Response<Full<Bytes>>), Refusal> {
    match (negotiate::upgrade(headers)?, asked) {
        (Upgrade::Spdy, Asked::Command(command)) => {
            let chosen = negotiate::spdy(headers, negotiate::SPDY_COMMAND)?;
            let plan = Plan::CommandOverSpdy(command, chosen.protocol);
            Ok((plan, switch_to_spdy(chosen.name)))
        }
        (Upgrade::Spdy, Asked::Forward(request)) => {
            let chosen = negotiate::spdy(headers, negotiate::SPDY_FORWARD)?;
            Ok((Plan::ForwardOverSpdy(request), switch_to_spdy(chosen.name)))
        }
        (Upgrade::WebSocket, Asked::Command(command)) => {
            let chosen = negotiate::websocket(headers, negotiate::WEBSOCKET_COMMAND)?;
            let response = switch_to_websocket(headers, chosen.name)?;
            Ok((
                Plan::CommandOverWebSocket(command, chosen.protocol),
                response,
            ))
        }
        (Upgrade::WebSocket, Asked::Forward(request)) => {
            let chosen = negotiate::websocket(headers, negotiate::WEBSOCKET_FORWARD)?;
            if let WebSocketForward::Channels(encoding) = chosen.protocol {
                let most = forward::ports_max(encoding);
                if !(1..=most).contains(&request.ports.len()) {
                    return Err(Refusal::bad(&format!(
                        "this protocol needs the ports in the CRI's request, 1 to {most} of them"
                    )));
                }
            }
            let response = switch_to_websocket(headers, chosen.name)?;
            Ok((
                Plan::ForwardOverWebSocket(request, chosen.protocol),
                response,
            ))
        }
    }
}

/// No session waits behind this path.
pub(crate) fn no_session() -> Response<Full<Bytes>> {
    answer(
        StatusCode::NOT_FOUND,
        "no session waits here: a URL of exec, attach or port-forward is good once, for a minute\n",
    )
}

/// As many sessions are open as may be.
pub(crate) fn too_many() -> Response<Full<Bytes>> {
    let mut refused = answer(
        StatusCode::TOO_MANY_REQUESTS,
        "too many sessions are open, close some or try again\n",
    );
    let later = HeaderValue::from_static("60");
    refused.headers_mut().insert(header::RETRY_AFTER, later);
    refused
}

/// The answer to a request that cannot become a session.
pub(crate) fn refuse(refusal: Refusal) -> Response<Full<Bytes>> {
    let mut refused = answer(refusal.status, refusal.text + "\n");
    for name in refusal.accepted {
        let value = HeaderValue::from_static(name);
        refused.headers_mut().append(ACCEPTED_PROTOCOLS, value);
    }
    refused
}

fn switch_to_spdy(protocol: Option<&'static str>) -> Response<Full<Bytes>> {
    let mut response = switch("SPDY/3.1");
    if let Some(name) = protocol {
        let value = HeaderValue::from_static(name);
        response.headers_mut().insert(STREAM_PROTOCOL, value);
    }
    response
}

fn switch_to_websocket(
    headers: &HeaderMap,
    protocol: Option<&'static str>,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let key = negotiate::websocket_key(headers)?;
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()))
        .map_err(|_| Refusal::bad("the header Sec-WebSocket-Key cannot be answered"))?;
    let mut response = switch("websocket");
    let answers = response.headers_mut();
    answers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(name) = protocol {
        let value = HeaderValue::from_static(name);
        answers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
    Ok(response)
}

fn switch(protocol: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(protocol));
    response
}

fn answer(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

// === impl Asked ===

impl Asked {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Command(Command::Exec(_)) => Kind::Exec,
            Self::Command(Command::Attach(_)) => Kind::Attach,
            Self::Forward(_) => Kind::PortForward,
        }
    }

    /// The container's or pod's id.
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Command(Command::Exec(request)) => &request.container,
            Self::Command(Command::Attach(request)) => &request.container,
            Self::Forward(request) => &request.pod,
        }
    }
}

// === impl Kind ===

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Exec, Self::Attach, Self::PortForward];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, target};
    use http::{Method, StatusCode};

    #[test]
    fn paths_are_a_kind_and_a_token() {
        for (method, path, want) in [
            (Method::GET, "/exec/abc", Ok((Kind::Exec, "abc"))),
            (Method::POST, "/attach/abc", Ok((Kind::Attach, "abc"))),
            (
                Method::GET,
                "/portforward/abc",
                Ok((Kind::PortForward, "abc")),
            ),
            (Method::GET, "/exec/", Ok((Kind::Exec, ""))),
            (Method::GET, "/exec", Err(StatusCode::NOT_FOUND)),
            (Method::GET, "/", Err(StatusCode::NOT_FOUND)),
            (Method::GET, "/logs/abc", Err(StatusCode::NOT_FOUND)),
            (
                Method::PUT,
                "/exec/abc",
                Err(StatusCode::METHOD_NOT_ALLOWED),
            ),
            (Method::PUT, "/other", Err(StatusCode::NOT_FOUND)),
        ] {
            let found = target(&method, path).map_err(|refused| refused.status());
            assert_eq!(found, want, "{method} {path}");
        }
    }
}
