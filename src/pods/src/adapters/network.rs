//! The CNI runtime.

use crate::error::{Cause, Error, Result};
use crate::ids::PodId;
use crate::ports::{Attachment, PodNetwork};
use crate::status::Condition;
use futures_util::future::{BoxFuture, FutureExt as _};
use insula_isolators::spec::{PodSpec, PortProtocol};
use insula_network::{Bandwidth, Dns, Network, PodIdentity, PortMapping, Protocol};
use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

impl PodNetwork for Network {
    fn attach<'a>(&'a self, pod: &'a Attachment) -> BoxFuture<'a, Result<Vec<IpAddr>>> {
        async move {
            let attached = Network::attach(self, attachment(pod)?)
                .await
                .map_err(|error| failed("attach the pod to the network", error))?;
            for plugin in &attached.plugin_times {
                tracing::debug!(pod = %pod.pod, ?plugin, "CNI plugin ran");
            }
            Ok(attached.ips)
        }
        .boxed()
    }

    fn detach<'a>(
        &'a self,
        pod: &'a PodId,
        namespace: &'a std::path::Path,
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            Network::detach(self, pod.as_str(), Some(namespace))
                .await
                .map_err(|error| failed("detach the pod from the network", error))
        }
        .boxed()
    }

    fn sweep<'a>(&'a self, keep: &'a BTreeSet<PodId>) -> BoxFuture<'a, Result<u64>> {
        async move {
            let valid: HashSet<String> = keep.iter().map(PodId::to_string).collect();
            let report = self
                .gc(&valid)
                .await
                .map_err(|error| failed("look for leftover network attachments", error))?;
            for (what, error) in &report.failed {
                tracing::warn!(what, %error, "a leftover network attachment cannot be removed");
            }
            Ok(report.removed.len() as u64)
        }
        .boxed()
    }

    fn condition(&self) -> BoxFuture<'_, Condition> {
        async move {
            let status = self.status().await;
            if status.is_ready() {
                Condition::holds()
            } else {
                Condition::fails(status.reason(), status.message())
            }
        }
        .boxed()
    }

    fn set_pod_cidr<'a>(&'a self, cidr: &'a str) -> BoxFuture<'a, Result<()>> {
        async move {
            self.set_pod_cidrs(cidr)
                .await
                .map_err(|error| failed("set the pods' address ranges", error))
        }
        .boxed()
    }
}

fn attachment(pod: &Attachment) -> Result<insula_network::Attachment> {
    let spec = &pod.spec;
    Ok(insula_network::Attachment {
        container_id: pod.pod.to_string(),
        netns: pod.namespace.clone(),
        pod: PodIdentity {
            namespace: spec.metadata.namespace.clone(),
            name: spec.metadata.name.clone(),
            uid: spec.metadata.uid.clone(),
        },
        port_mappings: port_mappings(spec)?,
        bandwidth: Bandwidth::from_annotations(&spec.annotations)
            .map_err(|error| failed("read the pod's bandwidth", error))?,
        dns: spec.dns.as_ref().map(|dns| Dns {
            servers: dns.servers.clone(),
            searches: dns.searches.clone(),
            options: dns.options.clone(),
        }),
        cgroup_path: Some(format!("/{}", pod.cgroup_path)),
        annotations: spec.annotations.clone(),
    })
}

fn port_mappings(spec: &PodSpec) -> Result<Vec<PortMapping>> {
    spec.port_mappings
        .iter()
        .filter(|mapping| mapping.host_port != 0)
        .map(|mapping| {
            let host_ip = match mapping.host_ip.as_str() {
                "" => None,
                text => Some(text.parse().map_err(|_| {
                    Error::InvalidArgument(format!(
                        "the host address {text:?} of host port {} is no IP address",
                        mapping.host_port
                    ))
                })?),
            };
            Ok(PortMapping {
                host_port: mapping.host_port,
                container_port: mapping.container_port,
                protocol: match mapping.protocol {
                    PortProtocol::Tcp => Protocol::Tcp,
                    PortProtocol::Udp => Protocol::Udp,
                    PortProtocol::Sctp => Protocol::Sctp,
                },
                host_ip,
            })
        })
        .collect()
}

fn failed(stage: &'static str, error: insula_network::Error) -> Error {
    match error {
        insula_network::Error::InvalidAttachment(why) => Error::InvalidArgument(why),
        other => Error::Network {
            stage,
            source: Cause::new(other),
        },
    }
}
