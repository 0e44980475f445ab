//! Masked and read-only paths.

use crate::contribution::Contribution;
use crate::isolator::{Isolator, PodView, Refusal};
use crate::path;
use crate::spec::ContainerSpec;

/// What a container masks when nobody says otherwise: kernel memory, keys,
/// timings and hardware controls of the host. Kubelet sends its own list; this
/// one is for app definitions.
pub const DEFAULT_MASKED_PATHS: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What a container cannot write when nobody says otherwise.
pub const DEFAULT_READONLY_PATHS: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Exactly the paths of CRI `masked_paths` and `readonly_paths`, no default
/// added: empty lists are how `procMount: Unmasked` arrives. A privileged
/// container ignores both.
#[derive(Debug)]
pub(crate) struct MaskedPaths;

impl Isolator for MaskedPaths {
    fn name(&self) -> &'static str {
        "masked-paths"
    }

    fn prepare(&self, spec: &ContainerSpec, _pod: &PodView<'_>) -> Result<Contribution, Refusal> {
        if spec.security.privileged {
            return Ok(Contribution::default());
        }
        Ok(Contribution {
            masked_paths: cleaned("masked path", &spec.security.masked_paths)?,
            readonly_paths: cleaned("read-only path", &spec.security.readonly_paths)?,
            ..Contribution::default()
        })
    }
}

fn cleaned(what: &str, paths: &[String]) -> Result<Vec<String>, Refusal> {
    let mut cleaned = Vec::with_capacity(paths.len());
    for text in paths {
        path::refuse_parent_parts(what, text)?;
        if !text.starts_with('/') {
            return Err(Refusal::new(format!("{what} {text:?} is not absolute")));
        }
        let path = path::clean(text);
        if !cleaned.contains(&path) {
            cleaned.push(path);
        }
    }
    Ok(cleaned)
}
