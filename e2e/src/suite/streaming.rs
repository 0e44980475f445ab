//! Exec and attach over their URLs, as kubelet's client speaks.

use crate::support::calls::refusal;
use crate::support::case::cases;
use crate::support::outcome::{check, check_contains, check_eq};
use crate::support::requests::{BUSYBOX, host_pod, script, sleeper};
use crate::support::{Case, Node, Outcome};
use insula_cri_api::v1::{AttachRequest, ContainerConfig, ExecRequest, PortForwardRequest};
use insula_streaming::client::{self, ClientError, Remote};
use insula_streaming::spdy::Stream;
use insula_streaming::{Size, Streams};
use rustix::fs::Access;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub fn cases() -> Vec<Case> {
    cases![
        exit_codes_and_streams_are_the_commands_own,
        input_ends_when_the_client_says_so,
        a_terminal_has_the_clients_size,
        several_clients_are_attached_at_once,
        input_once_ends_with_its_client,
        much_data_goes_both_ways_unchanged,
        a_url_is_good_once,
        clients_that_vanish_leave_nothing,
        what_is_not_running_has_no_streams,
        the_insula_command_speaks_tls,
    ]
}

const OUT: Streams = Streams {
    stdin: false,
    stdout: true,
    stderr: true,
    terminal: false,
};
const ALL: Streams = Streams { stdin: true, ..OUT };
const TERMINAL: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: false,
    terminal: true,
};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn in_time<T>(what: &str, work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done.map_err(|stop| stop.within(what)),
        Err(_) => Err(format!("{what}: not done in {PATIENCE:?}").into()),
    }
}

async fn exec_url(node: &Node, id: &str, command: &str, streams: Streams) -> Outcome<String> {
    let request = ExecRequest {
        container_id: id.to_owned(),
        cmd: ["sh", "-c", command].map(str::to_owned).to_vec(),
        tty: streams.terminal,
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
    };
    Ok(node.runtime()?.exec(request).await?.into_inner().url)
}

async fn exec(node: &Node, id: &str, command: &str, streams: Streams) -> Outcome<Remote> {
    let url = exec_url(node, id, command, streams).await?;
    in_time("open an exec", async {
        Ok(client::remote(&url, None, streams).await?)
    })
    .await
}

async fn attach(node: &Node, id: &str, streams: Streams) -> Outcome<Remote> {
    let request = AttachRequest {
        container_id: id.to_owned(),
        tty: streams.terminal,
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
    };
    let url = node.runtime()?.attach(request).await?.into_inner().url;
    in_time("attach", async {
        Ok(client::remote(&url, None, streams).await?)
    })
    .await
}

/// A stream to its end.
async fn text(stream: &mut Option<Stream>) -> Outcome<String> {
    let stream = stream.as_mut().ok_or("the stream was not asked for")?;
    in_time("read a stream", async {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    })
    .await
}

/// Reads until the text has come.
async fn until(stream: &mut Option<Stream>, wanted: &str) -> Outcome<String> {
    let stream = stream.as_mut().ok_or("the stream was not asked for")?;
    let mut heard = Vec::new();
    in_time(&format!("wait for {wanted:?}"), async {
        while !String::from_utf8_lossy(&heard).contains(wanted) {
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer).await? {
                0 => {
                    let heard = String::from_utf8_lossy(&heard);
                    return Err(format!("the stream ended after {heard:?}").into());
                }
                length => heard.extend_from_slice(&buffer[..length]),
            }
        }
        Ok(())
    })
    .await?;
    Ok(String::from_utf8_lossy(&heard).into_owned())
}

async fn write(stream: &mut Option<Stream>, bytes: &[u8]) -> Outcome {
    let stream = stream.as_mut().ok_or("the stream was not asked for")?;
    in_time("write", async {
        stream.write_all(bytes).await?;
        Ok(stream.flush().await?)
    })
    .await
}

async fn container(node: &mut Node, config: ContainerConfig) -> Outcome<String> {
    let pod = node.run_pod(host_pod("streams")).await?;
    node.run(&pod, config).await
}

