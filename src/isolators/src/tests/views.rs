//! Specifications, pods and hosts for tests.

use crate::apparmor::Profiles;
use crate::cdi::Injection;
use crate::isolator::{HostFacts, ImageView, PodView, ResolvedDevice};
use crate::seccomp::Filters;
use crate::spec::{
    ContainerSpec, ImageRequest, NamespaceOptions, PodMetadata, PodSpec, Resources, SecurityContext,
};
use crate::table::{PlanError, plan};
use insula_seccomp::KernelVersion;
use insula_sys::cgroup::{Hierarchy, Layout};
use insula_wire::plan::LaunchPlan;
use insula_wire::{CapabilitySet, IdMappings, IdRange, OsText};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Everything that a plan is made from; tests change what they are about.
pub(crate) struct Fixture {
    pub(crate) spec: ContainerSpec,
    pub(crate) pod: PodSpec,
    pub(crate) image: ImageView,
    pub(crate) host: HostFacts,
    pub(crate) passwd: Vec<u8>,
    pub(crate) group: Vec<u8>,
    pub(crate) devices: Vec<ResolvedDevice>,
    pub(crate) cdi: Injection,
    pub(crate) device_ownership: bool,
    pub(crate) seccomp_default: bool,
    pub(crate) apparmor: Profiles,
    pub(crate) selinux_level: Option<String>,
    pub(crate) seccomp_profile: Option<Vec<u8>>,
    pub(crate) filters: Filters,
}

/// Ids of a pod's own user namespace.
pub(crate) fn id_mappings() -> IdMappings {
    IdMappings {
        uids: IdRange::new(0, 100_000, 65_536).unwrap(),
        gids: IdRange::new(0, 200_000, 1000).unwrap(),
    }
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self {
            spec: ContainerSpec {
                name: "c".to_owned(),
                attempt: 0,
                image: ImageRequest {
                    image: "registry.example/app:1".to_owned(),
                    ..ImageRequest::default()
                },
                command: vec![text("/bin/app")],
                args: Vec::new(),
                working_dir: String::new(),
                envs: Vec::new(),
                mounts: Vec::new(),
                devices: Vec::new(),
                cdi_devices: Vec::new(),
                labels: BTreeMap::new(),
                annotations: BTreeMap::new(),
                log_path: "c/0.log".to_owned(),
                stdin: false,
                stdin_once: false,
                tty: false,
                stop_signal: None,
                resources: Resources::default(),
                security: SecurityContext::default(),
            },
            pod: PodSpec {
                metadata: PodMetadata {
                    name: "pod".to_owned(),
                    namespace: "default".to_owned(),
                    uid: "uid".to_owned(),
                    attempt: 0,
                },
                hostname: "pod".to_owned(),
                log_directory: "/var/log/pods/x/".to_owned(),
                dns: None,
                port_mappings: Vec::new(),
                labels: BTreeMap::new(),
                annotations: BTreeMap::new(),
                cgroup_parent: "/kubepods/pod1".to_owned(),
                sysctls: BTreeMap::new(),
                overhead: None,
                resources: None,
                namespaces: NamespaceOptions::default(),
                privileged: false,
                selinux: None,
                runtime_handler: String::new(),
            },
            image: ImageView::default(),
            host: host(),
            passwd: b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n".to_vec(),
            group: b"root:x:0:\nextra:x:50000:app,other\nmore:x:50001:other\n".to_vec(),
            devices: Vec::new(),
            cdi: Injection::default(),
            device_ownership: false,
            seccomp_default: false,
            apparmor: Profiles::default(),
            selinux_level: None,
            seccomp_profile: None,
            filters: Filters::default(),
        }
    }

    /// As kubelet asks for privilege: of the pod and of the container.
    pub(crate) fn privileged() -> Self {
        let mut fixture = Self::new();
        fixture.pod.privileged = true;
        fixture.spec.security.privileged = true;
        fixture
    }

    pub(crate) fn plan(&self) -> Result<LaunchPlan, PlanError> {
        let view = PodView {
            spec: &self.pod,
            pod_id: "pod",
            container_id: "container",
            image: &self.image,
            passwd: &self.passwd,
            group: &self.group,
            cgroup_path: "kubepods/pod1/container",
            files: PathBuf::from("/run/insula/pods/pod"),
            image_volumes: PathBuf::from("/var/lib/insula/rw/container/volumes"),
            bundle: PathBuf::from("/run/insula/pods/pod/containers/container/bundle"),
            devices: &self.devices,
            cdi: &self.cdi,
            hostname: "pod",
            device_ownership: self.device_ownership,
            seccomp_default: self.seccomp_default,
            apparmor: &self.apparmor,
            selinux_level: self.selinux_level.as_deref(),
            seccomp_profile: self.seccomp_profile.as_deref(),
            filters: &self.filters,
            host: &self.host,
        };
        plan(&self.spec, &view)
    }
}

/// A host with cgroup version 2 that can do everything.
pub(crate) fn host() -> HostFacts {
    let controllers = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"];
    HostFacts {
        cgroup: Layout::new(vec![Hierarchy::unified("/sys/fs/cgroup", &controllers)]),
        recursive_readonly: true,
        can_lower_oom_score: true,
        oom_score_adj: 0,
        capabilities: CapabilitySet::all(),
        open_files: 1 << 20,
        swap_accounting: true,
        host_devices: Vec::new(),
        kernel: KernelVersion {
            major: 6,
            minor: 12,
        },
        apparmor: false,
        selinux: None,
    }
}

pub(crate) fn text(text: &str) -> OsText {
    OsText::try_from(text).unwrap()
}

/// The plan after a change of the usual fixture.
#[track_caller]
pub(crate) fn plan_of(change: impl FnOnce(&mut Fixture)) -> LaunchPlan {
    let mut fixture = Fixture::new();
    change(&mut fixture);
    fixture.plan().unwrap()
}

/// The text of the refusal after a change of the usual fixture.
#[track_caller]
pub(crate) fn refusal_of(change: impl FnOnce(&mut Fixture)) -> String {
    let mut fixture = Fixture::new();
    change(&mut fixture);
    fixture.plan().unwrap_err().to_string()
}
