//! Small pieces of isolation policy, one file each.
//!
//! An [`Isolator`] declares, while planning, what a container's specification
//! means for its part of the kernel: a [`Contribution`]. Planning is pure: it
//! needs no root and touches nothing, so it is tested as a table. The
//! contributions are merged into one [`LaunchPlan`](insula_wire::LaunchPlan);
//! two isolators that contradict each other are an error that names both.
//! What an isolator cannot do it refuses; it is never skipped in silence.
//!
//! ```text
//! ContainerSpec ─┐                       ┌► LaunchPlan (to the supervisor)
//!                ├─► plan ─► prepare … ──┤
//! PodView ───────┘           merge       └► CgroupResources ─► isolate (new cgroup)
//! Resources ─► limits ─► CgroupResources ─► update (running)   usage ─► Usage
//! ```
//!
//! [`spec`] holds what is asked for (the pod and the container as the CRI or an
//! app definition describes them, validated), [`contribution`] what isolators
//! answer, [`table`] all isolators and what is done with all of them, [`host`]
//! what has to be known of the host beforehand.
#![forbid(unsafe_code)]

pub mod accounts;
pub mod apparmor;
mod capabilities;
pub mod cdi;
mod change;
pub mod contribution;
mod cpu;
mod cpuset;
pub mod details;
mod devices;
pub mod environment;
mod filesystem;
pub mod host;
mod hugetlb;
pub mod image_volumes;
mod io;
pub mod isolator;
mod memory;
pub mod merge;
mod namespaces;
mod no_new_privileges;
mod oom_score;
mod path;
pub mod paths;
mod pids;
pub mod pressure;
mod privileged;
mod process;
mod rlimits;
pub mod seccomp;
pub mod selinux;
pub mod signal;
pub mod spec;
pub mod sysctls;
pub mod table;
mod unified;
mod user_namespace;
pub mod users;
pub mod volumes;

pub use change::Change;
pub use contribution::Contribution;
pub use cpu::weight as cpu_weight;
pub use isolator::{Isolator, PodView};
pub use merge::{Conflict, PlanInputs, merge};
pub use table::{
    CgroupError, PlanError, exec_process, isolate, isolators, limits, plan, update, usage,
};

#[cfg(test)]
mod tests;
