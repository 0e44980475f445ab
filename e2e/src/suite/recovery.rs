//! The daemon dies at any moment, and nothing is lost, doubled or wrongly told.

use crate::support::calls::Pod;
use crate::support::case::cases;
use crate::support::daemon::channel;
use crate::support::outcome::{check, check_contains, check_eq};
use crate::support::requests::{BUSYBOX, host_pod, pod, script, sleeper};
use crate::support::{Case, Node, Outcome};
use insula_cri_api::v1::runtime_service_client::RuntimeServiceClient;
use insula_cri_api::v1::{
    ContainerState, ListContainersRequest, ListPodSandboxRequest, PodSandboxState,
    RunPodSandboxRequest,
};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};
use tonic::Code;

/// Lines that one container writes while its daemon is killed.
const LINES: usize = 1_000_000;
/// Pods that run meanwhile.
const PODS: usize = 30;
/// How long a list may take, with the restart before it.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn cases() -> Vec<Case> {
    cases![
        lists_are_right_through_a_hundred_restarts,
        pods_logs_and_exit_codes_survive_a_killed_daemon,
        a_daemon_killed_at_any_step_leaves_whole_pods_or_none,
        pods_survive_sigterm,
        a_created_container_stays_created,
        a_pod_that_was_stopped_half_way_can_be_removed,
        a_pod_without_its_network_is_not_ready,
        a_record_that_cannot_be_read_is_set_aside,
        a_second_daemon_is_kept_out,
    ]
}

/// How often the daemon is killed: INSULA_E2E_ROUNDS, or a hundred times.
fn rounds() -> Outcome<u32> {
    match std::env::var("INSULA_E2E_ROUNDS") {
        Ok(text) => Ok(text
            .parse()
            .map_err(|error| format!("INSULA_E2E_ROUNDS={text:?}: {error}"))?),
        Err(_) => Ok(100),
    }
}

async fn lists_are_right_through_a_hundred_restarts(node: &mut Node) -> Outcome {
    let mut pods = BTreeSet::new();
    let mut containers = BTreeSet::new();
    for number in 0..5 {
        let pod = node.run_pod(pod(&format!("pod-{number}"))).await?;
        containers.insert(node.run(&pod, sleeper("main")).await?);
        pods.insert(pod.id);
    }
    let (stop, answered) = (Cell::new(false), Cell::new(0));
    let lister = list_until(node, &stop, &answered, &pods, &containers)?;
    let killer = async {
        let result = kill_again_and_again(node, rounds()?, &answered).await;
        stop.set(true);
        result
    };
    let (listed, killed) = tokio::join!(lister, killer);
    // A wrong list ends the lister: it explains that no more are answered.
    listed.and(killed)?;
    for id in &containers {
        check_eq!(
            node.shell(id, "echo alive").await?,
            "alive\n",
            "exec after all restarts"
        );
    }
    Ok(())
}

async fn kill_again_and_again(node: &mut Node, rounds: u32, answered: &Cell<u32>) -> Outcome {
    for round in 0..rounds {
        node.restart()
            .await
            .map_err(|stop| stop.within(format!("round {round}")))?;
        // Some are killed as soon as they answer, others when a list was told, or a while later.
        if round % 5 > 0 {
            let before = answered.get();
            let begun = Instant::now();
            while answered.get() == before {
                check!(
                    begun.elapsed() < PATIENCE,
                    "round {round}: no list was answered in {PATIENCE:?}"
                );
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(u64::from(round % 5) * 3)).await;
    }
    Ok(())
}

/// Lists in a loop over connections of its own and counts the answers; a socket that refuses is no
/// wrong answer.
fn list_until<'a>(
    node: &Node,
    stop: &'a Cell<bool>,
    answered: &'a Cell<u32>,
    pods: &'a BTreeSet<String>,
    containers: &'a BTreeSet<String>,
) -> Outcome<impl Future<Output = Outcome> + use<'a>> {
    let mut runtime = RuntimeServiceClient::new(channel(&node.path("state/insula.sock"))?);
    Ok(async move {
        while !stop.get() {
            match runtime
                .list_pod_sandbox(ListPodSandboxRequest::default())
                .await
            {
                Ok(list) => {
                    let list = list.into_inner().items;
                    let ready: BTreeSet<_> = list
                        .into_iter()
                        .filter(|pod| pod.state() == PodSandboxState::SandboxReady)
                        .map(|pod| pod.id)
                        .collect();
                    let number = answered.get();
                    check_eq!(ready, *pods, "pods that are READY in list {number}");
                    answered.set(number + 1);
                }
                Err(status) if is_down(status.code()) => {}
                Err(status) => return Err(status.into()),
            }
            match runtime
                .list_containers(ListContainersRequest::default())
                .await
            {
                Ok(list) => {
                    let list = list.into_inner().containers;
                    let running: BTreeSet<_> = list
                        .into_iter()
                        .filter(|container| container.state() == ContainerState::ContainerRunning)
                        .map(|container| container.id)
                        .collect();
                    check_eq!(
                        running,
                        *containers,
                        "containers that run in list {}",
                        answered.get()
                    );
                }
                Err(status) if is_down(status.code()) => {}
                Err(status) => return Err(status.into()),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    })
}

/// What a client sees of a daemon that was killed under its call.
fn is_down(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal
    )
}

