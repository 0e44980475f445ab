//! AppArmor profiles.
//!
//! What is loaded into the kernel is the host's matter: whoever asks for a plan
//! says what is there ([`Profiles`]). The default profile's text is made here,
//! so that it can be read and tested without a kernel that has AppArmor.

use crate::contribution::Contribution;
use crate::isolator::{Isolator, PodView, Refusal};
use crate::spec::{ContainerSpec, ProfileRequest};
use std::collections::BTreeSet;

/// Name of the runtime's own profile.
pub const DEFAULT_PROFILE: &str = "insula-default";

/// Longest name of a profile that is taken; the kernel takes no more than a
/// page for a whole command.
const MAX_NAME: usize = 1024;

/// What containers may not do, whatever their capabilities allow. The rules
/// are those that Docker's, containerd's and CRI-O's defaults have, less one:
/// nothing of `/proc/sys/kernel` can be written (theirs leave `shm*`, which is
/// the ipc namespace's and for the pod's sysctls to say). What procfs tells of
/// the host's keys and timers is masked by path, and shown to who asks for
/// `procMount: Unmasked`.
const DENIED: &[&str] = &[
    "mount",
    "pivot_root",
    "@{PROC}/* w",
    // Directories of procfs that belong to no process, apart from /proc/sys.
    "@{PROC}/{[^1-9/],[^1-9/][^0-9/],[^1-9s/][^0-9y/][^0-9s/],[^1-9/][^0-9/][^0-9/][^0-9/]*}/** w",
    "@{PROC}/sys/[^k]** w",
    "@{PROC}/sys/kernel/** w",
    "@{PROC}/sysrq-trigger rwklx",
    "@{PROC}/{mem,kmem,kcore} rwklx",
    "/sys/[^f]*/** wklx",
    "/sys/f[^s]*/** wklx",
    "/sys/fs/[^c]*/** wklx",
    "/sys/fs/c[^g]*/** wklx",
    "/sys/fs/cg[^r]*/** wklx",
    "/sys/firmware/** rwklx",
    "/sys/devices/virtual/powercap/** rwklx",
    "/sys/kernel/security/** rwklx",
];

/// What AppArmor has loaded on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profiles {
    /// Names of the loaded profiles.
    pub loaded: BTreeSet<String>,
    /// Why the default profile is not among them.
    pub default_missing: Option<String>,
}

/// Which parts of AppArmor's policy a host has, so that a profile may include
/// them. They are files below `/etc/apparmor.d`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PolicyParts {
    /// `abi/3.0`: without it a newer parser takes rules for unix sockets as
    /// missing and denies them.
    pub abi: bool,
    /// `tunables/global`, which says where procfs is.
    pub tunables: bool,
    /// `abstractions/base`, what every program needs.
    pub base: bool,
}

/// The profile a container asks for, or the default one.
///
/// Nothing said means the default profile on a host that has AppArmor
/// (Kubernetes, issue 51746), as it does for containerd and CRI-O. A privileged
/// container has none unless it names one of the node's. On a host without
/// AppArmor an explicit profile is refused, since it cannot take effect.
#[derive(Debug)]
pub(crate) struct AppArmor;

impl Isolator for AppArmor {
    fn name(&self) -> &'static str {
        "apparmor"
    }

    fn prepare(&self, spec: &ContainerSpec, pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        let request = &spec.security.apparmor;
        let profile = match (request, pod.host.apparmor) {
            (ProfileRequest::Unconfined, _) | (ProfileRequest::Unset, false) => None,
            (ProfileRequest::Unset | ProfileRequest::RuntimeDefault, _)
                if spec.security.privileged =>
            {
                None
            }
            (asked, false) => {
                return Err(Refusal::new(format!(
                    "AppArmor profile {} was asked for, but AppArmor is not enabled on this host: leave it unset or use Unconfined",
                    words(asked)
                )));
            }
            (asked, true) => choose(asked, pod.apparmor)?,
        };
        Ok(Contribution {
            apparmor_profile: profile,
            ..Contribution::default()
        })
    }
}

