//! The supervisor's state and its one loop.

use crate::container::Container;
use crate::exec::{Cause, Exec};
use crate::pod::Pod;
use crate::poll::{Poll, Source};
use crate::runtime::External;
use insula_sys::fork::SingleThread;
use insula_sys::{Result, fork, seqpacket};
use insula_wire::channel::{Packet, RequestReader};
use insula_wire::message::{Answer, Event, Failure, FailureKind, FromSupervisor, Reply};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Everything one supervisor knows.
#[derive(Debug)]
pub struct Supervisor {
    /// That this process has one thread.
    pub proof: SingleThread,
    /// What is waited for.
    pub poll: Poll,
    /// The pod, once it was made.
    pub pod: Option<Pod>,
    /// All containers that were not forgotten.
    pub containers: BTreeMap<String, Container>,
    /// Execs that have not ended.
    pub execs: BTreeMap<u64, Exec>,
    /// Space for reading and formatting output, given back when idle.
    pub buffers: Buffers,
    /// The number of the next copy of an output.
    pub next_copy: u64,
    /// Orphans become children of this process.
    pub subreaper: bool,
    /// When to look for orphans again.
    orphans: Option<Duration>,
    listener: OwnedFd,
    daemon: Option<Daemon>,
    ending: bool,
}

/// A connection of the daemon's.
#[derive(Debug)]
struct Daemon {
    socket: OwnedFd,
    reader: RequestReader,
}

/// Space for output on its way to the log.
#[derive(Debug, Default)]
pub struct Buffers {
    /// What was read.
    pub input: Vec<u8>,
    /// What will be written.
    pub output: Vec<u8>,
}

/// A daemon that does not read for this long is taken for dead; it will connect
/// again and ask for the state.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// Buffers are given back after this much quiet.
const IDLE: Duration = Duration::from_secs(1);

// === impl Supervisor ===

impl Supervisor {
    /// Starts with nothing but the socket the daemon connects to.
    pub fn new(proof: SingleThread, listener: OwnedFd) -> Result<Self> {
        seqpacket::set_nonblocking(&listener, true)?;
        let mut poll = Poll::new()?;
        poll.add(Source::Listener, &listener)?;
        Ok(Self {
            proof,
            poll,
            pod: None,
            containers: BTreeMap::new(),
            execs: BTreeMap::new(),
            buffers: Buffers::default(),
            next_copy: 0,
            subreaper: false,
            orphans: None,
            listener,
            daemon: None,
            ending: false,
        })
    }

    /// Serves until the daemon asks to end, or is gone before there is a pod.
    pub fn run(mut self) -> Result<()> {
        while !self.ending {
            let ready = self.poll.wait(self.timeout());
            if ready.is_empty() {
                self.buffers = Buffers::default();
            }
            for source in ready {
                self.handle(&source)?;
            }
            self.keep_deadlines();
            self.orphans = self.reap_orphans();
        }
        if let Some(reaper) = self.pod.and_then(|pod| pod.reaper) {
            fork::send_signal(reaper.pidfd.as_fd(), 9)?;
            fork::wait(reaper.pidfd.as_fd(), fork::PATIENCE)?;
        }
        Ok(())
    }

    fn handle(&mut self, source: &Source) -> Result<()> {
        match source {
            Source::Listener => self.accept(),
            Source::Daemon => {
                self.receive();
                Ok(())
            }
            _ => {
                self.process_event(source);
                Ok(())
            }
        }
    }

    /// Takes a connection; a newer one replaces an older one, whose daemon must
    /// be gone.
    fn accept(&mut self) -> Result<()> {
        while let Some(socket) = seqpacket::accept(self.listener.as_fd())? {
            let own = rustix::process::geteuid().as_raw();
            let peer = seqpacket::peer_uid(socket.as_fd())?;
            if peer != 0 && peer != own {
                continue;
            }
            seqpacket::set_nonblocking(&socket, false)?;
            rustix::net::sockopt::set_socket_timeout(
                &socket,
                rustix::net::sockopt::Timeout::Send,
                Some(SEND_TIMEOUT),
            )
            .map_err(|errno| insula_sys::Error::new("setsockopt(SO_SNDTIMEO)", errno))?;
            self.hang_up();
            self.poll.add(Source::Daemon, &socket)?;
            self.daemon = Some(Daemon {
                socket,
                reader: RequestReader::default(),
            });
        }
        Ok(())
    }

