//! Running a command in a container to its end.

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
