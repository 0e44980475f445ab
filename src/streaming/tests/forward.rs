//! Forwards over real sockets: SPDY, the tunnel, and channels.

mod harness;

use futures_util::{SinkExt as _, StreamExt as _};
use harness::{CREATION, Node, request, spdy, text, websocket};
use insula_streaming::spdy::{Connection, Limits, Stream, connect};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// A port that answers each connection with what it was told, after its end.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut told = Vec::new();
                stream.read_to_end(&mut told).await.unwrap();
                stream.write_all(&told).await.unwrap();
            });
        }
    });
    port
}

/// A port that nobody listens on.
async fn nobody() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

async fn open(connection: &Connection, port: u16, request: Option<&str>) -> (Stream, Stream) {
    let port = port.to_string();
    let mut headers = vec![("port", port.as_str()), ("streamType", "error")];
    headers.extend(request.map(|request| ("requestID", request)));
    let error = connection.open(&headers).await.unwrap();
    headers[1].1 = "data";
    (connection.open(&headers).await.unwrap(), error)
}

#[tokio::test]
async fn many_connections_go_over_one() {
    let node = Node::start().await;
    let port = echo().await;
    let connection = spdy(&node.forward(&[]), "portforward.k8s.io").await;
    let one = async |number: usize| {
        // Some clients do not number their requests.
        let request = number.to_string();
        let (mut data, mut error) = open(&connection, port, Some(&request)).await;
        let told = request.repeat(1 + number * 100);
        data.write_all(told.as_bytes()).await.unwrap();
        data.shutdown().await.unwrap();
        assert_eq!(text(&mut data).await, told);
        assert_eq!(text(&mut error).await, "");
    };
    futures_util::future::join_all((0..200).map(one)).await;
    let (mut data, error) = open(&connection, port, None).await;
    data.write_all(b"no number").await.unwrap();
    data.shutdown().await.unwrap();
    assert_eq!(text(&mut data).await, "no number");
    drop((connection, data, error));
    node.quiet().await;
}

#[tokio::test]
async fn a_port_without_a_listener_is_told_in_words() {
    let node = Node::start().await;
    let port = nobody().await;
    let connection = spdy(&node.forward(&[]), "portforward.k8s.io").await;
    let (mut data, mut error) = open(&connection, port, Some("0")).await;
    let told = text(&mut error).await;
    let want = format!("error forwarding port {port} to pod ready: Connection refused");
    assert!(told.starts_with(&want), "{told}");
    assert!(!matches!(data.read(&mut [0; 1]).await, Ok(1..)));
    // The connection is there for others.
    let (mut data, _error) = open(&connection, echo().await, Some("1")).await;
    data.shutdown().await.unwrap();
    assert_eq!(text(&mut data).await, "");
}

#[tokio::test]
async fn a_stream_without_a_partner_is_given_up() {
    let node = Node::start().await;
    let connection = spdy(&node.forward(&[]), "portforward.k8s.io").await;
    let headers = [("port", "80"), ("streamType", "error"), ("requestID", "0")];
    let mut error = connection.open(&headers).await.unwrap();
    let told = text(&mut error).await;
    let want = format!(
        "waiting for the data stream of a forward: nothing came in {:.1} s",
        CREATION.as_secs_f64()
    );
    assert_eq!(told, want);
    let headers = [("port", "0"), ("streamType", "data")];
    // Refused as soon as it is seen, or after its answer.
    if let Ok(mut wrong) = connection.open(&headers).await {
        assert!(wrong.read(&mut [0; 1]).await.is_err());
    }
}

#[tokio::test]
async fn the_end_of_the_pod_is_the_end_of_its_forwards() {
    let node = Node::start().await;
    let port = echo().await;
    let connection = spdy(&node.forward(&[]), "portforward.k8s.io").await;
    let (_data, _error) = open(&connection, port, Some("0")).await;
    node.pod.send(false).unwrap();
    connection.closed().await;
    node.quiet().await;
}

/// The client's end of a tunnel.
struct Tunnelled {
    socket: WebSocketStream<TcpStream>,
    unread: Vec<u8>,
}

impl tokio::io::AsyncRead for Tunnelled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        while self.unread.is_empty() {
            match std::task::ready!(self.socket.poll_next_unpin(context)) {
                Some(Ok(Message::Binary(data))) => self.unread = data.to_vec(),
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                other => panic!("{other:?}"),
            }
        }
        let length = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..length]);
        self.unread.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl tokio::io::AsyncWrite for Tunnelled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        // Pieces of one byte and of many: where messages end means nothing.
        let length = data.len().min(if data.len().is_multiple_of(2) {
            1
        } else {
            1000
        });
        std::task::ready!(self.socket.poll_ready_unpin(context)).unwrap();
        let message = Message::binary(data[..length].to_vec());
        self.socket.start_send_unpin(message).unwrap();
        Poll::Ready(Ok(length))
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.socket
            .poll_flush_unpin(context)
            .map_err(std::io::Error::other)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.socket
            .poll_close_unpin(context)
            .map_err(std::io::Error::other)
    }
}

#[tokio::test]
async fn a_whole_spdy_connection_goes_through_a_websocket() {
    let node = Node::start().await;
    let port = echo().await;
    let socket = websocket(&node.forward(&[]), "SPDY/3.1+portforward.k8s.io").await;
    let tunnel = Tunnelled {
        socket,
        unread: Vec::new(),
    };
    let connection = connect(tunnel, Limits::default());
    for number in ["0", "1"] {
        let (mut data, mut error) = open(&connection, port, Some(number)).await;
        let told = number.repeat(300_000);
        let (mut read, mut write) = tokio::io::split(&mut data);
        let writing = async {
            write.write_all(told.as_bytes()).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let ((), heard) = tokio::join!(writing, text(&mut read));
        assert!(heard == told);
        assert_eq!(text(&mut error).await, "");
    }
    connection.close();
    connection.closed().await;
    node.quiet().await;
}

#[tokio::test]
async fn old_clients_have_two_channels_for_each_port() {
    let node = Node::start().await;
    let (first, second) = (echo().await, nobody().await);
    let mut socket = websocket(&node.forward(&[first, second]), "v4.channel.k8s.io").await;
    let mut channels = [const { Vec::new() }; 4];
    let whole = |channels: &[Vec<u8>; 4]| {
        channels[3].len() > 2 && channels[..3].iter().all(|data| data.len() == 2)
    };
    while !whole(&channels) {
        let data = socket.next().await.unwrap().unwrap().into_data();
        channels[usize::from(data[0])].extend_from_slice(&data[1..]);
    }
    for (channel, port) in [(0, first), (1, first), (2, second), (3, second)] {
        assert_eq!(channels[channel][..2], port.to_le_bytes());
    }
    assert!(channels[3][2..].starts_with(b"error forwarding port "));
    socket
        .send(Message::binary(b"\0told".to_vec()))
        .await
        .unwrap();
    socket.close(None).await.unwrap();
    node.quiet().await;

    for ports in [&[][..], &[1; 6]] {
        let (_, answer) = request(
            &node.forward(ports),
            &[
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("Sec-WebSocket-Protocol", "v4.base64.channel.k8s.io"),
            ],
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
}
