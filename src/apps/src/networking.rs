//! How an app's ports reach the host.
//!
//! A Marathon app without `networks` uses the host's network: its ports are the host's, and an
//! image that ignores `$PORT0` and listens where it always does takes that port of the host. On
//! one machine an isolated app is worth more, so such an app gets a network of its own here, and
//! the ports it asks for lead from the host to the same numbers inside. `--network=host` gives
//! the literal meaning.

use std::fmt;

use crate::{App, AppError, Notice};

/// The network a definition asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declared {
    /// Nothing said, which is the host's network in Marathon.
    Nothing,
    /// The host's network, in so many words.
    Host,
    /// A network of the pod's own with mapped ports (`container/bridge`).
    Bridge,
    /// A named network with ports mapped only on request (`container`).
    Container(String),
}

/// What the person asks for on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkChoice {
    /// A network of the pod's own.
    Cni,
    /// The host's network.
    Host,
}

/// The network an app runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkMode {
    /// A network of the pod's own, made by CNI.
    Pod,
    /// The host's.
    Host,
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// Which port of the host is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostPort {
    /// None: reachable only at the pod's own address.
    Unmapped,
    /// Any free one.
    Any,
    /// This one for the first instance if it is free, else any.
    Preferred(u16),
    /// This one or none.
    Fixed(u16),
}

/// A port as asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRequest {
    /// Port inside; `None` means the same number as on the host.
    pub container: Option<u16>,
    /// Port on the host.
    pub host: HostPort,
    /// One or both protocols.
    pub protocols: Vec<Protocol>,
    /// Name, for `$PORT_NAME`.
    pub name: Option<String>,
}

/// A port with its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedPort {
    /// Port inside.
    pub container: u16,
    /// Port on the host; `None` if it is not mapped.
    pub host: Option<u16>,
    /// One or both protocols.
    pub protocols: Vec<Protocol>,
    /// Name, for `$PORT_NAME`.
    pub name: Option<String>,
    /// The number that `$PORT0` and its like give.
    pub advertised: u16,
}

/// A question to whoever knows which ports of the host are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortWish<'a> {
    /// This one, or any.
    pub port: Option<u16>,
    /// It has to be free for all of these.
    pub protocols: &'a [Protocol],
}

/// A port of the host that was asked for is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoFreePort {
    /// This one.
    #[error("port {0} of the host is in use: free it, or let the definition ask for port 0")]
    Taken(u16),
    /// Any.
    #[error("no port of the host is free")]
    AllTaken,
}

/// Network and ports of an app, decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Networking {
    /// The network.
    pub mode: NetworkMode,
    /// Ports to be assigned for each instance.
    pub ports: Vec<PortRequest>,
    /// What a person should know about it.
    pub notices: Vec<Notice>,
}

impl App {
    /// Decides between the definition and the command line.
    ///
    /// Errors: a definition that asks for a network of its own cannot be run in the host's; a
    /// port of the host that is fixed cannot belong to several instances.
    pub fn networking(&self, choice: Option<NetworkChoice>) -> Result<Networking, AppError> {
        let mut notices = Vec::new();
        let mode = match (&self.declared, choice) {
            (Declared::Nothing | Declared::Host, Some(NetworkChoice::Host)) => NetworkMode::Host,
            (Declared::Nothing | Declared::Host, _) => {
                notices.push(Notice::new(
                    "networks",
                    "the host's network is meant (Marathon's default); the app gets a network of \
                     its own and its ports are mapped; --network=host gives the literal meaning",
                ));
                NetworkMode::Pod
            }
            (Declared::Bridge | Declared::Container(_), Some(NetworkChoice::Host)) => {
                return Err(AppError::Conflict {
                    path: "networks".into(),
                    why: "the app asks for a network of its own; run it without --network=host"
                        .into(),
                });
            }
            (Declared::Bridge, _) => NetworkMode::Pod,
            (Declared::Container(name), _) => {
                notices.push(Notice::new(
                    "networks[0].name",
                    format!("{name:?} is not looked up: the host's CNI configuration is used"),
                ));
                NetworkMode::Pod
            }
        };
        let ports = self.port_requests(mode, &mut notices);
        self.check_fixed_ports(&ports)?;
        Ok(Networking {
            mode,
            ports,
            notices,
        })
    }

    fn port_requests(&self, mode: NetworkMode, notices: &mut Vec<Notice>) -> Vec<PortRequest> {
        if let Some(ports) = &self.ports {
            return ports.clone();
        }
        let any = |protocols| PortRequest {
            container: None,
            host: HostPort::Any,
            protocols,
            name: None,
        };
        match (&self.declared, mode) {
            (Declared::Bridge, _) | (_, NetworkMode::Host) => vec![any(vec![Protocol::Tcp])],
            (Declared::Nothing | Declared::Host, NetworkMode::Pod) => {
                notices.push(Notice::new(
                    "portDefinitions",
                    "none: no port is mapped; [{\"port\": 0}] gives a free one in $PORT0",
                ));
                Vec::new()
            }
            (Declared::Container(_), NetworkMode::Pod) => Vec::new(),
        }
    }

    fn check_fixed_ports(&self, ports: &[PortRequest]) -> Result<(), AppError> {
        for port in ports {
            if let HostPort::Fixed(number) = port.host
                && self.instances > 1
            {
                return Err(AppError::Conflict {
                    path: "instances".into(),
                    why: format!(
                        "{} instances cannot all have port {number} of this host; ask for one \
                         instance, or for port 0",
                        self.instances
                    ),
                });
            }
        }
        Ok(())
    }
}

impl Networking {
    /// Gives every port its numbers.
    ///
    /// `instance` counts from zero. `free` answers with a port that is free, the wished one or
    /// nothing.
    pub fn assign(
        &self,
        instance: u32,
        mut free: impl FnMut(PortWish<'_>) -> Option<u16>,
    ) -> Result<Vec<AssignedPort>, NoFreePort> {
        self.ports
            .iter()
            .map(|request| self.assign_one(request, instance, &mut free))
            .collect()
    }

    fn assign_one(
        &self,
        request: &PortRequest,
        instance: u32,
        free: &mut impl FnMut(PortWish<'_>) -> Option<u16>,
    ) -> Result<AssignedPort, NoFreePort> {
        let mut ask = |port| {
            free(PortWish {
                port,
                protocols: &request.protocols,
            })
        };
        let host = match request.host {
            HostPort::Unmapped => None,
            HostPort::Any => Some(ask(None).ok_or(NoFreePort::AllTaken)?),
            HostPort::Preferred(port) => {
                let wished = if instance == 0 { ask(Some(port)) } else { None };
                Some(wished.or_else(|| ask(None)).ok_or(NoFreePort::AllTaken)?)
            }
            HostPort::Fixed(port) => Some(ask(Some(port)).ok_or(NoFreePort::Taken(port))?),
        };
        // In the host's network there is no other number; a pod's own network has them all free.
        let container = match (self.mode, request.container, host) {
            (NetworkMode::Pod, Some(port), _)
            | (_, _, Some(port))
            | (NetworkMode::Host, Some(port), None) => port,
            (_, None, None) => ask(None).ok_or(NoFreePort::AllTaken)?,
        };
        let advertised = match request.host {
            // The number asked for is the one an app that obeys $PORT0 listens on.
            HostPort::Preferred(_) => container,
            _ => host.unwrap_or(container),
        };
        Ok(AssignedPort {
            container,
            host,
            protocols: request.protocols.clone(),
            name: request.name.clone(),
            advertised,
        })
    }
}
