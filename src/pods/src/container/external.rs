//! Containers that an external OCI runtime executes.

use crate::env::Pod;
use crate::error::{Error, Result};
use crate::handlers::OciRuntime;
use insula_oci::bundle::{self, Bundle};
use insula_wire::LaunchPlan;
use insula_wire::plan::RuntimeProgram;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// The group of a container in one that a service manager has made around the
/// process that calls the runtime: a runtime wants one with nothing in it.
const INNER_GROUP: &str = "container";

/// How a runtime is called.
pub(crate) fn program(runtime: &OciRuntime) -> Result<RuntimeProgram> {
    let facts = runtime
        .facts
        .as_ref()
        .map_err(|why| Error::FailedPrecondition(format!("{}: {why}", runtime.path.display())))?;
    let path = runtime.path.to_str().ok_or_else(|| {
        Error::InvalidArgument(format!("the path {:?} is not UTF-8", runtime.path))
    })?;
    Ok(RuntimeProgram {
        path: path.to_owned(),
        args: runtime.args.clone(),
        timeout_ms: u64::try_from(runtime.timeout.as_millis()).unwrap_or(u64::MAX),
        namespaced: facts.namespaced(),
    })
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
