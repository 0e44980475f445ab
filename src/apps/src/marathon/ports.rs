//! `networks`, `portDefinitions`, `ports`, `requirePorts` and `portMappings`.

use serde_json::Value;

use super::container::ContainerPorts;
use super::{MAX_ITEMS, Result};
use crate::error::{AppError, Notice};
use crate::networking::{Declared, HostPort, PortRequest, Protocol};
use crate::reader::{Fields, invalid};

/// Decides which of the ways to ask for ports counts.
pub(super) fn read(
    fields: &mut Fields,
    container: ContainerPorts,
    notices: &mut Vec<Notice>,
) -> Result<(Declared, Option<Vec<PortRequest>>)> {
    let declared = match (networks(fields)?, container.declared) {
        (Declared::Nothing, Some(legacy)) => legacy,
        (declared, None) => declared,
        (_, Some(_)) => {
            return Err(AppError::Conflict {
                path: "container.docker.network".into(),
                why: "networks says it already; remove one of them".into(),
            });
        }
    };
    let require = fields.boolean("requirePorts")?.unwrap_or(false);
    let definitions = definitions(fields, require)?;
    match declared {
        Declared::Nothing | Declared::Host => {
            if let Some((path, mappings)) = container.mappings
                && !mappings.is_empty()
            {
                return Err(AppError::Conflict {
                    path,
                    why: "port mappings need a network of the app's own: add \"networks\": \
                          [{\"mode\": \"container/bridge\"}], or use portDefinitions"
                        .into(),
                });
            }
            Ok((declared, definitions.map(|(_, ports)| ports)))
        }
        Declared::Bridge | Declared::Container(_) => {
            if let Some((path, ports)) = definitions
                && !ports.is_empty()
            {
                notices.push(Notice::new(
                    path,
                    "no effect: in a network of its own an app's ports are those of \
                     container.portMappings",
                ));
            }
            let ports = container.mappings.map(|(_, mut ports)| {
                if declared == Declared::Bridge {
                    for port in &mut ports {
                        if port.host == HostPort::Unmapped {
                            port.host = HostPort::Any;
                        }
                    }
                }
                ports
            });
            Ok((declared, ports))
        }
    }
}

fn networks(fields: &mut Fields) -> Result<Declared> {
    let Some(networks) = fields.objects("networks", MAX_ITEMS)? else {
        return Ok(Declared::Nothing);
    };
    let count = networks.len();
    let mut declared = Declared::Nothing;
    for mut network in networks {
        declared = self::network(&mut network)?;
        network.end()?;
    }
    if count > 1 {
        return Err(AppError::Unsupported {
            path: "networks[1]".into(),
            why: "an app has one network here".into(),
        });
    }
    Ok(declared)
}

fn network(network: &mut Fields) -> Result<Declared> {
    let name = network.string("name")?;
    if !network.string_map("labels")?.is_empty() {
        return Err(AppError::Unsupported {
            path: network.path("labels"),
            why: "labels of a network are not handed to CNI".into(),
        });
    }
    let mode = network.string("mode")?;
    match (mode.as_deref(), name) {
        (Some("host"), None) => Ok(Declared::Host),
        (Some("container/bridge"), None) => Ok(Declared::Bridge),
        // The mode's default is "container".
        (None | Some("container"), Some(name)) => Ok(Declared::Container(name)),
        (None | Some("container"), None) => Err(AppError::Missing {
            path: network.path("name"),
            why: "mode container names a network; container/bridge needs no name",
        }),
        (Some("host" | "container/bridge"), Some(_)) => Err(AppError::Conflict {
            path: network.path("name"),
            why: "only a network of mode container has a name".into(),
        }),
        (Some(other), _) => Err(invalid(
            &network.path("mode"),
            "\"host\", \"container\" or \"container/bridge\"",
            &Value::String(other.to_owned()),
        )),
    }
}

