//! Pods and containers: made, started, stopped, removed; each request again; names; roll-back.

use crate::support::calls::{Pod, create_request, refusal};
use crate::support::case::cases;
use crate::support::cgroup;
use crate::support::outcome::{check, check_contains, check_eq, skip};
use crate::support::requests::{self, BUSYBOX, host_pod, pod, script, sleeper};
use crate::support::{Case, Node, Outcome};
use insula_cri_api::v1::{
    ContainerFilter, ContainerState, ContainerStateValue, ContainerStatusRequest,
    ListContainersRequest, ListPodSandboxRequest, PodSandboxFilter, PodSandboxState,
    PodSandboxStateValue, PodSandboxStatusRequest, RemoveImageRequest, RunPodSandboxRequest,
    Signal,
};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

pub fn cases() -> Vec<Case> {
    cases![
        a_pod_and_its_container_live_and_go,
        what_is_gone_can_be_stopped_and_removed_again,
        a_repeated_run_is_joined_or_answered_with_the_same_pod,
        a_repeated_create_is_answered_with_the_same_container,
        a_pod_that_fails_is_rolled_back_and_its_name_is_free,
        a_container_that_fails_is_rolled_back_and_its_name_is_free,
        stop_sends_the_stop_signal_and_then_kills,
        a_second_stop_can_shorten_the_wait,
        a_stopped_pod_takes_no_container,
        a_running_pod_is_removed_with_all_it_has,
        lists_of_pods_are_filtered,
        lists_of_containers_are_filtered,
        labels_and_annotations_come_back_as_they_were,
        many_pods_come_and_go_at_once,
        the_empty_group_of_supervisors_may_be_removed in cgroup,
    ]
}

pub(super) async fn a_pod_and_its_container_live_and_go(node: &mut Node) -> Outcome {
    let pod = node.run_pod(pod("web")).await?;
    let status = node.pod_status(&pod.id).await?;
    check_eq!(
        status.state(),
        PodSandboxState::SandboxReady,
        "state of the pod"
    );
    check!(status.created_at > 0, "the pod has no time of creation");
    let ip = status.network.map(|network| network.ip).unwrap_or_default();
    check!(
        ip.starts_with(&node.network.prefix()),
        "the pod's address is {ip:?}"
    );

    node.pull(BUSYBOX).await?;
    let id = node
        .create(&pod, script("main", "echo hello; exit 3"))
        .await?;
    let status = node.container_status(&id).await?;
    check_eq!(
        status.state(),
        ContainerState::ContainerCreated,
        "state after Create"
    );
    check_eq!(
        (status.started_at, status.finished_at),
        (0, 0),
        "times after Create"
    );
    node.start_container(&id).await?;
    let status = node.wait_for_end(&id).await?;
    check_eq!(
        (status.exit_code, status.reason.as_str()),
        (3, "Error"),
        "end"
    );
    check!(
        0 < status.created_at
            && status.created_at <= status.started_at
            && status.started_at <= status.finished_at,
        "times: {status:?}"
    );
    check_eq!(
        status.image.map(|image| image.image).unwrap_or_default(),
        BUSYBOX,
        "image"
    );
    check_eq!(node.stdout(&id).await?, "hello\n", "output");

    let (good, _) = node.finish(&pod, script("good", "true")).await?;
    check_eq!(
        (good.exit_code, good.reason.as_str()),
        (0, "Completed"),
        "end of true"
    );
    node.remove(&id).await?;
    let left: Vec<_> = node
        .containers()
        .await?
        .into_iter()
        .map(|container| container.id)
        .collect();
    check_eq!(left, [good.id], "containers after one was removed");
    check!(
        node.log_path(&left[0]).await?.exists(),
        "the log went away with its container, but it is kubelet's"
    );
    node.stop_pod(&pod.id).await?;
    check_eq!(
        node.pod_status(&pod.id).await?.state(),
        PodSandboxState::SandboxNotready,
        "stopped pod"
    );
    node.remove_pod(&pod.id).await?;
    check!(node.pods().await?.is_empty(), "the pod is still listed");
    check!(
        node.containers().await?.is_empty(),
        "its container is still listed"
    );
    Ok(())
}

