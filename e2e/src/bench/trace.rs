//! strace(1) on running processes: what they and all they start ask of the kernel meanwhile.

use super::error::{Error, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Attaching and detaching take milliseconds.
const DEADLINE: Duration = Duration::from_secs(20);

/// strace(1) under way.
#[derive(Debug)]
pub struct Trace {
    child: Child,
    output: PathBuf,
}

/// What was asked of the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// All system calls, those of plugins and workloads included.
    pub all: u32,
    /// Processes made; threads do not count.
    pub processes: u32,
    /// Programs executed.
    pub programs: u32,
    /// Waits for the disk: fsync, fdatasync, syncfs, sync.
    pub syncs: u32,
}

impl Trace {
    /// Attaches to the processes; what they start from now on is traced too.
    pub fn attach(pids: &[u32], output: &Path) -> Result<Self> {
        let mut command = Command::new("strace");
        command
            .args(["-f", "-qq", "-ttt", "-s", "64", "-o"])
            .arg(output);
        for pid in pids {
            command.args(["-p", &pid.to_string()]);
        }
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| Error::file("cannot start", "strace", error))?;
        let trace = Self {
            child,
            output: output.to_owned(),
        };
        let since = Instant::now();
        while !pids.iter().all(|&pid| every_thread_traced(pid)) {
            if since.elapsed() > DEADLINE {
                return Err(Error::Unexpected(format!(
                    "strace is not attached to {pids:?} after {} s",
                    DEADLINE.as_secs()
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(trace)
    }

    /// Detaches and counts.
    pub fn finish(mut self) -> Result<Calls> {
        let trouble = |text: String| Error::Unexpected(format!("strace: {text}"));
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| trouble("no process id".to_owned()))?;
        kill_process(pid, Signal::INT).map_err(|errno| trouble(errno.to_string()))?;
        let since = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if since.elapsed() > DEADLINE {
                return Err(trouble("does not end".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let text = fs::read(&self.output)
            .map_err(|error| Error::file("cannot read", &self.output, error))?;
        Ok(count(&String::from_utf8_lossy(&text)))
    }
}

fn every_thread_traced(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status
            .lines()
            .find_map(|line| line.strip_prefix("TracerPid:"))
            .is_some_and(|tracer| tracer.trim() != "0")
    })
}

/// Counts the calls in strace's output. One that is interrupted by another process's line is put
/// together again first; one that did not return is not counted.
fn count(text: &str) -> Calls {
    let mut calls = Calls::default();
    let mut begun: HashMap<&str, &str> = HashMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(pid), Some(_time)) = (words.next(), words.next()) else {
            continue;
        };
        let rest = after_words(line, 2);
        if rest.ends_with("<unfinished ...>") {
            begun.insert(pid, rest);
        } else if rest.starts_with("<... ") {
            if let Some(start) = begun.remove(pid) {
                calls.add(start, rest);
            }
        } else if !rest.starts_with(['+', '-']) {
            calls.add(rest, rest);
        }
    }
    calls
}

/// What follows the first `count` words.
fn after_words(line: &str, count: usize) -> &str {
    let mut rest = line.trim_start();
    for _ in 0..count {
        rest = rest.find(' ').map_or("", |at| rest[at..].trim_start());
    }
    rest
}

impl Calls {
    /// A call by how it begins and how it ends; the same line twice, mostly.
    fn add(&mut self, start: &str, end: &str) {
        let Some((name, arguments)) = start.split_once('(') else {
            return;
        };
        self.all += 1;
        let failed = end
            .rsplit(" = ")
            .next()
            .is_some_and(|value| value.starts_with('-'));
        if failed {
            return;
        }
        match name {
            "fork" | "vfork" => self.processes += 1,
            "clone" | "clone3" if !arguments.contains("CLONE_THREAD") => self.processes += 1,
            "execve" | "execveat" => self.programs += 1,
            "fsync" | "fdatasync" | "syncfs" | "sync" => self.syncs += 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted() {
        let text = r#"
100 1.000001 clone3({flags=CLONE_VM|CLONE_VFORK, exit_signal=SIGCHLD}, 88) = 200
100 1.000002 clone3({flags=CLONE_VM|CLONE_THREAD|CLONE_FS}, 88 <unfinished ...>
200 1.000003 execve("/bin/sh", ["sh"], 0x7ff) = -1 ENOENT (No such file or directory)
100 1.000004 <... clone3 resumed> => {parent_tid=[5]}, 88) = 201
200 1.000005 execve("/usr/bin/sh", ["sh"], 0x7ff <unfinished ...>
100 1.000006 fdatasync(7)              = 0
100 1.000007 write(7, "x = (y", 6)        = 6
200 1.000008 <... execve resumed>)     = 0
200 1.000009 exit_group(0)             = ?
200 1.000010 +++ exited with 0 +++
100 1.000011 --- SIGCHLD {si_signo=SIGCHLD} ---
100 1.000012 epoll_wait(4, <unfinished ...>
"#;
        assert_eq!(
            count(text),
            Calls {
                all: 7,
                processes: 1,
                programs: 1,
                syncs: 1
            }
        );
    }
}
