//! What a client is told without asking twice: events, statistics and metrics.

use crate::support::calls::{Pod, refusal};
use crate::support::case::cases;
use crate::support::outcome::{check, check_contains, check_eq};
use crate::support::requests::{self, mount, pod, script, sleeper};
use crate::support::{Case, Node, Outcome};
use insula_cri_api::v1::{
    ContainerEventResponse, ContainerEventType, ContainerMetadata, ContainerState, ContainerStats,
    ContainerStatsFilter, ContainerStatsRequest, ContainerStatus, GetEventsRequest,
    ListContainerStatsRequest, ListMetricDescriptorsRequest, ListPodSandboxMetricsRequest, Metric,
    PodSandboxMetrics, PodSandboxState, PodSandboxStatsRequest, PodSandboxStatusRequest,
    UInt64Value,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tonic::Streaming;

pub fn cases() -> Vec<Case> {
    cases![
        events_tell_a_whole_life_in_order,
        events_of_adopted_pods_are_told,
        the_newest_container_comes_first,
        statistics_are_of_the_whole_pod in cgroup,
        every_metric_is_declared_and_measured in cgroup,
        the_doctor_tells_of_pressure in cgroup,
    ]
}

/// How long an event, or a figure that follows, may take.
const PATIENCE: Duration = Duration::from_secs(30);

async fn listen(node: &Node) -> Outcome<Streaming<ContainerEventResponse>> {
    let mut runtime = node.runtime()?;
    // The answer's head comes when the daemon listens, so nothing is missed.
    let answer = runtime.get_container_events(GetEventsRequest {}).await?;
    Ok(answer.into_inner())
}

/// Events until one of this kind is told of this subject.
async fn until(
    stream: &mut Streaming<ContainerEventResponse>,
    subject: &str,
    kind: ContainerEventType,
) -> Outcome<Vec<ContainerEventResponse>> {
    let mut heard: Vec<ContainerEventResponse> = Vec::new();
    loop {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await;
        let event = match next {
            Err(_) => return Err(format!("{kind:?} of {subject} was not told: {heard:?}").into()),
            Ok(event) => event?.ok_or("the stream of events ended")?,
        };
        let last = event.container_id == subject && event.container_event_type() == kind;
        heard.push(event);
        if last {
            return Ok(heard);
        }
    }
}

/// What an event is about, in a word: its kind, and the states that it carries.
fn word(event: &ContainerEventResponse, pod: &Pod) -> Outcome<String> {
    let status = event.pod_sandbox_status.as_ref();
    let status = status.ok_or_else(|| format!("an event without its pod: {event:?}"))?;
    check_eq!(status.id, pod.id, "pod of an event");
    let name = status.metadata.as_ref().map(|metadata| &metadata.name);
    let wanted = pod.config.metadata.as_ref().map(|metadata| &metadata.name);
    check_eq!(name, wanted, "name of an event's pod");
    let containers: Vec<String> = event
        .containers_statuses
        .iter()
        .map(|container| format!("{:?}", container.state()))
        .collect();
    let subject = if event.container_id == pod.id {
        "pod"
    } else {
        "container"
    };
    let ready = match status.state() {
        PodSandboxState::SandboxReady => "ready",
        PodSandboxState::SandboxNotready => "not ready",
    };
    Ok(format!(
        "{subject} {:?}, {ready}, {}",
        event.container_event_type(),
        containers.join(" ")
    ))
}

async fn events_tell_a_whole_life_in_order(node: &mut Node) -> Outcome {
    node.pull(requests::BUSYBOX).await?;
    let (mut one, mut other) = (listen(node).await?, listen(node).await?);
    let pod = node.run_pod(pod("events")).await?;
    let (status, _) = node.finish(&pod, script("main", "exit 7")).await?;
    node.remove(&status.id).await?;
    node.stop_pod(&pod.id).await?;
    node.remove_pod(&pod.id).await?;
    let heard = until(&mut one, &pod.id, ContainerEventType::ContainerDeletedEvent).await?;
    let words: Vec<_> = heard
        .iter()
        .map(|event| word(event, &pod))
        .collect::<Outcome<_>>()?;
    check_eq!(
        words,
        [
            "pod ContainerCreatedEvent, ready, ",
            "pod ContainerStartedEvent, ready, ",
            "container ContainerCreatedEvent, ready, ContainerCreated",
            "container ContainerStartedEvent, ready, ContainerRunning",
            "container ContainerStoppedEvent, ready, ContainerExited",
            "container ContainerDeletedEvent, ready, ",
            "pod ContainerStoppedEvent, not ready, ",
            "pod ContainerDeletedEvent, not ready, ",
        ],
        "events"
    );
    let ended = heard[4].containers_statuses.first();
    let ended = ended.ok_or("the end of a container is told without it")?;
    check_eq!(
        (ended.id.as_str(), ended.exit_code, ended.reason.as_str()),
        (status.id.as_str(), 7, "Error"),
        "the end of the container"
    );
    check!(
        heard
            .windows(2)
            .all(|two| two[0].created_at < two[1].created_at),
        "times do not grow: {heard:?}"
    );
    // Who else listens hears the same.
    let again = until(
        &mut other,
        &pod.id,
        ContainerEventType::ContainerDeletedEvent,
    )
    .await?;
    check_eq!(again, heard, "events of another client");
    Ok(())
}

async fn events_of_adopted_pods_are_told(node: &mut Node) -> Outcome {
    let pod = node.run_pod(pod("adopted")).await?;
    let id = node.run(&pod, sleeper("main")).await?;
    node.restart().await?;
    let mut stream = listen(node).await?;
    node.stop(&id, 5).await?;
    let heard = until(&mut stream, &id, ContainerEventType::ContainerStoppedEvent).await?;
    // What is on record is not told again.
    check_eq!(heard.len(), 1, "events before the end: {heard:?}");
    let state = heard[0].containers_statuses.first();
    check_eq!(
        state.map(ContainerStatus::state),
        Some(ContainerState::ContainerExited),
        "state of the container"
    );
    Ok(())
}

/// kubelet with EventedPLEG takes the first of a name for the current one.
async fn the_newest_container_comes_first(node: &mut Node) -> Outcome {
    const ATTEMPTS: u32 = 5;
    let mut stream = listen(node).await?;
    let pod = node.run_pod(pod("attempts")).await?;
    let mut last = String::new();
    for attempt in 0..ATTEMPTS {
        let mut config = script("main", "exit 1");
        config.metadata = Some(ContainerMetadata {
            name: "main".to_owned(),
            attempt,
        });
        last = node.finish(&pod, config).await?.0.id;
    }
    let newest_first: Vec<u32> = (0..ATTEMPTS).rev().collect();
    let request = PodSandboxStatusRequest {
        pod_sandbox_id: pod.id.clone(),
        verbose: false,
    };
    let answer = node.runtime()?.pod_sandbox_status(request).await?;
    check_eq!(
        attempts(&answer.into_inner().containers_statuses),
        newest_first,
        "containers in the pod's status"
    );
    let heard = until(
        &mut stream,
        &last,
        ContainerEventType::ContainerStoppedEvent,
    )
    .await?;
    let event = heard.last().ok_or("no event was told")?;
    check_eq!(
        attempts(&event.containers_statuses),
        newest_first,
        "containers in an event"
    );
    Ok(())
}

fn attempts(containers: &[ContainerStatus]) -> Vec<u32> {
    containers
        .iter()
        .filter_map(|container| container.metadata.as_ref())
        .map(|metadata| metadata.attempt)
        .collect()
}

fn of(value: Option<UInt64Value>) -> u64 {
    value.map_or(0, |value| value.value)
}

/// Whether this kernel says how long cgroups wait.
fn pressure_is_known() -> bool {
    std::fs::read_to_string("/proc/pressure/cpu").is_ok()
}

fn check_container(stats: &ContainerStats, id: &str) -> Outcome {
    let attributes = stats.attributes.clone().ok_or("no attributes")?;
    check_eq!(attributes.id, id, "container");
    let (cpu, memory) = (
        stats.cpu.ok_or("no processor time")?,
        stats.memory.ok_or("no memory")?,
    );
    check!(of(cpu.usage_core_nano_seconds) > 0, "no processor time");
    check!(
        of(memory.usage_bytes) >= of(memory.working_set_bytes) && of(memory.rss_bytes) >= 20 << 20,
        "memory: {memory:?}"
    );
    let left = (128_u64 << 20) - of(memory.working_set_bytes);
    check_eq!(of(memory.available_bytes), left, "memory until the limit");
    check!(of(memory.page_faults) > 0, "no page faults: {memory:?}");
    let io = stats.io.ok_or("no disk")?;
    for (pressure, what) in [
        (cpu.psi, "processor"),
        (memory.psi, "memory"),
        (io.psi, "disk"),
    ] {
        check_eq!(
            pressure.is_some(),
            pressure_is_known(),
            "pressure on the {what}"
        );
    }
    let swap = stats.swap.ok_or("no swap")?;
    check_eq!(of(swap.swap_usage_bytes), 0, "swap in use");
    Ok(())
}

/// A pod that uses a little of everything.
async fn busy(node: &Node) -> Outcome<(Pod, String)> {
    let pod = node.run_pod(pod("busy")).await?;
    let mut config = script("main", "/programs/memory 20 hold & exec sleep 7777");
    config.labels = [("which".to_owned(), "busy".to_owned())].into();
    mount(&mut config, &node.world.programs, "/programs");
    let resources = requests::resources(&mut config);
    resources.memory_limit_in_bytes = 128 << 20;
    resources.cpu_quota = 200_000;
    resources.cpu_period = 100_000;
    let id = node.run(&pod, config).await?;
    node.wait_for_output(&id, "took").await?;
    node.run(&pod, sleeper("beside")).await?;
    Ok((pod, id))
}

async fn statistics_are_of_the_whole_pod(node: &mut Node) -> Outcome {
    let (pod, id) = busy(node).await?;
    let request = ListContainerStatsRequest {
        filter: Some(ContainerStatsFilter {
            pod_sandbox_id: pod.id.clone(),
            label_selector: [("which".to_owned(), "busy".to_owned())].into(),
            ..ContainerStatsFilter::default()
        }),
    };
    let listed = node.runtime()?.list_container_stats(request).await?;
    let listed = listed.into_inner().stats;
    check_eq!(listed.len(), 1, "containers with that label");
    check_container(&listed[0], &id)?;

    let begun = Instant::now();
    loop {
        let request = PodSandboxStatsRequest {
            pod_sandbox_id: pod.id.clone(),
        };
        let answer = node.runtime()?.pod_sandbox_stats(request).await?;
        let stats = answer.into_inner().stats.ok_or("no statistics")?;
        let linux = stats.linux.ok_or("no statistics of Linux")?;
        check_eq!(linux.containers.len(), 2, "containers of the pod");
        let main = linux.containers.iter().find(|stats| {
            let attributes = stats.attributes.as_ref();
            attributes.is_some_and(|attributes| attributes.id == id)
        });
        check_container(main.ok_or("the container is missing")?, &id)?;
        let processes = linux.process.map_or(0, |usage| of(usage.process_count));
        let memory = linux.memory.ok_or("no memory of the pod")?;
        check!(
            of(memory.working_set_bytes) > 20 << 20,
            "memory of the pod: {memory:?}"
        );
        let network = linux.network.ok_or("no network of the pod")?;
        let names: Vec<_> = network.interfaces.iter().map(|one| &*one.name).collect();
        let own = network.default_interface.ok_or("no interface")?;
        check!(
            own.name == "eth0" && names == ["lo"],
            "interfaces: {own:?}, {names:?}"
        );
        let (received, sent) = (of(own.rx_bytes), of(own.tx_bytes));
        // Two of one, the shell and its sleep of the other, once both have begun.
        if received > 0 && sent >= 3 * 1028 && processes == 4 {
            break;
        }
        check!(
            begun.elapsed() < PATIENCE,
            "{received} and {sent} bytes, {processes} processes"
        );
        let gateway = format!("ping -c 3 -s 1000 -W 2 {}1", node.network.prefix());
        node.shell(&id, &gateway).await?;
    }
    node.stop(&id, 0).await?;
    let request = ContainerStatsRequest {
        container_id: "0".repeat(64),
    };
    let refused = refusal(node.runtime()?.container_stats(request).await)?;
    check_contains!(refused, "NotFound: container");
    Ok(())
}

async fn metrics(node: &Node, pod: &Pod) -> Outcome<PodSandboxMetrics> {
    let request = ListPodSandboxMetricsRequest {};
    let answer = node.runtime()?.list_pod_sandbox_metrics(request).await?;
    let all = answer.into_inner().pod_metrics;
    let own = all.into_iter().find(|own| own.pod_sandbox_id == pod.id);
    Ok(own.ok_or("the pod has no metrics")?)
}

/// The values of a metric by its last label.
fn values(metrics: &[Metric], name: &str) -> BTreeMap<String, u64> {
    metrics
        .iter()
        .filter(|metric| metric.name == name)
        .map(|metric| {
            let label = metric.label_values.last().cloned().unwrap_or_default();
            (label, of(metric.value))
        })
        .collect()
}

async fn every_metric_is_declared_and_measured(node: &mut Node) -> Outcome {
    let (pod, id) = busy(node).await?;
    let declared = node
        .runtime()?
        .list_metric_descriptors(ListMetricDescriptorsRequest {})
        .await?
        .into_inner()
        .descriptors;
    let mut labels = BTreeMap::new();
    for descriptor in declared {
        check!(!descriptor.help.is_empty(), "no help: {descriptor:?}");
        let twice = labels.insert(descriptor.name, descriptor.label_keys);
        check_eq!(twice, None, "declared twice");
    }
    let pressure = labels.keys().any(|name| name.contains("pressure"));
    check_eq!(pressure, pressure_is_known(), "pressure is declared");

    let measured = metrics(node, &pod).await?;
    let own = measured
        .container_metrics
        .iter()
        .find(|own| own.container_id == id)
        .ok_or("the container has no metrics")?;
    let mut seen = BTreeSet::new();
    for metric in measured.metrics.iter().chain(&own.metrics) {
        let keys = labels.get(&metric.name);
        let keys = keys.ok_or_else(|| format!("{} is not declared", metric.name))?;
        check_eq!(metric.label_values.len(), keys.len(), "labels: {metric:?}");
        check_eq!(keys[..2], ["pod", "namespace"], "labels of {}", metric.name);
        check_eq!(metric.label_values[..2], ["busy", "e2e"], "{metric:?}");
        check!(metric.value.is_some(), "no value: {metric:?}");
        seen.insert(metric.name.clone());
    }
    // Those of a disk need a disk that was used, others are always there.
    let missing: Vec<_> = labels
        .keys()
        .filter(|name| !seen.contains(*name))
        .filter(|name| !name.starts_with("container_blkio_") && !name.starts_with("container_fs_"))
        .collect();
    check!(missing.is_empty(), "declared and not measured: {missing:?}");

    let one = |name: &str| values(&own.metrics, name).into_values().next();
    check_eq!(
        (
            one("container_spec_memory_limit_bytes"),
            one("container_spec_cpu_quota"),
            one("container_processes"),
            one("container_oom_events_total")
        ),
        (Some(128 << 20), Some(200_000), Some(2), Some(0)),
        "limits, processes, kills"
    );
    check!(
        one("container_memory_rss").is_some_and(|bytes| bytes >= 20 << 20),
        "memory: {:?}",
        one("container_memory_rss")
    );
    let received = values(&measured.metrics, "container_network_receive_bytes_total");
    check!(received.contains_key("eth0"), "interfaces: {received:?}");
    // One is killed: counted once, and only there.
    let kill = "echo 1000 > /proc/self/oom_score_adj; /programs/memory 200";
    let ran = node.exec(&id, &["sh", "-c", kill]).await?;
    check_eq!(ran.code, 137, "end of a process that takes too much");
    let after = metrics(node, &pod).await?;
    let kills: BTreeMap<_, _> = after
        .container_metrics
        .iter()
        .map(|own| {
            let kills = values(&own.metrics, "container_oom_events_total");
            (own.container_id == id, kills.into_values().sum::<u64>())
        })
        .collect();
    check_eq!(kills, [(true, 1), (false, 0)].into(), "kills by container");
    Ok(())
}

async fn the_doctor_tells_of_pressure(node: &mut Node) -> Outcome {
    let report = node.insula(&["--output=json", "doctor"], 0).await?;
    let report: serde_json::Value = serde_json::from_str(&report)?;
    let rows = report["doctor"].as_array().ok_or("no rows")?;
    let row = rows
        .iter()
        .find(|row| row["name"] == "pressure stall information")
        .ok_or_else(|| format!("no row of pressure: {report}"))?;
    let state = if pressure_is_known() { "ok" } else { "warning" };
    check_eq!(row["state"], state, "{row}");
    let said = row["lost"].as_str().unwrap_or_default();
    check_eq!(said.contains("psi=1"), state == "warning", "{row}");
    Ok(())
}
