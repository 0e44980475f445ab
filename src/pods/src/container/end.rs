//! Ending a container, and removing what is left of one.

use super::{Container, external};
use crate::env::Pod;
use crate::error::{Error, Result};
use crate::files::{self, blocking};
use crate::hooks;
use crate::link::Link;
use insula_wire::message::Request;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Asks a container to end, and kills it when `until` has come, which may be
/// brought forward meanwhile. Nothing is held while waiting.
pub(crate) async fn stop(
    pod: Arc<Pod>,
    link: Arc<Link>,
    container: Arc<Container>,
    mut until: watch::Receiver<Instant>,
) -> Result<()> {
    if container.has_ended() {
        return Ok(());
    }
    if *until.borrow() > Instant::now() {
        let request = Request::Signal {
            container_id: container.id.to_string(),
            signal: container.plan.stop_signal,
        };
        let deadline = pod.env.config.deadlines.supervisor;
        let stage = format!("signal container {}", container.id);
        // Whatever came of it, the wait and then the kill decide.
        if let Err(error) = link.ask(&stage, request, &[], deadline).await {
            tracing::debug!(container = %container.id, %error, "stop signal");
        }
    }
    loop {
        let deadline = *until.borrow_and_update();
        tokio::select! {
            () = container.wait_for_end() => return Ok(()),
            () = tokio::time::sleep_until(deadline.into()) => break,
            changed = until.changed() => if changed.is_err() {
                break;
            },
        }
    }
    kill(&pod, Some(&link), &container).await
}

/// Kills all of a container and waits for its end. Without a supervisor its
/// cgroup is killed; the pod's owner then knows how it ended.
pub(crate) async fn kill(pod: &Pod, link: Option<&Link>, container: &Container) -> Result<()> {
    if container.has_ended() {
        return Ok(());
    }
    let begun = Instant::now();
    let deadlines = pod.env.config.deadlines;
    if let Some(link) = link {
        let request = Request::KillAll {
            container_id: container.id.to_string(),
        };
        let stage = format!("kill container {}", container.id);
        if let Err(error) = link.ask(&stage, request, &[], deadlines.supervisor).await {
            tracing::warn!(container = %container.id, %error, "the supervisor could not kill a container; its cgroup is killed");
        }
        if wait(container, deadlines.kill).await {
            return Ok(());
        }
    }
    kill_group(pod, container).await?;
    if link.is_none() || wait(container, deadlines.kill).await {
        return Ok(());
    }
    Err(Error::DeadlineExceeded {
        stage: format!("the end of container {} after SIGKILL", container.id),
        after: begun.elapsed(),
    })
}

/// Kills the processes in a container's cgroup.
pub(crate) async fn kill_group(pod: &Pod, container: &Container) -> Result<()> {
    let Some(group) = container.group.clone() else {
        return Ok(());
    };
    let deadline = pod.env.config.deadlines.kill;
    let stage = format!("kill the cgroup of container {}", container.id);
    blocking(stage, deadline * 2, move || group.kill(deadline)).await
}

/// Removes all there is of a container: processes, the supervisor's memory of
/// it, cgroup, volumes, root file system, directory. Goes on after an error
/// and gives back the first.
pub(crate) async fn remove(
    pod: Arc<Pod>,
    link: Option<Arc<Link>>,
    container: Arc<Container>,
) -> Result<()> {
    let id = &container.id;
    // Nothing else may be taken away while something of it may run.
    kill(&pod, link.as_deref(), &container).await?;
    let mut first: Option<Error> = None;
    let note = |first: &mut Option<Error>, what: &str, result: Result<()>| {
        if let Err(error) = result {
            tracing::warn!(container = %id, what, %error, "cannot remove");
            first.get_or_insert(error);
        }
    };
    if let Some(link) = link {
        let request = Request::Forget {
            container_id: id.to_string(),
        };
        let deadline = external::deadline(&pod, &container.plan);
        // One that it does not know is one it has forgotten.
        match link
            .try_ask("forget a container", request, &[], deadline)
            .await
        {
            Ok(answer) => tracing::trace!(?answer, "forgotten"),
            Err(error) => note(&mut first, "supervisor", Err(error)),
        }
    }
    note(&mut first, "cgroup", remove_group(&pod, &container).await);
    let volumes = pod.env.paths.container_volumes(id);
    let service = pod.env.config.deadlines.service;
    let stage = format!("remove the volumes of container {id}");
    note(
        &mut first,
        "volumes",
        blocking(stage, service, move || files::remove_tree(&volumes)).await,
    );
    note(&mut first, "rootfs", pod.env.images.remove_rootfs(id).await);
    if first.is_none() {
        hooks::after_removal(&container.plan).await;
        // Last, since it holds the record by which the rest is found again.
        note(
            &mut first,
            "directory",
            files::remove_tree(&pod.directory.container(id)),
        );
    }
    first.map_or(Ok(()), Err)
}

/// Kills what is left in a container's cgroup and removes it.
pub(crate) async fn remove_group(pod: &Pod, container: &Container) -> Result<()> {
    let Some(group) = container.group.clone() else {
        return Ok(());
    };
    let deadline = pod.env.config.deadlines.kill;
    let stage = format!("remove the cgroup of container {}", container.id);
    blocking(stage, deadline * 3, move || {
        group.kill(deadline)?;
        group.remove(deadline)
    })
    .await
}

async fn wait(container: &Container, deadline: Duration) -> bool {
    tokio::time::timeout(deadline, container.wait_for_end())
        .await
        .is_ok()
}
