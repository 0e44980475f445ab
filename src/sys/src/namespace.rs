//! Namespaces: making, joining, looking inside.

use crate::{Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags};
use std::path::Path;

/// Kinds of namespaces, namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `CLONE_NEWCGROUP`.
    Cgroup,
    /// `CLONE_NEWIPC`.
    Ipc,
    /// `CLONE_NEWNS`.
    Mount,
    /// `CLONE_NEWNET`.
    Network,
    /// `CLONE_NEWPID`; joining one is for later children only.
    Pid,
    /// `CLONE_NEWUSER`; the caller has then all capabilities there and is
    /// nobody until its ids are changed.
    User,
    /// `CLONE_NEWUTS`.
    Uts,
}

// === impl Kind ===

impl Kind {
    /// Name of the entry in `/proc/PID/ns`.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Ipc => "ipc",
            Self::Mount => "mnt",
            Self::Network => "net",
            Self::Pid => "pid",
            Self::User => "user",
            Self::Uts => "uts",
        }
    }

    fn link_type(self) -> LinkNameSpaceType {
        match self {
            Self::Cgroup => LinkNameSpaceType::ControlGroup,
            Self::Ipc => LinkNameSpaceType::InterProcessCommunication,
            Self::Mount => LinkNameSpaceType::Mount,
            Self::Network => LinkNameSpaceType::Network,
            Self::Pid => LinkNameSpaceType::ProcessID,
            Self::User => LinkNameSpaceType::User,
            Self::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
        }
    }

    fn thread_type(self) -> ThreadNameSpaceType {
        match self {
            Self::Cgroup => ThreadNameSpaceType::CONTROL_GROUP,
            Self::Ipc => ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION,
            Self::Mount => ThreadNameSpaceType::MOUNT,
            Self::Network => ThreadNameSpaceType::NETWORK,
            Self::Pid => ThreadNameSpaceType::PROCESS_ID,
            Self::User => ThreadNameSpaceType::USER,
            Self::Uts => ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME,
        }
    }

    fn unshare_flag(self) -> UnshareFlags {
        match self {
            Self::Cgroup => UnshareFlags::NEWCGROUP,
            Self::Ipc => UnshareFlags::NEWIPC,
            Self::Mount => UnshareFlags::NEWNS,
            Self::Network => UnshareFlags::NEWNET,
            Self::Pid => UnshareFlags::NEWPID,
            Self::User => UnshareFlags::NEWUSER,
            Self::Uts => UnshareFlags::NEWUTS,
        }
    }
}

/// Puts the calling thread into new namespaces, `unshare(2)`.
pub fn unshare(kinds: &[Kind]) -> Result<()> {
    let flags = kinds.iter().fold(UnshareFlags::empty(), |flags, kind| {
        flags | kind.unshare_flag()
    });
    // SAFETY: unshare_unsafe is unsafe for UnshareFlags::FILES alone, which no
    // Kind maps to.
    unsafe { rustix::thread::unshare_unsafe(flags) }
        .map_err(|errno| Error::new(format!("unshare({flags:?})"), errno))
}

/// Moves the calling thread into a namespace, `setns(2)`.
pub fn join(namespace: impl AsFd, kind: Kind) -> Result<()> {
    let namespace = namespace.as_fd();
    rustix::thread::move_into_link_name_space(namespace, Some(kind.link_type()))
        .map_err(|errno| Error::new(format!("setns({namespace:?}, {kind:?})"), errno))
}

/// Moves the calling thread into namespaces of a process, all at once.
pub fn join_process(pidfd: impl AsFd, kinds: &[Kind]) -> Result<()> {
    let pidfd = pidfd.as_fd();
    let types = kinds
        .iter()
        .fold(ThreadNameSpaceType::empty(), |types, kind| {
            types | kind.thread_type()
        });
    rustix::thread::move_into_thread_name_spaces(pidfd, types)
        .map_err(|errno| Error::new(format!("setns({pidfd:?}, {types:?})"), errno))
}

/// Opens a namespace of a process.
pub fn open(pid: i32, kind: Kind) -> Result<OwnedFd> {
    open_path(Path::new(&format!("/proc/{pid}/ns/{}", kind.file_name())))
}

/// Opens a namespace of the calling thread.
pub fn open_own(kind: Kind) -> Result<OwnedFd> {
    open_path(Path::new(&format!(
        "/proc/thread-self/ns/{}",
        kind.file_name()
    )))
}

