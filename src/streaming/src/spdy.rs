//! SPDY/3.1 (<https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/>), as far as
//! Kubernetes uses it: many streams of octets over one connection.
//!
//! [`Session`] is the protocol, without a socket. [`serve`] and [`connect`] run one over a
//! connection that was upgraded already, and give its streams as tokio's `AsyncRead` and
//! `AsyncWrite`. Section numbers in this module are those of the specification above.

mod connection;
mod decoder;
mod dictionary;
mod driver;
mod error;
mod frame;
mod headers;
mod limits;
mod session;
mod stream;

pub use connection::{Connection, Incoming, connect, serve};
pub use error::{End, Reset, SpdyError, Status};
pub use headers::Headers;
pub use limits::Limits;
pub use session::{Batch, Event, GoAway, Received, Role, Session};
pub use stream::Stream;
