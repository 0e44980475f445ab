//! Running a command in a container to its end.

use crate::container::Container;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::link::{ExecEnd, Link, Refused, unexpected};
use insula_wire::OsText;
use insula_wire::message::{Answer, ExecRequest, Failure, FailureKind, Request};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;

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
    let stage = format!("run a command in container {}", container.id);
    let process = insula_isolators::exec_process(&container.plan, command)
        .map_err(|refusal| Error::InvalidArgument(refusal.to_string()))?;
    let owner = process.user.uid;
    let json = serde_json::to_vec(&process).map_err(|error| Error::internal(&stage, error))?;
    let memfd = insula_sys::fd::sealed_memfd("process", &json)
        .map_err(|error| Error::internal(&stage, error))?;
    let (exec_id, end) = link.expect_exec();
    let guard = Guard {
        link: Arc::clone(link),
        exec_id,
        kill: true,
        deadline: env.config.deadlines.supervisor,
    };
    let request = Request::Exec(ExecRequest {
        exec_id,
        container_id: container.id.to_string(),
        owner,
        timeout_ms: timeout.map_or(0, |timeout| {
            u64::try_from(timeout.as_millis())
                .unwrap_or(u64::MAX)
                .max(1)
        }),
    });
    let deadline = env.config.deadlines.supervisor;
    let pipes = match link
        .try_ask(&stage, request, &[memfd.as_fd()], deadline)
        .await?
    {
        Ok((Answer::ExecStarted { .. }, pipes)) => pipes,
        Ok((other, _)) => return Err(unexpected(&stage, &other)),
        Err(Refused::Failure(failure)) => {
            guard.disarm();
            return Err(refused(container.id.as_str(), failure));
        }
        Err(lost) => return Err(lost.into_error(&stage)),
    };
    let mut pipes = pipes.into_iter();
    let (Some(stdout), Some(stderr)) = (pipes.next(), pipes.next()) else {
        return Err(Error::internal(&stage, "the supervisor gave no pipes"));
    };
    let (mut stdout, mut stderr) = (Output::new(stdout)?, Output::new(stderr)?);
    let end = {
        let reading = async { tokio::join!(stdout.read(), stderr.read()) };
        tokio::pin!(reading);
        let mut end = end;
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
struct Guard {
    link: Arc<Link>,
    exec_id: u64,
    kill: bool,
    deadline: Duration,
}

impl Guard {
    fn disarm(mut self) {
        self.kill = false;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.link.forget_exec(self.exec_id);
        if self.kill {
            let (link, exec_id, deadline) = (Arc::clone(&self.link), self.exec_id, self.deadline);
            tokio::spawn(async move {
                let answer = link
                    .try_ask("kill an exec", Request::KillExec { exec_id }, &[], deadline)
                    .await;
                tracing::debug!(exec_id, ?answer, "killed an exec that nobody waits for");
            });
        }
    }
}

fn refused(id: &str, failure: Failure) -> Error {
    match failure.kind {
        FailureKind::NotFound => Error::no_container(id),
        FailureKind::WrongState => Error::FailedPrecondition(format!(
            "no command can be run in container {id}: {failure}"
        )),
        // Its message names the program and says all; people know these words.
        FailureKind::ProgramNotFound | FailureKind::ProgramNotExecutable => {
            Error::internal("cannot run the command", failure.message)
        }
        _ => Error::internal(format!("run a command in container {id}"), failure),
    }
}

#[cfg(test)]
mod tests {
    use super::{Failure, FailureKind, refused};

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
        ] {
            let failure = Failure {
                kind,
                step: "step".to_owned(),
                message: "exec: \"foo\": no".to_owned(),
            };
            assert_eq!(refused("c", failure).to_string(), words);
        }
    }
}