fn open_path(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::new(format!("open({path:?}, O_RDONLY|O_CLOEXEC)"), errno))
}

/// Counters of one network interface, as `/proc/net/dev` shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of /proc/net/dev")]
pub struct InterfaceCounters {
    pub name: String,
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// Reads the interface counters of network namespaces, one result for each, on
/// a thread of its own that ends with the call: a thread that changed its
/// namespace is never handed back.
pub fn interface_counters(networks: &[BorrowedFd<'_>]) -> Vec<Result<Vec<InterfaceCounters>>> {
    let one = |network: &BorrowedFd<'_>| {
        join(*network, Kind::Network)?;
        let path = "/proc/thread-self/net/dev";
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::from_io(format!("read({path:?})"), &error))?;
        Ok(parse_interface_counters(&text))
    };
    let lost = || Err(Error::new("read network counters", rustix::io::Errno::IO));
    std::thread::scope(|scope| {
        scope
            .spawn(|| networks.iter().map(one).collect())
            .join()
            .unwrap_or_else(|_| networks.iter().map(|_| lost()).collect())
    })
}

/// A non-blocking TCP socket of a network namespace; `None` is the caller's own.
/// A socket stays in the namespace it was made in, whoever uses it. It is made
/// on a thread of its own that ends with the call.
pub fn tcp_socket(network: Option<BorrowedFd<'_>>, ipv6: bool) -> Result<OwnedFd> {
    let Some(network) = network else {
        return make_tcp_socket(ipv6);
    };
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                join(network, Kind::Network)?;
                make_tcp_socket(ipv6)
            })
            .join()
            .unwrap_or_else(|_| Err(Error::new("make a socket", rustix::io::Errno::IO)))
    })
}

fn make_tcp_socket(ipv6: bool) -> Result<OwnedFd> {
    let family = match ipv6 {
        true => AddressFamily::INET6,
        false => AddressFamily::INET,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    rustix::net::socket_with(family, SocketType::STREAM, flags, None).map_err(|errno| {
        Error::new(
            format!("socket({family:?}, SOCK_STREAM|SOCK_NONBLOCK|SOCK_CLOEXEC, 0)"),
            errno,
        )
    })
}

fn parse_interface_counters(text: &str) -> Vec<InterfaceCounters> {
    text.lines()
        .filter_map(|line| {
            let (name, columns) = line.split_once(':')?;
            let columns: Vec<u64> = columns
                .split_whitespace()
                .map(|column| column.parse().ok())
                .collect::<Option<_>>()?;
            let &[
                rx_bytes,
                rx_packets,
                rx_errors,
                rx_dropped,
                _,
                _,
                _,
                _,
                tx_bytes,
                tx_packets,
                tx_errors,
                tx_dropped,
                ..,
            ] = columns.as_slice()
            else {
                return None;
            };
            Some(InterfaceCounters {
                name: name.trim().to_owned(),
                rx_bytes,
                rx_packets,
                rx_errors,
                rx_dropped,
                tx_bytes,
                tx_packets,
                tx_errors,
                tx_dropped,
            })
        })
        .collect()
}

/// Switches the loopback interface of this thread's network namespace on.
pub fn loopback_up() -> Result<()> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)
        .map_err(|errno| Error::new("socket(AF_INET, SOCK_DGRAM, 0)", errno))?;
    // SAFETY: ifreq is plain data for which all-zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags =
        i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
    // SAFETY: SIOCSIFFLAGS reads one ifreq with a NUL-terminated name,
    // netdevice(7); `request` is one and outlives the call.
    let result = unsafe {
        libc::ioctl(
            rustix::fd::AsRawFd::as_raw_fd(&socket),
            libc::SIOCSIFFLAGS,
            std::ptr::from_ref(&request),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(Error::new(
            "ioctl(SIOCSIFFLAGS, lo, IFF_UP|IFF_RUNNING)",
            crate::fork::last_errno(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_interface_counters;

    #[test]
    fn counters_are_read_by_column() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
            lo:       1       2    3    4    0     0          0         0        5       6    7    8    0     0       0          0\n\
            bad: 1 2 x\n";
        let counters = parse_interface_counters(text);
        assert_eq!(counters.len(), 1);
        let lo = &counters[0];
        assert_eq!((lo.name.as_str(), lo.rx_bytes, lo.rx_dropped), ("lo", 1, 4));
        assert_eq!((lo.tx_bytes, lo.tx_errors, lo.tx_dropped), (5, 7, 8));
    }
}
