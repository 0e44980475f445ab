//! All isolators, and what is done with all of them.

use crate::change::Change;
use crate::isolator::{ApplyError, HostFacts, Isolator, PodView, Refusal, Usage};
use crate::merge::{Conflict, MergedLimits, PlanInputs, merge};
use crate::spec::{ContainerSpec, Resources};
use crate::{path, users};
use insula_sys::cgroup::Cgroup;
use insula_wire::plan::{CgroupResources, LaunchPlan, Process, Stdio};
use insula_wire::{Bundle, OsText};

/// A container cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// An isolator cannot do what was asked.
    #[error("{}", refused(isolator, refusal))]
    Refused {
        /// Which.
        isolator: &'static str,
        /// Why.
        refusal: Refusal,
    },
    /// Two isolators contradict each other; a mistake of ours.
    #[error(transparent)]
    Conflict(#[from] Conflict),
}

/// Names the isolator, unless the text begins with a word that clients look for
/// at the beginning (cri-api, `pkg/errors`).
fn refused(isolator: &str, refusal: &Refusal) -> String {
    let known = ["RROUnsupported: ", "ImageVolumeMountFailed: "];
    if known.iter().any(|word| refusal.what.starts_with(word)) {
        refusal.what.clone()
    } else {
        format!("{isolator}: {refusal}")
    }
}

/// Values could not be put into a container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{isolator}: {cause}{}", not_undone(undo_errors))]
pub struct CgroupError {
    /// Whose values.
    pub isolator: &'static str,
    /// What went wrong.
    pub cause: ApplyError,
    /// Old values that could not be put back; empty means that everything is
    /// as before.
    pub undo_errors: Vec<insula_sys::Error>,
}

fn not_undone(errors: &[insula_sys::Error]) -> String {
    if errors.is_empty() {
        return String::new();
    }
    let list: Vec<String> = errors.iter().map(ToString::to_string).collect();
    format!(
        "; these old values could not be put back: {}",
        list.join("; ")
    )
}

/// Every isolator, in the order in which they prepare.
///
/// The gates come first, so that a request that cannot be granted is refused
/// for that reason and no other; then what the file system shows, whose rights
/// the process has, and its limits.
pub fn isolators() -> &'static [&'static dyn Isolator] {
    &[
        &crate::privileged::Privileged,
        &crate::user_namespace::UserNamespace,
        &crate::seccomp::Seccomp,
        &crate::apparmor::AppArmor,
        &crate::selinux::Selinux,
        &crate::filesystem::Filesystem,
        &crate::image_volumes::ImageVolumes,
        &crate::volumes::Volumes,
        &crate::devices::Devices,
        &crate::paths::MaskedPaths,
        &crate::namespaces::Namespaces,
        &users::Users,
        &crate::environment::Environment,
        &crate::process::ProcessArguments,
        &crate::capabilities::Capabilities,
        &crate::no_new_privileges::NoNewPrivileges,
        &crate::rlimits::Rlimits,
        &crate::oom_score::OomScore,
        &crate::cpuset::Cpuset,
        &crate::cpu::Cpu,
        &crate::memory::Memory,
        &crate::pids::Pids,
        &crate::io::Io,
        &crate::hugetlb::Hugetlb,
        &crate::unified::Unified,
        &crate::cdi::Cdi,
    ]
}