async fn what_is_gone_can_be_stopped_and_removed_again(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("web")).await?;
    let id = node.run(&pod, script("main", "true")).await?;
    node.wait_for_end(&id).await?;
    for _ in 0..2 {
        node.stop(&id, 1).await?;
    }
    for _ in 0..2 {
        node.remove(&id).await?;
        node.stop(&id, 1).await?;
    }
    for _ in 0..2 {
        node.stop_pod(&pod.id).await?;
    }
    for _ in 0..2 {
        node.remove_pod(&pod.id).await?;
        node.stop_pod(&pod.id).await?;
    }
    for _ in 0..2 {
        let request = RemoveImageRequest {
            image: Some(requests::image(BUSYBOX)),
        };
        node.images()?.remove_image(request).await?;
    }
    let mut runtime = node.runtime()?;
    let status = ContainerStatusRequest {
        container_id: id,
        verbose: false,
    };
    check_contains!(
        refusal(runtime.container_status(status).await)?,
        "NotFound: container"
    );
    let status = PodSandboxStatusRequest {
        pod_sandbox_id: pod.id,
        verbose: false,
    };
    check_contains!(
        refusal(runtime.pod_sandbox_status(status).await)?,
        "NotFound: pod"
    );
    Ok(())
}

async fn a_repeated_run_is_joined_or_answered_with_the_same_pod(node: &mut Node) -> Outcome {
    let config = pod("web");
    let (first, second) = tokio::join!(node.run_pod(config.clone()), node.run_pod(config.clone()));
    let (first, second) = (first?, second?);
    check_eq!(
        first.id,
        second.id,
        "pods of the same request at the same time"
    );
    check_eq!(
        node.run_pod(config.clone()).await?.id,
        first.id,
        "pod of the request once more"
    );
    check_eq!(node.pods().await?.len(), 1, "pods");

    // A client that gives up does not undo it, and finds its pod when it asks again.
    let mut late = pod("late");
    late.log_directory = node.path("logs").to_string_lossy().into_owned();
    let mut runtime = node.runtime()?;
    let request = RunPodSandboxRequest {
        config: Some(late.clone()),
        ..RunPodSandboxRequest::default()
    };
    let given_up =
        tokio::time::timeout(Duration::from_millis(5), runtime.run_pod_sandbox(request)).await;
    let again = node.run_pod(late).await?;
    let names: Vec<_> = node.pods().await?.into_iter().map(|pod| pod.id).collect();
    check!(
        names.len() == 2 && names.contains(&again.id),
        "{given_up:?} {names:?}"
    );
    Ok(())
}

async fn a_repeated_create_is_answered_with_the_same_container(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("web")).await?;
    node.pull(BUSYBOX).await?;
    let config = sleeper("main");
    let (first, second) = tokio::join!(
        node.create(&pod, config.clone()),
        node.create(&pod, config.clone())
    );
    let (first, second) = (first?, second?);
    check_eq!(
        first,
        second,
        "containers of the same request at the same time"
    );
    check_eq!(
        node.create(&pod, config).await?,
        first,
        "container of the request once more"
    );
    check_eq!(node.containers().await?.len(), 1, "containers");
    Ok(())
}

