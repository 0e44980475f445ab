//! Limits of containers, on cgroups of both versions.

use crate::support::calls::{Pod, refusal};
use crate::support::case::cases;
use crate::support::cgroup::{self, Value};
use crate::support::outcome::{check, check_contains, check_eq, skip};
use crate::support::requests::{self, command, host_pod, mount, script, sleeper};
use crate::support::{Case, Node, Outcome};
use insula_cri_api::v1::{
    ContainerConfig, ContainerStatsRequest, HugepageLimit, LinuxContainerResources,
    ListPodSandboxStatsRequest, UpdateContainerResourcesRequest, UpdatePodSandboxResourcesRequest,
};
use std::time::Duration;

pub fn cases() -> Vec<Case> {
    cases![
        limits_are_in_the_cgroup_and_in_the_status in cgroup,
        limits_are_updated_all_or_none in cgroup,
        a_limit_below_what_is_used_is_refused,
        a_container_out_of_memory_is_told_so,
        a_child_out_of_memory_is_told_so in cgroup,
        an_exec_out_of_memory_does_not_explain_a_later_end in cgroup,
        a_pod_without_a_parent_has_the_pods_limits in cgroup,
        devices_are_confined in cgroup,
        raw_files_are_of_version_2 in cgroup,
        statistics_follow_what_is_used in cgroup,
        the_pods_parent_group_is_used_and_not_taken_away in cgroup,
        oom_scores_are_as_asked,
    ]
}

fn limited(name: &str) -> ContainerConfig {
    let mut config = sleeper(name);
    *requests::resources(&mut config) = LinuxContainerResources {
        cpu_period: 50_000,
        cpu_quota: 25_000,
        cpu_shares: 512,
        memory_limit_in_bytes: 64 << 20,
        cpuset_cpus: "0".into(),
        // kubelet sends every size with no limit.
        hugepage_limits: ["2MB", "1GB"]
            .map(|size| HugepageLimit {
                page_size: size.into(),
                limit: 0,
            })
            .into(),
        ..LinuxContainerResources::default()
    };
    config
}

fn weight(shares: u32) -> &'static str {
    match (cgroup::is_version_2(), shares) {
        (false, 512) => "512",
        (false, _) => "1024",
        // The curve that puts 1024 shares at the kernel's default weight.
        (true, 512) => "59",
        (true, _) => "100",
    }
}

async fn limits_are_in_the_cgroup_and_in_the_status(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("limits")).await?;
    let id = node.run(&pod, limited("main")).await?;
    for (value, wanted) in [
        (Value::Memory, "67108864"),
        (Value::Quota, "25000 50000"),
        (Value::Weight, weight(512)),
        (Value::Cpus, "0"),
    ] {
        check_eq!(cgroup::read(&id, value)?, wanted, "{value:?} of the cgroup");
    }
    let status = node
        .container_status(&id)
        .await?
        .resources
        .and_then(|resources| resources.linux);
    let status = status.ok_or("the status has no resources")?;
    check_eq!(
        (
            status.cpu_period,
            status.cpu_quota,
            status.cpu_shares,
            status.memory_limit_in_bytes,
            status.cpuset_cpus.as_str()
        ),
        (50_000, 25_000, 512, 64 << 20, "0"),
        "limits in the status"
    );
    // A container sees its limit as its root of the tree, and cannot change it.
    check_eq!(
        node.shell(&id, "nproc").await?,
        "1\n",
        "processors that it sees"
    );
    let write = node
        .exec(
            &id,
            &[
                "sh",
                "-c",
                "if [ -e /sys/fs/cgroup/memory ]; then mkdir /sys/fs/cgroup/memory/x; else mkdir /sys/fs/cgroup/x; fi",
            ],
        )
        .await?;
    check!(write.code != 0, "a container makes cgroups");
    check_contains!(write.stderr, "Read-only file system");
    Ok(())
}

