//! Exec, attach and port-forward: the streams that a client opens to a container.
//!
//! The CRI answers such a call with a URL; what is spoken there is here. [`spdy`] is SPDY/3.1, the
//! protocol of kubelet and of crictl. Protocols are sans-IO: state machines that are fed octets and
//! give octets, and beside each a thin driver that moves them over a connection.
#![forbid(unsafe_code)]

pub mod spdy;