async fn a_pod_that_fails_is_rolled_back_and_its_name_is_free(node: &mut Node) -> Outcome {
    let mut broken = node.network.configuration(&node.path("addresses"));
    // It comes after the bridge, whose work must be undone.
    broken["plugins"][1] = serde_json::json!({"type": "sysctl-that-is-not-there"});
    node.write_network_file(&broken)?;
    let error = node.refused_pod(pod("web")).await?;
    check_contains!(error, "sysctl-that-is-not-there");
    check!(node.pods().await?.is_empty(), "a pod that failed is listed");
    check!(
        node.network.left().is_empty(),
        "left behind: {:?}",
        node.network.left()
    );
    node.write_network()?;
    let mut tries = 0;
    while let Err(stop) = node.run_pod(pod("web")).await {
        tries += 1;
        check!(tries < 50, "the name cannot be used again: {}", stop.text());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn a_container_that_fails_is_rolled_back_and_its_name_is_free(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("web")).await?;
    node.pull(BUSYBOX).await?;
    let mut broken = sleeper("main");
    requests::security(&mut broken).run_as_username = "nobody-knows".into();
    let error = node.refused_container(&pod, broken).await?;
    check_contains!(error, "nobody-knows");
    check!(
        node.containers().await?.is_empty(),
        "a container that failed is listed"
    );
    let writable = std::fs::read_dir(node.path("root/rw"))?.count();
    check_eq!(writable, 0, "writable layers of no container");
    let id = node.run(&pod, sleeper("main")).await?;
    check_eq!(
        node.container_status(&id).await?.state(),
        ContainerState::ContainerRunning,
        "state"
    );
    Ok(())
}

pub(super) async fn stop_sends_the_stop_signal_and_then_kills(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("web")).await?;
    let trap = |signal: &str, code: u8| {
        format!("trap 'exit {code}' {signal}; echo ready; while :; do sleep 0.05; done")
    };
    let polite = node.run(&pod, script("polite", &trap("TERM", 7))).await?;
    let mut config = script("other", &trap("USR1", 8));
    config.stop_signal = Signal::Sigusr1.into();
    let other = node.run(&pod, config).await?;
    let deaf = node
        .run(
            &pod,
            script(
                "deaf",
                "trap '' TERM; echo ready; while :; do sleep 0.05; done",
            ),
        )
        .await?;
    for id in [&polite, &other, &deaf] {
        node.wait_for_output(id, "ready").await?;
    }
    let begun = Instant::now();
    for (id, code) in [(&polite, 7), (&other, 8)] {
        node.stop(id, 60).await?;
        let status = node.container_status(id).await?;
        check_eq!(
            (status.state(), status.exit_code),
            (ContainerState::ContainerExited, code),
            "{id}"
        );
    }
    check!(
        begun.elapsed() < Duration::from_secs(30),
        "a container that ends by itself was waited for"
    );
    let begun = Instant::now();
    node.stop(&deaf, 1).await?;
    check!(
        begun.elapsed() >= Duration::from_secs(1),
        "it was killed before its time"
    );
    let status = node.container_status(&deaf).await?;
    check_eq!(
        (status.exit_code, status.reason.as_str()),
        (137, "Error"),
        "a container that was killed"
    );

    let at_once = node.run(&pod, sleeper("at-once")).await?;
    node.stop(&at_once, 0).await?;
    check_eq!(
        node.container_status(&at_once).await?.exit_code,
        137,
        "stopped with timeout 0"
    );
    Ok(())
}

async fn a_second_stop_can_shorten_the_wait(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("web")).await?;
    let deaf = node
        .run(
            &pod,
            script(
                "deaf",
                "trap '' TERM; echo ready; while :; do sleep 0.05; done",
            ),
        )
        .await?;
    node.wait_for_output(&deaf, "ready").await?;
    let begun = Instant::now();
    let long = node.stop(&deaf, 600);
    let short = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        node.stop(&deaf, 0).await
    };
    let (long, short) = tokio::join!(long, short);
    long.and(short)?;
    check!(
        begun.elapsed() < Duration::from_secs(300),
        "the longer wait was kept"
    );
    Ok(())
}

