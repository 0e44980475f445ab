//! Where pods and containers have their cgroups. Pure.
//!
//! | | cgroupfs | systemd |
//! |---|---|---|
//! | parent of our own | `insula` | `insula.slice` |
//! | a pod that names no parent | `insula/<pod>` | `insula.slice/insula-<pod>.slice` |
//! | its container | `insula/<pod>/<id>` | `…/insula-<id>.scope` |
//! | a container in a parent of kubelet's | `<parent>/insula-<id>` | `<slice's path>/insula-<id>.scope` |
//! | supervisors | `insula/supervisors` | `insula.slice/insula-supervisors.scope` |

use crate::config::CgroupDriver;
use crate::error::{Error, Result};
use crate::ids::{ContainerId, PodId};
use std::fmt;
use std::str::FromStr;

/// Longest name of a unit, systemd.unit(5).
const MAX_UNIT_NAME: usize = 255;

/// The names of cgroups under one driver and one parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Naming {
    /// Directories that we make; holds our parent.
    Cgroupfs(String),
    /// Units of systemd; holds our parent.
    Systemd(SliceName),
}

/// Name of a slice, systemd.slice(5): `a-b.slice` lies in `a.slice`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SliceName(String);

/// Where a pod's containers have their groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodGroup {
    /// Below each hierarchy's root, without a leading slash.
    pub(crate) path: String,
    /// Whether it is ours alone, or was asked for.
    pub(crate) is_ours: bool,
}

// === impl Naming ===

impl Naming {
    /// The names under a driver, which must be decided by now, and the parent
    /// of the configuration.
    pub(crate) fn new(driver: CgroupDriver, parent: &str) -> Result<Self> {
        let parent = parent.trim_matches('/');
        if driver != CgroupDriver::Systemd {
            return Ok(Self::Cgroupfs(parent.to_owned()));
        }
        let name = match parent.strip_suffix(".slice") {
            Some(_) => parent.to_owned(),
            None => format!("{parent}.slice"),
        };
        name.parse().map(Self::Systemd).map_err(|error| {
            Error::InvalidArgument(format!(
                "[cgroup] parent = {parent:?} cannot be kept with the systemd driver: {error}"
            ))
        })
    }

    /// The group that holds those of pods without a parent.
    pub(crate) fn parent(&self) -> String {
        match self {
            Self::Cgroupfs(parent) => parent.clone(),
            Self::Systemd(slice) => slice.path(),
        }
    }

    /// The group of supervisors.
    pub(crate) fn supervisors(&self) -> String {
        match self {
            Self::Cgroupfs(parent) => format!("{parent}/supervisors"),
            Self::Systemd(slice) => format!("{}/{}-supervisors.scope", slice.path(), slice.stem()),
        }
    }

    /// The group of a pod that asked for this parent; empty asks for none.
    pub(crate) fn pod(&self, asked: &str, id: &PodId) -> Result<PodGroup> {
        let is_ours = asked.trim_matches('/').is_empty();
        let path = match self {
            Self::Cgroupfs(parent) if is_ours => format!("{parent}/{id}"),
            Self::Cgroupfs(_) if is_expanded_slice(asked) => {
                return Err(Error::InvalidArgument(format!(
                    "cgroup_parent {asked:?} is a slice of systemd, and this runtime's cgroup driver is cgroupfs: set both to the same driver ([cgroup] driver here, cgroupDriver of kubelet)"
                )));
            }
            Self::Cgroupfs(_) => asked.trim_matches('/').to_owned(),
            Self::Systemd(parent) if is_ours => parent.child(id.as_str())?.path(),
            Self::Systemd(_) => SliceName::from_asked(asked)?.path(),
        };
        Ok(PodGroup { path, is_ours })
    }

    /// The group of a container of a pod.
    pub(crate) fn container(&self, pod: &PodGroup, id: &ContainerId) -> String {
        match self {
            Self::Systemd(_) => format!("{}/insula-{id}.scope", pod.path),
            Self::Cgroupfs(_) if pod.is_ours => format!("{}/{id}", pod.path),
            Self::Cgroupfs(_) => format!("{}/insula-{id}", pod.path),
        }
    }

    /// Whose group a directory in [`Naming::parent`] is, of a pod without a
    /// parent.
    pub(crate) fn pod_of(&self, name: &str) -> Option<PodId> {
        let id = match self {
            Self::Cgroupfs(_) => name,
            Self::Systemd(parent) => name
                .strip_suffix(".slice")?
                .strip_prefix(parent.stem())?
                .strip_prefix('-')?,
        };
        PodId::parse(id).ok()
    }
}