/// `portDefinitions`, or its older form `ports`, with the path that was used.
fn definitions(
    fields: &mut Fields,
    require: bool,
) -> Result<Option<(&'static str, Vec<PortRequest>)>> {
    let host = |port| match port {
        0 => HostPort::Any,
        port if require => HostPort::Fixed(port),
        port => HostPort::Preferred(port),
    };
    let request = |port: u16, protocols, name| PortRequest {
        // An app that asks for any port reads its number from $PORT0.
        container: (port != 0).then_some(port),
        host: host(port),
        protocols,
        name,
    };
    let numbers = fields.array("ports", MAX_ITEMS)?;
    let objects = fields.objects("portDefinitions", MAX_ITEMS)?;
    match (numbers, objects) {
        // Marathon's API gives both, and they agree.
        (_, Some(objects)) => {
            let mut ports = Vec::with_capacity(objects.len());
            for mut object in objects {
                let port = object.port("port")?.unwrap_or(0);
                let protocols = protocols(&mut object)?;
                let name = name(&mut object)?;
                let _ = object.string_map("labels")?;
                object.end()?;
                ports.push(request(port, protocols, name));
            }
            Ok(Some(("portDefinitions", ports)))
        }
        (Some(numbers), None) => {
            let mut ports = Vec::with_capacity(numbers.len());
            for (path, value) in numbers {
                let port = value
                    .as_u64()
                    .and_then(|number| u16::try_from(number).ok())
                    .ok_or_else(|| invalid(&path, "a port from 0 to 65535", &value))?;
                ports.push(request(port, vec![Protocol::Tcp], None));
            }
            Ok(Some(("ports", ports)))
        }
        (None, None) => Ok(None),
    }
}

/// `portMappings`, with its path. A mapping without host port stays unmapped.
pub(super) fn mappings(fields: &mut Fields) -> Result<Option<(String, Vec<PortRequest>)>> {
    let path = fields.path("portMappings");
    let Some(objects) = fields.objects("portMappings", MAX_ITEMS)? else {
        return Ok(None);
    };
    let mut ports = Vec::with_capacity(objects.len());
    for mut object in objects {
        let container = object.port("containerPort")?.unwrap_or(0);
        let host = match object.port("hostPort")? {
            None => HostPort::Unmapped,
            Some(0) => HostPort::Any,
            Some(port) => HostPort::Fixed(port),
        };
        // A service port is a number for load balancers of a cluster.
        let _ = object.port("servicePort")?;
        let protocols = protocols(&mut object)?;
        let name = name(&mut object)?;
        let _ = object.string_map("labels")?;
        let _ = object.strings("networkNames", MAX_ITEMS)?;
        object.end()?;
        ports.push(PortRequest {
            container: (container != 0).then_some(container),
            host,
            protocols,
            name,
        });
    }
    Ok(Some((path, ports)))
}

/// `tcp` (the default), `udp`, or both with a comma.
fn protocols(object: &mut Fields) -> Result<Vec<Protocol>> {
    let Some(text) = object.string("protocol")? else {
        return Ok(vec![Protocol::Tcp]);
    };
    let mut protocols = Vec::new();
    for part in text.split(',') {
        protocols.push(match part {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => {
                return Err(invalid(
                    &object.path("protocol"),
                    "\"tcp\", \"udp\" or \"udp,tcp\"",
                    &Value::String(text),
                ));
            }
        });
    }
    protocols.sort_unstable();
    protocols.dedup();
    Ok(protocols)
}

/// A port's name becomes part of a variable's.
fn name(object: &mut Fields) -> Result<Option<String>> {
    let Some(name) = object.string("name")? else {
        return Ok(None);
    };
    let valid = !name.is_empty()
        && name.len() <= 255
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if valid {
        Ok(Some(name))
    } else {
        Err(invalid(
            &object.path("name"),
            "a port name of letters, digits, dashes and underscores",
            &Value::String(name),
        ))
    }
}
