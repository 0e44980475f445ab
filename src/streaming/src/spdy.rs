//! SPDY/3.1 (<https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/>), as far as
//! Kubernetes uses it: many streams of octets over one connection.

mod limits;

pub use limits::Limits;
