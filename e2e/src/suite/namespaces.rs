//! Whose namespaces a container has: its own, its pod's, another container's, the node's.

use crate::support::calls::Pod;
use crate::support::case::cases;
use crate::support::outcome::{check, check_contains, check_eq};
use crate::support::requests::{self, host_pod, pod, script, sleeper};
use crate::support::{Case, Node, Outcome};
use insula_cri_api::v1::{ContainerConfig, NamespaceMode, PodSandboxConfig};

pub fn cases() -> Vec<Case> {
    cases![
        a_pid_namespace_of_its_own,
        the_pods_pid_namespace,
        the_nodes_pid_namespace,
        another_containers_pid_namespace,
        ipc_and_its_shared_memory,
        host_names,
        the_nodes_network,
        sysctls_of_the_pod,
        a_cgroup_namespace_of_its_own in cgroup,
    ]
}

fn pod_with_pid(name: &str, mode: NamespaceMode) -> PodSandboxConfig {
    let mut config = host_pod(name);
    requests::namespaces(&mut config).pid = mode.into();
    config
}

fn with_pid(mut config: ContainerConfig, mode: NamespaceMode, target: &str) -> ContainerConfig {
    let namespaces = requests::container_namespaces(&mut config);
    namespaces.pid = mode.into();
    target.clone_into(&mut namespaces.target_id);
    config
}

async fn namespace(node: &Node, id: &str, kind: &str) -> Outcome<String> {
    node.shell(id, &format!("readlink /proc/self/ns/{kind}"))
        .await
}

fn own(kind: &str) -> Outcome<String> {
    let target = std::fs::read_link(format!("/proc/self/ns/{kind}"))?;
    Ok(format!("{}\n", target.display()))
}

async fn a_pid_namespace_of_its_own(node: &mut Node) -> Outcome {
    let pod = node
        .run_pod(pod_with_pid("pid", NamespaceMode::Pod))
        .await?;
    let id = node
        .run(
            &pod,
            with_pid(sleeper("main"), NamespaceMode::Container, ""),
        )
        .await?;
    check_contains!(
        node.shell(&id, "tr '\\0' ' ' < /proc/1/cmdline").await?,
        "trap 'exit 0' TERM"
    );
    check_eq!(
        node.shell(
            &id,
            "ls -d /proc/[0-9]* | wc -l; pgrep -f nothing-like-it; true"
        )
        .await?
        .lines()
        .next()
        .map(|count| count.parse::<u32>().is_ok_and(|count| count < 9)),
        Some(true),
        "processes that it sees"
    );
    // Who dies as PID 1 takes the others along.
    let second = node
        .run(
            &pod,
            with_pid(
                script("second", "sleep 7777 & sleep 0.1"),
                NamespaceMode::Container,
                "",
            ),
        )
        .await?;
    node.wait_for_end(&second).await?;
    Ok(())
}

pub(super) async fn the_pods_pid_namespace(node: &mut Node) -> Outcome {
    let pod = node
        .run_pod(pod_with_pid("pid", NamespaceMode::Pod))
        .await?;
    let first = node
        .run(&pod, with_pid(sleeper("first"), NamespaceMode::Pod, ""))
        .await?;
    let second = node
        .run(&pod, with_pid(sleeper("second"), NamespaceMode::Pod, ""))
        .await?;
    check_eq!(
        namespace(node, &first, "pid").await?,
        namespace(node, &second, "pid").await?,
        "PID namespaces"
    );
    check!(
        !node
            .shell(&first, "tr '\\0' ' ' < /proc/1/cmdline")
            .await?
            .contains("trap"),
        "a container is PID 1 of its pod"
    );
    // Signals cross between containers of the pod, and one can end without the other.
    let text = "for p in $(pgrep -f 'trap .exit 0. TERM'); do echo $p; done";
    let seen = node.shell(&second, text).await?.lines().count();
    check!(seen >= 2, "{seen} containers are seen");
    node.stop(&first, 5).await?;
    check_eq!(
        node.shell(&second, "echo alive").await?,
        "alive\n",
        "the other container"
    );
    let third = node
        .run(&pod, with_pid(sleeper("third"), NamespaceMode::Pod, ""))
        .await?;
    check_eq!(
        namespace(node, &third, "pid").await?,
        namespace(node, &second, "pid").await?,
        "PID namespaces"
    );
    Ok(())
}

