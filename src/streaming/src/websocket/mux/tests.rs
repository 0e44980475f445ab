use super::{GOODBYE, Mux};
use crate::negotiate::{Channels, Encoding, Report};
use crate::websocket::accept;
use crate::websocket::tunnel::Tunnel;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

const V5: Channels = Channels {
    encoding: Encoding::Binary,
    report: Report::Status,
    closes: true,
};

async fn pair() -> (WebSocketStream<DuplexStream>, WebSocketStream<DuplexStream>) {
    let (near, far) = tokio::io::duplex(1 << 10);
    let client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    (client, accept(far).await)
}

#[tokio::test]
async fn channels_carry_more_than_all_buffers_both_ways() {
    const LENGTH: usize = 3 << 20;
    let (client, server) = pair().await;
    let mut mux = Mux::new(server, V5);
    let (mut input, mut output) = (mux.reader(0), mux.writer(1));
    let echo = async move {
        tokio::io::copy(&mut input, &mut output).await.unwrap();
        output.shutdown().await.unwrap();
    };
    let (mut sink, mut stream) = client.split();
    let sending = async move {
        let chunk = [b"\0".as_slice(), &vec![7; 30_000]].concat();
        let mut left = LENGTH;
        while left > 0 {
            let length = left.min(chunk.len() - 1);
            sink.send(Message::binary(chunk[..=length].to_vec()))
                .await
                .unwrap();
            left -= length;
        }
        // What is on no channel, or on none that is read, disturbs nobody.
        for message in [&b""[..], b"\x09x", b"\x01x", b"\xff\0", b"\0late"] {
            sink.send(Message::binary(message.to_vec())).await.unwrap();
        }
        sink
    };
    let receiving = async {
        let mut received = 0;
        loop {
            match stream.next().await.unwrap().unwrap() {
                Message::Binary(data) => {
                    assert_eq!(data[0], 1);
                    assert!(data[1..].iter().all(|byte| *byte == 7));
                    received += data.len() - 1;
                }
                Message::Close(frame) => {
                    assert_eq!(u16::from(frame.unwrap().code), 1000);
                    return received;
                }
                other => panic!("{other:?}"),
            }
        }
    };
    let (driven, (), _sink, received) = tokio::join!(mux.drive(), echo, sending, receiving);
    driven.unwrap();
    assert_eq!(received, LENGTH);
}

#[tokio::test]
async fn pings_are_answered() {
    let (mut client, server) = pair().await;
    let mut mux = Mux::new(server, V5);
    let _input = mux.reader(0);
    let output = mux.writer(1);
    let driving = tokio::spawn(mux.drive());
    client
        .send(Message::Ping("are you there".into()))
        .await
        .unwrap();
    let answer = client.next().await.unwrap().unwrap();
    assert_eq!(answer, Message::Pong("are you there".into()));
    drop(output);
    assert!(matches!(
        client.next().await.unwrap().unwrap(),
        Message::Close(_)
    ));
    driving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_vanishes_ends_the_session() {
    for polite in [true, false] {
        let (mut client, server) = pair().await;
        let mut mux = Mux::new(server, V5);
        let mut input = mux.reader(0);
        let output = mux.writer(1);
        let driving = tokio::spawn(mux.drive());
        if polite {
            client.close(None).await.unwrap();
        }
        drop(client);
        assert!(driving.await.unwrap().is_err());
        assert_eq!(input.read(&mut [0; 8]).await.unwrap(), 0);
        drop(output);
    }
}

#[tokio::test]
async fn what_is_no_message_of_the_protocol_ends_the_session() {
    let (mut client, server) = pair().await;
    let mux = Mux::new(server, V5);
    let output = mux.writer(1);
    client
        .send(Message::binary(b"\xff".to_vec()))
        .await
        .unwrap();
    let error = mux.drive().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    drop(output);
}

#[tokio::test]
async fn a_client_that_says_no_goodbye_is_not_waited_for_long() {
    let (client, server) = pair().await;
    let mux = Mux::new(server, V5);
    let driven = tokio::time::timeout(GOODBYE * 5, mux.drive()).await;
    driven.unwrap().unwrap();
    drop(client);
}

#[tokio::test]
async fn a_tunnel_is_a_stream_of_bytes() {
    let (mut client, server) = pair().await;
    let mut tunnel = Tunnel::new(server);
    client.send(Message::binary(b"one".to_vec())).await.unwrap();
    client.send(Message::binary(Vec::new())).await.unwrap();
    client.send(Message::binary(b"two".to_vec())).await.unwrap();
    let mut received = [0; 6];
    tunnel.read_exact(&mut received[..2]).await.unwrap();
    tunnel.read_exact(&mut received[2..]).await.unwrap();
    assert_eq!(&received, b"onetwo");
    let written = tokio::spawn(async move {
        tunnel.write_all(&vec![3; 200_000]).await.unwrap();
        tunnel.flush().await.unwrap();
        tunnel
    });
    let mut length = 0;
    while length < 200_000 {
        length += client.next().await.unwrap().unwrap().into_data().len();
    }
    let mut tunnel = written.await.unwrap();
    client.close(None).await.unwrap();
    assert_eq!(tunnel.read(&mut received).await.unwrap(), 0);
}
