//! Letting a created container run.

use super::{Container, end, external};
use crate::env::Pod;
use crate::error::{Error, Result};
use crate::files;
use crate::hooks;
use crate::link::{Link, Refused, unexpected};
use crate::records::End;
use crate::status::ExitReason;
use insula_wire::Hook;
use insula_wire::message::{Answer, FailureKind, Request};
use std::sync::Arc;

/// A container runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Started {
    pub(crate) pid: i32,
    /// Nanoseconds since the epoch.
    pub(crate) at: i64,
}

/// A container that did not start has ended.
#[derive(Debug, Clone)]
pub(crate) struct NotStarted {
    pub(crate) error: Error,
    pub(crate) end: End,
}

/// Sends the byte that the blocked child waits for.
pub(crate) async fn start(
    pod: Arc<Pod>,
    link: Arc<Link>,
    container: Arc<Container>,
) -> std::result::Result<Started, Box<NotStarted>> {
    let stage = format!("start container {}", container.id);
    let request = Request::Start {
        container_id: container.id.to_string(),
    };
    let deadline = external::deadline(&pod, &container.plan)
        + Hook::total(&container.plan.hooks.start_container);
    match link.try_ask(&stage, request, &[], deadline).await {
        Ok(Ok((Answer::Started { pid, started_at }, _))) => {
            hooks::after_start(&container.plan, pid).await;
            Ok(Started {
                pid,
                at: started_at,
            })
        }
        Ok(Ok((other, _))) => Err(NotStarted::new(
            ExitReason::StartError,
            unexpected(&stage, &other),
        )),
        Ok(Err(Refused::Failure(failure))) => {
            let reason = match failure.kind {
                FailureKind::ProgramNotFound | FailureKind::ProgramNotExecutable => {
                    ExitReason::ContainerCannotRun
                }
                _ => ExitReason::StartError,
            };
            let error = Error::CannotRun {
                container: container.id.to_string(),
                message: failure.to_string(),
            };
            Err(NotStarted::new(reason, error))
        }
        Ok(Err(lost)) => Err(unknown(&pod, &container, lost.into_error(&stage)).await),
        Err(error) => Err(unknown(&pod, &container, error).await),
    }
}

/// Nobody knows whether it runs. It is killed, so that it certainly does not.
async fn unknown(pod: &Pod, container: &Container, error: Error) -> Box<NotStarted> {
    if let Err(also) = end::kill_group(pod, container).await {
        tracing::error!(container = %container.id, error = %also, "cannot kill a container of which it is not known whether it was started");
    }
    NotStarted::new(ExitReason::StartError, error)
}

// === impl NotStarted ===

impl NotStarted {
    #[expect(
        clippy::unnecessary_box_returns,
        reason = "its users hold it boxed: results stay small"
    )]
    fn new(reason: ExitReason, error: Error) -> Box<Self> {
        let end = End {
            code: 128,
            finished_at: files::now(),
            reason,
            message: error.to_string(),
        };
        Box::new(Self { error, end })
    }
}

/// Whether a container's PID namespace can be joined.
pub(crate) fn check_target(target: Option<&Arc<Container>>, running: bool, id: &str) -> Result<()> {
    match target {
        Some(_) if running => Ok(()),
        Some(_) => Err(Error::FailedPrecondition(format!(
            "container {id}, whose PID namespace is to be joined, is not running"
        ))),
        None => Err(Error::InvalidArgument(format!(
            "container {id}, whose PID namespace is to be joined, is not in this pod"
        ))),
    }
}
