//! How processes begin and end in containers, and what others can see of them meanwhile.

use crate::support::calls::{Pod, exec_request, refusal};
use crate::support::case::cases;
use crate::support::outcome::{check, check_contains, check_eq};
use crate::support::requests::{self, command, host_pod, mount, script, sleeper};
use crate::support::{Case, Exec, Node, Outcome};
use insula_cri_api::v1::{Capability, ContainerConfig, KeyValue, NamespaceMode};
use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How many starts are raced.
const RACES: usize = 1000;

pub fn cases() -> Vec<Case> {
    cases![
        nothing_of_the_host_is_seen_by_a_racer_in_its_own_pid_namespace,
        nothing_of_the_host_is_seen_by_a_racer_in_a_shared_pid_namespace,
        a_container_begins_like_a_plain_login,
        an_exec_begins_like_a_plain_login,
        a_pipe_that_is_closed_ends_its_writer,
        an_exec_gives_back_streams_and_codes,
        an_exec_ends_at_its_deadline_with_its_children in cgroup,
        background_children_live_on_and_hold_no_exec,
        a_command_that_cannot_be_run_is_refused,
        a_working_directory_that_cannot_be_entered_is_named,
        the_first_process_of_a_shared_pid_namespace_reaps,
        what_a_container_leaves_in_a_shared_pid_namespace_is_killed,
        a_user_can_reopen_its_standard_output,
        execs_run_side_by_side,
        an_environment_may_hold_any_bytes,
    ]
}

/// A file that only the host has.
struct Canary(PathBuf);

impl Canary {
    fn new(node: &Node) -> Outcome<Self> {
        let path = PathBuf::from(format!("/etc/insula-e2e-canary-{}", node.name));
        std::fs::write(&path, "content of the host")?;
        Ok(Self(path))
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            println!("{}: {error}", self.0.display());
        }
    }
}

async fn racer(node: &Node, pod: &Pod, canary: &Canary) -> Outcome<String> {
    let mut config = command("racer", &["/programs/racer", &canary.0.to_string_lossy()]);
    let at = mount(&mut config, &node.world.programs, "/programs");
    config.mounts[at].readonly = true;
    let security = requests::security(&mut config);
    let of_pod = pod
        .config
        .linux
        .clone()
        .unwrap_or_default()
        .security_context
        .unwrap_or_default()
        .namespace_options
        .unwrap_or_default();
    let namespaces = security.namespace_options.get_or_insert_default();
    namespaces.pid = of_pod.pid;
    namespaces.userns_options = of_pod.userns_options;
    security.capabilities = Some(Capability {
        add_capabilities: vec!["SYS_PTRACE".into()],
        ..Capability::default()
    });
    let id = node.run(pod, config).await?;
    node.wait_for_output(&id, "racing").await?;
    Ok(id)
}

/// How many races there are at most: on a busy machine the racer sees little of one.
const MAX_RACES: usize = 5;

/// Ends the race, looks at what was found, and gives back how many processes the racer saw.
async fn finding(node: &Node, racer: &str) -> Outcome<usize> {
    // As PID 1 it takes this command with it, whose exit code then says so.
    node.exec(racer, &["touch", "/tmp/stop"]).await?;
    node.wait_for_end(racer).await?;
    let output = node.stdout(racer).await?;
    let found: Vec<_> = output
        .lines()
        .filter(|line| line.starts_with("FOUND"))
        .take(10)
        .collect();
    check!(found.is_empty(), "the racer has found: {found:#?}");
    let looked = output
        .lines()
        .find_map(|line| line.strip_prefix("done "))
        .ok_or_else(|| format!("the racer did not finish: {output}"))?
        .parse()?;
    Ok(looked)
}

/// Races until the racer has seen enough processes for its finding nothing to mean something; in a
/// user namespace if `user` says so.
pub(super) async fn race(node: &Node, pid: NamespaceMode, user: bool) -> Outcome {
    let canary = Canary::new(node)?;
    let mut looked = 0;
    for round in 1..=MAX_RACES {
        looked += race_once(node, pid, user, &canary, round).await?;
        if looked > RACES / 20 {
            return Ok(());
        }
    }
    Err(format!(
        "the racer saw only {looked} of {} processes: it proves nothing",
        MAX_RACES * RACES
    )
    .into())
}

