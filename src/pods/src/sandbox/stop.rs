//! Stopping and removing a pod.

use super::phases::{detach, release, wait_for_end};
use crate::container::{Container, end};
use crate::env::Pod;
use crate::error::{Error, Result};
use crate::files::{self, blocking};
use crate::link::Link;
use futures_util::future::join_all;
use insula_wire::message::Request;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

/// What there is of a pod that is to be stopped.
#[derive(Debug)]
pub(crate) struct Remains {
    pub(crate) containers: Vec<Arc<Container>>,
    /// `None` when the supervisor is gone.
    pub(crate) link: Option<Arc<Link>>,
    /// The supervisor's; `None` when it is gone.
    pub(crate) process: Option<Arc<OwnedFd>>,
    /// Groups that were made around the containers', outermost first.
    pub(crate) made_cgroups: Vec<String>,
}

/// Kills all containers, detaches the pod from the network, and ends the
/// supervisor. Idempotent; goes on after an error and gives back the first.
pub(crate) async fn stop(pod: Arc<Pod>, remains: Arc<Remains>) -> Result<()> {
    let mut errors = Errors::new(&pod);
    let link = remains.link.as_deref();
    let ends = remains.containers.iter().map(|container| async {
        end::kill(&pod, link, container).await?;
        end::remove_group(&pod, container).await
    });
    for result in join_all(ends).await {
        errors.note("container", result);
    }
    if errors.first.is_some() {
        // A process that may still run keeps its network and its supervisor.
        return errors.into_result();
    }
    errors.note("network", detach(&pod).await);
    if errors.first.is_none() {
        errors.note("network namespace", release(&pod).await);
    }
    errors.note("supervisor", end_supervisor(&pod, &remains).await);
    let (host, groups) = (Arc::clone(&pod.env.host), remains.made_cgroups.clone());
    let stage = "remove the groups around the containers'";
    let deadline = pod.env.config.deadlines.supervisor;
    let removed = blocking(stage, deadline, move || {
        for group in groups.iter().rev() {
            // One that is in use is kubelet's or another pod's by now.
            if !host.remove_empty_group(group) {
                break;
            }
        }
        Ok(())
    });
    errors.note("groups", removed.await);
    errors.into_result()
}

/// Stops a pod and removes all that belongs to it; its directory, with the
/// records by which the rest is found again, last.
pub(crate) async fn remove(pod: Arc<Pod>, remains: Arc<Remains>) -> Result<()> {
    let mut errors = Errors::new(&pod);
    let link = &remains.link;
    let removals = remains
        .containers
        .iter()
        .map(|container| end::remove(Arc::clone(&pod), link.clone(), Arc::clone(container)));
    for result in join_all(removals).await {
        errors.note("container", result);
    }
    if errors.first.is_none() {
        // The containers are gone; what is left is the pod's own.
        let rest = Remains {
            containers: Vec::new(),
            link: remains.link.clone(),
            process: remains.process.clone(),
            made_cgroups: remains.made_cgroups.clone(),
        };
        errors.note("pod", stop(Arc::clone(&pod), Arc::new(rest)).await);
    }
    if errors.first.is_none() {
        let directory = pod.directory.path().to_owned();
        let deadline = pod.env.config.deadlines.service;
        let stage = format!("remove the directory of pod {}", pod.id);
        errors.note(
            "directory",
            blocking(stage, deadline, move || files::remove_tree(&directory)).await,
        );
    }
    errors.into_result()
}

/// Asks the supervisor to end, and kills it if it does not.
async fn end_supervisor(pod: &Pod, remains: &Remains) -> Result<()> {
    let Some(process) = &remains.process else {
        return Ok(());
    };
    let deadlines = pod.env.config.deadlines;
    let asked = match &remains.link {
        Some(link) => {
            link.ask(
                "end the supervisor",
                Request::Shutdown,
                &[],
                deadlines.supervisor,
            )
            .await
        }
        None => Err(Error::internal("end the supervisor", "it is not connected")),
    };
    // It may end before its answer is read.
    tracing::debug!(pod = %pod.id, ?asked, "asked the supervisor to end");
    if wait_for_end(pod, process, deadlines.kill / 4)
        .await
        .is_err()
    {
        tracing::warn!(pod = %pod.id, ?asked, "the supervisor did not end by itself and is killed");
        pod.env.host.kill_process(process.as_fd())?;
        wait_for_end(pod, process, deadlines.kill).await?;
    }
    pod.env.host.reap(process.as_fd());
    Ok(())
}

/// Keeps the first error and logs each.
struct Errors<'a> {
    pod: &'a Pod,
    first: Option<Error>,
}

impl<'a> Errors<'a> {
    fn new(pod: &'a Pod) -> Self {
        Self { pod, first: None }
    }

    fn note(&mut self, what: &str, result: Result<()>) {
        if let Err(error) = result {
            tracing::warn!(pod = %self.pod.id, what, %error, "cannot end");
            self.first.get_or_insert(error);
        }
    }

    fn into_result(self) -> Result<()> {
        self.first.map_or(Ok(()), Err)
    }
}
