//! What the daemon and a pod's supervisor (`insula-pod`) say to each other.
//!
//! Two things live here. A [`LaunchPlan`] is everything about one container
//! that its isolators decided, as plain data: a person reads it with
//! `insula inspect --plan`, the supervisor executes it. [`message`] holds the
//! versioned requests, replies and events that travel over the pod's
//! `SOCK_SEQPACKET` socket, and [`channel`] moves them, with file descriptors.
//!
//! Nothing here decides anything: policy is in `isolators`, execution in
//! `supervisor`.
#![forbid(unsafe_code)]

pub mod capability;
pub mod channel;
pub mod filter;
pub mod hooks;
pub mod id_mapping;
pub mod message;
pub mod plan;
pub mod runtime_bundle;
pub mod text;
pub mod time;

pub use capability::{Capability, CapabilitySet};
pub use filter::{FilterProgram, SeccompFilter, SeccompListener};
pub use hooks::{Bundle, Hook, Hooks};
pub use id_mapping::{IdMappings, IdRange};
pub use plan::LaunchPlan;
pub use text::OsText;

/// Version of the messages and of the plan. The daemon speaks this version and
/// the one before it; a supervisor started by an older daemon keeps its own.
pub const WIRE_VERSION: u16 = 1;
