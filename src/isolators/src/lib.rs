//! Small pieces of isolation policy, one file each.
//!
//! An [`Isolator`] declares, while planning, what a container's specification
//! means for its part of the kernel: a [`Contribution`]. Planning is pure: it
//! needs no root and touches nothing, so it is tested as a table. The
//! contributions are merged into one [`LaunchPlan`](insula_wire::LaunchPlan);
//! two isolators that contradict each other are an error that names both.
//! What an isolator cannot do it refuses; it is never skipped in silence.
//!
//! [`spec`] holds what is asked for (the pod and the container as the CRI or an
//! app definition describes them, validated), [`contribution`] what isolators
//! answer.
#![forbid(unsafe_code)]

pub mod contribution;
pub mod isolator;
pub mod spec;

pub use contribution::Contribution;
pub use isolator::{Isolator, PodView};
