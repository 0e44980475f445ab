//! Exec, attach and port-forward: requests that become URLs.

use crate::convert::{Rejected, arguments, id};
use crate::errors::Error;
use crate::service::Service;
use insula_cri_api::v1::{
    AttachRequest, AttachResponse, ExecRequest, ExecResponse, PortForwardRequest,
    PortForwardResponse,
};
use insula_streaming::{ForwardRequest, Streams};

/// Most ports in one request. Only old WebSocket clients need any.
const PORTS_MAX: usize = 64;

/// A URL at which a client finds the streams of a command.
pub(super) async fn exec(service: &Service, asked: ExecRequest) -> Result<ExecResponse, Error> {
    let container = id(asked.container_id, "container_id")?;
    let command = arguments(asked.cmd, "cmd")?;
    if command.is_empty() {
        return Err(Rejected::invalid("cmd", "is empty").into());
    }
    let streams = streams(Streams {
        stdin: asked.stdin,
        stdout: asked.stdout,
        stderr: asked.stderr,
        terminal: asked.tty,
    })?;
    service.pods().check_exec(&container).await?;
    let url = service.sessions().exec(insula_streaming::ExecRequest {
        container,
        command,
        streams,
    })?;
    Ok(ExecResponse { url })
}

/// A URL at which a client finds the streams of a container.
pub(super) async fn attach(
    service: &Service,
    asked: AttachRequest,
) -> Result<AttachResponse, Error> {
    let container = id(asked.container_id, "container_id")?;
    let streams = streams(Streams {
        stdin: asked.stdin,
        stdout: asked.stdout,
        stderr: asked.stderr,
        terminal: asked.tty,
    })?;
    service.pods().check_attach(&container).await?;
    let url = service
        .sessions()
        .attach(insula_streaming::AttachRequest { container, streams })?;
    Ok(AttachResponse { url })
}

/// A URL at which a client can reach the ports of a pod.
pub(super) async fn port_forward(
    service: &Service,
    asked: PortForwardRequest,
) -> Result<PortForwardResponse, Error> {
    let pod = id(asked.pod_sandbox_id, "pod_sandbox_id")?;
    let ports = ports(&asked.port)?;
    service.pods().check_port_forward(&pod).await?;
    let url = service
        .sessions()
        .port_forward(ForwardRequest { pod, ports })?;
    Ok(PortForwardResponse { url })
}

/// The comments of the interface forbid these two combinations.
fn streams(streams: Streams) -> Result<Streams, Rejected> {
    if streams.terminal && streams.stderr {
        return Err(Rejected::invalid(
            "stderr",
            "a terminal has no standard error of its own: tty and stderr cannot both be true",
        ));
    }
    if !(streams.stdin || streams.stdout || streams.stderr) {
        return Err(Rejected::invalid(
            "stdin",
            "one of stdin, stdout and stderr has to be true",
        ));
    }
    Ok(streams)
}

fn ports(asked: &[i32]) -> Result<Vec<u16>, Rejected> {
    if asked.len() > PORTS_MAX {
        return Err(Rejected::invalid(
            "port",
            format!(
                "names {} ports, at most {PORTS_MAX} are allowed",
                asked.len()
            ),
        ));
    }
    let port = |(index, port): (usize, &i32)| {
        u16::try_from(*port)
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| {
                Rejected::invalid(
                    format!("port[{index}]"),
                    format!("{port} is not a port: 1 to 65535"),
                )
            })
    };
    asked.iter().enumerate().map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::{PORTS_MAX, ports, streams};
    use insula_streaming::Streams;

    #[test]
    fn streams_that_cannot_be_are_refused() {
        for ((stdin, stdout, stderr, terminal), want) in [
            ((true, false, false, false), None),
            ((false, true, true, false), None),
            ((true, true, false, true), None),
            ((true, true, true, true), Some("stderr: ")),
            ((false, false, false, false), Some("stdin: ")),
            ((false, false, false, true), Some("stdin: ")),
        ] {
            let asked = Streams {
                stdin,
                stdout,
                stderr,
                terminal,
            };
            match (streams(asked), want) {
                (Ok(found), None) => assert_eq!(found, asked),
                (Err(rejected), Some(field)) => {
                    assert!(rejected.to_string().starts_with(field), "{rejected}");
                }
                (found, _) => panic!("{asked:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn ports_are_numbers_of_two_bytes() {
        assert_eq!(ports(&[]), Ok(vec![]));
        assert_eq!(ports(&[1, 65535]), Ok(vec![1, 65535]));
        for wrong in [0, -1, 65536] {
            let rejected = ports(&[80, wrong]).unwrap_err();
            let want = format!("port[1]: {wrong} is not a port: 1 to 65535");
            assert_eq!(rejected.to_string(), want);
        }
        assert!(ports(&[1; PORTS_MAX + 1]).is_err());
    }
}
