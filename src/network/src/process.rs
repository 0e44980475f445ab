//! One run of a program: its input written, its output read within bounds, its end awaited within
//! a deadline, and nothing of it left when it is given up.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep, timeout};

/// The bound on what a program may write to its standard output, in bytes.
const MAX_STDOUT: usize = 1 << 20;
/// What is kept of its standard error, in bytes; the rest is read and dropped.
const MAX_STDERR: usize = 16 << 10;
/// How long output is awaited after the program ended: a child it left behind may hold the pipe.
const DRAIN: Duration = Duration::from_secs(1);
/// How long a killed program may take to be gone.
const REAP: Duration = Duration::from_secs(5);
/// How long a program that is being written (`ETXTBSY`) is tried again.
const TEXT_BUSY: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) program: PathBuf,
    /// The whole environment.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    pub(crate) stdin: Vec<u8>,
    pub(crate) deadline: Duration,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) took: Duration,
}

/// Why it did not end by itself.
#[derive(Debug)]
pub(crate) enum Failed {
    Start(io::Error),
    /// Killed at the deadline; with what it had written to standard error.
    Timeout {
        after: Duration,
        stderr: Vec<u8>,
    },
    /// Killed because its output could not be read or was beyond the bound.
    Output(io::Error),
}

/// Kills the whole process group when it goes out of scope, unless its leader was reaped.
///
/// While the leader is not reaped its id cannot be reused, so the signal meets nobody else.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0.take() {
            // ESRCH: it is gone already, which is what we want.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Runs `run` to its end. When the future is dropped, the process group is killed.
pub(crate) async fn run(run: Run) -> Result<Finished, Failed> {
    let begun = Instant::now();
    let mut child = start(&run).await.map_err(Failed::Start)?;
    let leader = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    // Declared after `child`, so that the group is killed before tokio takes over the reaping.
    let mut group = Group(leader);

    let mut stdout = Vec::new();
    let mut stderr = Vec::new();
    let outcome = timeout(
        run.deadline,
        converse(&mut child, &mut group, run.stdin, &mut stdout, &mut stderr),
    )
    .await;
    match outcome {
        Ok(Ok(status)) => Ok(Finished {
            status,
            stdout,
            stderr,
            took: begun.elapsed(),
        }),
        Ok(Err(error)) => {
            end(&mut child, group).await;
            Err(Failed::Output(error))
        }
        Err(_) => {
            end(&mut child, group).await;
            Err(Failed::Timeout {
                after: begun.elapsed(),
                stderr,
            })
        }
    }
}

/// Kills and reaps.
async fn end(child: &mut Child, group: Group) {
    drop(group);
    if timeout(REAP, child.wait()).await.is_err() {
        tracing::warn!(
            pid = child.id(),
            "a killed CNI plugin is not gone; it may hang in the kernel"
        );
    }
}

async fn start(run: &Run) -> io::Result<Child> {
    let begun = Instant::now();
    loop {
        let spawned = command(&run.program, &run.environment).spawn();
        match spawned {
            // An installer that copies over the file in place; or a fork elsewhere that still has it open.
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy
                    && begun.elapsed() < TEXT_BUSY =>
            {
                sleep(Duration::from_millis(20)).await;
            }
            other => return other,
        }
    }
}

fn command(program: &Path, environment: &[(&'static str, OsString)]) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(environment.iter().map(|(key, value)| (key, value)))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// Moves data until the program ends and its output is read.
async fn converse(
    child: &mut Child,
    group: &mut Group,
    input: Vec<u8>,
    stdout: &mut Vec<u8>,
    stderr: &mut Vec<u8>,
) -> io::Result<ExitStatus> {
    let missing = || io::Error::other("a pipe to the plugin is missing");
    let to = child.stdin.take().ok_or_else(missing)?;
    let out = child.stdout.take().ok_or_else(missing)?;
    let err = child.stderr.take().ok_or_else(missing)?;
    let mut data = Box::pin(async {
        tokio::try_join!(
            write(to, &input),
            read_all(out, stdout),
            read_first(err, stderr)
        )
        .map(|_| ())
    });
    let (status, moved) = tokio::select! {
        moved = &mut data => {
            moved?;
            (child.wait().await?, true)
        }
        status = child.wait() => (status?, false),
    };
    // Reaped: from here on the id may be somebody else's.
    group.0 = None;
    if !moved && let Ok(result) = timeout(DRAIN, data).await {
        result?;
    }
    Ok(status)
}

async fn write(mut pipe: ChildStdin, input: &[u8]) -> io::Result<()> {
    match pipe.write_all(input).await {
        // It need not read its input.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

async fn read_all(pipe: impl AsyncRead + Unpin, into: &mut Vec<u8>) -> io::Result<()> {
    pipe.take(MAX_STDOUT as u64 + 1).read_to_end(into).await?;
    if into.len() > MAX_STDOUT {
        return Err(io::Error::other(format!(
            "it wrote more than {MAX_STDOUT} bytes to its standard output"
        )));
    }
    Ok(())
}

async fn read_first(mut pipe: impl AsyncRead + Unpin, into: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let length = pipe.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let room = MAX_STDERR.saturating_sub(into.len());
        into.extend_from_slice(&buffer[..length.min(room)]);
    }
}
