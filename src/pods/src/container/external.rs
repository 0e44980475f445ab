//! Containers that an external OCI runtime executes.

use crate::env::Pod;
use crate::error::{Error, Result};
use crate::handlers::OciRuntime;
use insula_oci::bundle::{self, Bundle};
use insula_oci::runtime::Containers;
use insula_wire::LaunchPlan;
use insula_wire::plan::{Process, RuntimeProgram};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// The group of a container in one that a service manager has made around the
/// process that calls the runtime: a runtime wants one with nothing in it.
const INNER_GROUP: &str = "container";

/// How a runtime is called whose containers are sandboxes. Its own group would be
/// one beside the container's, which is entered before it is called. A network of
/// its own takes the pod's addresses for good, so that the next container of the
/// pod (a restart, or the one after an init container) would have none, and hides
/// loopback from port-forward. Who wants it says so in the handler's `args`, which
/// come later.
const SANDBOX_ARGS: [&str; 2] = ["--ignore-cgroups", "--network=host"];

/// How a runtime is called.
pub(crate) fn program(runtime: &OciRuntime) -> Result<RuntimeProgram> {
    let facts = runtime
        .facts
        .as_ref()
        .map_err(|why| Error::FailedPrecondition(format!("{}: {why}", runtime.path.display())))?;
    let path = runtime.path.to_str().ok_or_else(|| {
        Error::InvalidArgument(format!("the path {:?} is not UTF-8", runtime.path))
    })?;
    let namespaced = match facts.containers() {
        Some(Containers::Namespaces) => true,
        Some(Containers::Sandbox) => false,
        None => {
            return Err(Error::FailedPrecondition(format!(
                "{path} does not say that its containers are Linux namespaces (`{path} features`), and of others only runsc is known"
            )));
        }
    };
    let own = match namespaced {
        true => &[][..],
        false => &SANDBOX_ARGS,
    };
    Ok(RuntimeProgram {
        path: path.to_owned(),
        args: own
            .iter()
            .map(|arg| (*arg).to_owned())
            .chain(runtime.args.iter().cloned())
            .collect(),
        timeout_ms: u64::try_from(runtime.timeout.as_millis()).unwrap_or(u64::MAX),
        namespaced,
    })
}

/// Whether a plan's container is a sandbox, of which a pod can have one.
fn is_sandbox(plan: &LaunchPlan) -> bool {
    let runtime = plan.runtime.as_ref();
    runtime.is_some_and(|runtime| !runtime.program.namespaced)
}

/// What a runtime is told about a process that it is asked to add to a container,
/// as a sealed memfd; `None` where the supervisor can join the container.
pub(crate) fn process(
    plan: &LaunchPlan,
    process: &Process,
    terminal: bool,
) -> Result<Option<OwnedFd>> {
    if !is_sandbox(plan) {
        return Ok(None);
    }
    let stage = format!("write process.json for container {}", plan.container_id);
    let text = bundle::process(process, terminal)
        .map_err(|error| Error::InvalidArgument(error.to_string()))?;
    insula_sys::fd::sealed_memfd("process.json", &text)
        .map(Some)
        .map_err(|error| Error::internal(stage, error))
}

/// A second container beside one that has not ended would be a sandbox of its
/// own, which shares nothing with the first: no process, no file of `/dev/shm`, no
/// queue. Those that have ended are in nobody's way.
pub(crate) fn check_alone(runtime: &OciRuntime, other: Option<&str>) -> Result<()> {
    match other {
        Some(other) if !program(runtime)?.namespaced => Err(Error::FailedPrecondition(format!(
            "{} makes a sandbox of each container, so a pod can have one at a time, and container {other} has not ended: use another runtime handler for pods of several containers",
            runtime.path.display()
        ))),
        _ => Ok(()),
    }
}

/// Whether a runtime can do what a plan asks for.
pub(crate) fn check(plan: &LaunchPlan, runtime: &OciRuntime) -> Result<()> {
    let recursive = plan
        .mounts
        .iter()
        .find(|mount| mount.attributes.recursive_readonly);
    match recursive {
        Some(mount) if !runtime.has_recursive_read_only() => Err(Error::InvalidArgument(format!(
            "RROUnsupported: recursive_read_only of the volume at {}: {} does not say that it can do that",
            mount.target,
            runtime.path.display()
        ))),
        _ => Ok(()),
    }
}

/// How long the supervisor may take where it may have to call a runtime.
pub(super) fn deadline(pod: &Pod, plan: &LaunchPlan) -> Duration {
    let own = pod.env.config.deadlines.supervisor;
    plan.runtime.as_ref().map_or(own, |runtime| {
        own + Duration::from_millis(runtime.program.timeout_ms)
    })
}

/// The bundle's `config.json`, as a sealed memfd; `None` where the supervisor
/// executes the plan itself.
pub(super) fn config(
    pod: &Pod,
    plan: &LaunchPlan,
    born_in_cgroup: bool,
) -> Result<Option<OwnedFd>> {
    if plan.runtime.is_none() {
        return Ok(None);
    }
    let stage = format!("write config.json of container {}", plan.container_id);
    let directory = pod.directory.path();
    let directory = directory
        .to_str()
        .ok_or_else(|| Error::InvalidArgument(format!("the path {directory:?} is not UTF-8")))?;
    let bundle = Bundle {
        directory: directory.to_owned(),
        hostname: match is_sandbox(plan) {
            true => pod.spec.hostname.clone(),
            false => String::new(),
        },
        cgroup: match born_in_cgroup {
            true => plan.cgroup.path.clone(),
            false => format!("{}/{INNER_GROUP}", plan.cgroup.path),
        },
    };
    let text =
        bundle::config(plan, &bundle).map_err(|error| Error::InvalidArgument(error.to_string()))?;
    insula_sys::fd::sealed_memfd("config.json", &text)
        .map(Some)
        .map_err(|error| Error::internal(stage, error))
}
