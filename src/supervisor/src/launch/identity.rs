//! The steps that take rights away, last before execve(2).

use crate::launch::filter::Filter;
use crate::launch::report::step;
use insula_sys::identity::{self, CapabilityMasks};
use insula_sys::{Error, fork};
use insula_wire::message::Failure;
use insula_wire::plan::{Capabilities, Process, Rlimit, RlimitResource};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
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

/// Declares the security labels that the next execve(2) brings, AppArmor's and
/// SELinux's, and the label of keyrings made until then. A process that is
/// forked after this inherits the declaration (`apparmor_task_alloc`,
/// `selinux_cred_prepare`), so it is made where no tenant is in reach: in the
/// host's mount namespace, where `/proc` is the host's own. That it is procfs is
/// checked all the same (CVE-2019-16884: a label that goes to another file is
/// no label).
pub fn declare_labels(process: &Process) -> Result<(), Failure> {
    if let Some(profile) = &process.apparmor_profile {
        let command = format!("exec {profile}");
        // The second is what kernels before 5.8 have.
        declare("set AppArmor profile", &["apparmor/exec", "exec"], &command)?;
    }
    if let Some(label) = &process.selinux_label {
        declare("set SELinux label", &["exec"], label)?;
        declare("set SELinux label of keyrings", &["keycreate"], label)?;
    }
    Ok(())
}

/// Takes the declaration back, in a process that was forked after it and
/// executes something else first. To be called while `/proc` is still the
/// host's.
pub fn undeclare_labels(process: &Process) -> Result<(), Failure> {
    if process.apparmor_profile.is_some() {
        let files = ["apparmor/exec", "exec"];
        declare("unset AppArmor profile", &files, "exec unconfined")?;
    }
    if process.selinux_label.is_some() {
        // Nothing is what setexeccon(3) writes to unset it.
        declare("unset SELinux label", &["exec"], "")?;
        declare("unset SELinux label of keyrings", &["keycreate"], "")?;
    }
    Ok(())
}

/// Writes an attribute of this thread, proc_pid_attr(5), to the first of the
/// files that exists.
fn declare(name: &str, files: &[&str], value: &str) -> Result<(), Failure> {
    const DIRECTORY: &str = "/proc/thread-self/attr";
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(DIRECTORY, flags, Mode::empty())
        .map_err(|errno| Error::new(format!("open({DIRECTORY:?}, O_PATH)"), errno));
    let directory = step(name, directory)?;
    let mut result = Err(Error::new(format!("open({DIRECTORY:?})"), Errno::NOENT));
    for file in files {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&directory, *file, flags, Mode::empty()) {
            Err(errno @ (Errno::NOENT | Errno::NOTDIR)) => {
                result = Err(Error::new(
                    format!("openat({DIRECTORY:?}, {file:?})"),
                    errno,
                ));
            }
            Err(errno) => {
                let call = format!("openat({DIRECTORY:?}, {file:?}, O_WRONLY)");
                return step(name, Err(Error::new(call, errno)));
            }
            Ok(attribute) => {
                step(name, insula_sys::path::check_procfs(&attribute))?;
                result = rustix::io::write(&attribute, value.as_bytes())
                    .map(drop)
                    .map_err(|errno| Error::new(format!("write({file:?}, {value:?})"), errno));
                break;
            }
        }
    }
    step(name, result)
}

/// Gives the process a session keyring of its own. To be called by the host's
/// root: the keys of other users are counted, and a user namespace's root may
/// have only a few hundred.
pub fn make_keyring() -> Result<(), Failure> {
    step("make session keyring", fork::new_session_keyring())
}

/// Becomes root of the user namespace that was just made or joined. Until then
/// the process has the host's root as its id, which is nobody inside.
pub fn become_root_inside() -> Result<(), Failure> {
    step(
        "become root of the user namespace",
        identity::change_ids(0, 0, &[]),
    )?;
    stay_unseen()
}

/// A change of ids or rights may make a process dumpable again (`suid_dumpable`
/// in proc_sys_fs(5)). Tenants of its user namespace could then look into it.
fn stay_unseen() -> Result<(), Failure> {
    step(
        "stay undumpable",
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
            .map_err(|errno| Error::new("prctl(PR_SET_DUMPABLE, 0)", errno)),
    )
}

/// Leaves the process as a plain login would: default signals, its umask and
/// limits, and only the rights its plan gives it.
///
/// Gives back its system call filter, which is still to be loaded.
pub fn assume(process: &Process) -> Result<Filter, Failure> {
    fork::reset_signals();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(process.umask));
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
    let filter = Filter::new(process);
    step(
        "set capabilities",
        identity::set_capabilities(filter.rights_until_loaded()),
    )?;
    stay_unseen()?;
    if process.no_new_privileges {
        step("set no_new_privs", identity::set_no_new_privileges())?;
    }
    Ok(filter)
}

/// Capability sets as the kernel's masks.
pub fn masks(capabilities: &Capabilities) -> CapabilityMasks {
    CapabilityMasks {
        bounding: capabilities.bounding.bits(),
        effective: capabilities.effective.bits(),
        permitted: capabilities.permitted.bits(),
        inheritable: capabilities.inheritable.bits(),
        ambient: capabilities.ambient.bits(),
    }
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
