//! Streams between a client and a process: of a command that was started for it,
//! or of a container it is attached to.
//!
//! The descriptors are the client's ends themselves, so that what is written
//! passes through nobody. What must outlive this daemon has a duplicate in the
//! pod's supervisor: the write end of every standard input, and the master of
//! every terminal.

use crate::container::Container;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::exec::{self, ExecStreams, Started};
use crate::link::{ExecEnd, Lagged, Link, Refused, unexpected};
use insula_wire::message::{Answer, AttachRequest, FailureKind, Input, Request, StdinOf};
use rustix::termios::Winsize;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Which streams of a container a client wants, see
/// [`Pods::attach`](crate::Pods::attach). Whether they are a terminal is the
/// container's own choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachStreams {
    /// It writes to standard input.
    pub stdin: bool,
    /// It reads standard output.
    pub stdout: bool,
    /// It reads standard error; with a terminal there is none.
    pub stderr: bool,
}

/// Connected streams. All descriptors are non-blocking, and may be taken out and
/// closed at will.
///
/// Dropping it ends nothing but the streams. A command goes on: it reads the end
/// of its standard input, and what it still writes is read by its supervisor
/// and dropped. A container that asked for it (CRI `stdin_once`) reads the end
/// of its standard input if somebody was attached to that.
#[derive(Debug)]
pub struct Session {
    /// Write end of standard input, or a duplicate of the terminal's master;
    /// `None` if it was not wanted, or if the container has none.
    pub stdin: Option<OwnedFd>,
    /// Read end of standard output. For a command with a terminal a duplicate of
    /// its master, whose end is `EIO`.
    pub stdout: Option<OwnedFd>,
    /// Read end of standard error.
    pub stderr: Option<OwnedFd>,
    /// A duplicate of the terminal's master, for its size.
    terminal: Option<OwnedFd>,
    hold: Hold,
}

/// What is done when the session is dropped, and how its end is learned.
#[derive(Debug)]
enum Hold {
    Exec(ExecHold),
    Attach(AttachHold),
}

#[derive(Debug)]
struct ExecHold {
    link: Arc<Link>,
    exec_id: u64,
    deadline: Duration,
    terminal: bool,
    end: oneshot::Receiver<ExecEnd>,
    /// Its exit code, once known.
    code: Option<i32>,
}

#[derive(Debug)]
struct AttachHold {
    link: Arc<Link>,
    attach_id: u64,
    deadline: Duration,
    container: Arc<Container>,
    lagged: oneshot::Receiver<Lagged>,
    /// It lost its streams because it did not keep up.
    has_lagged: bool,
    /// Standard input ends with whoever is attached to it.
    closes_stdin: bool,
}

/// Starts a command and connects to it.
pub(crate) async fn exec(
    env: &Env,
    container: &Container,
    link: &Arc<Link>,
    wanted: ExecStreams,
) -> Result<Session> {
    let (terminal, stdin, stdout, stderr) =
        (wanted.terminal, wanted.stdin, wanted.stdout, wanted.stderr);
    let Started {
        descriptors,
        end,
        guard,
    } = exec::start(env, container, link, wanted, None).await?;
    let mut given = Given::new(container, descriptors);
    let mut session = Session {
        stdin: None,
        stdout: None,
        stderr: None,
        terminal: None,
        hold: Hold::Exec(ExecHold {
            link: Arc::clone(link),
            exec_id: guard.exec_id,
            deadline: env.config.deadlines.supervisor,
            terminal,
            end,
            code: None,
        }),
    };
    if terminal {
        let master = given.next()?;
        session.stdin = given.copy_if(stdin, &master)?;
        session.stdout = given.copy_if(stdout, &master)?;
        session.terminal = Some(master);
    } else {
        session.stdin = given.next_if(stdin)?;
        session.stdout = given.next_if(stdout)?;
        session.stderr = given.next_if(stderr)?;
    }
    // From here on it is the session that lets go of it.
    guard.hand_over();
    Ok(session)
}

