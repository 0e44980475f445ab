//! Loading of system call filters, seccomp(2).

use crate::fork::last_errno;
use crate::outcome::Outcome;
use crate::{Error, Result};
use rustix::io::Errno;

/// Size of `struct sock_filter`, linux/filter.h.
const INSTRUCTION: usize = 8;

/// How a filter is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// `SECCOMP_FILTER_FLAG_LOG`.
    pub log: bool,
    /// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`.
    pub spec_allow: bool,
    /// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` (Linux 5.19), with a listener
    /// only.
    pub wait_killable: bool,
}

/// seccomp(2); the `libc` crate lacks it.
const WAIT_KILLABLE_RECV: libc::c_ulong = 1 << 5;

/// A filter ready to be loaded: nothing has to be made ready any more, so
/// nothing but the one system call is between it and its rule.
#[derive(Debug)]
pub struct Filter {
    instructions: Vec<libc::sock_filter>,
    flags: libc::c_ulong,
    /// Those that go with a listener.
    listening: libc::c_ulong,
}

// === impl Filter ===

impl Filter {
    /// Takes a program: `struct sock_filter` after `struct sock_filter`, in the
    /// machine's byte order. A program the kernel would not take fails when it
    /// is loaded.
    pub fn new(program: &[u8], flags: Flags) -> Self {
        let instructions = program
            .chunks_exact(INSTRUCTION)
            .map(|part| libc::sock_filter {
                code: u16::from_ne_bytes([part[0], part[1]]),
                jt: part[2],
                jf: part[3],
                k: u32::from_ne_bytes([part[4], part[5], part[6], part[7]]),
            })
            .collect();
        let log = match flags.log {
            true => libc::SECCOMP_FILTER_FLAG_LOG,
            false => 0,
        };
        let spec_allow = match flags.spec_allow {
            true => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            false => 0,
        };
        let killable = match flags.wait_killable {
            true => WAIT_KILLABLE_RECV,
            false => 0,
        };
        Self {
            instructions,
            flags: log | spec_allow,
            listening: libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | killable,
        }
    }

    /// Loads it into this thread, for good; children inherit it. Needs
    /// `no_new_privs` or CAP_SYS_ADMIN in the user namespace of the thread
    /// (else `EACCES`).
    pub fn load(&self) -> Result<()> {
        self.load_with(self.flags).map(drop)
    }

    /// Loads it with a listener (`SECCOMP_FILTER_FLAG_NEW_LISTENER`), an open
    /// descriptor, close-on-exec, whose number is left in the page: this process
    /// may not be allowed anything else any more.
    pub fn load_listening(&self, outcome: &Outcome) -> Result<()> {
        let listener = self.load_with(self.flags | self.listening)?;
        outcome.leave_listener(listener);
        Ok(())
    }

    fn load_with(&self, flags: libc::c_ulong) -> Result<i32> {
        let failed = |errno| {
            let length = self.instructions.len();
            let call = format!("seccomp(SECCOMP_SET_MODE_FILTER, {flags:#x}, {{len={length}}})");
            Error::new(call, errno)
        };
        let program = libc::sock_fprog {
            len: u16::try_from(self.instructions.len()).map_err(|_| failed(Errno::INVAL))?,
            // The kernel's structure is not const, but it only reads.
            filter: self.instructions.as_ptr().cast_mut(),
        };
        // SAFETY: SECCOMP_SET_MODE_FILTER reads `len` instructions at `filter`,
        // which outlive the call, and writes nothing; with NEW_LISTENER it gives
        // back a new descriptor, seccomp(2).
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                std::ptr::from_ref(&program),
            )
        };
        match i32::try_from(result) {
            Ok(number) if number >= 0 => Ok(number),
            _ => Err(failed(last_errno())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Filter, Flags};
    use rustix::io::Errno;

    #[test]
    fn what_is_no_program_is_refused_by_the_kernel() {
        // A thread of its own: no_new_privs cannot be taken back.
        let refused = std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            [vec![], vec![0; 8]].map(|program| {
                let filter = Filter::new(&program, Flags::default());
                filter.load().unwrap_err().errno()
            })
        });
        assert_eq!(refused.join().unwrap(), [Errno::INVAL; 2]);
    }

    #[test]
    fn a_filter_judges_the_thread_that_loaded_it() {
        // RET ERRNO|EDOM for getppid, by its number; RET ALLOW for the rest.
        let mut program = Vec::new();
        for (code, jt, jf, k) in [
            (0x20_u16, 0_u8, 0_u8, 0_u32),
            (0x15, 0, 1, u32::try_from(libc::SYS_getppid).unwrap()),
            (0x06, 0, 0, 0x0005_0000 | libc::EDOM.unsigned_abs()),
            (0x06, 0, 0, 0x7fff_0000),
        ] {
            program.extend(code.to_ne_bytes());
            program.extend([jt, jf]);
            program.extend(k.to_ne_bytes());
        }
        let before = || rustix::process::getppid().is_some();
        let filtered = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            let flags = Flags {
                log: true,
                spec_allow: true,
                wait_killable: false,
            };
            Filter::new(&program, flags).load().unwrap();
            // SAFETY: getppid(2) takes nothing and touches nothing.
            let result = unsafe { libc::syscall(libc::SYS_getppid) };
            (result, super::last_errno())
        });
        assert_eq!(filtered.join().unwrap(), (-1, Errno::DOM));
        assert!(before());
    }
}
