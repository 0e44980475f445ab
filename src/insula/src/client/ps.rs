//! `insula ps`.

use std::process::ExitCode;

use futures_util::future::try_join_all;
use insula_apps::annotation;
use insula_cri_api::v1::{
    Container, ContainerState, ContainerStatus, PodSandbox, PodSandboxState, PodSandboxStatus,
};
use serde::Serialize;

use super::Outcome;
use super::connection::Client;
use super::error::ClientError;
use super::names::{Inventory, container_name, pod_name};
use super::output::{print, print_json};
use super::session::Session;
use super::table::{Table, short_id};
use super::time::Moment;
use crate::cli::{Format, Ps};

/// A container, or a pod without one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    pod: String,
    namespace: String,
    container: String,
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    created: Option<String>,
    #[serde(skip)]
    created_at: Option<Moment>,
    ip: String,
    ports: String,
    image: String,
    container_id: String,
    pod_id: String,
}

/// Lists containers with their pods.
pub(crate) async fn ps(session: &Session, args: &Ps) -> Outcome {
    let inventory = Inventory::load(&session.client).await?;
    let pods: Vec<&PodSandbox> = inventory
        .pods
        .iter()
        .filter(|pod| args.all || pod.state() == PodSandboxState::SandboxReady)
        .collect();
    let statuses =
        try_join_all(pods.iter().map(|pod| pod_status(&session.client, &pod.id))).await?;

    let mut rows = Vec::new();
    for (pod, status) in pods.iter().zip(&statuses) {
        let mut alone = true;
        for container in inventory.containers_of(pod) {
            let ended = container.state() == ContainerState::ContainerExited;
            if ended && !args.all {
                continue;
            }
            alone = false;
            let detail = if ended {
                container_status(&session.client, &container.id).await?
            } else {
                None
            };
            rows.push(row(
                pod,
                status.as_ref(),
                Some((container, detail.as_ref())),
            ));
        }
        if alone {
            rows.push(row(pod, status.as_ref(), None));
        }
    }
    rows.sort_by(|a, b| {
        (&a.namespace, &a.pod, a.created_at).cmp(&(&b.namespace, &b.pod, b.created_at))
    });
    match session.format {
        Format::Json => print_json(&rows)?,
        Format::Table => print(&table(&rows, Moment::now()))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A pod that was removed meanwhile has no status.
async fn pod_status(client: &Client, id: &str) -> Result<Option<PodSandboxStatus>, ClientError> {
    match client.pod_status(id, false).await {
        Ok(answer) => Ok(answer.status),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn container_status(
    client: &Client,
    id: &str,
) -> Result<Option<ContainerStatus>, ClientError> {
    match client.container_status(id, false).await {
        Ok(answer) => Ok(answer.status),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn row(
    pod: &PodSandbox,
    status: Option<&PodSandboxStatus>,
    container: Option<(&Container, Option<&ContainerStatus>)>,
) -> Row {
    let created_at = Moment::of_cri(container.map_or(pod.created_at, |(c, _)| c.created_at));
    let image = container.map_or("", |(container, _)| image_name(container));
    Row {
        pod: pod_name(pod).to_owned(),
        namespace: pod
            .metadata
            .as_ref()
            .map(|metadata| metadata.namespace.clone())
            .unwrap_or_default(),
        container: container.map_or("", |(c, _)| container_name(c)).to_owned(),
        state: container.map_or_else(
            || pod_state(pod.state()).to_owned(),
            |(c, detail)| state(c, detail),
        ),
        exit_code: container
            .and_then(|(_, detail)| detail)
            .map(|detail| detail.exit_code),
        created: created_at.map(Moment::to_rfc3339),
        created_at,
        ip: status
            .and_then(|status| status.network.as_ref())
            .map(|network| network.ip.clone())
            .unwrap_or_default(),
        ports: pod
            .annotations
            .get(annotation::PORTS)
            .cloned()
            .unwrap_or_default(),
        image: image.to_owned(),
        container_id: container.map_or("", |(c, _)| &c.id).to_owned(),
        pod_id: pod.id.clone(),
    }
}

/// What the person asked for, if it is known, or what the container was made from.
fn image_name(container: &Container) -> &str {
    container.image.as_ref().map_or("", |image| {
        if image.user_specified_image.is_empty() {
            &image.image
        } else {
            &image.user_specified_image
        }
    })
}

fn pod_state(state: PodSandboxState) -> &'static str {
    match state {
        PodSandboxState::SandboxReady => "Ready",
        PodSandboxState::SandboxNotready => "NotReady",
    }
}

fn state(container: &Container, detail: Option<&ContainerStatus>) -> String {
    match (container.state(), detail) {
        (ContainerState::ContainerCreated, _) => "Created".to_owned(),
        (ContainerState::ContainerRunning, _) => "Running".to_owned(),
        (ContainerState::ContainerExited, Some(detail)) => {
            let reason = match detail.reason.as_str() {
                "" | "Completed" | "Error" => "Exited",
                other => other,
            };
            format!("{reason} ({})", detail.exit_code)
        }
        (ContainerState::ContainerExited, None) => "Exited".to_owned(),
        (ContainerState::ContainerUnknown, _) => "Unknown".to_owned(),
    }
}

fn table(rows: &[Row], now: Moment) -> String {
    let mut table = Table::new([
        "POD",
        "CONTAINER",
        "STATE",
        "AGE",
        "IP",
        "PORTS",
        "IMAGE",
        "CONTAINER ID",
        "POD ID",
    ]);
    for row in rows {
        let image = if row.image.starts_with("sha256:") {
            short_id(&row.image)
        } else {
            row.image.clone()
        };
        table.row([
            row.pod.clone(),
            row.container.clone(),
            row.state.clone(),
            row.created_at
                .map_or_else(|| "-".to_owned(), |created| created.age(now)),
            dash(&row.ip),
            dash(&row.ports),
            dash(&image),
            dash(&short_id(&row.container_id)),
            short_id(&row.pod_id),
        ]);
    }
    table.to_string()
}

fn dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

#[cfg(test)]
mod tests {
    use insula_cri_api::v1::{ContainerMetadata, ImageSpec, PodSandboxMetadata};

    use super::*;

    #[test]
    fn rows_and_table() {
        let pod = PodSandbox {
            id: "aabbccddeeff00112233".into(),
            metadata: Some(PodSandboxMetadata {
                name: "redis".into(),
                namespace: "insula".into(),
                ..Default::default()
            }),
            created_at: 1_000_000_000,
            annotations: [(annotation::PORTS.to_owned(), "6379->6379/tcp".to_owned())].into(),
            ..Default::default()
        };
        let mut container = Container {
            id: "0123456789abcdef".into(),
            metadata: Some(ContainerMetadata {
                name: "redis".into(),
                attempt: 0,
            }),
            image: Some(ImageSpec {
                image: "sha256:0123".into(),
                user_specified_image: "redis".into(),
                ..Default::default()
            }),
            created_at: 2_000_000_000,
            ..Default::default()
        };
        container.set_state(ContainerState::ContainerExited);
        let detail = ContainerStatus {
            exit_code: 137,
            reason: "OOMKilled".into(),
            ..Default::default()
        };
        let rows = [
            row(&pod, None, Some((&container, Some(&detail)))),
            row(&pod, None, None),
        ];
        let now = Moment::of_cri(302_000_000_000).expect("a time");
        assert_eq!(
            table(&rows, now),
            "POD     CONTAINER   STATE             AGE   IP   PORTS            IMAGE   CONTAINER ID   POD ID\n\
             redis   redis       OOMKilled (137)   5m    -    6379->6379/tcp   redis   0123456789ab   aabbccddeeff\n\
             redis               Ready             5m    -    6379->6379/tcp   -       -              aabbccddeeff\n"
        );
        let json = serde_json::to_value(&rows[0]).expect("JSON");
        assert_eq!(json["exit_code"], 137);
        assert_eq!(json["created"], "1970-01-01T00:00:02.000Z");
    }
}
