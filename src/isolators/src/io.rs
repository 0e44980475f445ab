//! Block devices.

use crate::isolator::{Isolator, Usage};
use insula_sys::cgroup::{Cgroup, Version};

/// Measures reads and writes. Limits come as raw `io.*` files only (CRI
/// `unified`), which is the work of [`crate::unified`].
#[derive(Debug)]
pub(crate) struct Io;

impl Isolator for Io {
    fn name(&self) -> &'static str {
        "io"
    }

    fn usage(&self, cgroup: &Cgroup, usage: &mut Usage) {
        if cgroup.controller("blkio") == Some(Version::V1) {
            let file = "blkio.throttle.io_service_bytes_recursive";
            if let Ok(text) = cgroup.read("blkio", file) {
                usage.io_read_bytes = Some(sum_v1(&text, "Read"));
                usage.io_write_bytes = Some(sum_v1(&text, "Write"));
            }
        } else if let Ok(text) = cgroup.read("io", "io.stat") {
            usage.io_read_bytes = Some(sum_v2(&text, "rbytes="));
            usage.io_write_bytes = Some(sum_v2(&text, "wbytes="));
        }
    }
}

/// Lines such as `8:0 Read 4096`, and a last one `Total 8192`.
fn sum_v1(text: &str, operation: &str) -> u64 {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            (words.next() == Some(operation)).then(|| words.next()?.parse::<u64>().ok())?
        })
        .fold(0, u64::saturating_add)
}

/// Lines such as `8:0 rbytes=4096 wbytes=0 rios=1 …`.
fn sum_v2(text: &str, key: &str) -> u64 {
    text.split_whitespace()
        .filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok())
        .fold(0, u64::saturating_add)
}
