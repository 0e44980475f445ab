//! The supervisor's ends of standard streams.

use crate::launch::streams::Streams;
use insula_sys::{Error, Result, fd};
use rustix::fd::OwnedFd;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::pipe::{PipeFlags, pipe_with};

/// What the supervisor keeps of a process's streams.
#[derive(Debug)]
pub struct Ends {
    /// Write end of standard input, if it was wanted.
    pub stdin: Option<OwnedFd>,
    /// Read end of standard output, non-blocking.
    pub stdout: OwnedFd,
    /// Read end of standard error, non-blocking.
    pub stderr: OwnedFd,
}

/// A full pipe makes the writer wait for us; this much it can be ahead.
const PIPE_SIZE: usize = 1 << 20;

/// Makes pipes for a process of this user. Without `stdin` that is `/dev/null`.
pub fn make(owner: u32, stdin: bool) -> Result<(Ends, Streams)> {
    let (kept_stdin, their_stdin) = match stdin {
        true => {
            let (reader, writer) = pipe(owner)?;
            (Some(writer), reader)
        }
        false => (None, open_null()?),
    };
    let (stdout, their_stdout) = output_pipe(owner)?;
    let (stderr, their_stderr) = output_pipe(owner)?;
    Ok((
        Ends {
            stdin: kept_stdin,
            stdout,
            stderr,
        },
        Streams {
            stdin: their_stdin,
            stdout: their_stdout,
            stderr: their_stderr,
        },
    ))
}

fn output_pipe(owner: u32) -> Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe(owner)?;
    // A host that is short of pipe pages gives us a smaller one.
    let _ = rustix::pipe::fcntl_setpipe_size(&writer, PIPE_SIZE);
    rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)
        .map_err(|errno| Error::new("fcntl(pipe, F_SETFL, O_NONBLOCK)", errno))?;
    Ok((reader, writer))
}

/// A pipe the process may open again by `/dev/stdout`, also after it dropped
/// root: opening it checks owner and mode of the pipe.
fn pipe(owner: u32) -> Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Error::new("pipe2(O_CLOEXEC)", errno))?;
    rustix::fs::fchown(&writer, Some(Uid::from_raw(owner)), None::<Gid>)
        .map_err(|errno| Error::new(format!("fchown(pipe, {owner}, -1)"), errno))?;
    rustix::fs::fchmod(&writer, Mode::from_raw_mode(0o622))
        .map_err(|errno| Error::new("fchmod(pipe, 0622)", errno))?;
    Ok((reader, writer))
}

fn open_null() -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open("/dev/null", flags, Mode::empty())
        .map_err(|errno| Error::new("open(\"/dev/null\", O_RDWR|O_CLOEXEC)", errno))
}

/// Makes a descriptor non-blocking and gives back a copy.
pub fn nonblocking_copy(terminal: &OwnedFd) -> Result<OwnedFd> {
    rustix::fs::fcntl_setfl(terminal, OFlags::NONBLOCK)
        .map_err(|errno| Error::new("fcntl(terminal, F_SETFL, O_NONBLOCK)", errno))?;
    fd::duplicate(terminal)
}