async fn race_once(
    node: &Node,
    pid: NamespaceMode,
    user: bool,
    canary: &Canary,
    round: usize,
) -> Outcome<usize> {
    let mut config = host_pod(&format!("race-{round}"));
    if user {
        config = requests::mapped_pod(config);
    }
    requests::namespaces(&mut config).pid = pid.into();
    let pod = node.run_pod(config).await?;
    let racer = racer(node, &pod, canary).await?;
    let mut other = sleeper("other");
    if user {
        other = requests::mapped(other);
    }
    requests::container_namespaces(&mut other).pid = pid.into();
    let target = if pid == NamespaceMode::Pod {
        node.run(&pod, other).await?
    } else {
        racer.clone()
    };
    // Four at a time, as probes come.
    let runtime = node.runtime()?;
    let runs = (0..4).map(|_| {
        let (mut runtime, target) = (runtime.clone(), &target);
        async move {
            for _ in 0..RACES / 4 {
                let answer = runtime
                    .exec_sync(exec_request(target, &["true"], 30))
                    .await?;
                check_eq!(answer.into_inner().exit_code, 0, "exit code of true");
            }
            Ok(())
        }
    });
    for run in futures_util::future::join_all(runs).await {
        run?;
    }
    finding(node, &racer).await
}

/// The race while containers come and go in a shared PID namespace.
pub(super) async fn race_of_containers(
    node: &Node,
    container: impl Fn() -> ContainerConfig,
) -> Outcome {
    let canary = Canary::new(node)?;
    let mut config = host_pod("race");
    requests::namespaces(&mut config).pid = NamespaceMode::Pod.into();
    let pod = node.run_pod(config).await?;
    let racer = racer(node, &pod, &canary).await?;
    for _ in 0..RACES / 20 {
        let mut config = container();
        requests::container_namespaces(&mut config).pid = NamespaceMode::Pod.into();
        let id = node.run(&pod, config).await?;
        let status = node.wait_for_end(&id).await?;
        check_eq!(status.exit_code, 0, "exit code");
        node.remove(&id).await?;
    }
    let looked = finding(node, &racer).await?;
    check!(looked > 0, "the racer saw nobody: it proves nothing");
    Ok(())
}

async fn nothing_of_the_host_is_seen_by_a_racer_in_its_own_pid_namespace(
    node: &mut Node,
) -> Outcome {
    race(node, NamespaceMode::Container, false).await
}

async fn nothing_of_the_host_is_seen_by_a_racer_in_a_shared_pid_namespace(
    node: &mut Node,
) -> Outcome {
    race(node, NamespaceMode::Pod, false).await
}

/// Prints what a process has of its own at its start.
const LOGIN: &str = "umask; \
    grep -E '^(SigBlk|SigIgn|CapInh|CapAmb|NoNewPrivs)' /proc/self/status; \
    echo oom $(cat /proc/$$/oom_score_adj); echo home $HOME; echo cwd $(pwd); echo core $(ulimit -c); \
    grep -E '^Max (open files|processes|core file size)' /proc/$$/limits; id -u; id -g; echo path $PATH";

fn check_login(output: &str, what: &str) -> Outcome {
    let lines: Vec<_> = output.lines().collect();
    check_eq!(lines.first(), Some(&"0022"), "umask of {what}");
    for set in ["SigBlk", "SigIgn"] {
        check!(
            lines.contains(&format!("{set}:\t0000000000000000").as_str()),
            "{set} of {what}: {output}"
        );
    }
    for set in ["CapInh", "CapAmb"] {
        check!(
            lines.contains(&format!("{set}:\t0000000000000000").as_str()),
            "{set} of {what}: {output}"
        );
    }
    for line in ["oom 0", "home /root", "cwd /", "NoNewPrivs:\t0"] {
        check!(
            lines.contains(&line),
            "{line:?} of {what} is missing: {output}"
        );
    }
    check!(
        lines
            .iter()
            .any(|line| line.starts_with("path /usr/local/sbin:")),
        "PATH of {what}: {output}"
    );
    Ok(())
}

