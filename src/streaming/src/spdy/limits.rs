//! How much one peer may ask for.

use std::time::Duration;

/// Bounds on what one connection may cost. A peer that stays within them never notices.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams the peer may have open at once; one more is refused (REFUSED_STREAM).
    pub streams: usize,
    /// Octets of one header block, before and after inflation. More ends the connection: its
    /// compression context cannot be kept up without inflating them.
    pub headers: usize,
    /// Octets of one stream that the peer may send before they are read, and that a stream's
    /// writer may be ahead of the connection.
    pub window: u32,
    /// Octets received and not yet read, of all streams together, at which the connection is not
    /// read any more. Also the window of the whole connection. Reached only by a peer that does
    /// not keep to windows; the Go library used by kubelet is one.
    pub buffer: u32,
    /// How long the connection may stay without an octet in either direction.
    pub idle: Duration,
    /// How long the end of a connection may take: what is queued is written, and the peer closes.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: 1024,
            headers: 16 << 10,
            window: 256 << 10,
            buffer: 1 << 20,
            // What kubelet and the Go servers use (StreamIdleTimeout).
            idle: Duration::from_secs(4 * 60 * 60),
            linger: Duration::from_secs(5),
        }
    }
}