async fn a_stopped_pod_takes_no_container(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("web")).await?;
    let running = node.run(&pod, sleeper("running")).await?;
    let created = node.create(&pod, sleeper("created")).await?;
    node.stop_pod(&pod.id).await?;
    for id in [&running, &created] {
        let state = node.container_status(id).await?.state();
        check_eq!(
            state,
            ContainerState::ContainerExited,
            "state in a stopped pod"
        );
    }
    let words = format!(
        "FailedPrecondition: no container can be made in pod {}, which is not ready: it was stopped",
        pod.id
    );
    check_eq!(
        node.refused_container(&pod, sleeper("late")).await?,
        words,
        "create"
    );
    check!(
        node.start_container(&created).await.is_err(),
        "a container starts in a stopped pod"
    );
    Ok(())
}

pub(super) async fn a_running_pod_is_removed_with_all_it_has(node: &mut Node) -> Outcome {
    let pod = node.run_pod(pod("web")).await?;
    let id = node.run(&pod, sleeper("main")).await?;
    node.run(&pod, script("busy", "while :; do sleep 1000 & done & wait"))
        .await?;
    let pid = node.pid(&id).await?;
    let stopped = node.stop_pod(&pod.id).await;
    node.remove_pod(&pod.id).await?;
    stopped?;
    check!(
        crate::support::processes::read(pid).is_none(),
        "process {pid} of a removed pod lives"
    );
    check!(
        node.containers().await?.is_empty(),
        "containers of a removed pod are listed"
    );
    Ok(())
}

async fn lists_of_pods_are_filtered(node: &mut Node) -> Outcome {
    let (one, two) = tokio::join!(node.run_pod(host_pod("one")), node.run_pod(host_pod("two")));
    let (one, two) = (one?, two?);
    node.stop_pod(&two.id).await?;
    let ready = PodSandboxStateValue {
        state: PodSandboxState::SandboxReady.into(),
    };
    let label = |value: &str| [("app".to_owned(), value.to_owned())].into();
    let cases = [
        (PodSandboxFilter::default(), vec![&one.id, &two.id]),
        (
            PodSandboxFilter {
                id: two.id[..12].to_owned(),
                ..Default::default()
            },
            vec![&two.id],
        ),
        (
            PodSandboxFilter {
                state: Some(ready),
                ..Default::default()
            },
            vec![&one.id],
        ),
        (
            PodSandboxFilter {
                label_selector: label("two"),
                ..Default::default()
            },
            vec![&two.id],
        ),
        (
            PodSandboxFilter {
                label_selector: label("two"),
                state: Some(ready),
                ..Default::default()
            },
            vec![],
        ),
        (
            PodSandboxFilter {
                id: "0123456789ab".into(),
                ..Default::default()
            },
            vec![],
        ),
    ];
    for (filter, mut wanted) in cases {
        let request = ListPodSandboxRequest {
            filter: Some(filter.clone()),
        };
        let list = node
            .runtime()?
            .list_pod_sandbox(request)
            .await?
            .into_inner()
            .items;
        let mut found: Vec<_> = list.iter().map(|pod| &pod.id).collect();
        found.sort_unstable();
        wanted.sort_unstable();
        check_eq!(found, wanted, "pods of {filter:?}");
    }
    Ok(())
}

async fn lists_of_containers_are_filtered(node: &mut Node) -> Outcome {
    let (one, two) = tokio::join!(node.run_pod(host_pod("one")), node.run_pod(host_pod("two")));
    let (one, two) = (one?, two?);
    let mut config = sleeper("main");
    config.labels.insert("tier".into(), "front".into());
    let running = node.run(&one, config).await?;
    let created = node.create(&two, sleeper("main")).await?;
    node.stop_pod(&two.id).await?;
    let exited = ContainerStateValue {
        state: ContainerState::ContainerExited.into(),
    };
    let cases = [
        (
            ContainerFilter {
                pod_sandbox_id: one.id[..12].to_owned(),
                ..Default::default()
            },
            vec![&running],
        ),
        (
            ContainerFilter {
                id: created[..12].to_owned(),
                ..Default::default()
            },
            vec![&created],
        ),
        (
            ContainerFilter {
                state: Some(exited),
                ..Default::default()
            },
            vec![&created],
        ),
        (
            ContainerFilter {
                label_selector: [("tier".to_owned(), "front".to_owned())].into(),
                ..Default::default()
            },
            vec![&running],
        ),
    ];
    for (filter, wanted) in cases {
        let request = ListContainersRequest {
            filter: Some(filter.clone()),
        };
        let list = node
            .runtime()?
            .list_containers(request)
            .await?
            .into_inner()
            .containers;
        let found: Vec<_> = list.iter().map(|container| &container.id).collect();
        check_eq!(found, wanted, "containers of {filter:?}");
    }
    Ok(())
}

