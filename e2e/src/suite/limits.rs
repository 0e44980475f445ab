//! Limits that few ask for: nodes of memory, swap, memory that is protected.

use crate::support::case::cases;
use crate::support::cgroup::{self, Value};
use crate::support::outcome::{check, check_contains, check_eq, skip};
use crate::support::requests::{self, BUSYBOX, host_pod, mount, script, sleeper};
use crate::support::{Case, Node, Outcome};
use insula_cri_api::v1::{ContainerConfig, LinuxContainerResources};

pub fn cases() -> Vec<Case> {
    cases![
        a_container_keeps_to_its_nodes_of_memory in cgroup,
        swap_is_limited_and_updated_with_memory in cgroup,
        protected_memory_and_kills_of_whole_groups in cgroup,
    ]
}

/// The limits in a container's status.
async fn told(node: &Node, id: &str) -> Outcome<LinuxContainerResources> {
    let resources = node.container_status(id).await?.resources;
    Ok(resources
        .and_then(|resources| resources.linux)
        .ok_or("the status has no resources")?)
}

async fn a_container_keeps_to_its_nodes_of_memory(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("nodes")).await?;
    node.pull(BUSYBOX).await?;
    let with = |name: &str, nodes: &str| {
        let mut config = sleeper(name);
        requests::resources(&mut config).cpuset_mems = nodes.into();
        config
    };
    // Every machine has the first.
    let id = node.run(&pod, with("first", "0")).await?;
    check_eq!(cgroup::read(&id, Value::Nodes)?, "0", "nodes of the cgroup");
    check_eq!(told(node, &id).await?.cpuset_mems, "0", "nodes told");
    let allowed = "grep Mems_allowed_list /proc/1/status /proc/self/status";
    for line in node.shell(&id, allowed).await?.lines() {
        check!(line.ends_with("\t0"), "nodes of a process: {line:?}");
    }
    let one = LinuxContainerResources {
        cpuset_mems: "0-0".into(),
        ..LinuxContainerResources::default()
    };
    node.update(&id, one).await?;
    check_eq!(cgroup::read(&id, Value::Nodes)?, "0", "after an update");
    // No machine has this one, and this is none.
    let error = node.refused_container(&pod, with("last", "1023")).await?;
    check_contains!(error, "cpuset.mems");
    let error = node.refused_container(&pod, with("none", "0;1")).await?;
    check_contains!(error, "cpuset_mems");
    Ok(())
}

/// What the cgroup's file says for a limit of memory and swap together.
fn swap(memory: i64, both: i64) -> String {
    let bytes = if cgroup::is_version_2() {
        both - memory
    } else {
        both
    };
    bytes.to_string()
}

async fn swap_is_limited_and_updated_with_memory(node: &mut Node) -> Outcome {
    let limits = |memory: i64, both: i64| LinuxContainerResources {
        memory_limit_in_bytes: memory << 20,
        memory_swap_limit_in_bytes: both << 20,
        ..LinuxContainerResources::default()
    };
    let with = |name: &str, limits: LinuxContainerResources| {
        let mut config = sleeper(name);
        *requests::resources(&mut config) = limits;
        config
    };
    let pod = node.run_pod(host_pod("swap")).await?;
    let id = node.run(&pod, with("main", limits(64, 96))).await?;
    // Nobody asked for swap, so there is none.
    let without = node.run(&pod, with("without", limits(64, 0))).await?;
    let holds = |id: &str, memory: i64, both: i64| -> Outcome {
        check_eq!(
            (
                cgroup::read(id, Value::Memory)?,
                cgroup::read(id, Value::Swap)?
            ),
            ((memory << 20).to_string(), swap(memory << 20, both << 20)),
            "memory and swap"
        );
        Ok(())
    };
    holds(&id, 64, 96)?;
    holds(&without, 64, 64)?;
    // Up and down, both and one of them: the other stays as it was told.
    for (memory, both, then) in [
        (128, 160, (128, 160)),
        (32, 48, (32, 48)),
        (40, 0, (40, 48)),
        (0, 80, (40, 80)),
    ] {
        node.update(&id, limits(memory, both)).await?;
        holds(&id, then.0, then.1)?;
        let told = told(node, &id).await?;
        check_eq!(
            (
                told.memory_limit_in_bytes >> 20,
                told.memory_swap_limit_in_bytes >> 20
            ),
            then,
            "memory and swap in the status"
        );
    }
    // Together they cannot be less than memory alone.
    for (memory, both) in [(100, 90), (0, 20), (96, 0)] {
        let refused = node.update(&id, limits(memory, both)).await;
        let status = refused.err().ok_or("swap below memory was taken")?;
        check_contains!(status.message(), "it counts memory and swap together");
        holds(&id, 40, 80)?;
    }
    node.restart().await?;
    node.update(&id, limits(0, 64)).await?;
    holds(&id, 40, 64)
}

async fn protected_memory_and_kills_of_whole_groups(node: &mut Node) -> Outcome {
    if !cgroup::is_version_2() {
        return skip(
            "resources::raw_files_are_of_version_2 tests that version 1 refuses such files",
        );
    }
    let pod = node.run_pod(host_pod("protected")).await?;
    let with = |name: &str, together: &str| -> ContainerConfig {
        let text = "/programs/memory 200; echo alive; exec sleep 7777";
        let mut config = script(name, text);
        mount(&mut config, &node.world.programs, "/programs");
        let resources = requests::resources(&mut config);
        resources.memory_limit_in_bytes = 24 << 20;
        let raw = [("memory.min", "4194304"), ("memory.oom.group", together)];
        resources.unified = raw
            .map(|(file, value)| (file.to_owned(), value.to_owned()))
            .into();
        config
    };
    // The child alone is killed.
    let alone = node.run(&pod, with("alone", "0")).await?;
    node.wait_for_output(&alone, "alive").await?;
    for (file, value) in [("memory.min", "4194304"), ("memory.oom.group", "0")] {
        check_eq!(cgroup::read_file(&alone, file)?, value, "{file}");
    }
    // With its parent, which did nothing.
    let (status, output) = node.finish(&pod, with("together", "1")).await?;
    check_eq!(
        (status.exit_code, status.reason.as_str(), output.as_str()),
        (137, "OOMKilled", ""),
        "end of a group"
    );
    // An update tells it to the kernel, too.
    let more = LinuxContainerResources {
        unified: [("memory.min".to_owned(), "8388608".to_owned())].into(),
        ..LinuxContainerResources::default()
    };
    node.update(&alone, more).await?;
    check_eq!(
        cgroup::read_file(&alone, "memory.min")?,
        "8388608",
        "after an update"
    );
    Ok(())
}
