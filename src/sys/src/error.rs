//! Errors of system calls.

use rustix::io::Errno;
use std::fmt;

/// A system call that failed: the call with its arguments, and why.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    call: String,
    errno: Errno,
}

/// What system calls give back.
pub type Result<T> = std::result::Result<T, Error>;

// === impl Error ===

impl Error {
    /// An error of the call that is described, such as
    /// `openat2(7, "etc/passwd", RESOLVE_IN_ROOT)`.
    pub fn new(call: impl Into<String>, errno: Errno) -> Self {
        Self {
            call: call.into(),
            errno,
        }
    }

    /// The same from an I/O error; one without a number becomes `EIO`.
    pub fn from_io(call: impl Into<String>, error: &std::io::Error) -> Self {
        Self::new(call, Errno::from_io_error(error).unwrap_or(Errno::IO))
    }

    /// The error number.
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// The call with its arguments.
    pub fn call(&self) -> &str {
        &self.call
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.call, self.errno)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}
