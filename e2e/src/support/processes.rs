//! Processes of this machine, as /proc shows them.

use std::path::PathBuf;

/// A process.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its arguments, separated by spaces.
    pub command: String,
    /// Its cgroup in every hierarchy, as in /proc/PID/cgroup.
    pub cgroups: String,
}

/// All that are not zombies or kernel threads.
pub fn all() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(read)
        .collect()
}

/// The process with this id, unless it has ended.
pub fn read(pid: i32) -> Option<Process> {
    let file = |name: &str| std::fs::read(PathBuf::from(format!("/proc/{pid}/{name}"))).ok();
    let command = file("cmdline")?;
    if command.is_empty() {
        return None;
    }
    Some(Process {
        pid,
        command: String::from_utf8_lossy(&command)
            .replace('\0', " ")
            .trim()
            .to_owned(),
        cgroups: String::from_utf8_lossy(&file("cgroup")?).into_owned(),
    })
}

/// SIGKILL to one process.
pub fn kill(pid: i32) -> Result<(), String> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or("0 is no process")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)
        .map_err(|errno| format!("kill({pid:?}, SIGKILL): {errno}"))
}