pub(super) async fn the_nodes_pid_namespace(node: &mut Node) -> Outcome {
    let pod = node
        .run_pod(pod_with_pid("pid", NamespaceMode::Node))
        .await?;
    let id = node
        .run(
            &pod,
            with_pid(
                script(
                    "main",
                    "setsid sleep 7777 & trap 'exit 0' TERM; while :; do sleep 0.1; done",
                ),
                NamespaceMode::Node,
                "",
            ),
        )
        .await?;
    check_eq!(
        namespace(node, &id, "pid").await?,
        own("pid")?,
        "PID namespace"
    );
    let group = id.clone();
    node.stop(&id, 5).await?;
    let left: Vec<_> = crate::support::processes::all()
        .into_iter()
        .filter(|process| process.cgroups.contains(&group))
        .collect();
    check!(
        left.is_empty(),
        "processes of a container in the node's PID namespace live: {left:?}"
    );
    Ok(())
}

pub(super) async fn another_containers_pid_namespace(node: &mut Node) -> Outcome {
    let pod: Pod = node.run_pod(host_pod("pid")).await?;
    let target = node.run(&pod, sleeper("target")).await?;
    let debug = node
        .run(
            &pod,
            with_pid(sleeper("debug"), NamespaceMode::Target, &target),
        )
        .await?;
    check_eq!(
        namespace(node, &debug, "pid").await?,
        namespace(node, &target, "pid").await?,
        "PID namespaces"
    );
    check_contains!(
        node.shell(&debug, "tr '\\0' ' ' < /proc/1/cmdline").await?,
        "trap"
    );
    let late = node
        .create(
            &pod,
            with_pid(sleeper("late"), NamespaceMode::Target, &target),
        )
        .await?;
    node.stop(&target, 0).await?;
    node.wait_for_end(&debug).await?;
    let error = node
        .start_container(&late)
        .await
        .err()
        .ok_or("it joined a container that has ended")?;
    check_contains!(
        error.text().to_owned(),
        "whose PID namespace is to be joined, is not running"
    );
    let other = node.run_pod(host_pod("other")).await?;
    let stranger = node.run(&other, sleeper("stranger")).await?;
    let error = node
        .refused_container(
            &pod,
            with_pid(sleeper("spy"), NamespaceMode::Target, &stranger),
        )
        .await?;
    check_contains!(error, "is not in this pod");
    Ok(())
}

async fn ipc_and_its_shared_memory(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("ipc")).await?;
    let (first, second) = (
        node.run(&pod, sleeper("first")).await?,
        node.run(&pod, sleeper("second")).await?,
    );
    check_eq!(
        namespace(node, &first, "ipc").await?,
        namespace(node, &second, "ipc").await?,
        "IPC namespaces"
    );
    check!(
        namespace(node, &first, "ipc").await? != own("ipc")?,
        "the pod has the node's IPC namespace"
    );
    node.shell(&first, "echo shared > /dev/shm/file").await?;
    check_eq!(
        node.shell(&second, "cat /dev/shm/file").await?,
        "shared\n",
        "shared memory of the pod"
    );
    check_contains!(
        node.shell(&first, "df -k /dev/shm | tail -n 1").await?,
        " 65536 "
    );
    let other = node.run_pod(pod_with_ipc_of_node()).await?;
    let mut config = sleeper("main");
    requests::container_namespaces(&mut config).ipc = NamespaceMode::Node.into();
    let id = node.run(&other, config).await?;
    check_eq!(
        namespace(node, &id, "ipc").await?,
        own("ipc")?,
        "IPC namespace"
    );
    Ok(())
}

