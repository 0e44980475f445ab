//! A client's streams joined to a process, whatever the protocol.
//!
//! ```text
//! client ──stdin──► process.stdin   at its end: closed, and close_stdin()
//! client ──resize─► control.resize
//! client ◄─stdout── process.stdout  to its end, or until it is quiet after the exit
//! client ◄─error─── how it ended, when all output is written
//! ```

use super::resize::Sizes;
use super::status::Outcome;
use crate::descriptor::{Reader, Writer};
use crate::negotiate::Report;
use crate::runtime::{Process, StreamError};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;

/// Bytes copied at once.
const BUFFER: usize = 64 << 10;
/// How long output may be quiet after the end of the process. All that it wrote
/// is in the pipe by then; a child that it left behind may hold it open for
/// ever.
const QUIET: Duration = Duration::from_secs(1);

/// What a client writes.
pub(crate) type Input = Box<dyn AsyncRead + Send + Unpin>;
/// What a client reads.
pub(crate) type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// A client's streams.
pub(crate) struct Client {
    pub(crate) stdin: Option<Input>,
    pub(crate) stdout: Option<Output>,
    pub(crate) stderr: Option<Output>,
    pub(crate) resize: Option<Input>,
    pub(crate) error: Output,
    pub(crate) report: Report,
}

/// Which end is that of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// The process has exited, and its output is written: exec.
    Exit,
    /// The streams have ended: attach.
    Streams,
}

/// Something happened that the process's control has to be told.
enum Step {
    InputEnded,
    Resized(super::resize::Size),
    SizesEnded,
    OutputEnded,
    Exited(i32),
}

/// Joins a client to a process, and tells it how that ended. An error is that
/// of a client to which nothing can be told any more.
pub(crate) async fn run(
    process: Result<Process, StreamError>,
    client: Client,
    until: Until,
) -> Result<(), StreamError> {
    let Client {
        stdin,
        stdout,
        stderr,
        resize,
        mut error,
        report,
    } = client;
    let outcome = match process {
        Ok(process) => match join(process, [stdout, stderr], stdin, resize, until).await {
            Ok(code) => Outcome::Exited(if until == Until::Exit { code } else { 0 }),
            Err(gone @ StreamError::Client(_)) => return Err(gone),
            Err(other) => Outcome::Failed(other),
        },
        Err(error) => {
            for mut output in [stdout, stderr].into_iter().flatten() {
                output.shutdown().await?;
            }
            Outcome::Failed(error)
        }
    };
    error.write_all(&outcome.report(report)).await?;
    error.shutdown().await?;
    match outcome {
        Outcome::Failed(error) => Err(error),
        Outcome::Exited(_) => Ok(()),
    }
}

/// Copies until the end that is asked for; gives back the exit code, or 0 if
/// the streams ended before.
async fn join(
    process: Process,
    [stdout, stderr]: [Option<Output>; 2],
    stdin: Option<Input>,
    resize: Option<Input>,
    until: Until,
) -> Result<i32, StreamError> {
    let mut control = process.control;
    let (exit, exited) = watch::channel(false);
    let reads = process.stdout.is_some() || process.stderr.is_some();
    let mut outputs = std::pin::pin!(async {
        tokio::try_join!(
            copy_out(process.stdout, stdout, exited.clone()),
            copy_out(process.stderr, stderr, exited.clone()),
        )
    });
    let mut input = std::pin::pin!(copy_in(stdin, process.stdin));
    let mut resizes = Resizes {
        stream: resize,
        sizes: Sizes::default(),
    };
    let (mut input_ended, mut sizes_ended) = (false, false);
    let (mut outputs_ended, mut code) = (false, None);
    loop {
        let step = tokio::select! {
            () = &mut input, if !input_ended => Step::InputEnded,
            size = resizes.next(), if !sizes_ended => size.map_or(Step::SizesEnded, Step::Resized),
            ended = &mut outputs, if !outputs_ended => ended.map(|_| Step::OutputEnded)?,
            ended = control.end(), if code.is_none() => Step::Exited(ended?),
        };
        match step {
            Step::InputEnded => {
                input_ended = true;
                control.close_stdin().await?;
            }
            Step::Resized(size) => control.resize(size.columns, size.rows)?,
            Step::SizesEnded => sizes_ended = true,
            Step::OutputEnded => outputs_ended = true,
            Step::Exited(exit_code) => {
                code = Some(exit_code);
                // Nobody listens any more when all output has ended.
                let _ = exit.send(true);
            }
        }
        let streams_ended = outputs_ended && (reads || input_ended);
        match (until, code) {
            (_, Some(code)) if outputs_ended => return Ok(code),
            (Until::Streams, None) if streams_ended => return Ok(0),
            _ => {}
        }
    }
}

/// The client's input to its end. What comes after the process has closed its
/// own end is read and dropped, so that the client is not held up.
async fn copy_in(from: Option<Input>, to: Option<OwnedFd>) {
    let Some(mut from) = from else {
        // Nothing is attached, so nothing ends.
        return std::future::pending().await;
    };
    let mut to = to.and_then(|fd| Writer::new(fd).ok());
    let mut buffer = vec![0; BUFFER];
    // A stream that is reset ends as well.
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if let Some(writer) = &mut to
            && writer.write_all(&buffer[..length]).await.is_err()
        {
            to = None;
        }
    }
}

/// A process's output to its end. Without a client's stream it is read and
/// dropped, so that the process is not held up.
async fn copy_out(
    from: Option<OwnedFd>,
    mut to: Option<Output>,
    mut exited: watch::Receiver<bool>,
) -> Result<(), StreamError> {
    if let Some(from) = from {
        let failed = |error: io::Error| StreamError::Runtime(format!("reading output: {error}"));
        let mut from = Reader::new(from).map_err(failed)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = match read_until_quiet(&mut from, &mut buffer, &mut exited).await {
                Ok(0) => break,
                other => other.map_err(failed)?,
            };
            if let Some(to) = &mut to {
                to.write_all(&buffer[..length]).await?;
                to.flush().await?;
            }
        }
    }
    if let Some(mut to) = to {
        to.shutdown().await?;
    }
    Ok(())
}

/// Reads once; 0 is the end, or the process is gone and nothing has come since.
async fn read_until_quiet(
    from: &mut Reader,
    buffer: &mut [u8],
    exited: &mut watch::Receiver<bool>,
) -> io::Result<usize> {
    if !*exited.borrow() {
        tokio::select! {
            read = from.read(buffer) => return read,
            // An error is the end of the session, which drops this future.
            _ = exited.wait_for(|exited| *exited) => {}
        }
    }
    match tokio::time::timeout(QUIET, from.read(buffer)).await {
        Ok(read) => read,
        Err(_quiet) => Ok(0),
    }
}

/// Reads sizes.
struct Resizes {
    stream: Option<Input>,
    sizes: Sizes,
}

// === impl Resizes ===

impl Resizes {
    /// The next size; `None` when no more will come. May be dropped and called
    /// again.
    async fn next(&mut self) -> Option<super::resize::Size> {
        let mut buffer = [0; 256];
        loop {
            match self.stream.as_mut()?.read(&mut buffer).await {
                Ok(length @ 1..) => match self.sizes.push(&buffer[..length]) {
                    Ok(Some(size)) => return Some(size),
                    Ok(None) => {}
                    Err(error) => {
                        tracing::debug!(%error, "no more sizes are read");
                        self.stream = None;
                    }
                },
                Ok(0) | Err(_) => self.stream = None,
            }
        }
    }
}
