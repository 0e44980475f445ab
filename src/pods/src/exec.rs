//! Running a command in a container to its end.

use crate::container::{Container, external};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::link::{ExecEnd, Link, Refused, unexpected};
use insula_wire::OsText;
use insula_wire::message::{self, Answer, ExecRequest, Failure, FailureKind, Request};
use insula_wire::plan::Process;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;
use tokio::sync::oneshot;

/// What came of [`Pods::exec_sync`](crate::Pods::exec_sync).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecOutput {
    /// Standard output, at most [`OUTPUT_LIMIT`] bytes.
    pub stdout: Vec<u8>,
    /// Standard error, at most [`OUTPUT_LIMIT`] bytes.
    pub stderr: Vec<u8>,
    /// Exit status, or 128 + signal number.
    pub code: i32,
}

/// Most bytes kept of each stream (16 MiB, as the CRI's other servers do); the
/// rest is read and dropped, so that the command does not block.
pub const OUTPUT_LIMIT: usize = 16 << 20;

/// What a command is connected to, see [`Pods::exec`](crate::Pods::exec).
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the choices of a client (CRI `ExecRequest`), each its own"
)]
pub struct ExecStreams {
    /// The program and its arguments.
    pub command: Vec<OsText>,
    /// Its streams are a terminal of its own; of the fields below only `stdin`
    /// and `stdout` then count.
    pub terminal: bool,
    /// Somebody writes to its standard input; else that is `/dev/null`.
    pub stdin: bool,
    /// Somebody reads its standard output; else that is `/dev/null`.
    pub stdout: bool,
    /// Somebody reads its standard error; else that is `/dev/null`.
    pub stderr: bool,
}

/// A command whose program runs.
pub(crate) struct Started {
    /// As [`Answer::ExecStarted`] says.
    pub(crate) descriptors: Vec<OwnedFd>,
    pub(crate) end: oneshot::Receiver<ExecEnd>,
    /// Kills it, unless told otherwise.
    pub(crate) guard: Guard,
}

/// Starts a command. When the future is dropped, it is killed.
pub(crate) async fn start(
    env: &Env,
    container: &Container,
    link: &Arc<Link>,
    wanted: ExecStreams,
    timeout: Option<Duration>,
) -> Result<Started> {
    let begun = Instant::now();
    let stage = stage(container);
    let mut process = insula_isolators::exec_process(&container.plan, wanted.command)
        .map_err(|refusal| Error::InvalidArgument(refusal.to_string()))?;
    if wanted.terminal {
        name_terminal(&mut process)?;
    }
    let owner = process.user.uid;
    let json = serde_json::to_vec(&process).map_err(|error| Error::internal(&stage, error))?;
    let memfd = insula_sys::fd::sealed_memfd("process", &json)
        .map_err(|error| Error::internal(&stage, error))?;
    let told = external::process(&container.plan, &process, wanted.terminal)?;
    let brought: Vec<_> = std::iter::once(&memfd)
        .chain(&told)
        .map(|descriptor| descriptor.as_fd())
        .collect();
    let deadline = env.config.deadlines.supervisor;
    let (exec_id, end) = link.expect_exec();
    let guard = Guard {
        link: Arc::clone(link),
        exec_id,
        kill: true,
        forget: true,
        deadline,
    };
    let request = Request::Exec(ExecRequest {
        notify: container.plan.notify(),
        exec_id,
        container_id: container.id.to_string(),
        owner,
        timeout_ms: timeout.map_or(0, |timeout| {
            u64::try_from(timeout.as_millis())
                .unwrap_or(u64::MAX)
                .max(1)
        }),
        streams: match wanted.terminal {
            true => message::ExecStreams::Terminal,
            false => message::ExecStreams::Pipes {
                stdin: wanted.stdin,
                stdout: wanted.stdout,
                stderr: wanted.stderr,
            },
        },
    });
    match link.try_ask(&stage, request, &brought, deadline).await? {
        Ok((Answer::ExecStarted { .. }, descriptors)) => Ok(Started {
            descriptors,
            end,
            guard,
        }),
        Ok((other, _)) => Err(unexpected(&stage, &other)),
        Err(Refused::Failure(failure)) => {
            guard.disarm();
            Err(refused(container.id.as_str(), failure, begun.elapsed()))
        }
        Err(lost) => Err(lost.into_error(&stage)),
    }
}

