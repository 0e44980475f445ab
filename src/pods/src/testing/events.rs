//! What listeners are told, in which order, and what becomes of slow ones.

use super::{Bench, container_spec, pod_spec};
use crate::events::{Ended, Event, EventKind, Events, Hub, LISTENERS, QUEUE};
use crate::ids::PodId;
use crate::metrics::Metrics;
use crate::pods::Pods;
use crate::registry::Snapshot;
use crate::stats::PodMeter;
use crate::status::{ContainerState, PodState, PodStatus};
use insula_isolators::spec::ContainerSpec;
use std::sync::Arc;
use std::time::Duration;

fn spec(name: &str, command: &str) -> ContainerSpec {
    ContainerSpec {
        command: vec![command.try_into().unwrap()],
        ..container_spec(name)
    }
}

fn empty_pod() -> Snapshot {
    let pod = PodStatus {
        cgroup_path: "insula/pod".to_owned(),
        id: PodId::random().unwrap(),
        spec: Arc::new(pod_spec("web")),
        state: PodState::Ready,
        created_at: 1,
        ips: Vec::new(),
        network_namespace: None,
        supervisor: None,
        reason: String::new(),
        message: String::new(),
        resources: None,
        overhead: None,
    };
    Snapshot {
        pod: Arc::new(pod),
        containers: Vec::new(),
        meter: Arc::new(PodMeter::new(String::new())),
    }
}

async fn take(events: &mut Events, count: usize) -> Vec<Event> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(10), events.next()).await;
        taken.push(next.expect("an event comes in time").unwrap());
    }
    taken
}

async fn none_waits(events: &mut Events) {
    let next = tokio::time::timeout(Duration::from_millis(20), events.next()).await;
    assert!(next.is_err(), "{next:?}");
}

/// A container that is made, runs and ends; gives back its id.
async fn live(pods: &Pods, pod: &str, name: &str) -> String {
    let id = pods
        .create_container(pod, spec(name, "sleep"))
        .await
        .unwrap();
    pods.start_container(id.as_str()).await.unwrap();
    id.to_string()
}

#[tokio::test]
async fn a_whole_life_is_told_with_the_state_after_each_step() {
    use EventKind::{Created, Deleted, Started, Stopped};
    let bench = Bench::new();
    let pods = bench.open().await;
    let mut events = pods.events().unwrap();
    let pod = pods.run_sandbox(pod_spec("web")).await.unwrap().to_string();
    let container = live(&pods, &pod, "main").await;
    pods.stop_container(&container, Duration::from_mins(1))
        .await
        .unwrap();
    pods.remove_container(&container).await.unwrap();
    pods.stop_sandbox(&pod).await.unwrap();
    pods.remove_sandbox(&pod).await.unwrap();

    let told = take(&mut events, 8).await;
    let seen: Vec<_> = told
        .iter()
        .map(|event| {
            let states: Vec<_> = event.containers.iter().map(|one| one.state).collect();
            (event.subject.as_str(), event.kind, event.pod.state, states)
        })
        .collect();
    let (ready, gone) = (PodState::Ready, PodState::NotReady);
    let expected = [
        (pod.as_str(), Created, ready, vec![]),
        (&pod, Started, ready, vec![]),
        (&container, Created, ready, vec![ContainerState::Created]),
        (&container, Started, ready, vec![ContainerState::Running]),
        (&container, Stopped, ready, vec![ContainerState::Exited]),
        (&container, Deleted, ready, vec![]),
        (&pod, Stopped, gone, vec![]),
        (&pod, Deleted, gone, vec![]),
    ];
    assert_eq!(seen, expected);
    assert!(told.windows(2).all(|two| two[0].at < two[1].at));
    none_waits(&mut events).await;
}

#[tokio::test]
async fn a_container_that_ends_at_once_is_seen_running_first() {
    let bench = Bench::new();
    let pods = bench.open().await;
    let pod = pods.run_sandbox(pod_spec("web")).await.unwrap().to_string();
    let mut events = pods.events().unwrap();
    let id = pods
        .create_container(&pod, spec("short", "true"))
        .await
        .unwrap();
    pods.start_container(id.as_str()).await.unwrap();
    let states: Vec<_> = take(&mut events, 3)
        .await
        .iter()
        .map(|event| (event.kind, event.containers[0].state))
        .collect();
    assert_eq!(
        states,
        [
            (EventKind::Created, ContainerState::Created),
            (EventKind::Started, ContainerState::Running),
            (EventKind::Stopped, ContainerState::Exited),
        ]
    );
}

#[tokio::test]
async fn removing_a_pod_that_runs_tells_of_all_its_containers() {
    let bench = Bench::new();
    let pods = bench.open().await;
    let pod = pods.run_sandbox(pod_spec("web")).await.unwrap().to_string();
    let container = live(&pods, &pod, "main").await;
    let mut events = pods.events().unwrap();
    pods.remove_sandbox(&pod).await.unwrap();
    let told = take(&mut events, 4).await;
    let seen: Vec<_> = told
        .iter()
        .map(|event| (event.subject.as_str(), event.kind))
        .collect();
    assert_eq!(
        seen,
        [
            (container.as_str(), EventKind::Stopped),
            (&pod, EventKind::Stopped),
            (&container, EventKind::Deleted),
            (&pod, EventKind::Deleted),
        ]
    );
}

#[tokio::test]
async fn a_listener_that_does_not_read_is_cut_off_and_told_so() {
    let hub = Hub::new(Metrics::new().unwrap());
    let snapshot = empty_pod();
    let (mut slow, mut quick) = (hub.listen().unwrap(), hub.listen().unwrap());
    for _ in 0..=QUEUE {
        hub.tell("pod", EventKind::Created, &snapshot);
        take(&mut quick, 1).await;
    }
    assert_eq!(slow.next().await.unwrap_err(), Ended::Lagged);
    assert_eq!(slow.next().await.unwrap_err(), Ended::Lagged);
    hub.tell("pod", EventKind::Stopped, &snapshot);
    assert_eq!(take(&mut quick, 1).await[0].kind, EventKind::Stopped);
    none_waits(&mut quick).await;
    hub.stop();
    assert_eq!(quick.next().await.unwrap_err(), Ended::Stopping);
    let late = hub.listen().unwrap().next().await;
    assert_eq!(late.unwrap_err(), Ended::Stopping);
}

#[tokio::test]
async fn only_so_many_can_listen() {
    let bench = Bench::new();
    let pods = bench.open().await;
    let mut all: Vec<_> = (0..LISTENERS).map(|_| pods.events().unwrap()).collect();
    let refused = pods.events().unwrap_err();
    assert!(refused.to_string().contains("listen to events already"));
    all.pop();
    pods.events().unwrap();
}
