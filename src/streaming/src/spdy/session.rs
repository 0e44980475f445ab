//! One connection as a state machine: octets in, octets and [`Event`]s out. No clock, no socket.

mod input;
mod output;
mod stream;

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};

use self::stream::{Local, Remote, StreamState};
use super::decoder::Decoder;
use super::error::{Reset, SpdyError, Status};
use super::frame::{MAXIMUM_31_BITS, put_rst_stream, put_syn_stream};
use super::headers::{Deflater, Headers, Inflater};
use super::limits::Limits;

pub use self::output::Batch;

/// The window of a stream, and of the connection, before anybody says otherwise (section 2.6.8).
const DEFAULT_WINDOW: u32 = 64 << 10;

/// What a chunk costs beside its octets. It counts, so that many small ones have a bound too.
const CHUNK_COST: usize = 64;

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Opens streams with odd identifiers.
    Client,
    /// Opens none, as Kubernetes uses SPDY. Says nothing before it has heard a frame: the Go client
    /// loses what comes together with the answer to its upgrade.
    Server,
}

/// What a session has to tell.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// The other end opened a stream, which is answered already and stays until
    /// [`Session::release`].
    Opened(u32, Headers),
    /// The other end answered a stream of ours.
    Answered(u32),
    /// There is something new to [`Session::read`]: octets, the end, or a reset.
    Readable(u32),
    /// There is room to [`Session::write`], or what was queued is transmitted.
    Writable(u32),
}

/// What there is to read of a stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Received {
    /// Octets, never none.
    Data(Bytes),
    /// The other end is done with the stream.
    End,
    /// Nothing yet: an [`Event::Readable`] will say when.
    Nothing,
}

/// One end of a SPDY connection.
///
/// Windows are kept as the specification says, with two concessions to the Go library that
/// kubelet, crictl and the API server use. It never reads a WINDOW_UPDATE and never sends one, so
/// its window is taken for unlimited until it shows by a SETTINGS or WINDOW_UPDATE frame that it
/// has one. And it sends more than our window allows; what is too much stays in the connection
/// ([`Session::wants_input`]).
///
/// ```text
///              SYN_STREAM                      FIN of one end          FIN of the other
///   (nothing) ────────────▶ open on both ends ───────────────▶ half ──────────────────▶ closed
///                                  │     RST_STREAM of either end  │
///                                  └───────────────┬───────────────┘
///                                                  ▼
///                                               closed
/// ```
///
/// A closed stream is forgotten once it is released and what was queued is transmitted.
#[derive(Debug)]
pub struct Session {
    role: Role,
    limits: Limits,
    decoder: Decoder,
    inflater: Inflater,
    deflater: Deflater,
    streams: HashMap<u32, StreamState>,
    /// Frames to send before all data.
    control: BytesMut,
    /// Streams that may have something to transmit, in turn.
    ready: VecDeque<u32>,
    events: VecDeque<Event>,
    /// Whether our SETTINGS are sent.
    announced: bool,
    /// Of the other end: the last stream it opened.
    last_peer_stream: u32,
    /// Of ours: the next to open.
    next_stream: u32,
    /// What the other end allows.
    peer: Peer,
    /// Octets received and not read yet, and what the chunks they are in cost.
    buffered: usize,
    /// Octets read, of which the other end is not told yet.
    credit: u32,
    closing: Closing,
}

/// What is known of the other end.
#[derive(Debug)]
struct Peer {
    /// Keeps to windows of streams.
    windows: bool,
    /// Keeps to the window of the connection (SPDY/3.1).
    session_windows: bool,
    /// The window of a new stream.
    initial_window: u32,
    /// Octets that may still be sent on the connection.
    session_window: i64,
    /// Streams we may open at once.
    streams: u32,
    /// It sent GOAWAY.
    left: bool,
}

/// How far the end of the session is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Closing {
    No,
    /// GOAWAY with this status follows what is queued.
    Queued(GoAway),
    /// GOAWAY is transmitted: nothing is sent any more.
    Sent,
}

/// The status of a GOAWAY (section 2.6.6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GoAway {
    /// The end of an orderly connection.
    Ok = 0,
    /// The other end broke the protocol.
    ProtocolError = 1,
}

impl Session {
    /// A session on a connection of which nothing is read or written yet.
    pub fn new(role: Role, limits: Limits) -> Self {
        Self {
            role,
            limits,
            decoder: Decoder::new(limits.headers),
            inflater: Inflater::new(limits.headers),
            deflater: Deflater::default(),
            streams: HashMap::new(),
            control: BytesMut::new(),
            ready: VecDeque::new(),
            events: VecDeque::new(),
            announced: false,
            last_peer_stream: 0,
            next_stream: 1,
            peer: Peer {
                windows: false,
                session_windows: false,
                initial_window: DEFAULT_WINDOW,
                session_window: i64::from(DEFAULT_WINDOW),
                streams: u32::MAX,
                left: false,
            },
            buffered: 0,
            credit: 0,
            closing: Closing::No,
        }
    }

