//! cgroups that systemd makes: on a machine that it has booted, `hack/vm --systemd test`.

use crate::support::case::cases;
use crate::support::cgroup::{self, Value};
use crate::support::outcome::{check, check_contains, check_eq, skip};
use crate::support::requests::{self, host_pod, script, sleeper};
use crate::support::{Case, Node, Outcome};
use insula_cri_api::v1::{
    CgroupDriver, LinuxContainerResources, RuntimeConfigRequest, UpdateContainerResourcesRequest,
    UpdatePodSandboxResourcesRequest,
};
use std::process::Command;

pub fn cases() -> Vec<Case> {
    cases![
        limits_outlive_a_reload_of_systemd in cgroup,
        updates_reach_the_unit_and_its_files in cgroup,
        slices_of_others_are_used_and_kept in cgroup,
        a_pods_own_slice_has_the_pods_limits in cgroup,
        a_parent_that_is_no_slice_is_refused in cgroup,
        a_restart_of_dbus_is_outlived in cgroup,
        scopes_are_found_again_and_those_of_nobody_removed in cgroup,
    ]
}

fn only_by_systemd() -> Outcome {
    if cgroup::by_systemd() {
        return Ok(());
    }
    skip("the daemons of this run make their cgroups themselves: hack/vm --systemd test")
}

fn systemctl(arguments: &[&str]) -> Outcome<String> {
    let output = Command::new("systemctl").args(arguments).output()?;
    check!(
        output.status.success(),
        "systemctl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Values of a unit's properties, in the order asked for.
fn properties(unit: &str, names: &[&str]) -> Outcome<Vec<String>> {
    names
        .iter()
        .map(|name| systemctl(&["show", "--value", "--property", name, unit]))
        .collect()
}

fn scope(id: &str) -> String {
    format!("insula-{id}.scope")
}

fn limited(name: &str) -> insula_cri_api::v1::ContainerConfig {
    let mut config = sleeper(name);
    *requests::resources(&mut config) = LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 33_333,
        cpu_shares: 512,
        memory_limit_in_bytes: 64 << 20,
        cpuset_cpus: "0".into(),
        ..LinuxContainerResources::default()
    };
    config
}

fn check_files(id: &str, quota: &str) -> Outcome {
    for (value, wanted) in [
        (Value::Memory, "67108864"),
        (Value::Quota, quota),
        (Value::Weight, "59"),
        (Value::Cpus, "0"),
        (Value::Pids, "max"),
    ] {
        check_eq!(cgroup::read(id, value)?, wanted, "{value:?} of the cgroup");
    }
    Ok(())
}

async fn limits_outlive_a_reload_of_systemd(node: &mut Node) -> Outcome {
    only_by_systemd()?;
    let driver = node
        .runtime()?
        .runtime_config(RuntimeConfigRequest {})
        .await?
        .into_inner()
        .linux
        .map(|linux| linux.cgroup_driver());
    check_eq!(
        driver,
        Some(CgroupDriver::Systemd),
        "driver that kubelet is told"
    );
    let pod = node.run_pod(host_pod("units")).await?;
    let id = node.run(&pod, limited("main")).await?;
    let pid = node.pid(&id).await?;
    let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let slice = format!("{}-{}.slice", node.name, pod.id);
    check!(
        own.trim().ends_with(&format!("{slice}/{}", scope(&id))),
        "not in a scope of the pod's slice: {own}"
    );
    check_eq!(
        properties(
            &scope(&id),
            &["Slice", "Delegate", "MemoryMax", "CPUWeight", "TasksMax"]
        )?,
        [slice.as_str(), "yes", "67108864", "59", "infinity"],
        "properties of the scope"
    );
    check_files(&id, "33333 100000")?;
    // A device that was not given stays out of reach, too.
    let given = "head -c 1 /dev/zero >/dev/null && mknod /tmp/kmsg c 1 11 && ! head -c 1 /tmp/kmsg";
    node.shell(&id, given).await?;
    systemctl(&["daemon-reload"])?;
    node.shell(&id, "rm /tmp/kmsg").await?;
    node.shell(&id, given).await?;
    // systemd keeps whole percent of a processor.
    let quota = cgroup::read(&id, Value::Quota)?;
    check!(
        ["33333 100000", "34000 100000"].contains(&quota.as_str()),
        "quota after a reload: {quota}"
    );
    check_files(&id, &quota)?;
    let supervisor = node.supervisor(&pod).await?;
    let own = std::fs::read_to_string(format!("/proc/{supervisor}/cgroup"))?;
    check_contains!(own, &format!("/{}-supervisors.scope", node.name));
    Ok(())
}

async fn updates_reach_the_unit_and_its_files(node: &mut Node) -> Outcome {
    only_by_systemd()?;
    let pod = node.run_pod(host_pod("units")).await?;
    node.pull(requests::BUSYBOX).await?;
    let id = node.create(&pod, limited("main")).await?;
    let update = |linux| UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(linux),
        ..UpdateContainerResourcesRequest::default()
    };
    let want = LinuxContainerResources {
        memory_limit_in_bytes: 96 << 20,
        cpu_quota: 20_000,
        ..LinuxContainerResources::default()
    };
    node.runtime()?
        .update_container_resources(update(want))
        .await?;
    let names = ["MemoryMax", "CPUQuotaPerSecUSec", "CPUWeight"];
    let wanted = ["100663296", "200ms", "59"];
    check_eq!(properties(&scope(&id), &names)?, wanted, "properties");
    check_eq!(cgroup::read(&id, Value::Memory)?, "100663296", "memory");
    check_eq!(cgroup::read(&id, Value::Quota)?, "20000 100000", "quota");
    let bad = LinuxContainerResources {
        memory_limit_in_bytes: 80 << 20,
        cpu_quota: 10_000,
        cpuset_cpus: "4711".into(),
        ..LinuxContainerResources::default()
    };
    let refused = node
        .runtime()?
        .update_container_resources(update(bad))
        .await;
    check!(refused.is_err(), "processor 4711 was taken");
    check_eq!(
        properties(&scope(&id), &names)?,
        wanted,
        "properties after a refused update"
    );
    check_eq!(
        cgroup::read(&id, Value::Memory)?,
        "100663296",
        "memory after it"
    );
    node.restart().await?;
    node.start_container(&id).await?;
    let want = LinuxContainerResources {
        memory_limit_in_bytes: 48 << 20,
        ..LinuxContainerResources::default()
    };
    node.runtime()?
        .update_container_resources(update(want))
        .await?;
    check_eq!(
        properties(&scope(&id), &names)?,
        ["50331648", "200ms", "59"],
        "properties after a restart"
    );
    Ok(())
}

