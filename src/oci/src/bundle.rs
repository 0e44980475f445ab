//! The `config.json` by which an external OCI runtime executes a plan.
//!
//! It is what [`render`](crate::render()) shows to people, made exact: what the
//! supervisor has prepared in the bundle is named by its path there
//! ([`insula_wire::runtime_bundle`]), and what the pod, its supervisor or the daemon
//! have done already is left out. That is the host name and the sysctls of the
//! pod's namespaces, and the values of the cgroup but for access to devices: the
//! daemon has written them and goes on doing so.

use crate::render::{Surroundings, render};
use crate::runtime_spec::{Mount, Namespace, Resources};
use insula_wire::plan::{
    self, LaunchPlan, MountAttributes, MountSource, NewOrHost, PidNamespace, PodOrHost,
};
use insula_wire::{OsText, runtime_bundle as parts};

/// What a bundle's configuration needs beside the plan.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Absolute path of the bundle in the mount namespace that is kept for it.
    pub directory: String,
    /// The cgroup that the runtime puts the container into, below each
    /// hierarchy's root and without a leading slash.
    pub cgroup: String,
    /// The host name, for a runtime whose containers do not have that of the
    /// namespace which is joined; else empty.
    pub hostname: String,
}

/// A plan that no OCI runtime can be told of.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// JSON has no words for bytes that are not UTF-8.
    #[error(
        "{what} {shown:?} is not UTF-8, which an OCI runtime cannot be told: use the handler \"native\""
    )]
    NotText {
        /// An argument or a variable.
        what: &'static str,
        /// It, as near as it can be shown.
        shown: String,
    },
    /// A pod with a user namespace of its own.
    #[error("an external OCI runtime cannot use the pod's user namespace")]
    UserNamespace,
    /// It cannot be written.
    #[error("cannot write config.json: {0}")]
    Json(#[from] serde_json::Error),
}

/// The version that has all fields that are used. Runtimes refuse versions that
/// are newer than they are: crun before 1.14 knows 1.0 alone.
const VERSION: &str = "1.0.2";

/// Where the container's own cgroups are shown.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Makes the `config.json` of a plan's bundle.
pub fn config(plan: &LaunchPlan, bundle: &Bundle) -> Result<Vec<u8>, BundleError> {
    if plan.namespaces.user == PodOrHost::Pod {
        return Err(BundleError::UserNamespace);
    }
    check_texts("argument", &plan.process.args)?;
    check_texts("variable", &plan.process.env)?;
    let around = Surroundings {
        root_path: bundle.path(parts::ROOT),
        hostname: bundle.hostname.clone(),
        ..Surroundings::default()
    };
    let mut spec = render(plan, &around);
    spec.oci_version = VERSION;
    spec.mounts = mounts(plan, bundle, std::mem::take(&mut spec.mounts));
    spec.linux.namespaces = namespaces(plan, bundle);
    spec.linux.cgroups_path = format!("/{}", bundle.cgroup);
    spec.linux.resources = Resources {
        devices: std::mem::take(&mut spec.linux.resources.devices),
        ..Resources::default()
    };
    Ok(serde_json::to_vec(&spec)?)
}

/// Makes the `process.json` by which a runtime adds a process to a container.
pub fn process(process: &plan::Process, terminal: bool) -> Result<Vec<u8>, BundleError> {
    check_texts("argument", &process.args)?;
    check_texts("variable", &process.env)?;
    Ok(serde_json::to_vec(&crate::render::process(
        process, terminal,
    ))?)
}

fn check_texts(what: &'static str, texts: &[OsText]) -> Result<(), BundleError> {
    let wrong = texts
        .iter()
        .find(|text| std::str::from_utf8(text.as_bytes()).is_err());
    match wrong {
        None => Ok(()),
        Some(text) => Err(BundleError::NotText {
            what,
            shown: text.to_string_lossy().chars().take(64).collect(),
        }),
    }
}

/// The mounts as they are rendered, with sources in the bundle. Of a version 1
/// host's cgroups the specification knows no single ones: one mount stands for
/// all.
fn mounts(plan: &LaunchPlan, bundle: &Bundle, rendered: Vec<Mount>) -> Vec<Mount> {
    let mut brought = 0;
    let mut list = Vec::new();
    for (wanted, shown) in plan.mounts.iter().zip(rendered) {
        let source = match &wanted.source {
            MountSource::Host { .. } | MountSource::Image { .. } => {
                brought += 1;
                bundle.path(&parts::mount(brought - 1))
            }
            MountSource::PodShm => bundle.path(parts::SHM),
            MountSource::Filesystem { kind, .. } if is_cgroups(kind, &wanted.target) => {
                if wanted.target == CGROUPS {
                    list.push(Mount {
                        kind: "cgroup".to_owned(),
                        source: "cgroup".to_owned(),
                        options: flags(wanted.attributes),
                        ..shown
                    });
                }
                continue;
            }
            MountSource::Filesystem { .. } | MountSource::Proc => {
                list.push(shown);
                continue;
            }
        };
        // What is mounted there has its sub path and its attributes already; a
        // bind mount of it has to be told the latter again.
        let mut options = vec!["rbind".to_owned()];
        let known = shown
            .options
            .into_iter()
            .filter(|option| option != "rbind" && !option.starts_with("subpath="));
        options.extend(known);
        list.push(Mount {
            kind: "bind".to_owned(),
            source,
            options,
            ..shown
        });
    }
    list
}

fn is_cgroups(kind: &str, target: &str) -> bool {
    let below = target
        .strip_prefix(CGROUPS)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    below && matches!(kind, "cgroup" | "cgroup2" | "tmpfs")
}

fn flags(attributes: MountAttributes) -> Vec<String> {
    [
        (attributes.readonly, "ro"),
        (attributes.nosuid, "nosuid"),
        (attributes.nodev, "nodev"),
        (attributes.noexec, "noexec"),
    ]
    .into_iter()
    .filter(|(set, _)| *set)
    .map(|(_, name)| name.to_owned())
    .collect()
}

/// A namespace that is joined is named by a file of the bundle; one that is not
/// in the list is the host's.
fn namespaces(plan: &LaunchPlan, bundle: &Bundle) -> Vec<Namespace> {
    let wanted = &plan.namespaces;
    let new = |kind| Namespace { kind, path: None };
    let joined = |kind, file| Namespace {
        kind,
        path: Some(bundle.path(&parts::namespace(file))),
    };
    let mut list = vec![new("mount")];
    let of_pod = [
        ("network", "net", wanted.network),
        ("ipc", "ipc", wanted.ipc),
        ("uts", "uts", wanted.uts),
    ];
    for (kind, file, whose) in of_pod {
        if whose == PodOrHost::Pod {
            list.push(joined(kind, file));
        }
    }
    match wanted.pid {
        PidNamespace::Container => list.push(new("pid")),
        PidNamespace::Pod | PidNamespace::Target(_) => list.push(joined("pid", "pid")),
        PidNamespace::Host => {}
    }
    if wanted.cgroup == NewOrHost::New {
        list.push(new("cgroup"));
    }
    list
}

// === impl Bundle ===

impl Bundle {
    fn path(&self, part: &str) -> String {
        format!("{}/{part}", self.directory)
    }
}

#[cfg(test)]
mod tests;
