//! Pods: making, stopping and removing them.

pub(crate) mod files;
pub(crate) mod make;
pub(crate) mod phases;
pub(crate) mod plan;
pub(crate) mod resources;
pub(crate) mod stop;