    /// The next thing to tell.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Opens a stream, whose answer comes as an [`Event`]. Only a client can.
    pub fn open(&mut self, headers: &[(&str, &str)]) -> Result<u32, SpdyError> {
        if self.role == Role::Server || self.peer.left || self.closing != Closing::No {
            return Err(SpdyError::Closed);
        }
        let open = u32::try_from(self.streams.len()).unwrap_or(u32::MAX);
        if open >= self.peer.streams || self.next_stream > MAXIMUM_31_BITS {
            return Err(SpdyError::TooManyStreams(self.peer.streams));
        }
        let block = Headers::block(headers);
        if block.len() > self.limits.headers {
            let limit = self.limits.headers;
            return Err(SpdyError::HeadersTooLarge { limit });
        }
        self.announce();
        let id = self.next_stream;
        self.next_stream += 2;
        let block = self.deflater.deflate(&block);
        put_syn_stream(&mut self.control, id, &block);
        let window = self.peer.initial_window;
        self.streams
            .insert(id, StreamState::new(Remote::Unanswered, window));
        Ok(id)
    }

    /// Whether the other end answered a stream of ours. An error is that of a stream that was reset
    /// without an answer; a reset after it is for those who read and write.
    pub fn answered(&self, id: u32) -> Result<bool, Reset> {
        match self.streams.get(&id) {
            Some(stream) if stream.remote == Remote::Unanswered => match stream.reset {
                Some(status) => Err(Reset { stream: id, status }),
                None => Ok(false),
            },
            _ => Ok(true),
        }
    }

    /// Takes what was received on a stream, one chunk at a time.
    pub fn read(&mut self, id: u32) -> Result<Received, Reset> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(Received::End);
        };
        if let Some(chunk) = stream.received.pop_front() {
            self.buffered -= chunk.len() + CHUNK_COST;
            self.give_credit(id, chunk.len());
            return Ok(Received::Data(chunk));
        }
        if stream.remote == Remote::Finished {
            return Ok(Received::End);
        }
        match stream.reset {
            Some(status) => Err(Reset { stream: id, status }),
            None => Ok(Received::Nothing),
        }
    }

    /// Octets that [`Session::write`] takes now. None: an [`Event::Writable`] will say when.
    pub fn room(&self, id: u32) -> Result<usize, Reset> {
        let stream = self.writable(id)?;
        Ok((self.limits.window as usize).saturating_sub(stream.queued))
    }

    /// Queues octets of a stream: all of them, though [`Session::room`] says how many one should
    /// give.
    pub fn write(&mut self, id: u32, data: Bytes) -> Result<(), Reset> {
        self.writable(id)?;
        if let Some(stream) = self.streams.get_mut(&id)
            && !data.is_empty()
        {
            stream.queued += data.len() + CHUNK_COST;
            stream.unsent.push_back(data);
            self.make_ready(id);
        }
        Ok(())
    }

    /// The stream, if it may be written to. One that was finished by this end counts as cancelled.
    fn writable(&self, id: u32) -> Result<&StreamState, Reset> {
        let cancelled = Reset {
            stream: id,
            status: Status::CANCEL,
        };
        let stream = self.streams.get(&id).ok_or(cancelled)?;
        match stream.reset {
            Some(status) => Err(Reset { stream: id, status }),
            None if stream.local != Local::Open || self.closing != Closing::No => Err(cancelled),
            None => Ok(stream),
        }
    }

    /// Says that nothing more will be written to a stream: FIN follows what is queued.
    pub fn finish(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.local == Local::Open
        {
            stream.local = Local::Finishing;
            self.make_ready(id);
        }
    }

    /// Whether all that was written, and FIN, is transmitted.
    pub fn finished(&self, id: u32) -> Result<bool, Reset> {
        match self.streams.get(&id) {
            Some(stream) if stream.local == Local::Finished => Ok(true),
            Some(stream) => match stream.reset {
                Some(status) => Err(Reset { stream: id, status }),
                None => Ok(false),
            },
            None => Ok(true),
        }
    }

    /// Says that nobody reads or writes a stream any more. One that is not finished is reset; of
    /// one that is, the rest is transmitted, and what comes for it is dropped.
    pub fn release(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.held = false;
        let dropped = std::mem::take(&mut stream.received);
        let cancel = stream.local == Local::Open && stream.reset.is_none();
        for chunk in dropped {
            self.buffered -= chunk.len() + CHUNK_COST;
            self.give_credit(id, chunk.len());
        }
        if cancel {
            self.reset(id, Status::CANCEL);
        }
        self.forget_if_closed(id);
    }

    /// Ends the session: what is queued is transmitted, then GOAWAY, then nothing.
    pub fn close(&mut self) {
        if self.closing == Closing::No {
            self.closing = Closing::Queued(GoAway::Ok);
        }
    }

    /// Whether this end sends nothing any more.
    pub fn is_closed(&self) -> bool {
        self.closing == Closing::Sent
    }

    /// Whether the end of the session has begun.
    pub fn is_closing(&self) -> bool {
        self.closing != Closing::No
    }

    /// Whether the other end said GOAWAY and no stream is left.
    pub fn is_left(&self) -> bool {
        self.peer.left && self.streams.values().all(StreamState::is_closed)
    }

    /// Octets received and not read, with what keeping them costs. Has a bound, see
    /// [`Session::wants_input`].
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// Sends RST_STREAM; what was queued for the stream is dropped.
    fn reset(&mut self, id: u32, status: Status) {
        put_rst_stream(&mut self.control, id, status);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.end(status);
            self.events.push_back(Event::Readable(id));
            self.events.push_back(Event::Writable(id));
        }
        self.forget_if_closed(id);
    }

    fn make_ready(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.ready
        {
            stream.ready = true;
            self.ready.push_back(id);
        }
    }

    fn forget_if_closed(&mut self, id: u32) {
        if self.streams.get(&id).is_some_and(StreamState::is_over) {
            self.streams.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests;
