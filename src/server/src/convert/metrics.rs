//! Metrics of pods and containers under the names and labels that kubelet's
//! own cAdvisor endpoint has (KEP-2371). Values are whole numbers: seconds are
//! whole seconds.

mod families;

use insula_cri_api::v1::{
    ContainerMetrics as ContainerMessage, Metric, MetricDescriptor, MetricType, PodSandboxMetrics,
    UInt64Value,
};
use insula_isolators::details::DeviceIo;
use insula_isolators::spec::Resources;
use insula_pods::{Capacity, ContainerMetrics, Device, InterfaceUsage, Measured, PodMetrics};

use super::stats::LOOPBACK;

/// Labels of every metric, in the order of their values.
const LABELS: [&str; 5] = ["pod", "namespace", "container", "id", "image"];

/// A value, with the values of the family's own labels.
type Value = (Vec<String>, u64);

/// All metrics of one name.
struct Family {
    name: &'static str,
    help: &'static str,
    /// Beyond [`LABELS`].
    labels: &'static [&'static str],
    kind: MetricType,
    read: Read,
}

/// Where the values come from. What is not known has no sample.
enum Read {
    /// One value for each container.
    One(fn(&Source<'_>) -> Option<u64>),
    /// The same with fixed values of the family's own labels.
    Fixed(&'static [&'static str], fn(&Source<'_>) -> Option<u64>),
    /// Some values.
    Many(fn(&Source<'_>) -> Vec<Value>),
    /// One value for each block device; its name is the label.
    Device(fn(&DeviceIo) -> u64),
    /// One value for the file system of the writable layers; the label is what
    /// it lies on.
    Filesystem(fn(&Source<'_>, &Capacity) -> Option<u64>),
    /// One value for each interface of the pod; its name is the label.
    Interface(fn(&InterfaceUsage) -> u64),
}

/// What the values of a container are read from.
struct Source<'a> {
    measured: &'a Measured,
    started_at: i64,
    resources: &'a Resources,
}

/// What is declared here: each name that this host has a value for.
pub fn descriptors(measurable: &Measured) -> Vec<MetricDescriptor> {
    // As a container that runs and has a quota; what the kernel cannot measure
    // is missing from what was measured.
    let resources = Resources {
        cpu_quota: 1,
        ..Resources::default()
    };
    let source = Source {
        measured: measurable,
        started_at: measurable.timestamp,
        resources: &resources,
    };
    families::all()
        .filter(|family| {
            matches!(family.read, Read::Interface(_)) || !family.read.values(&source).is_empty()
        })
        .map(|family| MetricDescriptor {
            name: family.name.to_owned(),
            help: family.help.to_owned(),
            label_keys: LABELS
                .iter()
                .chain(family.labels)
                .map(|label| (*label).to_owned())
                .collect(),
        })
        .collect()
}

/// The samples of one pod.
pub fn pod(metrics: &PodMetrics) -> PodSandboxMetrics {
    let status = &metrics.status;
    let labels = [
        status.spec.metadata.name.clone(),
        status.spec.metadata.namespace.clone(),
        String::new(),
        status.id.to_string(),
        String::new(),
    ];
    let mut samples = Vec::new();
    for family in families::all() {
        if let Read::Interface(read) = family.read {
            // As with cAdvisor, a pod's traffic with itself is no metric.
            let seen = metrics.interfaces.iter().filter(|one| one.name != LOOPBACK);
            for interface in seen {
                let own = vec![interface.name.clone()];
                let value = read(interface);
                samples.push(family.sample(&labels, own, metrics.timestamp, value));
            }
        }
    }
    PodSandboxMetrics {
        pod_sandbox_id: status.id.to_string(),
        metrics: samples,
        container_metrics: metrics
            .containers
            .iter()
            .map(|found| container(metrics, found))
            .collect(),
    }
}

fn container(pod: &PodMetrics, found: &ContainerMetrics) -> ContainerMessage {
    let status = &found.status;
    let image = &status.spec.image;
    let image = Some(&image.user_specified_image)
        .filter(|name| !name.is_empty())
        .unwrap_or(&image.image);
    let labels = [
        pod.status.spec.metadata.name.clone(),
        pod.status.spec.metadata.namespace.clone(),
        status.spec.name.clone(),
        status.id.to_string(),
        image.clone(),
    ];
    let source = Source {
        measured: &found.measured,
        started_at: status.started_at,
        resources: &status.resources,
    };
    let timestamp = found.measured.timestamp;
    ContainerMessage {
        container_id: status.id.to_string(),
        metrics: families::all()
            .flat_map(|family| {
                let values = family.read.values(&source).into_iter();
                let sample = |(own, value)| family.sample(&labels, own, timestamp, value);
                values.map(sample).collect::<Vec<_>>()
            })
            .collect(),
    }
}

// === impl Family ===

impl Family {
    fn sample(&self, labels: &[String; 5], own: Vec<String>, timestamp: i64, value: u64) -> Metric {
        Metric {
            name: self.name.to_owned(),
            timestamp,
            metric_type: self.kind as i32,
            label_values: labels.iter().cloned().chain(own).collect(),
            value: Some(UInt64Value { value }),
        }
    }
}

// === impl Read ===

impl Read {
    /// The values of a container, with the values of the family's own labels.
    fn values(&self, source: &Source<'_>) -> Vec<Value> {
        let one = |labels: Vec<String>, value: Option<u64>| {
            value.map(|value| (labels, value)).into_iter().collect()
        };
        match self {
            Self::One(read) => one(Vec::new(), read(source)),
            Self::Fixed(labels, read) => {
                let labels = labels.iter().map(|label| (*label).to_owned());
                one(labels.collect(), read(source))
            }
            Self::Many(read) => read(source),
            Self::Device(read) => {
                let devices = source.measured.devices.iter().flatten();
                devices
                    .map(|(device, io)| (vec![device.name.clone()], read(io)))
                    .collect()
            }
            Self::Filesystem(read) => match &source.measured.capacity {
                Some(capacity) => one(vec![capacity.device.name.clone()], read(source, capacity)),
                None => Vec::new(),
            },
            Self::Interface(_) => Vec::new(),
        }
    }
}

/// The labels `device`, `major` and `minor`.
fn device_labels(device: &Device) -> Vec<String> {
    let (major, minor) = device.numbers;
    vec![device.name.clone(), major.to_string(), minor.to_string()]
}

#[cfg(test)]
mod tests;
