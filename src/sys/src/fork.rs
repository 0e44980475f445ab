//! Processes: clone3, exec, wait, signals.

use crate::outcome::Outcome;
use crate::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions};
use std::ffi::{CStr, CString};
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

/// clone(2); the `libc` crate's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// How long [`wait`] should wait for a process that was killed or is about to
/// end: far longer than it takes, and short enough for those who wait behind.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// Proof that the process had one thread when it was made. Held by programs
/// that never start another, it makes [`fork`] safe: no lock can be held by a
/// thread that does not exist in the child.
#[derive(Debug, Clone, Copy)]
pub struct SingleThread(PhantomData<*const ()>);

/// How a process is forked.
#[derive(Debug, Default)]
pub struct ForkOptions<'a> {
    /// The child is born in this cgroup v2 directory (`CLONE_INTO_CGROUP`).
    pub into_cgroup: Option<BorrowedFd<'a>>,
    /// The child is PID 1 of a new PID namespace (`CLONE_NEWPID`).
    pub new_pid_namespace: bool,
    /// The child's parent is the caller's parent (`CLONE_PARENT`).
    pub sibling: bool,
    /// Both have one table of descriptors (`CLONE_FILES`), until one executes:
    /// what one of them opens or closes, the other has opened or closed. Values
    /// that own descriptors must be dropped on one side only.
    pub share_files: bool,
}

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Fork {
    /// The caller.
    Parent(Child),
    /// The new process.
    Child,
}

/// A process that was forked.
#[derive(Debug)]
pub struct Child {
    /// Its id in the caller's PID namespace.
    pub pid: i32,
    /// Refers to it whatever becomes of the id; readable once it has ended.
    pub pidfd: OwnedFd,
}

/// How a process ended, wait(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By exit(2) with this status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

// === impl Strings ===

impl Strings {
    /// Makes the array of pointers.
    pub fn new(strings: Vec<CString>) -> Self {
        // What a CString points to does not move with it.
        let pointers = strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([std::ptr::null()])
            .collect();
        Self { strings, pointers }
    }

    /// The first of them.
    pub fn first(&self) -> Option<&CStr> {
        self.strings.first().map(CString::as_c_str)
    }
}

// === impl SingleThread ===

impl SingleThread {
    /// Counts the threads of this process. Fails with `EBUSY` where there are
    /// others.
    pub fn prove() -> Result<Self> {
        let call = "read(\"/proc/self/task\")";
        let count = std::fs::read_dir("/proc/self/task")
            .map_err(|error| Error::from_io(call, &error))?
            .count();
        if count != 1 {
            return Err(Error::new(call, Errno::BUSY));
        }
        Ok(Self(PhantomData))
    }
}

// === impl Ended ===

impl Ended {
    /// The exit status a shell would show: the status, or 128 + signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(status) => status,
            Self::Signaled(signal) => 128 + signal,
        }
    }
}

/// Forks with clone3(2). The child is a copy of the caller; it must not return
/// into code that belongs to the parent.
pub fn fork(_proof: SingleThread, options: &ForkOptions<'_>) -> Result<Fork> {
    let mut pidfd: libc::c_int = -1;
    let mut flags = libc::CLONE_PIDFD as u64;
    if options.new_pid_namespace {
        flags |= libc::CLONE_NEWPID as u64;
    }
    if options.sibling {
        flags |= libc::CLONE_PARENT as u64;
    }
    if options.share_files {
        flags |= libc::CLONE_FILES as u64;
    }
    // SAFETY: clone_args is plain integers for which zero is "not used"
    // (clone(2)); an all-zero value is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    if let Some(cgroup) = options.into_cgroup {
        flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd().unsigned_abs().into();
    }
    args.flags = flags;
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    // With CLONE_PARENT the parent's signal is that of the caller's own exit.
    args.exit_signal = if options.sibling {
        0
    } else {
        libc::SIGCHLD as u64
    };
    // SAFETY: clone3(2) without CLONE_VM copies the address space, so the child
    // runs on a copy of this very stack; `args` is valid for `size` bytes and
    // `pidfd` outlives the call. The proof argument says that no other thread
    // held a lock at this moment.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            std::ptr::from_ref(&args),
            std::mem::size_of::<libc::clone_args>(),
        )
    };
    match result {
        0 => Ok(Fork::Child),
        pid if pid > 0 => {
            // SAFETY: CLONE_PIDFD stored a new descriptor that nobody else
            // owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).unwrap_or(i32::MAX);
            Ok(Fork::Parent(Child { pid, pidfd }))
        }
        _ => Err(Error::new(
            format!("clone3({{flags={flags:#x}, {options:?}}})"),
            last_errno(),
        )),
    }
}

