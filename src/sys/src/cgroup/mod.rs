//! Control groups of version 1, version 2, and both side by side.
//!
//! A [`Layout`] says what is mounted where. A [`Cgroup`] is one and the same
//! relative path in every hierarchy, held as open directories, so that callers
//! name a controller and a file and never think about versions of paths:
//!
//! ```text
//! Layout::detect() ─► Cgroup::create(layout, path) ─► write, place, read …
//!                     Cgroup::open(layout, path)   ─► kill ─► remove
//! ```
//!
//! Sources: cgroups(7), the kernel's `admin-guide/cgroup-v2.rst` and
//! `admin-guide/cgroup-v1/`.

mod handle;
mod kill;
mod layout;
mod path;
mod remove;
#[cfg(test)]
mod tests;

pub use handle::Cgroup;
pub use layout::{Hierarchy, Layout, Version};
pub use path::{CgroupPath, InvalidPath};
