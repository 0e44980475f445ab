//! Reads and writes by block device.

use insula_sys::cgroup::{Cgroup, Version};
use std::collections::BTreeMap;

/// What a cgroup asked of one block device since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceIo {
    /// The device's numbers.
    pub device: (u32, u32),
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

pub(super) fn of(cgroup: &Cgroup) -> Option<Vec<DeviceIo>> {
    if cgroup.controller("blkio") == Some(Version::V1) {
        let read = |file: &str| cgroup.read("blkio", file).ok();
        let bytes = read("blkio.throttle.io_service_bytes_recursive")?;
        let operations = read("blkio.throttle.io_serviced_recursive").unwrap_or_default();
        Some(parse_v1(&bytes, &operations))
    } else {
        let stat = cgroup.read("io", "io.stat").ok()?;
        Some(parse_v2(&stat))
    }
}

/// Version 1, from two files of lines such as `8:0 Read 4096`, with a last one
/// `Total 8192` (admin-guide/cgroup-v1/blkio-controller.rst).
pub fn parse_v1(bytes: &str, operations: &str) -> Vec<DeviceIo> {
    let mut devices = BTreeMap::new();
    for (text, is_bytes) in [(bytes, true), (operations, false)] {
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(device), Some(kind), Some(number)) = (
                words.next().and_then(device),
                words.next(),
                words.next().and_then(|number| number.parse().ok()),
            ) else {
                continue;
            };
            let io = entry(&mut devices, device);
            match (kind, is_bytes) {
                ("Read", true) => io.read_bytes = number,
                ("Write", true) => io.write_bytes = number,
                ("Read", false) => io.reads = number,
                ("Write", false) => io.writes = number,
                _ => {}
            }
        }
    }
    devices.into_values().collect()
}

/// Version 2, lines such as `8:0 rbytes=4096 wbytes=0 rios=1 …`
/// (admin-guide/cgroup-v2.rst, "IO Interface Files").
pub fn parse_v2(text: &str) -> Vec<DeviceIo> {
    let mut devices = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(device) = words.next().and_then(device) else {
            continue;
        };
        let io = entry(&mut devices, device);
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Ok(number) = value.parse() else { continue };
            match key {
                "rbytes" => io.read_bytes = number,
                "wbytes" => io.write_bytes = number,
                "rios" => io.reads = number,
                "wios" => io.writes = number,
                _ => {}
            }
        }
    }
    devices.into_values().collect()
}

fn entry(devices: &mut BTreeMap<(u32, u32), DeviceIo>, device: (u32, u32)) -> &mut DeviceIo {
    devices.entry(device).or_insert(DeviceIo {
        device,
        ..DeviceIo::default()
    })
}

fn device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{DeviceIo, parse_v1, parse_v2};
    use proptest::prelude::*;

    const FIRST: DeviceIo = DeviceIo {
        device: (8, 0),
        read_bytes: 100,
        write_bytes: 20,
        reads: 3,
        writes: 0,
    };
    const SECOND: DeviceIo = DeviceIo {
        device: (8, 16),
        read_bytes: 1,
        write_bytes: 0,
        reads: 0,
        writes: 0,
    };

    #[test]
    fn both_versions_are_read() {
        let bytes = "8:0 Read 100\n8:0 Write 20\n8:0 Sync 5\n8:16 Read 1\nTotal 121\n";
        assert_eq!(
            parse_v1(bytes, "8:0 Read 3\n8:0 Total 3\nTotal 3\n"),
            [FIRST, SECOND]
        );
        let stat = "8:0 rbytes=100 wbytes=20 rios=3 dbytes=7\n8:16 rbytes=1 wbytes=x\nnonsense\n";
        assert_eq!(parse_v2(stat), [FIRST, SECOND]);
        assert_eq!(parse_v1("Total 0\n", ""), []);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in ".{0,200}") {
            let _read = (parse_v1(&text, &text), parse_v2(&text));
        }
    }
}
