//! Profiles as people write them.
//!
//! Two dialects are read, and may be mixed: `linux.seccomp` of the OCI runtime
//! specification (config-linux.md, "Seccomp"), and that of Docker and Podman,
//! which has `archMap`, `includes` and `excludes`, `minKernel`, `name`, and
//! error names. A profile is refused as a whole, with line and column: a rule
//! that is not understood might be the one that matters.

use crate::action::{Action, EPERM, MAX_ERROR};
use crate::architecture::NamedArchitecture;
use crate::tables;
use insula_wire::Capability;
use serde::{Deserialize, Deserializer};

/// Largest profile that is read, in bytes. Docker's has 10,000.
pub const MAX_BYTES: usize = 1 << 20;

/// A profile.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "raw::Profile")]
pub struct Profile {
    /// What becomes of a system call that no rule speaks of.
    pub default_action: Action,
    /// Whose system calls it judges.
    pub architectures: Architectures,
    /// How it is loaded.
    pub flags: Flags,
    /// Who answers for [`Action::Notify`].
    pub listener: Option<Listener>,
    /// Its rules, in order.
    pub groups: Vec<Group>,
}

/// Whose system calls a profile judges, beside those of the machine's own
/// architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Architectures {
    /// These.
    Listed(Vec<NamedArchitecture>),
    /// By the machine's own: the first that is it brings its companions.
    Mapped(Vec<(NamedArchitecture, Vec<NamedArchitecture>)>),
}

/// How a filter is loaded, seccomp(2) and OCI `seccomp.flags`.
/// `SECCOMP_FILTER_FLAG_TSYNC` is understood and means nothing here: a process
/// has one thread when it loads its filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    /// `SECCOMP_FILTER_FLAG_LOG`.
    pub log: bool,
    /// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`; what is set where nothing is said.
    pub spec_allow: bool,
    /// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`.
    pub wait_killable: bool,
}

/// Who is handed the descriptor that answers notifications, OCI
/// `listenerPath`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Absolute path of its socket.
    pub path: String,
    /// What it is told, verbatim.
    pub metadata: String,
}

/// Rules for several system calls at once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "raw::Group")]
pub struct Group {
    /// Names of system calls; those that no architecture here has are passed
    /// over.
    pub names: Vec<String>,
    /// What becomes of them.
    pub action: Action,
    /// On which arguments; all have to hold, but see
    /// [`Rule`](crate::select::Rule).
    pub conditions: Vec<Condition>,
    /// The group counts only where all of this holds.
    pub includes: Requirements,
    /// The group does not count where any of this holds.
    pub excludes: Requirements,
}

/// What is asked of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "raw::Condition")]
pub struct Condition {
    /// Which, 0 to 5.
    pub argument: u8,
    /// How it is compared.
    pub operator: Operator,
    /// What it is compared with; the mask of [`Operator::MaskedEqual`].
    pub value: u64,
    /// What the masked argument is compared with.
    pub value_two: u64,
}

/// Comparisons, OCI `op`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[expect(missing_docs, reason = "names of comparisons, unsigned")]
pub enum Operator {
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    /// Equal after a mask.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

/// When a group counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirements {
    /// Names as [`docker_name`](crate::Architecture::docker_name) gives them.
    pub architectures: Vec<String>,
    /// Capabilities in the bounding set; `None` is one that no kernel here
    /// has.
    pub capabilities: Vec<Option<Capability>>,
    /// The kernel is at least this one.
    pub kernel: Option<KernelVersion>,
}

/// The first two numbers of a kernel's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the parts of a version")]
pub struct KernelVersion {
    pub major: u32,
    pub minor: u32,
}

/// A profile is not understood.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It is too long to be one.
    #[error("the profile has {0} bytes, more than {MAX_BYTES}")]
    TooLarge(usize),
    /// What is wrong, and where.
    #[error("{0}")]
    Malformed(#[from] serde_json::Error),
}

/// What is no kernel version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no kernel version: two numbers such as 4.8 are wanted")]
pub struct InvalidKernelVersion(String);

// === impl Profile ===

impl Profile {
    /// Reads a profile.
    pub fn parse(text: &[u8]) -> Result<Self, ProfileError> {
        if text.len() > MAX_BYTES {
            return Err(ProfileError::TooLarge(text.len()));
        }
        Ok(serde_json::from_slice(text)?)
    }

    /// Whether somebody has to answer for system calls.
    pub fn notifies(&self) -> bool {
        let asks = |action: Action| action == Action::Notify;
        asks(self.default_action) || self.groups.iter().any(|group| asks(group.action))
    }
}

// === impl Flags ===

impl Default for Flags {
    fn default() -> Self {
        Self {
            log: false,
            spec_allow: true,
            wait_killable: false,
        }
    }
}

// === impl KernelVersion ===