/// Forks a child of the caller's parent (`CLONE_PARENT`), and sleeps until it
/// has executed or ended (`CLONE_VFORK`). Says whether this is the child.
///
/// The kernel leaves the child's id in the page before the child runs
/// (`CLONE_PARENT_SETTID`): whoever shares the page knows of the child even if
/// the caller is killed before it can say a word.
///
/// It is clone(2), and takes no memory: a filter that was loaded before hardly
/// ever allows clone3(2), whose flags are out of its sight.
pub fn fork_beside(_proof: SingleThread, outcome: &Outcome) -> std::result::Result<bool, Errno> {
    let flags = libc::CLONE_PARENT | libc::CLONE_VFORK | libc::CLONE_PARENT_SETTID;
    // SAFETY: without CLONE_VM the address space is copied, so the child runs
    // on a copy of this very stack (which NULL stands for), clone(2). With
    // CLONE_PARENT_SETTID the third argument is where the child's id goes, an
    // integer of pid_t's size in a mapping that outlives the call. The others
    // are not used without their flags, so their order, which differs by
    // architecture, does not matter. The proof argument says that no other
    // thread held a lock at this moment.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::c_long::from(flags),
            std::ptr::null_mut::<libc::c_void>(),
            outcome.pid_address(),
            0_u64,
            0_u64,
        )
    };
    match result {
        0 => Ok(true),
        pid if pid > 0 => Ok(false),
        _ => Err(last_errno()),
    }
}

/// Ends the process at once, without running destructors or exit handlers of
/// the parent whose copy it is.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit(2) takes any integer and does not return.
    unsafe { libc::_exit(status) }
}

/// Strings as [`execve`] takes them.
#[derive(Debug)]
pub struct Strings {
    /// In order; kept for what the pointers point to.
    strings: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

/// Replaces the program, execve(2). Returns only on failure. It takes no memory
/// and makes no other system call: a filter may forbid all but this one.
pub fn execve(program: &CStr, args: &Strings, env: &Strings) -> Errno {
    let (argv, envp) = (args.pointers.as_ptr(), env.pointers.as_ptr());
    // SAFETY: execve(2) wants NUL-terminated strings in NULL-terminated arrays:
    // `Strings::new` makes them so, and both outlive the call.
    unsafe { libc::execve(program.as_ptr(), argv, envp) };
    last_errno()
}

/// Reaps a child that has ended, without waiting. `None` while it runs.
pub fn reap(pidfd: BorrowedFd<'_>) -> Result<Option<Ended>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let status = rustix::process::waitid(WaitId::PidFd(pidfd), options).map_err(|errno| {
        Error::new(
            format!("waitid(P_PIDFD, {pidfd:?}, WEXITED|WNOHANG)"),
            errno,
        )
    })?;
    Ok(status.map(|status| {
        status.exit_status().map_or_else(
            || Ended::Signaled(status.terminating_signal().unwrap_or(libc::SIGKILL)),
            Ended::Exited,
        )
    }))
}

/// Whether a process is a child of this one that was not reaped yet.
pub fn is_child(pidfd: BorrowedFd<'_>) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::PidFd(pidfd), options).is_ok()
}

