//! A scope or a slice as a group.

use super::bus::BusError;
use super::properties::{CpuMax, of_limits};
use super::{Property, Systemd};
use crate::cgroups::SliceName;
use crate::error::{Error, Result};
use crate::host::Group;
use crate::host::group::LinuxGroup;
use insula_isolators::details::Details;
use insula_isolators::isolator::Usage;
use insula_sys::cgroup::{Cgroup, CgroupPath, Layout};
use insula_wire::plan::CgroupResources;
use rustix::io::Errno;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long a scope that comes and goes is tried: systemd makes and removes the cgroup some time
/// after it has taken the unit's name, on a busy node seconds.
const SHARE_DEADLINE: Duration = Duration::from_secs(10);

/// A unit with its cgroup.
#[derive(Debug)]
pub(crate) struct UnitGroup {
    systemd: Arc<Systemd>,
    layout: Layout,
    path: CgroupPath,
    kind: Kind,
    /// Values for the moment when it is made.
    wanted: Mutex<CgroupResources>,
    group: OnceLock<LinuxGroup>,
}

#[derive(Debug)]
enum Kind {
    /// Holds processes; the slice it lies in.
    Scope(SliceName),
    /// Holds other units.
    Slice(SliceName),
}

// === impl UnitGroup ===

impl UnitGroup {
    /// The unit that a path is for, which may not be there yet. `None` where a
    /// path is that of no unit.
    pub(crate) fn at(systemd: &Arc<Systemd>, layout: &Layout, path: &CgroupPath) -> Option<Self> {
        let kind = if path.name().strip_suffix(".scope").is_some() {
            Kind::Scope(path.parent()?.name().parse().ok()?)
        } else {
            Kind::Slice(path.name().parse().ok()?)
        };
        Some(Self {
            systemd: Arc::clone(systemd),
            layout: layout.clone(),
            path: path.clone(),
            kind,
            wanted: Mutex::default(),
            group: OnceLock::new(),
        })
    }

    /// The same where its cgroup is there.
    pub(crate) fn open(self) -> Result<Option<Self>> {
        match Cgroup::open(&self.layout, &self.path) {
            Ok(cgroup) => {
                let _new = self.group.set(LinuxGroup::new(cgroup));
                Ok(Some(self))
            }
            Err(error) if error.errno() == Errno::NOENT => Ok(None),
            Err(error) => Err(Error::internal("open a cgroup", error)),
        }
    }