/// Whose group a directory in a pod's group is, under either driver.
pub(crate) fn container_of(name: &str) -> Option<ContainerId> {
    let bare = name.strip_suffix(".scope").unwrap_or(name);
    ContainerId::parse(bare.strip_prefix("insula-").unwrap_or(bare)).ok()
}

/// Whether a path is one that only systemd gives out: the name of a slice, or
/// the path that it stands for. A directory `x/y.slice` is neither.
fn is_expanded_slice(asked: &str) -> bool {
    let bare = asked.trim_matches('/');
    let last = bare.rsplit('/').next().unwrap_or(bare);
    // A lone `test.slice` may be any directory.
    bare.contains('/')
        && last
            .parse::<SliceName>()
            .is_ok_and(|slice| slice.path() == bare)
}

// === impl SliceName ===

impl SliceName {
    /// The slice that a client names: by its name, or by its path from the
    /// root as kubelet does (`/kubepods.slice/kubepods-burstable.slice`).
    fn from_asked(asked: &str) -> Result<Self> {
        let bare = asked.trim_matches('/');
        let last = bare.rsplit('/').next().unwrap_or(bare);
        let slice: Self = last.parse().map_err(|error| {
            Error::InvalidArgument(format!(
                "cgroup_parent {asked:?} does not fit this runtime's cgroup driver, systemd: {error}; set kubelet's cgroupDriver to systemd as well"
            ))
        })?;
        if bare != last && bare != slice.path() {
            return Err(Error::InvalidArgument(format!(
                "cgroup_parent {asked:?} is not where systemd has {last}, which is /{}",
                slice.path()
            )));
        }
        Ok(slice)
    }

    /// The name without `.slice`.
    pub(crate) fn stem(&self) -> &str {
        self.0.strip_suffix(".slice").unwrap_or(&self.0)
    }

    /// The slice in this one with a name of its own, which holds no dash.
    fn child(&self, name: &str) -> Result<Self> {
        format!("{}-{name}.slice", self.stem())
            .parse()
            .map_err(|error: InvalidSlice| Error::InvalidArgument(error.to_string()))
    }

    /// This slice and those around it, outermost first.
    pub(crate) fn with_ancestors(&self) -> Vec<Self> {
        let stem = self.stem();
        stem.match_indices('-')
            .map(|(at, _)| &stem[..at])
            .chain([stem])
            .map(|stem| Self(format!("{stem}.slice")))
            .collect()
    }

    /// Its cgroup below the root.
    pub(crate) fn path(&self) -> String {
        let names: Vec<_> = self
            .with_ancestors()
            .into_iter()
            .map(|slice| slice.0)
            .collect();
        names.join("/")
    }

    /// The unit's name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SliceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text is no name of a slice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not the name of a slice such as \"kubepods-burstable.slice\": {why}")]
pub(crate) struct InvalidSlice {
    name: String,
    why: &'static str,
}

impl FromStr for SliceName {
    type Err = InvalidSlice;

