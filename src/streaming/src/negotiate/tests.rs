use super::{
    Encoding, Report, SPDY_COMMAND, SPDY_FORWARD, Upgrade, WEBSOCKET_COMMAND, WEBSOCKET_FORWARD,
    WebSocketForward, spdy, upgrade, websocket, websocket_key,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect()
}

#[test]
fn an_upgrade_needs_both_headers() {
    for (lines, want) in [
        (
            &[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")][..],
            Some(Upgrade::Spdy),
        ),
        (
            &[
                ("connection", "keep-alive, upgrade"),
                ("upgrade", "WebSocket"),
            ],
            Some(Upgrade::WebSocket),
        ),
        (
            &[
                ("connection", "upgrade"),
                ("upgrade", "h2c"),
                ("upgrade", "websocket"),
            ],
            Some(Upgrade::WebSocket),
        ),
        (&[("upgrade", "SPDY/3.1")], None),
        (&[("connection", "Upgrade")], None),
        (&[("connection", "Upgrade"), ("upgrade", "SPDY/2")], None),
        (&[], None),
    ] {
        let found = upgrade(&headers(lines));
        match want {
            Some(want) => assert_eq!(found, Ok(want), "{lines:?}"),
            None => assert_eq!(
                found.unwrap_err().status,
                StatusCode::BAD_REQUEST,
                "{lines:?}"
            ),
        }
    }
}

#[test]
fn the_clients_order_is_its_preference() {
    const NAME: &str = "x-stream-protocol-version";
    for (lines, want) in [
        (
            &[
                (NAME, "v5.channel.k8s.io"),
                (NAME, "v4.channel.k8s.io"),
                (NAME, "channel.k8s.io"),
            ][..],
            ("v4.channel.k8s.io", Report::Status, true),
        ),
        (
            &[(
                NAME,
                "v5.channel.k8s.io, v3.channel.k8s.io,v4.channel.k8s.io",
            )],
            ("v3.channel.k8s.io", Report::Text, true),
        ),
        (
            &[(NAME, "channel.k8s.io")],
            ("channel.k8s.io", Report::Text, false),
        ),
        (
            &[(NAME, "v2.channel.k8s.io")],
            ("v2.channel.k8s.io", Report::Text, false),
        ),
    ] {
        let chosen = spdy(&headers(lines), SPDY_COMMAND).unwrap();
        let found = (
            chosen.name.unwrap(),
            chosen.protocol.report,
            chosen.protocol.resizes,
        );
        assert_eq!(found, want, "{lines:?}");
    }
}

#[test]
fn a_spdy_client_must_offer_something_that_is_served() {
    let none = spdy(&headers(&[]), SPDY_COMMAND).unwrap_err();
    assert_eq!(none.status, StatusCode::BAD_REQUEST);
    let empty = spdy(
        &headers(&[("x-stream-protocol-version", " , ")]),
        SPDY_COMMAND,
    );
    assert_eq!(empty.unwrap_err().status, StatusCode::BAD_REQUEST);
    let other = headers(&[("x-stream-protocol-version", "v5.channel.k8s.io")]);
    let refused = spdy(&other, SPDY_COMMAND).unwrap_err();
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(
        refused.accepted,
        [
            "v4.channel.k8s.io",
            "v3.channel.k8s.io",
            "v2.channel.k8s.io",
            "channel.k8s.io"
        ]
    );
    let refused = spdy(&other, SPDY_FORWARD).unwrap_err();
    assert_eq!(refused.accepted, ["portforward.k8s.io"]);
}

#[test]
fn a_websocket_without_wishes_has_a_protocol_too() {
    const NAME: &str = "sec-websocket-protocol";
    let chosen = websocket(&headers(&[]), WEBSOCKET_COMMAND).unwrap();
    assert_eq!(chosen.name, None);
    assert_eq!(chosen.protocol.encoding, Encoding::Binary);
    assert_eq!(chosen.protocol.report, Report::Text);

    let chosen = websocket(
        &headers(&[(NAME, "x, v5.channel.k8s.io")]),
        WEBSOCKET_COMMAND,
    );
    let chosen = chosen.unwrap();
    assert_eq!(chosen.name, Some("v5.channel.k8s.io"));
    assert!(chosen.protocol.closes);

    let chosen = websocket(
        &headers(&[(NAME, "base64.channel.k8s.io")]),
        WEBSOCKET_COMMAND,
    );
    assert_eq!(chosen.unwrap().protocol.encoding, Encoding::Base64);

    let tunnel = headers(&[(NAME, "SPDY/3.1+portforward.k8s.io")]);
    assert_eq!(
        websocket(&tunnel, WEBSOCKET_FORWARD).unwrap().protocol,
        WebSocketForward::Tunnel
    );
    let refused = websocket(&tunnel, WEBSOCKET_COMMAND).unwrap_err();
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert_eq!(refused.accepted.len(), 5);
}

#[test]
fn a_websockets_key_has_sixteen_bytes() {
    let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let version = ("sec-websocket-version", "13");
    assert!(websocket_key(&headers(&[key, version])).is_ok());
    for lines in [
        &[key][..],
        &[version],
        &[key, ("sec-websocket-version", "8")],
        &[("sec-websocket-key", "short"), version],
    ] {
        let refused = websocket_key(&headers(lines)).unwrap_err();
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{lines:?}");
    }
}
