//! Why a connection ends, and why a stream does.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What ends a whole connection, or keeps a stream from being opened.
#[derive(Debug, thiserror::Error)]
pub enum SpdyError {
    /// The connection was closed by this end, or has ended.
    #[error("the SPDY connection is closed: open another one")]
    Closed,
    /// A header block cannot be inflated, so that all that follow are lost too.
    #[error("a SPDY header block cannot be inflated: {0}")]
    Compression(String),
    /// A frame of a known type that is longer than it may be.
    #[error("a SPDY {frame} frame of {length} octets: at most {limit} are taken")]
    FrameTooLarge {
        /// The type of the frame, as the specification writes it.
        frame: &'static str,
        /// Octets it announces.
        length: usize,
        /// Octets it may have.
        limit: usize,
    },
    /// A header block that inflates to more than is taken.
    #[error("a SPDY header block inflates to more than {limit} octets")]
    HeadersTooLarge {
        /// Octets it may have.
        limit: usize,
    },
    /// The connection beneath failed.
    #[error("the connection beneath a SPDY session failed: {0}")]
    Io(#[from] io::Error),
    /// A frame that says what it must not say.
    #[error("a SPDY {frame} frame {problem}")]
    Malformed {
        /// The type of the frame, as the specification writes it.
        frame: &'static str,
        /// What is wrong with it, to go after "frame".
        problem: String,
    },
    /// A stream was refused or ended by the other end.
    #[error("{0}")]
    Reset(#[from] Reset),
    /// A stream that was asked for was not answered.
    #[error("a SPDY stream was not answered within {0:?}")]
    Unanswered(Duration),
    /// The other end allows no more streams, or all identifiers are used.
    #[error("no more than {0} SPDY streams may be open at once: close one first")]
    TooManyStreams(u32),
    /// A frame of another version of SPDY.
    #[error("a SPDY frame of version {0}: this end speaks version 3")]
    Version(u16),
}

/// How a connection ended.
#[derive(Clone, Debug)]
pub enum End {
    /// This end closed it.
    Closed,
    /// The other end broke the protocol, or the connection beneath failed.
    Failed(Arc<SpdyError>),
    /// Not an octet moved for this long.
    Idle(Duration),
    /// The other end left: GOAWAY, or the end of its octets.
    Left,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed by this end"),
            Self::Failed(error) => error.fmt(f),
            Self::Idle(limit) => write!(f, "idle for {limit:?}"),
            Self::Left => f.write_str("closed by the other end"),
        }
    }
}

/// The end of a stream by RST_STREAM (section 2.6.3), or together with its connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("SPDY stream {stream} was ended before it was finished: {status}")]
pub struct Reset {
    /// The stream.
    pub stream: u32,
    /// Why.
    pub status: Status,
}

/// A status of RST_STREAM (section 2.6.3). Other values than these are kept as they are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Status(pub u32);

impl Status {
    /// A frame that breaks the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// The stream is refused before anything was done with it.
    pub const REFUSED_STREAM: Self = Self(3);
    /// Its creator does not want it any more.
    pub const CANCEL: Self = Self(5);
    /// Something broke at the other end.
    pub const INTERNAL_ERROR: Self = Self(6);
    /// A window was made larger than 2^31 - 1.
    pub const FLOW_CONTROL_ERROR: Self = Self(7);
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 11] = [
            "PROTOCOL_ERROR",
            "INVALID_STREAM",
            "REFUSED_STREAM",
            "UNSUPPORTED_VERSION",
            "CANCEL",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "STREAM_IN_USE",
            "STREAM_ALREADY_CLOSED",
            "INVALID_CREDENTIALS",
            "FRAME_TOO_LARGE",
        ];
        let name = usize::try_from(self.0)
            .ok()
            .and_then(|status| status.checked_sub(1))
            .and_then(|index| NAMES.get(index));
        match name {
            Some(name) => f.write_str(name),
            None => write!(f, "status {}", self.0),
        }
    }
}