    /// Puts processes into a scope that others share, made for them if it is
    /// not there. It goes with its last process, at any moment.
    pub(crate) fn share(&self, pids: &[i32]) -> Result<()> {
        let failed = |error: &dyn std::fmt::Display| Error::internal(self.stage("enter"), error);
        let begun = Instant::now();
        loop {
            let error = match Cgroup::open(&self.layout, &self.path) {
                Ok(cgroup) => match pids.iter().try_for_each(|pid| cgroup.place(*pid)) {
                    Ok(()) => return Ok(()),
                    Err(error) => failed(&error),
                },
                Err(error) if error.errno() == Errno::NOENT => match self.start(pids, &[]) {
                    Ok(()) => return Ok(()),
                    Err(error) => failed(&error),
                },
                Err(error) => return Err(failed(&error)),
            };
            if begun.elapsed() > SHARE_DEADLINE {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn name(&self) -> &str {
        self.path.name()
    }

    fn stage(&self, what: &str) -> String {
        format!("{what} systemd's unit {}", self.name())
    }

    fn bus_kind(&self) -> &'static str {
        match self.kind {
            Kind::Scope(_) => "Scope",
            Kind::Slice(_) => "Slice",
        }
    }

    fn start(&self, pids: &[i32], limits: &[Property]) -> std::result::Result<(), BusError> {
        match &self.kind {
            Kind::Scope(slice) => {
                self.systemd
                    .start_scope(self.name(), slice, pids, limits, &self.layout)
            }
            Kind::Slice(slice) => self.systemd.start_slice(slice, limits, &self.layout),
        }
    }

    /// Has systemd make the cgroup, and writes what systemd does not.
    fn make(&self, pids: &[i32], want: &CgroupResources) -> Result<()> {
        let limits = of_limits(want, CpuMax::default());
        match self.start(pids, &limits) {
            // A call whose answer was lost was made twice.
            Ok(()) | Err(BusError::Exists(_)) => {}
            Err(error) => return Err(Error::internal(self.stage("start"), error)),
        }
        let cgroup = Cgroup::create(&self.layout, &self.path)
            .map_err(|error| Error::internal(self.stage("open the cgroup of"), error))?;
        for pid in pids {
            // It is in there already, unless the unit was there before.
            let inside = cgroup.procs().is_ok_and(|procs| procs.contains(pid));
            if !inside {
                cgroup
                    .place(*pid)
                    .map_err(|error| Error::internal(self.stage("enter"), error))?;
            }
        }
        let group = LinuxGroup::new(cgroup);
        group.apply(want)?;
        let _new = self.group.set(group);
        Ok(())
    }

    fn made(&self) -> Result<&LinuxGroup> {
        self.group.get().ok_or_else(|| {
            Error::FailedPrecondition(format!(
                "systemd's unit {} was not started yet",
                self.name()
            ))
        })
    }

    /// The properties that are changed, as they will be and as they are.
    fn changes(
        &self,
        group: &LinuxGroup,
        want: &CgroupResources,
    ) -> Result<(Vec<Property>, Vec<Property>)> {
        let now = group
            .cgroup()
            .read("cpu", "cpu.max")
            .map_or_else(|_| CpuMax::default(), |text| CpuMax::default().read(&text));
        let new = of_limits(want, now);
        if new.is_empty() {
            return Ok((new, Vec::new()));
        }
        let systemd = &self.systemd;
        let old = systemd
            .runtime
            .block_on(systemd.bus.get(self.name(), self.bus_kind(), &new))
            .map_err(|error| Error::internal(self.stage("read the limits of"), error))?;
        Ok((new, old))
    }

    fn set(&self, properties: &[Property]) -> Result<()> {
        if properties.is_empty() {
            return Ok(());
        }
        let systemd = &self.systemd;
        systemd
            .runtime
            .block_on(systemd.bus.set(self.name(), properties))
            .map_err(|error| Error::internal(self.stage("change the limits of"), error))
    }
}

impl Group for UnitGroup {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.group
            .get()
            .map_or_else(Vec::new, LinuxGroup::descriptors)
    }

    fn takes_births(&self) -> bool {
        false
    }

    fn place(&self, pid: i32) -> Result<()> {
        let want = self
            .wanted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        self.make(&[pid], &want)
    }

    /// A scope needs a process; a slice is made at once.
    fn apply(&self, want: &CgroupResources) -> Result<()> {
        match self.kind {
            Kind::Scope(_) => {
                *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = want.clone();
                Ok(())
            }
            Kind::Slice(_) => self.make(&[], want),
        }
    }

    /// By file first, where the kernel can still refuse; then systemd is told,
    /// which writes some of them again, rounded; then what it rounded.
    fn update(&self, want: &CgroupResources) -> Result<()> {
        let group = self.made()?;
        let (new, old) = self.changes(group, want)?;
        let before = group.change(want)?;
        let told = self.set(&new).and_then(|()| group.apply(want));
        if let Err(error) = told {
            let restored = self.set(&old).err();
            let undone = before.undo();
            if restored.is_some() || !undone.is_empty() {
                tracing::error!(
                    unit = self.name(),
                    ?restored,
                    ?undone,
                    "old limits could not be put back"
                );
            }
            return Err(error);
        }
        Ok(())
    }

    fn usage(&self) -> Usage {
        self.group
            .get()
            .map_or_else(Usage::default, LinuxGroup::usage)
    }

    fn details(&self) -> Details {
        self.group
            .get()
            .map_or_else(Details::default, LinuxGroup::details)
    }

    fn processes(&self) -> Option<u64> {
        self.group.get()?.processes()
    }

    fn is_gone(&self) -> bool {
        self.group.get().is_some_and(LinuxGroup::is_gone)
    }

    fn kill(&self, deadline: Duration) -> Result<()> {
        self.group
            .get()
            .map_or(Ok(()), |group| group.kill(deadline))
    }

    fn is_empty(&self) -> bool {
        self.group.get().is_none_or(LinuxGroup::is_empty)
    }

    /// A scope whose processes have ended is gone, or about to be.
    fn remove(&self, deadline: Duration) -> Result<()> {
        self.systemd
            .stop(self.name())
            .map_err(|error| Error::internal(self.stage("stop"), error))?;
        // What systemd does not know any more, such as a directory of before a
        // change of drivers.
        match Cgroup::open(&self.layout, &self.path) {
            Ok(cgroup) => LinuxGroup::new(cgroup).remove(deadline),
            Err(_) => Ok(()),
        }
    }
}
