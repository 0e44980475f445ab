//! What the CRI cannot tell, from /proc: memory of processes, and starting a daemon again as it was.

use super::error::{Error, Result};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The processes that runtimes keep for a pod, by the base name of their first argument.
const PER_POD: [&str; 4] = ["insula-pod", "containerd-shim-runc-v2", "pause", "conmon"];

/// The processes there are now that a runtime keeps for a pod.
pub fn per_pod() -> Result<BTreeSet<u32>> {
    let listing =
        fs::read_dir("/proc").map_err(|error| Error::file("cannot list", "/proc", error))?;
    Ok(listing
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| PER_POD.contains(&name(pid).as_str()))
        .collect())
}

/// Base name of a process's first argument; empty for one that has ended.
fn name(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let first = line.split(|&byte| byte == 0).next().unwrap_or_default();
    let path = PathBuf::from(String::from_utf8_lossy(first).into_owned());
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Proportional share of the memory of a process, in KiB: shared pages are divided by their users.
pub fn memory(pid: u32) -> Result<u64> {
    let path = PathBuf::from(format!("/proc/{pid}/smaps_rollup"));
    let text =
        fs::read_to_string(&path).map_err(|error| Error::file("cannot read", &path, error))?;
    text.lines()
        .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB"))
        .and_then(|value| value.trim().parse().ok())
        .ok_or_else(|| Error::Unexpected(format!("{} has no Pss", path.display())))
}

/// The process id in a file.
pub fn read_pid(file: &Path) -> Result<u32> {
    let text = fs::read_to_string(file).map_err(|error| Error::file("cannot read", file, error))?;
    text.trim()
        .parse()
        .map_err(|_| Error::Unexpected(format!("{} holds no process id", file.display())))
}

/// Everything mounted in this mount namespace, by mount point.
pub fn mounts() -> Result<usize> {
    let path = "/proc/self/mountinfo";
    let text = fs::read_to_string(path).map_err(|error| Error::file("cannot read", path, error))?;
    Ok(text.lines().count())
}

/// How a daemon was started, so that it can be started again.
#[derive(Debug)]
pub struct Daemon {
    pid: u32,
    command: Command,
}

impl Daemon {
    /// Reads the command line, environment, directory and output of a running daemon.
    pub fn read(pid: u32) -> Result<Self> {
        let at = |name: &str| PathBuf::from(format!("/proc/{pid}/{name}"));
        let read = |name: &str| {
            fs::read(at(name)).map_err(|error| Error::file("cannot read", at(name), error))
        };
        let link = |name: &str| {
            fs::read_link(at(name)).map_err(|error| Error::file("cannot read", at(name), error))
        };
        let output = |name: &str| {
            File::options()
                .append(true)
                .open(at(name))
                .map_err(|error| Error::file("cannot open", at(name), error))
        };
        let strings = |bytes: Vec<u8>| {
            bytes
                .split(|&byte| byte == 0)
                .filter(|part| !part.is_empty())
                .map(|part| std::ffi::OsString::from_vec(part.to_vec()))
                .collect::<Vec<_>>()
        };
        let mut command = Command::new(link("exe")?);
        let arguments = strings(read("cmdline")?);
        command.args(arguments.iter().skip(1)).env_clear();
        for variable in strings(read("environ")?) {
            let text = variable.into_vec();
            let middle = text.iter().position(|&byte| byte == b'=');
            if let Some(middle) = middle {
                let value = std::ffi::OsString::from_vec(text[middle + 1..].to_vec());
                command.env(std::ffi::OsString::from_vec(text[..middle].to_vec()), value);
            }
        }
        command
            .current_dir(link("cwd")?)
            .stdin(std::process::Stdio::null())
            .stdout(output("fd/1")?)
            .stderr(output("fd/2")?)
            .process_group(0);
        Ok(Self { pid, command })
    }

    /// Kills it, as a crash would, and waits until it is dead.
    pub fn kill(&self) -> Result<()> {
        let trouble = |what: &str| Error::Unexpected(format!("daemon {}: {what}", self.pid));
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| trouble("no process id"))?;
        kill_process(pid, Signal::KILL).map_err(|errno| trouble(&errno.to_string()))?;
        let since = Instant::now();
        while !dead(self.pid) {
            if since.elapsed() > Duration::from_secs(10) {
                return Err(trouble("still alive 10 s after SIGKILL"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Starts it again; its new process id. It outlives us.
    pub fn start(mut self) -> Result<u32> {
        let child = self.command.spawn();
        let program = self.command.get_program().to_owned();
        child
            .map(|child| child.id())
            .map_err(|error| Error::file("cannot start", program, error))
    }
}

/// Whether a process is gone, or waits for its parent only.
fn dead(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return true;
    };
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    matches!(state, Some('Z' | 'X'))
}