/// Reaps a child that has ended or is about to, within a bound: one that
/// somebody traces stays a zombie until the tracer lets go, ptrace(2). Says
/// whether it was reaped.
pub fn wait(pidfd: BorrowedFd<'_>, patience: Duration) -> Result<bool> {
    let deadline = Instant::now() + patience;
    loop {
        if reap(pidfd)?.is_some() {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let step = left.min(Duration::from_millis(10));
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: step.subsec_nanos().into(),
        };
        // Readable at the end; a traced zombie is readable all the while.
        let mut watched = [PollFd::new(&pidfd, PollFlags::IN)];
        if matches!(poll(&mut watched, Some(&timeout)), Ok(1)) {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// A descriptor for a process, pidfd_open(2).
pub fn open_pid(pid: i32) -> Result<OwnedFd> {
    let call = || format!("pidfd_open({pid}, 0)");
    let raw = Pid::from_raw(pid).ok_or_else(|| Error::new(call(), Errno::INVAL))?;
    rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty())
        .map_err(|errno| Error::new(call(), errno))
}

/// Sends a signal, real-time ones included. A process that has ended is no
/// error.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: pidfd_send_signal(2) reads no memory when siginfo is NULL.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0_u32,
        )
    };
    match result {
        0 => Ok(()),
        _ if last_errno() == Errno::SRCH => Ok(()),
        _ => Err(Error::new(
            format!("pidfd_send_signal({pidfd:?}, {signal}, NULL, 0)"),
            last_errno(),
        )),
    }
}

/// Gives every signal its default action and empties the mask, as login(1)
/// would leave them. Rust ignores SIGPIPE, and an ignored signal survives
/// execve(2).
pub fn reset_signals() {
    // The kernel's struct sigaction with SIG_DFL: handler, flags, restorer,
    // mask. The C library's call would refuse the two signals it uses itself,
    // which a parent may have ignored.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // SAFETY: rt_sigaction(2) reads a kernel sigaction, at most 32 bytes on
        // every architecture, and runs no code of ours with SIG_DFL. SIGKILL
        // and SIGSTOP are refused, which changes nothing.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                8_usize,
            )
        };
    }
    let mut mask = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset(3) initialises the set it is given.
    unsafe { libc::sigemptyset(mask.as_mut_ptr()) };
    // SAFETY: the set was initialised above; the old one is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, mask.as_ptr(), std::ptr::null_mut()) };
}

/// Lets the kernel reap this process's children by itself (`SIGCHLD` ignored,
/// wait(2)).
pub fn ignore_children() {
    // SAFETY: signal(2) with SIG_IGN runs no code of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Sleeps until a signal ends the process, pause(2).
pub fn sleep_for_ever() -> ! {
    loop {
        // SAFETY: pause(2) takes nothing and touches nothing.
        unsafe { libc::pause() };
    }
}

/// Gives the process a session keyring of its own, keyrings(7), so that it
/// shares no key with its supervisor. A kernel without keys is no error.
pub fn new_session_keyring() -> Result<()> {
    // SAFETY: KEYCTL_JOIN_SESSION_KEYRING with a NULL name reads no memory,
    // keyctl(2).
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            1_i32, // KEYCTL_JOIN_SESSION_KEYRING
            std::ptr::null::<libc::c_char>(),
        )
    };
    match (result, last_errno()) {
        (-1, Errno::NOSYS | Errno::PERM) => Ok(()),
        (-1, errno) => Err(Error::new(
            "keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)",
            errno,
        )),
        _ => Ok(()),
    }
}

/// Turns a path into what [`execve`] takes.
pub fn c_path(path: &std::path::Path) -> Option<CString> {
    CString::new(path.as_os_str().as_bytes()).ok()
}

/// A program started with posix_spawn(3), see [`spawn`].
#[derive(Debug)]
pub struct Spawned {
    /// Its process id.
    pub pid: i32,
    /// Refers to it whatever becomes of the id.
    pub pidfd: OwnedFd,
}