/// Whether the profiles of the host have to be known for this container.
pub fn needs_profiles(spec: &ContainerSpec) -> bool {
    match &spec.security.apparmor {
        ProfileRequest::Unconfined => false,
        ProfileRequest::Unset | ProfileRequest::RuntimeDefault => !spec.security.privileged,
        ProfileRequest::Localhost(_) => true,
    }
}

fn words(request: &ProfileRequest) -> String {
    match request {
        ProfileRequest::Localhost(name) => format!("Localhost {name:?}"),
        other => format!("{other:?}"),
    }
}

fn choose(asked: &ProfileRequest, profiles: &Profiles) -> Result<Option<String>, Refusal> {
    let default_missing = || {
        profiles.default_missing.clone().or_else(|| {
            (!profiles.loaded.contains(DEFAULT_PROFILE)).then(|| "it is not loaded".to_owned())
        })
    };
    match asked {
        ProfileRequest::Unconfined => Ok(None),
        // The caller says that it is missing; a node must not be useless
        // because it lacks a program of user space.
        ProfileRequest::Unset => Ok(default_missing()
            .is_none()
            .then(|| DEFAULT_PROFILE.to_owned())),
        ProfileRequest::RuntimeDefault => match default_missing() {
            None => Ok(Some(DEFAULT_PROFILE.to_owned())),
            Some(why) => Err(Refusal::new(format!(
                "AppArmor profile RuntimeDefault was asked for, but {DEFAULT_PROFILE} cannot be used: {why}"
            ))),
        },
        ProfileRequest::Localhost(name) => {
            // The old field's prefix, which some clients put into the new one.
            let name = name.strip_prefix("localhost/").unwrap_or(name);
            if name.is_empty() || name.len() > MAX_NAME || name.contains(char::is_control) {
                return Err(Refusal::new(format!(
                    "{name:?} is no name of an AppArmor profile"
                )));
            }
            if !profiles.loaded.contains(name) {
                return Err(Refusal::new(format!(
                    "AppArmor profile {name:?} is not loaded on this node: load it with apparmor_parser"
                )));
            }
            Ok(Some(name.to_owned()))
        }
    }
}

/// The names in the kernel's list of profiles
/// (`/sys/kernel/security/apparmor/profiles`), lines of a name and its mode in
/// parentheses.
pub fn parse_profiles(list: &str) -> BTreeSet<String> {
    list.lines()
        .filter_map(|line| line.rsplit_once(" ("))
        .map(|(name, _mode)| name.to_owned())
        .collect()
}

/// The default profile as apparmor_parser(8) reads it (apparmor.d(5)).
///
/// `daemon` is the profile that the runtime itself runs under, whose signals
/// containers must take; `None` is unconfined.
pub fn default_profile(parts: PolicyParts, daemon: Option<&str>) -> String {
    let mut lines = Vec::new();
    if parts.abi {
        lines.push("abi <abi/3.0>,".to_owned());
    }
    lines.push(if parts.tunables {
        "#include <tunables/global>".to_owned()
    } else {
        "@{PROC}=/proc/".to_owned()
    });
    // Paths outside the root, and files that were deleted, are judged too.
    lines.push(format!(
        "profile {DEFAULT_PROFILE} flags=(attach_disconnected,mediate_deleted) {{"
    ));
    if parts.base {
        lines.push("  #include <abstractions/base>".to_owned());
    }
    for rule in ["network", "capability", "file", "umount"] {
        lines.push(format!("  {rule},"));
    }
    // The node may signal containers; containers may signal and trace one
    // another.
    lines.push("  signal (receive) peer=unconfined,".to_owned());
    if let Some(daemon) = daemon.filter(|name| is_plain(name)) {
        lines.push(format!("  signal (receive) peer={daemon},"));
    }
    lines.push(format!("  signal (send,receive) peer={DEFAULT_PROFILE},"));
    lines.push(format!(
        "  ptrace (trace,tracedby,read,readby) peer={DEFAULT_PROFILE},"
    ));
    lines.extend(DENIED.iter().map(|rule| format!("  deny {rule},")));
    lines.push("}".to_owned());
    lines.join("\n") + "\n"
}

/// A name that means itself in a profile, without quotes or patterns.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte))
}