async fn exit_codes_and_streams_are_the_commands_own(node: &mut Node) -> Outcome {
    let id = container(node, sleeper("main")).await?;
    for (command, stdout, stderr, code) in [
        ("echo out; echo err >&2", "out\n", "err\n", 0),
        ("exit 3", "", "", 3),
        ("kill -9 $$", "", "", 137),
        ("sleep 1000 & echo left", "left\n", "", 0),
    ] {
        let mut remote = exec(node, &id, command, OUT).await?;
        check_eq!(
            text(&mut remote.stdout).await?,
            stdout,
            "output of {command:?}"
        );
        check_eq!(
            text(&mut remote.stderr).await?,
            stderr,
            "errors of {command:?}"
        );
        let ended = in_time("wait for the exit code", async {
            Ok(remote.end.wait().await?)
        });
        check_eq!(ended.await?, code, "exit code of {command:?}");
    }
    let request = ExecRequest {
        container_id: id.clone(),
        cmd: vec!["/no/such/program".into()],
        stdout: true,
        ..ExecRequest::default()
    };
    let url = node.runtime()?.exec(request).await?.into_inner().url;
    let only_output = Streams {
        stdout: true,
        ..Streams::default()
    };
    let remote = client::remote(&url, None, only_output).await;
    let failed = match remote {
        Ok(remote) => {
            in_time("wait for the refusal", async {
                Ok(remote.end.wait().await)
            })
            .await?
        }
        Err(error) => Err(error),
    };
    match failed {
        Err(ClientError::Failed(why)) => check_contains!(why, "/no/such/program"),
        other => return Err(format!("a missing program: {other:?}").into()),
    }
    Ok(())
}

async fn input_ends_when_the_client_says_so(node: &mut Node) -> Outcome {
    let id = container(node, sleeper("main")).await?;
    let mut remote = exec(node, &id, "wc -c; echo after", ALL).await?;
    write(&mut remote.stdin, b"123456").await?;
    if let Some(stdin) = &mut remote.stdin {
        stdin.shutdown().await?;
    }
    check_eq!(text(&mut remote.stdout).await?, "6\nafter\n", "output");
    check_eq!(remote.end.wait().await?, 0, "exit code");
    Ok(())
}

pub(super) async fn a_terminal_has_the_clients_size(node: &mut Node) -> Outcome {
    let id = container(node, sleeper("main")).await?;
    let command = "trap 'stty size' WINCH; tty; while :; do sleep 0.1; done";
    let mut remote = exec(node, &id, command, TERMINAL).await?;
    let heard = until(&mut remote.stdout, "\r\n").await?;
    check_contains!(heard, "/dev/pts/");
    for (columns, rows, shown) in [(132, 43, "43 132"), (80, 24, "24 80")] {
        let sizes = remote.sizes.as_mut().ok_or("no stream of sizes")?;
        sizes.send(Size { columns, rows }).await?;
        until(&mut remote.stdout, shown).await?;
    }
    // What a person's Ctrl-C is: the terminal makes the signal.
    write(&mut remote.stdin, b"\x03").await?;
    let ended = in_time("wait for the end", async { Ok(remote.end.wait().await?) });
    check_eq!(ended.await?, 130, "exit code after Ctrl-C");

    // More than a terminal holds comes through whole.
    let mut remote = exec(node, &id, "stty -opost; seq 1 100000; exit 4", TERMINAL).await?;
    let heard = text(&mut remote.stdout).await?;
    check!(
        heard.ends_with("99999\n100000\n"),
        "the end of {} bytes",
        heard.len()
    );
    check_eq!(heard.lines().count(), 100_000, "lines");
    check_eq!(remote.end.wait().await?, 4, "exit code");
    Ok(())
}

async fn several_clients_are_attached_at_once(node: &mut Node) -> Outcome {
    // Whoever sees a tick is attached: a client's streams are open before that.
    let ticks = "while sleep 0.05; do echo tick; done &";
    let heard = "while read line; do echo \"heard $line\"; done";
    let mut config = script("main", &format!("{ticks} {heard}"));
    config.stdin = true;
    let id = container(node, config).await?;
    let mut first = attach(node, &id, ALL).await?;
    let mut second = attach(node, &id, OUT).await?;
    until(&mut first.stdout, "tick\n").await?;
    until(&mut second.stdout, "tick\n").await?;
    write(&mut first.stdin, b"one\n").await?;
    until(&mut first.stdout, "heard one\n").await?;
    until(&mut second.stdout, "heard one\n").await?;
    // Who leaves ends nothing.
    drop(first);
    let mut third = attach(node, &id, ALL).await?;
    until(&mut third.stdout, "tick\n").await?;
    write(&mut third.stdin, b"two\n").await?;
    until(&mut third.stdout, "heard two\n").await?;
    until(&mut second.stdout, "heard two\n").await?;
    node.stop(&id, 0).await?;
    let rest = text(&mut second.stdout).await?;
    check!(!rest.contains("heard"), "output after the end: {rest}");
    check_eq!(second.end.wait().await?, 0, "how the attachment ended");
    let log = node.stdout(&id).await?;
    let heard: Vec<_> = log.lines().filter(|line| *line != "tick").collect();
    check_eq!(heard, ["heard one", "heard two"], "the log");
    Ok(())
}

