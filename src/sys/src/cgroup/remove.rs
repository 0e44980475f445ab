//! Removing a cgroup.

use super::handle::{Cgroup, Member, is_gone};
use super::{CgroupPath, Layout};
use crate::{Error, Result};
use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// How deep groups made by the workload are followed.
const MAX_DEPTH: usize = 64;

impl Cgroup {
    /// Removes the cgroup from every hierarchy, with those below it that the
    /// workload made, deepest first. What is gone already is no error.
    ///
    /// `EBUSY` is tried again until the deadline: a process that has ended
    /// stays in its cgroup until the kernel has taken it apart.
    pub fn remove(&self, deadline: Duration) -> Result<()> {
        let begun = Instant::now();
        let mut pause = Duration::from_micros(200);
        loop {
            // Every hierarchy is tried, so that one that is busy leaves only
            // itself behind.
            let mut busy = None;
            for member in &self.members {
                if let Err(error) = member.remove(0) {
                    busy = Some(error);
                }
            }
            match busy {
                None => return Ok(()),
                Some(error) if error.errno() == Errno::BUSY && begun.elapsed() < deadline => {}
                Some(error) if error.errno() == Errno::BUSY => {
                    let waited = begun.elapsed().as_millis();
                    let call = format!("{}, waited {waited} ms", error.call());
                    return Err(Error::new(call, Errno::BUSY));
                }
                Some(error) => return Err(error),
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Opens and removes; nothing there is no error.
    pub fn remove_at(layout: &Layout, path: &CgroupPath, deadline: Duration) -> Result<()> {
        match Self::open(layout, path) {
            Ok(cgroup) => cgroup.remove(deadline),
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Member {
    fn remove(&self, depth: usize) -> Result<()> {
        let failed = |errno| Error::new(format!("rmdir({:?})", self.path.display()), errno);
        match rustix::fs::unlinkat(CWD, &self.path, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // With groups below it is EBUSY, as with processes in it.
            Err(Errno::BUSY | Errno::NOTEMPTY) => {}
            Err(errno) => return Err(failed(errno)),
        }
        if depth >= MAX_DEPTH {
            return Err(failed(Errno::LOOP));
        }
        for name in self.children()? {
            if let Some(child) = self.child(&name)? {
                child.remove(depth + 1)?;
            }
        }
        match rustix::fs::unlinkat(CWD, &self.path, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }
}