async fn a_container_begins_like_a_plain_login(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("login")).await?;
    let (status, output) = node.finish(&pod, script("main", LOGIN)).await?;
    check_eq!(status.exit_code, 0, "exit code");
    check_login(&output, "a container's first process")?;
    // The fourth is the directory that ls reads.
    let (_, descriptors) = node
        .finish(&pod, command("descriptors", &["ls", "/proc/self/fd"]))
        .await?;
    check_eq!(
        descriptors,
        "0\n1\n2\n3\n",
        "descriptors of a container's first process"
    );
    // Resource limits are not the daemon's, which raises its own for its many descriptors.
    check_contains!(output, "Max open files            1024  ");
    Ok(())
}

async fn an_exec_begins_like_a_plain_login(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("login")).await?;
    let id = node.run(&pod, sleeper("main")).await?;
    let output = node.shell(&id, LOGIN).await?;
    check_login(&output, "an exec")?;
    check_eq!(
        node.exec(&id, &["ls", "/proc/self/fd"]).await?.stdout,
        "0\n1\n2\n3\n",
        "descriptors of an exec"
    );
    let limits = "cat /proc/1/limits; echo; ulimit -n";
    let own = node.shell(&id, "cat /proc/self/limits").await?;
    let first = node.shell(&id, limits).await?;
    check!(
        first.starts_with(&own),
        "limits of an exec differ from its container's: {own} {first}"
    );
    // Its parent is not of the container.
    check_eq!(
        node.shell(&id, "grep PPid /proc/$$/status").await?,
        "PPid:\t0\n",
        "parent"
    );
    Ok(())
}

async fn a_pipe_that_is_closed_ends_its_writer(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("pipe")).await?;
    let (status, output) = node
        .finish(&pod, script("first", "yes | head -n 3"))
        .await?;
    check_eq!(
        (status.exit_code, output.as_str()),
        (0, "y\ny\ny\n"),
        "yes | head"
    );
    let id = node.run(&pod, sleeper("main")).await?;
    let wanted = Exec {
        stdout: "y\n".into(),
        stderr: String::new(),
        code: 0,
    };
    check_eq!(
        node.exec(&id, &["sh", "-c", "yes | head -n 1"]).await?,
        wanted,
        "yes | head in an exec"
    );
    Ok(())
}

pub(super) async fn an_exec_gives_back_streams_and_codes(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("exec")).await?;
    let id = node.run(&pod, sleeper("main")).await?;
    let cases: &[(&str, &str, &str, i32)] = &[
        ("echo out; echo err >&2; exit 3", "out\n", "err\n", 3),
        ("kill -9 $$", "", "", 137),
        ("kill -TERM $$", "", "", 143),
        ("printf 'no end'", "no end", "", 0),
        ("cat", "", "", 0),
        ("exit 255", "", "", 255),
    ];
    for (text, stdout, stderr, code) in cases {
        let wanted = Exec {
            stdout: (*stdout).into(),
            stderr: (*stderr).into(),
            code: *code,
        };
        check_eq!(node.exec(&id, &["sh", "-c", text]).await?, wanted, "{text}");
    }
    Ok(())
}

async fn an_exec_ends_at_its_deadline_with_its_children(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("exec")).await?;
    let id = node.run(&pod, sleeper("main")).await?;
    let request = exec_request(&id, &["sh", "-c", "setsid sleep 7777 & sleep 7778"], 1);
    let begun = Instant::now();
    let error = refusal(node.runtime()?.exec_sync(request).await)?;
    check_contains!(error, "DeadlineExceeded: ");
    check!(
        begun.elapsed() >= Duration::from_secs(1),
        "it ended before its deadline"
    );
    let left = node
        .exec(&id, &["sh", "-c", "pgrep -f '^sleep 777'"])
        .await?;
    check_eq!(left.stdout, "", "processes of an exec that was killed");
    check_eq!(
        node.container_status(&id).await?.state(),
        insula_cri_api::v1::ContainerState::ContainerRunning,
        "container"
    );
    Ok(())
}

