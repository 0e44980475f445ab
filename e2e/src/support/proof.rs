//! The proof that a node leaves nothing behind, and what takes away what it left.

use super::node::Node;
use super::{cgroup, processes};
use rustix::mount::{UnmountFlags, unmount};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What may end a moment after its daemon: a process that init has yet to reap, a group that
/// empties.
const GRACE: Duration = Duration::from_secs(3);

/// Directories that must be empty once all pods are gone.
const EMPTY: &[&str] = &[
    "state/pods",
    "state/netns",
    "state/unreadable",
    "root/rw",
    "root/volumes",
    "root/staging",
    "root/network",
    "addresses",
];

/// Files in them that belong to no pod.
fn is_of_no_pod(name: &str) -> bool {
    // host-local's memory of where to go on, and its lock.
    name.starts_with("last_reserved_ip") || name == "lock"
}

/// Everything of the node that is still there.
pub async fn left(node: &Node) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let left = all(node);
        if left.is_empty() || begun.elapsed() > GRACE {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn all(node: &Node) -> Vec<String> {
    let mut left: Vec<String> = mounts(&node.directory)
        .iter()
        .map(|at| format!("mount {}", at.display()))
        .collect();
    left.extend(
        owned_processes(node)
            .into_iter()
            .map(|process| format!("process {} {:?}", process.pid, process.command)),
    );
    left.extend(
        groups(node)
            .iter()
            .map(|group| format!("cgroup {}", group.display())),
    );
    left.extend(node.network.left());
    for directory in EMPTY {
        files(&node.path(directory), &mut left);
    }
    left
}

/// Mount points and sources below a directory.
fn mounts(directory: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .map(PathBuf::from)
        .filter(|at| at.starts_with(directory))
        .collect()
}

fn owned_processes(node: &Node) -> Vec<processes::Process> {
    let (directory, group) = (
        format!("{}/", node.directory.display()),
        format!("/{}", node.name),
    );
    let ours = |process: &processes::Process| {
        process.command.contains(&directory)
            || process.cgroups.lines().any(|line| {
                line.splitn(3, ':').nth(2).is_some_and(|path| {
                    path.ends_with(&group)
                        || path.contains(&format!("{group}/"))
                        || path.contains(&format!("{group}.slice/"))
                })
            })
    };
    processes::all().into_iter().filter(ours).collect()
}

/// Groups of pods and containers; the daemon's own two are its to keep.
fn groups(node: &Node) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for top in cgroup::of_node(&node.name) {
        for group in below(&top) {
            if group.file_name().is_none_or(|name| name != "supervisors") {
                found.push(group);
            }
        }
    }
    found
}

/// All groups below one, the deepest first.
fn below(group: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(below(&entry.path()));
            found.push(entry.path());
        }
    }
    found
}

fn files(directory: &Path, left: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if is_of_no_pod(&name) {
            continue;
        }
        // host-local keeps a directory for each network.
        if directory.ends_with("addresses") && path.is_dir() {
            for address in std::fs::read_dir(&path).into_iter().flatten().flatten() {
                let name = address.file_name();
                if !is_of_no_pod(&name.to_string_lossy()) {
                    left.push(format!("address {}", name.display()));
                }
            }
        } else {
            left.push(format!("file {}", path.display()));
        }
    }
}

/// Takes away what belongs to the node, whatever state it is in.
pub fn remove(node: &Node) {
    for process in owned_processes(node) {
        if let Err(problem) = processes::kill(process.pid) {
            println!("{problem}");
        }
    }
    for at in mounts(&node.directory).iter().rev() {
        if let Err(errno) = unmount(at, UnmountFlags::DETACH) {
            println!("unmount {}: {errno}", at.display());
        }
    }
    node.network.remove();
    let begun = Instant::now();
    while !remove_groups(node) && begun.elapsed() < GRACE {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn remove_groups(node: &Node) -> bool {
    let mut gone = true;
    for top in cgroup::of_node(&node.name) {
        for group in below(&top).into_iter().chain([top]) {
            gone &= std::fs::remove_dir(group).is_ok();
        }
    }
    gone
}
