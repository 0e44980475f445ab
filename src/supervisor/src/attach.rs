//! Copies of a container's output for those who are attached to it.
//!
//! A copy is a pipe of bounded size whose write end never waits. Who does not
//! keep up finds it closed: neither the log nor the container may wait for a
//! client. While nobody is attached there is no cost.

use crate::container::State;
use crate::launch::report::step;
use crate::poll::{Output, Source};
use crate::streams;
use crate::supervisor::{Supervisor, refuse};
use insula_sys::fd;
use insula_wire::message::{Answer, AttachRequest, Event, Failure, FailureKind, Input, StdinOf};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

/// Who gets copies of a container's output.
#[derive(Debug, Default)]
pub struct Copies {
    all: Vec<Copy>,
    /// What has to be let go of, and why.
    lost: Vec<(Copy, Loss)>,
}

/// One stream that one client gets.
#[derive(Debug)]
struct Copy {
    /// Unique in this supervisor.
    number: u64,
    attach_id: u64,
    which: Output,
    /// The write end of its pipe.
    pipe: OwnedFd,
}

/// Why there is no copy any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// The stream ended.
    Ended,
    /// The client closed its end.
    Gone,
    /// The client did not keep up.
    Lagged,
}

// === impl Copies ===

impl Copies {
    /// Writes what a container has written. Never waits.
    pub fn write(&mut self, which: Output, bytes: &[u8]) {
        self.let_go(|copy| match copy.which == which {
            true => copy.write(bytes).err(),
            false => None,
        });
        // Who has lost one stream for being slow has lost the other as well:
        // half of a conversation is worse than none.
        let lagged: Vec<u64> = self
            .lost
            .iter()
            .filter(|(_, loss)| *loss == Loss::Lagged)
            .map(|(copy, _)| copy.attach_id)
            .collect();
        if !lagged.is_empty() {
            self.let_go(|copy| lagged.contains(&copy.attach_id).then_some(Loss::Lagged));
        }
    }

    /// A stream has ended: so do its copies, with all that was written to them.
    pub fn end(&mut self, which: Output) {
        self.let_go(|copy| (copy.which == which).then_some(Loss::Ended));
    }

    fn let_go(&mut self, why: impl FnMut(&Copy) -> Option<Loss>) {
        let mut why = why;
        let mut index = 0;
        while let Some(copy) = self.all.get(index) {
            match why(copy) {
                Some(loss) => {
                    let copy = self.all.swap_remove(index);
                    self.lost.push((copy, loss));
                }
                None => index += 1,
            }
        }
    }
}

// === impl Copy ===

impl Copy {
    fn write(&self, mut bytes: &[u8]) -> Result<(), Loss> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.pipe, bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(Loss::Lagged),
                Err(_) => return Err(Loss::Gone),
            }
        }
        Ok(())
    }
}

// === impl Supervisor ===

impl Supervisor {
    /// Connects a client to a container's streams.
    pub fn attach(&mut self, id: u64, request: &AttachRequest) -> Result<(), Failure> {
        let name = "attach";
        let container = self.container(&request.container_id)?;
        if !matches!(container.state, State::Running) {
            let message = format!("the container is {}, not running", container.state.name());
            return Err(refuse(FailureKind::WrongState, name, message));
        }
        let input = match &container.stdin {
            Some(_) if container.terminal => Input::Terminal,
            Some(_) if request.stdin => Input::Pipe,
            _ => Input::None,
        };
        let mut given = Vec::new();
        if let (Some(stdin), Input::Terminal | Input::Pipe) = (&container.stdin, input) {
            given.push(step(name, fd::duplicate(stdin))?);
        }
        let stderr = request.stderr && !container.terminal;
        let wanted = [(Output::Stdout, request.stdout), (Output::Stderr, stderr)];
        let mut copies = Vec::new();
        for (which, _) in wanted.into_iter().filter(|(_, wanted)| *wanted) {
            let (reader, pipe) = step(name, streams::copy_pipe())?;
            given.push(reader);
            copies.push((which, pipe));
        }
        for (which, pipe) in copies {
            let watched = self.add_copy(&request.container_id, request.attach_id, which, pipe);
            if let Err(failure) = watched {
                self.drop_copies_of(&request.container_id, request.attach_id);
                return Err(failure);
            }
        }
        let descriptors: Vec<_> = given.iter().map(AsFd::as_fd).collect();
        self.reply(id, Ok(Answer::Attached { input }), &descriptors);
        Ok(())
    }

    fn add_copy(
        &mut self,
        container_id: &str,
        attach_id: u64,
        which: Output,
        pipe: OwnedFd,
    ) -> Result<(), Failure> {
        let number = self.next_copy;
        let container = self.container(container_id)?;
        if !container.outputs.iter().any(|output| output.which == which) {
            // The container has closed it: the copy ends at once.
            return Ok(());
        }
        container.copies.all.push(Copy {
            number,
            attach_id,
            which,
            pipe,
        });
        self.next_copy += 1;
        let added = self
            .containers
            .get(container_id)
            .and_then(|container| container.copies.all.last())
            .map_or(Ok(()), |copy| {
                self.poll.add_writer(Source::Copy(number), &copy.pipe)
            });
        step("attach", added)
    }

    fn drop_copies_of(&mut self, container_id: &str, attach_id: u64) {
        if let Some(container) = self.containers.get_mut(container_id) {
            container
                .copies
                .let_go(|copy| (copy.attach_id == attach_id).then_some(Loss::Gone));
        }
        self.drop_lost_copies(container_id);
    }

    /// Whoever was to read a copy has closed it.
    pub fn copy_abandoned(&mut self, number: u64) {
        let Some((id, copies)) = self.containers.iter_mut().find_map(|(id, container)| {
            let copies = &mut container.copies;
            let here = copies.all.iter().any(|copy| copy.number == number);
            here.then(|| (id.clone(), copies))
        }) else {
            return;
        };
        copies.let_go(|copy| (copy.number == number).then_some(Loss::Gone));
        self.drop_lost_copies(&id);
    }

    /// Closes the copies that were lost, and tells those who did not keep up.
    pub fn drop_lost_copies(&mut self, container_id: &str) {
        let Some(container) = self.containers.get_mut(container_id) else {
            return;
        };
        let mut told = Vec::new();
        for (copy, loss) in std::mem::take(&mut container.copies.lost) {
            self.poll.remove(&Source::Copy(copy.number), &copy.pipe);
            if loss == Loss::Lagged && !told.contains(&copy.attach_id) {
                told.push(copy.attach_id);
            }
        }
        for attach_id in told {
            self.tell(Event::AttachLagged { attach_id });
        }
    }

    /// Closes our end of a standard input.
    pub fn close_stdin(&mut self, id: u64, stdin: &StdinOf) -> Result<(), Failure> {
        match stdin {
            StdinOf::Container { container_id } => {
                let container = self.container(container_id)?;
                if !container.terminal {
                    container.stdin = None;
                }
            }
            StdinOf::Exec { exec_id } => {
                if let Some(exec) = self.execs.get_mut(exec_id) {
                    exec.stdin = None;
                }
            }
        }
        self.done(id);
        Ok(())
    }

    /// Nobody uses an exec's streams any more.
    pub fn abandon_exec(&mut self, id: u64, exec_id: u64) {
        if let Some(exec) = self.execs.get_mut(&exec_id) {
            exec.stdin = None;
        }
        self.abandon_outputs(exec_id);
        self.done(id);
    }
}
