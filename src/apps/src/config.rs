//! One instance of an app as the configurations of a pod and its container.

use std::collections::BTreeMap;
use std::fmt;

use insula_cri_api::v1;

use crate::app::{App, Command, CpuLimit, MemoryLimit, RunAs};
use crate::environment;
use crate::networking::{AssignedPort, NetworkMode, Protocol};

/// Labels of pods and containers that are made here.
pub mod label {
    /// Id of the app, such as `/redis`.
    pub const APP_ID: &str = "insula.app/id";
    /// Number of the instance, from zero.
    pub const INSTANCE: &str = "insula.app/instance";
    /// Name of the pod, as kubelet sets it.
    pub const POD_NAME: &str = "io.kubernetes.pod.name";
    /// Namespace of the pod, as kubelet sets it.
    pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    /// Unique id of the pod, as kubelet sets it.
    pub const POD_UID: &str = "io.kubernetes.pod.uid";
    /// Name of the container, as kubelet sets it.
    pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
}

/// Annotations of pods that are made here.
pub mod annotation {
    /// Seconds between the stop signal and SIGKILL.
    pub const KILL_GRACE_SECONDS: &str = "insula.app/kill-grace-seconds";
    /// Ports, for people: `6379->6379/tcp, 8080/udp`.
    pub const PORTS: &str = "insula.app/ports";
}

/// Namespace of the pods, in the sense of Kubernetes.
const NAMESPACE: &str = "insula";
/// Where a task finds its sandbox directory, as in Mesos.
pub(crate) const SANDBOX_DIRECTORY: &str = "/mnt/mesos/sandbox";
/// Where kubelet keeps the logs of pods, and tools look for them.
const LOG_ROOT: &str = "/var/log/pods";
/// Period of a processor quota in microseconds: the kernel's default.
const QUOTA_PERIOD: i64 = 100_000;

/// Which instance of which run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceId {
    /// From zero.
    pub index: u32,
    /// How many there are.
    pub of: u32,
    /// Unique among all pods of the host, and safe in a file name.
    pub uid: String,
}

impl InstanceId {
    /// `redis`, or `redis-1` if there are several.
    pub fn pod_name(&self, app: &App) -> String {
        if self.of > 1 {
            format!("{}-{}", app.id.pod_name(), self.index)
        } else {
            app.id.pod_name()
        }
    }

    /// Directory of the pod's logs on the host, which also holds its sandbox directory.
    pub fn log_directory(&self, app: &App) -> String {
        format!("{LOG_ROOT}/{NAMESPACE}_{}_{}", self.pod_name(app), self.uid)
    }

    /// The task's working space on the host: has to exist and be writable before the pod runs.
    pub fn sandbox_directory(&self, app: &App) -> String {
        format!("{}/sandbox", self.log_directory(app))
    }

    pub(crate) fn task_id(&self, app: &App) -> String {
        format!(
            "{}.instance-{}._app.{}",
            app.id.as_str().trim_start_matches('/').replace('/', "_"),
            self.uid,
            self.index + 1
        )
    }
}

/// One instance, with everything that was decided for it.
#[derive(Debug, Clone)]
pub struct Instance<'a> {
    /// Which one.
    pub id: &'a InstanceId,
    /// The network.
    pub network: NetworkMode,
    /// Ports, assigned.
    pub ports: &'a [AssignedPort],
    /// Name of the host, for `$HOST`.
    pub host: &'a str,
    /// Time of the definition, for `$MARATHON_APP_VERSION` (RFC 3339).
    pub version: &'a str,
}

