//! Whether a container's end was the kernel's doing, for want of memory.
//!
//! The kernel counts the processes that it killed in a cgroup, but does not say
//! which. The main process, or its child for whose sake it ended with 137, was
//! among them if the count has risen since it was last known to live on:
//!
//! - when we were asked to kill it ourselves;
//! - when an exec ended with 137, which may have been the one that was killed;
//! - and, where the kernel tells of each kill (version 2), some time after it.

use insula_sys::cgroup::Cgroup;
use rustix::fd::OwnedFd;
use std::time::{Duration, Instant};

/// A container that lives on for so long after a kill was not ended by it.
const SURVIVED: Duration = Duration::from_secs(10);

/// SIGKILL in the masks of proc(5)'s status.
const SIGKILL_BIT: u64 = 1 << 8;

/// `PF_EXITING` of linux/sched.h, among the flags of proc(5)'s stat.
const PF_EXITING: u64 = 4;

/// The kills of one container's cgroup.
#[derive(Debug, Default)]
pub struct OomKills {
    /// As many had happened when the main process was seen to live on.
    survived: u64,
    /// As many are known to have happened, and since when.
    seen: (u64, Option<Instant>),
    /// Told of by the kernel; version 2 only.
    pub events: Option<OwnedFd>,
}

// === impl OomKills ===

impl OomKills {
    /// Begins to watch a cgroup, before its program runs.
    pub fn watch(cgroup: &Cgroup) -> Self {
        Self {
            events: cgroup.memory_events().ok().flatten(),
            ..Self::default()
        }
    }

    /// Takes note of what the cgroup says now. One that is gone already (a
    /// service manager removes it when it is empty) says nothing new.
    pub fn note(&mut self, cgroup: &Cgroup) {
        if let Some(events) = &self.events {
            // Reading it is what makes the kernel tell of the next.
            let _ = rustix::io::pread(events, &mut [0; 512], 0);
        }
        if let Ok(kills) = cgroup.oom_kills()
            && kills > self.seen.0
        {
            self.seen = (kills, Some(Instant::now()));
        }
    }

    /// The main process, given by its id, lives on after whatever happened.
    pub fn lives_on(&mut self, cgroup: &Cgroup, main: i32) {
        self.note(cgroup);
        if self.seen.0 > self.survived && !is_dying(main) {
            self.survived = self.seen.0;
        }
    }

    /// Whether the end that was just seen came from a kill.
    pub fn ended_it(&mut self, cgroup: &Cgroup) -> bool {
        self.note(cgroup);
        let (kills, since) = self.seen;
        kills > self.survived && since.is_some_and(|since| since.elapsed() < SURVIVED)
    }
}

/// Whether a process was killed and is not quite gone, proc(5).
fn is_dying(pid: i32) -> bool {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
    let (Ok(stat), Ok(status)) = (read("stat"), read("status")) else {
        return true;
    };
    let exiting = stat_flags(&stat).is_none_or(|flags| flags & PF_EXITING != 0);
    exiting || pending(&status) & SIGKILL_BIT != 0
}

/// The flags of a `stat` line: the seventh word after the name, which is in
/// parentheses and may hold any.
fn stat_flags(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(6)?.parse().ok()
}

/// Signals that a process has been sent and has not taken.
fn pending(status: &str) -> u64 {
    status
        .lines()
        .filter_map(|line| {
            line.strip_prefix("SigPnd:")
                .or_else(|| line.strip_prefix("ShdPnd:"))
        })
        .filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .fold(0, |all, mask| all | mask)
}

#[cfg(test)]
mod tests {
    use super::{OomKills, is_dying, pending, stat_flags};
    use insula_sys::cgroup::{Cgroup, Hierarchy, Layout};
    use rustix::process::{Pid, Signal};
    use std::process::{Command, Stdio};

    #[test]
    fn kills_that_it_survived_did_not_end_it() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("c");
        std::fs::create_dir(&group).unwrap();
        let kills = |count: u32| {
            let text = format!("low 0\nhigh 0\nmax 9\noom {count}\noom_kill {count}\n");
            std::fs::write(group.join("memory.events"), text).unwrap();
        };
        let layout = Layout::new(vec![Hierarchy::unified(root.path(), &["memory"])]);
        kills(0);
        let cgroup = Cgroup::open(&layout, &"c".parse().unwrap()).unwrap();
        let own = rustix::process::getpid().as_raw_nonzero().get();

        let mut watch = OomKills::watch(&cgroup);
        assert!(!watch.ended_it(&cgroup), "nothing was killed");
        kills(1);
        assert!(watch.ended_it(&cgroup), "a kill and then the end");

        let mut watch = OomKills::watch(&cgroup);
        watch.lives_on(&cgroup, own);
        assert!(!watch.ended_it(&cgroup), "an exec was killed before");
        kills(2);
        assert!(watch.ended_it(&cgroup), "and then itself");

        // The cgroup may be gone when the end is seen.
        let mut watch = OomKills::watch(&cgroup);
        watch.note(&cgroup);
        std::fs::remove_dir_all(&group).unwrap();
        assert!(watch.ended_it(&cgroup), "what was told counts");
    }

    #[test]
    fn a_process_that_was_killed_is_dying() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        assert!(!is_dying(own));
        let mut child = Command::new("sleep")
            .arg("60")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
        // Whether on its way or a zombie by now.
        assert!(is_dying(pid.as_raw_nonzero().get()));
        child.wait().unwrap();
    }

    #[test]
    fn files_of_proc_are_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194308 1 2 3";
        assert_eq!(stat_flags(stat), Some(4_194_308));
        assert_eq!(stat_flags("7 (a"), None);
        assert_eq!(pending("SigPnd:\t0\nShdPnd:\t0000000000000100\n"), 0x100);
        assert_eq!(pending(""), 0);
    }
}
