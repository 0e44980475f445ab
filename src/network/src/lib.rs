//! The CNI runtime (<https://www.cni.dev>, specification 0.3.1 to 1.1.0): gives pods their network by
//! running the plugins of the node's network configuration, and takes it from them again.
//!
//! What lives here: finding and reading the configuration, running plugins within bounds, the
//! records by which every ADD can be undone, and the answer to "is the network ready?". The
//! loopback interface is not a plugin's business: a pod's supervisor sets it up. A configuration
//! that names the `loopback` plugin still runs it as any other.
//!
//! An attachment's states, on disk in the state directory:
//!
//! ```text
//!            <id>.json written            all plugins added,
//!            (attach)                     <id>.result written
//!  unknown ─────────────────▶ intended ─────────────────────▶ attached
//!     ▲                          │                               │
//!     │   DEL by all plugins     │ a plugin failed, was killed,  │ detach, or gc of
//!     │   succeeded,             │ or we died: detach or gc      │ an id that is not valid
//!     │   files removed          ▼                               ▼
//!     └───────────────────────── to be deleted (DEL may be repeated)
//! ```
//!
//! A node without any configuration has the network of [`DefaultNetwork`], where that is set; a
//! file that comes later holds for new pods, as every change does.
//!
//! Nothing about the configuration is cached. A plugin may be killed at any moment, by its
//! deadline or because the caller's future was dropped; its whole process group goes with it.
#![forbid(unsafe_code)]

mod attachment;
mod chain;
mod conf;
mod config;
mod default;
mod error;
mod json;
mod network;
mod plugin;
mod process;
mod record;
mod result;
mod turns;

pub use self::attachment::{
    Attachment, Bandwidth, Dns, INTERFACE, PodIdentity, PortMapping, Protocol,
};
pub use self::chain::PluginTime;
pub use self::conf::render as render_template;
pub use self::config::{DefaultNetwork, IpPreference, NetworkConfig};
pub use self::error::{Error, PluginFailure, Result, Verb};
pub use self::network::{AttachResult, AttachmentRecord, GcReport, Network, NetworkStatus};
pub use self::result::{CniResult, Interface, IpConfig};
pub use insula_cni::{Cidr, CniVersion};
