//! The profile of containers that ask for `RuntimeDefault`.
//!
//! It is a list of what is allowed; all else is `EPERM`, and what is newer
//! than the list is `ENOSYS`. What is on it are facts from Docker's default
//! profile (moby/profiles, seccomp/default_linux.go, as of Linux 6.13): what
//! images in the field need has been found out there. It allows nothing more,
//! and differs in this:
//!
//! - `socketcall` of 32-bit x86 is `ENOSYS`. It takes its arguments by pointer,
//!   where a filter cannot see them, and any 64-bit program can make it, so it
//!   would be a door around the families refused below. Docker leaves it open
//!   and counts on AppArmor or SELinux. Programs for 32-bit x86 that were built
//!   for kernels before 4.3 have no network with this; a Localhost profile can
//!   allow it.
//! - `socket` for AF_ALG and AF_VSOCK is `EAFNOSUPPORT`, what a kernel without
//!   them says, and not `EPERM`.
//! - What Linux has not implemented for long (`getsid`, `epoll_ctl_old`,
//!   `epoll_wait_old`) and what only other machines have is not on the list.

use crate::action::{Action, ENOSYS, EPERM};
use crate::architecture::{Architecture, NamedArchitecture};
use crate::profile::{
    Architectures, Condition, Flags, Group, KernelVersion, Operator, Profile, Requirements,
};
use insula_wire::Capability;

/// `EAFNOSUPPORT`.
const NO_SUCH_FAMILY: u16 = 97;

/// The `CLONE_NEW*` flags of clone(2) that make a namespace. `CLONE_NEWTIME`
/// is none of clone's: its bit is in the exit signal there.
const NAMESPACE_FLAGS: u64 = 0x0002_0000 // CLONE_NEWNS
    | 0x0200_0000 // CLONE_NEWCGROUP
    | 0x0400_0000 // CLONE_NEWUTS
    | 0x0800_0000 // CLONE_NEWIPC
    | 0x1000_0000 // CLONE_NEWUSER
    | 0x2000_0000 // CLONE_NEWPID
    | 0x4000_0000; // CLONE_NEWNET

/// Address families for sockets, linux/socket.h. Those that no supported
/// kernel has are left out. AF_ALG (38, the kernel's cryptography: years of
/// holes, and a library can do all of it) and AF_VSOCK (40, not bound to a
/// network namespace before Linux 7.0) are refused.
const FAMILIES: &[u64] = &[
    1,  // AF_UNIX
    2,  // AF_INET
    3,  // AF_AX25
    4,  // AF_IPX
    5,  // AF_APPLETALK
    6,  // AF_NETROM
    7,  // AF_BRIDGE
    8,  // AF_ATMPVC
    9,  // AF_X25
    10, // AF_INET6
    11, // AF_ROSE
    13, // AF_NETBEUI
    14, // AF_SECURITY
    15, // AF_KEY
    16, // AF_NETLINK
    17, // AF_PACKET
    18, // AF_ASH
    21, // AF_RDS
    22, // AF_SNA
    24, // AF_PPPOX
    26, // AF_LLC
    27, // AF_IB
    28, // AF_MPLS
    29, // AF_CAN
    30, // AF_TIPC
    31, // AF_BLUETOOTH
    32, // AF_IUCV
    33, // AF_RXRPC
    35, // AF_PHONET
    36, // AF_IEEE802154
    39, // AF_NFC
    41, // AF_KCM
    42, // AF_QIPCRTR
    43, // AF_SMC
    44, // AF_XDP
    45, // AF_MCTP
];

/// Families that programs try, and do without.
const REFUSED_FAMILIES: &[u64] = &[38, 40];

/// What personality(2) may be set to: Linux, with 32-bit uname, with
/// UNAME26, with both; and asking for the current one.
const PERSONALITIES: &[u64] = &[0, 0x0008, 0x0002_0000, 0x0002_0008, 0xffff_ffff];