async fn background_children_live_on_and_hold_no_exec(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("exec")).await?;
    let id = node.run(&pod, sleeper("main")).await?;
    let begun = Instant::now();
    for _ in 0..5 {
        // Each holds the exec's output open (CVE-2026-53495).
        let ran = node
            .exec(&id, &["sh", "-c", "sleep 7777 & echo started"])
            .await?;
        check_eq!(
            (ran.stdout.as_str(), ran.code),
            ("started\n", 0),
            "exec with a child"
        );
    }
    check!(
        begun.elapsed() < Duration::from_secs(30),
        "execs waited for their children"
    );
    let children = node.shell(&id, "pgrep -f '^sleep 7777' | wc -l").await?;
    check_eq!(children.trim(), "5", "children that live on");
    Ok(())
}

async fn a_command_that_cannot_be_run_is_refused(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("exec")).await?;
    let id = node.run(&pod, sleeper("main")).await?;
    let mut runtime = node.runtime()?;
    let missing = refusal(
        runtime
            .exec_sync(exec_request(&id, &["no-such-program"], 5))
            .await,
    )?;
    check_contains!(missing, "no-such-program");
    let denied = refusal(
        runtime
            .exec_sync(exec_request(&id, &["/etc/passwd"], 5))
            .await,
    )?;
    check_contains!(denied, "exec: \"/etc/passwd\": permission denied");
    let empty = refusal(runtime.exec_sync(exec_request(&id, &[], 5)).await)?;
    check_contains!(empty, "InvalidArgument");
    node.stop(&id, 0).await?;
    let stopped = refusal(runtime.exec_sync(exec_request(&id, &["true"], 5)).await)?;
    check_contains!(stopped, "it is exited");
    Ok(())
}

async fn a_working_directory_that_cannot_be_entered_is_named(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("exec")).await?;
    let mut config = sleeper("main");
    config.working_dir = "/work".into();
    let id = node.run(&pod, config).await?;
    check_eq!(node.shell(&id, "pwd").await?, "/work\n", "directory");
    node.shell(&id, "cd / && rmdir /work && ln -s work /work")
        .await?;
    let refused = refusal(
        node.runtime()?
            .exec_sync(exec_request(&id, &["true"], 5))
            .await,
    )?;
    check_contains!(refused, "FailedPrecondition: ");
    check_contains!(refused, "enter working directory /work");
    Ok(())
}

fn shared_pid_pod(name: &str) -> insula_cri_api::v1::PodSandboxConfig {
    let mut config = host_pod(name);
    requests::namespaces(&mut config).pid = NamespaceMode::Pod.into();
    config
}

fn in_shared_pid(
    mut config: insula_cri_api::v1::ContainerConfig,
) -> insula_cri_api::v1::ContainerConfig {
    requests::container_namespaces(&mut config).pid = NamespaceMode::Pod.into();
    config
}

