//! `insula stop` and `insula rm`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use insula_apps::annotation;
use insula_cri_api::v1::{Container, ContainerState, PodSandbox, PodSandboxState};

use super::Outcome;
use super::connection::Client;
use super::error::ClientError;
use super::names::{Inventory, Selection, pod_name};
use super::output::print;
use super::session::Session;
use crate::cli::{Rm, Stop};

/// Grace period in seconds of a pod that does not say, as kubelet's is for its pods.
const DEFAULT_GRACE: u32 = 30;
/// Where the logs of pods are.
const LOG_ROOT: &str = "/var/log/pods";

/// Stops apps, pods and containers, and prints each name when it has stopped.
pub(crate) async fn stop(session: &Session, args: &Stop) -> Outcome {
    let inventory = Inventory::load(&session.client).await?;
    for (name, selection) in selected(&inventory, &args.names, args.all)? {
        match selection {
            Selection::Container(container) => {
                let grace = args.timeout.unwrap_or(DEFAULT_GRACE);
                session.client.stop_container(&container.id, grace).await?;
            }
            Selection::Pods(pods) => {
                for pod in pods {
                    stop_pod(&session.client, &inventory, pod, args.timeout).await?;
                }
            }
        }
        print(&format!("{name}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes apps, pods and containers, and prints each name when it is gone.
pub(crate) async fn rm(session: &Session, args: &Rm) -> Outcome {
    let inventory = Inventory::load(&session.client).await?;
    for (name, selection) in selected(&inventory, &args.names, args.all)? {
        match selection {
            Selection::Container(container) => {
                let running = container.state() == ContainerState::ContainerRunning;
                refuse_running(name, running && !args.force)?;
                session.client.remove_container(&container.id).await?;
            }
            Selection::Pods(pods) => {
                let running = pods.iter().any(|pod| {
                    pod.state() == PodSandboxState::SandboxReady && runs(&inventory, pod)
                });
                refuse_running(name, running && !args.force)?;
                for pod in pods {
                    session.client.stop_pod(&pod.id).await?;
                    remove_pod(&session.client, pod).await?;
                }
            }
        }
        print(&format!("{name}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the names mean, or every pod there is.
fn selected<'a>(
    inventory: &'a Inventory,
    names: &'a [String],
    all: bool,
) -> Result<Vec<(&'a str, Selection<'a>)>, ClientError> {
    if all {
        let pods = inventory.pods.iter();
        return Ok(pods
            .map(|pod| (pod_name(pod), Selection::Pods(vec![pod])))
            .collect());
    }
    let named = names.iter().map(|name| {
        let selection = inventory.select(name)?;
        Ok((name.as_str(), selection))
    });
    named.collect()
}

fn refuse_running(name: &str, refuse: bool) -> Result<(), ClientError> {
    if refuse {
        return Err(ClientError::Usage(format!(
            "{name} is running: stop it first (insula stop {name}), or use --force"
        )));
    }
    Ok(())
}

fn runs(inventory: &Inventory, pod: &PodSandbox) -> bool {
    inventory
        .containers_of(pod)
        .any(|container| container.state() == ContainerState::ContainerRunning)
}

/// Stops a pod's containers, each with its grace period, and the pod.
pub(crate) async fn stop_pod(
    client: &Client,
    inventory: &Inventory,
    pod: &PodSandbox,
    grace: Option<u32>,
) -> Result<(), ClientError> {
    let grace = grace.unwrap_or_else(|| grace_of(pod));
    let running: Vec<&Container> = inventory
        .containers_of(pod)
        .filter(|container| container.state() == ContainerState::ContainerRunning)
        .collect();
    futures_util::future::try_join_all(
        running
            .iter()
            .map(|container| client.stop_container(&container.id, grace)),
    )
    .await?;
    client.stop_pod(&pod.id).await
}

/// Removes a stopped pod, and its log directory if it is an app's.
pub(crate) async fn remove_pod(client: &Client, pod: &PodSandbox) -> Result<(), ClientError> {
    client.remove_pod(&pod.id).await?;
    let Some(directory) = log_directory(pod) else {
        return Ok(());
    };
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(ClientError::file(format!("remove {}", directory.display()))(error));
        }
        _ => {}
    }
    // Goes only if nobody else has logs there; whoever needs it makes it again.
    let _ = fs::remove_dir(LOG_ROOT);
    Ok(())
}

fn grace_of(pod: &PodSandbox) -> u32 {
    pod.annotations
        .get(annotation::KILL_GRACE_SECONDS)
        .and_then(|text| text.parse().ok())
        .unwrap_or(DEFAULT_GRACE)
}

/// The log directory that `insula run` gave a pod; `None` for pods of others, whose logs are
/// theirs to keep.
fn log_directory(pod: &PodSandbox) -> Option<PathBuf> {
    let metadata = pod.metadata.as_ref()?;
    let plain = |text: &str| !text.is_empty() && !text.contains('/');
    if metadata.namespace != "insula"
        || !pod.labels.contains_key(insula_apps::label::APP_ID)
        || !plain(&metadata.name)
        || !plain(&metadata.uid)
    {
        return None;
    }
    Some(format!("{LOG_ROOT}/insula_{}_{}", metadata.name, metadata.uid).into())
}

#[cfg(test)]
mod tests {
    use insula_cri_api::v1::PodSandboxMetadata;

    use super::*;

    #[test]
    fn log_directories() {
        let pod = |namespace: &str, name: &str, app: bool| PodSandbox {
            metadata: Some(PodSandboxMetadata {
                name: name.into(),
                uid: "u1".into(),
                namespace: namespace.into(),
                attempt: 0,
            }),
            labels: if app {
                [(insula_apps::label::APP_ID.to_owned(), "/redis".to_owned())].into()
            } else {
                std::collections::BTreeMap::new()
            },
            ..Default::default()
        };
        for (pod, want) in [
            (
                pod("insula", "redis", true),
                Some("/var/log/pods/insula_redis_u1"),
            ),
            (pod("insula", "redis", false), None),
            (pod("default", "redis", true), None),
            (pod("insula", "../x", true), None),
            (pod("insula", "", true), None),
        ] {
            assert_eq!(log_directory(&pod), want.map(PathBuf::from));
        }
    }

    #[test]
    fn grace_periods() {
        let with = |text: &str| PodSandbox {
            annotations: [(annotation::KILL_GRACE_SECONDS.to_owned(), text.to_owned())].into(),
            ..Default::default()
        };
        assert_eq!(grace_of(&with("3")), 3);
        assert_eq!(grace_of(&with("-3")), DEFAULT_GRACE);
        assert_eq!(grace_of(&PodSandbox::default()), DEFAULT_GRACE);
    }
}
