//! What a session has to transmit.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};

use super::super::frame::{put_data_header, put_go_away};
use super::stream::{Local, StreamState};
use super::{CHUNK_COST, Closing, Event, GoAway, Session};

/// Octets of one DATA frame at most, so that a large one does not keep others waiting.
const MAXIMUM_DATA: usize = 64 << 10;

/// Octets to be written to a connection, in order.
#[derive(Debug, Default)]
pub struct Batch {
    /// Never empty ones.
    pub segments: VecDeque<Bytes>,
    scratch: BytesMut,
}

impl Batch {
    /// Everything as one piece.
    pub fn concatenate(&mut self) -> Bytes {
        let length = self.segments.iter().map(Bytes::len).sum();
        let mut all = BytesMut::with_capacity(length);
        for segment in self.segments.drain(..) {
            all.extend_from_slice(&segment);
        }
        all.freeze()
    }

    /// Drops the first octets, which are written.
    pub(in crate::spdy) fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.segments.front_mut() {
            if first.len() > written {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.segments.pop_front();
        }
    }
}

impl Session {
    /// Whether [`Session::transmit`] would give something, as far as that is known.
    pub fn wants_output(&self) -> bool {
        self.closing != Closing::Sent
            && (!self.control.is_empty() || !self.ready.is_empty() || self.closing != Closing::No)
    }

    /// Adds what is to be transmitted now to `batch`: all control frames, and data in turn of all
    /// streams until about `limit` octets.
    pub fn transmit(&mut self, batch: &mut Batch, limit: usize) {
        if self.closing == Closing::Sent {
            return;
        }
        if !self.control.is_empty() {
            batch.segments.push_back(self.control.split().freeze());
        }
        let mut left = limit;
        // each stream that is ready now has one turn; those with more to say are ready again
        while left > 0
            && let Some(id) = self.ready.pop_front()
        {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.ready = false;
            }
            match self.transmit_data(id, batch) {
                Turn::Sent(octets) => {
                    left = left.saturating_sub(octets);
                    self.make_ready(id);
                }
                Turn::Nothing => {}
                Turn::ConnectionFull => {
                    self.make_ready_first(id);
                    break;
                }
            }
        }
        if let Closing::Queued(status) = self.closing
            && (status == GoAway::ProtocolError
                || !self.streams.values().any(StreamState::is_unsent))
        {
            let mut frame = BytesMut::new();
            put_go_away(&mut frame, self.last_peer_stream, status as u32);
            batch.segments.push_back(frame.freeze());
            self.closing = Closing::Sent;
        }
    }

    /// One DATA frame of a stream, if it has something to say and may.
    fn transmit_data(&mut self, id: u32, batch: &mut Batch) -> Turn {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Turn::Nothing;
        };
        if stream.reset.is_some() || stream.local == Local::Finished {
            return Turn::Nothing;
        }
        let finishing = stream.local == Local::Finishing;
        let mut data = Bytes::new();
        if let Some(chunk) = stream.unsent.front_mut() {
            let mut length = chunk.len().min(MAXIMUM_DATA);
            if self.peer.windows {
                length = length.min(usize::try_from(stream.window).unwrap_or(0));
            }
            if length == 0 {
                return Turn::Nothing;
            }
            if self.peer.session_windows {
                length = length.min(usize::try_from(self.peer.session_window).unwrap_or(0));
            }
            if length == 0 {
                return Turn::ConnectionFull;
            }
            data = chunk.split_to(length);
            stream.queued -= length;
            if chunk.is_empty() {
                stream.queued -= CHUNK_COST;
                stream.unsent.pop_front();
            }
        } else if !finishing {
            return Turn::Nothing;
        }
        let fin = finishing && stream.unsent.is_empty();
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        stream.window -= i64::from(length);
        self.peer.session_window -= i64::from(length);
        put_data_header(&mut batch.scratch, id, length, fin);
        batch.segments.push_back(batch.scratch.split().freeze());
        if !data.is_empty() {
            batch.segments.push_back(data);
        }
        if fin {
            stream.local = Local::Finished;
        }
        self.events.push_back(Event::Writable(id));
        self.forget_if_closed(id);
        Turn::Sent(length as usize + 1)
    }

    fn make_ready_first(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.ready = true;
            self.ready.push_front(id);
        }
    }
}

/// What became of a stream's turn.
enum Turn {
    /// This much was sent.
    Sent(usize),
    /// It has nothing to say, or its window is full.
    Nothing,
    /// The window of the connection is full: nobody may send.
    ConnectionFull,
}
