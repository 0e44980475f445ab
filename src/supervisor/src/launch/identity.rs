//! The steps that take rights away, last before execve(2).

use crate::launch::report::step;
use insula_sys::identity::{self, CapabilityMasks};
use insula_sys::{Error, fork};
use insula_wire::message::Failure;
use insula_wire::plan::{Process, Rlimit, RlimitResource};
use rustix::process::Resource;

/// Writes the score the OOM killer goes by. To be called while `/proc` is
/// still the host's.
pub fn set_oom_score(process: &Process) -> Result<(), Failure> {
    let Some(score) = process.oom_score_adj else {
        return Ok(());
    };
    let path = "/proc/self/oom_score_adj";
    step(
        "set oom_score_adj",
        std::fs::write(path, score.to_string())
            .map_err(|error| Error::from_io(format!("write({path:?}, {score})"), &error)),
    )
}

/// Leaves the process as a plain login would: default signals, its umask and
/// limits, a keyring of its own, and only the rights its plan gives it.
pub fn assume(process: &Process) -> Result<(), Failure> {
    fork::reset_signals();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(process.umask));
    step("make session keyring", fork::new_session_keyring())?;
    for limit in &process.rlimits {
        set_limit(limit)?;
    }
    let capabilities = &process.capabilities;
    step(
        "limit bounding set",
        identity::limit_bounding_set(capabilities.bounding.bits()),
    )?;
    let user = &process.user;
    step(
        "change user",
        identity::change_ids(user.uid, user.gid, &user.supplementary_groups),
    )?;
    step(
        "set capabilities",
        identity::set_capabilities(CapabilityMasks {
            bounding: capabilities.bounding.bits(),
            effective: capabilities.effective.bits(),
            permitted: capabilities.permitted.bits(),
            inheritable: capabilities.inheritable.bits(),
            ambient: capabilities.ambient.bits(),
        }),
    )?;
    if process.no_new_privileges {
        step("set no_new_privs", identity::set_no_new_privileges())?;
    }
    Ok(())
}

fn set_limit(limit: &Rlimit) -> Result<(), Failure> {
    let resource = resource(limit.resource);
    let value = |value: u64| (value != u64::MAX).then_some(value);
    let wanted = rustix::process::Rlimit {
        current: value(limit.soft),
        maximum: value(limit.hard),
    };
    step(
        "set resource limit",
        rustix::process::setrlimit(resource, wanted)
            .map_err(|errno| Error::new(format!("setrlimit({resource:?}, {wanted:?})"), errno)),
    )
}

fn resource(resource: RlimitResource) -> Resource {
    match resource {
        RlimitResource::As => Resource::As,
        RlimitResource::Core => Resource::Core,
        RlimitResource::Cpu => Resource::Cpu,
        RlimitResource::Data => Resource::Data,
        RlimitResource::Fsize => Resource::Fsize,
        RlimitResource::Locks => Resource::Locks,
        RlimitResource::Memlock => Resource::Memlock,
        RlimitResource::Msgqueue => Resource::Msgqueue,
        RlimitResource::Nice => Resource::Nice,
        RlimitResource::Nofile => Resource::Nofile,
        RlimitResource::Nproc => Resource::Nproc,
        RlimitResource::Rss => Resource::Rss,
        RlimitResource::Rtprio => Resource::Rtprio,
        RlimitResource::Rttime => Resource::Rttime,
        RlimitResource::Sigpending => Resource::Sigpending,
        RlimitResource::Stack => Resource::Stack,
    }
}
