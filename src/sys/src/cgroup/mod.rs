//! cgroup files.

/// How this host's cgroups are laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// Version 2 alone.
    Unified,
    /// Version 1 hierarchies, perhaps with an empty version 2 one beside.
    Legacy,
}

/// One cgroup in every hierarchy.
#[derive(Debug)]
pub struct Cgroup {}
