//! Specifications for tests.

use insula_isolators::spec::{
    ContainerSpec, ImageRequest, NamespaceOptions, PodMetadata, PodSpec, Resources, SecurityContext,
};
use insula_wire::plan::{
    Capabilities, Cgroup, LaunchPlan, Namespaces, NewOrHost, PidNamespace, PodOrHost, Process,
    Rootfs, Stdio, User,
};
use insula_wire::{Hooks, IdMappings, IdRange};
use std::collections::BTreeMap;

/// Ids of a pod's own user namespace.
pub(crate) fn id_mappings() -> IdMappings {
    IdMappings {
        uids: IdRange::new(0, 100_000, 65_536).unwrap(),
        gids: IdRange::new(0, 200_000, 1000).unwrap(),
    }
}

/// A pod with a network of its own.
pub(crate) fn pod_spec(name: &str) -> PodSpec {
    PodSpec {
        metadata: PodMetadata {
            name: name.to_owned(),
            namespace: "default".to_owned(),
            uid: format!("uid-{name}"),
            attempt: 0,
        },
        hostname: name.to_owned(),
        log_directory: String::new(),
        dns: None,
        port_mappings: Vec::new(),
        labels: BTreeMap::from([("app".to_owned(), name.to_owned())]),
        annotations: BTreeMap::new(),
        cgroup_parent: String::new(),
        sysctls: BTreeMap::new(),
        overhead: None,
        resources: None,
        namespaces: NamespaceOptions::default(),
        privileged: false,
        selinux: None,
        runtime_handler: String::new(),
    }
}

/// A container of the image `image`.
pub(crate) fn container_spec(name: &str) -> ContainerSpec {
    ContainerSpec {
        name: name.to_owned(),
        attempt: 0,
        image: ImageRequest {
            image: "image".to_owned(),
            ..ImageRequest::default()
        },
        command: Vec::new(),
        args: Vec::new(),
        working_dir: String::new(),
        envs: Vec::new(),
        mounts: Vec::new(),
        devices: Vec::new(),
        cdi_devices: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        log_path: String::new(),
        stdin: false,
        stdin_once: false,
        tty: false,
        stop_signal: None,
        resources: Resources::default(),
        security: SecurityContext::default(),
    }
}

/// A plan that does nothing.
pub(crate) fn plan(container_id: &str) -> LaunchPlan {
    LaunchPlan {
        container_id: container_id.to_owned(),
        namespaces: Namespaces {
            user: PodOrHost::Host,
            network: PodOrHost::Pod,
            ipc: PodOrHost::Pod,
            uts: PodOrHost::Pod,
            pid: PidNamespace::Container,
            cgroup: NewOrHost::New,
        },
        rootfs: Rootfs { readonly: false },
        mounts: Vec::new(),
        devices: Vec::new(),
        links: Vec::new(),
        masked_paths: Vec::new(),
        readonly_paths: Vec::new(),
        process: Process {
            args: vec!["true".try_into().unwrap()],
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: User {
                uid: 0,
                gid: 0,
                supplementary_groups: Vec::new(),
            },
            umask: 0o022,
            capabilities: Capabilities::default(),
            no_new_privileges: false,
            rlimits: Vec::new(),
            oom_score_adj: None,
            apparmor_profile: None,
            selinux_label: None,
            seccomp: None,
        },
        stdio: Stdio {
            terminal: false,
            stdin: false,
            stdin_once: false,
            log_path: None,
        },
        cgroup: Cgroup {
            path: format!("insula/{container_id}"),
            ..Cgroup::default()
        },
        stop_signal: 15,
        mount_label: None,
        hooks: Hooks::default(),
        bundle: None,
        runtime: None,
    }
}
