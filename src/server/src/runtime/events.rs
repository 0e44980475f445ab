//! Events of pods and containers, for evented kubelets (KEP-3386) and people.

use crate::convert::status as show;
use crate::errors::Error;
use crate::pieces::Pieces;
use crate::service::Service;
use futures_util::stream;
use insula_cri_api::v1::{ContainerEventResponse, ContainerEventType};
use insula_pods::events::Ended;
use insula_pods::{Event, EventKind, Events};
use tonic::Status;

/// Every event from now on, each with the whole pod, until the client goes
/// away, does not keep up, or the daemon stops.
pub(super) fn listen(service: &Service) -> Result<Pieces<ContainerEventResponse>, Error> {
    let events = service.pods().events()?;
    Ok(Box::pin(stream::unfold(Some(events), next)))
}

async fn next(
    events: Option<Events>,
) -> Option<(Result<ContainerEventResponse, Status>, Option<Events>)> {
    let mut events = events?;
    match events.next().await {
        Ok(event) => Some((Ok(to_cri(&event)), Some(events))),
        Err(ended) => Some((Err(status(ended)), None)),
    }
}

fn status(ended: Ended) -> Status {
    match ended {
        Ended::Lagged => Status::resource_exhausted(ended.to_string()),
        Ended::Stopping => Status::unavailable(ended.to_string()),
    }
}

/// kubelet ignores an event without the pod's status.
fn to_cri(event: &Event) -> ContainerEventResponse {
    let kind = match event.kind {
        EventKind::Created => ContainerEventType::ContainerCreatedEvent,
        EventKind::Started => ContainerEventType::ContainerStartedEvent,
        EventKind::Stopped => ContainerEventType::ContainerStoppedEvent,
        EventKind::Deleted => ContainerEventType::ContainerDeletedEvent,
    };
    ContainerEventResponse {
        container_id: event.subject.clone(),
        container_event_type: kind as i32,
        created_at: event.at,
        pod_sandbox_status: Some(show::pod_status(&event.pod)),
        containers_statuses: show::container_statuses(&event.containers),
    }
}