/// What everybody may do, by what it is about.
#[rustfmt::skip]
const ALWAYS: &[&[&str]] = &[
    FILES, ATTRIBUTES, STREAMS, WAITING, MEMORY, PROCESSES, IDENTITY, TIME, NETWORK, MESSAGES, HOST,
];

/// Names in the file system.
#[rustfmt::skip]
const FILES: &[&str] = &[
    "access", "chdir", "chmod", "chown", "chown32", "creat", "faccessat", "faccessat2", "fchdir",
    "fchmod", "fchmodat", "fchmodat2", "fchown", "fchown32", "fchownat", "fstat", "fstat64",
    "fstatat64", "fstatfs", "fstatfs64", "futimesat", "getcwd", "getdents", "getdents64",
    "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "fanotify_mark",
    "lchown", "lchown32", "link", "linkat", "listmount", "lstat", "lstat64", "mkdir", "mkdirat",
    "mknod", "mknodat", "name_to_handle_at", "newfstatat", "open", "openat", "openat2", "readlink",
    "readlinkat", "rename", "renameat", "renameat2", "rmdir", "stat", "stat64", "statfs",
    "statfs64", "statmount", "statx", "symlink", "symlinkat", "truncate", "truncate64", "umask",
    "unlink", "unlinkat", "utime", "utimensat", "utimensat_time64", "utimes",
];

/// Extended attributes.
#[rustfmt::skip]
const ATTRIBUTES: &[&str] = &[
    "fgetxattr", "flistxattr", "fremovexattr", "fsetxattr", "getxattr", "getxattrat", "lgetxattr",
    "listxattr", "listxattrat", "llistxattr", "lremovexattr", "lsetxattr", "removexattr",
    "removexattrat", "setxattr", "setxattrat",
];

/// Open files, whatever they are.
#[rustfmt::skip]
const STREAMS: &[&str] = &[
    "_llseek", "close", "close_range", "copy_file_range", "dup", "dup2", "dup3", "fadvise64",
    "fadvise64_64", "fallocate", "fcntl", "fcntl64", "fdatasync", "flock", "fsync", "ftruncate",
    "ftruncate64", "io_cancel", "io_destroy", "io_getevents", "io_pgetevents",
    "io_pgetevents_time64", "io_setup", "io_submit", "ioctl", "lseek", "memfd_create", "pipe",
    "pipe2", "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read",
    "readahead", "readv", "sendfile", "sendfile64", "splice", "sync", "sync_file_range", "syncfs",
    "tee", "vmsplice", "write", "writev",
];

/// Waiting for something to happen.
#[rustfmt::skip]
const WAITING: &[&str] = &[
    "_newselect", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2",
    "epoll_wait", "eventfd", "eventfd2", "futex", "futex_requeue", "futex_time64", "futex_wait",
    "futex_waitv", "futex_wake", "get_robust_list", "pause", "poll", "ppoll", "ppoll_time64",
    "pselect6", "pselect6_time64", "restart_syscall", "select", "set_robust_list", "signalfd",
    "signalfd4",
];

/// The address space.
#[rustfmt::skip]
const MEMORY: &[&str] = &[
    "brk", "cachestat", "madvise", "map_shadow_stack", "membarrier", "memfd_secret", "mincore",
    "mlock", "mlock2", "mlockall", "mmap", "mmap2", "mprotect", "mremap", "mseal", "msync",
    "munlock", "munlockall", "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect",
    "process_mrelease", "remap_file_pages",
];

