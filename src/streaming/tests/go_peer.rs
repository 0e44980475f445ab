//! Against the library that kubelet, crictl and client-go use: `go_peer/main.go`.
//!
//! Needs a Go toolchain and the module in its cache; nothing is fetched. Where they are missing the
//! tests say so and only the octets in `fixtures` speak for that library.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use insula_streaming::spdy::{self, End, Limits, Stream};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(120);

/// The built peer, or why there is none.
fn peer() -> Result<PathBuf, String> {
    static PEER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PEER.get_or_init(|| {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("spdy-peer");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go_peer");
        let built = Command::new("go")
            .args(["build", "-o"])
            .arg(&program)
            .arg(".")
            .current_dir(source)
            .env("GOFLAGS", "-mod=readonly -buildvcs=false")
            .env("GOPROXY", "off")
            .env("GOTOOLCHAIN", "local")
            .env("CGO_ENABLED", "0")
            .output();
        match built {
            Ok(Output { status, .. }) if status.success() => Ok(program),
            Ok(Output { stderr, .. }) => Err(String::from_utf8_lossy(&stderr).into_owned()),
            Err(error) => Err(format!("go: {error}")),
        }
    })
    .clone()
}

async fn echo(stream: Stream) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let copied = tokio::io::copy(&mut reader, &mut writer).await;
    assert!(copied.is_ok(), "{copied:?}");
    writer.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_go_client_gets_back_what_it_sends() {
    let program = match peer() {
        Ok(program) => program,
        Err(reason) => return println!("skipped: no Go peer: {reason}"),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let client = tokio::process::Command::new(program)
        .args(["client", &address])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (socket, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    let (connection, mut incoming) = spdy::serve(socket, Limits::default());
    let mut requests = Vec::new();
    let serving = async {
        let mut streams = tokio::task::JoinSet::new();
        while let Some(stream) = incoming.next().await {
            assert_eq!(stream.header("streamType"), Some("data"));
            assert_eq!(stream.header("port"), Some("80"));
            requests.push(stream.header("requestID").unwrap().to_owned());
            streams.spawn(echo(stream));
        }
        while let Some(stream) = streams.join_next().await {
            stream.unwrap();
        }
    };
    timeout(DEADLINE, serving).await.unwrap();
    let end = timeout(DEADLINE, connection.closed()).await.unwrap();
    assert!(matches!(end, End::Left), "{end}");
    let output = timeout(DEADLINE, client.wait_with_output()).await;
    let output = output.unwrap().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    requests.sort();
    assert_eq!(requests, ["0", "1", "2", "3", "4", "5", "6", "7"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_go_server_sends_back_what_it_gets() {
    let program = match peer() {
        Ok(program) => program,
        Err(reason) => return println!("skipped: no Go peer: {reason}"),
    };
    let mut server = tokio::process::Command::new(program)
        .arg("serve")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut address = String::new();
    let mut output = BufReader::new(server.stdout.take().unwrap());
    let line = timeout(DEADLINE, output.read_line(&mut address)).await;
    line.unwrap().unwrap();
    let socket = TcpStream::connect(address.trim()).await.unwrap();
    let connection = spdy::connect(socket, Limits::default());
    let conversation = async {
        for kind in ["stdin", "stdout", "resize"] {
            let stream = connection
                .open(&[("streamType", kind), ("port", "1")])
                .await;
            let (mut reader, mut writer) = tokio::io::split(stream.unwrap());
            let sent: Vec<u8> = (0..=255).cycle().step_by(7).take(3_000_000).collect();
            let (sending, mut received) = (sent.clone(), Vec::new());
            let writing = tokio::spawn(async move {
                writer.write_all(&sending).await.unwrap();
                writer.shutdown().await.unwrap();
                writer
            });
            reader.read_to_end(&mut received).await.unwrap();
            assert!(sent == received, "{} octets came back", received.len());
            writing.await.unwrap();
        }
    };
    timeout(DEADLINE, conversation).await.unwrap();
    connection.close();
    let end = timeout(DEADLINE, connection.closed()).await.unwrap();
    assert!(matches!(end, End::Closed), "{end}");
    let status = timeout(DEADLINE, server.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
}
