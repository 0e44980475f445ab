//! What the processes of a cgroup hold.

use insula_sys::cgroup::Cgroup;
use std::path::Path;

/// Processes that are looked at, of one cgroup. Of a cgroup with more, nothing
/// is known.
const PROCESSES: usize = 10_000;

/// Descriptors that are looked at, of all processes of a cgroup.
const DESCRIPTORS: u64 = 200_000;

/// Bytes read of `/proc/pid/limits`, which has some 1,300.
const LIMITS: u64 = 16 << 10;

/// What the processes of a cgroup hold, those below it included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessCounts {
    /// Processes, not threads.
    pub processes: u64,
    /// Open descriptors of all of them.
    pub descriptors: u64,
    /// Those that are sockets.
    pub sockets: u64,
    /// Soft limit of open files of the oldest process; `None` without one.
    pub open_files_limit: Option<u64>,
}

/// Looks at the processes through procfs. A process that ends meanwhile holds
/// nothing.
pub(super) fn of(cgroup: &Cgroup) -> Option<ProcessCounts> {
    let pids = cgroup.processes_below(PROCESSES).ok()?;
    let mut counts = ProcessCounts {
        processes: pids.len() as u64,
        open_files_limit: pids.first().and_then(|pid| open_files_limit(*pid)),
        ..ProcessCounts::default()
    };
    for pid in pids {
        let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        for entry in entries.flatten() {
            counts.descriptors += 1;
            counts.sockets += u64::from(is_socket(&entry.path()));
            if counts.descriptors > DESCRIPTORS {
                return None;
            }
        }
    }
    Some(counts)
}

/// proc(5): the link of a socket reads `socket:[inode]`.
fn is_socket(descriptor: &Path) -> bool {
    std::fs::read_link(descriptor).is_ok_and(|target| {
        target
            .as_os_str()
            .as_encoded_bytes()
            .starts_with(b"socket:")
    })
}

fn open_files_limit(pid: i32) -> Option<u64> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(format!("/proc/{pid}/limits"))
        .ok()?
        .take(LIMITS)
        .read_to_string(&mut text)
        .ok()?;
    parse_limits(&text)
}

/// The line `Max open files  SOFT  HARD  files` of proc(5).
fn parse_limits(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("Max open files"))?
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::parse_limits;

    #[test]
    fn the_soft_limit_of_open_files() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
            Max cpu time              unlimited            unlimited            seconds   \n\
            Max open files            1024                 524288               files     \n";
        assert_eq!(parse_limits(text), Some(1024));
        for text in [
            "",
            "Max open files",
            "Max open files unlimited unlimited files\n",
        ] {
            assert_eq!(parse_limits(text), None, "{text}");
        }
    }
}
