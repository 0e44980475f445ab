//! The cgroups of containers, of both versions: tests name a limit, this module knows its file.

use super::outcome::Outcome;
use std::path::{Path, PathBuf};

/// Something that a container's cgroup says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Bytes of memory.
    Memory,
    /// Processor time: quota and period in microseconds, as "quota period".
    Quota,
    /// The share of the processor, as the file has it.
    Weight,
    /// Processors, a list.
    Cpus,
    /// Nodes of memory, a list.
    Nodes,
    /// Bytes of memory and swap together with version 1, of swap alone with version 2.
    Swap,
    /// How many processes there may be.
    Pids,
}

/// A cgroup file system.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub at: PathBuf,
    /// Its controllers; none for version 2, which has its own way to tell.
    controllers: Vec<String>,
    unified: bool,
}

/// All that are mounted here.
pub fn hierarchies() -> Vec<Hierarchy> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found = Vec::new();
    for line in table.lines() {
        let Some((front, back)) = line.split_once(" - ") else {
            continue;
        };
        let (mut back, Some(at)) = (back.split(' '), front.split(' ').nth(4)) else {
            continue;
        };
        let (kind, options) = (
            back.next().unwrap_or_default(),
            back.nth(1).unwrap_or_default(),
        );
        if kind == "cgroup" || kind == "cgroup2" {
            found.push(Hierarchy {
                at: at.into(),
                controllers: options.split(',').map(str::to_owned).collect(),
                unified: kind == "cgroup2",
            });
        }
    }
    found
}

/// Whether limits are kept by version 2.
pub fn is_version_2() -> bool {
    hierarchies().iter().all(|hierarchy| hierarchy.unified)
}

/// The cgroup driver that daemons are to use, cgroupfs unless the environment
/// says otherwise.
pub fn driver() -> String {
    std::env::var("INSULA_CGROUP_DRIVER").unwrap_or_else(|_| "cgroupfs".to_owned())
}

/// Whether systemd makes the cgroups.
pub fn by_systemd() -> bool {
    driver() == "systemd"
}

/// Directories of the groups that stand for a node's name, whoever made them.
pub fn of_node(name: &str) -> Vec<PathBuf> {
    let mut found = directories(name);
    found.extend(directories(&format!("{name}.slice")));
    found
}

/// Every directory of this name below the mounted hierarchies.
pub fn directories(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        search(&hierarchy.at, name, 8, &mut found);
    }
    found
}

fn search(directory: &Path, name: &str, depth: u32, found: &mut Vec<PathBuf>) {
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name() == name {
            found.push(entry.path());
        }
        search(&entry.path(), name, depth, found);
    }
}

/// What the cgroup of this name says.
pub fn read(name: &str, value: Value) -> Outcome<String> {
    let (controller, files): (_, &[&str]) = match (value, is_version_2()) {
        (Value::Memory, false) => ("memory", &["memory.limit_in_bytes"]),
        (Value::Memory, true) => ("", &["memory.max"]),
        (Value::Quota, false) => ("cpu", &["cpu.cfs_quota_us", "cpu.cfs_period_us"]),
        (Value::Quota, true) => ("", &["cpu.max"]),
        (Value::Weight, false) => ("cpu", &["cpu.shares"]),
        (Value::Weight, true) => ("", &["cpu.weight"]),
        (Value::Cpus, false) => ("cpuset", &["cpuset.cpus"]),
        (Value::Cpus, true) => ("", &["cpuset.cpus"]),
        (Value::Nodes, false) => ("cpuset", &["cpuset.mems"]),
        (Value::Nodes, true) => ("", &["cpuset.mems"]),
        (Value::Swap, false) => ("memory", &["memory.memsw.limit_in_bytes"]),
        (Value::Swap, true) => ("", &["memory.swap.max"]),
        (Value::Pids, false) => ("pids", &["pids.max"]),
        (Value::Pids, true) => ("", &["pids.max"]),
    };
    let directory = directory(name, controller)?;
    let mut words = Vec::new();
    for file in files {
        words.push(text(&directory.join(file))?);
    }
    Ok(words.join(" "))
}

/// What a file of version 2 says in the cgroup of this name.
pub fn read_file(name: &str, file: &str) -> Outcome<String> {
    text(&directory(name, "")?.join(file))
}

fn text(path: &Path) -> Outcome<String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.trim().to_owned())
}

/// The cgroup of this name in a controller's hierarchy; in version 2 for none.
fn directory(name: &str, controller: &str) -> Outcome<PathBuf> {
    let hierarchy = hierarchies()
        .into_iter()
        .find(|hierarchy| match controller {
            "" => hierarchy.unified,
            name => !hierarchy.unified && hierarchy.controllers.iter().any(|own| own == name),
        })
        .ok_or_else(|| format!("no hierarchy has the controller {controller:?}"))?;
    let mut found = Vec::new();
    search(&hierarchy.at, name, 8, &mut found);
    search(
        &hierarchy.at,
        &format!("insula-{name}.scope"),
        8,
        &mut found,
    );
    let directory = found.into_iter().next();
    directory.ok_or_else(|| format!("{} has no cgroup {name}", hierarchy.at.display()).into())
}