/// Plans a container. Pure: nothing on the host is read or changed.
pub fn plan(spec: &ContainerSpec, pod: &PodView<'_>) -> Result<LaunchPlan, PlanError> {
    let mut contributions = Vec::new();
    for isolator in isolators() {
        let refused = |refusal| PlanError::Refused {
            isolator: isolator.name(),
            refusal,
        };
        let mut contribution = isolator.prepare(spec, pod).map_err(refused)?;
        contribution.resources = isolator
            .limits(&spec.resources, pod.host)
            .map_err(refused)?;
        contributions.push((isolator.name(), contribution));
    }
    let refused = |refusal| PlanError::Refused {
        isolator: "stdio",
        refusal,
    };
    let inputs = PlanInputs {
        container_id: pod.container_id.to_owned(),
        cgroup_path: pod.cgroup_path.to_owned(),
        stdio: stdio(spec, pod).map_err(refused)?,
        bundle: Bundle {
            path: pod.bundle.display().to_string(),
            annotations: spec.annotations.clone(),
        },
    };
    let plan = merge(inputs, contributions)?;
    if let Some(ids) = pod.spec.namespaces.user {
        crate::user_namespace::check(&plan, ids).map_err(|refusal| PlanError::Refused {
            isolator: "user-namespace",
            refusal,
        })?;
    }
    Ok(plan)
}

/// What changed limits mean as values for [`update`]. Pure. What is not set in
/// `resources` is `None`.
pub fn limits(resources: &Resources, host: &HostFacts) -> Result<CgroupResources, PlanError> {
    let mut merged = MergedLimits::default();
    for isolator in isolators() {
        let part = isolator
            .limits(resources, host)
            .map_err(|refusal| PlanError::Refused {
                isolator: isolator.name(),
                refusal,
            })?;
        merged.add(isolator.name(), part)?;
    }
    Ok(merged.finish())
}

/// The process of an exec in a container with this plan: the same user,
/// environment, capabilities, limits and working directory, other arguments.
pub fn exec_process(plan: &LaunchPlan, args: Vec<OsText>) -> Result<Process, Refusal> {
    if args
        .first()
        .is_none_or(|program| program.as_bytes().is_empty())
    {
        return Err(Refusal::new("no command to execute was given"));
    }
    Ok(Process {
        args,
        ..plan.process.clone()
    })
}

/// Writes the plan's values into a container's new cgroup. On an error the
/// caller removes the cgroup.
pub fn isolate(cgroup: &Cgroup, want: &CgroupResources) -> Result<(), CgroupError> {
    let mut change = Change::of_new(cgroup);
    for isolator in isolators() {
        isolator
            .isolate(&mut change, want)
            .map_err(|cause| CgroupError {
                isolator: isolator.name(),
                cause,
                undo_errors: Vec::new(),
            })?;
    }
    Ok(())
}

/// Changes the values of a running container's cgroup: all, or none. What is
/// `None` or empty in `want` is left as it is. What comes back can still be
/// undone, for callers of whom this is one step.
pub fn update<'a>(cgroup: &'a Cgroup, want: &CgroupResources) -> Result<Change<'a>, CgroupError> {
    let mut change = Change::of_running(cgroup);
    for isolator in isolators() {
        if let Err(cause) = isolator.update(&mut change, want) {
            return Err(CgroupError {
                isolator: isolator.name(),
                cause,
                undo_errors: change.undo(),
            });
        }
    }
    Ok(change)
}

/// Measures a cgroup. What cannot be read is left out.
pub fn usage(cgroup: &Cgroup) -> Usage {
    let mut usage = Usage::default();
    for isolator in isolators() {
        isolator.usage(cgroup, &mut usage);
    }
    usage
}

/// The log's path is `log_directory/log_path`; without either there is no log.
fn stdio(spec: &ContainerSpec, pod: &PodView<'_>) -> Result<Stdio, Refusal> {
    let directory = &pod.spec.log_directory;
    let log_path = if directory.is_empty() || spec.log_path.is_empty() {
        None
    } else {
        if !directory.starts_with('/') {
            return Err(Refusal::new(format!(
                "log directory {directory:?} is not absolute"
            )));
        }
        path::refuse_parent_parts("log path", &spec.log_path)?;
        Some(path::clean(&format!("{directory}/{}", spec.log_path)))
    };
    Ok(Stdio {
        terminal: spec.tty,
        stdin: spec.stdin,
        stdin_once: spec.stdin_once,
        log_path,
    })
}
