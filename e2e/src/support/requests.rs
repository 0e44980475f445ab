//! Requests as kubelet makes them. Tests change what they are about.

use insula_cri_api::v1::{
    ContainerConfig, ContainerMetadata, IdMapping, ImageSpec, KeyValue, LinuxContainerConfig,
    LinuxContainerResources, LinuxContainerSecurityContext, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, Mount, NamespaceMode, NamespaceOption, PodSandboxConfig,
    PodSandboxMetadata, UserNamespace,
};
use std::path::Path;

/// The image of most tests: a stock busybox.
pub const BUSYBOX: &str = "registry.k8s.io/e2e-test-images/busybox:1.29-2";

/// A pod with a network, and a PID namespace for each container.
pub fn pod(name: &str) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "e2e".into(),
            attempt: 0,
        }),
        hostname: name.to_owned(),
        labels: [("app".to_owned(), name.to_owned())].into(),
        linux: Some(LinuxPodSandboxConfig {
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(NamespaceOption {
                    pid: NamespaceMode::Container.into(),
                    ..NamespaceOption::default()
                }),
                ..LinuxSandboxSecurityContext::default()
            }),
            ..LinuxPodSandboxConfig::default()
        }),
        ..PodSandboxConfig::default()
    }
}

/// A pod in the node's network, which is made faster: for what is not about the network.
pub fn host_pod(name: &str) -> PodSandboxConfig {
    let mut config = pod(name);
    config.hostname = String::new();
    namespaces(&mut config).network = NamespaceMode::Node.into();
    config
}

/// The host's id for root of a [`mapped_pod`].
pub const FIRST_ID: u32 = 1_000_000;
/// How many ids it has.
pub const ID_COUNT: u32 = 65_536;

/// The ids of a [`mapped_pod`].
pub fn ids() -> Vec<IdMapping> {
    vec![IdMapping {
        host_id: FIRST_ID,
        container_id: 0,
        length: ID_COUNT,
    }]
}

fn user_namespace() -> UserNamespace {
    UserNamespace {
        mode: NamespaceMode::Pod.into(),
        uids: ids(),
        gids: ids(),
    }
}

/// The pod with a user namespace of its own.
pub fn mapped_pod(mut config: PodSandboxConfig) -> PodSandboxConfig {
    namespaces(&mut config).userns_options = Some(user_namespace());
    config
}

/// The container for such a pod.
pub fn mapped(mut config: ContainerConfig) -> ContainerConfig {
    container_namespaces(&mut config).userns_options = Some(user_namespace());
    config
}

/// A pod's security context.
pub fn pod_security(config: &mut PodSandboxConfig) -> &mut LinuxSandboxSecurityContext {
    config
        .linux
        .get_or_insert_default()
        .security_context
        .get_or_insert_default()
}

/// A pod's namespaces.
pub fn namespaces(config: &mut PodSandboxConfig) -> &mut NamespaceOption {
    pod_security(config)
        .namespace_options
        .get_or_insert_default()
}

/// A container of busybox that runs a command; its PID namespace is as its pod's.
pub fn command(name: &str, command: &[&str]) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: name.to_owned(),
            attempt: 0,
        }),
        image: Some(image(BUSYBOX)),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        log_path: format!("{name}.log"),
        linux: Some(LinuxContainerConfig {
            security_context: Some(LinuxContainerSecurityContext {
                namespace_options: Some(NamespaceOption {
                    pid: NamespaceMode::Container.into(),
                    ..NamespaceOption::default()
                }),
                ..LinuxContainerSecurityContext::default()
            }),
            ..LinuxContainerConfig::default()
        }),
        ..ContainerConfig::default()
    }
}

/// A container of busybox that runs a script.
pub fn script(name: &str, text: &str) -> ContainerConfig {
    command(name, &["sh", "-c", text])
}

/// A container that stays.
pub fn sleeper(name: &str) -> ContainerConfig {
    script(
        name,
        "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done",
    )
}

/// Another image's container, with the command of the image.
pub fn of_image(name: &str, reference: &str) -> ContainerConfig {
    ContainerConfig {
        image: Some(image(reference)),
        ..command(name, &[])
    }
}

/// An image by name or id.
pub fn image(reference: &str) -> ImageSpec {
    ImageSpec {
        image: reference.to_owned(),
        ..ImageSpec::default()
    }
}

/// A container's security context.
pub fn security(config: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    config
        .linux
        .get_or_insert_default()
        .security_context
        .get_or_insert_default()
}

/// A container's namespaces.
pub fn container_namespaces(config: &mut ContainerConfig) -> &mut NamespaceOption {
    security(config).namespace_options.get_or_insert_default()
}

/// A container's limits.
pub fn resources(config: &mut ContainerConfig) -> &mut LinuxContainerResources {
    config
        .linux
        .get_or_insert_default()
        .resources
        .get_or_insert_default()
}

/// Gives the container a path of the host.
pub fn mount(config: &mut ContainerConfig, host: &Path, container: &str) -> usize {
    config.mounts.push(Mount {
        host_path: host.to_string_lossy().into_owned(),
        container_path: container.to_owned(),
        ..Mount::default()
    });
    config.mounts.len() - 1
}

/// A variable of the environment.
pub fn variable(name: &str, value: &str) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: value.as_bytes().to_vec(),
    }
}
