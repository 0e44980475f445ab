//! Which ports of the host are free.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use insula_apps::{PortWish, Protocol, annotation};
use insula_cri_api::v1::{PodSandbox, PodSandboxState};

/// How often to ask the kernel for a port that is free for every protocol.
const ATTEMPTS: u32 = 100;

/// Ports that are taken beside those that somebody listens on: a mapped port has no listener.
#[derive(Debug, Default)]
pub(crate) struct HostPorts(HashSet<u16>);

impl HostPorts {
    /// Those that the apps of this host have.
    pub(crate) fn of_pods(pods: &[PodSandbox]) -> Self {
        let taken = pods
            .iter()
            .filter(|pod| pod.state() == PodSandboxState::SandboxReady)
            .filter_map(|pod| pod.annotations.get(annotation::PORTS))
            .flat_map(|ports| ports.split(", "))
            .filter_map(|port| port.split_once("->")?.0.parse().ok());
        Self(taken.collect())
    }

    /// A free port for a wish, which is taken from then on.
    pub(crate) fn take(&mut self, wish: PortWish<'_>) -> Option<u16> {
        let port = match wish.port {
            Some(port) => self.is_free(port, wish.protocols).then_some(port),
            None => (0..ATTEMPTS)
                .filter_map(|_| any())
                .find(|port| self.is_free(*port, wish.protocols)),
        }?;
        self.0.insert(port);
        Some(port)
    }

    fn is_free(&self, port: u16, protocols: &[Protocol]) -> bool {
        let address = (Ipv4Addr::UNSPECIFIED, port);
        !self.0.contains(&port)
            && protocols.iter().all(|protocol| match protocol {
                Protocol::Tcp => TcpListener::bind(address).is_ok(),
                Protocol::Udp => UdpSocket::bind(address).is_ok(),
            })
    }
}

/// A port of the kernel's choice.
fn any() -> Option<u16> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    Some(socket.local_addr().ok()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(ports: &str, state: PodSandboxState) -> PodSandbox {
        PodSandbox {
            annotations: [(annotation::PORTS.to_owned(), ports.to_owned())].into(),
            state: state.into(),
            ..Default::default()
        }
    }

    #[test]
    fn ports_of_pods_are_taken() {
        let ready = PodSandboxState::SandboxReady;
        let ports = HostPorts::of_pods(&[
            pod("6379->6379/tcp, 5300->53/tcp+udp, 9000/tcp", ready),
            pod("7000->7000/tcp", PodSandboxState::SandboxNotready),
            pod("nonsense", ready),
        ]);
        assert_eq!(ports.0, [6379, 5300].into());
    }

    #[test]
    fn listeners_are_seen() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let port = listener.local_addr().expect("its address").port();
        let mut ports = HostPorts::default();
        let wish = |port| PortWish {
            port,
            protocols: &[Protocol::Tcp],
        };
        assert_eq!(ports.take(wish(Some(port))), None);
        let any = ports.take(wish(None)).expect("a free port");
        assert_eq!(ports.take(wish(Some(any))), None, "taken once");
    }
}