pub(super) async fn limits_are_updated_all_or_none(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("limits")).await?;
    let id = node.run(&pod, limited("main")).await?;
    let want = LinuxContainerResources {
        memory_limit_in_bytes: 96 << 20,
        cpu_quota: 30_000,
        ..Default::default()
    };
    node.update(&id, want).await?;
    let memory = |id: &str| cgroup::read(id, Value::Memory);
    check_eq!(
        memory(&id)?,
        (96 << 20).to_string(),
        "memory after an update"
    );
    check_eq!(
        cgroup::read(&id, Value::Quota)?,
        "30000 50000",
        "quota; the period was not mentioned"
    );
    check_eq!(
        cgroup::read(&id, Value::Weight)?,
        weight(512),
        "weight, which was not mentioned"
    );

    let bad = LinuxContainerResources {
        memory_limit_in_bytes: 80 << 20,
        cpu_period: 1,
        ..Default::default()
    };
    let error = node
        .update(&id, bad)
        .await
        .err()
        .ok_or("a period of 1 µs was taken")?;
    check_contains!(
        error.message(),
        "cpu_period 1 is not between 1000 and 1000000 microseconds"
    );
    let bad = LinuxContainerResources {
        cpu_quota: 10_000,
        cpuset_cpus: "4711".into(),
        ..Default::default()
    };
    check!(
        node.update(&id, bad).await.is_err(),
        "processor 4711 was taken"
    );
    check_eq!(
        memory(&id)?,
        (96 << 20).to_string(),
        "memory after a refused update"
    );
    check_eq!(
        cgroup::read(&id, Value::Quota)?,
        "30000 50000",
        "quota after a refused update"
    );

    node.restart().await?;
    let status = node
        .container_status(&id)
        .await?
        .resources
        .and_then(|resources| resources.linux);
    let status = status.ok_or("the status has no resources")?;
    check_eq!(
        (status.memory_limit_in_bytes, status.cpu_quota),
        (96 << 20, 30_000),
        "status after a restart"
    );
    Ok(())
}

async fn a_limit_below_what_is_used_is_refused(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("limits")).await?;
    let memory = |id: &str| cgroup::read(id, Value::Memory);
    let mut config = command("holder", &["/programs/memory", "40", "hold"]);
    mount(&mut config, &node.world.programs, "/programs");
    requests::resources(&mut config).memory_limit_in_bytes = 128 << 20;
    let holder = node.run(&pod, config).await?;
    node.wait_for_output(&holder, "took").await?;
    let low = LinuxContainerResources {
        memory_limit_in_bytes: 16 << 20,
        ..Default::default()
    };
    let error = node
        .update(&holder, low)
        .await
        .err()
        .ok_or("a limit below what is used was taken")?;
    check_contains!(error.message(), "memory limit 16777216 is less than the ");
    check_contains!(
        error.message(),
        "the kernel would kill the container; choose a higher limit"
    );
    check_eq!(
        memory(&holder)?,
        (128 << 20).to_string(),
        "memory of the holder"
    );

    let created = node.create(&pod, limited("created")).await?;
    let want = LinuxContainerResources {
        memory_limit_in_bytes: 100 << 20,
        ..Default::default()
    };
    node.update(&created, want).await?;
    check_eq!(
        memory(&created)?,
        (100 << 20).to_string(),
        "memory of a container not yet started"
    );
    Ok(())
}

fn bomb(node: &Node, text: &str) -> ContainerConfig {
    let mut config = script("bomb", text);
    mount(&mut config, &node.world.programs, "/programs");
    requests::resources(&mut config).memory_limit_in_bytes = 24 << 20;
    config
}

pub(super) async fn a_container_out_of_memory_is_told_so(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("memory")).await?;
    let (status, _) = node
        .finish(&pod, bomb(node, "exec /programs/memory 200"))
        .await?;
    check_eq!(
        (status.exit_code, status.reason.as_str()),
        (137, "OOMKilled"),
        "end"
    );
    Ok(())
}

