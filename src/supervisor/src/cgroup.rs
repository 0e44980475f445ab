//! Groups of processes within a container's cgroup that can be killed apart.

use insula_sys::Result;
use insula_sys::cgroup::Cgroup;
use rustix::io::Errno;
use std::time::Duration;

/// The group of one exec.
#[derive(Debug)]
pub struct ExecGroup {
    /// The cgroup itself, in one hierarchy.
    pub cgroup: Cgroup,
    /// Its number within the container.
    pub slot: usize,
}

// === impl ExecGroup ===

impl ExecGroup {
    /// A group for one exec: an empty one of before, or a new one. Slots that
    /// are taken by running execs are passed over. `None` on a host that has no
    /// hierarchy to make it in.
    ///
    /// Groups are used again because some monitors take every new directory
    /// for a container.
    pub fn claim(container: &Cgroup, is_taken: impl Fn(usize) -> bool) -> Result<Option<Self>> {
        for slot in (0..).filter(|slot| !is_taken(*slot)) {
            let cgroup = match container.create_kill_group(&format!("insula-exec-{slot}")) {
                Ok(cgroup) => cgroup,
                Err(error) if error.errno() == Errno::NODEV => return Ok(None),
                Err(error) => return Err(error),
            };
            // Children of an exec that ended may live on in its group.
            if cgroup.is_empty()? {
                return Ok(Some(Self { cgroup, slot }));
            }
        }
        Ok(None)
    }

    /// Removes it, and says whether it is gone. It cannot be while a process in
    /// it is not quite dead.
    pub fn remove(&self) -> bool {
        self.cgroup.remove(Duration::ZERO).is_ok()
    }
}
