//! From octets to frames.

use bytes::{Buf, Bytes, BytesMut};

use super::error::{SpdyError, Status};
use super::frame::{
    FLAG_FIN, FLAG_UNIDIRECTIONAL, FRAME_HEADER, Frame, Kind, MAXIMUM_31_BITS, Settings, VERSION,
};

/// Cuts frames out of octets as they come.
///
/// A DATA frame may have 16 MiB and is given in parts, as they come; a control frame is given
/// whole and has a bound.
///
/// ```text
///            header of DATA                 all its octets
///  Boundary ────────────────▶ Data{left} ────────────────▶ Boundary
///           ────────────────▶ Skip{left} ────────────────▶
///            header of an unknown type
/// ```
#[derive(Debug)]
pub(super) struct Decoder {
    state: State,
    /// Octets a control frame may have after its header.
    limit: usize,
}

#[derive(Debug)]
enum State {
    Boundary,
    Data { stream: u32, left: usize, fin: bool },
    Skip { left: usize },
}

impl Decoder {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            state: State::Boundary,
            limit,
        }
    }

    /// The next frame in `input`, which is consumed as far as it was understood. `None`: more
    /// octets are needed. After an error nothing that follows has a meaning.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, SpdyError> {
        loop {
            match &mut self.state {
                State::Boundary => {
                    if input.len() < FRAME_HEADER {
                        return Ok(None);
                    }
                    if input[0] & 0x80 == 0 {
                        if let Some(frame) = self.data_header(input)? {
                            return Ok(Some(frame));
                        }
                    } else {
                        match self.control(input)? {
                            Control::Frame(frame) => return Ok(Some(frame)),
                            Control::Incomplete => return Ok(None),
                            Control::Unknown => {}
                        }
                    }
                }
                State::Data { stream, left, fin } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let data = input.split_to(input.len().min(*left)).freeze();
                    *left -= data.len();
                    let (stream, fin, done) = (*stream, *fin, *left == 0);
                    if done {
                        self.state = State::Boundary;
                    }
                    return Ok(Some(Frame::Data {
                        stream,
                        data,
                        fin: fin && done,
                    }));
                }
                State::Skip { left } => {
                    let skipped = input.len().min(*left);
                    input.advance(skipped);
                    *left -= skipped;
                    if *left > 0 {
                        return Ok(None);
                    }
                    self.state = State::Boundary;
                }
            }
        }
    }

    /// Takes the header of a DATA frame. Only one without octets is a frame already; one without
    /// octets and flag says nothing.
    fn data_header(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, SpdyError> {
        let stream = input.get_u32();
        let flags_and_length = input.get_u32();
        let fin = (flags_and_length >> 24) as u8 & FLAG_FIN != 0;
        let left = (flags_and_length & 0x00ff_ffff) as usize;
        if stream == 0 {
            return Err(malformed("DATA", "is for stream 0"));
        }
        if left > 0 {
            self.state = State::Data { stream, left, fin };
            return Ok(None);
        }
        Ok(fin.then(|| Frame::Data {
            stream,
            data: Bytes::new(),
            fin,
        }))
    }

    /// Takes a control frame if all of it is there.
    fn control(&mut self, input: &mut BytesMut) -> Result<Control, SpdyError> {
        let mut header = &input[..FRAME_HEADER];
        let version = header.get_u16() & 0x7fff;
        if version != VERSION {
            return Err(SpdyError::Version(version));
        }
        let number = header.get_u16();
        let flags = header.get_u8();
        let length = usize::try_from(header.get_uint(3)).unwrap_or(usize::MAX);
        let Some(kind) = Kind::of(number) else {
            input.advance(FRAME_HEADER);
            self.state = State::Skip { left: length };
            return Ok(Control::Unknown);
        };
        if length > self.limit {
            return Err(SpdyError::FrameTooLarge {
                frame: kind.name(),
                length,
                limit: self.limit,
            });
        }
        if input.len() < FRAME_HEADER + length {
            input.reserve(FRAME_HEADER + length - input.len());
            return Ok(Control::Incomplete);
        }
        input.advance(FRAME_HEADER);
        parse(kind, flags, input.split_to(length).freeze()).map(Control::Frame)
    }
}

enum Control {
    Frame(Frame),
    Incomplete,
    Unknown,
}

fn malformed(frame: &'static str, problem: impl Into<String>) -> SpdyError {
    SpdyError::Malformed {
        frame,
        problem: problem.into(),
    }
}

/// Octets before the header block, or of the whole frame where it has none.
fn fixed_length(kind: Kind) -> usize {
    match kind {
        Kind::SynStream => 10,
        Kind::SynReply | Kind::Headers | Kind::Settings | Kind::Ping => 4,
        Kind::RstStream | Kind::GoAway | Kind::WindowUpdate => 8,
    }
}

fn parse(kind: Kind, flags: u8, mut body: Bytes) -> Result<Frame, SpdyError> {
    let fixed = fixed_length(kind);
    let exact = matches!(
        kind,
        Kind::RstStream | Kind::Ping | Kind::GoAway | Kind::WindowUpdate
    );
    if body.len() < fixed || exact && body.len() > fixed {
        let problem = format!("has {} octets instead of {fixed}", body.len());
        return Err(malformed(kind.name(), problem));
    }
    let first = body.get_u32();
    // The highest bit of a stream identifier is reserved and ignored.
    let stream = first & MAXIMUM_31_BITS;
    let needs_stream = !matches!(
        kind,
        Kind::Settings | Kind::Ping | Kind::GoAway | Kind::WindowUpdate
    );
    if needs_stream && stream == 0 {
        return Err(malformed(kind.name(), "is for stream 0"));
    }
    let fin = flags & FLAG_FIN != 0;
    Ok(match kind {
        Kind::SynStream => {
            // the associated stream, the priority and the slot mean nothing here
            body.advance(6);
            Frame::SynStream {
                stream,
                fin,
                unidirectional: flags & FLAG_UNIDIRECTIONAL != 0,
                block: body,
            }
        }
        Kind::SynReply => Frame::SynReply {
            stream,
            fin,
            block: body,
        },
        Kind::Headers => Frame::Headers {
            stream,
            fin,
            block: body,
        },
        Kind::RstStream => Frame::RstStream {
            stream,
            status: Status(body.get_u32()),
        },
        Kind::Settings => Frame::Settings(settings(first, body)?),
        Kind::Ping => Frame::Ping(first),
        Kind::GoAway => Frame::GoAway {
            last: stream,
            status: body.get_u32(),
        },
        Kind::WindowUpdate => Frame::WindowUpdate {
            stream,
            delta: body.get_u32() & MAXIMUM_31_BITS,
        },
    })
}

fn settings(count: u32, mut body: Bytes) -> Result<Settings, SpdyError> {
    let name = Kind::Settings.name();
    if body.len() as u64 != u64::from(count) * 8 {
        let problem = format!("has {} octets for {count} settings", body.len());
        return Err(malformed(name, problem));
    }
    let mut settings = Settings::default();
    while body.has_remaining() {
        // the flags say what to keep for a later connection; nothing is
        let id = body.get_u32() & 0x00ff_ffff;
        let value = body.get_u32();
        match id {
            Settings::MAX_CONCURRENT_STREAMS => settings.streams = Some(value),
            Settings::INITIAL_WINDOW_SIZE if value > MAXIMUM_31_BITS => {
                return Err(malformed(name, format!("asks for a window of {value}")));
            }
            Settings::INITIAL_WINDOW_SIZE => settings.window = Some(value),
            _ => {}
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests;
