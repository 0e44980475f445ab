//! Pods whose runtime handler is an external OCI runtime: what holds for others holds for them.
//!
//! Most of it are the tests of other files, run once more with each runtime that is here.

use super::{
    hooks, lifecycle, logs, namespaces, processes, recovery, resources, seccomp, security,
};
use super::{streaming, supervisor_death, volumes};
use crate::support::case::cases;
use crate::support::node::external_runtime;
use crate::support::outcome::{check, check_contains, check_eq, skip};
use crate::support::requests::{BUSYBOX, host_pod, mapped_pod, pod, script, sleeper};
use crate::support::{Case, Node, Outcome, calls::Pod, processes as ps};
use insula_cri_api::v1::{ContainerState, StatusRequest};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Runs tests of other files with each of the runtimes.
macro_rules! with_runtimes {
    ($($file:ident::$test:ident),+ $(,)?) => {
        vec![$(
            with!("crun", $file::$test),
            with!("runc", $file::$test),
            with!("youki", $file::$test)
        ),+]
    };
    (sharing processes: $($file:ident::$test:ident),+ $(,)?) => {
        vec![$(
            with!("crun", $file::$test),
            with!("runc", $file::$test),
            with!("youki", $file::$test, can_share_processes)
        ),+]
    };
}

/// Runs tests of other files with one runtime.
macro_rules! external_case {
    ($runtime:literal: $($file:ident::$test:ident),+ $(,)?) => {
        [$($crate::suite::handlers::with!($runtime, $file::$test)),+]
    };
}

macro_rules! with {
    ($runtime:literal, $file:ident::$test:ident $(, $condition:ident)?) => {
        $crate::support::case::case(
            concat!(
                "handlers::",
                $runtime,
                "_",
                stringify!($file),
                "_",
                stringify!($test)
            ),
            async |node: &mut $crate::support::Node| {
                $crate::suite::handlers::use_runtime(node, $runtime).await?;
                $($condition()?;)?
                $file::$test(node).await
            },
        )
    };
}

pub(super) use {external_case, with};

pub fn cases() -> Vec<Case> {
    let mut cases = cases![
        a_name_for_the_native_runtime,
        an_unknown_handler_is_refused,
        a_missing_program_is_told_and_its_pods_are_refused,
        a_runtime_that_fails_is_quoted,
        a_runtime_that_hangs_is_killed,
        a_start_is_over_when_its_runtime_says_so,
        what_an_external_runtime_cannot_do_is_refused,
        crun_leaves_nothing_when_its_supervisor_is_killed,
        runc_leaves_nothing_when_its_supervisor_is_killed,
    ];
    cases.extend(with_runtimes![
        lifecycle::a_pod_and_its_container_live_and_go,
        lifecycle::stop_sends_the_stop_signal_and_then_kills,
        lifecycle::a_running_pod_is_removed_with_all_it_has,
        logs::both_streams_are_kept_apart,
        logs::a_terminal_writes_to_standard_output_only,
        recovery::pods_logs_and_exit_codes_survive_a_killed_daemon,
        recovery::a_created_container_stays_created,
        processes::an_exec_gives_back_streams_and_codes,
        streaming::a_terminal_has_the_clients_size,
        streaming::input_once_ends_with_its_client,
        resources::a_container_out_of_memory_is_told_so,
        resources::limits_are_updated_all_or_none,
        resources::devices_are_confined,
        volumes::mounts_go_where_propagation_lets_them,
        volumes::the_root_may_be_read_only,
        volumes::sources_may_be_links_files_and_missing,
        security::masked_and_read_only_paths_hold,
        security::users_are_numbers_or_names_and_nothing_between,
        security::capabilities_are_what_was_asked_for,
        security::no_new_privileges_holds,
        seccomp::filters_are_for_execs_and_outlive_the_daemon,
        namespaces::the_nodes_pid_namespace,
        namespaces::host_names,
        hooks::an_external_runtime_runs_them,
    ]);
    cases.extend(with_runtimes![sharing processes:
        namespaces::the_pods_pid_namespace,
        namespaces::another_containers_pid_namespace,
        supervisor_death::only_the_pod_of_a_killed_supervisor_ends,
    ]);
    // crun gives EPERM for system calls that are newer than the profile.
    cases.push(with!(
        "runc",
        seccomp::the_default_profile_refuses_what_programs_do_not_need
    ));
    cases
}