/// Processes, threads, signals and scheduling. `clone` has a rule of its own.
#[rustfmt::skip]
const PROCESSES: &[&str] = &[
    "execve", "execveat", "exit", "exit_group", "fork", "get_thread_area", "getcpu", "getitimer",
    "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrlimit", "getrusage", "gettid",
    "ioprio_get", "ioprio_set", "kill", "landlock_add_rule", "landlock_create_ruleset",
    "landlock_restrict_self", "pidfd_open", "pidfd_send_signal", "prctl", "prlimit64", "rseq",
    "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn",
    "rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo",
    "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr",
    "sched_getparam", "sched_getscheduler", "sched_rr_get_interval",
    "sched_rr_get_interval_time64", "sched_setaffinity", "sched_setattr", "sched_setparam",
    "sched_setscheduler", "sched_yield", "seccomp", "set_thread_area", "set_tid_address",
    "setitimer", "setpgid", "setpriority", "setrlimit", "setsid", "sigaltstack", "sigprocmask",
    "sigreturn", "tgkill", "tkill", "ugetrlimit", "uretprobe", "vfork", "wait4", "waitid",
    "waitpid",
];

/// Users, groups and capabilities.
#[rustfmt::skip]
const IDENTITY: &[&str] = &[
    "capget", "capset", "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32",
    "getgroups", "getgroups32", "getresgid", "getresgid32", "getresuid", "getresuid32", "getuid",
    "getuid32", "setfsgid", "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32",
    "setgroups", "setgroups32", "setregid", "setregid32", "setresgid", "setresgid32", "setresuid",
    "setresuid32", "setreuid", "setreuid32", "setuid", "setuid32",
];

/// Clocks and timers. Setting a clock is left to the kernel's own check where
/// the call also reads it.
#[rustfmt::skip]
const TIME: &[&str] = &[
    "adjtimex", "alarm", "clock_adjtime", "clock_adjtime64", "clock_getres",
    "clock_getres_time64", "clock_gettime", "clock_gettime64", "clock_nanosleep",
    "clock_nanosleep_time64", "gettimeofday", "nanosleep", "time", "timer_create", "timer_delete",
    "timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime", "timer_settime64",
    "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime",
    "timerfd_settime64", "times",
];

/// Sockets. `socket` has rules of its own.
#[rustfmt::skip]
const NETWORK: &[&str] = &[
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen",
    "recv", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg", "send", "sendmmsg", "sendmsg",
    "sendto", "setsockopt", "shutdown", "socketpair",
];

/// System V and POSIX inter-process communication.
#[rustfmt::skip]
const MESSAGES: &[&str] = &[
    "ipc", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64",
    "mq_timedsend", "mq_timedsend_time64", "mq_unlink", "msgctl", "msgget", "msgrcv", "msgsnd",
    "semctl", "semget", "semop", "semtimedop", "semtimedop_time64", "shmat", "shmctl", "shmdt",
    "shmget",
];

/// Asking about the machine.
#[rustfmt::skip]
const HOST: &[&str] = &["getrandom", "sysinfo", "uname"];

/// What only some machines have.
const BY_ARCHITECTURE: &[(Architecture, &[&str])] = &[
    (Architecture::X86_64, &["arch_prctl", "modify_ldt"]),
    (Architecture::X86, &["modify_ldt"]),
    (
        Architecture::Aarch64,
        &[
            "arm_fadvise64_64",
            "arm_sync_file_range",
            "breakpoint",
            "cacheflush",
            "set_tls",
            "sync_file_range2",
        ],
    ),
];

/// Looking into other processes: a hole before Linux 4.8, where a tracer could
/// change a system call after the filter had judged it.
const TRACING: &[&str] = &["process_vm_readv", "process_vm_writev", "ptrace"];

