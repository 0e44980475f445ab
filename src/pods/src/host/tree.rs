//! The cgroups of this machine, by whichever driver makes them.

use super::Group;
use super::group::LinuxGroup;
use super::systemd::{Systemd, UnitGroup};
use crate::cgroups::Naming;
use crate::config::{CgroupDriver, PodsConfig};
use crate::error::{Error, Result};
use insula_isolators::details::{Details, details, huge_pages_of_new_groups};
use insula_isolators::isolator::Usage;
use insula_sys::cgroup::{Cgroup, CgroupPath, InvalidPath, Layout};
use rustix::io::Errno;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// How long the end of a group that is empty may take.
const REMOVAL: Duration = Duration::from_secs(5);

/// Makes and finds groups.
#[derive(Debug)]
pub(crate) struct Tree {
    layout: Layout,
    /// Our own parent.
    parent: CgroupPath,
    supervisors: Supervisors,
    systemd: Option<Arc<Systemd>>,
}

/// Where supervisors are.
#[derive(Debug)]
enum Supervisors {
    /// In a group that is there as long as the daemon is.
    Ours(CgroupPath, RwLock<Arc<Cgroup>>),
    /// In a scope that is there as long as one of them is; entered by one after
    /// the other, since only the first may ask systemd for it.
    Scope(Box<UnitGroup>, Mutex<()>),
}

// === impl Tree ===

impl Tree {
    /// Makes the group of supervisors, or connects to systemd.
    pub(crate) async fn open(config: &PodsConfig, layout: &Layout) -> Result<Self> {
        let naming = Naming::new(config.cgroup_driver, &config.cgroup_parent)?;
        let parent = parse(&naming.parent())?;
        let path = parse(&naming.supervisors())?;
        if config.cgroup_driver != CgroupDriver::Systemd {
            let supervisors = Cgroup::create(layout, &path)
                .map_err(|error| Error::internal("make the cgroup of supervisors", error))?;
            return Ok(Self {
                layout: layout.clone(),
                parent,
                supervisors: Supervisors::Ours(path, RwLock::new(Arc::new(supervisors))),
                systemd: None,
            });
        }
        let systemd = Arc::new(Systemd::open(layout, config.deadlines.supervisor).await?);
        let scope = UnitGroup::at(&systemd, layout, &path).ok_or_else(|| {
            Error::internal(
                "name the scope of supervisors",
                format!("{path} is no unit"),
            )
        })?;
        Ok(Self {
            layout: layout.clone(),
            parent,
            supervisors: Supervisors::Scope(Box::new(scope), Mutex::default()),
            systemd: Some(systemd),
        })
    }

