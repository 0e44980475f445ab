//! Files that describe CDI devices, and devices' names.
#![no_main]

use insula_oci::cdi::DeviceName;
use insula_oci::cdi::document::{Format, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, String)| {
    let (yaml, text) = input;
    let format = if yaml { Format::Yaml } else { Format::Json };
    if let Ok(vendor) = parse(&text, format) {
        assert!(!vendor.devices.is_empty());
        for (name, edits) in &vendor.devices {
            let full = format!("{}={name}", vendor.kind);
            assert_eq!(full.parse::<DeviceName>().unwrap().to_string(), full);
            for device in &edits.devices {
                assert!(device.path.starts_with('/') && !device.path.contains('\0'));
                assert!(!device.access.is_empty() && device.mode.unwrap_or(0) <= 0o777);
            }
            assert!(edits.mounts.iter().all(|mount| mount.target.starts_with('/')));
        }
    }
    if let Ok(name) = text.parse::<DeviceName>() {
        assert_eq!(name.to_string(), text);
    }
});
