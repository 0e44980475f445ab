//! Block devices.

use crate::isolator::{Isolator, Usage};
use insula_sys::cgroup::Cgroup;

/// Measures how long processes wait. Limits come as raw `io.*` files only (CRI
/// `unified`), which is the work of [`crate::unified`]; bytes and operations
/// are among the [`details`](crate::details).
#[derive(Debug)]
pub(crate) struct Io;

impl Isolator for Io {
    fn name(&self) -> &'static str {
        "io"
    }

    fn usage(&self, cgroup: &Cgroup, usage: &mut Usage) {
        usage.io_pressure = crate::pressure::of(cgroup, "io.pressure");
    }
}
