//! Whose network, processes and names a container sees.

use crate::contribution::Contribution;
use crate::isolator::{Isolator, PodView, Refusal};
use crate::spec::{ContainerSpec, NamespaceMode};
use insula_wire::plan::{self, NewOrHost, PidNamespace, PodOrHost};

/// The namespaces of CRI `NamespaceOption`.
///
/// Network and ipc are the pod's matter: a container in a pod with the node's
/// network has the node's, whatever it says, and one that wants the node's in
/// a pod of its own is refused. The host name goes with the network. The
/// cgroup namespace is new unless the container is privileged on the node's
/// ids. The user namespace is the pod's.
#[derive(Debug)]
pub(crate) struct Namespaces;

impl Isolator for Namespaces {
    fn name(&self) -> &'static str {
        "namespaces"
    }

    fn prepare(&self, spec: &ContainerSpec, pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        let wanted = &spec.security.namespaces;
        let of_pod = &pod.spec.namespaces;
        let network = of_pod_or_host("network", wanted.network, of_pod.network)?;
        let ipc = of_pod_or_host("ipc", wanted.ipc, of_pod.ipc)?;
        let pid = match wanted.pid {
            NamespaceMode::Container => PidNamespace::Container,
            NamespaceMode::Node => PidNamespace::Host,
            NamespaceMode::Pod if of_pod.pid == NamespaceMode::Pod => PidNamespace::Pod,
            NamespaceMode::Pod => {
                return Err(Refusal::new(
                    "the pod's PID namespace was asked for, but the pod was made without one: make the pod with pid mode POD",
                ));
            }
            NamespaceMode::Target if wanted.target_id.is_empty() => {
                return Err(Refusal::new(
                    "PID namespace mode TARGET needs target_id, the id of a running container of the same pod",
                ));
            }
            NamespaceMode::Target => PidNamespace::Target(wanted.target_id.clone()),
        };
        // Root of a user namespace cannot mount the cgroups of the node's.
        let cgroup = if spec.security.privileged && of_pod.user.is_none() {
            NewOrHost::Host
        } else {
            NewOrHost::New
        };
        Ok(Contribution {
            namespaces: Some(plan::Namespaces {
                user: match of_pod.user {
                    Some(_) => PodOrHost::Pod,
                    None => PodOrHost::Host,
                },
                network,
                ipc,
                uts: network,
                pid,
                cgroup,
            }),
            ..Contribution::default()
        })
    }
}

fn of_pod_or_host(
    what: &str,
    wanted: NamespaceMode,
    of_pod: NamespaceMode,
) -> Result<PodOrHost, Refusal> {
    match (wanted, of_pod) {
        (NamespaceMode::Container | NamespaceMode::Target, _) => Err(Refusal::new(format!(
            "{what} namespace mode {wanted:?} does not exist: use POD or NODE"
        ))),
        (NamespaceMode::Node | NamespaceMode::Pod, NamespaceMode::Node) => Ok(PodOrHost::Host),
        (NamespaceMode::Node, _) => Err(Refusal::new(format!(
            "the node's {what} namespace was asked for, but the pod was made with its own: make the pod with {what} mode NODE"
        ))),
        (NamespaceMode::Pod, _) => Ok(PodOrHost::Pod),
    }
}