impl std::str::FromStr for KernelVersion {
    type Err = InvalidKernelVersion;

    /// Reads `4.8`, and what uname(2) gives: `6.12.43+deb13-amd64`.
    fn from_str(text: &str) -> Result<Self, InvalidKernelVersion> {
        let invalid = || InvalidKernelVersion(text.to_owned());
        let (major, rest) = text.split_once('.').ok_or_else(invalid)?;
        let end = rest
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(rest.len());
        Ok(Self {
            major: major.parse().map_err(|_| invalid())?,
            minor: rest[..end].parse().map_err(|_| invalid())?,
        })
    }
}

/// The documents as they are written. Unknown fields are refused: a misspelt
/// `syscalls` would make a list of what is denied an empty one.
mod raw {
    use super::{
        Action, Architectures, Capability, Deserialize, Deserializer, EPERM, Flags, KernelVersion,
        Listener, MAX_ERROR, NamedArchitecture, Operator, Requirements, tables,
    };

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub(super) struct Profile {
        default_action: ActionName,
        default_errno_ret: Option<u32>,
        default_errno: Option<String>,
        #[serde(default, deserialize_with = "or_null")]
        architectures: Vec<Name>,
        #[serde(default, deserialize_with = "or_null")]
        arch_map: Vec<ArchitectureMap>,
        flags: Option<Vec<Flag>>,
        #[serde(default, deserialize_with = "or_null")]
        listener_path: String,
        #[serde(default, deserialize_with = "or_null")]
        listener_metadata: String,
        #[serde(default, deserialize_with = "or_null")]
        syscalls: Vec<super::Group>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct ArchitectureMap {
        architecture: Name,
        #[serde(default, deserialize_with = "or_null")]
        sub_architectures: Vec<Name>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub(super) struct Group {
        #[serde(default, deserialize_with = "or_null")]
        names: Vec<String>,
        #[serde(default, deserialize_with = "or_null")]
        name: String,
        action: ActionName,
        errno_ret: Option<u32>,
        errno: Option<String>,
        #[serde(default, deserialize_with = "or_null")]
        args: Vec<super::Condition>,
        #[serde(default, rename = "comment", deserialize_with = "or_null")]
        _comment: String,
        #[serde(default, deserialize_with = "or_null")]
        includes: Filter,
        #[serde(default, deserialize_with = "or_null")]
        excludes: Filter,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub(super) struct Condition {
        index: u32,
        value: u64,
        #[serde(default, deserialize_with = "or_null")]
        value_two: u64,
        op: Operator,
    }

    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Filter {
        #[serde(default, deserialize_with = "or_null")]
        caps: Vec<String>,
        #[serde(default, deserialize_with = "or_null")]
        arches: Vec<String>,
        min_kernel: Option<Version>,
    }

    #[derive(Deserialize)]
    #[serde(try_from = "String")]
    struct Name(NamedArchitecture);

    #[derive(Deserialize)]
    #[serde(try_from = "String")]
    struct Version(KernelVersion);

    #[derive(Clone, Copy, PartialEq, Deserialize)]
    enum ActionName {
        #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
        KillThread,
        #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
        KillProcess,
        #[serde(rename = "SCMP_ACT_TRAP")]
        Trap,
        #[serde(rename = "SCMP_ACT_ERRNO")]
        Error,
        #[serde(rename = "SCMP_ACT_TRACE")]
        Trace,
        #[serde(rename = "SCMP_ACT_ALLOW")]
        Allow,
        #[serde(rename = "SCMP_ACT_LOG")]
        Log,
        #[serde(rename = "SCMP_ACT_NOTIFY")]
        Notify,
    }

    #[derive(Clone, Copy, PartialEq, Deserialize)]
    enum Flag {
        #[serde(rename = "SECCOMP_FILTER_FLAG_TSYNC")]
        Synchronise,
        #[serde(rename = "SECCOMP_FILTER_FLAG_LOG")]
        Log,
        #[serde(rename = "SECCOMP_FILTER_FLAG_SPEC_ALLOW")]
        SpecAllow,
        #[serde(rename = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")]
        WaitKillable,
    }

    /// Go writes an empty list as null.
    fn or_null<'de, D, T>(deserializer: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: Deserialize<'de> + Default,
    {
        Ok(Option::deserialize(deserializer)?.unwrap_or_default())
    }

    /// An action with its error, given as a number, a name, or both: then the
    /// name counts, as for Podman.
    fn action(
        name: ActionName,
        number: Option<u32>,
        error: Option<&str>,
    ) -> Result<Action, String> {
        let error = error.filter(|error| !error.is_empty());
        let named = error
            .map(|error| tables::error(error).ok_or_else(|| format!("unknown error {error:?}")))
            .transpose()?;
        let number = named.or(number);
        let limit = match name {
            ActionName::Error => MAX_ERROR,
            ActionName::Trace => u32::from(u16::MAX),
            _ if number.is_some() => {
                return Err("an error number was given for an action that has none: it goes with SCMP_ACT_ERRNO and SCMP_ACT_TRACE".to_owned());
            }
            _ => 0,
        };
        let number = number.unwrap_or(u32::from(EPERM));
        let data = u16::try_from(number).ok().filter(|_| number <= limit);
        Ok(match (name, data) {
            (ActionName::Error, Some(data)) => Action::Error(data),
            (ActionName::Trace, Some(data)) => Action::Trace(data),
            (ActionName::Error | ActionName::Trace, None) => {
                return Err(format!("error number {number} is above {limit}"));
            }
            (ActionName::KillThread, _) => Action::KillThread,
            (ActionName::KillProcess, _) => Action::KillProcess,
            (ActionName::Trap, _) => Action::Trap,
            (ActionName::Allow, _) => Action::Allow,
            (ActionName::Log, _) => Action::Log,
            (ActionName::Notify, _) => Action::Notify,
        })
    }

    impl TryFrom<String> for Name {
        type Error = crate::architecture::UnknownArchitecture;

        fn try_from(name: String) -> Result<Self, Self::Error> {
            NamedArchitecture::try_from(name).map(Self)
        }
    }

    impl TryFrom<String> for Version {
        type Error = super::InvalidKernelVersion;

        fn try_from(text: String) -> Result<Self, Self::Error> {
            text.parse().map(Self)
        }
    }

    impl TryFrom<Profile> for super::Profile {
        type Error = String;

        fn try_from(raw: Profile) -> Result<Self, String> {
            let names = |names: Vec<Name>| names.into_iter().map(|name| name.0).collect();
            let architectures = match (raw.architectures.is_empty(), raw.arch_map.is_empty()) {
                (false, false) => {
                    return Err("both architectures and archMap are given: one is wanted".into());
                }
                (true, false) => Architectures::Mapped(
                    raw.arch_map
                        .into_iter()
                        .map(|map| (map.architecture.0, names(map.sub_architectures)))
                        .collect(),
                ),
                _ => Architectures::Listed(names(raw.architectures)),
            };
            let flags = raw.flags.map_or_else(Flags::default, |flags| Flags {
                log: flags.contains(&Flag::Log),
                spec_allow: flags.contains(&Flag::SpecAllow),
                wait_killable: flags.contains(&Flag::WaitKillable),
            });
            let listener = match (raw.listener_path, raw.listener_metadata) {
                (path, metadata) if path.starts_with('/') => Some(Listener { path, metadata }),
                (path, metadata) if path.is_empty() && metadata.is_empty() => None,
                (path, _) if path.is_empty() => {
                    return Err("listenerMetadata is given without listenerPath".into());
                }
                (path, _) => return Err(format!("listenerPath {path:?} is not absolute")),
            };
            Ok(Self {
                default_action: action(
                    raw.default_action,
                    raw.default_errno_ret,
                    raw.default_errno.as_deref(),
                )?,
                architectures,
                flags,
                listener,
                groups: raw.syscalls,
            })
        }
    }

    impl TryFrom<Group> for super::Group {
        type Error = String;

        fn try_from(raw: Group) -> Result<Self, String> {
            let names = match (raw.names, raw.name) {
                (names, name) if name.is_empty() => names,
                (names, name) if names.is_empty() => vec![name],
                (_, name) => {
                    return Err(format!(
                        "both names and the name {name:?} are given: one is wanted"
                    ));
                }
            };
            if names.is_empty() || names.iter().any(String::is_empty) {
                return Err("a rule names no system call".into());
            }
            Ok(Self {
                names,
                action: action(raw.action, raw.errno_ret, raw.errno.as_deref())?,
                conditions: raw.args,
                includes: raw.includes.into(),
                excludes: raw.excludes.into(),
            })
        }
    }

    impl TryFrom<Condition> for super::Condition {
        type Error = String;

        fn try_from(raw: Condition) -> Result<Self, String> {
            Ok(Self {
                argument: u8::try_from(raw.index)
                    .ok()
                    .filter(|index| *index < 6)
                    .ok_or_else(|| format!("argument {} is not one of 0 to 5", raw.index))?,
                operator: raw.op,
                value: raw.value,
                value_two: raw.value_two,
            })
        }
    }

    impl From<Filter> for Requirements {
        fn from(raw: Filter) -> Self {
            let capability = |name: &String| name.parse::<Capability>().ok();
            Self {
                architectures: raw.arches,
                capabilities: raw.caps.iter().map(capability).collect(),
                kernel: raw.min_kernel.map(|version| version.0),
            }
        }
    }
}

#[cfg(test)]
mod tests;
