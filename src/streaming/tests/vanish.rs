//! Clients that go away at every stage leave nothing behind. One test, since it
//! counts the descriptors of the whole process.

mod harness;

use futures_util::SinkExt as _;
use harness::{CREATION, Node, descriptors, request, spdy, split, websocket};
use insula_streaming::{Streams, TlsFiles};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

const ALL: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: true,
    terminal: false,
};

/// Goes away after some part of a session.
async fn vanish(node: &Node, stage: usize, port: u16) {
    let v4 = "v4.channel.k8s.io";
    match stage {
        0 => drop(
            TcpStream::connect(split(node.sessions.base()).0)
                .await
                .unwrap(),
        ),
        1 => {
            let url = node.exec("sleep 60", ALL);
            let (host, path) = split(&url);
            let mut stream = TcpStream::connect(host).await.unwrap();
            let half = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nConn");
            stream.write_all(half.as_bytes()).await.unwrap();
        }
        // The answer is not waited for.
        2 => {
            let url = node.exec("sleep 60", ALL);
            let (host, path) = split(&url);
            let mut stream = TcpStream::connect(host).await.unwrap();
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {v4}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
        }
        3 => drop(request(&node.exec("sleep 60", ALL), &[]).await),
        // No stream, some streams, all streams.
        4..=6 => {
            let connection = spdy(&node.exec("sleep 60", ALL), v4).await;
            let mut streams = Vec::new();
            for kind in ["error", "stdin", "stdout", "stderr"]
                .iter()
                .take((stage - 4) * 2)
            {
                streams.push(connection.open(&[("streamType", kind)]).await.unwrap());
            }
        }
        // In the middle of output that it does not read.
        7 => {
            let connection = spdy(&node.exec("cat /dev/zero", ALL), v4).await;
            let mut streams = Vec::new();
            for kind in ["error", "stdin", "stderr", "stdout"] {
                streams.push(connection.open(&[("streamType", kind)]).await.unwrap());
            }
            streams[3].read_exact(&mut [0; 1000]).await.unwrap();
        }
        8 => drop(websocket(&node.exec("sleep 60", ALL), "v5.channel.k8s.io").await),
        // In the middle of input that nobody reads.
        9 => {
            let mut socket = websocket(&node.exec("sleep 60", ALL), "").await;
            let writing =
                async { while socket.feed(Message::binary(vec![0; 30_000])).await.is_ok() {} };
            let _ = tokio::time::timeout(Duration::from_millis(200), writing).await;
        }
        10 => drop(spdy(&node.forward(&[]), "portforward.k8s.io").await),
        11 | 12 => {
            let connection = spdy(&node.forward(&[]), "portforward.k8s.io").await;
            let port = port.to_string();
            let mut streams = Vec::new();
            for kind in ["error", "data"].iter().take(stage - 10) {
                let headers = [("port", port.as_str()), ("streamType", kind)];
                streams.push(connection.open(&headers).await.unwrap());
            }
        }
        13 => drop(websocket(&node.forward(&[port]), "v4.channel.k8s.io").await),
        _ => drop(websocket(&node.forward(&[]), "SPDY/3.1+portforward.k8s.io").await),
    }
}

#[tokio::test]
async fn nothing_is_left_of_clients_that_vanish() {
    let node = Node::start().await;
    // It takes connections and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // Once for what is made on first use.
    for round in 0..3 {
        let (fds, tasks) = census();
        for stage in 0..=14 {
            vanish(&node, stage, port).await;
        }
        settle(&node, &listener, fds, tasks, round > 0).await;
    }

    // One that stays, but opens nothing, is sent away.
    let connection = spdy(&node.exec("sleep 60", ALL), "v4.channel.k8s.io").await;
    let closed = tokio::time::timeout(CREATION * 10, connection.closed()).await;
    assert!(closed.is_ok());

    // One that stays and says nothing, too.
    let idle = Node::with(Duration::from_millis(500), None).await;
    let connection = spdy(&idle.forward(&[]), "portforward.k8s.io").await;
    let closed = tokio::time::timeout(Duration::from_secs(20), connection.closed()).await;
    assert!(closed.is_ok());
    idle.quiet().await;

    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let secure = Node::with(Duration::from_secs(60), Some(TlsFiles::default())).await;
    assert!(secure.sessions.base().starts_with("https://127.0.0.1:"));
    let (fds, tasks) = census();
    let host = split(secure.sessions.base()).0.to_owned();
    for bytes in [&b""[..], b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(&host).await.unwrap();
        stream.write_all(bytes).await.unwrap();
    }
    settle(&secure, &listener, fds, tasks, true).await;
}

/// Descriptors and tasks of this process.
fn census() -> (usize, usize) {
    let metrics = tokio::runtime::Handle::current().metrics();
    (descriptors(), metrics.num_alive_tasks())
}

/// Waits until everything is as it was.
async fn settle(node: &Node, listener: &TcpListener, fds: usize, tasks: usize, strict: bool) {
    node.quiet().await;
    let mut last = (0, 0);
    for _ in 0..1000 {
        // Connections that nobody took are descriptors of nobody.
        while let Ok(Ok(_)) =
            tokio::time::timeout(Duration::from_millis(1), listener.accept()).await
        {}
        last = census();
        if last.0 <= fds && last.1 <= tasks {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(
        !strict,
        "descriptors and tasks were {fds} and {tasks}, are {last:?} after 10 s"
    );
}