async fn slices_of_others_are_used_and_kept(node: &mut Node) -> Outcome {
    only_by_systemd()?;
    let top = node.name.replace('-', "_");
    let slice = format!("{top}-burstable-pod1.slice");
    let path = format!("/{top}.slice/{top}-burstable.slice/{slice}");
    // As kubelet does before it makes the pod.
    systemctl(&["start", &slice])?;
    systemctl(&["set-property", "--runtime", &slice, "MemoryMax=200M"])?;
    let mut config = host_pod("kubelets");
    config
        .linux
        .get_or_insert_default()
        .cgroup_parent
        .clone_from(&path);
    let pod = node.run_pod(config).await?;
    let id = node.run(&pod, sleeper("main")).await?;
    let pid = node.pid(&id).await?;
    let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    check_eq!(
        own.trim(),
        format!("0::{path}/{}", scope(&id)),
        "cgroup of the container"
    );
    let removed = node.remove_pod(&pod.id).await;
    let kept = properties(&slice, &["ActiveState", "MemoryMax"]);
    for name in [
        slice.clone(),
        format!("{top}-burstable.slice"),
        format!("{top}.slice"),
    ] {
        systemctl(&["stop", &name])?;
    }
    removed?;
    check_eq!(kept?, ["active", "209715200"], "kubelet's slice");
    // A slice that nobody has made goes with its last container.
    let slice = format!("{top}.slice");
    let mut config = host_pod("passing");
    config.metadata.get_or_insert_default().attempt = 1;
    config.linux.get_or_insert_default().cgroup_parent = format!("/{slice}");
    let pod = node.run_pod(config).await?;
    node.run(&pod, sleeper("main")).await?;
    check_eq!(properties(&slice, &["ActiveState"])?, ["active"], "slice");
    node.remove_pod(&pod.id).await?;
    for _ in 0..200 {
        if properties(&slice, &["ActiveState"])? == ["inactive"] {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Err(format!("{slice} stays").into())
}

async fn a_pods_own_slice_has_the_pods_limits(node: &mut Node) -> Outcome {
    only_by_systemd()?;
    let mut config = host_pod("own");
    let limits = |memory: i64| LinuxContainerResources {
        memory_limit_in_bytes: memory << 20,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        ..LinuxContainerResources::default()
    };
    let linux = config.linux.get_or_insert_default();
    linux.resources = Some(limits(128));
    linux.overhead = Some(limits(16));
    let pod = node.run_pod(config).await?;
    let slice = format!("{}-{}.slice", node.name, pod.id);
    let names = ["MemoryMax", "CPUQuotaPerSecUSec"];
    check_eq!(
        properties(&slice, &names)?,
        ["150994944", "1s"],
        "limits of the pod"
    );
    let request = UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: pod.id.clone(),
        resources: Some(limits(256)),
        ..UpdatePodSandboxResourcesRequest::default()
    };
    node.runtime()?
        .update_pod_sandbox_resources(request)
        .await?;
    check_eq!(
        properties(&slice, &names)?,
        ["285212672", "1s"],
        "limits after an update"
    );
    node.stop_pod(&pod.id).await?;
    check_eq!(
        properties(&slice, &["ActiveState"])?,
        ["inactive"],
        "slice of a stopped pod"
    );
    Ok(())
}

async fn a_parent_that_is_no_slice_is_refused(node: &mut Node) -> Outcome {
    only_by_systemd()?;
    for (parent, words) in [
        ("/kubepods/burstable/pod1", "driver, systemd"),
        ("/a.slice/b.slice", "is not where systemd has b.slice"),
        ("/-.slice", "it is the root"),
    ] {
        let mut config = host_pod("parent");
        parent.clone_into(&mut config.linux.get_or_insert_default().cgroup_parent);
        let error = node.refused_pod(config).await?;
        check_contains!(error, "InvalidArgument: ");
        check_contains!(error, words);
    }
    Ok(())
}

async fn a_restart_of_dbus_is_outlived(node: &mut Node) -> Outcome {
    only_by_systemd()?;
    let pod = node.run_pod(host_pod("bus")).await?;
    let first = node.run(&pod, sleeper("first")).await?;
    systemctl(&["restart", "dbus.service"])?;
    let second = node.run(&pod, limited("second")).await?;
    check_files(&second, "33333 100000")?;
    node.remove(&first).await?;
    Ok(())
}

async fn scopes_are_found_again_and_those_of_nobody_removed(node: &mut Node) -> Outcome {
    only_by_systemd()?;
    let pod = node.run_pod(host_pod("crash")).await?;
    let id = node
        .run(
            &pod,
            script("main", "trap 'exit 0' TERM; while :; do sleep 0.1; done"),
        )
        .await?;
    node.kill()?;
    // As a daemon leaves it that dies between a child's placing and its record.
    let nobody = scope(&"ab".repeat(32));
    let slice = format!("{}-{}.slice", node.name, pod.id);
    let status = Command::new("systemd-run")
        .args(["--scope", "--quiet", "--unit", &nobody, "--slice", &slice])
        .args(["sh", "-c", "sleep 1000 & exit 0"])
        .status()?;
    check!(status.success(), "systemd-run: {status}");
    check_eq!(
        properties(&nobody, &["ActiveState"])?,
        ["active"],
        "scope of nobody"
    );
    node.start().await?;
    for _ in 0..200 {
        if properties(&nobody, &["ActiveState"])? == ["inactive"] {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    check_eq!(
        properties(&nobody, &["ActiveState"])?,
        ["inactive"],
        "scope of nobody"
    );
    check_eq!(
        properties(&scope(&id), &["ActiveState"])?,
        ["active"],
        "scope of a container"
    );
    check_eq!(
        node.shell(&id, "echo alive").await?,
        "alive\n",
        "the container"
    );
    node.stop(&id, 5).await?;
    Ok(())
}
