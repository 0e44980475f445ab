//! What a pod's namespaces shall be. Pure.

use crate::error::{Error, Result};
use insula_isolators::spec::{NamespaceMode, PodSpec};
use insula_isolators::sysctls;
use insula_wire::message::PodPlan;
use insula_wire::plan::PodOrHost;

/// Size of a pod's `/dev/shm`, as other runtimes have it.
const SHM_SIZE: u64 = 64 << 20;

/// Most bytes of a host name, sethostname(2).
const MAX_HOSTNAME: usize = 64;

/// Checks a pod's specification and says what its namespaces shall be.
pub(crate) fn plan(spec: &PodSpec, hostname: &str, state_directory: &str) -> Result<PodPlan> {
    for (what, value) in [
        ("name", &spec.metadata.name),
        ("namespace", &spec.metadata.namespace),
        ("uid", &spec.metadata.uid),
    ] {
        if value.chars().any(char::is_control) {
            return Err(Error::InvalidArgument(format!(
                "the pod's {what} {value:?} has control characters"
            )));
        }
    }
    if spec.metadata.name.is_empty() {
        return Err(Error::InvalidArgument(
            "the pod has no name in its metadata".to_owned(),
        ));
    }
    if hostname.len() > MAX_HOSTNAME || hostname.chars().any(|c| c.is_control() || c == '/') {
        return Err(Error::InvalidArgument(format!(
            "host name {hostname:?} is no host name of at most {MAX_HOSTNAME} bytes"
        )));
    }
    let network = own_or_host("network", spec.namespaces.network)?;
    let ipc = own_or_host("ipc", spec.namespaces.ipc)?;
    let settings =
        sysctls::of_pod(spec).map_err(|refusal| Error::InvalidArgument(refusal.to_string()))?;
    Ok(PodPlan {
        user: spec.namespaces.user,
        network,
        ipc,
        // The host's network has the host's name (Kubernetes `hostNetwork`).
        uts: network,
        shared_pid: spec.namespaces.pid == NamespaceMode::Pod,
        hostname: hostname.to_owned(),
        shm_size: SHM_SIZE,
        sysctls: settings,
        state_directory: state_directory.to_owned(),
        mount_label: None,
    })
}

fn own_or_host(what: &str, mode: NamespaceMode) -> Result<PodOrHost> {
    match mode {
        NamespaceMode::Pod => Ok(PodOrHost::Pod),
        NamespaceMode::Node => Ok(PodOrHost::Host),
        NamespaceMode::Container | NamespaceMode::Target => Err(Error::InvalidArgument(format!(
            "the pod's {what} namespace can be the pod's own or the node's"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::plan;
    use crate::error::Error;
    use crate::testing::{id_mappings, pod_spec};
    use insula_isolators::spec::{NamespaceMode, PodSpec};
    use insula_wire::plan::PodOrHost;

    #[test]
    fn namespaces_follow_the_specification() {
        let mut spec = pod_spec("web");
        let planned = plan(&spec, "web", "/run").unwrap();
        assert_eq!(
            (planned.network, planned.ipc, planned.uts),
            (PodOrHost::Pod, PodOrHost::Pod, PodOrHost::Pod)
        );
        assert!(planned.shared_pid);
        assert_eq!(planned.sysctls["net.ipv4.ip_unprivileged_port_start"], "0");
        spec.namespaces.network = NamespaceMode::Node;
        spec.namespaces.pid = NamespaceMode::Container;
        let planned = plan(&spec, "web", "/run").unwrap();
        assert_eq!(
            (planned.network, planned.uts),
            (PodOrHost::Host, PodOrHost::Host)
        );
        assert!(!planned.shared_pid && planned.sysctls.is_empty());
        assert_eq!(planned.user, None);
        spec.namespaces.user = Some(id_mappings());
        assert_eq!(
            plan(&spec, "web", "/run").unwrap().user,
            Some(id_mappings())
        );
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        type Change = fn(&mut PodSpec);
        let cases: [(Change, &str); 4] = [
            (|spec| spec.metadata.name.clear(), "no name"),
            (
                |spec| spec.metadata.uid = "a\nb".to_owned(),
                "control characters",
            ),
            (
                |spec| spec.namespaces.network = NamespaceMode::Container,
                "network namespace",
            ),
            (
                |spec| {
                    spec.sysctls
                        .insert("kernel.core_pattern".to_owned(), "|/bin/sh".to_owned());
                },
                "kernel.core_pattern",
            ),
        ];
        for (change, words) in cases {
            let mut spec = pod_spec("web");
            change(&mut spec);
            let error = plan(&spec, "web", "/run").unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        let long = "x".repeat(65);
        assert!(matches!(
            plan(&pod_spec("web"), &long, "/run"),
            Err(Error::InvalidArgument(_))
        ));
    }
}