/// Has all pods of the node run by a runtime from now on.
pub(super) async fn use_runtime(node: &mut Node, name: &str) -> Outcome {
    let Some(program) = external_runtime(name) else {
        return skip(format!(
            "{name} is neither in /usr/bin (hack/packages) nor in INSULA_RUNTIMES, the directory that hack/peers/runtimes prints"
        ));
    };
    if node.handler != name {
        node.add_handler(name, &program)?;
    }
    name.clone_into(&mut node.handler);
    node.restart().await
}

/// youki 0.7 looks for its parent's cgroups under the id that this has in the PID namespace that it
/// has joined, in a procfs that shows another.
fn can_share_processes() -> Outcome {
    match Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        true => Ok(()),
        false => skip("youki cannot show cgroups of version 1 in a PID namespace that it joins"),
    }
}

/// Has all pods of the node run by a script, of which `$verb` is the command.
async fn use_script(node: &mut Node, name: &str, timeout: u32, script: &str) -> Outcome {
    let program = node.path(name);
    let begin = "#!/bin/sh\n\
        [ \"$1\" = --version ] && { echo \"runc version of a test\"; exit; }\n\
        [ \"$1\" = features ] && exit 1\n\
        for verb; do case $verb in create|start|delete) break;; esac; done\n";
    std::fs::write(&program, format!("{begin}{script}\n"))?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    node.add_handler(name, &program)?;
    let file = node.path("config.toml");
    let before = std::fs::read_to_string(&file)?;
    std::fs::write(file, format!("{before}timeout = {timeout}\n"))?;
    name.clone_into(&mut node.handler);
    node.restart().await
}

async fn a_name_for_the_native_runtime(node: &mut Node) -> Outcome {
    let file = node.path("config.toml");
    let before = std::fs::read_to_string(&file)?;
    std::fs::write(
        file,
        before + "\n[runtimes.test-handler]\ntype = \"native\"\n",
    )?;
    node.restart().await?;
    "test-handler".clone_into(&mut node.handler);
    let pod = node.run_pod(host_pod("named")).await?;
    let id = node.run(&pod, sleeper("main")).await?;
    check_eq!(
        node.shell(&id, "echo works").await?.as_str(),
        "works\n",
        "an exec"
    );
    let status = node.pod_status(&pod.id).await?;
    check_eq!(
        status.runtime_handler.as_str(),
        "test-handler",
        "the handler in the status"
    );
    let status = node.runtime()?.status(StatusRequest::default()).await?;
    let handlers = status.into_inner().runtime_handlers;
    let of = |name: &str| {
        handlers
            .iter()
            .find(|it| it.name == name)
            .and_then(|it| it.features)
    };
    check!(of("").is_some(), "the default handler is not in the status");
    check_eq!(
        of("test-handler"),
        of(""),
        "features of the native runtime's other name"
    );
    Ok(())
}

async fn an_unknown_handler_is_refused(node: &mut Node) -> Outcome {
    "kata".clone_into(&mut node.handler);
    let refusal = node.refused_pod(host_pod("unknown")).await?;
    check_contains!(refusal, "InvalidArgument: ");
    check_contains!(refusal, "\"kata\" is not configured");
    check_contains!(refusal, "\"native\"");
    Ok(())
}

async fn a_missing_program_is_told_and_its_pods_are_refused(node: &mut Node) -> Outcome {
    node.add_handler("gone", Path::new("/nowhere/gone"))?;
    node.restart().await?;
    check_contains!(node.log(), "a runtime handler cannot be used");
    "gone".clone_into(&mut node.handler);
    let refusal = node.refused_pod(host_pod("gone")).await?;
    check_contains!(refusal, "FailedPrecondition: ");
    check_contains!(refusal, "/nowhere/gone: No such file or directory");
    let request = StatusRequest { verbose: true };
    let status = node.runtime()?.status(request).await?.into_inner();
    let doctor = status.info.get("doctor").cloned().unwrap_or_default();
    check_contains!(doctor, "runtime handler gone");
    Ok(())
}

async fn a_runtime_that_fails_is_quoted(node: &mut Node) -> Outcome {
    use_script(node, "failing", 30, "echo 'no such luck' >&2; exit 3").await?;
    node.pull(BUSYBOX).await?;
    let pod = node.run_pod(host_pod("failing")).await?;
    let refusal = node.refused_container(&pod, sleeper("main")).await?;
    check_contains!(refusal, "failing create: no such luck");
    check_eq!(
        node.containers().await?.len(),
        0,
        "containers that are left"
    );
    Ok(())
}