async fn a_child_out_of_memory_is_told_so(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("memory")).await?;
    let (status, _) = node
        .finish(&pod, bomb(node, "/programs/memory 200; exit 137"))
        .await?;
    check_eq!(
        (status.exit_code, status.reason.as_str()),
        (137, "OOMKilled"),
        "end of a parent"
    );
    // A child of an exec counts as much, and the container itself lives on.
    let mut config = bomb(node, "trap 'exit 0' TERM; while :; do sleep 0.1; done");
    config.metadata.get_or_insert_default().attempt = 1;
    let id = node.run(&pod, config).await?;
    let ran = node
        .exec(&id, &["sh", "-c", "/programs/memory 200; echo $?"])
        .await?;
    check_contains!(ran.stdout, "137");
    check_eq!(
        node.shell(&id, "echo alive").await?,
        "alive\n",
        "the container"
    );
    node.stop(&id, 5).await?;
    Ok(())
}

async fn an_exec_out_of_memory_does_not_explain_a_later_end(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("memory")).await?;
    let deaf = "trap '' TERM; while :; do sleep 0.1; done";
    // By somebody else's hand, and by ours at the end of the grace period.
    for by_stop in [false, true] {
        let mut config = bomb(node, deaf);
        config.metadata.get_or_insert_default().attempt = u32::from(by_stop);
        let id = node.run(&pod, config).await?;
        let ran = node.exec(&id, &["/programs/memory", "200"]).await?;
        check_eq!(ran.code, 137, "end of the exec");
        check_eq!(
            node.shell(&id, "echo alive").await?,
            "alive\n",
            "the container"
        );
        if by_stop {
            node.stop(&id, 1).await?;
        } else {
            crate::support::processes::kill(node.pid(&id).await?)?;
        }
        let status = node.wait_for_end(&id).await?;
        check_eq!(
            (status.exit_code, status.reason.as_str()),
            (137, "Error"),
            "end, by_stop = {by_stop}"
        );
    }
    Ok(())
}

async fn update_pod(node: &Node, pod: &str, resources: LinuxContainerResources) -> Outcome {
    let request = UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: pod.to_owned(),
        resources: Some(resources),
        ..UpdatePodSandboxResourcesRequest::default()
    };
    node.runtime()?
        .update_pod_sandbox_resources(request)
        .await?;
    Ok(())
}

async fn a_pod_without_a_parent_has_the_pods_limits(node: &mut Node) -> Outcome {
    if cgroup::by_systemd() {
        return skip("systemd::a_pods_own_slice_has_the_pods_limits is this test for systemd");
    }
    let limits = |memory: i64| LinuxContainerResources {
        memory_limit_in_bytes: memory << 20,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        ..LinuxContainerResources::default()
    };
    let mut config = host_pod("own");
    let linux = config.linux.get_or_insert_default();
    linux.resources = Some(limits(128));
    linux.overhead = Some(limits(16));
    let pod = node.run_pod(config).await?;
    let memory = || cgroup::read(&pod.id, Value::Memory);
    check_eq!(memory()?, (144 << 20).to_string(), "memory of the pod");
    check_eq!(
        cgroup::read(&pod.id, Value::Quota)?,
        "100000 100000",
        "quota of the pod"
    );
    update_pod(node, &pod.id, limits(256)).await?;
    check_eq!(memory()?, (272 << 20).to_string(), "memory after an update");
    // As kubelet takes a limit away, also where it is about the processor alone.
    let unlimited = LinuxContainerResources {
        memory_limit_in_bytes: -1,
        cpu_quota: -1,
        ..limits(0)
    };
    update_pod(node, &pod.id, unlimited).await?;
    let (no_memory, no_quota) = match cgroup::is_version_2() {
        true => ("max", "max 100000"),
        false => ("9223372036854771712", "-1 100000"),
    };
    check_eq!(memory()?, no_memory, "memory without a limit");
    check_eq!(
        cgroup::read(&pod.id, Value::Quota)?,
        no_quota,
        "quota without a limit"
    );
    let request = UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: "0".repeat(64),
        ..UpdatePodSandboxResourcesRequest::default()
    };
    let error = refusal(node.runtime()?.update_pod_sandbox_resources(request).await)?;
    check_contains!(error, "NotFound: pod");
    Ok(())
}

