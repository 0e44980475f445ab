//! Ending everything in a cgroup.

use super::Version;
use super::handle::{Cgroup, Member, is_gone};
use crate::{Error, Result};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::time::{Duration, Instant};

/// How deep groups made by the workload are followed.
const MAX_DEPTH: usize = 64;

/// Processes that are held by pidfd at a time.
const BATCH: usize = 128;

/// How long a version 1 freezer may take before the processes are killed
/// without it.
const FREEZE: Duration = Duration::from_millis(100);

impl Cgroup {
    /// Kills every process in this cgroup and below, and waits until none is
    /// left. `ETIMEDOUT` at the deadline, with what is still there.
    ///
    /// With a unified hierarchy that is one write to `cgroup.kill`, which the
    /// kernel makes proof against forks. What is left (version 1 alone, or a
    /// process that was moved away in one hierarchy) is frozen, killed by
    /// pidfd and thawed, until nothing is. This process is never killed.
    pub fn kill(&self, deadline: Duration) -> Result<()> {
        let begun = Instant::now();
        self.kill_unified()?;
        let mut pause = Duration::from_micros(200);
        let mut round = 0;
        while !self.is_empty()? {
            // One pause first: what cgroup.kill hit needs a moment to go.
            if round > 2 || self.unified().is_none() {
                for member in &self.members {
                    member.kill_tree(0)?;
                }
            }
            if begun.elapsed() >= deadline {
                let left = self.procs()?;
                let path = self
                    .members
                    .first()
                    .map(|member| member.path.display().to_string());
                let call = format!(
                    "kill(cgroup {:?}), waited {} ms, left {left:?}",
                    path.unwrap_or_default(),
                    begun.elapsed().as_millis()
                );
                return Err(Error::new(call, Errno::TIMEDOUT));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
            round += 1;
        }
        Ok(())
    }

    /// Kills every process in this cgroup and below without waiting for their
    /// ends: for a caller with one thread that others wait for.
    pub fn kill_now(&self) -> Result<()> {
        if self.kill_unified()? {
            return Ok(());
        }
        self.members
            .iter()
            .try_for_each(|member| member.kill_tree(0))
    }

    /// Writes `cgroup.kill` where there is one, and says whether there was.
    fn kill_unified(&self) -> Result<bool> {
        let mut killed = false;
        for member in self
            .members
            .iter()
            .filter(|member| member.version == Version::V2)
        {
            match member.write("cgroup.kill", "1") {
                Ok(()) => killed = true,
                // Older than 5.14, or removed meanwhile.
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(killed)
    }
}

impl Member {
    fn kill_tree(&self, depth: usize) -> Result<()> {
        let frozen = self.freeze();
        let killed = self.kill_members();
        if frozen {
            // A frozen process dies only when it is thawed.
            match self.write("freezer.state", "THAWED") {
                Ok(()) => {}
                Err(error) if is_gone(&error) => {}
                Err(error) => return killed.and(Err(error)),
            }
        }
        killed?;
        if depth >= MAX_DEPTH {
            return Err(Error::new(
                format!(
                    "kill(cgroup {:?}): more than {MAX_DEPTH} levels",
                    self.path.display()
                ),
                Errno::LOOP,
            ));
        }
        for name in self.children()? {
            if let Some(child) = self.child(&name)? {
                child.kill_tree(depth + 1)?;
            }
        }
        Ok(())
    }

    /// Stops all processes of a version 1 freezer, so that none forks while
    /// they are listed. Gives whether the state was written.
    fn freeze(&self) -> bool {
        let is_freezer = self.version == Version::V1
            && self
                .controllers
                .iter()
                .any(|controller| controller == "freezer");
        if !is_freezer || self.write("freezer.state", "FROZEN").is_err() {
            return false;
        }
        let begun = Instant::now();
        while begun.elapsed() < FREEZE {
            match self.read("freezer.state") {
                Ok(state) if state.trim() == "FREEZING" => {
                    // Writing again makes the kernel try again.
                    std::thread::sleep(Duration::from_micros(500));
                    let _again = self.write("freezer.state", "FROZEN");
                }
                _ => break,
            }
        }
        true
    }

    /// Signals the processes of this group by pidfd, and only those that are
    /// still listed once the pidfd is open: a number may be used anew between
    /// reading it and opening it.
    fn kill_members(&self) -> Result<()> {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let listed = self.procs()?;
        for batch in listed.chunks(BATCH) {
            let held: Vec<(i32, OwnedFd)> = batch
                .iter()
                .filter(|pid| **pid != own)
                .filter_map(|&pid| {
                    let fd = rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty());
                    Some((pid, fd.ok()?))
                })
                .collect();
            let still = self.procs()?;
            for (pid, pidfd) in held {
                if !still.contains(&pid) {
                    continue;
                }
                match rustix::process::pidfd_send_signal(&pidfd, Signal::KILL) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(errno) => {
                        return Err(Error::new(
                            format!("pidfd_send_signal(pidfd of {pid}, SIGKILL)"),
                            errno,
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}
