//! Exec, attach and port-forward: the streams that a client opens to a container.
//!
//! The CRI answers such a call with a URL; what is spoken there is here. [`Sessions`] gives out the
//! URLs, [`Server`] serves them, and [`Runtime`] is what it needs of the rooms above. [`spdy`] is
//! SPDY/3.1, the protocol of kubelet and of crictl; newer clients speak WebSocket. Protocols are
//! sans-IO: state machines that are fed octets and give octets, and beside each a thin driver that
//! moves them over a connection.
//!
//! ```text
//! CRI call ─► token (single use, a minute) ─► URL
//! client ─► TCP, TLS ─► HTTP head ─► negotiation ─101─► SPDY streams ───┐
//!                │            │             └──────────► WebSocket ─────┤
//!                └ deadline   └ 404, 429, 400, 403                      ▼
//!                                             remote command ◄─► process's descriptors
//!                                             forward        ◄─► TCP socket in the pod
//! ```
//! One task serves a connection from its first octet to the last of its session: when it ends,
//! for whatever reason, everything of that client is gone.
#![forbid(unsafe_code)]

pub mod client;
mod descriptor;
mod forward;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod metrics;
mod negotiate;
mod remote;
mod runtime;
mod server;
mod socket;
pub mod spdy;
mod tls;
mod token;
mod websocket;

pub use metrics::Metrics;
pub use remote::resize::Size;
pub use runtime::{
    AttachRequest, Control, ExecRequest, ForwardRequest, Process, Runtime, StreamError, Streams,
};
pub use server::{Server, ServerError, Sessions, Settings};
pub use tls::pinned::{Fingerprint, NotAFingerprint};
pub use tls::{TlsError, TlsFiles};
pub use token::TokenError;
