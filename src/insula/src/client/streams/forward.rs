//! `insula port-forward`.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::rc::Rc;

use futures_util::future::select_all;
use insula_cri_api::v1::PortForwardRequest;
use insula_streaming::client::{self, Port, Ports};
use tokio::io::{AsyncReadExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use crate::cli::{PortForward, PortPair};
use crate::client::Outcome;
use crate::client::connection::{QUESTION, answer};
use crate::client::error::ClientError;
use crate::client::names::Inventory;
use crate::client::output::say;
use crate::client::session::Session;

/// Forwards until Ctrl-C, or until the pod ends.
pub(crate) async fn port_forward(session: &Session, args: &PortForward) -> Outcome {
    let inventory = Inventory::load(&session.client).await?;
    let pod_sandbox_id = inventory.pod(&args.name)?.to_owned();
    let doing = format!("forward ports of {}", args.name);
    let request = PortForwardRequest {
        pod_sandbox_id,
        port: Vec::new(),
    };
    let mut runtime = session.client.runtime();
    let url = answer(&doing, QUESTION, runtime.port_forward(request)).await?;
    let certificate = super::certificate(session, &doing, &url.url).await?;
    let ports = client::ports(&url.url, certificate)
        .await
        .map_err(|source| ClientError::Streams {
            doing: doing.clone(),
            source,
        })?;
    let mut listeners = Vec::new();
    for pair in &args.ports {
        listeners.push((listen(*pair).await?, pair.remote));
    }
    let ports = Rc::new(ports);
    let accepting = listeners
        .into_iter()
        .map(|(listener, remote)| Box::pin(accept(listener, remote, Rc::clone(&ports))));
    let forwarding = LocalSet::new();
    let ended = forwarding.run_until(async {
        tokio::select! {
            why = ports.closed() => Err(ClientError::Usage(format!("cannot {doing} any longer: {why}"))),
            _ = tokio::signal::ctrl_c() => Ok(ExitCode::SUCCESS),
            (error, ..) = select_all(accepting) => Err(error),
        }
    });
    ended.await
}

async fn listen(pair: PortPair) -> Result<TcpListener, ClientError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, pair.local));
    let failed = ClientError::file(format!("listen on {address}"));
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(ClientError::file("listen"))?;
    say(&format!("{address} leads to port {}", pair.remote));
    Ok(listener)
}

/// Serves the clients of one port; comes back when no more can be taken.
async fn accept(listener: TcpListener, remote: u16, ports: Rc<Ports>) -> ClientError {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => return ClientError::file("take a connection")(error),
        };
        let ports = Rc::clone(&ports);
        tokio::task::spawn_local(async move {
            match ports.open(remote).await {
                Ok(port) => serve(stream, port).await,
                Err(error) => say(&format!("port {remote}: {error}")),
            }
        });
    }
}

async fn serve(mut stream: TcpStream, port: Port) {
    let Port {
        mut data,
        mut error,
    } = port;
    let copying = async {
        // Either side may go away at any time; that is how connections end.
        let _ = copy_bidirectional(&mut stream, &mut data).await;
    };
    let complaint = async {
        let mut text = String::new();
        match error.read_to_string(&mut text).await {
            Ok(1..) => say(text.trim_end()),
            // It has nothing to say: the data decide when this is over.
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        () = copying => {}
        () = complaint => {}
    }
}
