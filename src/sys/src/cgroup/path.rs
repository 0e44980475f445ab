//! The path of a cgroup below each hierarchy's root.

use std::fmt;
use std::str::FromStr;

/// Longest path that is accepted, in bytes; with the mount point before it it
/// stays below `PATH_MAX`.
const MAX_LENGTH: usize = 3072;

/// Longest name of one group, `NAME_MAX`.
const MAX_NAME: usize = 255;

/// A path below a hierarchy's root, such as `kubepods/burstable/pod1/c1`.
///
/// Never empty, so never the root itself; no part is empty, `.` or `..`. A
/// leading slash, as kubelet sends it in `cgroup_parent`, is taken away.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CgroupPath(String);

/// A text is no path of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} is no cgroup path: {why}")]
pub struct InvalidPath {
    path: String,
    why: &'static str,
}

// === impl CgroupPath ===

impl CgroupPath {
    /// The path without a leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names from the outermost group inwards; at least one.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The innermost name.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The group around this one, if that is not the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0
            .rsplit_once('/')
            .map(|(parent, _)| Self(parent.to_owned()))
    }

    /// A group inside this one. `name` may itself have several parts.
    pub fn join(&self, name: &str) -> Result<Self, InvalidPath> {
        format!("{}/{name}", self.0).parse()
    }
}

impl FromStr for CgroupPath {
    type Err = InvalidPath;

    fn from_str(path: &str) -> Result<Self, InvalidPath> {
        let invalid = |why| InvalidPath {
            path: path.chars().take(256).collect(),
            why,
        };
        let bare = path.strip_prefix('/').unwrap_or(path);
        if bare.is_empty() {
            return Err(invalid("it is the root, which belongs to the host"));
        }
        if bare.len() > MAX_LENGTH {
            return Err(invalid("it is longer than 3072 bytes"));
        }
        for part in bare.split('/') {
            match part {
                "" => return Err(invalid("it has an empty part")),
                "." | ".." => return Err(invalid("it has a part `.` or `..`")),
                _ if part.len() > MAX_NAME => {
                    return Err(invalid("it has a part longer than 255 bytes"));
                }
                _ if part.chars().any(char::is_control) => {
                    return Err(invalid("it has a control character"));
                }
                _ => {}
            }
        }
        Ok(Self(bare.to_owned()))
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