fn pod_with_ipc_of_node() -> PodSandboxConfig {
    let mut config = host_pod("node-ipc");
    requests::namespaces(&mut config).ipc = NamespaceMode::Node.into();
    config
}

pub(super) async fn host_names(node: &mut Node) -> Outcome {
    let mut config = pod("web");
    config.hostname = "the-pod".into();
    let pod = node.run_pod(config).await?;
    let (status, output) = node
        .finish(
            &pod,
            script("main", "hostname; cat /etc/hostname; echo $HOSTNAME"),
        )
        .await?;
    check_eq!(
        (status.exit_code, output.as_str()),
        (0, "the-pod\nthe-pod\nthe-pod\n"),
        "host name"
    );
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    check!(host.trim() != "the-pod", "the node was renamed");
    let pod = node.run_pod(host_pod("host")).await?;
    let mut config = script("main", "hostname");
    requests::container_namespaces(&mut config).network = NamespaceMode::Node.into();
    let (_, output) = node.finish(&pod, config).await?;
    check_eq!(output, host, "host name in the node's network");
    Ok(())
}

async fn the_nodes_network(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("host")).await?;
    let status = node.pod_status(&pod.id).await?;
    check_eq!(
        status.network.map(|network| network.ip).unwrap_or_default(),
        "",
        "address"
    );
    let modes = status
        .linux
        .and_then(|linux| linux.namespaces)
        .and_then(|namespaces| namespaces.options);
    check_eq!(
        modes.map(|modes| modes.network()),
        Some(NamespaceMode::Node),
        "mode that is told"
    );
    let mut config = sleeper("main");
    requests::container_namespaces(&mut config).network = NamespaceMode::Node.into();
    let id = node.run(&pod, config).await?;
    check_eq!(
        namespace(node, &id, "net").await?,
        own("net")?,
        "network namespace"
    );
    // CVE-2020-15257: nothing of ours listens where a container in the node's network can reach it.
    let sockets = node
        .shell(&id, "grep -i '@.*insula' /proc/net/unix || true")
        .await?;
    check_eq!(sockets, "", "abstract sockets");
    Ok(())
}

async fn sysctls_of_the_pod(node: &mut Node) -> Outcome {
    let mut config = pod("web");
    let sysctls = &mut config.linux.get_or_insert_default().sysctls;
    sysctls.insert("net.ipv4.ip_local_port_range".into(), "20000 20100".into());
    sysctls.insert("kernel.shm_rmid_forced".into(), "1".into());
    let pod = node.run_pod(config).await?;
    let id = node.run(&pod, sleeper("main")).await?;
    let read = "cat /proc/sys/net/ipv4/ip_local_port_range /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start";
    check_eq!(
        node.shell(&id, read).await?,
        "20000\t20100\n1\n0\n",
        "sysctls"
    );
    let write = node
        .exec(
            &id,
            &["sh", "-c", "echo 5 > /proc/sys/kernel/shm_rmid_forced"],
        )
        .await?;
    check!(
        write.code != 0 || !write.stderr.is_empty(),
        "a container writes sysctls"
    );
    Ok(())
}

async fn a_cgroup_namespace_of_its_own(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("groups")).await?;
    let id = node.run(&pod, sleeper("main")).await?;
    if crate::support::cgroup::is_version_2() {
        check_eq!(
            node.shell(&id, "cat /proc/1/cgroup").await?,
            "0::/\n",
            "its own group"
        );
        node.shell(&id, "test -e /sys/fs/cgroup/memory.max").await?;
    } else {
        node.shell(&id, "test -e /sys/fs/cgroup/memory/memory.limit_in_bytes")
            .await?;
    }
    // CVE-2023-25809.
    let files = node.shell(&id, "cd /sys/fs/cgroup && find . -type f | head -n 200 | while read -r f; do (echo 1 >> $f) 2>&1 | grep -q 'Read-only' || echo $f; done").await?;
    check_eq!(files, "", "cgroup files that can be written");
    Ok(())
}
