//! Port-forward over its URL, as kubelet's client speaks.

use super::streaming::in_time;
use crate::support::calls::Pod;
use crate::support::case::cases;
use crate::support::outcome::{check_contains, check_eq};
use crate::support::requests::{host_pod, pod, script};
use crate::support::{Case, Node, Outcome, skip};
use insula_cri_api::v1::PortForwardRequest;
use insula_streaming::client::{self, Ports};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

pub fn cases() -> Vec<Case> {
    cases![
        many_connections_are_forwarded_at_once,
        both_loopbacks_of_a_pod_are_reached,
        ports_of_the_node_are_forwarded_for_a_pod_in_its_network,
    ]
}

/// How many connections are open at the same time.
const MANY: usize = 200;

async fn forward(node: &Node, pod: &Pod) -> Outcome<Ports> {
    let request = PortForwardRequest {
        pod_sandbox_id: pod.id.clone(),
        port: vec![],
    };
    let url = node
        .runtime()?
        .port_forward(request)
        .await?
        .into_inner()
        .url;
    in_time("open a forward", async {
        Ok(client::ports(&url, None).await?)
    })
    .await
}

/// A server in a container that sends back what it hears.
async fn echo(node: &Node, pod: &Pod, listen: &str) -> Outcome<String> {
    let id = node
        .run(pod, script("echo", &format!("nc {listen} -lk -e cat")))
        .await?;
    Ok(id)
}

/// Says something to a port and hears it back; the server may need a moment.
async fn heard(ports: &Ports, port: u16, words: &str) -> Outcome<String> {
    let begun = Instant::now();
    loop {
        let mut connection = ports.open(port).await?;
        let answer = in_time("use a forwarded connection", async {
            let said = async {
                connection.data.write_all(words.as_bytes()).await?;
                connection.data.shutdown().await?;
                let mut answer = String::new();
                connection.data.read_to_string(&mut answer).await?;
                std::io::Result::Ok(answer)
            };
            let answer = said.await;
            let mut error = String::new();
            // Reset where there is nothing to say.
            let _ = connection.error.read_to_string(&mut error).await;
            Ok((answer, error))
        });
        match answer.await? {
            (Ok(answer), error) if error.is_empty() => return Ok(answer),
            (answer, error) if begun.elapsed() > Duration::from_secs(20) => {
                return Err(format!("port {port}: {answer:?}, {error:?}").into());
            }
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// A listener of this process on the loopback of a pod's network.
async fn listener_in(node: &Node, pod: &Pod) -> Outcome<TcpListener> {
    let namespace = std::fs::File::open(node.path("state/netns").join(&pod.id))?;
    // A thread that enters the namespace and ends there.
    let inside = tokio::task::spawn_blocking(move || {
        let made = std::thread::spawn(move || -> std::io::Result<std::net::TcpListener> {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        });
        made.join()
            .unwrap_or_else(|_| Err(std::io::Error::other("the thread broke off")))
    });
    let listener = inside.await??;
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener)?)
}

/// Sends back what it hears, to any number of clients at a time. busybox has no such server.
fn serve(listener: TcpListener) {
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
}

async fn many_connections_are_forwarded_at_once(node: &mut Node) -> Outcome {
    for config in [pod("own"), host_pod("node")] {
        let own = !config.hostname.is_empty();
        let pod = node.run_pod(config).await?;
        let (listener, nobody) = if own {
            (
                listener_in(node, &pod).await?,
                listener_in(node, &pod).await?,
            )
        } else {
            (
                TcpListener::bind("127.0.0.1:0").await?,
                TcpListener::bind("127.0.0.1:0").await?,
            )
        };
        let (port, unused) = (listener.local_addr()?.port(), nobody.local_addr()?.port());
        drop(nobody);
        serve(listener);
        many(node, &pod, port, unused).await?;
    }
    Ok(())
}

async fn many(node: &Node, pod: &Pod, port: u16, unused: u16) -> Outcome {
    let ports = forward(node, pod).await?;
    check_eq!(
        heard(&ports, port, "ready").await?,
        "ready",
        "the first answer"
    );
    let mut open = Vec::new();
    for _ in 0..MANY {
        open.push(ports.open(port).await?);
    }
    // All of them are open before the first is used.
    for (number, connection) in open.iter_mut().enumerate() {
        connection
            .data
            .write_all(format!("number {number}\n").as_bytes())
            .await?;
    }
    for (number, connection) in open.iter_mut().enumerate() {
        let want = format!("number {number}\n");
        let mut answer = vec![0; want.len()];
        in_time("hear one of many", async {
            Ok(connection.data.read_exact(&mut answer).await?)
        })
        .await?;
        check_eq!(
            String::from_utf8_lossy(&answer),
            want,
            "what connection {number} hears"
        );
    }
    drop(open);
    // A port that nobody listens on does no harm to the others.
    let mut nobody = ports.open(unused).await?;
    let mut error = String::new();
    in_time("hear that nobody listens", async {
        Ok(nobody.error.read_to_string(&mut error).await?)
    })
    .await?;
    check_contains!(error, unused.to_string());
    check_eq!(
        heard(&ports, port, "still").await?,
        "still",
        "after an error"
    );
    // The end of the pod is the end of its forwards.
    node.stop_pod(&pod.id).await?;
    in_time("wait for the end of the forwards", async {
        ports.closed().await;
        Ok(())
    })
    .await
}

pub(super) async fn both_loopbacks_of_a_pod_are_reached(node: &mut Node) -> Outcome {
    let pod = node.run_pod(pod("server")).await?;
    let id = echo(node, &pod, "-s 127.0.0.1 -p 7000").await?;
    let ports = forward(node, &pod).await?;
    check_eq!(heard(&ports, 7000, "four").await?, "four", "over IPv4");
    let has = node
        .exec(
            &id,
            &["sh", "-c", "grep -q '^0\\{31\\}1' /proc/net/if_inet6"],
        )
        .await?;
    if has.code != 0 {
        return skip("this kernel gives pods no IPv6 loopback");
    }
    let six = script("six", "nc -s ::1 -p 7006 -lk -e cat");
    node.run(&pod, six).await?;
    check_eq!(heard(&ports, 7006, "six").await?, "six", "over IPv6");
    Ok(())
}

async fn ports_of_the_node_are_forwarded_for_a_pod_in_its_network(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("host")).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut heard = Vec::new();
            if stream.read_to_end(&mut heard).await.is_ok() {
                let _ = stream.write_all(&heard).await;
            }
        }
    });
    let ports = forward(node, &pod).await?;
    let answer = heard(&ports, port, "node").await;
    serving.abort();
    check_eq!(answer?, "node", "what the node answers");
    Ok(())
}