pub(super) async fn input_once_ends_with_its_client(node: &mut Node) -> Outcome {
    let mut config = script("main", "cat; echo end of input; exit 5");
    config.stdin = true;
    config.stdin_once = true;
    let id = container(node, config).await?;
    let mut remote = attach(node, &id, ALL).await?;
    write(&mut remote.stdin, b"all\n").await?;
    until(&mut remote.stdout, "all\n").await?;
    drop(remote);
    check_eq!(node.wait_for_end(&id).await?.exit_code, 5, "exit code");
    check_eq!(node.stdout(&id).await?, "all\nend of input\n", "output");
    Ok(())
}

/// Bytes of a number that never repeat within a mebibyte, and their sum.
fn chunk(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(1 << 20);
    while bytes.len() < 1 << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

async fn much_data_goes_both_ways_unchanged(node: &mut Node) -> Outcome {
    // 64 MiB unless told otherwise.
    let mebibytes: u64 = match std::env::var("INSULA_E2E_STREAM_MIB") {
        Ok(text) => text.parse()?,
        Err(_) => 64,
    };
    let id = container(node, sleeper("main")).await?;
    let mut remote = exec(
        node,
        &id,
        "tee /proc/self/fd/2 | sha256sum >/tmp/sum; exit 6",
        ALL,
    )
    .await?;
    let mut stdin = remote.stdin.take().ok_or("no input")?;
    // The command writes what it reads to its standard error.
    let mut echo = remote.stderr.take().ok_or("no standard error")?;
    let begun = Instant::now();
    let writing = async {
        for number in 0..mebibytes {
            stdin.write_all(&chunk(number)).await?;
        }
        stdin.shutdown().await?;
        Outcome::Ok(())
    };
    let reading = async {
        let mut buffer = vec![0; 1 << 20];
        for number in 0..mebibytes {
            echo.read_exact(&mut buffer).await?;
            check!(
                buffer == chunk(number),
                "mebibyte {number} came back changed"
            );
        }
        check_eq!(echo.read(&mut buffer).await?, 0, "bytes after the last");
        Ok(())
    };
    let limit = Duration::from_secs(60 + mebibytes);
    let (written, read) = tokio::time::timeout(limit, futures_util::future::join(writing, reading))
        .await
        .map_err(|_| format!("{mebibytes} MiB did not go both ways in {limit:?}"))?;
    written?;
    read?;
    check_eq!(remote.end.wait().await?, 6, "exit code");
    println!(
        "{mebibytes} MiB both ways in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    // What the container heard is what was sent: the same sum there and here.
    let mut summed = exec(node, &id, "sha256sum; exit 0", ALL).await?;
    let mut stdin = summed.stdin.take().ok_or("no input")?;
    for number in 0..mebibytes {
        stdin.write_all(&chunk(number)).await?;
    }
    stdin.shutdown().await?;
    let here = text(&mut summed.stdout).await?;
    check_eq!(
        node.shell(&id, "cat /tmp/sum").await?,
        here,
        "the sum of what was echoed"
    );
    Ok(())
}

async fn a_url_is_good_once(node: &mut Node) -> Outcome {
    let id = container(node, sleeper("main")).await?;
    let url = exec_url(node, &id, "exit 7", OUT).await?;
    check!(
        url.starts_with("http://127.0.0.1:"),
        "{url} is not on loopback"
    );
    let remote = client::remote(&url, None, OUT).await?;
    check_eq!(remote.end.wait().await?, 7, "exit code");
    let guessed = format!("{}x", exec_url(node, &id, "true", OUT).await?);
    for used in [url.clone(), guessed] {
        match client::remote(&used, None, OUT).await {
            Err(ClientError::Refused { status, .. }) => {
                check_eq!(status.as_u16(), 404, "the answer to {used}");
            }
            other => return Err(format!("{used}: {other:?}").into()),
        }
    }
    // A thousand wait, one more is too many.
    let mut refused = String::new();
    for _ in 0..1001 {
        let request = ExecRequest {
            container_id: id.clone(),
            cmd: vec!["true".into()],
            stdout: true,
            ..ExecRequest::default()
        };
        if let Err(status) = node.runtime()?.exec(request).await {
            refused = format!("{:?}", status.code());
        }
    }
    check_eq!(refused, "ResourceExhausted", "the last of many");
    Ok(())
}

/// Descriptors of the daemon.
fn descriptors(node: &Node) -> Outcome<usize> {
    let directory = format!("/proc/{}/fd", node.daemon()?.pid());
    rustix::fs::access(&*directory, Access::READ_OK)?;
    Ok(std::fs::read_dir(directory)?.count())
}

async fn clients_that_vanish_leave_nothing(node: &mut Node) -> Outcome {
    let mut config = sleeper("main");
    config.stdin = true;
    let id = container(node, config).await?;
    // What is made on first use is there after this.
    exec(node, &id, "true", OUT).await?.end.wait().await?;
    let before = descriptors(node)?;
    for _ in 0..5 {
        let url = exec_url(node, &id, "sleep 1000", ALL).await?;
        let rest = url.trim_start_matches("http://");
        let (server, path) = rest.split_once('/').ok_or("a URL without a path")?;
        // Half a request, a whole one whose answer is not read, a session
        // without streams, whole sessions.
        let mut half = TcpStream::connect(server).await?;
        half.write_all(format!("POST /{path} HT").as_bytes())
            .await?;
        drop(half);
        let mut whole = TcpStream::connect(server).await?;
        let head = format!(
            "POST /{path} HTTP/1.1\r\nHost: {server}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
             X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
        );
        whole.write_all(head.as_bytes()).await?;
        drop(whole);
        drop(exec(node, &id, "sleep 1000", ALL).await?);
        drop(exec(node, &id, "head -c 50000000 /dev/zero; sleep 1000", OUT).await?);
        drop(exec(node, &id, "sleep 1000", TERMINAL).await?);
        drop(attach(node, &id, ALL).await?);
    }
    let begun = Instant::now();
    loop {
        let now = descriptors(node)?;
        if now <= before {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("the daemon had {before} descriptors and has {now}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn what_is_not_running_has_no_streams(node: &mut Node) -> Outcome {
    node.pull(BUSYBOX).await?;
    let pod = node.run_pod(host_pod("streams")).await?;
    let id = node.create(&pod, sleeper("main")).await?;
    let request = ExecRequest {
        container_id: id.clone(),
        cmd: vec!["true".into()],
        stdout: true,
        ..ExecRequest::default()
    };
    check_contains!(
        refusal(node.runtime()?.exec(request).await)?,
        "FailedPrecondition"
    );
    let request = AttachRequest {
        container_id: id,
        stdout: true,
        ..AttachRequest::default()
    };
    check_contains!(
        refusal(node.runtime()?.attach(request).await)?,
        "FailedPrecondition"
    );
    node.stop_pod(&pod.id).await?;
    let request = PortForwardRequest {
        pod_sandbox_id: pod.id,
        port: vec![80],
    };
    check_contains!(
        refusal(node.runtime()?.port_forward(request).await)?,
        "FailedPrecondition"
    );
    Ok(())
}

async fn the_insula_command_speaks_tls(node: &mut Node) -> Outcome {
    let text = node.configuration() + "\n[streaming]\ntls = true\n";
    std::fs::write(node.path("config.toml"), text)?;
    node.restart().await?;
    let id = container(node, sleeper("main")).await?;
    let url = exec_url(node, &id, "true", OUT).await?;
    check!(url.starts_with("https://127.0.0.1:"), "{url} is not of TLS");
    let said = ["sh", "-c", "echo out; echo err >&2; exit 5"];
    let said = node
        .insula(&[&["exec", "-i", &id, "--"], &said[..]].concat(), 5)
        .await?;
    check_eq!(said, "out\nerr\n", "what a command says");
    // Other clients have to be told the certificate.
    match client::remote(&url, None, OUT).await {
        Err(error) => check_contains!(error.to_string(), "speaks TLS"),
        Ok(_) => return Err("a certificate that nobody knows was believed".into()),
    }
    Ok(())
}
