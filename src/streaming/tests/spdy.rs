//! Sessions over connections in memory: this end against itself.
#![forbid(unsafe_code)]

use std::io;
use std::time::Duration;

use insula_streaming::spdy::{
    Connection, End, Incoming, Limits, Reset, SpdyError, Status, Stream, connect, serve,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(60);

fn pair(limits: Limits) -> (Connection, Connection, Incoming) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (server, incoming) = serve(far, limits);
    (connect(near, limits), server, incoming)
}

async fn open(client: &Connection, incoming: &mut Incoming, kind: &str) -> (Stream, Stream) {
    let headers = [("streamType", kind)];
    let (near, far) = tokio::join!(client.open(&headers), incoming.next());
    (near.unwrap(), far.unwrap())
}

fn status(error: &io::Error) -> Option<Status> {
    let reset = error.get_ref()?.downcast_ref::<Reset>()?;
    Some(reset.status)
}

#[tokio::test]
async fn a_stream_carries_octets_both_ways_until_both_are_done() {
    let (client, _server, mut incoming) = pair(Limits::default());
    let (mut near, mut far) = open(&client, &mut incoming, "stdin").await;
    assert_eq!((near.id(), far.id()), (1, 1));
    assert_eq!(far.header("streamtype"), Some("stdin"));
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    let mut text = String::new();
    far.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "question");
    far.write_all(b"answer").await.unwrap();
    far.shutdown().await.unwrap();
    text.clear();
    near.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "answer");
    let refused = near.write_all(b"more").await.unwrap_err();
    assert_eq!(status(&refused), Some(Status::CANCEL));
}

#[tokio::test]
async fn a_dropped_stream_is_reset_after_what_was_received() {
    let (client, _server, mut incoming) = pair(Limits::default());
    let (mut near, mut far) = open(&client, &mut incoming, "stdout").await;
    far.write_all(b"last words").await.unwrap();
    let mut words = [0; 10];
    near.read_exact(&mut words).await.unwrap();
    drop(far);
    let error = near.read(&mut words).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(status(&error), Some(Status::CANCEL));
    assert_eq!(
        error.to_string(),
        "SPDY stream 1 was ended before it was finished: CANCEL"
    );
}

#[tokio::test]
async fn what_was_written_before_a_close_arrives() {
    let (client, server, mut incoming) = pair(Limits::default());
    let (mut near, mut far) = open(&client, &mut incoming, "error").await;
    far.write_all(&vec![7; 100_000]).await.unwrap();
    far.shutdown().await.unwrap();
    server.close();
    let mut received = Vec::new();
    near.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, vec![7; 100_000]);
    drop((near, far));
    let ends = timeout(DEADLINE, async {
        (server.closed().await, client.closed().await)
    })
    .await;
    let (server_end, client_end) = ends.unwrap();
    assert!(matches!(server_end, End::Closed), "{server_end}");
    assert!(matches!(client_end, End::Left), "{client_end}");
    assert!(incoming.next().await.is_none());
    let late = client.open(&[]).await.unwrap_err();
    assert!(matches!(late, SpdyError::Closed), "{late}");
}

#[tokio::test]
async fn a_lost_connection_is_an_error_of_unfinished_streams_only() {
    let (client, mut server_end) = {
        let (near, far) = tokio::io::duplex(64 << 10);
        (connect(near, Limits::default()), far)
    };
    let opening = client.open(&[("streamType", "stdout")]);
    let answering = answer(&mut server_end);
    let (stream, ()) = tokio::join!(opening, answering);
    let mut stream = stream.unwrap();
    drop(server_end);
    let end = timeout(DEADLINE, client.closed()).await.unwrap();
    assert!(matches!(end, End::Left | End::Failed(_)), "{end}");
    let error = stream.read_u8().await.unwrap_err();
    assert_eq!(status(&error), Some(Status::INTERNAL_ERROR));
    let error = stream.write_all(b"x").await.unwrap_err();
    assert_eq!(status(&error), Some(Status::INTERNAL_ERROR));
}

/// Answers stream 1 by hand: a SYN_REPLY with an empty block.
async fn answer(io: &mut DuplexStream) {
    let mut heard = [0; 8];
    io.read_exact(&mut heard).await.unwrap();
    let reply = b"\x80\x03\0\x02\0\0\0\x14\0\0\0\x01\
        \x78\x20\xe3\xc6\xa7\xc2\0\0\0\xff\xff\0\x04\0\xfb\xff\0\0\0\0\0\0\0\xff\xff";
    let mut reply = reply.to_vec();
    reply[7] = u8::try_from(reply.len() - 8).unwrap();
    io.write_all(&reply).await.unwrap();
}

#[tokio::test]
async fn one_stream_more_than_allowed_is_refused() {
    let limits = Limits {
        streams: 2,
        ..Limits::default()
    };
    let (near, far) = tokio::io::duplex(64 << 10);
    let (_server, mut incoming) = serve(far, limits);
    let client = connect(near, Limits::default());
    // the first two are asked for before the limit is known
    let first = client.open(&[]).await.unwrap();
    let second = client.open(&[]).await.unwrap();
    let third = client.open(&[]).await.unwrap_err();
    assert!(matches!(third, SpdyError::TooManyStreams(2)), "{third}");
    drop((first, incoming.next().await.unwrap()));
    let fourth = client.open(&[]).await.unwrap();
    assert_eq!(fourth.id(), 5);
    drop(second);
}

