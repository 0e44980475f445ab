//! The two services of the Kubernetes Container Runtime Interface over gRPC.
//!
//! A call is parsed ([`convert`]), handed to `pods` or `images`, and its answer
//! translated back. There is no policy here and no file is touched: what a pod
//! or an image is, the rooms below decide. [`Service`] answers both services,
//! [`listen`] serves it on a unix socket, [`errors`] says which error becomes
//! which status, and [`observe`] puts every call into the log and the metrics.
//! Exec, attach and port-forward are answered with URLs of the streaming server;
//! [`PodStreams`] is how that server reaches the pods.
//!
//! ```text
//! request ──► convert (InvalidArgument names the field) ──► pods / images
//! status  ◄── errors  (code, bounded message)           ◄──┘
//! ```
#![forbid(unsafe_code)]

pub mod convert;
mod deadline;
pub mod errors;
mod image;
pub mod listen;
pub mod observe;
mod pieces;
mod runtime;
pub mod service;
mod streams;

pub use errors::Error;
pub use listen::{Allowed, serve};
pub use observe::CallMetrics;
pub use service::{Handler, Node, Service, WatchPulls};
pub use streams::PodStreams;
