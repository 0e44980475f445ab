//! What cgroup hierarchies this host has mounted, and where.

use crate::{Error, Result};
use rustix::io::Errno;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// How this host's cgroups are laid out: every hierarchy once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    hierarchies: Vec<Hierarchy>,
}

/// Version of the kernel interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy per controller or set of controllers.
    V1,
    /// The one unified hierarchy.
    V2,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted on the host.
    pub mount_point: PathBuf,
    /// Whether it is a version 1 hierarchy or the version 2 one.
    pub version: Version,
    /// Controllers bound to it, such as `cpu` and `cpuacct`. For version 2,
    /// those of the root's `cgroup.controllers`.
    pub controllers: Vec<String>,
    /// The name of a version 1 hierarchy mounted with `name=`, such as
    /// `systemd`.
    pub name: Option<String>,
}

// === impl Layout ===

impl Layout {
    /// A layout that is known otherwise. Tests hand in plain directories.
    pub fn new(hierarchies: Vec<Hierarchy>) -> Self {
        Self { hierarchies }
    }

    /// Finds out from `/proc/self/mountinfo` what this process sees.
    ///
    /// `ENOENT` means that no hierarchy is mounted at all.
    pub fn detect() -> Result<Self> {
        let file = "/proc/self/mountinfo";
        let text = std::fs::read(file)
            .map_err(|error| Error::from_io(format!("read({file:?})"), &error))?;
        let mut layout = Self::from_mountinfo(&text);
        if layout.hierarchies.is_empty() {
            return Err(Error::new(
                "find a file system of type cgroup or cgroup2 in /proc/self/mountinfo",
                Errno::NOENT,
            ));
        }
        for hierarchy in &mut layout.hierarchies {
            if hierarchy.version == Version::V2 {
                hierarchy.controllers = read_words(&hierarchy.mount_point, "cgroup.controllers")?;
            }
        }
        Ok(layout)
    }

    /// Reads the layout from the text of a `mountinfo` file, proc(5). The
    /// controllers of a version 2 hierarchy are not in there and stay empty.
    ///
    /// A hierarchy that is mounted more than once (inside a container's root,
    /// say) counts once: where it lies below `/sys/fs/cgroup`, else first.
    pub fn from_mountinfo(text: &[u8]) -> Self {
        let mut found: Vec<(Vec<u8>, Hierarchy)> = Vec::new();
        for line in text.split(|byte| *byte == b'\n') {
            let Some((device, hierarchy)) = parse_line(line) else {
                continue;
            };
            match found.iter_mut().find(|(known, _)| *known == device) {
                None => found.push((device, hierarchy)),
                Some((_, known)) if !is_usual(known) && is_usual(&hierarchy) => *known = hierarchy,
                Some(_) => {}
            }
        }
        Self::new(found.into_iter().map(|(_, hierarchy)| hierarchy).collect())
    }

    /// [`Version::V2`] where the unified hierarchy is the only one. A host
    /// with version 1 hierarchies is [`Version::V1`], also with an empty
    /// unified hierarchy beside them ("hybrid").
    pub fn version(&self) -> Version {
        if self
            .hierarchies
            .iter()
            .all(|one| one.version == Version::V2)
        {
            Version::V2
        } else {
            Version::V1
        }
    }

    /// Every hierarchy, once.
    pub fn hierarchies(&self) -> &[Hierarchy] {
        &self.hierarchies
    }

    /// The unified hierarchy, alone or beside version 1 ones.
    pub fn unified(&self) -> Option<&Hierarchy> {
        self.hierarchies
            .iter()
            .find(|one| one.version == Version::V2)
    }

    /// Whether some hierarchy has this controller.
    pub fn has(&self, controller: &str) -> bool {
        self.hierarchies
            .iter()
            .any(|one| one.controllers.iter().any(|name| name == controller))
    }
}

// === impl Hierarchy ===

impl Hierarchy {
    /// The unified hierarchy at a mount point, with the controllers given.
    pub fn unified(mount_point: impl Into<PathBuf>, controllers: &[&str]) -> Self {
        Self {
            mount_point: mount_point.into(),
            version: Version::V2,
            controllers: controllers.iter().map(|&name| name.to_owned()).collect(),
            name: None,
        }
    }

    /// A version 1 hierarchy at a mount point, with the controllers given.
    pub fn legacy(mount_point: impl Into<PathBuf>, controllers: &[&str]) -> Self {
        Self {
            version: Version::V1,
            ..Self::unified(mount_point, controllers)
        }
    }
}

/// The white-space separated words of a file of a cgroup.
pub(super) fn read_words(directory: &Path, file: &str) -> Result<Vec<String>> {
    let path = directory.join(file);
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Error::from_io(format!("read({:?})", path.display()), &error))?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

fn is_usual(hierarchy: &Hierarchy) -> bool {
    hierarchy.mount_point.starts_with("/sys/fs/cgroup")
}

/// One line: `31 23 0:28 /root /mount/point rw,relatime [optional…] - type
/// source rw,options`.
fn parse_line(line: &[u8]) -> Option<(Vec<u8>, Hierarchy)> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let separator = words.iter().skip(6).position(|word| *word == b"-")? + 6;
    let device = words.get(2)?.to_vec();
    let mount_point = PathBuf::from(unescape(words.get(4)?));
    let options = std::str::from_utf8(words.get(separator + 3)?).ok()?;
    let hierarchy = match *words.get(separator + 1)? {
        b"cgroup2" => Hierarchy::unified(mount_point, &[]),
        b"cgroup" => legacy_from_options(mount_point, options),
        _ => return None,
    };
    Some((device, hierarchy))
}

/// The super block options of a version 1 hierarchy are flags, `name=` and the
/// names of its controllers.
fn legacy_from_options(mount_point: PathBuf, options: &str) -> Hierarchy {
    let mut hierarchy = Hierarchy::legacy(mount_point, &[]);
    for option in options.split(',') {
        match option.split_once('=') {
            Some(("name", name)) => hierarchy.name = Some(name.to_owned()),
            Some(_) => {}
            None if matches!(
                option,
                "rw" | "ro"
                    | "none"
                    | "xattr"
                    | "noprefix"
                    | "clone_children"
                    | "cpuset_v2_mode"
                    | "favordynmods"
                    | "seclabel"
            ) => {}
            None => hierarchy.controllers.push(option.to_owned()),
        }
    }
    hierarchy
}

/// Undoes the octal escapes (`\040` for a space) of mountinfo.
fn unescape(word: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = |byte: u8| {
            (b'0'..=b'7')
                .contains(&byte)
                .then(|| u32::from(byte - b'0'))
        };
        if first == b'\\'
            && let [a, b, c, ..] = *tail
            && let (Some(a), Some(b), Some(c)) = (octal(a), octal(b), octal(c))
            && let Ok(byte) = u8::try_from(a * 64 + b * 8 + c)
        {
            bytes.push(byte);
            rest = &tail[3..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    OsString::from_vec(bytes)
}