/// Starts a program in a session of its own with exactly these descriptors,
/// numbered from 0, and default signals. Cheap from a large process: the child
/// borrows the address space until it executes (`CLONE_VM|CLONE_VFORK`).
pub fn spawn(program: &CStr, args: &[CString], descriptors: &[BorrowedFd<'_>]) -> Result<Spawned> {
    let failed = |call: &str, number: i32| {
        Error::new(
            format!("{call} of posix_spawn({program:?}, {args:?})"),
            Errno::from_raw_os_error(number),
        )
    };
    // The numbers that are given out must not be overwritten before they are
    // copied, so all sources are moved above them first.
    let first_free = i32::try_from(descriptors.len()).unwrap_or(i32::MAX);
    let sources = descriptors
        .iter()
        .map(|fd| {
            rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), first_free)
                .map_err(|errno| Error::new(format!("fcntl({fd:?}, F_DUPFD_CLOEXEC)"), errno))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut actions = std::mem::MaybeUninit::<libc::posix_spawn_file_actions_t>::uninit();
    // SAFETY: posix_spawn_file_actions_init(3) initialises what it is given.
    match unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) } {
        0 => {}
        number => return Err(failed("posix_spawn_file_actions_init", number)),
    }
    // SAFETY: initialised above.
    let mut actions = unsafe { actions.assume_init() };
    for (target, source) in (0..).zip(&sources) {
        // SAFETY: the actions were initialised; the numbers are plain values.
        unsafe {
            libc::posix_spawn_file_actions_adddup2(&raw mut actions, source.as_raw_fd(), target)
        };
    }
    let result = spawn_with(program, args, &actions);
    // SAFETY: the actions were initialised and are not used again.
    unsafe { libc::posix_spawn_file_actions_destroy(&raw mut actions) };
    let pid = result.map_err(|number| failed("posix_spawn", number))?;
    // It is our own child and not reaped, so the id still means it.
    Ok(Spawned {
        pid,
        pidfd: open_pid(pid)?,
    })
}

fn spawn_with(
    program: &CStr,
    args: &[CString],
    actions: &libc::posix_spawn_file_actions_t,
) -> std::result::Result<i32, i32> {
    let mut attributes = std::mem::MaybeUninit::<libc::posix_spawnattr_t>::uninit();
    // SAFETY: posix_spawnattr_init(3) initialises what it is given.
    match unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) } {
        0 => {}
        number => return Err(number),
    }
    // SAFETY: initialised above.
    let mut attributes = unsafe { attributes.assume_init() };
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset(3) initialises the set it is given.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset(3) initialises the set it is given.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: attributes and the set were initialised above.
    unsafe { libc::posix_spawnattr_setsigdefault(&raw mut attributes, all.as_ptr()) };
    // SAFETY: attributes and the set were initialised above.
    unsafe { libc::posix_spawnattr_setsigmask(&raw mut attributes, none.as_ptr()) };
    let flags = libc::POSIX_SPAWN_SETSIGDEF
        | libc::POSIX_SPAWN_SETSIGMASK
        | i32::from(libc::POSIX_SPAWN_SETSID);
    // SAFETY: attributes were initialised above; the flags are a plain value.
    unsafe {
        libc::posix_spawnattr_setflags(
            &raw mut attributes,
            libc::c_short::try_from(flags).unwrap_or(0),
        )
    };
    let mut argv: Vec<*mut libc::c_char> = args.iter().map(|arg| arg.as_ptr().cast_mut()).collect();
    argv.push(std::ptr::null_mut());
    let envp: [*mut libc::c_char; 1] = [std::ptr::null_mut()];
    let mut pid: libc::pid_t = 0;
    // SAFETY: posix_spawn(3) wants NUL-terminated strings in NULL-terminated
    // arrays that outlive the call, and initialised actions and attributes; it
    // does not write through argv or envp.
    let number = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.as_ptr(),
            actions,
            &raw const attributes,
            argv.as_ptr(),
            envp.as_ptr(),
        )
    };
    // SAFETY: the attributes were initialised and are not used again.
    unsafe { libc::posix_spawnattr_destroy(&raw mut attributes) };
    if number == 0 { Ok(pid) } else { Err(number) }
}

pub(crate) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