async fn labels_and_annotations_come_back_as_they_were(node: &mut Node) -> Outcome {
    let notes = [
        ("io.kubernetes.container.hash".to_owned(), "1a2b".to_owned()),
        (
            "weird \"key\"\n/..".to_owned(),
            "ünïcode \u{1f600} and\nlines".to_owned(),
        ),
    ];
    let mut config = host_pod("web");
    config.labels.extend(notes.clone());
    config.annotations.extend(notes.clone());
    let pod = node.run_pod(config).await?;
    let mut config = sleeper("main");
    config.labels.extend(notes.clone());
    config.annotations.extend(notes.clone());
    let id = node.run(&pod, config.clone()).await?;
    node.restart().await?;
    let status = node.pod_status(&pod.id).await?;
    check_eq!(
        (status.labels, status.annotations),
        (pod.config.labels.clone(), pod.config.annotations.clone()),
        "pod"
    );
    check_eq!(status.metadata, pod.config.metadata, "metadata of the pod");
    let status = node.container_status(&id).await?;
    check_eq!(
        (status.labels, status.annotations),
        (config.labels, config.annotations),
        "container"
    );
    check_eq!(
        status.metadata,
        config.metadata,
        "metadata of the container"
    );
    Ok(())
}

async fn many_pods_come_and_go_at_once(node: &mut Node) -> Outcome {
    node.pull(BUSYBOX).await?;
    let node = &*node;
    let lives = (0..8).map(|number| async move {
        let pod: Pod = node.run_pod(pod(&format!("many-{number}"))).await?;
        let request = create_request(&pod, script("main", &format!("exit {number}")));
        let id = node
            .runtime()?
            .create_container(request)
            .await?
            .into_inner()
            .container_id;
        node.start_container(&id).await?;
        let status = node.wait_for_end(&id).await?;
        check_eq!(status.exit_code, number, "exit code");
        let stopped = node.stop_pod(&pod.id).await;
        node.remove_pod(&pod.id).await.and(stopped)
    });
    for life in futures_util::future::join_all(lives).await {
        life?;
    }
    Ok(())
}

/// With version 1, systemd removes groups that are empty, here and there.
async fn the_empty_group_of_supervisors_may_be_removed(node: &mut Node) -> Outcome {
    if cgroup::by_systemd() {
        return skip("systemd makes the group of supervisors, with the first of them");
    }
    let groups = || {
        let mut groups = cgroup::directories("supervisors");
        groups.retain(|path| {
            path.components()
                .any(|part| part.as_os_str() == &*node.name)
        });
        groups
    };
    for name in ["one", "all"] {
        let empty = groups();
        check!(!empty.is_empty(), "there is no group of supervisors");
        let some = if name == "one" { 1 } else { empty.len() };
        for group in &empty[..some] {
            match std::fs::remove_dir(group) {
                // A hierarchy may be mounted twice.
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(format!("{}: {error}", group.display()).into());
                }
                _ => {}
            }
        }
        let pod = node.run_pod(host_pod(name)).await?;
        let supervisor = node.supervisor(&pod).await?;
        for group in &empty {
            let file = group.join("cgroup.procs");
            let processes = std::fs::read_to_string(&file)
                .map_err(|error| format!("{}: {error}", file.display()))?;
            check!(
                processes.lines().any(|line| line == supervisor.to_string()),
                "the supervisor is not in {}",
                group.display()
            );
        }
        node.remove_pod(&pod.id).await?;
    }
    Ok(())
}