    fn hang_up(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            self.poll.remove(&Source::Daemon, &daemon.socket);
            self.abandon_all_outputs();
        }
    }

    fn receive(&mut self) {
        let Some(daemon) = &mut self.daemon else {
            return;
        };
        if !crate::poll::has_input(&daemon.socket) {
            // The event was that of a connection that was replaced since.
            return;
        }
        match daemon.reader.receive(daemon.socket.as_fd()) {
            Ok(None) => {}
            Ok(Some((envelope, descriptors))) => {
                self.request(envelope.id, envelope.request, descriptors);
            }
            Err(insula_wire::channel::ChannelError::Malformed(message)) => {
                // A request of a newer daemon: its number may still be known.
                eprintln!("a message was not understood: {message}");
                self.hang_up();
            }
            Err(_) => {
                self.hang_up();
                // Without a pod there is nothing to live on for.
                self.ending |= self.pod.is_none();
            }
        }
    }

    /// Sends a reply.
    pub fn reply(&mut self, id: u64, reply: Reply, descriptors: &[BorrowedFd<'_>]) {
        send(
            self.daemon.as_ref(),
            &FromSupervisor::Reply { id, reply },
            descriptors,
        );
    }

    /// Replies that a request was done.
    pub fn done(&mut self, id: u64) {
        self.reply(id, Ok(Answer::Done), &[]);
    }

    /// Replies to the request that waited, if one did.
    pub fn reply_pending(&mut self, pending: Option<u64>, reply: Reply) {
        if let Some(id) = pending {
            self.reply(id, reply, &[]);
        }
    }

    /// Tells the daemon of something, if it is there. What it misses it learns
    /// from the state it gets when it connects.
    pub fn tell(&mut self, event: Event) {
        send(self.daemon.as_ref(), &FromSupervisor::Event(event), &[]);
    }

    /// Ends the loop after this turn.
    pub fn end(&mut self) {
        self.ending = true;
    }

    fn timeout(&self) -> Option<Duration> {
        let drains = self
            .containers
            .values()
            .filter_map(Container::drain_deadline);
        let execs = self.execs.values().filter_map(Exec::due);
        let externals = self
            .containers
            .values()
            .filter_map(|it| it.external.as_ref());
        let calls = externals.filter_map(External::due);
        let next = drains.chain(execs).chain(calls).min();
        let until = next.map(|next| next.saturating_duration_since(Instant::now()));
        let until = until.into_iter().chain(self.orphans).min();
        let idle = (self.buffers.input.capacity() > 0).then_some(IDLE);
        match (until, idle) {
            (Some(until), Some(idle)) => Some(until.min(idle)),
            (until, idle) => until.or(idle),
        }
    }

    fn keep_deadlines(&mut self) {
        let now = Instant::now();
        let due = |exec: &Exec| exec.due().is_some_and(|due| due <= now);
        let late = self.execs.iter().filter(|(_, exec)| due(exec));
        let late: Vec<u64> = late.map(|(id, _)| *id).collect();
        for id in late {
            self.kill_exec(id, Cause::Deadline);
        }
        let externals = self.containers.values_mut();
        for external in externals.filter_map(|it| it.external.as_mut()) {
            if external.due().is_some_and(|due| due <= now) {
                external.expire();
            }
        }
        let late: Vec<String> = self
            .containers
            .values()
            .filter(|container| {
                container
                    .drain_deadline()
                    .is_some_and(|deadline| deadline <= now)
            })
            .map(|container| container.id.clone())
            .collect();
        for id in late {
            self.settle(&id);
        }
    }
}

fn send(daemon: Option<&Daemon>, message: &FromSupervisor, descriptors: &[BorrowedFd<'_>]) {
    let Some(daemon) = daemon else {
        return;
    };
    let sent = Packet::from_supervisor(message, descriptors)
        .and_then(|packet| packet.send(daemon.socket.as_fd()));
    if let Err(error) = sent {
        // The read side of the loop notices a closed connection; a message that
        // cannot be sent is worth a line of its own.
        eprintln!("a message was not sent: {error}");
    }
}

/// A request that cannot be met in the state things are in.
pub fn refuse(kind: FailureKind, step: &str, message: impl Into<String>) -> Failure {
    Failure {
        kind,
        step: step.to_owned(),
        message: message.into(),
    }
}
