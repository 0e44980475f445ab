//! Two sessions back to back: whatever the windows, the pieces and the order of things, what is
//! written to a stream is what is read from it.

use proptest::prelude::*;

use super::super::*;

/// One thing that happens. Numbers choose a stream, or say how much.
#[derive(Clone, Copy, Debug)]
enum Step {
    Open,
    Write {
        server: bool,
        stream: u8,
        octets: u16,
    },
    Finish {
        server: bool,
        stream: u8,
    },
    Read {
        server: bool,
        stream: u8,
    },
    /// Moves this many octets to an end, if it wants any.
    Carry {
        server: bool,
        octets: u16,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let write = (any::<bool>(), any::<u8>(), any::<u16>());
    let octets = prop_oneof![1..40_u16, any::<u16>()];
    prop_oneof![
        1 => Just(Step::Open),
        4 => write.prop_map(|(server, stream, octets)| Step::Write { server, stream, octets }),
        1 => any::<(bool, u8)>().prop_map(|(server, stream)| Step::Finish { server, stream }),
        4 => any::<(bool, u8)>().prop_map(|(server, stream)| Step::Read { server, stream }),
        6 => (any::<bool>(), octets).prop_map(|(server, octets)| Step::Carry { server, octets }),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    (1_u32..200_000, 1_u32..400_000).prop_map(|(window, buffer)| Limits {
        streams: 8,
        window,
        buffer,
        ..Limits::default()
    })
}

/// One end, with what its streams were given to write and what they read.
struct End {
    session: Session,
    limits: Limits,
    /// Octets on their way to it.
    wire: BytesMut,
    input: BytesMut,
    /// Streams that it may use, and how many octets it wrote to and read from each.
    streams: Vec<(u32, usize, usize)>,
    ended: Vec<u32>,
    unread_peak: usize,
}

impl End {
    fn new(role: Role, limits: Limits) -> Self {
        Self {
            session: Session::new(role, limits),
            limits,
            wire: BytesMut::new(),
            input: BytesMut::new(),
            streams: Vec::new(),
            ended: Vec::new(),
            unread_peak: 0,
        }
    }

    /// The n-th octet that is written to a stream: neither order nor place can be wrong unnoticed.
    fn octet(stream: u32, place: usize) -> u8 {
        (place / 251 + place + stream as usize).to_le_bytes()[0]
    }

    fn write(&mut self, choice: u8, octets: u16) {
        let Some(index) = usize::from(choice).checked_rem(self.streams.len()) else {
            return;
        };
        let (id, written, _) = &mut self.streams[index];
        let Ok(room) = self.session.room(*id) else {
            return;
        };
        let length = room.min(octets.into());
        let data: Vec<u8> = (*written..*written + length)
            .map(|place| Self::octet(*id, place))
            .collect();
        *written += length;
        self.session.write(*id, data.into()).unwrap();
    }

    fn finish(&mut self, choice: u8) {
        if let Some(index) = usize::from(choice).checked_rem(self.streams.len()) {
            self.session.finish(self.streams[index].0);
        }
    }

    /// Reads one chunk; whether there was one.
    fn read(&mut self, choice: u8) -> bool {
        let Some(index) = usize::from(choice).checked_rem(self.streams.len()) else {
            return false;
        };
        let (id, _, read) = &mut self.streams[index];
        match self.session.read(*id).unwrap() {
            Received::Data(chunk) => {
                assert!(!self.ended.contains(id), "octets after the end");
                for octet in &chunk {
                    assert_eq!(*octet, Self::octet(*id, *read), "stream {id} at {read}");
                    *read += 1;
                }
                true
            }
            Received::End => {
                if !self.ended.contains(id) {
                    self.ended.push(*id);
                }
                false
            }
            Received::Nothing => false,
        }
    }

    /// Takes octets of its wire; whether there were any that it wants.
    fn hear(&mut self, octets: usize) -> bool {
        if self.wire.is_empty() || !self.session.wants_input() {
            return false;
        }
        let heard = self.wire.split_to(octets.clamp(1, self.wire.len()));
        self.input.extend_from_slice(&heard);
        self.session.receive(&mut self.input).unwrap();
        while let Some(event) = self.session.event() {
            if let Event::Opened(id, _) = event {
                self.streams.push((id, 0, 0));
            }
        }
        self.unread_peak = self.unread_peak.max(self.session.buffered());
        true
    }

    fn speak(&mut self, to: &mut Self, limit: usize) {
        let mut batch = Batch::default();
        self.session.transmit(&mut batch, limit);
        to.wire.extend_from_slice(&batch.concatenate());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn octets_keep_their_order_and_all_arrive(
        client_limits in limits(),
        server_limits in limits(),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut client = End::new(Role::Client, client_limits);
        let mut server = End::new(Role::Server, server_limits);
        for step in steps {
            match step {
                // more than eight are refused, which is another test
                Step::Open if client.streams.len() == 8 => {}
                Step::Open => {
                    let id = client.session.open(&[("streamType", "data")]).unwrap();
                    client.streams.push((id, 0, 0));
                }
                Step::Write { server: true, stream, octets } => server.write(stream, octets),
                Step::Write { server: false, stream, octets } => client.write(stream, octets),
                Step::Finish { server: true, stream } => server.finish(stream),
                Step::Finish { server: false, stream } => client.finish(stream),
                Step::Read { server: true, stream } => { server.read(stream); }
                Step::Read { server: false, stream } => { client.read(stream); }
                Step::Carry { server: true, octets } => {
                    client.speak(&mut server, octets.into());
                    server.hear(octets.into());
                }
                Step::Carry { server: false, octets } => {
                    server.speak(&mut client, octets.into());
                    client.hear(octets.into());
                }
            }
        }
        settle(&mut client, &mut server);
        check(&client, &server);
        check(&server, &client);
        for end in [&client, &server] {
            prop_assert_eq!(end.session.buffered(), 0);
            prop_assert!(!end.session.wants_output());
            // one piece may come on top of a full buffer
            let bound = end.limits.buffer as usize + (64 << 10) * (1 + CHUNK_COST);
            prop_assert!(end.unread_peak <= bound, "{} of {bound}", end.unread_peak);
        }
    }
}

/// Finishes every stream, and carries and reads until nothing moves.
fn settle(client: &mut End, server: &mut End) {
    for _ in 0..1_000_000 {
        let mut moved = false;
        client.speak(server, 100_000);
        server.speak(client, 100_000);
        for end in [&mut *client, &mut *server] {
            moved |= end.hear(64 << 10);
            for choice in 0..u8::try_from(end.streams.len()).unwrap() {
                end.finish(choice);
                while end.read(choice) {
                    moved = true;
                }
            }
        }
        if !moved && !client.session.wants_output() && !server.session.wants_output() {
            return;
        }
    }
    panic!("the two never come to rest");
}

/// What one end read is what the other wrote, to its end.
fn check(reader: &End, writer: &End) {
    assert_eq!(reader.streams.len(), writer.streams.len());
    for ((id, _, read), (same, written, _)) in reader.streams.iter().zip(&writer.streams) {
        assert_eq!((id, read), (same, written));
        assert!(reader.ended.contains(id), "stream {id} has no end");
    }
}
