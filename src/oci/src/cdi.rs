//! The Container Device Interface (tags.cncf.io/container-device-interface,
//! SPEC.md, versions 0.3.0 to 1.1.0): what a vendor says that a container has
//! to be given with a device.
//!
//! A device is asked for by its full name, `vendor.com/class=name`
//! ([`DeviceName`], [`requested`]). Vendors leave files in a few directories
//! ([`document`]), which are read each time a container asks
//! ([`Directories::find`]); what they say of the devices becomes one list of
//! [`Edits`]. Nothing is applied here.

pub mod directories;
pub mod document;
pub mod name;

pub use directories::Directories;
pub use document::{DeviceEdit, Edits};
pub use name::{DeviceName, requested};

use std::path::PathBuf;

/// A container cannot be given a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CdiError {
    /// It is not called like a device.
    #[error(
        "CDI device {name:?}: {why}; a device is called vendor/class=name, such as vendor.com/gpu=0"
    )]
    InvalidName {
        /// As it was given.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// More than a container can ask for.
    #[error("{0} CDI devices are asked for, more than {max}", max = name::MAX_REQUESTED)]
    TooMany(usize),
    /// Nobody describes it.
    #[error(
        "CDI device {device} is not known: no file in {looked} describes it{}",
        broken_files(broken)
    )]
    Unknown {
        /// The device.
        device: DeviceName,
        /// The directories.
        looked: String,
        /// Files that could not be read, with the reason of each.
        broken: Vec<String>,
    },
    /// Two files of the same directory describe it.
    #[error("CDI device {device} is described by both {first:?} and {second:?}: remove one")]
    Conflict {
        /// The device.
        device: DeviceName,
        /// One file.
        first: PathBuf,
        /// Another.
        second: PathBuf,
    },
    /// It needs something that this runtime does not do.
    #[error("CDI device {device} needs {what}, which is not supported: see {file:?}")]
    Unsupported {
        /// The device.
        device: DeviceName,
        /// Where that is said.
        file: PathBuf,
        /// What it needs.
        what: String,
    },
}

fn broken_files(broken: &[String]) -> String {
    if broken.is_empty() {
        return String::new();
    }
    format!("; not readable: {}", broken.join("; "))
}