impl Instance<'_> {
    /// Configuration of the pod.
    pub fn sandbox(&self, app: &App) -> v1::PodSandboxConfig {
        let name = self.id.pod_name(app);
        let hostname = match (self.network, &app.settings.hostname) {
            (NetworkMode::Host, _) => String::new(),
            (NetworkMode::Pod, Some(name)) => name.clone(),
            // A host name has at most 63 bytes and no dots of its own (hostname(7)).
            (NetworkMode::Pod, None) => name.replace('.', "-")[..name.len().min(63)]
                .trim_end_matches('-')
                .to_owned(),
        };
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: name.clone(),
                uid: self.id.uid.clone(),
                namespace: NAMESPACE.to_owned(),
                attempt: 0,
            }),
            hostname,
            log_directory: self.id.log_directory(app),
            dns_config: app
                .settings
                .dns
                .clone()
                .map(|(servers, searches, options)| v1::DnsConfig {
                    servers,
                    searches,
                    options,
                }),
            port_mappings: self.port_mappings(),
            labels: self.labels(app),
            annotations: self.annotations(app),
            linux: Some(v1::LinuxPodSandboxConfig {
                sysctls: app.settings.sysctls.clone(),
                security_context: Some(v1::LinuxSandboxSecurityContext {
                    namespace_options: Some(self.namespaces()),
                    privileged: app.settings.privileged,
                    ..Default::default()
                }),
                ..Default::default()
            }),
            windows: None,
        }
    }

    /// Configuration of the container. `image_id` is what the pull returned.
    pub fn container(&self, app: &App, image_id: &str) -> v1::ContainerConfig {
        let (command, args) = match &app.command {
            Command::OfImage => (Vec::new(), Vec::new()),
            Command::Shell(line) => (
                vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
                Vec::new(),
            ),
            Command::Arguments(args) => (Vec::new(), args.clone()),
        };
        let name = container_name(app);
        let mut labels = self.labels(app);
        labels.insert(label::CONTAINER_NAME.to_owned(), name.clone());
        v1::ContainerConfig {
            log_path: format!("{name}/0.log"),
            metadata: Some(v1::ContainerMetadata { name, attempt: 0 }),
            image: Some(v1::ImageSpec {
                image: image_id.to_owned(),
                user_specified_image: app.image.clone(),
                ..Default::default()
            }),
            command,
            args,
            working_dir: app.settings.working_directory.clone().unwrap_or_default(),
            envs: environment::of(app, self)
                .into_iter()
                .map(|(key, value)| v1::KeyValue {
                    key,
                    value: value.into_bytes(),
                })
                .collect(),
            mounts: self.mounts(app),
            devices: devices(app),
            labels,
            annotations: self.annotations(app),
            tty: app.tty,
            stdin: app.tty,
            linux: Some(v1::LinuxContainerConfig {
                resources: Some(resources(app)),
                security_context: Some(self.security(app)),
            }),
            ..Default::default()
        }
    }

    fn labels(&self, app: &App) -> BTreeMap<String, String> {
        let mut labels = app.labels.clone();
        for (name, value) in [
            (label::APP_ID, app.id.to_string()),
            (label::INSTANCE, self.id.index.to_string()),
            (label::POD_NAME, self.id.pod_name(app)),
            (label::POD_NAMESPACE, NAMESPACE.to_owned()),
            (label::POD_UID, self.id.uid.clone()),
        ] {
            labels.insert(name.to_owned(), value);
        }
        labels
    }

    fn annotations(&self, app: &App) -> BTreeMap<String, String> {
        let ports: Vec<String> = self.ports.iter().map(ToString::to_string).collect();
        [
            (
                annotation::KILL_GRACE_SECONDS,
                app.kill_grace_seconds.to_string(),
            ),
            (annotation::PORTS, ports.join(", ")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn namespaces(&self) -> v1::NamespaceOption {
        let network = match self.network {
            NetworkMode::Pod => v1::NamespaceMode::Pod,
            NetworkMode::Host => v1::NamespaceMode::Node,
        };
        v1::NamespaceOption {
            network: network.into(),
            pid: v1::NamespaceMode::Container.into(),
            ipc: v1::NamespaceMode::Pod.into(),
            ..Default::default()
        }
    }

    fn port_mappings(&self) -> Vec<v1::PortMapping> {
        if self.network == NetworkMode::Host {
            return Vec::new();
        }
        let mut mappings = Vec::new();
        for port in self.ports {
            let Some(host) = port.host else { continue };
            for protocol in &port.protocols {
                mappings.push(v1::PortMapping {
                    protocol: match protocol {
                        Protocol::Tcp => v1::Protocol::Tcp,
                        Protocol::Udp => v1::Protocol::Udp,
                    }
                    .into(),
                    container_port: port.container.into(),
                    host_port: host.into(),
                    host_ip: String::new(),
                });
            }
        }
        mappings
    }

    fn mounts(&self, app: &App) -> Vec<v1::Mount> {
        let sandbox = v1::Mount {
            container_path: SANDBOX_DIRECTORY.to_owned(),
            host_path: self.id.sandbox_directory(app),
            ..Default::default()
        };
        let volumes = app.volumes.iter().map(|volume| v1::Mount {
            container_path: volume.container_path.clone(),
            host_path: volume.host_path.clone(),
            readonly: volume.read_only,
            ..Default::default()
        });
        std::iter::once(sandbox).chain(volumes).collect()
    }

    fn security(&self, app: &App) -> v1::LinuxContainerSecurityContext {
        let settings = &app.settings;
        let id = |number: u32| {
            Some(v1::Int64Value {
                value: number.into(),
            })
        };
        let mut context = v1::LinuxContainerSecurityContext {
            namespace_options: Some(self.namespaces()),
            privileged: settings.privileged,
            readonly_rootfs: settings.read_only_root,
            no_new_privs: settings.no_new_privileges,
            ..Default::default()
        };
        if !settings.add_capabilities.is_empty() || !settings.drop_capabilities.is_empty() {
            context.capabilities = Some(v1::Capability {
                add_capabilities: settings.add_capabilities.clone(),
                drop_capabilities: settings.drop_capabilities.clone(),
                ..Default::default()
            });
        }
        if !settings.privileged {
            context.masked_paths = MASKED.map(str::to_owned).into();
            context.readonly_paths = READ_ONLY.map(str::to_owned).into();
        }
        match &app.run_as {
            RunAs::OfImage => {}
            RunAs::Ids { uid, gid } => {
                context.run_as_user = id(*uid);
                context.run_as_group = gid.and_then(id);
            }
            RunAs::Name(name) => context.run_as_username.clone_from(name),
        }
        context
    }
}

/// Paths hidden in a container: what Kubernetes hides with the default `procMount`.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
];

/// Paths that can only be read: what Kubernetes makes so with the default `procMount`.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Last segment of the app's id.
fn container_name(app: &App) -> String {
    let id = app.id.as_str();
    id.rsplit('/').next().unwrap_or(id).to_owned()
}

fn devices(app: &App) -> Vec<v1::Device> {
    app.settings
        .devices
        .iter()
        .map(|(host, container, permissions)| v1::Device {
            host_path: host.clone(),
            container_path: container.clone(),
            permissions: permissions.clone(),
        })
        .collect()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the parser bounds cpus to 4096: at most 4 194 304 shares, 409 600 000 microseconds"
)]
fn resources(app: &App) -> v1::LinuxContainerResources {
    let mut resources = v1::LinuxContainerResources {
        // 1024 shares a processor; the kernel takes 2 to 262144 (cpu.shares).
        cpu_shares: ((app.cpus * 1024.0) as i64).clamp(2, 262_144),
        ..Default::default()
    };
    if let CpuLimit::Processors(limit) = app.cpu_limit {
        resources.cpu_period = QUOTA_PERIOD;
        resources.cpu_quota = (limit * 100_000.0) as i64;
    }
    if let MemoryLimit::Bytes(bytes) = app.memory_limit {
        resources.memory_limit_in_bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    }
    resources
}

impl fmt::Display for AssignedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = self.host {
            write!(f, "{host}->")?;
        }
        write!(f, "{}/", self.container)?;
        for (index, protocol) in self.protocols.iter().enumerate() {
            let comma = if index > 0 { "+" } else { "" };
            write!(f, "{comma}{protocol}")?;
        }
        Ok(())
    }
}
