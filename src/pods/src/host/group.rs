//! A cgroup of this machine's.

use super::Group;
use crate::error::{Error, Result};
use insula_isolators::details::{Details, details};
use insula_isolators::isolator::{ApplyError, Usage};
use insula_isolators::{CgroupError, Change};
use insula_sys::cgroup::Cgroup;
use insula_wire::plan::CgroupResources;
use rustix::io::Errno;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Processes of a pod that are counted; there are no more than 4 million on a
/// machine.
const PROCESSES: usize = 1 << 22;

/// A group that is a directory of ours in each hierarchy.
#[derive(Debug)]
pub(crate) struct LinuxGroup(Cgroup);

// === impl LinuxGroup ===

impl LinuxGroup {
    pub(crate) fn new(cgroup: Cgroup) -> Self {
        Self(cgroup)
    }

    pub(crate) fn cgroup(&self) -> &Cgroup {
        &self.0
    }

    /// Changes values, all or none, so that they can still be put back.
    pub(crate) fn change(&self, want: &CgroupResources) -> Result<Change<'_>> {
        insula_isolators::update(&self.0, want).map_err(cgroup_error)
    }
}

impl Group for LinuxGroup {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.0.descriptors()
    }

    fn takes_births(&self) -> bool {
        true
    }

    fn place(&self, pid: i32) -> Result<()> {
        self.0
            .place(pid)
            .map_err(|error| Error::internal("place the container in its cgroup", error))
    }

    fn apply(&self, want: &CgroupResources) -> Result<()> {
        insula_isolators::isolate(&self.0, want).map_err(cgroup_error)
    }

    fn update(&self, want: &CgroupResources) -> Result<()> {
        self.change(want).map(drop)
    }

    fn usage(&self) -> Usage {
        insula_isolators::usage(&self.0)
    }

    fn details(&self) -> Details {
        details(&self.0)
    }

    fn processes(&self) -> Option<u64> {
        let pids = self.0.processes_below(PROCESSES).ok()?;
        Some(pids.len() as u64)
    }

    fn is_gone(&self) -> bool {
        self.0.is_gone()
    }

    fn kill(&self, deadline: Duration) -> Result<()> {
        match self.0.kill(deadline) {
            Ok(()) => Ok(()),
            // It is gone, with all that was in it.
            Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NODEV) => Ok(()),
            Err(error) => Err(Error::internal("kill the container's cgroup", error)),
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty().unwrap_or(false)
    }

    fn remove(&self, deadline: Duration) -> Result<()> {
        match self.0.remove(deadline) {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NODEV) => Ok(()),
            Err(error) => Err(Error::internal("remove the container's cgroup", error)),
        }
    }
}

fn cgroup_error(error: CgroupError) -> Error {
    match &error.cause {
        ApplyError::Refused(_) => Error::InvalidArgument(error.to_string()),
        ApplyError::System(_) => Error::internal("write the container's limits", error),
    }
}
