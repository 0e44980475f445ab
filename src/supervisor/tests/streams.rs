//! The real program against the real kernel: streams of execs, and those who
//! are attached to containers.
#![forbid(unsafe_code)]

#[expect(dead_code, reason = "each test program uses a part of it")]
mod harness;

use harness::{Pod, plan, process, read_all};
use insula_wire::LaunchPlan;
use insula_wire::message::{Event, ExecStreams, FailureKind, Input, Request, StdinOf};
use insula_wire::plan::MountSource;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::time::{Duration, Instant};

const PIPES: ExecStreams = ExecStreams::Pipes {
    stdin: true,
    stdout: true,
    stderr: false,
};

/// Longest wait for something that has to come.
const PATIENCE: Duration = Duration::from_secs(20);

fn shell(pod: &Pod, id: &str, script: &str) -> LaunchPlan {
    plan(pod, id, &["sh", "-c", script])
}

fn write(fd: impl AsFd, text: &str) {
    assert_eq!(rustix::io::write(fd, text.as_bytes()).unwrap(), text.len());
}

/// Reads until the text is there; gives all that came.
fn read_until(fd: impl AsFd, text: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    let mut all = String::new();
    let mut chunk = [0; 4096];
    while !all.contains(text) {
        match rustix::io::read(&fd, &mut chunk) {
            Ok(0) | Err(Errno::IO) => panic!("it ended after {all:?}, before {text:?} came"),
            Ok(length) => all.push_str(&String::from_utf8_lossy(&chunk[..length])),
            Err(Errno::AGAIN) => {
                assert!(
                    Instant::now() < deadline,
                    "{text:?} did not come after {all:?}"
                );
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(errno) => panic!("{errno}"),
        }
    }
    all
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn take<const N: usize>(descriptors: Vec<OwnedFd>) -> [OwnedFd; N] {
    <[OwnedFd; N]>::try_from(descriptors).unwrap()
}

fn signal(pod: &mut Pod, id: &str) {
    let container_id = id.to_owned();
    let request = Request::Signal {
        container_id,
        signal: 9,
    };
    pod.ask(request, &[]).unwrap();
}

#[test]
fn an_exec_reads_until_every_end_of_its_input_is_closed() {
    let mut pod = Pod::start(false);
    pod.run(&plan(&pod, "main", &["sleep", "1000"])).unwrap();
    let before = pod.descriptors();
    let (exec_id, streams) = pod
        .start_exec("main", &process(&["cat"]), PIPES, 0)
        .unwrap();
    let [stdin, stdout] = take(streams);
    write(&stdin, "hello");
    drop(stdin);
    assert_eq!(read_until(&stdout, "hello"), "hello");
    // The supervisor's end keeps it open.
    let mut byte = [0];
    assert_eq!(rustix::io::read(&stdout, &mut byte), Err(Errno::AGAIN));
    let close = Request::CloseStdin(StdinOf::Exec { exec_id });
    pod.ask(close.clone(), &[]).unwrap();
    assert_eq!(pod.end_of_exec(exec_id), (0, false));
    assert_eq!(read_all(stdout), "");
    pod.ask(close, &[]).unwrap();
    assert_eq!(pod.descriptors(), before);
}

#[test]
fn an_exec_has_a_terminal_of_its_own() {
    let mut pod = Pod::start(false);
    pod.run(&plan(&pod, "main", &["sleep", "1000"])).unwrap();
    let script = "tty; stty size; ls /proc/self/fd | wc -l; read line; echo got $line; stty size; sleep 1000";
    let wanted = process(&["sh", "-c", script]);
    let (exec_id, streams) = pod
        .start_exec("main", &wanted, ExecStreams::Terminal, 0)
        .unwrap();
    let [master] = take(streams);
    let begin = read_until(&master, "24 80\r\n4\r\n");
    assert!(begin.starts_with("/dev/pts/0\r\n"), "{begin}");
    let size = rustix::termios::Winsize {
        ws_row: 50,
        ws_col: 132,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&master, size).unwrap();
    write(&master, "word\n");
    let answer = read_until(&master, "50 132\r\n");
    assert!(answer.contains("got word\r\n"), "{answer}");
    // It is its controlling terminal: a key sends a signal.
    write(&master, "\x03");
    assert_eq!(pod.end_of_exec(exec_id), (130, false));
    let mut rest = [0; 64];
    eventually("the end of the terminal", || {
        rustix::io::read(&master, &mut rest) == Err(Errno::IO)
    });
}

#[test]
fn a_terminal_is_made_on_nothing_but_a_devpts() {
    for (what, errno) in [("no devpts", "ENODEV"), ("something over ptmx", "EXDEV")] {
        let mut pod = Pod::start(false);
        let mut wanted = plan(&pod, "main", &["sleep", "1000"]);
        if what == "no devpts" {
            wanted.mounts.retain(|mount| mount.target != "/dev/pts");
            wanted.mounts.iter_mut().for_each(|mount| {
                if mount.target == "/dev/mqueue" {
                    mount.target = "/dev/pts".to_owned();
                }
            });
        } else {
            let mut over = wanted.mounts[0].clone();
            over.target = "/dev/pts/ptmx".to_owned();
            over.source = MountSource::Host {
                path: "/dev/ptmx".to_owned(),
            };
            wanted.mounts.push(over);
        }
        pod.run(&wanted).unwrap();
        let failure = pod
            .start_exec("main", &process(&["true"]), ExecStreams::Terminal, 0)
            .unwrap_err();
        assert_eq!(failure.step, "make terminal", "{what}");
        let number = match errno {
            "ENODEV" => Errno::NODEV,
            _ => Errno::XDEV,
        };
        assert!(
            failure.message.contains(&number.to_string()),
            "{what}: {failure}"
        );
    }
}

#[test]
fn an_abandoned_exec_goes_on() {
    let mut pod = Pod::start(false);
    pod.run(&plan(&pod, "main", &["sleep", "1000"])).unwrap();
    let before = pod.descriptors();
    // More than a pipe holds, so it ends only if somebody reads.
    let script = "cat; yes | head -c 4000000; exit 5";
    let wanted = process(&["sh", "-c", script]);
    for by_daemon in [false, true] {
        let (exec_id, streams) = pod.start_exec("main", &wanted, PIPES, 0).unwrap();
        if by_daemon {
            // A daemon's death closes no standard input.
            let [stdin, stdout] = take(streams);
            drop(stdout);
            pod.reconnect();
            drop(stdin);
            pod.ask(Request::CloseStdin(StdinOf::Exec { exec_id }), &[])
                .unwrap();
        } else {
            drop(streams);
            pod.ask(Request::AbandonExec { exec_id }, &[]).unwrap();
        }
        assert_eq!(pod.end_of_exec(exec_id), (5, false), "{by_daemon}");
    }
    let script = "yes | head -c 4000000; exit 6";
    let wanted = process(&["sh", "-c", script]);
    let (exec_id, streams) = pod
        .start_exec("main", &wanted, ExecStreams::Terminal, 0)
        .unwrap();
    drop(streams);
    pod.ask(Request::AbandonExec { exec_id }, &[]).unwrap();
    assert_eq!(pod.end_of_exec(exec_id), (6, false));
    // It is told of before the last descriptor is closed.
    eventually("the end of its descriptors", || pod.descriptors() == before);
}

#[test]
fn several_are_attached_and_see_what_comes_from_then_on() {
    let mut pod = Pod::start(false);
    let script = "echo early; while read line; do echo out $line; echo err $line >&2; done; echo end; exit 3";
    let mut wanted = shell(&pod, "main", script);
    wanted.stdio.stdin = true;
    pod.run(&wanted).unwrap();
    let path = wanted.stdio.log_path.clone().unwrap();
    eventually("the first line", || {
        std::fs::read_to_string(&path).is_ok_and(|log| log.contains("early"))
    });
    let before = pod.descriptors();
    let (input, streams) = pod.attach("main", [true, true, true]).unwrap();
    assert_eq!(input, Input::Pipe);
    let [stdin, stdout, stderr] = take(streams);
    let (input, streams) = pod.attach("main", [false, true, false]).unwrap();
    assert_eq!(input, Input::None);
    let [second] = take(streams);
    write(&stdin, "one\n");
    assert_eq!(read_until(&stdout, "one\n"), "out one\n");
    assert_eq!(read_until(&stderr, "one\n"), "err one\n");
    assert_eq!(read_until(&second, "one\n"), "out one\n");
    // Who goes leaves nothing, though the container is quiet.
    drop(second);
    drop((stdout, stderr));
    eventually("the end of their copies", || pod.descriptors() == before);
    let (_, streams) = pod.attach("main", [false, true, true]).unwrap();
    let [stdout, stderr] = take(streams);
    drop(stdin);
    let container_id = "main".to_owned();
    let close = Request::CloseStdin(StdinOf::Container { container_id });
    pod.ask(close, &[]).unwrap();
    assert_eq!(pod.exit_of("main").code, 3);
    assert_eq!(read_all(stdout), "end\n");
    assert_eq!(read_all(stderr), "");
    let mut log = Pod::log(&wanted);
    log.sort();
    assert_eq!(
        log,
        [
            "stderr F err one",
            "stdout F early",
            "stdout F end",
            "stdout F out one"
        ]
    );
    let failure = pod.attach("main", [false, true, false]).unwrap_err();
    assert_eq!(failure.kind, FailureKind::WrongState);
    let failure = pod.attach("nobody", [false, true, false]).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotFound);
}

#[test]
fn who_does_not_read_is_dropped_and_the_log_has_it_all() {
    let mut pod = Pod::start(false);
    let mut wanted = shell(&pod, "main", "read line; yes | head -c 3000000; read line");
    wanted.stdio.stdin = true;
    pod.run(&wanted).unwrap();
    let (_, streams) = pod.attach("main", [true, true, true]).unwrap();
    let [stdin, stdout, stderr] = take(streams);
    write(&stdin, "go\n");
    assert!(matches!(pod.event(), Event::AttachLagged { .. }));
    // Both of its streams are closed, while the container goes on.
    let seen = read_all(stdout);
    assert!(
        seen.len() <= 1 << 20 && seen.starts_with("y\ny\n"),
        "{}",
        seen.len()
    );
    assert_eq!(read_all(stderr), "");
    write(&stdin, "end\n");
    assert_eq!(pod.exit_of("main").code, 0);
    assert_eq!(Pod::log(&wanted).len(), 1_500_000);
}

#[test]
fn a_terminal_can_be_attached_to() {
    let mut pod = Pod::start(false);
    let mut wanted = shell(
        &pod,
        "main",
        "stty size; read line; echo got $line; read line; exit 7",
    );
    wanted.stdio.terminal = true;
    pod.run(&wanted).unwrap();
    // The master comes for its size even if nobody wants to write.
    let (input, streams) = pod.attach("main", [false, true, true]).unwrap();
    assert_eq!(input, Input::Terminal);
    let [master, copy] = take(streams);
    assert_eq!(rustix::termios::tcgetwinsize(&master).unwrap().ws_col, 80);
    write(&master, "word\n");
    read_until(&copy, "got word\r\n");
    let container_id = "main".to_owned();
    // A terminal has no end that can be closed.
    pod.ask(
        Request::CloseStdin(StdinOf::Container { container_id }),
        &[],
    )
    .unwrap();
    write(&master, "end\n");
    assert_eq!(pod.exit_of("main").code, 7);
    read_all(copy);
    let log = Pod::log(&wanted).join("\n");
    assert!(log.contains("24 80") && log.contains("got word"), "{log}");
}

#[test]
fn an_exec_that_is_killed_at_any_moment_leaves_no_process() {
    let mut pod = Pod::start(false);
    pod.run(&plan(&pod, "main", &["sleep", "1000"])).unwrap();
    let main = pod.children();
    assert_eq!(main.len(), 1);
    for round in 0..60 {
        let wanted = process(&["sleep", "1000"]);
        match pod.start_exec("main", &wanted, PIPES, 1 + round / 4) {
            Ok((exec_id, _)) => assert_eq!(pod.end_of_exec(exec_id), (137, true)),
            Err(failure) => assert_eq!(failure.kind, FailureKind::TimedOut, "{failure}"),
        }
        assert_eq!(pod.children(), main, "round {round}");
    }
    signal(&mut pod, "main");
    assert_eq!(pod.exit_of("main").code, 137);
}

#[test]
fn an_exec_that_ends_its_container_has_a_code() {
    let mut pod = Pod::start(false);
    for round in 0..20 {
        let id = format!("main{round}");
        pod.run(&shell(&pod, &id, "while [ ! -e /stop ]; do :; done"))
            .unwrap();
        let (code, timed_out, ..) = pod
            .exec(&id, &["sh", "-c", "touch /stop; sleep 1000"], 0)
            .unwrap();
        assert_eq!((code, timed_out), (137, false));
        assert_eq!(pod.exit_of(&id).code, 0);
        std::fs::remove_file(pod.path("rootfs/stop")).unwrap();
    }
    assert_eq!(pod.children(), Vec::<String>::new());
}

#[test]
fn an_exec_whose_container_ends_meanwhile_is_refused_or_killed() {
    let mut pod = Pod::start(false);
    for round in 0..40 {
        let id = format!("main{round}");
        pod.run(&plan(&pod, &id, &["sleep", "1000"])).unwrap();
        signal(&mut pod, &id);
        match pod.exec(&id, &["sleep", "1000"], 0) {
            Ok((code, ..)) => assert_eq!(code, 137),
            Err(failure) => assert_eq!(failure.kind, FailureKind::WrongState, "{failure}"),
        }
        eventually("the end of the container", || pod.children().is_empty());
    }
}

#[test]
fn a_socket_made_in_a_pods_network_reaches_its_loopback_from_outside() {
    use insula_sys::namespace::{self, Kind};
    use std::net::{SocketAddr, TcpListener};
    let pod = Pod::start(false);
    let network = &pod.namespaces[0];
    let listener = std::thread::scope(|scope| {
        let bind = || {
            namespace::join(network, Kind::Network).unwrap();
            TcpListener::bind("127.0.0.1:0").unwrap()
        };
        scope.spawn(bind).join().unwrap()
    });
    let address: SocketAddr = listener.local_addr().unwrap();
    for (inside, expected) in [(true, true), (false, false)] {
        let socket = namespace::tcp_socket(inside.then_some(network.as_fd()), false).unwrap();
        rustix::io::ioctl_fionbio(&socket, false).unwrap();
        let connected = rustix::net::connect(&socket, &address);
        assert_eq!(connected.is_ok(), expected, "{inside}: {connected:?}");
    }
}

#[test]
fn a_working_directory_that_cannot_be_entered_is_named() {
    let mut pod = Pod::start(false);
    pod.run(&plan(&pod, "main", &["sleep", "1000"])).unwrap();
    std::os::unix::fs::symlink("loop", pod.path("rootfs/loop")).unwrap();
    for cwd in ["/loop", "/bin/sh", "/nowhere"] {
        let mut wanted = process(&["true"]);
        wanted.cwd = cwd.to_owned();
        let failure = pod.start_exec("main", &wanted, PIPES, 0).unwrap_err();
        assert_eq!(failure.kind, FailureKind::WorkingDirectory, "{failure}");
        assert_eq!(failure.step, format!("enter working directory {cwd}"));
    }
}
