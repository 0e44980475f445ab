mod pair;

use super::super::frame::{
    FLAG_FIN, FLAG_UNIDIRECTIONAL, Frame, Settings, put_data_header, put_ping, put_rst_stream,
    put_settings, put_syn_reply, put_window_update,
};
use super::*;

const LIMITS: Limits = Limits {
    streams: 4,
    headers: 16 << 10,
    window: 100_000,
    buffer: 200_000,
    idle: std::time::Duration::ZERO,
    linger: std::time::Duration::ZERO,
};

/// A server, and the other end by hand.
struct Bench {
    session: Session,
    deflater: Deflater,
    decoder: Decoder,
}

impl Bench {
    fn new() -> Self {
        Self {
            session: Session::new(Role::Server, LIMITS),
            deflater: Deflater::default(),
            decoder: Decoder::new(LIMITS.headers),
        }
    }

    /// A server that has heard of stream 1, and said so.
    fn with_stream() -> Self {
        let mut bench = Self::new();
        bench.open(1, 0, &[("streamType", "stdout")]);
        bench.frames();
        while bench.session.event().is_some() {}
        bench
    }

    fn hear(&mut self, write: impl FnOnce(&mut BytesMut)) -> Result<(), String> {
        let mut octets = BytesMut::new();
        write(&mut octets);
        let heard = self.session.receive(&mut octets);
        heard.map_err(|error| error.to_string())
    }

    fn open_raw(&mut self, id: u32, flags: u8, block: &[u8]) -> Result<(), String> {
        let block = self.deflater.deflate(block);
        self.hear(|out| {
            put_syn_stream(out, id, &block);
            out[4] = flags;
        })
    }

    fn open(&mut self, id: u32, flags: u8, headers: &[(&str, &str)]) {
        let opened = self.open_raw(id, flags, &Headers::block(headers));
        assert_eq!(opened, Ok(()));
    }

    fn data(&mut self, id: u32, octets: &[u8], fin: bool) {
        let length = u32::try_from(octets.len()).unwrap();
        let heard = self.hear(|out| {
            put_data_header(out, id, length, fin);
            out.extend_from_slice(octets);
        });
        assert_eq!(heard, Ok(()));
    }

    /// All it has to say now.
    fn frames(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            let mut batch = Batch::default();
            self.session.transmit(&mut batch, 1 << 20);
            let mut octets = BytesMut::from(&batch.concatenate()[..]);
            if octets.is_empty() {
                return frames;
            }
            while let Some(frame) = self.decoder.next(&mut octets).unwrap() {
                frames.push(frame);
            }
        }
    }

    /// Octets of DATA frames it has to say now, and whether the last had FIN.
    fn data_out(&mut self) -> (usize, bool) {
        self.frames()
            .into_iter()
            .fold((0, false), |(sum, _), frame| match frame {
                Frame::Data { data, fin, .. } => (sum + data.len(), fin),
                other => panic!("{other:?}"),
            })
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.event()).collect()
    }
}

fn rst(stream: u32, status: Status) -> Frame {
    Frame::RstStream { stream, status }
}

fn headers(kind: &str) -> Headers {
    Headers::parse(&Headers::block(&[("streamtype", kind)])).unwrap()
}