    /// systemd.unit(5) says which characters, systemd.slice(5) where a dash may
    /// be: it separates names, so none may be empty.
    fn from_str(name: &str) -> std::result::Result<Self, InvalidSlice> {
        let invalid = |why| InvalidSlice {
            name: name.chars().take(MAX_UNIT_NAME).collect(),
            why,
        };
        let Some(stem) = name.strip_suffix(".slice") else {
            return Err(invalid("it does not end in .slice"));
        };
        if name.len() > MAX_UNIT_NAME {
            return Err(invalid("it is longer than 255 bytes"));
        }
        if stem == "-" {
            return Err(invalid("it is the root, which belongs to the host"));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":_.\\-".contains(&byte);
        if !stem.bytes().all(plain) {
            return Err(invalid("units are named by letters, digits and :_.\\-"));
        }
        if stem.split('-').any(str::is_empty) {
            return Err(invalid("a dash separates names, and one of them is empty"));
        }
        Ok(Self(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Naming, SliceName, container_of};
    use crate::config::CgroupDriver;
    use crate::ids::{ContainerId, PodId};
    use proptest::prelude::*;

    fn id() -> String {
        "ab".repeat(32)
    }

    fn naming(driver: CgroupDriver) -> Naming {
        Naming::new(driver, "/insula/").unwrap()
    }

    #[test]
    fn groups_of_pods_and_containers() {
        let (pod, container) = (
            PodId::parse(&id()).unwrap(),
            ContainerId::parse(&id()).unwrap(),
        );
        let id = id();
        for (driver, asked, group, ours, scope) in [
            (
                CgroupDriver::Cgroupfs,
                "",
                format!("insula/{id}"),
                true,
                format!("insula/{id}/{id}"),
            ),
            (
                CgroupDriver::Cgroupfs,
                "/kubepods/pod1",
                "kubepods/pod1".to_owned(),
                false,
                format!("kubepods/pod1/insula-{id}"),
            ),
            (
                CgroupDriver::Cgroupfs,
                "/test.slice",
                "test.slice".to_owned(),
                false,
                format!("test.slice/insula-{id}"),
            ),
            (
                CgroupDriver::Systemd,
                "/",
                format!("insula.slice/insula-{id}.slice"),
                true,
                format!("insula.slice/insula-{id}.slice/insula-{id}.scope"),
            ),
            (
                CgroupDriver::Systemd,
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice",
                "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice"
                    .to_owned(),
                false,
                format!(
                    "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/insula-{id}.scope"
                ),
            ),
            (
                CgroupDriver::Systemd,
                "kubepods-burstable.slice",
                "kubepods.slice/kubepods-burstable.slice".to_owned(),
                false,
                format!("kubepods.slice/kubepods-burstable.slice/insula-{id}.scope"),
            ),
            (
                CgroupDriver::Systemd,
                "/test.slice",
                "test.slice".to_owned(),
                false,
                format!("test.slice/insula-{id}.scope"),
            ),
        ] {
            let naming = naming(driver);
            let found = naming.pod(asked, &pod).unwrap();
            assert_eq!((&found.path, found.is_ours), (&group, ours), "{asked}");
            let path = naming.container(&found, &container);
            assert_eq!(path, scope, "{asked}");
            let name = path.rsplit('/').next().unwrap();
            assert_eq!(container_of(name), Some(container.clone()));
            if ours {
                let name = found.path.rsplit('/').next().unwrap();
                assert_eq!(naming.pod_of(name), Some(pod.clone()));
            }
        }
    }

    #[test]
    fn a_parent_that_does_not_fit_the_driver_is_refused() {
        let pod = PodId::parse(&id()).unwrap();
        for (driver, asked, words) in [
            (
                CgroupDriver::Cgroupfs,
                "/kubepods.slice/kubepods-burstable.slice",
                "driver is cgroupfs",
            ),
            (CgroupDriver::Systemd, "/kubepods/pod1", "end in .slice"),
            (
                CgroupDriver::Systemd,
                "/a.slice/b.slice",
                "not where systemd has b.slice, which is /b.slice",
            ),
            (CgroupDriver::Systemd, "a--b.slice", "one of them is empty"),
            (CgroupDriver::Systemd, "/-.slice", "it is the root"),
            (CgroupDriver::Systemd, "a b.slice", "letters, digits"),
        ] {
            let error = naming(driver).pod(asked, &pod).unwrap_err().to_string();
            assert!(error.contains(words), "{asked}: {error}");
        }
        assert!(Naming::new(CgroupDriver::Systemd, "kube/insula").is_err());
        let nested = Naming::new(CgroupDriver::Systemd, "kube-insula.slice").unwrap();
        assert_eq!(
            nested.supervisors(),
            "kube.slice/kube-insula.slice/kube-insula-supervisors.scope"
        );
        assert_eq!(
            naming(CgroupDriver::Cgroupfs).supervisors(),
            "insula/supervisors"
        );
    }

    #[test]
    fn names_of_others_are_not_ours() {
        for name in [
            "supervisors",
            "insula-supervisors.scope",
            "insula.slice",
            "x",
            "",
        ] {
            assert_eq!(naming(CgroupDriver::Systemd).pod_of(name), None, "{name}");
            assert_eq!(naming(CgroupDriver::Cgroupfs).pod_of(name), None, "{name}");
            assert_eq!(container_of(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_slices_path_ends_in_its_name(text in "[a-z:_.\\\\-]{0,12}(\\.slice)?") {
            if let Ok(slice) = text.parse::<SliceName>() {
                let path = slice.path();
                prop_assert_eq!(path.rsplit('/').next(), Some(slice.as_str()));
                prop_assert!(path.parse::<insula_sys::cgroup::CgroupPath>().is_ok());
                prop_assert_eq!(slice.with_ancestors().len(), path.split('/').count());
            }
        }
    }
}
