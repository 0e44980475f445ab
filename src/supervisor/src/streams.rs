//! The supervisor's ends of standard streams.

use crate::launch::streams::Streams;
use crate::poll::Output;
use insula_sys::{Error, Result, fd};
use rustix::fd::OwnedFd;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::pipe::{PipeFlags, pipe_with};

/// Which streams of a process are pipes; the others are `/dev/null`.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

/// What the supervisor keeps of a process's streams.
#[derive(Debug, Default)]
pub struct Ends {
    /// Write end of standard input, non-blocking.
    pub stdin: Option<OwnedFd>,
    /// Read ends of its output, non-blocking, standard output first.
    pub outputs: Vec<(Output, OwnedFd)>,
}

/// A full pipe makes the writer wait for its reader; this much it can be ahead.
const PIPE_SIZE: usize = 1 << 20;

/// Makes pipes for a process of this user.
pub fn make(owner: u32, wanted: Wanted) -> Result<(Ends, Streams)> {
    let (stdin, their_stdin) = input(owner, wanted.stdin)?;
    let (stdout, their_stdout) = output(owner, wanted.stdout)?;
    let (stderr, their_stderr) = output(owner, wanted.stderr)?;
    let outputs = [(Output::Stdout, stdout), (Output::Stderr, stderr)];
    Ok((
        Ends {
            stdin,
            outputs: outputs
                .into_iter()
                .filter_map(|(which, reader)| Some((which, reader?)))
                .collect(),
        },
        Streams {
            stdin: their_stdin,
            stdout: their_stdout,
            stderr: their_stderr,
        },
    ))
}

/// A pipe between the supervisor, which never waits for its reader, and a
/// client: read end, write end.
pub fn copy_pipe() -> Result<(OwnedFd, OwnedFd)> {
    let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
    let (reader, writer) =
        pipe_with(flags).map_err(|errno| Error::new("pipe2(O_CLOEXEC|O_NONBLOCK)", errno))?;
    widen(&writer);
    Ok((reader, writer))
}

fn input(owner: u32, wanted: bool) -> Result<(Option<OwnedFd>, OwnedFd)> {
    if !wanted {
        return Ok((None, open_null()?));
    }
    let (reader, writer) = pipe(owner)?;
    set_nonblocking(&writer)?;
    Ok((Some(writer), reader))
}

fn output(owner: u32, wanted: bool) -> Result<(Option<OwnedFd>, OwnedFd)> {
    if !wanted {
        return Ok((None, open_null()?));
    }
    let (reader, writer) = pipe(owner)?;
    widen(&writer);
    set_nonblocking(&reader)?;
    Ok((Some(reader), writer))
}

/// A host that is short of pipe pages leaves it at 64 KiB.
fn widen(pipe: &OwnedFd) {
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_SIZE);
}

/// Makes reads and writes fail rather than wait, in all copies of this end.
pub fn set_nonblocking(end: &OwnedFd) -> Result<()> {
    rustix::fs::fcntl_setfl(end, OFlags::NONBLOCK)
        .map_err(|errno| Error::new("fcntl(F_SETFL, O_NONBLOCK)", errno))
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
    set_nonblocking(terminal)?;
    fd::duplicate(terminal)
}