/// A container in each of the pods: the first one writes, every third one ends when it is told to.
async fn thirty_lives(node: &Node) -> Outcome<Vec<String>> {
    node.pull(BUSYBOX).await?;
    let mut lives = Vec::new();
    for number in 0..PODS {
        let pod = node.run_pod(pod(&format!("pod-{number}"))).await?;
        let told = "while [ ! -e /tmp/told ]; do sleep 0.05; done;";
        let config = match number {
            0 => script(
                "writer",
                &format!("{told} seq {LINES}; echo end; exec sleep 7777"),
            ),
            n if n % 3 == 0 => script("mortal", &format!("{told} exit {}", number + 10)),
            _ => sleeper("main"),
        };
        lives.push(node.run(&pod, config).await?);
    }
    Ok(lives)
}

pub(super) async fn pods_logs_and_exit_codes_survive_a_killed_daemon(node: &mut Node) -> Outcome {
    let lives = thirty_lives(node).await?;
    let writer = lives[0].clone();
    let writer_pid = node.pid(&writer).await?;
    let mut mortals = Vec::new();
    for (number, id) in lives
        .iter()
        .enumerate()
        .filter(|(number, _)| *number > 0 && number % 3 == 0)
    {
        mortals.push((number, id.clone(), node.pid(id).await?));
    }
    std::fs::write(format!("/proc/{writer_pid}/root/tmp/told"), "")?;
    node.wait_for_output(&writer, "1\n").await?;
    node.kill()?;
    for (_, _, pid) in &mortals {
        std::fs::write(format!("/proc/{pid}/root/tmp/told"), "")?;
    }
    let begun = Instant::now();
    while mortals
        .iter()
        .any(|(_, _, pid)| crate::support::processes::read(*pid).is_some())
    {
        check!(
            begun.elapsed() < Duration::from_secs(20),
            "containers do not end without a daemon"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    node.start().await?;
    let ready = node
        .pods()
        .await?
        .iter()
        .filter(|pod| pod.state() == PodSandboxState::SandboxReady)
        .count();
    check_eq!(ready, PODS, "pods that are READY in the first list");
    for (number, id, _) in &mortals {
        let status = node.wait_for_end(id).await?;
        check_eq!(
            status.exit_code,
            i32::try_from(number + 10)?,
            "exit code of pod-{number}"
        );
        check!(
            status.finished_at >= status.started_at && status.started_at > 0,
            "times {status:?}"
        );
    }
    for (number, id) in lives
        .iter()
        .enumerate()
        .filter(|(number, _)| *number == 0 || number % 3 != 0)
    {
        check_eq!(
            node.shell(id, "echo alive").await?,
            "alive\n",
            "exec in pod-{number}"
        );
    }
    let output = wait_for_end_of_log(node, &writer).await?;
    for (wanted, line) in (1..=LINES).zip(output.lines()) {
        check!(
            line.parse() == Ok(wanted),
            "line {wanted} of the log is {line:?}"
        );
    }
    check_eq!(output.lines().count(), LINES + 1, "lines of the log");
    Ok(())
}

async fn wait_for_end_of_log(node: &Node, id: &str) -> Outcome<String> {
    let path = node.log_path(id).await?;
    let begun = Instant::now();
    loop {
        let log = std::fs::read(&path)?;
        if log.ends_with(b" end\n") {
            return node.stdout(id).await;
        }
        check!(
            begun.elapsed() < Duration::from_secs(60),
            "the log does not end: {} bytes",
            log.len()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What is there after it must be whole and removable; take_down proves that nothing else is.
async fn a_daemon_killed_at_any_step_leaves_whole_pods_or_none(node: &mut Node) -> Outcome {
    node.pull(BUSYBOX).await?;
    for round in 0..12_u64 {
        let config = pod(&format!("pod-{round}"));
        let life = async {
            let pod = node.run_pod(config.clone()).await?;
            let id = node.create(&pod, sleeper("main")).await?;
            node.start_container(&id).await?;
            node.stop_pod(&pod.id).await?;
            node.remove_pod(&pod.id).await
        };
        let moment = Duration::from_millis(3 + round * round * 3);
        // The daemon dies under whatever step it is at.
        let reached = tokio::time::timeout(moment, life).await;
        node.kill()?;
        drop(reached);
        node.start().await?;
        let same = |pod: &insula_cri_api::v1::PodSandbox| pod.metadata == config.metadata;
        if let Some(found) = node
            .pods()
            .await?
            .iter()
            .find(|pod| same(pod) && pod.state() == PodSandboxState::SandboxReady)
        {
            let whole = Pod {
                id: found.id.clone(),
                config: node.adopted(config.clone()),
            };
            let id = node.run(&whole, script("later", "echo works")).await?;
            node.wait_for_end(&id).await?;
            check_eq!(
                node.stdout(&id).await?,
                "works\n",
                "round {round}: a container of the pod"
            );
        }
        let mut again = config.clone();
        again.metadata.get_or_insert_default().attempt = 1;
        let second = node.run_pod(again).await?;
        node.remove_pod(&second.id).await?;
    }
    Ok(())
}

async fn pods_survive_sigterm(node: &mut Node) -> Outcome {
    let pod = node.run_pod(pod("web")).await?;
    let id = node.run(&pod, sleeper("main")).await?;
    let pid = node.pid(&id).await?;
    node.terminate().await?;
    check!(
        crate::support::processes::read(pid).is_some(),
        "SIGTERM of the daemon ended a container"
    );
    node.start().await?;
    check_eq!(node.pid(&id).await?, pid, "process of the container");
    check_eq!(node.shell(&id, "echo alive").await?, "alive\n", "exec");
    Ok(())
}

pub(super) async fn a_created_container_stays_created(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("web")).await?;
    node.pull(BUSYBOX).await?;
    let id = node
        .create(&pod, script("main", "echo started; exit 4"))
        .await?;
    node.restart().await?;
    check_eq!(
        node.container_status(&id).await?.state(),
        ContainerState::ContainerCreated,
        "state"
    );
    node.start_container(&id).await?;
    check_eq!(node.wait_for_end(&id).await?.exit_code, 4, "exit code");
    check_eq!(node.stdout(&id).await?, "started\n", "output");
    Ok(())
}

async fn a_pod_that_was_stopped_half_way_can_be_removed(node: &mut Node) -> Outcome {
    let pod = node.run_pod(pod("web")).await?;
    node.run(&pod, sleeper("main")).await?;
    for moment in [1, 10, 40] {
        let stopping =
            tokio::time::timeout(Duration::from_millis(moment), node.stop_pod(&pod.id)).await;
        node.restart().await?;
        drop(stopping);
    }
    node.stop_pod(&pod.id).await?;
    node.remove_pod(&pod.id).await?;
    check!(node.pods().await?.is_empty(), "the pod is still listed");
    Ok(())
}

/// A plugin that takes its time: DEL tells that it has begun, and goes on while it is held.
const SLOW_PLUGIN: &str = r#"#!/bin/sh
case $CNI_COMMAND in
VERSION) echo '{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}' ;;
ADD) echo '{"cniVersion": "1.0.0", "ips": [{"address": "192.0.2.9/24"}]}' ;;
DEL)
  : >"$0.begun"
  while [ -e "$0.held" ]; do /bin/sleep 0.05; done
  ;;
esac
"#;

/// The daemon dies while a pod's network is being taken away. A pod that is called ready gets new
/// containers from kubelet.
async fn a_pod_without_its_network_is_not_ready(node: &mut Node) -> Outcome {
    let plugin = node.path("plugins/slow");
    std::fs::create_dir_all(node.path("plugins"))?;
    std::fs::write(&plugin, SLOW_PLUGIN)?;
    std::fs::set_permissions(&plugin, Permissions::from_mode(0o755))?;
    node.write_network_file(&serde_json::json!({
        "cniVersion": "1.0.0", "name": node.name, "plugins": [{"type": "slow"}],
    }))?;
    node.restart().await?;
    let (held, begun) = (
        node.path("plugins/slow.held"),
        node.path("plugins/slow.begun"),
    );
    std::fs::write(&held, "")?;
    let pod = node.run_pod(pod("web")).await?;
    let id = node.run(&pod, sleeper("main")).await?;
    let begins = async {
        while !begun.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let stopped = tokio::select! {
        result = node.stop_pod(&pod.id) => Some(result),
        result = tokio::time::timeout(PATIENCE, begins) => result.map(|()| None)?,
    };
    check!(stopped.is_none(), "the pod is stopped already: {stopped:?}");
    node.kill()?;
    std::fs::remove_file(&held)?;
    node.start().await?;
    let listed = node.pods().await?;
    check_eq!(listed.len(), 1, "pods");
    check_eq!(
        listed[0].state(),
        PodSandboxState::SandboxNotready,
        "the pod's state"
    );
    let refused = node.refused_container(&pod, sleeper("late")).await?;
    check_contains!(refused, "it is being stopped");
    check_eq!(node.wait_for_end(&id).await?.exit_code, 137, "exit code");
    node.stop_pod(&pod.id).await?;
    node.remove_pod(&pod.id).await
}

/// What cannot be understood is not destroyed: a person can put it right.
async fn a_record_that_cannot_be_read_is_set_aside(node: &mut Node) -> Outcome {
    let good = node.run_pod(host_pod("good")).await?;
    let bad = node.run_pod(pod("bad")).await?;
    let id = node.run(&bad, sleeper("main")).await?;
    node.kill()?;
    let directory = node.path("state/pods").join(&bad.id);
    let record = std::fs::read(directory.join("pod.json"))?;
    std::fs::write(directory.join("pod.json"), "{\"half")?;
    node.start().await?;
    let listed: Vec<_> = node.pods().await?.into_iter().map(|pod| pod.id).collect();
    check_eq!(listed, [good.id], "pods");
    check_contains!(node.log(), "unreadable");
    let aside: Vec<_> = std::fs::read_dir(node.path("state/unreadable"))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    check_eq!(aside.len(), 1, "what was set aside");
    node.kill()?;
    std::fs::rename(&aside[0], &directory)?;
    std::fs::write(directory.join("pod.json"), record)?;
    std::fs::remove_dir_all(node.path("state/unreadable"))?;
    node.start().await?;
    check_eq!(
        node.shell(&id, "echo alive").await?,
        "alive\n",
        "exec in the pod that is back"
    );
    Ok(())
}

async fn a_second_daemon_is_kept_out(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("web")).await?;
    let first = node.daemon()?.pid();
    node.refused_start().await?;
    let words = format!(
        "another daemon (process {first}) holds {}/lock: stop it, or give this one a --state of its own",
        node.path("state").display()
    );
    check_contains!(node.log(), words);
    let request = RunPodSandboxRequest {
        config: Some(pod.config.clone()),
        ..RunPodSandboxRequest::default()
    };
    let same = node
        .runtime()?
        .run_pod_sandbox(request)
        .await?
        .into_inner()
        .pod_sandbox_id;
    check_eq!(same, pod.id, "pod of the first daemon");
    Ok(())
}