#[tokio::test]
async fn a_stream_that_nobody_takes_is_reset() {
    let (client, _server, incoming) = pair(Limits::default());
    let mut early = client.open(&[]).await.unwrap();
    drop(incoming);
    let error = early.read_u8().await.unwrap_err();
    assert_eq!(status(&error), Some(Status::CANCEL));
    match client.open(&[]).await {
        Err(SpdyError::Reset(reset)) => assert_eq!(reset.status, Status::CANCEL),
        Ok(mut late) => {
            let error = late.read_u8().await.unwrap_err();
            assert_eq!(status(&error), Some(Status::CANCEL));
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_writer_waits_for_its_reader() {
    let limits = Limits::default();
    let (client, _server, mut incoming) = pair(limits);
    let (mut near, mut far) = open(&client, &mut incoming, "stdout").await;
    let total = 8 << 20;
    let writing = tokio::spawn(async move {
        let mut written = 0_usize;
        while written < total {
            written += far.write(&[1; 10_000]).await.unwrap();
        }
        far.shutdown().await.unwrap();
        far
    });
    tokio::task::yield_now().await;
    // a second stream is not held up by one that nobody reads
    let (mut other, mut other_far) = open(&client, &mut incoming, "stderr").await;
    other_far.write_all(b"!").await.unwrap();
    assert_eq!(other.read_u8().await.unwrap(), b'!');
    assert!(!writing.is_finished());
    let mut received = Vec::new();
    near.read_to_end(&mut received).await.unwrap();
    assert!(received.len() >= total && received.iter().all(|octet| *octet == 1));
    writing.await.unwrap();
}

#[tokio::test]
async fn a_peer_that_ignores_windows_waits_until_somebody_reads() {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (server, mut incoming) = serve(far, Limits::default());
    let (mut hears, mut says) = tokio::io::split(near);
    let total = 4 << 20;
    let saying = tokio::spawn(async move {
        let open = b"\x80\x03\0\x01\0\0\0\x1e\0\0\0\x01\0\0\0\0\0\0\
            \x78\x20\xe3\xc6\xa7\xc2\0\x04\0\xfb\xff\0\0\0\0\0\0\0\xff\xff";
        says.write_all(open).await.unwrap();
        for _ in 0..total / 1024 {
            says.write_all(b"\0\0\0\x01\0\0\x04\0").await.unwrap();
            says.write_all(&[9; 1024]).await.unwrap();
        }
        says.write_all(b"\0\0\0\x01\x01\0\0\0").await.unwrap();
        says
    });
    // its answers have to go somewhere
    let hearing = tokio::spawn(async move {
        let mut heard = Vec::new();
        hears.read_to_end(&mut heard).await.unwrap();
    });
    let mut stream = incoming.next().await.unwrap();
    // everybody who can go on does so meanwhile
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    assert!(!saying.is_finished());
    let mut received = Vec::new();
    let all = timeout(DEADLINE, stream.read_to_end(&mut received)).await;
    assert_eq!(all.unwrap().unwrap(), total);
    assert!(received.iter().all(|octet| *octet == 9));
    let says = timeout(DEADLINE, saying).await.unwrap().unwrap();
    server.close();
    hearing.await.unwrap();
    drop(says);
    server.closed().await;
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_is_told_and_left() {
    let (mut near, far) = tokio::io::duplex(64 << 10);
    let (server, mut incoming) = serve(far, Limits::default());
    near.write_all(b"\x80\x02\0\x06\0\0\0\x04\0\0\0\x01")
        .await
        .unwrap();
    let mut heard = Vec::new();
    near.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"\x80\x03\0\x07\0\0\0\x08\0\0\0\0\0\0\0\x01");
    drop(near);
    assert!(incoming.next().await.is_none());
    let end = timeout(DEADLINE, server.closed()).await.unwrap();
    assert_eq!(
        end.to_string(),
        "a SPDY frame of version 2: this end speaks version 3"
    );
}

#[tokio::test]
async fn a_server_says_nothing_before_it_has_heard_something() {
    let (mut near, far) = tokio::io::duplex(64 << 10);
    let (server, _incoming) = serve(far, Limits::default());
    server.close();
    let mut heard = Vec::new();
    near.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"\x80\x03\0\x07\0\0\0\x08\0\0\0\0\0\0\0\0");
}

#[tokio::test]
async fn an_idle_connection_and_one_that_does_not_end_are_left() {
    let limits = Limits {
        idle: Duration::from_millis(5),
        linger: Duration::from_millis(5),
        ..Limits::default()
    };
    let (_near, far) = tokio::io::duplex(64 << 10);
    let (server, _incoming) = serve(far, limits);
    let end = server.closed().await;
    assert!(
        matches!(end, End::Idle(idle) if idle == limits.idle),
        "{end}"
    );

    // the other end neither reads nor closes
    let (_near, far) = tokio::io::duplex(1);
    let (server, _incoming) = serve(far, limits);
    server.close();
    let end = server.closed().await;
    assert!(matches!(end, End::Closed), "{end}");
}

/// `cargo test --release -p insula-streaming --test spdy -- --ignored --nocapture throughput`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, which needs a release build and a quiet machine"]
async fn throughput_of_one_stream() {
    let (client, _server, mut incoming) = pair(Limits::default());
    let (mut near, mut far) = open(&client, &mut incoming, "stdout").await;
    let total = 1_usize << 30;
    let start = std::time::Instant::now();
    let writing = tokio::spawn(async move {
        let buffer = vec![1; 64 << 10];
        for _ in 0..total / buffer.len() {
            far.write_all(&buffer).await.unwrap();
        }
        far.shutdown().await.unwrap();
    });
    let (mut received, mut buffer) = (0, vec![0; 64 << 10]);
    while let length @ 1.. = near.read(&mut buffer).await.unwrap() {
        received += length;
    }
    writing.await.unwrap();
    assert_eq!(received, total);
    println!("1 GiB over one stream in {:?}", start.elapsed());
}
