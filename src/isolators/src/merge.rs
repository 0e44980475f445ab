//! Contributions become one launch plan.

use crate::contribution::Contribution;
use insula_wire::plan::{
    Capabilities, Cgroup, CgroupResources, DeviceNode, LaunchPlan, Mount, Namespaces, Process,
    Rlimit, Rootfs, Stdio, User,
};
use insula_wire::{Bundle, OsText, SeccompFilter};
use std::collections::{BTreeMap, BTreeSet};

/// What a plan holds that no isolator decides.
#[derive(Debug, Clone)]
pub struct PlanInputs {
    /// The container's id.
    pub container_id: String,
    /// The container's cgroup below each hierarchy's root.
    pub cgroup_path: String,
    /// Standard streams and the log.
    pub stdio: Stdio,
    /// What hooks and the listeners of filters are told, if there are any.
    pub bundle: Bundle,
}

/// Contributions that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Two isolators set what only one may set.
    #[error("isolators {first} and {second} both set {field}")]
    Twice {
        /// The field, with the key for one entry of a list.
        field: String,
        /// Who set it first.
        first: &'static str,
        /// Who set it again.
        second: &'static str,
    },
    /// Nobody set what a plan cannot be without.
    #[error("no isolator sets {field}")]
    Missing {
        /// The field.
        field: &'static str,
    },
}

