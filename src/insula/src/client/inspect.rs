//! `insula inspect`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use insula_cri_api::v1::{ContainerState, ContainerStatus, PodSandboxStatus};
use serde_json::{Map, Value, json};

use super::Outcome;
use super::error::ClientError;
use super::names::{Inventory, Selection};
use super::output::print_json;
use super::session::Session;
use super::time::Moment;
use crate::cli::Inspect;

/// Prints everything about a container, or about a pod that has none.
pub(crate) async fn inspect(session: &Session, args: &Inspect) -> Outcome {
    let inventory = Inventory::load(&session.client).await?;
    let alone = match inventory.select(&args.name)? {
        Selection::Pods(pods) => match pods[..] {
            [pod] if inventory.containers_of(pod).next().is_none() => Some(&pod.id),
            _ => None,
        },
        Selection::Container(_) => None,
    };
    let part = match (args.plan, args.oci) {
        (true, _) => Some(("plan", "launch plan")),
        (_, true) => Some(("runtimeSpec", "OCI runtime specification")),
        (false, false) => None,
    };
    if let (Some(pod), None) = (alone, part) {
        print_json(&pod_document(session, pod).await?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let container = inventory.container(&args.name)?;
    let answer = session.client.container_status(&container.id, true).await?;
    if let Some((key, what)) = part {
        // Under `info` is what has the shape that other tools read.
        let shown = info(&answer.info);
        let Some(document) = shown.get(key).or_else(|| shown["info"].get(key)) else {
            return Err(ClientError::Usage(format!(
                "the daemon shows no {what} of {}: is it insula? (insula version)",
                args.name
            )));
        };
        print_json(document)?;
        return Ok(ExitCode::SUCCESS);
    }
    let status = answer.status.ok_or_else(|| ClientError::Incomplete {
        doing: format!("inspect {}", args.name),
        what: "status",
    })?;
    let document = json!({
        "container": container_document(&status),
        "pod": pod_document(session, &container.pod_sandbox_id).await?,
        "info": info(&answer.info),
    });
    print_json(&document)?;
    Ok(ExitCode::SUCCESS)
}

async fn pod_document(session: &Session, id: &str) -> Result<Value, ClientError> {
    let answer = session.client.pod_status(id, true).await?;
    let status = answer.status.ok_or_else(|| ClientError::Incomplete {
        doing: format!("inspect pod {id}"),
        what: "status",
    })?;
    Ok(pod_status(&status, &answer.info))
}

fn pod_status(status: &PodSandboxStatus, more: &BTreeMap<String, String>) -> Value {
    let metadata = status.metadata.clone().unwrap_or_default();
    let network = status.network.clone().unwrap_or_default();
    let addresses: Vec<&str> = std::iter::once(network.ip.as_str())
        .chain(network.additional_ips.iter().map(|ip| ip.ip.as_str()))
        .filter(|ip| !ip.is_empty())
        .collect();
    json!({
        "id": status.id,
        "name": metadata.name,
        "namespace": metadata.namespace,
        "uid": metadata.uid,
        "attempt": metadata.attempt,
        "state": status.state().as_str_name().trim_start_matches("SANDBOX_"),
        "created": moment(status.created_at),
        "addresses": addresses,
        "labels": status.labels,
        "annotations": status.annotations,
        "runtime_handler": status.runtime_handler,
        "info": info(more),
    })
}

fn container_document(status: &ContainerStatus) -> Value {
    let metadata = status.metadata.clone().unwrap_or_default();
    let mounts: Vec<Value> = status
        .mounts
        .iter()
        .map(|mount| {
            json!({
                "container_path": mount.container_path,
                "host_path": mount.host_path,
                "read_only": mount.readonly,
                "propagation": mount.propagation().as_str_name().trim_start_matches("PROPAGATION_"),
            })
        })
        .collect();
    let resources = status.resources.as_ref().and_then(|resources| {
        resources.linux.as_ref().map(|linux| {
            json!({
                "cpu_period": linux.cpu_period,
                "cpu_quota": linux.cpu_quota,
                "cpu_shares": linux.cpu_shares,
                "memory_limit_in_bytes": linux.memory_limit_in_bytes,
                "memory_swap_limit_in_bytes": linux.memory_swap_limit_in_bytes,
                "oom_score_adj": linux.oom_score_adj,
                "cpuset_cpus": linux.cpuset_cpus,
                "cpuset_mems": linux.cpuset_mems,
                "unified": linux.unified,
            })
        })
    });
    let user = status.user.as_ref().and_then(|user| {
        user.linux.as_ref().map(|linux| {
            json!({
                "uid": linux.uid,
                "gid": linux.gid,
                "supplemental_groups": linux.supplemental_groups,
            })
        })
    });
    let ended = status.state() == ContainerState::ContainerExited;
    json!({
        "id": status.id,
        "name": metadata.name,
        "attempt": metadata.attempt,
        "state": status.state().as_str_name().trim_start_matches("CONTAINER_"),
        "created": moment(status.created_at),
        "started": moment(status.started_at),
        "finished": moment(status.finished_at),
        "exit_code": ended.then_some(status.exit_code),
        "reason": status.reason,
        "message": status.message,
        "image": status.image.as_ref().map(|image| &image.image),
        "image_ref": status.image_ref,
        "image_id": status.image_id,
        "labels": status.labels,
        "annotations": status.annotations,
        "mounts": mounts,
        "log_path": status.log_path,
        "resources": resources,
        "user": user,
        "stop_signal": status.stop_signal().as_str_name().trim_start_matches("SIGNAL_"),
    })
}

fn moment(nanoseconds: i64) -> Option<String> {
    Moment::of_cri(nanoseconds).map(Moment::to_rfc3339)
}

/// The values of `info` are JSON as a rule.
fn info(info: &BTreeMap<String, String>) -> Value {
    let entries = info
        .iter()
        .map(|(key, text)| (key.clone(), parsed(text)))
        .collect::<Map<_, _>>();
    Value::Object(entries)
}

/// JSON if it is that, else the text.
pub(crate) fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use insula_cri_api::v1::{PodIp, PodSandboxNetworkStatus};

    use super::*;

    #[test]
    fn documents() {
        let mut status = ContainerStatus {
            id: "c".into(),
            exit_code: 3,
            created_at: 1_000_000_000,
            ..Default::default()
        };
        let document = container_document(&status);
        assert_eq!(document["state"], "CREATED");
        assert_eq!(document["exit_code"], Value::Null);
        assert_eq!(document["created"], "1970-01-01T00:00:01.000Z");
        assert_eq!(document["started"], Value::Null);
        assert_eq!(document["stop_signal"], "RUNTIME_DEFAULT");
        status.set_state(ContainerState::ContainerExited);
        assert_eq!(container_document(&status)["exit_code"], 3);

        let status = PodSandboxStatus {
            network: Some(PodSandboxNetworkStatus {
                ip: "10.0.0.2".into(),
                additional_ips: vec![PodIp {
                    ip: "fd00::2".into(),
                }],
            }),
            ..Default::default()
        };
        let more = [("plan", "{\"a\":1}"), ("note", "not JSON {")]
            .map(|(key, text)| (key.to_owned(), text.to_owned()))
            .into();
        let document = pod_status(&status, &more);
        assert_eq!(document["state"], "READY");
        assert_eq!(document["addresses"], json!(["10.0.0.2", "fd00::2"]));
        assert_eq!(
            document["info"],
            json!({"plan": {"a": 1}, "note": "not JSON {"})
        );
    }
}