pub(super) async fn devices_are_confined(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("devices")).await?;
    let id = node.run(&pod, sleeper("main")).await?;
    node.shell(&id, "for d in null zero full random urandom; do head -c 1 /dev/$d >/dev/null || exit 1; done; echo x >/dev/null").await?;
    // What it makes itself it cannot open: the kernel's log, memory, a disk.
    let made = node
        .exec(
            &id,
            &["sh", "-c", "mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg"],
        )
        .await?;
    check!(
        made.code != 0,
        "a container reads a device that it was not given"
    );
    check_contains!(made.stderr, "Operation not permitted");
    let mut config = sleeper("given");
    config.devices.push(insula_cri_api::v1::Device {
        container_path: "/dev/given".into(),
        host_path: "/dev/zero".into(),
        permissions: "r".into(),
    });
    let given = node.run(&pod, config).await?;
    node.shell(&given, "head -c 4 /dev/given | wc -c | grep -q 4")
        .await?;
    Ok(())
}

async fn raw_files_are_of_version_2(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("raw")).await?;
    node.pull(requests::BUSYBOX).await?;
    let mut config = sleeper("main");
    let unified = &mut requests::resources(&mut config).unified;
    unified.insert("pids.max".into(), "33".into());
    unified.insert("memory.high".into(), (50 << 20).to_string());
    if !cgroup::is_version_2() {
        let error = node.refused_container(&pod, config).await?;
        check_contains!(
            error,
            "raw cgroup files (unified) were given, which need cgroup version 2; this host has version 1"
        );
        return Ok(());
    }
    let id = node.run(&pod, config).await?;
    check_eq!(cgroup::read(&id, Value::Pids)?, "33", "pids.max");
    let bombed = node
        .exec(&id, &["sh", "-c", "for i in $(seq 60); do sleep 5 & done"])
        .await?;
    check_contains!(bombed.stderr, "fork");
    for (file, value) in [("cgroup.procs", "1"), ("../x", "1"), ("memory.max", "1\n2")] {
        let mut config = sleeper("bad");
        requests::resources(&mut config)
            .unified
            .insert(file.into(), value.into());
        check_contains!(
            node.refused_container(&pod, config).await?,
            "InvalidArgument: "
        );
    }
    Ok(())
}