/// Connects to a container.
pub(crate) async fn attach(
    env: &Env,
    container: &Arc<Container>,
    link: &Arc<Link>,
    wanted: AttachStreams,
) -> Result<Session> {
    let stage = format!("attach to container {}", container.id);
    let stdio = &container.plan.stdio;
    let stdin = wanted.stdin && stdio.stdin;
    let (attach_id, lagged) = link.expect_attach();
    let hold = AttachHold {
        link: Arc::clone(link),
        attach_id,
        deadline: env.config.deadlines.supervisor,
        container: Arc::clone(container),
        lagged,
        has_lagged: false,
        closes_stdin: stdin && stdio.stdin_once,
    };
    let request = Request::Attach(AttachRequest {
        attach_id,
        container_id: container.id.to_string(),
        stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
    });
    // Nobody is attached before the answer came, so no standard input is closed
    // if it does not come.
    let mut hold = hold.without_stdin();
    let (input, descriptors) = match link.try_ask(&stage, request, &[], hold.deadline).await? {
        Ok((Answer::Attached { input }, descriptors)) => (input, descriptors),
        Ok((other, _)) => return Err(unexpected(&stage, &other)),
        Err(Refused::Failure(failure)) => {
            return Err(match failure.kind {
                FailureKind::NotFound => Error::no_container(container.id.as_str()),
                FailureKind::WrongState => Error::FailedPrecondition(format!(
                    "nobody can be attached to container {}: {failure}",
                    container.id
                )),
                _ => Error::internal(&stage, failure),
            });
        }
        Err(lost) => return Err(lost.into_error(&stage)),
    };
    hold.closes_stdin = stdin && stdio.stdin_once;
    let mut given = Given::new(container, descriptors);
    let mut session = Session {
        stdin: None,
        stdout: None,
        stderr: None,
        terminal: None,
        hold: Hold::Attach(hold),
    };
    match input {
        Input::None => {}
        Input::Pipe => session.stdin = Some(given.next()?),
        Input::Terminal => {
            let master = given.next()?;
            session.stdin = given.copy_if(stdin, &master)?;
            session.terminal = Some(master);
        }
    }
    session.stdout = given.next_if(wanted.stdout)?;
    session.stderr = given.next_if(wanted.stderr && !stdio.terminal)?;
    Ok(session)
}

// === impl Session ===

impl Session {
    /// Sets the size of the terminal, whose foreground processes get a SIGWINCH
    /// (ioctl_tty(2)). Zero is ignored, as is all of it without a terminal.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let (Some(terminal), true) = (&self.terminal, columns > 0 && rows > 0) else {
            return Ok(());
        };
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(terminal, size).map_err(|errno| {
            Error::internal(
                "resize the terminal",
                format!("ioctl(TIOCSWINSZ, {columns}x{rows}) = {errno}"),
            )
        })
    }

    /// The client will write no more. Closes [`stdin`](Self::stdin) if that is
    /// still here, and the supervisor's end of it: a command then reads the end
    /// of its input. So does a container with `stdin_once`; that of another
    /// stays open for whoever is attached next. A terminal has no such end.
    pub async fn close_stdin(&mut self) -> Result<()> {
        self.stdin = None;
        match &mut self.hold {
            Hold::Exec(exec) => exec.close_stdin().await,
            Hold::Attach(attach) => attach.close_stdin().await,
        }
    }

    /// Waits for the end of the process and gives its exit code, 128 + signal
    /// number if a signal ended it. May be called again. For somebody who is
    /// attached it is also the end, with
    /// [`Error::ResourceExhausted`], when they did not read fast enough: their
    /// streams have been closed then.
    ///
    /// What was written before the end is still in the pipes; what children
    /// hold open may never end.
    pub async fn end(&mut self) -> Result<i32> {
        match &mut self.hold {
            Hold::Exec(exec) => exec.end().await,
            Hold::Attach(attach) => attach.end().await,
        }
    }
}

// === impl ExecHold ===

