//! What a session does with frames of the other end.

use bytes::{Bytes, BytesMut};

use super::super::error::{SpdyError, Status};
use super::super::frame::{
    Frame, MAXIMUM_31_BITS, Settings, put_ping, put_rst_stream, put_settings, put_syn_reply,
    put_window_update,
};
use super::super::headers::Headers;
use super::stream::{Local, Remote, StreamState};
use super::{CHUNK_COST, Closing, DEFAULT_WINDOW, Event, GoAway, Role, Session};

/// Octets of answers that may wait before no more is read: a peer that asks (PING) and does not
/// read the answers is not listened to.
const MAXIMUM_ANSWERS: usize = 64 << 10;

/// A chunk below this is copied out of the buffer it was received in, so that a small one that
/// nobody reads does not keep a large buffer alive.
const COPIED_BELOW: usize = 16 << 10;

impl Session {
    /// Whether more octets should be read from the connection.
    ///
    /// Not when the other end sent more than it may and nobody read it yet: then it waits as for
    /// any full connection. What one call of [`Session::receive`] was given may go beyond.
    pub fn wants_input(&self) -> bool {
        self.buffered < self.limits.buffer as usize && self.control.len() < MAXIMUM_ANSWERS
    }

    /// Takes octets of the other end. What is left in `input` is the beginning of a frame.
    ///
    /// An error is the end of the session: GOAWAY is all that is left to transmit.
    pub fn receive(&mut self, input: &mut BytesMut) -> Result<(), SpdyError> {
        if self.closing == Closing::Sent {
            input.clear();
            return Ok(());
        }
        let result = self.receive_frames(input);
        if result.is_err() {
            let ids: Vec<u32> = self.streams.keys().copied().collect();
            for id in ids {
                self.end_stream(id, Status::PROTOCOL_ERROR);
            }
            self.closing = Closing::Queued(GoAway::ProtocolError);
        }
        result
    }

    /// The connection is lost: streams that are not finished are reset.
    pub fn lose(&mut self) {
        let ids: Vec<u32> = self.streams.keys().copied().collect();
        for id in ids {
            self.end_stream(id, Status::INTERNAL_ERROR);
        }
        self.control.clear();
        self.closing = Closing::Sent;
    }

    fn receive_frames(&mut self, input: &mut BytesMut) -> Result<(), SpdyError> {
        while let Some(frame) = self.decoder.next(input)? {
            self.announce();
            self.take(frame)?;
        }
        Ok(())
    }

    fn take(&mut self, frame: Frame) -> Result<(), SpdyError> {
        match frame {
            Frame::Data { stream, data, fin } => self.take_data(stream, data, fin),
            Frame::SynStream {
                stream,
                fin,
                unidirectional,
                block,
            } => return self.take_syn_stream(stream, fin, unidirectional, &block),
            Frame::SynReply { stream, fin, block } => return self.take_reply(stream, fin, &block),
            Frame::Headers { stream, fin, block } => {
                // Nobody uses them, but the compression context goes through them.
                self.inflater.inflate(&block)?;
                if fin {
                    self.remote_done(stream);
                }
            }
            Frame::RstStream { stream, status } => self.end_stream(stream, status),
            Frame::Settings(settings) => self.take_settings(settings),
            Frame::Ping(id) => {
                // Ours would have the parity of our streams; we send none.
                if id.is_multiple_of(2) == (self.role == Role::Client) {
                    put_ping(&mut self.control, id);
                }
            }
            Frame::GoAway { .. } => self.peer.left = true,
            Frame::WindowUpdate { stream, delta } => return self.take_window(stream, delta),
        }
        Ok(())
    }

    fn take_data(&mut self, id: u32, data: Bytes, fin: bool) {
        let length = data.len();
        match self.streams.get_mut(&id) {
            Some(stream) if stream.wants_data() => {
                if length > 0 {
                    stream.received.push_back(match length < COPIED_BELOW {
                        true => Bytes::copy_from_slice(&data),
                        false => data,
                    });
                    self.buffered += length + CHUNK_COST;
                    self.events.push_back(Event::Readable(id));
                }
            }
            // Octets on their way when a stream was reset, or of a sender that goes on after its
            // own FIN, as the Go library lets one do.
            _ => self.give_credit(id, length),
        }
        if fin {
            self.remote_done(id);
        }
    }

