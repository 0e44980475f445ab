//! App definitions as CRI configurations.
//!
//! A person describes an app once, as a Marathon app definition in JSON, and runs it on one
//! machine. [`parse`] turns the text into a typed, validated [`App`] and a list of [`Notice`]s;
//! [`App::networking`] decides how its ports reach the host; [`Instance`] makes of it the two
//! configurations that the CRI asks for, one pod with one container for each instance.
//!
//! Nothing here does input or output: free ports, names and times come in as values.
//!
//! ```text
//! JSON --parse--> App --networking--> Networking --assign--> ports --Instance--> PodSandboxConfig
//!                  |                                                             ContainerConfig
//!                  +--> notices: what only a cluster or a supervisor could do
//! ```
//!
//! A field is honoured, named in a notice (it means something only on a cluster, or needs a
//! supervisor that restarts apps), or an error: never skipped in silence. What the fields mean is
//! Marathon's app definition as of its 1.9 API; docs/apps.md lists them.
#![forbid(unsafe_code)]

mod app;
mod config;
mod docker_parameters;
mod environment;
mod error;
mod marathon;
mod networking;
mod reader;

pub use app::{
    App, AppId, Command, ContainerSettings, CpuLimit, MemoryLimit, NotAnAppId, RunAs, Volume,
};
pub use config::{Instance, InstanceId, annotation, label};
pub use error::{AppError, Notice};
pub use marathon::{MAX_DEFINITION_BYTES, parse};
pub use networking::{
    AssignedPort, Declared, HostPort, NetworkChoice, NetworkMode, Networking, NoFreePort,
    PortRequest, PortWish, Protocol,
};