impl ExecHold {
    async fn close_stdin(&self) -> Result<()> {
        if self.terminal || self.code.is_some() {
            return Ok(());
        }
        let request = Request::CloseStdin(StdinOf::Exec {
            exec_id: self.exec_id,
        });
        let stage = "close a command's standard input";
        self.link
            .ask(stage, request, &[], self.deadline)
            .await
            .map(drop)
    }

    async fn end(&mut self) -> Result<i32> {
        if let Some(code) = self.code {
            return Ok(code);
        }
        let end = (&mut self.end)
            .await
            .map_err(|_| Error::internal("wait for a command", "the pod's supervisor went away"))?;
        self.code = Some(end.code);
        Ok(end.code)
    }
}

impl Drop for ExecHold {
    fn drop(&mut self) {
        self.link.forget_exec(self.exec_id);
        // It may have ended without anybody having asked.
        if self.code.is_none() && self.end.try_recv().is_err() {
            let exec_id = self.exec_id;
            self.link.ask_later(
                "let go of a command's streams",
                Request::AbandonExec { exec_id },
                self.deadline,
            );
        }
    }
}

// === impl AttachHold ===

impl AttachHold {
    fn without_stdin(mut self) -> Self {
        self.closes_stdin = false;
        self
    }

    fn stdin(&self) -> Request {
        Request::CloseStdin(StdinOf::Container {
            container_id: self.container.id.to_string(),
        })
    }

    async fn close_stdin(&mut self) -> Result<()> {
        if !self.closes_stdin {
            return Ok(());
        }
        let stage = "close a container's standard input";
        self.link
            .ask(stage, self.stdin(), &[], self.deadline)
            .await?;
        self.closes_stdin = false;
        Ok(())
    }

    async fn end(&mut self) -> Result<i32> {
        if !self.has_lagged {
            tokio::select! {
                biased;
                () = self.container.wait_for_end() => {}
                // Closed without a word is a connection that was lost; the
                // container may go on.
                lagged = &mut self.lagged => match lagged {
                    Ok(Lagged) => self.has_lagged = true,
                    Err(_) => return Err(Error::internal(
                        format!("stay attached to container {}", self.container.id),
                        "the connection to the pod's supervisor was lost",
                    )),
                },
            }
        }
        if self.has_lagged {
            return Err(Error::ResourceExhausted(format!(
                "the client did not read the output of container {} fast enough and was detached; the container's log has it all",
                self.container.id
            )));
        }
        let end = self.container.ended.borrow().clone();
        end.map(|end| end.code).ok_or_else(|| {
            Error::FailedPrecondition(format!("container {} was removed", self.container.id))
        })
    }
}

impl Drop for AttachHold {
    fn drop(&mut self) {
        self.link.forget_attach(self.attach_id);
        if self.closes_stdin && !self.container.has_ended() {
            self.link.ask_later(
                "close a container's standard input",
                self.stdin(),
                self.deadline,
            );
        }
    }
}

/// The descriptors of an answer, one after the other.
struct Given<'a> {
    container: &'a Container,
    descriptors: std::vec::IntoIter<OwnedFd>,
}

// === impl Given ===

impl<'a> Given<'a> {
    fn new(container: &'a Container, descriptors: Vec<OwnedFd>) -> Self {
        Self {
            container,
            descriptors: descriptors.into_iter(),
        }
    }

    fn failed(&self, message: impl ToString) -> Error {
        let stage = format!("connect to the streams of container {}", self.container.id);
        Error::internal(stage, message)
    }

    fn next(&mut self) -> Result<OwnedFd> {
        self.descriptors
            .next()
            .ok_or_else(|| self.failed("the supervisor gave too few descriptors"))
    }

    fn next_if(&mut self, wanted: bool) -> Result<Option<OwnedFd>> {
        match wanted {
            true => self.next().map(Some),
            false => Ok(None),
        }
    }

    fn copy_if(&self, wanted: bool, master: &OwnedFd) -> Result<Option<OwnedFd>> {
        match wanted {
            true => insula_sys::fd::duplicate(master)
                .map(Some)
                .map_err(|error| self.failed(error)),
            false => Ok(None),
        }
    }
}
