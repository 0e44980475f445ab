//! Packets on the socket between the daemon and a supervisor.
//!
//! These functions move one packet each and never wait longer than the socket
//! does; who waits for what is the caller's business.

use crate::message::{Envelope, FromSupervisor, Request};
use insula_sys::seqpacket::{self, MAX_DESCRIPTORS, MAX_MESSAGE};
use rustix::fd::{BorrowedFd, OwnedFd};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a packet could not be moved.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The peer has closed the connection.
    #[error("the connection to the peer is closed")]
    Closed,
    /// A system call failed; `EAGAIN` means "not now" on a non-blocking socket.
    #[error(transparent)]
    System(#[from] insula_sys::Error),
    /// The packet is not one we know.
    #[error("malformed packet: {0}")]
    Malformed(String),
    /// The message is larger than a packet can be.
    #[error("a message of {0} bytes is larger than the {MAX_MESSAGE} a packet can hold")]
    TooLarge(usize),
}

/// One packet ready to be sent.
#[derive(Debug)]
pub struct Packet<'fd> {
    bytes: Vec<u8>,
    descriptors: Vec<BorrowedFd<'fd>>,
}

/// The supervisor's end: puts descriptors that came ahead of their request back
/// together with it.
#[derive(Debug, Default)]
pub struct RequestReader {
    ahead: Option<(u64, Vec<OwnedFd>)>,
}

/// Most descriptors one request may bring, over all its packets.
const MAX_REQUEST_DESCRIPTORS: usize = 4 * MAX_DESCRIPTORS;

// === impl Packet ===

impl<'fd> Packet<'fd> {
    /// The packets of one request, to be sent in order: those with surplus
    /// descriptors first.
    pub fn request(
        envelope: &Envelope,
        descriptors: &[BorrowedFd<'fd>],
    ) -> Result<Vec<Self>, ChannelError> {
        let surplus = descriptors.len().saturating_sub(MAX_DESCRIPTORS);
        let (ahead, last) = descriptors.split_at(surplus);
        let mut packets = Vec::new();
        for group in ahead.chunks(MAX_DESCRIPTORS) {
            let bring = Envelope {
                id: envelope.id,
                request: Request::Descriptors,
            };
            packets.push(Self::encode(&bring, group)?);
        }
        packets.push(Self::encode(envelope, last)?);
        Ok(packets)
    }

    /// The packet of one reply or event.
    pub fn from_supervisor(
        message: &FromSupervisor,
        descriptors: &[BorrowedFd<'fd>],
    ) -> Result<Self, ChannelError> {
        Self::encode(message, descriptors)
    }

    /// Sends it.
    pub fn send(&self, socket: BorrowedFd<'_>) -> Result<(), ChannelError> {
        seqpacket::send(socket, &self.bytes, &self.descriptors).map_err(|error| {
            match error.errno() {
                rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET => ChannelError::Closed,
                _ => ChannelError::System(error),
            }
        })
    }

    fn encode<T: Serialize>(
        message: &T,
        descriptors: &[BorrowedFd<'fd>],
    ) -> Result<Self, ChannelError> {
        let bytes = serde_json::to_vec(message)
            .map_err(|error| ChannelError::Malformed(error.to_string()))?;
        if bytes.len() > MAX_MESSAGE {
            return Err(ChannelError::TooLarge(bytes.len()));
        }
        Ok(Self {
            bytes,
            descriptors: descriptors.to_vec(),
        })
    }
}

// === impl RequestReader ===

impl RequestReader {
    /// Receives one packet. `None`: it only brought descriptors ahead.
    pub fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
    ) -> Result<Option<(Envelope, Vec<OwnedFd>)>, ChannelError> {
        let (envelope, descriptors): (Envelope, _) = receive(socket)?;
        let mut all = match self.ahead.take() {
            Some((id, ahead)) if id == envelope.id => ahead,
            Some(_) => {
                return Err(ChannelError::Malformed(
                    "descriptors came ahead of another request".to_owned(),
                ));
            }
            None => Vec::new(),
        };
        all.extend(descriptors);
        if all.len() > MAX_REQUEST_DESCRIPTORS {
            return Err(ChannelError::Malformed(format!(
                "{} descriptors for one request",
                all.len()
            )));
        }
        if envelope.request == Request::Descriptors {
            self.ahead = Some((envelope.id, all));
            return Ok(None);
        }
        Ok(Some((envelope, all)))
    }
}

/// Receives one reply or event, the daemon's end.
pub fn receive_from_supervisor(
    socket: BorrowedFd<'_>,
) -> Result<(FromSupervisor, Vec<OwnedFd>), ChannelError> {
    receive(socket)
}

fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> Result<(T, Vec<OwnedFd>), ChannelError> {
    let received = seqpacket::receive(socket)?;
    if received.bytes.is_empty() {
        return Err(ChannelError::Closed);
    }
    let message = serde_json::from_slice(&received.bytes)
        .map_err(|error| ChannelError::Malformed(error.to_string()))?;
    Ok((message, received.descriptors))
}

#[cfg(test)]
mod tests {
    use super::{ChannelError, Packet, RequestReader};
    use crate::message::{Envelope, Request};
    use insula_sys::seqpacket;
    use rustix::fd::AsFd;

    #[test]
    fn a_request_with_many_descriptors_arrives_whole() {
        let (daemon, supervisor) = seqpacket::pair().unwrap();
        let envelope = Envelope {
            id: 7,
            request: Request::Shutdown,
        };
        let mut reader = RequestReader::default();
        for count in [0, 1, 250, 251, 700] {
            let descriptors = vec![daemon.as_fd(); count];
            for packet in Packet::request(&envelope, &descriptors).unwrap() {
                packet.send(daemon.as_fd()).unwrap();
            }
            let (received, descriptors) = loop {
                if let Some(whole) = reader.receive(supervisor.as_fd()).unwrap() {
                    break whole;
                }
            };
            assert_eq!(received, envelope);
            assert_eq!(descriptors.len(), count);
        }
    }

    #[test]
    fn nonsense_and_the_end_are_told_apart() {
        let (daemon, supervisor) = seqpacket::pair().unwrap();
        let mut reader = RequestReader::default();
        for nonsense in [&b"{"[..], b"null", br#"{"id":1,"request":"fly"}"#] {
            seqpacket::send(daemon.as_fd(), nonsense, &[]).unwrap();
            let error = reader.receive(supervisor.as_fd()).unwrap_err();
            assert!(matches!(error, ChannelError::Malformed(_)), "{error}");
        }
        drop(daemon);
        let error = reader.receive(supervisor.as_fd()).unwrap_err();
        assert!(matches!(error, ChannelError::Closed), "{error}");
    }
}
