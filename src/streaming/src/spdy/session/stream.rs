//! What a session knows of one stream.

use std::collections::VecDeque;

use bytes::Bytes;

use super::super::error::Status;

/// How far this end is with a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Local {
    /// May be written to.
    Open,
    /// FIN follows what is queued.
    Finishing,
    /// FIN is transmitted.
    Finished,
}

/// How far the other end is with a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Remote {
    /// Has not answered SYN_STREAM.
    Unanswered,
    Open,
    /// Has sent FIN.
    Finished,
}

#[derive(Debug)]
pub(super) struct StreamState {
    /// Received and not read yet.
    pub(super) received: VecDeque<Bytes>,
    /// Octets read of which the other end is not told yet.
    pub(super) credit: u32,
    pub(super) remote: Remote,
    pub(super) local: Local,
    /// Written and not transmitted yet.
    pub(super) unsent: VecDeque<Bytes>,
    /// Octets of `unsent`, and what the chunks cost.
    pub(super) queued: usize,
    /// Octets that the other end still allows. Below zero if it made its window smaller, or never
    /// said that it has one.
    pub(super) window: i64,
    /// Is in the session's queue of ready streams.
    pub(super) ready: bool,
    /// Was reset by either end.
    pub(super) reset: Option<Status>,
    /// Somebody reads and writes it: [`super::Session::release`] was not called.
    pub(super) held: bool,
}

impl StreamState {
    pub(super) fn new(remote: Remote, window: u32) -> Self {
        Self {
            received: VecDeque::new(),
            credit: 0,
            remote,
            local: Local::Open,
            unsent: VecDeque::new(),
            queued: 0,
            window: i64::from(window),
            ready: false,
            reset: None,
            held: true,
        }
    }

    /// The stream is reset: what was to be transmitted is dropped, what was received can be read.
    pub(super) fn end(&mut self, status: Status) {
        self.reset.get_or_insert(status);
        self.unsent.clear();
        self.queued = 0;
    }

    /// Whether the other end sends no more of it.
    pub(super) fn is_received(&self) -> bool {
        self.reset.is_some() || self.remote == Remote::Finished
    }

    /// Whether octets of the other end will be read.
    pub(super) fn wants_data(&self) -> bool {
        self.held && !self.is_received()
    }

    /// Whether both ends are done with it.
    pub(super) fn is_closed(&self) -> bool {
        self.reset.is_some() || self.remote == Remote::Finished && self.local == Local::Finished
    }

    /// Whether nothing more can happen to it.
    pub(super) fn is_over(&self) -> bool {
        !self.held && self.is_closed()
    }

    /// Whether there are octets that wait to be transmitted.
    pub(super) fn is_unsent(&self) -> bool {
        self.reset.is_none() && !self.unsent.is_empty()
    }
}