    /// Puts a supervisor and its children into the group of supervisors.
    ///
    /// That group is empty until the first pod, and with version 1 systemd removes groups that are
    /// empty: one that is gone is made again.
    pub(crate) fn place_supervisor(&self, processes: &[i32]) -> Result<()> {
        let (path, kept) = match &self.supervisors {
            Supervisors::Scope(scope, turn) => {
                let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
                return scope.share(processes);
            }
            Supervisors::Ours(path, kept) => (path, kept),
        };
        let place = |group: &Cgroup| {
            processes
                .iter()
                .try_for_each(|process| group.place(*process))
        };
        let placed = match place(&current(kept)) {
            Err(error) if [Errno::NOENT, Errno::NODEV].contains(&error.errno()) => {
                Cgroup::create(&self.layout, path).and_then(|group| {
                    tracing::info!(cgroup = %path, "the cgroup of supervisors was removed by another program, and is made again");
                    let group = Arc::new(group);
                    *kept.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&group);
                    place(&group)
                })
            }
            placed => placed,
        };
        placed.map_err(|error| Error::internal("place the pod's supervisor in its cgroup", error))
    }

    /// What a group that exists uses, to see what can be measured: that of
    /// supervisors, or with systemd the daemon's own.
    pub(crate) fn sample(&self) -> (Usage, Details) {
        let group = match &self.supervisors {
            Supervisors::Ours(_, kept) => Some(current(kept)),
            Supervisors::Scope(..) => own_group(&self.layout).map(Arc::new),
        };
        let (usage, mut details) = group.map_or_else(Default::default, |group| {
            (insula_isolators::usage(&group), details(&group))
        });
        if self.systemd.is_some() {
            // It knows no such controller: the daemon lacks it, containers get it from us.
            details.huge_pages = huge_pages_of_new_groups(&self.layout);
        }
        (usage, details)
    }

    /// Which groups of a path do not exist yet and will be ours, outermost
    /// first. Slices of others are systemd's business.
    pub(crate) fn missing(&self, path: &str) -> Result<Vec<String>> {
        let path = parse(path)?;
        let mut missing = Vec::new();
        let mut next = Some(path);
        while let Some(group) = next {
            let by_systemd = self.systemd.is_some();
            if by_systemd && group.parent().as_ref() != Some(&self.parent) {
                break;
            }
            match Cgroup::open(&self.layout, &group) {
                Ok(_) => break,
                Err(error) if error.errno() == Errno::NOENT => {
                    next = group.parent();
                    missing.push(group.to_string());
                }
                Err(error) => return Err(Error::internal("look for cgroups", error)),
            }
        }
        missing.reverse();
        Ok(missing)
    }

    pub(crate) fn make(&self, path: &str) -> Result<Arc<dyn Group>> {
        let path = parse(path)?;
        if let Some(unit) = self.unit(&path) {
            return Ok(Arc::new(unit));
        }
        let group = Cgroup::create(&self.layout, &path)
            .map_err(|error| Error::internal("make the container's cgroup", error))?;
        Ok(Arc::new(LinuxGroup::new(group)))
    }

    pub(crate) fn open_group(&self, path: &str) -> Result<Option<Arc<dyn Group>>> {
        let path = parse(path)?;
        if let Some(unit) = self.unit(&path) {
            return Ok(unit.open()?.map(|unit| Arc::new(unit) as Arc<dyn Group>));
        }
        match Cgroup::open(&self.layout, &path) {
            Ok(group) => Ok(Some(Arc::new(LinuxGroup::new(group)))),
            Err(error) if error.errno() == Errno::NOENT => Ok(None),
            Err(error) => Err(Error::internal("open a cgroup", error)),
        }
    }

    pub(crate) fn remove_empty(&self, path: &str) -> bool {
        let Ok(path) = parse(path) else {
            return false;
        };
        if let Some(unit) = self.unit(&path) {
            return self.remove_empty_unit(&unit, &path);
        }
        // Not `Cgroup::remove`, which also takes what is below.
        self.layout
            .hierarchies()
            .iter()
            .fold(true, |gone, hierarchy| {
                match std::fs::remove_dir(hierarchy.mount_point.join(path.as_str())) {
                    Ok(()) => gone,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => gone,
                    Err(error) => {
                        tracing::debug!(cgroup = %path, %error, "a cgroup stays");
                        false
                    }
                }
            })
    }

    /// Only slices of our own come here: no other could get a unit meanwhile.
    fn remove_empty_unit(&self, unit: &UnitGroup, path: &CgroupPath) -> bool {
        match self.below(path.as_str()) {
            Ok(below) if below.is_empty() => {}
            _ => return false,
        }
        let removed = unit.remove(REMOVAL);
        if let Err(error) = &removed {
            tracing::debug!(cgroup = %path, %error, "a slice stays");
        }
        removed.is_ok()
    }

    pub(crate) fn below(&self, path: &str) -> Result<Vec<String>> {
        match Cgroup::open(&self.layout, &parse(path)?) {
            Ok(group) => group
                .children()
                .map_err(|error| Error::internal("list cgroups", error)),
            Err(error) if error.errno() == Errno::NOENT => Ok(Vec::new()),
            Err(error) => Err(Error::internal("list cgroups", error)),
        }
    }

    /// The unit of a path, where systemd makes those.
    fn unit(&self, path: &CgroupPath) -> Option<UnitGroup> {
        UnitGroup::at(self.systemd.as_ref()?, &self.layout, path)
    }
}

impl Drop for Tree {
    /// Nothing is left of a daemon that ends without pods. With pods, their
    /// supervisors hold the groups.
    fn drop(&mut self) {
        if let Supervisors::Ours(path, _) = &self.supervisors {
            let _stays =
                self.remove_empty(path.as_str()) && self.remove_empty(self.parent.as_str());
        }
    }
}

/// The group that is there now.
fn current(kept: &RwLock<Arc<Cgroup>>) -> Arc<Cgroup> {
    Arc::clone(&kept.read().unwrap_or_else(PoisonError::into_inner))
}

/// The version 2 cgroup of this process, cgroups(7) "/proc/[pid]/cgroup".
fn own_group(layout: &Layout) -> Option<Cgroup> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    Cgroup::open(layout, &path.parse().ok()?).ok()
}

fn parse(path: &str) -> Result<CgroupPath> {
    path.parse()
        .map_err(|error: InvalidPath| Error::InvalidArgument(error.to_string()))
}
