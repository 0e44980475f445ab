//! Remote commands over real sockets: both protocols, all versions.

mod harness;

use futures_util::{SinkExt as _, StreamExt as _};
use harness::{Node, request, spdy, text, websocket};
use insula_streaming::{Streams, TlsFiles, client};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;

const ALL: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: true,
    terminal: false,
};

const SUCCESS: &str = r#"{"metadata":{},"status":"Success"}"#;
const THREE: &str =
    r#""reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}"#;

#[tokio::test]
async fn every_version_over_spdy_tells_how_it_ended() {
    let node = Node::start().await;
    for (protocol, command, want) in [
        ("v4.channel.k8s.io", "exit 0", SUCCESS),
        ("v4.channel.k8s.io", "exit 3", THREE),
        (
            "v3.channel.k8s.io",
            "exit 3",
            "command terminated with non-zero exit code: exit status 3",
        ),
        ("v2.channel.k8s.io", "exit 0", ""),
        (
            "channel.k8s.io",
            "exit 3",
            "command terminated with non-zero exit code: exit status 3",
        ),
    ] {
        let command = format!("cat; echo err >&2; {command}");
        let connection = spdy(&node.exec(&command, ALL), protocol).await;
        let mut error = connection.open(&[("streamType", "error")]).await.unwrap();
        let mut stdin = connection.open(&[("streamType", "stdin")]).await.unwrap();
        let mut stdout = connection.open(&[("streamType", "stdout")]).await.unwrap();
        let mut stderr = connection.open(&[("streamType", "stderr")]).await.unwrap();
        stdin.write_all(b"in").await.unwrap();
        stdin.shutdown().await.unwrap();
        assert_eq!(text(&mut stdout).await, "in", "{protocol}");
        assert_eq!(text(&mut stderr).await, "err\n", "{protocol}");
        let status = text(&mut error).await;
        match want {
            "" => assert_eq!(status, "", "{protocol}"),
            want => assert!(status.contains(want), "{protocol}: {status}"),
        }
    }
    node.quiet().await;
}

#[tokio::test]
async fn every_version_over_websocket_tells_how_it_ended() {
    let node = Node::start().await;
    for (protocol, want) in [
        (
            "",
            "command terminated with non-zero exit code: exit status 3",
        ),
        (
            "channel.k8s.io",
            "command terminated with non-zero exit code: exit status 3",
        ),
        (
            "base64.channel.k8s.io",
            "command terminated with non-zero exit code: exit status 3",
        ),
        ("v4.channel.k8s.io", THREE),
        ("v4.base64.channel.k8s.io", THREE),
        ("v5.channel.k8s.io", THREE),
    ] {
        let base64 = protocol.contains("base64");
        let url = node.exec("head -c 2; echo err >&2; exit 3", ALL);
        let mut socket = websocket(&url, protocol).await;
        let input = match base64 {
            true => Message::text("0aW4="),
            false => Message::binary(b"\0in".to_vec()),
        };
        socket.send(input).await.unwrap();
        let mut channels = [const { Vec::new() }; 4];
        loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Text(text) if base64 => {
                    use base64::Engine as _;
                    let channel = usize::from(text.as_bytes()[0] - b'0');
                    let engine = base64::engine::general_purpose::STANDARD;
                    channels[channel].extend(engine.decode(&text.as_bytes()[1..]).unwrap());
                }
                Message::Binary(data) if !base64 => {
                    channels[usize::from(data[0])].extend_from_slice(&data[1..]);
                }
                Message::Close(_) => break,
                other => panic!("{protocol}: {other:?}"),
            }
        }
        let [_, stdout, stderr, error] = channels.map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(
            (stdout.as_str(), stderr.as_str()),
            ("in", "err\n"),
            "{protocol}"
        );
        assert!(error.contains(want), "{protocol}: {error}");
    }
    node.quiet().await;
}

#[tokio::test]
async fn input_of_v5_ends_by_itself() {
    let node = Node::start().await;
    let mut socket = websocket(&node.exec("cat", ALL), "v5.channel.k8s.io").await;
    // The first message says that the session has begun.
    let first = socket.next().await.unwrap().unwrap();
    assert_eq!(first, Message::binary(b"\x01".to_vec()));
    socket
        .send(Message::binary(b"\0all".to_vec()))
        .await
        .unwrap();
    socket.send(Message::binary(vec![255, 0])).await.unwrap();
    let mut received = Vec::new();
    while let Message::Binary(data) = socket.next().await.unwrap().unwrap() {
        received.push(data.to_vec());
    }
    let status = [b"\x03", SUCCESS.as_bytes()].concat();
    assert_eq!(received, [b"\x01all".to_vec(), status]);
}

#[tokio::test]
async fn output_is_whole_before_the_status() {
    const LENGTH: usize = 20_000_000;
    let node = Node::start().await;
    let command = format!("head -c {LENGTH} /dev/zero; exit 3");
    let out = Streams {
        stdout: true,
        ..Streams::default()
    };
    let connection = spdy(&node.exec(&command, out), "v4.channel.k8s.io").await;
    let mut error = connection.open(&[("streamType", "error")]).await.unwrap();
    let mut stdout = connection.open(&[("streamType", "stdout")]).await.unwrap();
    let mut length = 0;
    let mut buffer = vec![0; 1 << 16];
    while let count @ 1.. = stdout.read(&mut buffer).await.unwrap() {
        length += count;
    }
    assert_eq!(length, LENGTH);
    assert!(text(&mut error).await.contains(THREE));
}