async fn a_runtime_that_hangs_is_killed(node: &mut Node) -> Outcome {
    use_script(node, "hanging", 1, "sleep 7654 & sleep 7654").await?;
    node.pull(BUSYBOX).await?;
    let pod = node.run_pod(host_pod("hanging")).await?;
    let refusal = node.refused_container(&pod, sleeper("main")).await?;
    check_contains!(
        refusal,
        "hanging create: it did not end within 1000 ms and was killed"
    );
    let left: Vec<_> = ps::all()
        .into_iter()
        .filter(|process| process.command.contains("sleep 7654"))
        .collect();
    check!(
        left.is_empty(),
        "what the runtime has started lives: {left:?}"
    );
    Ok(())
}

async fn what_an_external_runtime_cannot_do_is_refused(node: &mut Node) -> Outcome {
    use_runtime(node, "crun").await?;
    let status = node.runtime()?.status(StatusRequest::default()).await?;
    let handlers = status.into_inner().runtime_handlers;
    let crun = handlers.iter().find(|handler| handler.name == "crun");
    let features = crun.and_then(|handler| handler.features);
    check!(
        features.is_some_and(|features| !features.user_namespaces),
        "features of crun: {features:?}"
    );
    let refusal = node.refused_pod(mapped_pod(pod("mapped"))).await?;
    check_contains!(refusal, "InvalidArgument: ");
    check_contains!(refusal, "no user namespaces of their own");
    use_script(node, "vm", 30, "exit 1").await?;
    let program = node.path("vm");
    std::fs::write(
        &program,
        "#!/bin/sh\n[ $1 = --version ] && echo vm 1 || echo '{}'\n",
    )?;
    node.restart().await?;
    let refusal = node.refused_pod(host_pod("vm")).await?;
    check_contains!(
        refusal,
        "does not say that its containers are Linux namespaces"
    );
    Ok(())
}

async fn crun_leaves_nothing_when_its_supervisor_is_killed(node: &mut Node) -> Outcome {
    use_runtime(node, "crun").await?;
    a_killed_supervisor_leaves_nothing(node).await
}

async fn runc_leaves_nothing_when_its_supervisor_is_killed(node: &mut Node) -> Outcome {
    use_runtime(node, "runc").await?;
    a_killed_supervisor_leaves_nothing(node).await
}

/// The runtime's own state goes with the mount namespace that it is in; that
/// nothing else is left is proved when the node is taken down.
async fn a_killed_supervisor_leaves_nothing(node: &mut Node) -> Outcome {
    let pod = node.run_pod(pod("killed")).await?;
    let id = node.run(&pod, sleeper("main")).await?;
    let created = node.create(&pod, sleeper("created")).await?;
    kill_daemon_and_supervisor(node, &pod, &[&id, &created]).await
}

/// Afterwards the containers are known to have been killed, and the process of the first is gone.
pub(super) async fn kill_daemon_and_supervisor(
    node: &mut Node,
    pod: &Pod,
    containers: &[&str],
) -> Outcome {
    let pid = node.pid(containers[0]).await?;
    let supervisor = node.supervisor(pod).await?;
    node.kill()?;
    ps::kill(supervisor)?;
    node.start().await?;
    for container in containers {
        let status = node.wait_for_end(container).await?;
        check_eq!(status.state(), ContainerState::ContainerExited, "state");
        check_eq!(status.exit_code, 137, "exit code");
    }
    check!(ps::read(pid).is_none(), "the container's process lives");
    Ok(())
}

/// The start goes on after its container's end, with the runtime's hooks; who removes the container
/// meanwhile waits for it.
async fn a_start_is_over_when_its_runtime_says_so(node: &mut Node) -> Outcome {
    let Some(runc) = external_runtime("runc") else {
        return skip("runc is neither in /usr/bin (hack/packages) nor in INSULA_RUNTIMES");
    };
    let calls = node.path("calls");
    let wrapper = format!(
        "{} \"$@\"; code=$?; [ $verb != start ] || sleep 0.2; echo $verb >> {}; exit $code",
        runc.display(),
        calls.display()
    );
    use_script(node, "slow", 30, &wrapper).await?;
    node.pull(BUSYBOX).await?;
    let pod = node.run_pod(host_pod("slow")).await?;
    for round in 0..10 {
        let name = format!("round-{round}");
        let id = match round % 2 {
            0 => node.run(&pod, sleeper(&name)).await?,
            _ => node.run(&pod, script(&name, "exit 0")).await?,
        };
        if round % 2 == 0 {
            let ran = std::fs::read_to_string(&calls)?;
            check_eq!(ran, "create\nstart\n", "calls before StartContainer ended");
        }
        node.remove(&id).await?;
        let ran = std::fs::read_to_string(&calls)?;
        check_eq!(ran, "create\nstart\ndelete\n", "calls of a container");
        std::fs::remove_file(&calls)?;
    }
    Ok(())
}
