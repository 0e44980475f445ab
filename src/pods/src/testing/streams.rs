//! Streams of commands and containers, and ports of pods.

use super::{Bench, container_spec, pod_spec};
use crate::error::Error;
use crate::exec::ExecStreams;
use crate::pods::Pods;
use crate::session::{AttachStreams, Session};
use insula_isolators::spec::ContainerSpec;
use insula_wire::OsText;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::time::Duration;

fn words(words: &[&str]) -> Vec<OsText> {
    words
        .iter()
        .map(|&word| OsText::try_from(word).unwrap())
        .collect()
}

fn piped(program: &str) -> ExecStreams {
    ExecStreams {
        command: words(&[program]),
        terminal: false,
        stdin: true,
        stdout: true,
        stderr: false,
    }
}

const ALL: AttachStreams = AttachStreams {
    stdin: true,
    stdout: true,
    stderr: false,
};

/// A pod with a container that runs.
async fn sleeper(pods: &Pods, change: impl FnOnce(&mut ContainerSpec)) -> (crate::PodId, String) {
    let pod = pods.run_sandbox(pod_spec("web")).await.unwrap();
    let mut spec = ContainerSpec {
        command: words(&["sleep"]),
        ..container_spec("main")
    };
    change(&mut spec);
    let id = pods.create_container(pod.as_str(), spec).await.unwrap();
    pods.start_container(id.as_str()).await.unwrap();
    (pod, id.to_string())
}

fn write(stdin: Option<OwnedFd>, text: &str) {
    std::fs::File::from(stdin.unwrap())
        .write_all(text.as_bytes())
        .unwrap();
}

/// Reads to the end, on a thread for that.
async fn read(stdout: Option<OwnedFd>) -> String {
    let stdout = stdout.unwrap();
    rustix::io::ioctl_fionbio(&stdout, false).unwrap();
    tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        std::fs::File::from(stdout)
            .read_to_string(&mut text)
            .unwrap();
        text
    })
    .await
    .unwrap()
}

/// Waits until the supervisor has been told.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not come");
}

#[tokio::test]
async fn a_command_reads_and_writes_until_its_input_is_closed() {
    let bench = Bench::new();
    let pods = bench.open().await;
    let (pod, id) = sleeper(&pods, |_| {}).await;
    pods.check_exec(&id).await.unwrap();
    let mut session = pods.exec(&id, piped("cat")).await.unwrap();
    assert!(session.stderr.is_none());
    write(session.stdin.take(), "hello");
    session.resize(80, 24).unwrap();
    session.close_stdin().await.unwrap();
    assert_eq!(read(session.stdout.take()).await, "hello");
    assert_eq!(session.end().await.unwrap(), 4);
    assert_eq!(session.end().await.unwrap(), 4);
    session.close_stdin().await.unwrap();
    drop(session);
    let supervisor = bench.supervisor(&pod);
    assert_eq!(
        supervisor.streams(),
        (0, 0, 0),
        "an exec that ended is left alone"
    );
}

#[tokio::test]
async fn a_dropped_session_lets_go_of_a_command_and_kills_nothing() {
    let bench = Bench::new();
    let pods = bench.open().await;
    let (pod, id) = sleeper(&pods, |_| {}).await;
    let session = pods.exec(&id, piped("cat")).await.unwrap();
    let supervisor = bench.supervisor(&pod);
    assert_eq!(supervisor.streams(), (1, 0, 0));
    // On a thread that has no runtime.
    std::thread::spawn(move || drop(session)).join().unwrap();
    eventually("the abandonment", || supervisor.streams() == (0, 1, 0)).await;
}

#[tokio::test]
async fn a_terminal_is_one_descriptor_for_all_and_has_a_size() {
    let bench = Bench::new();
    let pods = bench.open().await;
    let (_, id) = sleeper(&pods, |_| {}).await;
    let wanted = ExecStreams {
        terminal: true,
        ..piped("cat")
    };
    let mut session = pods.exec(&id, wanted).await.unwrap();
    session.resize(132, 50).unwrap();
    session.resize(0, 50).unwrap();
    let size = rustix::termios::tcgetwinsize(session.stdin.as_ref().unwrap()).unwrap();
    assert_eq!((size.ws_col, size.ws_row), (132, 50));
    assert!(session.stdout.is_some() && session.stderr.is_none());
    // A terminal has no end that could be closed.
    session.close_stdin().await.unwrap();
    assert!(session.stdin.is_none());
}

async fn attached(pods: &Pods, id: &str) -> Session {
    pods.attach(id, ALL).await.unwrap()
}

