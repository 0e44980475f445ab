//! `insula events`.

use std::process::ExitCode;

use insula_cri_api::v1::{ContainerEventResponse, ContainerEventType, GetEventsRequest};
use serde::Serialize;

use super::Outcome;
use super::connection::{QUESTION, answer};
use super::error::ClientError;
use super::output::print;
use super::session::Session;
use super::table::short_id;
use super::time::Moment;
use crate::cli::Format;

/// One event, as JSON shows it.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Shown {
    time: Option<String>,
    event: &'static str,
    /// `pod` or `container`.
    kind: &'static str,
    namespace: String,
    pod: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    container: String,
    id: String,
    pod_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
}

/// Prints events as they come, one on a line, until the daemon or the person
/// ends it.
pub(crate) async fn events(session: &Session) -> Outcome {
    let mut runtime = session.client.runtime();
    let doing = "listen to events";
    let mut stream = answer(
        doing,
        QUESTION,
        runtime.get_container_events(GetEventsRequest {}),
    )
    .await?;
    loop {
        let next = tokio::select! {
            next = stream.message() => next,
            interrupted = tokio::signal::ctrl_c() => {
                return match interrupted {
                    Ok(()) => Ok(ExitCode::SUCCESS),
                    Err(source) => Err(ClientError::File {
                        doing: "wait for Ctrl-C".into(),
                        source,
                    }),
                };
            }
        };
        let event = next.map_err(|status| ClientError::Refused {
            doing: doing.to_owned(),
            status: Box::new(status),
        })?;
        let Some(event) = event else {
            return Ok(ExitCode::SUCCESS);
        };
        let shown = Shown::new(&event);
        print(&match session.format {
            Format::Json => shown.json()?,
            Format::Table => shown.line(),
        })?;
    }
}

impl Shown {
    fn new(event: &ContainerEventResponse) -> Self {
        let pod = event.pod_sandbox_status.clone().unwrap_or_default();
        let status = event
            .containers_statuses
            .iter()
            .find(|status| status.id == event.container_id);
        let stopped = event.container_event_type() == ContainerEventType::ContainerStoppedEvent;
        let metadata = pod.metadata.unwrap_or_default();
        let container = status.and_then(|status| status.metadata.as_ref());
        Self {
            time: Moment::of_cri(event.created_at).map(Moment::to_rfc3339),
            event: match event.container_event_type() {
                ContainerEventType::ContainerCreatedEvent => "created",
                ContainerEventType::ContainerStartedEvent => "started",
                ContainerEventType::ContainerStoppedEvent => "stopped",
                ContainerEventType::ContainerDeletedEvent => "deleted",
            },
            kind: if event.container_id == pod.id {
                "pod"
            } else {
                "container"
            },
            namespace: metadata.namespace,
            pod: metadata.name,
            container: container.map_or_else(String::new, |metadata| metadata.name.clone()),
            id: event.container_id.clone(),
            pod_id: pod.id,
            exit_code: status.filter(|_| stopped).map(|status| status.exit_code),
        }
    }

    /// One line, so that a program can read them as they come.
    fn json(&self) -> Result<String, ClientError> {
        let text = serde_json::to_string(self).map_err(|error| ClientError::File {
            doing: "write JSON".into(),
            source: error.into(),
        })?;
        Ok(text + "\n")
    }

    fn line(&self) -> String {
        let time = self.time.as_deref().unwrap_or("-");
        let name = if self.container.is_empty() {
            format!("{}/{}", self.namespace, self.pod)
        } else {
            format!("{}/{}/{}", self.namespace, self.pod, self.container)
        };
        let code = self
            .exit_code
            .map_or_else(String::new, |code| format!(", exit code {code}"));
        let (event, kind, id) = (self.event, self.kind, short_id(&self.id));
        format!("{time}  {event:<8} {kind:<10} {id}  {name}{code}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::Shown;
    use insula_cri_api::v1::{
        ContainerEventResponse, ContainerEventType, ContainerMetadata, ContainerStatus,
        PodSandboxMetadata, PodSandboxStatus,
    };

    fn event(id: &str, kind: ContainerEventType) -> ContainerEventResponse {
        ContainerEventResponse {
            container_id: id.into(),
            container_event_type: kind as i32,
            created_at: 1_000_000,
            pod_sandbox_status: Some(PodSandboxStatus {
                id: "pod0123456789abcdef".into(),
                metadata: Some(PodSandboxMetadata {
                    name: "web".into(),
                    namespace: "default".into(),
                    ..PodSandboxMetadata::default()
                }),
                ..PodSandboxStatus::default()
            }),
            containers_statuses: vec![ContainerStatus {
                id: "container0123456789".into(),
                metadata: Some(ContainerMetadata {
                    name: "main".into(),
                    attempt: 0,
                }),
                exit_code: 7,
                ..ContainerStatus::default()
            }],
        }
    }

    #[test]
    fn a_line_says_what_happened_to_whom() {
        use ContainerEventType::{
            ContainerDeletedEvent, ContainerStartedEvent, ContainerStoppedEvent,
        };
        for (id, kind, expected) in [
            (
                "pod0123456789abcdef",
                ContainerStartedEvent,
                "started  pod        pod012345678  default/web\n",
            ),
            (
                "container0123456789",
                ContainerStoppedEvent,
                "stopped  container  container012  default/web/main, exit code 7\n",
            ),
            (
                "gone0123456789",
                ContainerDeletedEvent,
                "deleted  container  gone01234567  default/web\n",
            ),
        ] {
            let line = Shown::new(&event(id, kind)).line();
            assert_eq!(line, format!("1970-01-01T00:00:00.001Z  {expected}"));
        }
    }
}