/// A value that one isolator sets, with its name.
struct Slot<T> {
    field: &'static str,
    value: Option<(&'static str, T)>,
}

/// Merges contributions, in the order of the isolators, into a plan.
///
/// Lists are appended. Mounts are then sorted by depth, so that a parent is
/// mounted before what is below it; of equal depth, the earlier stays first.
/// Environment variables keep the place of their first mention and get their
/// last value. Everything else may be set once; twice is a [`Conflict`] that
/// names both isolators, unless the later one says that it
/// [`replaces`](Contribution::replaces) mounts and device nodes.
pub fn merge(
    inputs: PlanInputs,
    contributions: Vec<(&'static str, Contribution)>,
) -> Result<LaunchPlan, Conflict> {
    let mut merge = Merge::new();
    for (isolator, contribution) in contributions {
        merge.add(isolator, contribution)?;
    }
    merge.finish(inputs)
}

struct Merge {
    owners: Owners,
    namespaces: Slot<Namespaces>,
    readonly_rootfs: Slot<bool>,
    args: Slot<Vec<OsText>>,
    cwd: Slot<String>,
    user: Slot<User>,
    capabilities: Slot<Capabilities>,
    no_new_privileges: Slot<bool>,
    oom_score_adj: Slot<i32>,
    stop_signal: Slot<i32>,
    apparmor_profile: Slot<String>,
    selinux_label: Slot<String>,
    mount_label: Slot<String>,
    seccomp: Slot<SeccompFilter>,
    env: Vec<(String, OsText)>,
    rlimits: Vec<Rlimit>,
    groups: Vec<u32>,
    resources: MergedLimits,
    lists: Contribution,
}

/// Who set which entry.
#[derive(Debug, Default)]
struct Owners(BTreeMap<String, &'static str>);

/// Values of a cgroup from several isolators.
#[derive(Debug, Default)]
pub(crate) struct MergedLimits {
    owners: Owners,
    all: CgroupResources,
}

// === impl Slot ===

impl<T> Slot<T> {
    fn new(field: &'static str) -> Self {
        Self { field, value: None }
    }

    fn set(&mut self, isolator: &'static str, value: Option<T>) -> Result<(), Conflict> {
        match (&self.value, value) {
            (_, None) => Ok(()),
            (None, Some(value)) => {
                self.value = Some((isolator, value));
                Ok(())
            }
            (Some((first, _)), Some(_)) => Err(Conflict::Twice {
                field: self.field.to_owned(),
                first,
                second: isolator,
            }),
        }
    }

    fn optional(self) -> Option<T> {
        self.value.map(|(_, value)| value)
    }

    fn required(self) -> Result<T, Conflict> {
        let field = self.field;
        self.optional().ok_or(Conflict::Missing { field })
    }
}

// === impl Merge ===

impl Merge {
    fn new() -> Self {
        Self {
            owners: Owners::default(),
            namespaces: Slot::new("namespaces"),
            readonly_rootfs: Slot::new("read-only root"),
            args: Slot::new("arguments"),
            cwd: Slot::new("working directory"),
            user: Slot::new("user"),
            capabilities: Slot::new("capabilities"),
            no_new_privileges: Slot::new("no_new_privileges"),
            oom_score_adj: Slot::new("oom_score_adj"),
            stop_signal: Slot::new("stop signal"),
            apparmor_profile: Slot::new("AppArmor profile"),
            selinux_label: Slot::new("SELinux label"),
            mount_label: Slot::new("SELinux label of mounts"),
            seccomp: Slot::new("seccomp filter"),
            env: Vec::new(),
            rlimits: Vec::new(),
            groups: Vec::new(),
            resources: MergedLimits::default(),
            lists: Contribution::default(),
        }
    }

    fn add(&mut self, isolator: &'static str, part: Contribution) -> Result<(), Conflict> {
        self.namespaces.set(isolator, part.namespaces)?;
        self.readonly_rootfs.set(isolator, part.readonly_rootfs)?;
        self.args.set(isolator, part.args)?;
        self.cwd.set(isolator, part.cwd)?;
        self.user.set(isolator, part.user)?;
        self.capabilities.set(isolator, part.capabilities)?;
        self.no_new_privileges
            .set(isolator, part.no_new_privileges)?;
        self.oom_score_adj.set(isolator, part.oom_score_adj)?;
        self.stop_signal.set(isolator, part.stop_signal)?;
        self.apparmor_profile.set(isolator, part.apparmor_profile)?;
        self.selinux_label.set(isolator, part.selinux_label)?;
        self.mount_label.set(isolator, part.mount_label)?;
        self.seccomp.set(isolator, part.seccomp)?;
        if part.replaces {
            self.make_room(&part.mounts, &part.devices);
        }
        for mount in &part.mounts {
            self.owners
                .note(isolator, format!("mount {}", mount.target))?;
        }
        for device in &part.devices {
            self.owners
                .note(isolator, format!("device {}", device.path))?;
        }
        for link in &part.links {
            self.owners.note(isolator, format!("link {}", link.path))?;
        }
        for rlimit in &part.rlimits {
            self.owners
                .note(isolator, format!("rlimit {:?}", rlimit.resource))?;
        }
        self.rlimits.extend(part.rlimits);
        self.groups.extend(part.additional_groups);
        for (name, value) in part.env {
            match self.env.iter_mut().find(|(known, _)| *known == name) {
                Some((_, old)) => *old = value,
                None => self.env.push((name, value)),
            }
        }
        self.lists.mounts.extend(part.mounts);
        self.lists.devices.extend(part.devices);
        self.lists.links.extend(part.links);
        self.lists.masked_paths.extend(part.masked_paths);
        self.lists.readonly_paths.extend(part.readonly_paths);
        self.lists.hooks.extend(part.hooks);
        self.resources.all.devices.extend(part.device_rules);
        self.resources.add(isolator, part.resources)
    }

    /// Forgets what is at the paths of these.
    fn make_room(&mut self, mounts: &[Mount], devices: &[DeviceNode]) {
        let paths: BTreeSet<&String> = mounts
            .iter()
            .map(|mount| &mount.target)
            .chain(devices.iter().map(|device| &device.path))
            .collect();
        let lists = &mut self.lists;
        lists.mounts.retain(|mount| !paths.contains(&mount.target));
        lists.devices.retain(|device| !paths.contains(&device.path));
        lists.links.retain(|link| !paths.contains(&link.path));
        for path in paths {
            for what in ["mount", "device", "link"] {
                self.owners.0.remove(&format!("{what} {path}"));
            }
        }
    }

    fn finish(self, inputs: PlanInputs) -> Result<LaunchPlan, Conflict> {
        let mut user = self.user.required()?;
        user.supplementary_groups.extend(self.groups);
        user.supplementary_groups.sort_unstable();
        user.supplementary_groups.dedup();
        let mut mounts = self.lists.mounts;
        mounts.sort_by_key(|mount| crate::path::depth(&mount.target));
        let env = self
            .env
            .into_iter()
            .map(|(name, value)| crate::environment::assignment(&name, &value))
            .collect();
        let seccomp = self.seccomp.optional();
        let listens = |filter: &SeccompFilter| filter.listener.is_some();
        let is_told = !self.lists.hooks.is_empty() || seccomp.as_ref().is_some_and(listens);
        Ok(LaunchPlan {
            container_id: inputs.container_id,
            namespaces: self.namespaces.required()?,
            rootfs: Rootfs {
                readonly: self.readonly_rootfs.required()?,
            },
            mounts,
            devices: self.lists.devices,
            links: self.lists.links,
            masked_paths: self.lists.masked_paths,
            readonly_paths: self.lists.readonly_paths,
            process: Process {
                args: self.args.required()?,
                env,
                cwd: self.cwd.required()?,
                user,
                umask: 0o022,
                capabilities: self.capabilities.required()?,
                no_new_privileges: self.no_new_privileges.required()?,
                rlimits: self.rlimits,
                oom_score_adj: self.oom_score_adj.optional(),
                apparmor_profile: self.apparmor_profile.optional(),
                selinux_label: self.selinux_label.optional(),
                seccomp,
            },
            stdio: inputs.stdio,
            cgroup: Cgroup {
                path: inputs.cgroup_path,
                resources: self.resources.finish(),
            },
            stop_signal: self.stop_signal.required()?,
            mount_label: self.mount_label.optional(),
            bundle: is_told.then_some(inputs.bundle),
            hooks: self.lists.hooks,
            // Whose handler the pod names is the daemon's to know.
            runtime: None,
        })
    }
}

// === impl Owners ===

impl Owners {
    /// Notes who set one entry, and refuses a second.
    fn note(&mut self, isolator: &'static str, field: String) -> Result<(), Conflict> {
        if let Some(first) = self.0.get(&field) {
            return Err(Conflict::Twice {
                first,
                second: isolator,
                field,
            });
        }
        self.0.insert(field, isolator);
        Ok(())
    }
}

// === impl MergedLimits ===

impl MergedLimits {
    pub(crate) fn add(
        &mut self,
        isolator: &'static str,
        part: CgroupResources,
    ) -> Result<(), Conflict> {
        // Taken apart by name, so that a new field cannot be forgotten here.
        let CgroupResources {
            cpu_shares,
            cpu_quota,
            cpu_period,
            memory_limit,
            memory_swap_limit,
            pids_limit,
            cpuset_cpus,
            cpuset_mems,
            hugepage_limits,
            devices,
            unified,
        } = part;
        self.one(isolator, "cpu_shares", cpu_shares, |all| {
            &mut all.cpu_shares
        })?;
        self.one(isolator, "cpu_quota", cpu_quota, |all| &mut all.cpu_quota)?;
        self.one(isolator, "cpu_period", cpu_period, |all| {
            &mut all.cpu_period
        })?;
        self.one(isolator, "memory_limit", memory_limit, |all| {
            &mut all.memory_limit
        })?;
        self.one(isolator, "memory_swap_limit", memory_swap_limit, |all| {
            &mut all.memory_swap_limit
        })?;
        self.one(isolator, "pids_limit", pids_limit, |all| {
            &mut all.pids_limit
        })?;
        self.one(isolator, "cpuset_cpus", cpuset_cpus, |all| {
            &mut all.cpuset_cpus
        })?;
        self.one(isolator, "cpuset_mems", cpuset_mems, |all| {
            &mut all.cpuset_mems
        })?;
        for (size, limit) in hugepage_limits {
            self.owners
                .note(isolator, format!("huge page limit {size}"))?;
            self.all.hugepage_limits.insert(size, limit);
        }
        for (file, value) in unified {
            self.owners.note(isolator, format!("cgroup file {file}"))?;
            self.all.unified.insert(file, value);
        }
        self.all.devices.extend(devices);
        Ok(())
    }

    fn one<T>(
        &mut self,
        isolator: &'static str,
        field: &str,
        value: Option<T>,
        place: impl FnOnce(&mut CgroupResources) -> &mut Option<T>,
    ) -> Result<(), Conflict> {
        if value.is_some() {
            self.owners
                .note(isolator, format!("cgroup value {field}"))?;
            *place(&mut self.all) = value;
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> CgroupResources {
        self.all
    }
}
