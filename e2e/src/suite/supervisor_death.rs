//! One supervisor is killed: its pod is told so, and nobody else notices.

use crate::support::case::cases;
use crate::support::outcome::{check, check_contains, check_eq};
use crate::support::requests::{self, host_pod, pod, script, sleeper};
use crate::support::{Case, Node, Outcome, cgroup, processes};
use insula_cri_api::v1::{ContainerState, NamespaceMode, PodSandboxState};
use std::time::{Duration, Instant};

/// Within this a pod must be NOTREADY.
const NOTICED: Duration = Duration::from_secs(1);

pub fn cases() -> Vec<Case> {
    cases![
        only_the_pod_of_a_killed_supervisor_ends in cgroup,
        a_supervisor_that_dies_without_a_daemon_is_noticed_at_its_start,
        a_supervisor_outlives_a_pod_without_memory,
    ]
}

pub(super) async fn only_the_pod_of_a_killed_supervisor_ends(node: &mut Node) -> Outcome {
    let (victim, other) = (
        node.run_pod(pod("victim")).await?,
        node.run_pod(pod("other")).await?,
    );
    let mut shared = host_pod("shared");
    requests::namespaces(&mut shared).pid = NamespaceMode::Pod.into();
    let shared = node.run_pod(shared).await?;
    let id = node
        .run(
            &victim,
            script("main", "sleep 7777 & while :; do sleep 0.1; done"),
        )
        .await?;
    let created = node.create(&victim, sleeper("created")).await?;
    let safe = node.run(&other, sleeper("main")).await?;
    let mut config = script("main", "setsid sleep 7777 & while :; do sleep 0.1; done");
    requests::container_namespaces(&mut config).pid = NamespaceMode::Pod.into();
    let in_shared = node.run(&shared, config).await?;
    let (pid, safe_pid) = (node.pid(&id).await?, node.pid(&safe).await?);
    for (pod, container) in [(&victim, &id), (&shared, &in_shared)] {
        let group = container.clone();
        processes::kill(node.supervisor(pod).await?)?;
        let begun = Instant::now();
        while node.pod_status(&pod.id).await?.state() == PodSandboxState::SandboxReady {
            check!(
                begun.elapsed() < NOTICED,
                "the pod is READY {NOTICED:?} after its supervisor's death"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (_, info) = node.pod_status_and_info(&pod.id).await?;
        let info = info.get("info").cloned().unwrap_or_default();
        check_contains!(info, "supervisor");
        let status = node.wait_for_end(container).await?;
        check_eq!(status.exit_code, 137, "exit code of its container");
        check!(
            !status.reason.is_empty() && !status.message.is_empty(),
            "no reason is told: {status:?}"
        );
        let ours = processes::all()
            .into_iter()
            .filter(|process| process.cgroups.contains(&group))
            .collect::<Vec<_>>();
        check!(ours.is_empty(), "processes of the pod live: {ours:?}");
    }
    check!(
        processes::read(pid).is_none(),
        "the container's first process lives"
    );
    let state = node.container_status(&created).await?.state();
    check_eq!(
        state,
        ContainerState::ContainerExited,
        "state of its container that was not started"
    );
    check_eq!(
        node.pod_status(&other.id).await?.state(),
        PodSandboxState::SandboxReady,
        "the other pod"
    );
    check_eq!(node.pid(&safe).await?, safe_pid, "the other pod's process");
    check_eq!(
        node.shell(&safe, "echo alive").await?,
        "alive\n",
        "exec in the other pod"
    );
    let error = node.refused_container(&victim, sleeper("late")).await?;
    check_contains!(error, "which is not ready: ");
    Ok(())
}

async fn a_supervisor_that_dies_without_a_daemon_is_noticed_at_its_start(
    node: &mut Node,
) -> Outcome {
    let (victim, other) = (
        node.run_pod(pod("victim")).await?,
        node.run_pod(host_pod("other")).await?,
    );
    let id = node
        .run(
            &victim,
            script("main", "setsid sleep 7777 & while :; do sleep 0.1; done"),
        )
        .await?;
    let supervisor = node.supervisor(&victim).await?;
    node.kill()?;
    processes::kill(supervisor)?;
    node.start().await?;
    let begun = Instant::now();
    while node.pod_status(&victim.id).await?.state() == PodSandboxState::SandboxReady {
        check!(
            begun.elapsed() < Duration::from_secs(10),
            "the pod of a dead supervisor stays READY"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    node.wait_for_end(&id).await?;
    let left: Vec<_> = processes::all()
        .into_iter()
        .filter(|process| process.cgroups.contains(&id))
        .collect();
    check!(left.is_empty(), "processes of the pod live: {left:?}");
    check_eq!(
        node.pod_status(&other.id).await?.state(),
        PodSandboxState::SandboxReady,
        "the other pod"
    );
    Ok(())
}

/// CVE-2019-14891: the one who reports the end must not die of it.
async fn a_supervisor_outlives_a_pod_without_memory(node: &mut Node) -> Outcome {
    let mut config = host_pod("small");
    let parent = match cgroup::by_systemd() {
        true => format!("{}-small.slice", node.name),
        false => format!("/{}/kubepods/small", node.name),
    };
    config.linux.get_or_insert_default().cgroup_parent = parent;
    let pod = node.run_pod(config).await?;
    let supervisor = node.supervisor(&pod).await?;
    let mut config = requests::command("bomb", &["/programs/memory", "512"]);
    requests::mount(&mut config, &node.world.programs, "/programs");
    requests::resources(&mut config).memory_limit_in_bytes = 16 << 20;
    let (status, _) = node.finish(&pod, config).await?;
    check_eq!(
        (status.exit_code, status.reason.as_str()),
        (137, "OOMKilled"),
        "end"
    );
    check_eq!(node.supervisor(&pod).await?, supervisor, "supervisor");
    let (status, output) = node.finish(&pod, script("next", "echo works")).await?;
    check_eq!(
        (status.exit_code, output.as_str()),
        (0, "works\n"),
        "the next container"
    );
    Ok(())
}