    fn take_syn_stream(
        &mut self,
        id: u32,
        fin: bool,
        unidirectional: bool,
        block: &[u8],
    ) -> Result<(), SpdyError> {
        let block = self.inflater.inflate(block)?;
        if self.role == Role::Client || id.is_multiple_of(2) || id <= self.last_peer_stream {
            return Err(SpdyError::Malformed {
                frame: "SYN_STREAM",
                problem: format!("opens stream {id} after stream {}", self.last_peer_stream),
            });
        }
        if self.closing != Closing::No {
            return Ok(());
        }
        self.last_peer_stream = id;
        let Ok(headers) = Headers::parse(&block) else {
            put_rst_stream(&mut self.control, id, Status::PROTOCOL_ERROR);
            return Ok(());
        };
        if self.streams.len() >= self.limits.streams {
            put_rst_stream(&mut self.control, id, Status::REFUSED_STREAM);
            return Ok(());
        }
        let remote = if fin { Remote::Finished } else { Remote::Open };
        let mut stream = StreamState::new(remote, self.peer.initial_window);
        if unidirectional {
            stream.local = Local::Finished;
        } else {
            let block = self.deflater.deflate(&Headers::block(&[]));
            put_syn_reply(&mut self.control, id, &block);
        }
        self.streams.insert(id, stream);
        self.events.push_back(Event::Opened(id, headers));
        Ok(())
    }

    fn take_reply(&mut self, id: u32, fin: bool, block: &[u8]) -> Result<(), SpdyError> {
        let block = self.inflater.inflate(block)?;
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.remote == Remote::Unanswered
            && stream.reset.is_none()
        {
            if Headers::parse(&block).is_ok() {
                stream.remote = Remote::Open;
            } else {
                self.reset(id, Status::PROTOCOL_ERROR);
            }
            self.events.push_back(Event::Answered(id));
        }
        if fin {
            self.remote_done(id);
        }
        Ok(())
    }

    fn take_settings(&mut self, settings: Settings) {
        self.peer.windows = true;
        if let Some(streams) = settings.streams {
            self.peer.streams = streams;
        }
        let Some(window) = settings.window else {
            return;
        };
        let change = i64::from(window) - i64::from(self.peer.initial_window);
        self.peer.initial_window = window;
        let mut grown = Vec::new();
        for (id, stream) in &mut self.streams {
            stream.window = stream.window.saturating_add(change);
            grown.push(*id);
        }
        for id in grown {
            self.make_ready(id);
        }
    }

    fn take_window(&mut self, id: u32, delta: u32) -> Result<(), SpdyError> {
        let delta = i64::from(delta);
        if id == 0 {
            self.peer.session_windows = true;
            self.peer.session_window += delta;
            if self.peer.session_window > i64::from(MAXIMUM_31_BITS) {
                return Err(SpdyError::Malformed {
                    frame: "WINDOW_UPDATE",
                    problem: "makes the connection's window larger than 2^31 - 1".into(),
                });
            }
            return Ok(());
        }
        self.peer.windows = true;
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        stream.window += delta;
        if stream.window > i64::from(MAXIMUM_31_BITS) {
            self.reset(id, Status::FLOW_CONTROL_ERROR);
        } else {
            self.make_ready(id);
        }
        Ok(())
    }

    /// The other end is done with a stream.
    fn remote_done(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.reset.is_none()
        {
            stream.remote = Remote::Finished;
            self.events.push_back(Event::Readable(id));
            self.forget_if_closed(id);
        }
    }

    /// A stream is reset by the other end, or together with the connection.
    fn end_stream(&mut self, id: u32, status: Status) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.end(status);
            self.events.push_back(Event::Answered(id));
            self.events.push_back(Event::Readable(id));
            self.events.push_back(Event::Writable(id));
            self.forget_if_closed(id);
        }
    }

    /// Tells the other end once what it may send. A server does so when it has heard a frame.
    pub(super) fn announce(&mut self) {
        if std::mem::replace(&mut self.announced, true) {
            return;
        }
        let settings = Settings {
            streams: u32::try_from(self.limits.streams).ok(),
            window: Some(self.limits.window.min(MAXIMUM_31_BITS)),
        };
        put_settings(&mut self.control, settings);
        let buffer = self.limits.buffer.min(MAXIMUM_31_BITS);
        if let Some(more) = buffer.checked_sub(DEFAULT_WINDOW)
            && more > 0
        {
            put_window_update(&mut self.control, 0, more);
        }
    }

    /// Octets of a stream were read or dropped: the other end may send as many again. It is told
    /// when it is half a window, so that small reads do not cost a frame each.
    pub(super) fn give_credit(&mut self, id: u32, octets: usize) {
        let octets = u32::try_from(octets).unwrap_or(u32::MAX);
        self.credit = self.credit.saturating_add(octets);
        if self.credit >= self.limits.buffer.max(DEFAULT_WINDOW) / 2 {
            put_window_update(&mut self.control, 0, self.credit);
            self.credit = 0;
        }
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.is_received()
        {
            stream.credit = stream.credit.saturating_add(octets);
            if stream.credit >= self.limits.window / 2 {
                put_window_update(&mut self.control, id, stream.credit);
                stream.credit = 0;
            }
        }
    }
}
