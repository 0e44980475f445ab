//! Sockets that carry whole messages and descriptors (`SOCK_SEQPACKET`,
//! unix(7)).

use crate::{Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use std::mem::MaybeUninit;
use std::path::Path;

/// Most descriptors in one message; the kernel's limit is 253.
pub const MAX_DESCRIPTORS: usize = 250;

/// Largest message we send. The kernel's limit is about 200 KiB, less what the
/// descriptors take.
pub const MAX_MESSAGE: usize = 128 * 1024;

/// One message that was received.
#[derive(Debug, Default)]
pub struct Received {
    /// The bytes; empty when the peer has closed.
    pub bytes: Vec<u8>,
    /// The descriptors, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// A connected pair.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|errno| Error::new("socketpair(AF_UNIX, SOCK_SEQPACKET|SOCK_CLOEXEC, 0)", errno))
}

/// A socket that listens at a path, mode 0600, non-blocking. An existing file
/// there is `EADDRINUSE`.
pub fn listen(path: &Path) -> Result<OwnedFd> {
    let socket = unix_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let address = address(path)?;
    // The mode counts from the first moment: nobody can connect in between.
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600))
        .map_err(|errno| Error::new("fchmod(socket, 0600)", errno))?;
    rustix::net::bind(&socket, &address)
        .map_err(|errno| Error::new(format!("bind({path:?})"), errno))?;
    rustix::net::listen(&socket, 8)
        .map_err(|errno| Error::new(format!("listen({path:?}, 8)"), errno))?;
    Ok(socket)
}

/// Connects to a listening socket; blocking until it is accepted into the
/// queue. The socket returned is in blocking mode.
pub fn connect(path: &Path) -> Result<OwnedFd> {
    let socket = unix_socket(SocketFlags::CLOEXEC)?;
    rustix::net::connect(&socket, &address(path)?)
        .map_err(|errno| Error::new(format!("connect({path:?})"), errno))?;
    Ok(socket)
}

/// Takes the next connection of a listening socket, if there is one. It is
/// non-blocking.
pub fn accept(listener: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    match rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
        Err(errno) => Err(Error::new(format!("accept4({listener:?})"), errno)),
    }
}

/// User id of the process at the other end, unix(7) `SO_PEERCRED`.
pub fn peer_uid(socket: BorrowedFd<'_>) -> Result<u32> {
    rustix::net::sockopt::socket_peercred(socket)
        .map(|credentials| credentials.uid.as_raw())
        .map_err(|errno| Error::new(format!("getsockopt({socket:?}, SO_PEERCRED)"), errno))
}

/// Sends bytes on a stream socket, the descriptors with the first of them.
pub fn send_all(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<()> {
    let mut sent = send_some(socket, bytes, descriptors)?;
    while sent < bytes.len() {
        sent += send_some(socket, &bytes[sent..], &[])?;
    }
    Ok(())
}

/// Sends one message. On a non-blocking socket that is full: `EAGAIN`.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    send_some(socket, bytes, descriptors).map(drop)
}

fn send_some(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Error::new(
            format!(
                "sendmsg({} bytes, SCM_RIGHTS {})",
                bytes.len(),
                descriptors.len()
            ),
            Errno::TOOBIG,
        ));
    }
    loop {
        match rustix::net::sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        ) {
            Ok(length) => return Ok(length),
            Err(Errno::INTR) => {}
            Err(errno) => {
                return Err(Error::new(
                    format!(
                        "sendmsg({socket:?}, {} bytes, SCM_RIGHTS {}, MSG_NOSIGNAL)",
                        bytes.len(),
                        descriptors.len()
                    ),
                    errno,
                ));
            }
        }
    }
}

/// Receives one message into a buffer of [`MAX_MESSAGE`]. Empty means that the
/// peer has closed. A message that did not fit is `EMSGSIZE`. On a
/// non-blocking socket without one: `EAGAIN`.
pub fn receive(socket: BorrowedFd<'_>) -> Result<Received> {
    let mut bytes = vec![0_u8; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        match rustix::net::recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(Received::default()),
            Err(errno) => return Err(Error::new(format!("recvmsg({socket:?})"), errno)),
            Ok(message) => break message,
        }
    };
    let mut descriptors = Vec::new();
    for item in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = item {
            descriptors.extend(received);
        }
    }
    if message
        .flags
        .intersects(rustix::net::ReturnFlags::TRUNC | rustix::net::ReturnFlags::CTRUNC)
    {
        return Err(Error::new(format!("recvmsg({socket:?})"), Errno::MSGSIZE));
    }
    bytes.truncate(message.bytes);
    bytes.shrink_to_fit();
    Ok(Received { bytes, descriptors })
}

fn unix_socket(flags: SocketFlags) -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(|errno| Error::new("socket(AF_UNIX, SOCK_SEQPACKET, 0)", errno))
}

fn address(path: &Path) -> Result<SocketAddrUnix> {
    SocketAddrUnix::new(path).map_err(|errno| Error::new(format!("sockaddr_un({path:?})"), errno))
}

/// Whether an error only means "not now" on a non-blocking socket.
pub fn would_block(error: &Error) -> bool {
    error.errno() == Errno::AGAIN
}

/// Switches a socket between blocking and non-blocking.
pub fn set_nonblocking(socket: impl AsFd, on: bool) -> Result<()> {
    rustix::io::ioctl_fionbio(socket.as_fd(), on)
        .map_err(|errno| Error::new(format!("ioctl(FIONBIO, {on})"), errno))
}

#[cfg(test)]
mod tests {
    use super::{pair, receive, send};
    use rustix::fd::AsFd;

    #[test]
    fn messages_keep_their_bounds_and_carry_descriptors() {
        let (left, right) = pair().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        send(left.as_fd(), b"one", &[]).unwrap();
        send(left.as_fd(), b"two", &[writer.as_fd()]).unwrap();
        drop((left, writer));
        assert_eq!(receive(right.as_fd()).unwrap().bytes, b"one");
        let two = receive(right.as_fd()).unwrap();
        assert_eq!(
            (two.bytes.as_slice(), two.descriptors.len()),
            (&b"two"[..], 1)
        );
        rustix::io::write(&two.descriptors[0], b"through").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(rustix::io::read(&reader, &mut buffer).unwrap(), 7);
        assert!(receive(right.as_fd()).unwrap().bytes.is_empty(), "closed");
    }

    #[test]
    fn the_most_descriptors_fit_one_message() {
        let (left, right) = pair().unwrap();
        let many = vec![left.as_fd(); super::MAX_DESCRIPTORS];
        send(left.as_fd(), &vec![b'x'; super::MAX_MESSAGE], &many).unwrap();
        let received = receive(right.as_fd()).unwrap();
        assert_eq!(received.descriptors.len(), super::MAX_DESCRIPTORS);
        assert_eq!(received.bytes.len(), super::MAX_MESSAGE);
    }
}
