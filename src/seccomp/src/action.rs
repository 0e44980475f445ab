//! What becomes of a system call.

use std::fmt;

/// Largest error number a system call can give back, `MAX_ERRNO` (linux/err.h).
pub const MAX_ERROR: u32 = 4095;

/// `EPERM`, the error of `SCMP_ACT_ERRNO` where none is named (OCI runtime
/// specification, config-linux.md, "Seccomp").
pub const EPERM: u16 = 1;

/// `ENOSYS`, what a kernel says of a system call it does not have.
pub const ENOSYS: u16 = 38;

/// A verdict, `SECCOMP_RET_*` of seccomp(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Kills the thread as by SIGSYS.
    KillThread,
    /// Kills the process as by SIGSYS.
    KillProcess,
    /// Sends SIGSYS.
    Trap,
    /// Is not made, and gives back this error.
    Error(u16),
    /// Asks whoever holds the filter's listener.
    Notify,
    /// Asks the tracer, which is told this number; without one it is `ENOSYS`.
    Trace(u16),
    /// Is made and logged.
    Log,
    /// Is made.
    Allow,
}

// === impl Action ===

impl Action {
    /// What a filter returns for it.
    pub const fn bits(self) -> u32 {
        match self {
            Self::KillThread => 0,
            Self::KillProcess => 0x8000_0000,
            Self::Trap => 0x0003_0000,
            Self::Error(number) => 0x0005_0000 | number as u32,
            Self::Notify => 0x7fc0_0000,
            Self::Trace(number) => 0x7ff0_0000 | number as u32,
            Self::Log => 0x7ffc_0000,
            Self::Allow => 0x7fff_0000,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillThread => f.write_str("SCMP_ACT_KILL_THREAD"),
            Self::KillProcess => f.write_str("SCMP_ACT_KILL_PROCESS"),
            Self::Trap => f.write_str("SCMP_ACT_TRAP"),
            Self::Error(number) => write!(f, "SCMP_ACT_ERRNO({number})"),
            Self::Notify => f.write_str("SCMP_ACT_NOTIFY"),
            Self::Trace(number) => write!(f, "SCMP_ACT_TRACE({number})"),
            Self::Log => f.write_str("SCMP_ACT_LOG"),
            Self::Allow => f.write_str("SCMP_ACT_ALLOW"),
        }
    }
}
