//! Tables over whole plans, and what the isolators' own tables share.

mod accounts;
mod apply;
mod cdi;
mod files;
mod labels;
mod limits;
mod merging;
mod rights;
mod user_namespace;
mod views;

pub(crate) use views::{Fixture, host, plan_of, refusal_of};

/// Whether tests that need the kernel's consent can run.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}