/// What goes with a capability in the bounding set.
#[rustfmt::skip]
const BY_CAPABILITY: &[(Capability, &[&str])] = &[
    (Capability::DacReadSearch, &["open_by_handle_at"]),
    (
        Capability::SysAdmin,
        &[
            "bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick",
            "lookup_dcookie", "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr",
            "mount", "mount_setattr", "move_mount", "open_tree", "perf_event_open", "quotactl",
            "quotactl_fd", "setdomainname", "sethostname", "setns", "syslog", "umount", "umount2",
            "unshare",
        ],
    ),
    (Capability::SysBoot, &["reboot"]),
    (Capability::SysChroot, &["chroot"]),
    (Capability::SysModule, &["delete_module", "finit_module", "init_module"]),
    (Capability::SysPacct, &["acct"]),
    (
        Capability::SysPtrace,
        &[
            "kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev",
            "ptrace",
        ],
    ),
    (Capability::SysRawio, &["ioperm", "iopl"]),
    (Capability::SysTime, &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    (Capability::SysTtyConfig, &["vhangup"]),
    (
        Capability::SysNice,
        &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"],
    ),
    (Capability::Syslog, &["syslog"]),
    (Capability::Bpf, &["bpf"]),
    (Capability::Perfmon, &["perf_event_open"]),
];

/// The profile.
pub fn default_profile() -> Profile {
    let mut groups: Vec<Group> = Vec::new();
    // Before `socket`, whose rules would open this door again.
    groups.push(group(&["socketcall"], Action::Error(ENOSYS)));
    groups.extend(ALWAYS.iter().map(|names| group(names, Action::Allow)));
    groups.extend(sockets());
    groups.extend(PERSONALITIES.iter().map(|value| Group {
        conditions: vec![first_argument(Operator::Equal, *value, 0)],
        ..group(&["personality"], Action::Allow)
    }));
    groups.extend(BY_ARCHITECTURE.iter().map(|(architecture, names)| Group {
        includes: Requirements {
            architectures: vec![architecture.docker_name().to_owned()],
            ..Requirements::default()
        },
        ..group(names, Action::Allow)
    }));
    groups.push(Group {
        includes: Requirements {
            kernel: Some(KernelVersion { major: 4, minor: 8 }),
            ..Requirements::default()
        },
        ..group(TRACING, Action::Allow)
    });
    groups.extend(BY_CAPABILITY.iter().map(|(capability, names)| Group {
        includes: requires(*capability),
        ..group(names, Action::Allow)
    }));
    groups.extend(cloning());
    let companions = |architecture: Architecture| {
        architecture
            .with_smaller()
            .iter()
            .map(|smaller| NamedArchitecture::Known(*smaller))
            .collect()
    };
    let machines = [Architecture::X86_64, Architecture::Aarch64];
    Profile {
        default_action: Action::Error(EPERM),
        architectures: Architectures::Mapped(
            machines
                .map(|machine| (NamedArchitecture::Known(machine), companions(machine)))
                .to_vec(),
        ),
        flags: Flags::default(),
        listener: None,
        groups,
    }
}

fn sockets() -> impl Iterator<Item = Group> {
    let families = |families: &'static [u64], action| {
        families.iter().map(move |family| Group {
            conditions: vec![first_argument(Operator::Equal, *family, 0)],
            ..group(&["socket"], action)
        })
    };
    families(FAMILIES, Action::Allow)
        .chain(families(REFUSED_FAMILIES, Action::Error(NO_SUCH_FAMILY)))
}

/// Without CAP_SYS_ADMIN: clone(2) without new namespaces, and no clone3(2),
/// whose flags are behind a pointer; the C libraries then use clone(2).
fn cloning() -> [Group; 2] {
    let unprivileged = |group| Group {
        excludes: requires(Capability::SysAdmin),
        ..group
    };
    [
        unprivileged(Group {
            conditions: vec![first_argument(Operator::MaskedEqual, NAMESPACE_FLAGS, 0)],
            ..group(&["clone"], Action::Allow)
        }),
        unprivileged(group(&["clone3"], Action::Error(ENOSYS))),
    ]
}

fn group(names: &[&str], action: Action) -> Group {
    Group {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        action,
        conditions: Vec::new(),
        includes: Requirements::default(),
        excludes: Requirements::default(),
    }
}

fn requires(capability: Capability) -> Requirements {
    Requirements {
        capabilities: vec![Some(capability)],
        ..Requirements::default()
    }
}

fn first_argument(operator: Operator, value: u64, value_two: u64) -> Condition {
    Condition {
        argument: 0,
        operator,
        value,
        value_two,
    }
}

#[cfg(test)]
mod tests;