async fn the_first_process_of_a_shared_pid_namespace_reaps(node: &mut Node) -> Outcome {
    let pod = node.run_pod(shared_pid_pod("shared")).await?;
    let id = node.run(&pod, in_shared_pid(sleeper("main"))).await?;
    for _ in 0..20 {
        node.shell(&id, "(sleep 0.01 &) ; (true &)").await?;
    }
    let zombies = "for f in /proc/[0-9]*/status; do grep -q '^State:.Z' $f 2>/dev/null && echo $f; done; true";
    for _ in 0..100 {
        if node.shell(&id, zombies).await?.is_empty() {
            let first = node
                .shell(
                    &id,
                    "grep -E '^(Cap(Eff|Prm)|Name)' /proc/1/status; ls /proc/1/fd | wc -l",
                )
                .await?;
            check_contains!(first, "CapEff:\t0000000000000000");
            check_contains!(first, "CapPrm:\t0000000000000000");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err("zombies stay in the shared PID namespace".into())
}

async fn what_a_container_leaves_in_a_shared_pid_namespace_is_killed(node: &mut Node) -> Outcome {
    let pod = node.run_pod(shared_pid_pod("shared")).await?;
    let witness = node.run(&pod, in_shared_pid(sleeper("witness"))).await?;
    let begun = Instant::now();
    let (status, _) = node
        .finish(
            &pod,
            in_shared_pid(script("leaver", "setsid sleep 7777 & sleep 0.1; exit 5")),
        )
        .await?;
    check_eq!(status.exit_code, 5, "exit code");
    check!(
        begun.elapsed() < Duration::from_secs(20),
        "a child that holds the output held the end"
    );
    let left = node.exec(&witness, &["pgrep", "-f", "^sleep 7777"]).await?;
    check_eq!(left.stdout, "", "children of a container that has ended");
    Ok(())
}

async fn a_user_can_reopen_its_standard_output(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("user")).await?;
    let mut config = script(
        "main",
        "echo one > /dev/stdout; echo two > /dev/stderr; echo three > /proc/self/fd/1",
    );
    requests::security(&mut config).run_as_user =
        Some(insula_cri_api::v1::Int64Value { value: 1000 });
    let id = node.run(&pod, config).await?;
    let status = node.wait_for_end(&id).await?;
    check_eq!(status.exit_code, 0, "exit code");
    check_eq!(node.stdout(&id).await?, "one\nthree\n", "output");
    let mode = File::open(node.log_path(&id).await?)?
        .metadata()?
        .permissions()
        .mode()
        & 0o777;
    check_eq!(mode & 0o007, 0, "mode {mode:o} of a log for others");
    Ok(())
}

async fn execs_run_side_by_side(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("exec")).await?;
    let id = node.run(&pod, sleeper("main")).await?;
    let node = &*node;
    let runs = (0..30).map(|number| {
        let id = &id;
        async move {
            let ran = node
                .exec(
                    id,
                    &[
                        "sh",
                        "-c",
                        &format!("sleep 0.2; echo {number}; exit {number}"),
                    ],
                )
                .await?;
            check_eq!(
                (ran.stdout.trim(), ran.code),
                (number.to_string().as_str(), number),
                "exec"
            );
            Ok(())
        }
    });
    for run in futures_util::future::join_all(runs).await {
        run?;
    }
    Ok(())
}

/// The CRI's `KeyValue.value` is bytes, not text; what a process gets is what was sent.
async fn an_environment_may_hold_any_bytes(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("bytes")).await?;
    let look = "od -An -tx1 -v /proc/self/environ; echo end";
    let mut config = script("main", &format!("{look}; exec sleep 7777"));
    let every: Vec<u8> = (1..=255).collect();
    config.envs.push(KeyValue {
        key: "BYTES".into(),
        value: every.clone(),
    });
    config.envs.push(requests::variable("TEXT", "grüße 漢"));
    let id = node.run(&pod, config).await?;
    let wanted = [b"BYTES=", &every[..]].concat();
    for (of, output) in [
        ("the first process", node.wait_for_output(&id, "end").await?),
        ("an exec", node.shell(&id, look).await?),
    ] {
        let bytes: Vec<u8> = output
            .split_whitespace()
            .filter(|word| *word != "end")
            .map(|word| u8::from_str_radix(word, 16))
            .collect::<Result<_, _>>()?;
        check!(
            bytes.split(|byte| *byte == 0).any(|entry| entry == wanted),
            "the environment of {of}: {output}"
        );
    }
    check_eq!(
        node.shell(&id, "echo $TEXT").await?,
        "grüße 漢\n",
        "text that is not ASCII"
    );
    // The end of a string in a process's environment.
    let mut config = sleeper("none");
    config.envs.push(KeyValue {
        key: "ZERO".into(),
        value: b"a\0b".to_vec(),
    });
    let error = node.refused_container(&pod, config).await?;
    check_contains!(error, "holds a NUL byte");
    Ok(())
}