/// Runs a command to its end. When the future is dropped, the command is
/// killed.
pub(crate) async fn run(
    env: &Env,
    container: &Container,
    link: &Arc<Link>,
    command: Vec<OsText>,
    timeout: Option<Duration>,
) -> Result<ExecOutput> {
    let begun = Instant::now();
    let stage = stage(container);
    let wanted = ExecStreams {
        command,
        terminal: false,
        stdin: false,
        stdout: true,
        stderr: true,
    };
    let started = start(env, container, link, wanted, timeout).await?;
    let Started {
        descriptors,
        mut end,
        guard,
    } = started;
    let mut pipes = descriptors.into_iter();
    let (Some(stdout), Some(stderr)) = (pipes.next(), pipes.next()) else {
        return Err(Error::internal(&stage, "the supervisor gave no pipes"));
    };
    let (mut stdout, mut stderr) = (Output::new(stdout)?, Output::new(stderr)?);
    let end = {
        let reading = async { tokio::join!(stdout.read(), stderr.read()) };
        tokio::pin!(reading);
        let mut done = false;
        let end = loop {
            tokio::select! {
                ended = &mut end => break ended,
                _ = &mut reading, if !done => done = true,
            }
        };
        // Children that outlive it may hold the pipes for ever.
        if !done {
            let _cut = tokio::time::timeout(env.config.deadlines.drain, reading).await;
        }
        end
    };
    guard.disarm();
    match end {
        Ok(ExecEnd {
            timed_out: true, ..
        }) => Err(Error::DeadlineExceeded {
            stage,
            after: begun.elapsed(),
        }),
        Ok(ExecEnd { code, .. }) => Ok(ExecOutput {
            stdout: stdout.kept,
            stderr: stderr.kept,
            code,
        }),
        Err(_) => Err(Error::internal(&stage, "the pod's supervisor went away")),
    }
}

fn stage(container: &Container) -> String {
    format!("run a command in container {}", container.id)
}

/// Programs that draw have to know on what, environ(7). A container without a
/// terminal of its own has not said.
fn name_terminal(process: &mut Process) -> Result<()> {
    let named = |entry: &OsText| entry.as_bytes().starts_with(b"TERM=");
    if !process.env.iter().any(named) {
        let text = OsText::try_from("TERM=xterm")
            .map_err(|error| Error::internal("name the terminal", error))?;
        process.env.push(text);
    }
    Ok(())
}

/// One stream of an exec.
struct Output {
    pipe: tokio::net::unix::pipe::Receiver,
    kept: Vec<u8>,
}

impl Output {
    fn new(pipe: OwnedFd) -> Result<Self> {
        let pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(pipe)
            .map_err(|error| Error::internal("read a command's output", error))?;
        Ok(Self {
            pipe,
            kept: Vec::new(),
        })
    }

    /// Reads to the end and keeps what fits.
    async fn read(&mut self) {
        let mut chunk = vec![0; 64 << 10];
        while let Ok(length @ 1..) = self.pipe.read(&mut chunk).await {
            let room = OUTPUT_LIMIT - self.kept.len();
            self.kept.extend_from_slice(&chunk[..length.min(room)]);
        }
    }
}

/// Kills an exec that nobody waits for any more.
pub(crate) struct Guard {
    pub(crate) link: Arc<Link>,
    pub(crate) exec_id: u64,
    kill: bool,
    forget: bool,
    deadline: Duration,
}

impl Guard {
    /// It has ended.
    pub(crate) fn disarm(mut self) {
        self.kill = false;
    }

    /// It goes on, and somebody else waits for its end.
    pub(crate) fn hand_over(mut self) {
        self.kill = false;
        self.forget = false;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.forget {
            self.link.forget_exec(self.exec_id);
        }
        if self.kill {
            let exec_id = self.exec_id;
            self.link.ask_later(
                "kill an exec that nobody waits for",
                Request::KillExec { exec_id },
                self.deadline,
            );
        }
    }
}

fn refused(id: &str, failure: Failure, after: Duration) -> Error {
    match failure.kind {
        FailureKind::NotFound => Error::no_container(id),
        FailureKind::WrongState => Error::FailedPrecondition(format!(
            "no command can be run in container {id}: {failure}"
        )),
        // Its message names the program and says all; people know these words.
        FailureKind::ProgramNotFound | FailureKind::ProgramNotExecutable => {
            Error::FailedPrecondition(format!("cannot run the command: {}", failure.message))
        }
        FailureKind::WorkingDirectory => {
            Error::FailedPrecondition(format!("cannot run the command: {failure}"))
        }
        FailureKind::TimedOut => Error::DeadlineExceeded {
            stage: format!("start a command in container {id}"),
            after,
        },
        FailureKind::Malformed | FailureKind::System => {
            Error::internal(format!("run a command in container {id}"), failure)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Failure, FailureKind, refused};

    #[test]
    fn why_a_command_does_not_run() {
        for (kind, words) in [
            (
                FailureKind::ProgramNotFound,
                "cannot run the command: exec: \"foo\": no",
            ),
            (
                FailureKind::ProgramNotExecutable,
                "cannot run the command: exec: \"foo\": no",
            ),
            (
                FailureKind::System,
                "run a command in container c: step: exec: \"foo\": no",
            ),
            (
                FailureKind::WrongState,
                "no command can be run in container c: step: exec: \"foo\": no",
            ),
            (
                FailureKind::WorkingDirectory,
                "cannot run the command: step: exec: \"foo\": no",
            ),
            (
                FailureKind::TimedOut,
                "start a command in container c was not done after 2.0 s",
            ),
        ] {
            let failure = Failure {
                kind,
                step: "step".to_owned(),
                message: "exec: \"foo\": no".to_owned(),
            };
            assert_eq!(
                refused("c", failure, Duration::from_secs(2)).to_string(),
                words
            );
        }
    }
}
