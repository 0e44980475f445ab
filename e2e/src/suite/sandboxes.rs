//! Pods whose containers are sandboxes with a kernel of their own: gVisor's runsc.

use super::handlers::{external_case, kill_daemon_and_supervisor, use_runtime};
use super::{lifecycle, logs, port_forward, processes, recovery, resources, security};
use super::{streaming, volumes};
use crate::support::case::cases;
use crate::support::outcome::{check, check_contains, check_eq};
use crate::support::requests::{host_pod, pod, script, sleeper};
use crate::support::{Case, Node, Outcome, calls};
use insula_cri_api::v1::ContainerState;
use std::time::{Duration, Instant};

pub fn cases() -> Vec<Case> {
    let mut cases = cases![
        containers_have_a_kernel_of_their_own,
        a_pod_has_one_sandbox_at_a_time,
        signals_reach_the_program_and_its_code_comes_back,
        an_exec_that_is_late_is_killed_inside,
        a_killed_supervisor_leaves_no_sandbox,
    ];
    cases.extend(external_case!(
        "runsc":
        lifecycle::a_pod_and_its_container_live_and_go,
        logs::both_streams_are_kept_apart,
        port_forward::both_loopbacks_of_a_pod_are_reached,
        processes::an_exec_gives_back_streams_and_codes,
        recovery::a_created_container_stays_created,
        resources::a_container_out_of_memory_is_told_so,
        resources::limits_are_updated_all_or_none,
        security::users_are_numbers_or_names_and_nothing_between,
        streaming::input_once_ends_with_its_client,
        volumes::the_root_may_be_read_only,
        volumes::sources_may_be_links_files_and_missing,
    ));
    cases
}

async fn containers_have_a_kernel_of_their_own(node: &mut Node) -> Outcome {
    use_runtime(node, "runsc").await?;
    let pod = node.run_pod(pod("kernel")).await?;
    let id = node.run(&pod, sleeper("main")).await?;
    let own = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let release = node.shell(&id, "uname -r").await?;
    check!(release.trim() != own.trim(), "it is the host's: {release}");
    check_contains!(node.shell(&id, "dmesg").await?, "Starting gVisor");
    let config = pod.config.hostname.clone();
    check_eq!(
        node.shell(&id, "hostname").await?,
        format!("{config}\n"),
        "host name"
    );
    check_contains!(node.shell(&id, "ip addr show eth0").await?, "inet ");
    let seen = node.shell(&id, "ps -o pid,args").await?;
    check!(!seen.contains("runsc"), "processes of the node: {seen}");
    Ok(())
}

async fn a_pod_has_one_sandbox_at_a_time(node: &mut Node) -> Outcome {
    use_runtime(node, "runsc").await?;
    let pod = node.run_pod(pod("alone")).await?;
    // As an init container, then the app, then the app again.
    let (status, _) = node.finish(&pod, script("init", "exit 0")).await?;
    check_eq!(status.exit_code, 0, "exit code of the first");
    let id = node.run(&pod, sleeper("main")).await?;
    let refusal = node.refused_container(&pod, sleeper("beside")).await?;
    check_contains!(refusal, "FailedPrecondition: ");
    check_contains!(refusal, "makes a sandbox of each container");
    node.stop(&id, 0).await?;
    let again = node.run(&pod, sleeper("again")).await?;
    check_contains!(node.shell(&again, "ip addr show eth0").await?, "inet ");
    Ok(())
}

async fn signals_reach_the_program_and_its_code_comes_back(node: &mut Node) -> Outcome {
    use_runtime(node, "runsc").await?;
    for config in [pod("own"), host_pod("shared")] {
        let pod = node.run_pod(config).await?;
        let text = "trap 'echo got it; exit 7' TERM; echo up; while :; do sleep 0.1; done";
        let id = node.run(&pod, script("main", text)).await?;
        check_contains!(node.shell(&id, "echo inside").await?, "inside");
        node.stop(&id, 30).await?;
        let status = node.wait_for_end(&id).await?;
        check_eq!(status.exit_code, 7, "exit code");
        check_contains!(
            std::fs::read_to_string(node.log_path(&id).await?)?,
            "got it"
        );
    }
    Ok(())
}

/// Its call on the node is killed, and so is the process in the sandbox, for which the runtime is
/// asked. What that has started by then goes on: runsc has no way to name all of it.
async fn an_exec_that_is_late_is_killed_inside(node: &mut Node) -> Outcome {
    use_runtime(node, "runsc").await?;
    let pod = node.run_pod(pod("late")).await?;
    let id = node.run(&pod, sleeper("main")).await?;
    let request = calls::exec_request(&id, &["sleep", "7778"], 3);
    let error = calls::refusal(node.runtime()?.exec_sync(request).await)?;
    check_contains!(error, "DeadlineExceeded: ");
    let begun = Instant::now();
    while node.exec(&id, &["pgrep", "-f", "^sleep 7778"]).await?.code == 0 {
        check!(
            begun.elapsed() < Duration::from_secs(30),
            "the process of a late exec lives"
        );
    }
    let status = node.container_status(&id).await?;
    check_eq!(status.state(), ContainerState::ContainerRunning, "state");
    Ok(())
}

async fn a_killed_supervisor_leaves_no_sandbox(node: &mut Node) -> Outcome {
    use_runtime(node, "runsc").await?;
    let pod = node.run_pod(pod("killed")).await?;
    let id = node.run(&pod, sleeper("main")).await?;
    kill_daemon_and_supervisor(node, &pod, &[&id]).await
}