#[test]
fn the_conversation_of_the_go_client() {
    let octets = include_bytes!("../../../tests/fixtures/client.spdy");
    let mut bench = Bench::new();
    let (opening, rest) = octets.split_at(0x91);
    assert_eq!(bench.hear(|out| out.extend_from_slice(opening)), Ok(()));
    let opened = [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "resize")];
    assert_eq!(
        bench.events(),
        opened.map(|(id, kind)| Event::Opened(id, headers(kind)))
    );
    let said = bench.frames();
    let settings = Settings {
        streams: Some(4),
        window: Some(100_000),
    };
    assert_eq!(said[0], Frame::Settings(settings));
    assert_eq!(
        said[1],
        Frame::WindowUpdate {
            stream: 0,
            delta: 200_000 - 65_536
        }
    );
    let answered: Vec<_> = said[2..]
        .iter()
        .map(|frame| match frame {
            Frame::SynReply { stream, .. } => *stream,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(answered, [1, 3, 5, 7]);

    assert_eq!(bench.hear(|out| out.extend_from_slice(rest)), Ok(()));
    assert_eq!(
        bench.session.read(3),
        Ok(Received::Data(Bytes::from_static(b"hello\n")))
    );
    assert_eq!(bench.session.read(3), Ok(Received::End));
    let cancelled = Reset {
        stream: 7,
        status: Status::CANCEL,
    };
    assert_eq!(bench.session.read(7), Err(cancelled));
    assert_eq!(bench.session.room(7), Err(cancelled));
    assert_eq!(bench.frames(), [Frame::Ping(1)]);
    // the client said GOAWAY; three of its streams are open at this end
    assert!(!bench.session.is_left());
    for id in [1, 3, 5, 7] {
        bench.session.release(id);
    }
    assert!(bench.session.is_left());
    let expected = [1, 3, 5].map(|id| rst(id, Status::CANCEL));
    assert_eq!(bench.frames(), expected);
}

#[test]
fn a_stream_that_was_answered_is_open_until_its_reset_is_read() {
    let mut client = Session::new(Role::Client, LIMITS);
    let mut deflater = Deflater::default();
    // Whoever forwards a port that nobody listens on does both at once.
    let answered = client.open(&[("streamType", "data")]).unwrap();
    let refused = client.open(&[("streamType", "data")]).unwrap();
    let mut octets = BytesMut::new();
    let block = deflater.deflate(&Headers::block(&[]));
    put_syn_reply(&mut octets, answered, &block);
    put_rst_stream(&mut octets, answered, Status::CANCEL);
    put_rst_stream(&mut octets, refused, Status::REFUSED_STREAM);
    client.receive(&mut octets).unwrap();
    let reset = |stream, status| Reset { stream, status };
    assert_eq!(client.answered(answered), Ok(true));
    assert_eq!(client.read(answered), Err(reset(answered, Status::CANCEL)));
    let refusal = reset(refused, Status::REFUSED_STREAM);
    assert_eq!(client.answered(refused), Err(refusal));
}

#[test]
fn a_server_speaks_second() {
    let mut bench = Bench::new();
    assert_eq!(bench.frames(), []);
    assert!(!bench.session.wants_output());
    // half a frame is not enough
    let heard = bench.hear(|out| out.extend_from_slice(b"\x80\x03\0\x06\0\0\0\x04\0\0"));
    assert_eq!((heard, bench.frames()), (Ok(()), vec![]));
}

#[test]
fn a_peer_without_windows_gets_everything() {
    let mut bench = Bench::with_stream();
    for _ in 0..10 {
        bench.session.write(1, vec![0; 200_000].into()).unwrap();
    }
    bench.session.finish(1);
    assert_eq!(bench.data_out(), (2_000_000, true));
    assert_eq!(bench.session.finished(1), Ok(true));
}

#[test]
fn a_peer_with_windows_gets_what_it_allows() {
    let mut bench = Bench::with_stream();
    let settings = |window| Settings {
        window,
        streams: None,
    };
    let set = |bench: &mut Bench, window| {
        let heard = bench.hear(|out| put_settings(out, settings(window)));
        assert_eq!(heard, Ok(()));
    };
    let allow = |bench: &mut Bench, stream, delta| {
        let heard = bench.hear(|out| put_window_update(out, stream, delta));
        assert_eq!(heard, Ok(()));
    };
    set(&mut bench, None);
    bench.session.write(1, vec![0; 400_000].into()).unwrap();
    bench.session.finish(1);
    assert_eq!(bench.data_out(), (65_536, false));
    allow(&mut bench, 1, 1000);
    assert_eq!(bench.data_out(), (1000, false));
    // a smaller window makes what is left negative
    set(&mut bench, Some(60_000));
    assert_eq!(bench.data_out(), (0, false));
    allow(&mut bench, 1, 5536);
    assert_eq!(bench.data_out(), (0, false));
    set(&mut bench, Some(60_001));
    assert_eq!(bench.data_out(), (1, false));
    // the connection's window counts from the start, once the peer shows that it has one
    allow(&mut bench, 1, 300_000);
    allow(&mut bench, 0, 1001);
    assert_eq!(bench.data_out(), (0, false));
    allow(&mut bench, 0, 200_000);
    assert_eq!(bench.data_out(), (200_000, false));
    allow(&mut bench, 0, 1_000_000);
    allow(&mut bench, 1, 1_000_000);
    assert_eq!(bench.data_out(), (400_000 - 266_537, true));
}

#[test]
fn windows_larger_than_31_bits() {
    let mut bench = Bench::with_stream();
    let heard = bench.hear(|out| put_window_update(out, 1, MAXIMUM_31_BITS));
    assert_eq!(heard, Ok(()));
    assert_eq!(bench.frames(), [rst(1, Status::FLOW_CONTROL_ERROR)]);
    let heard = bench.hear(|out| put_window_update(out, 99, MAXIMUM_31_BITS));
    assert_eq!((heard, bench.frames()), (Ok(()), vec![]));
    let heard = bench.hear(|out| put_window_update(out, 0, MAXIMUM_31_BITS));
    let problem = "a SPDY WINDOW_UPDATE frame makes the connection's window larger than 2^31 - 1";
    assert_eq!(heard, Err(problem.to_owned()));
    assert_eq!(bench.frames(), [Frame::GoAway { last: 1, status: 1 }]);
}

#[test]
fn a_peer_that_ignores_windows_waits_in_the_connection() {
    let mut bench = Bench::with_stream();
    let mut sent = 0;
    while bench.session.wants_input() {
        bench.data(1, &[1; 1000], false);
        sent += 1000;
    }
    assert_eq!(bench.session.buffered(), sent / 1000 * (1000 + CHUNK_COST));
    assert!((180_000..200_000).contains(&sent), "{sent}");
    assert_eq!(bench.frames(), []);
    while bench.session.read(1) != Ok(Received::Nothing) {}
    assert!(bench.session.wants_input());
    assert_eq!(bench.session.buffered(), 0);
    let told: u32 = bench
        .frames()
        .iter()
        .map(|frame| match frame {
            Frame::WindowUpdate { stream: 1, delta } => *delta,
            Frame::WindowUpdate { stream: 0, delta } if *delta == 100_000 => 0,
            other => panic!("{other:?}"),
        })
        .sum();
    assert!((150_000..200_000).contains(&told), "{told}");
}

#[test]
fn chunks_of_one_octet_have_a_bound_too() {
    let mut bench = Bench::with_stream();
    let mut chunks = 0;
    while bench.session.wants_input() {
        bench.data(1, b"x", false);
        chunks += 1;
    }
    assert_eq!(chunks, 200_000_usize.div_ceil(1 + CHUNK_COST));
    bench.session.release(1);
    assert_eq!(bench.session.buffered(), 0);
    assert!(bench.session.wants_input());
}

#[test]
fn answers_that_are_not_read_have_a_bound() {
    let mut bench = Bench::with_stream();
    let mut pings = 0_u32;
    while bench.session.wants_input() {
        let heard = bench.hear(|out| put_ping(out, 2 * pings + 1));
        assert_eq!(heard, Ok(()));
        pings += 1;
    }
    assert_eq!(pings, (64_u32 << 10).div_ceil(12));
    assert_eq!(bench.frames().len(), pings as usize);
    // one of our own parity is an answer, and we did not ask
    let heard = bench.hear(|out| put_ping(out, 2));
    assert_eq!((heard, bench.frames()), (Ok(()), vec![]));
}

#[test]
fn streams_that_are_not_taken() {
    let upper_case = b"\0\0\0\x01\0\0\0\x01A\0\0\0\0";
    let mut bench = Bench::with_stream();
    assert_eq!(bench.open_raw(3, 0, upper_case), Ok(()));
    assert_eq!(bench.frames(), [rst(3, Status::PROTOCOL_ERROR)]);
    // the compression context goes on
    for id in [5, 7, 9, 11] {
        bench.open(id, 0, &[]);
    }
    let refused = bench.frames().pop();
    assert_eq!(refused, Some(rst(11, Status::REFUSED_STREAM)));
    let cases = [
        (11, "opens stream 11 after stream 11"),
        (1, "opens stream 1 after stream 11"),
        (12, "opens stream 12 after stream 11"),
    ];
    for (id, problem) in cases {
        let mut bench = Bench::new();
        bench.open(11, 0, &[]);
        let problem = format!("a SPDY SYN_STREAM frame {problem}");
        assert_eq!(bench.open_raw(id, 0, &[0; 4]), Err(problem));
        let last = bench.frames().pop();
        let expected = Frame::GoAway {
            last: 11,
            status: 1,
        };
        assert_eq!(last, Some(expected));
        let status = Status::PROTOCOL_ERROR;
        assert_eq!(bench.session.read(11), Err(Reset { stream: 11, status }));
    }
}

#[test]
fn streams_that_are_half_closed_from_the_start() {
    let mut bench = Bench::with_stream();
    bench.open(3, FLAG_FIN, &[]);
    assert!(matches!(
        bench.frames()[..],
        [Frame::SynReply { stream: 3, .. }]
    ));
    assert_eq!(bench.session.read(3), Ok(Received::End));
    bench.open(5, FLAG_UNIDIRECTIONAL, &[]);
    assert_eq!(bench.frames(), []);
    assert!(bench.session.room(5).is_err());
    bench.data(5, b"x", true);
    bench.session.release(5);
    assert_eq!(bench.frames(), []);
    assert_eq!(bench.session.streams.len(), 2);
}

#[test]
fn frames_of_streams_that_are_gone_say_nothing() {
    let mut bench = Bench::with_stream();
    bench.session.release(1);
    assert_eq!(bench.frames(), [rst(1, Status::CANCEL)]);
    assert!(bench.session.streams.is_empty());
    bench.data(1, &vec![0; 60_000], true);
    let reset = bench.hear(|out| put_rst_stream(out, 1, Status::CANCEL));
    assert_eq!((reset, bench.frames()), (Ok(()), vec![]));
    assert_eq!(bench.session.buffered(), 0);
    // but the connection's window is given back
    bench.data(77, &vec![0; 60_000], false);
    let update = Frame::WindowUpdate {
        stream: 0,
        delta: 120_000,
    };
    assert_eq!(bench.frames(), [update]);
}

#[test]
fn a_released_stream_that_was_finished_is_transmitted() {
    let mut bench = Bench::with_stream();
    bench.session.write(1, vec![0; 100_000].into()).unwrap();
    bench.session.finish(1);
    bench.session.release(1);
    bench.data(1, b"nobody reads this", false);
    assert_eq!(bench.data_out(), (100_000, true));
    assert_eq!(bench.session.streams.len(), 1);
    bench.data(1, b"", true);
    assert!(bench.session.streams.is_empty());
    assert_eq!(bench.session.buffered(), 0);
}

#[test]
fn go_away_waits_for_what_is_queued() {
    let mut bench = Bench::with_stream();
    let settings = Settings::default();
    let heard = bench.hear(|out| put_settings(out, settings));
    assert_eq!(heard, Ok(()));
    bench.session.write(1, vec![0; 70_000].into()).unwrap();
    bench.session.close();
    assert_eq!(bench.data_out(), (65_536, false));
    assert!(!bench.session.is_closed());
    assert!(bench.session.write(1, Bytes::from_static(b"late")).is_err());
    bench.open(3, 0, &[]);
    let heard = bench.hear(|out| put_window_update(out, 1, 1 << 20));
    assert_eq!(heard, Ok(()));
    let said = bench.frames();
    assert!(matches!(said[0], Frame::Data { ref data, .. } if data.len() == 70_000 - 65_536));
    assert_eq!(said[1..], [Frame::GoAway { last: 1, status: 0 }]);
    assert!(bench.session.is_closed() && !bench.session.wants_output());
    // nothing that comes now is looked at
    assert_eq!(
        bench.hear(|out| out.extend_from_slice(b"\x80\xff\0\0\0\0\0\0")),
        Ok(())
    );
}

#[test]
fn streams_take_turns() {
    let mut bench = Bench::with_stream();
    bench.open(3, 0, &[]);
    bench.frames();
    for id in [1, 3] {
        bench.session.write(id, vec![0; 90_000].into()).unwrap();
    }
    let turns: Vec<_> = bench
        .frames()
        .iter()
        .map(|frame| match frame {
            Frame::Data { stream, .. } => *stream,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(turns, [1, 3, 1, 3]);
}