#[tokio::test]
async fn what_is_left_behind_does_not_hold_the_session() {
    let node = Node::start().await;
    let out = Streams {
        stdout: true,
        ..Streams::default()
    };
    let url = node.exec("sleep 60 & echo done", out);
    let connection = spdy(&url, "v4.channel.k8s.io").await;
    let mut error = connection.open(&[("streamType", "error")]).await.unwrap();
    let mut stdout = connection.open(&[("streamType", "stdout")]).await.unwrap();
    assert_eq!(text(&mut stdout).await, "done\n");
    assert_eq!(text(&mut error).await, SUCCESS);
}

#[tokio::test]
async fn the_last_size_reaches_the_terminal() {
    let node = Node::start().await;
    let terminal = Streams {
        stdin: true,
        stdout: true,
        stderr: false,
        terminal: true,
    };
    // The fake runtime's exit code is the size.
    let want = r#""message":"80024""#;
    let sizes = br#"{"Width":1,"Height":1}{"Width":80,"Height":24}{"Width":0,"Height":0}"#;
    let connection = spdy(&node.exec("cat", terminal), "v4.channel.k8s.io").await;
    let mut error = connection.open(&[("streamType", "error")]).await.unwrap();
    let mut resize = connection.open(&[("streamType", "resize")]).await.unwrap();
    let mut stdin = connection.open(&[("streamType", "stdin")]).await.unwrap();
    let mut stdout = connection.open(&[("streamType", "stdout")]).await.unwrap();
    resize.write_all(sizes).await.unwrap();
    resize.shutdown().await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    stdin.shutdown().await.unwrap();
    assert_eq!(text(&mut stdout).await, "");
    let status = text(&mut error).await;
    assert!(status.contains(want), "{status}");
}

#[tokio::test]
async fn what_cannot_be_run_is_told_on_the_error_stream() {
    let node = Node::start().await;
    let connection = spdy(&node.attach(ALL), "v4.channel.k8s.io").await;
    let mut error = connection.open(&[("streamType", "error")]).await.unwrap();
    let stdin = connection.open(&[("streamType", "stdin")]).await.unwrap();
    let stdout = connection.open(&[("streamType", "stdout")]).await.unwrap();
    // It is answered and closed at once.
    let stderr = connection.open(&[("streamType", "stderr")]).await;
    let status = text(&mut error).await;
    drop((stdin, stdout, stderr));
    assert!(status.contains("container c is not running"), "{status}");
    assert!(status.contains(r#""code":500"#), "{status}");
}

#[tokio::test]
async fn a_request_that_is_no_session_is_refused() {
    let node = Node::start().await;
    let base = node.sessions.base().to_owned();
    let connection = ("Connection", "Upgrade");
    let to_spdy = ("Upgrade", "SPDY/3.1");
    let protocol = |name| ("X-Stream-Protocol-Version", name);
    for (url, headers, want) in [
        (
            format!("{base}/exec/unknown"),
            vec![connection, to_spdy],
            "404",
        ),
        (format!("{base}/else"), vec![], "404"),
        // A token of one kind is none of another.
        (
            node.exec("true", ALL).replace("/exec/", "/attach/"),
            vec![],
            "404",
        ),
        (node.exec("true", ALL), vec![], "400"),
        (node.exec("true", ALL), vec![connection, to_spdy], "400"),
        (
            node.exec("true", ALL),
            vec![connection, to_spdy, protocol("v5.channel.k8s.io")],
            "403",
        ),
        (
            node.exec("true", ALL),
            vec![connection, ("Upgrade", "websocket")],
            "400",
        ),
        (
            node.forward(&[]),
            vec![connection, to_spdy, protocol("v4.channel.k8s.io")],
            "403",
        ),
    ] {
        let (_, answer) = request(&url, &headers).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {want} ")),
            "{url} {headers:?}: {answer}"
        );
        if headers.contains(&protocol("v5.channel.k8s.io")) {
            let accepted: Vec<_> = answer
                .lines()
                .filter_map(|line| line.strip_prefix("x-accepted-stream-protocol-versions: "))
                .collect();
            let served = ["v4", "v3", "v2"].map(|version| format!("{version}.channel.k8s.io"));
            assert_eq!(accepted[..3], served);
            assert_eq!(accepted[3..], ["channel.k8s.io"]);
        }
        // The token is used up.
        let (_, again) = request(&url, &headers).await;
        assert!(again.starts_with("HTTP/1.1 404 "), "{url}: {again}");
    }
    assert!(node.metric("insula_streaming_pending") == 0.0);
}

#[tokio::test]
async fn our_client_knows_a_server_by_its_certificate() {
    let node = Node::with(
        std::time::Duration::from_secs(60),
        Some(TlsFiles::default()),
    )
    .await;
    let certificate = node.sessions.certificate();
    assert!(certificate.is_some());
    let url = node.exec("cat; exit 3", ALL);
    assert!(url.starts_with("https://"), "{url}");
    let mut remote = client::remote(&url, certificate, ALL).await.unwrap();
    let mut stdin = remote.stdin.take().unwrap();
    stdin.write_all(b"in").await.unwrap();
    stdin.shutdown().await.unwrap();
    assert_eq!(text(&mut remote.stdout.take().unwrap()).await, "in");
    assert_eq!(remote.end.wait().await.unwrap(), 3);
    // Another's certificate, and none at all, lead nowhere.
    let other = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
    for (certificate, words) in [(Some(other), "certificate"), (None, "speaks TLS")] {
        let refused = client::remote(&node.exec("true", ALL), certificate, ALL).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    node.quiet().await;
    let plain = Node::start().await;
    assert_eq!(plain.sessions.certificate(), None);
}