async fn statistics_follow_what_is_used(node: &mut Node) -> Outcome {
    let pod = node.run_pod(requests::pod("stats")).await?;
    let mut config = script("main", "/programs/memory 20 hold & while :; do :; done");
    mount(&mut config, &node.world.programs, "/programs");
    let id = node.run(&pod, config).await?;
    node.wait_for_output(&id, "took").await?;
    node.shell(&id, "head -c 3000000 /dev/zero > /written; sync")
        .await?;
    let (mut last, mut grown) = (0, false);
    for _ in 0..20 {
        let request = ContainerStatsRequest {
            container_id: id.clone(),
        };
        let stats = node
            .runtime()?
            .container_stats(request)
            .await?
            .into_inner()
            .stats
            .ok_or("no stats")?;
        let cpu = stats
            .cpu
            .and_then(|cpu| cpu.usage_core_nano_seconds)
            .map_or(0, |value| value.value);
        let memory = stats
            .memory
            .and_then(|memory| memory.working_set_bytes)
            .map_or(0, |value| value.value);
        check!(
            (20 << 20..200 << 20).contains(&memory),
            "working set: {memory}"
        );
        check!(cpu >= last, "processor time goes back");
        grown |= last > 0 && cpu > last;
        last = cpu;
        let layer = stats.writable_layer.ok_or("no writable layer")?;
        let at = layer.fs_id.map(|id| id.mountpoint).unwrap_or_default();
        check!(
            std::path::Path::new(&at).is_dir(),
            "mount point {at:?} of the writable layer"
        );
        if grown && layer.used_bytes.map_or(0, |value| value.value) >= 3_000_000 {
            return pods_statistics(node, &pod).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err("the statistics do not follow".into())
}

async fn pods_statistics(node: &Node, pod: &Pod) -> Outcome {
    let request = ListPodSandboxStatsRequest::default();
    let stats = node
        .runtime()?
        .list_pod_sandbox_stats(request)
        .await?
        .into_inner()
        .stats;
    let of_pod = stats.into_iter().find(|stats| {
        stats
            .attributes
            .as_ref()
            .is_some_and(|attributes| attributes.id == pod.id)
    });
    let linux = of_pod
        .and_then(|stats| stats.linux)
        .ok_or("no statistics of the pod")?;
    check_eq!(linux.containers.len(), 1, "containers");
    let network = linux
        .network
        .and_then(|network| network.default_interface)
        .ok_or("no network")?;
    check_eq!(network.name, "eth0", "interface");
    Ok(())
}

async fn the_pods_parent_group_is_used_and_not_taken_away(node: &mut Node) -> Outcome {
    if cgroup::by_systemd() {
        return skip("systemd::slices_of_others_are_used_and_kept is this test for systemd");
    }
    let parent = format!("/{}/kubepods/burstable/pod1", node.name);
    let mut config = host_pod("parent");
    config
        .linux
        .get_or_insert_default()
        .cgroup_parent
        .clone_from(&parent);
    let pod = node.run_pod(config).await?;
    let id = node.run(&pod, sleeper("main")).await?;
    let pid = node.pid(&id).await?;
    let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let limits = own
        .lines()
        .filter(|line| line.contains(&format!("{parent}/")) && line.ends_with(&id))
        .count();
    check!(limits > 0, "the container is not below its parent: {own}");
    let supervisor = node.supervisor(&pod).await?;
    let groups = std::fs::read_to_string(format!("/proc/{supervisor}/cgroup"))?;
    check!(
        !groups.contains(&parent),
        "the supervisor is in its pod's group: {groups}"
    );
    // Somebody else's group beside the container's stays.
    let shared = cgroup::directories("pod1")
        .into_iter()
        .map(|at| at.join("kubelets"));
    let shared: Vec<_> = shared
        .filter(|at| at.starts_with("/sys/fs/cgroup") && at.to_string_lossy().contains(&node.name))
        .collect();
    for group in &shared {
        // One hierarchy may be mounted at two places.
        std::fs::create_dir_all(group)?;
    }
    let removed = node.remove_pod(&pod.id).await;
    let kept = shared.iter().all(|group| group.is_dir());
    for group in shared.iter().rev() {
        // With those above it, which nobody else removes now.
        for at in group.ancestors().take(4) {
            if let Err(error) = std::fs::remove_dir(at) {
                println!("{}: {error}", at.display());
            }
        }
    }
    removed?;
    check!(kept, "a group of somebody else was removed");
    Ok(())
}

async fn oom_scores_are_as_asked(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("score")).await?;
    let mut config = sleeper("main");
    requests::resources(&mut config).oom_score_adj = 500;
    let id = node.run(&pod, config).await?;
    check_eq!(
        node.shell(&id, "cat /proc/1/oom_score_adj").await?,
        "500\n",
        "score"
    );
    check_eq!(
        node.shell(&id, "cat /proc/self/oom_score_adj").await?,
        "500\n",
        "score of an exec"
    );
    let request = UpdateContainerResourcesRequest {
        container_id: "0".repeat(64),
        ..Default::default()
    };
    let error = refusal(node.runtime()?.update_container_resources(request).await)?;
    check_contains!(error, "NotFound: container");
    Ok(())
}