#[tokio::test]
async fn several_are_attached_until_the_container_ends() {
    let bench = Bench::new();
    let pods = bench.open().await;
    let (pod, id) = sleeper(&pods, |spec| spec.stdin = true).await;
    assert!(!pods.check_attach(&id).await.unwrap());
    let mut one = attached(&pods, &id).await;
    let mut two = attached(&pods, &id).await;
    let supervisor = bench.supervisor(&pod);
    supervisor.show("hello");
    let mut seen = [0; 5];
    for session in [&one, &two] {
        assert_eq!(
            rustix::io::read(session.stdout.as_ref().unwrap(), &mut seen).unwrap(),
            5
        );
    }
    // Without stdin_once the next one finds standard input open.
    one.close_stdin().await.unwrap();
    drop(two.stdin.take());
    assert_eq!(supervisor.streams().0, 1);
    supervisor.end(&id, 9);
    assert_eq!(one.end().await.unwrap(), 9);
    assert_eq!(two.end().await.unwrap(), 9);
    let refused = pods.attach(&id, ALL).await.unwrap_err();
    assert!(matches!(refused, Error::FailedPrecondition(_)), "{refused}");
    for refused in [
        pods.check_attach(&id).await.map(drop),
        pods.check_exec(&id).await,
    ] {
        let refused = refused.unwrap_err();
        assert!(refused.to_string().contains("it is exited"), "{refused}");
    }
}

#[tokio::test]
async fn standard_input_ends_with_the_first_who_was_attached_to_it() {
    for reads_only in [true, false] {
        let bench = Bench::new();
        let pods = bench.open().await;
        let (pod, id) = sleeper(&pods, |spec| {
            spec.stdin = true;
            spec.stdin_once = true;
        })
        .await;
        let supervisor = bench.supervisor(&pod);
        let first = attached(&pods, &id).await;
        let wanted = AttachStreams {
            stdin: !reads_only,
            ..ALL
        };
        let second = pods.attach(&id, wanted).await.unwrap();
        drop(second);
        if reads_only {
            assert_eq!(supervisor.streams().0, 1);
        } else {
            eventually("the end of input", || supervisor.streams().0 == 0).await;
        }
        drop(first);
        eventually("the end of input", || supervisor.streams().0 == 0).await;
    }
}

#[tokio::test]
async fn a_container_without_standard_input_has_none_to_write_to() {
    let bench = Bench::new();
    let pods = bench.open().await;
    let (_, id) = sleeper(&pods, |_| {}).await;
    let session = attached(&pods, &id).await;
    assert!(session.stdin.is_none() && session.stdout.is_some());
}

#[tokio::test]
async fn who_does_not_keep_up_is_told() {
    let bench = Bench::new();
    let pods = bench.open().await;
    let (pod, id) = sleeper(&pods, |_| {}).await;
    let mut session = attached(&pods, &id).await;
    bench.supervisor(&pod).lose_all();
    for _ in 0..2 {
        let error = session.end().await.unwrap_err();
        assert!(matches!(error, Error::ResourceExhausted(_)), "{error}");
    }
    // Dropped while the container runs on.
    drop(session);
    pods.check_attach(&id).await.unwrap();
}

#[tokio::test]
async fn a_lost_connection_ends_a_wait() {
    let bench = Bench::new();
    let pods = bench.open().await;
    let (pod, id) = sleeper(&pods, |_| {}).await;
    let mut exec = pods.exec(&id, piped("cat")).await.unwrap();
    let mut attach = attached(&pods, &id).await;
    bench.supervisor(&pod).hang_up();
    for error in [exec.end().await, attach.end().await] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains("supervisor"), "{error}");
    }
}

#[tokio::test]
async fn ports_are_tried_on_both_loopbacks() {
    let bench = Bench::new();
    let pods = bench.open().await;
    let (pod, _) = sleeper(&pods, |_| {}).await;
    pods.check_port_forward(pod.short()).await.unwrap();
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = match std::net::TcpListener::bind(address) {
            Ok(listener) => listener,
            Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {
                println!("skipped: this machine has no {address}: {error}");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let port = listener.local_addr().unwrap().port();
        let stream = pods.connect(pod.as_str(), port).await.unwrap();
        stream.set_nonblocking(false).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        (&stream).write_all(b"hello").unwrap();
        drop(stream);
        let mut text = String::new();
        accepted.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello", "{address}");
        drop((accepted, listener));
        let refused = pods.connect(pod.as_str(), port).await.unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains(&format!("127.0.0.1:{port}")) && text.contains("refused"),
            "{text}"
        );
    }
    pods.stop_sandbox(pod.as_str()).await.unwrap();
    for refused in [
        pods.check_port_forward(pod.as_str()).await,
        pods.connect(pod.as_str(), 1).await.map(drop),
    ] {
        assert!(matches!(refused.unwrap_err(), Error::FailedPrecondition(_)));
    }
    assert!(
        pods.check_port_forward("nobody")
            .await
            .unwrap_err()
            .is_not_found()
    );
}
