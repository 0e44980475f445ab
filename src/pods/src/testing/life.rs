//! Lives of pods and containers, whole and broken off.

use super::{Bench, Fault, container_spec, pod_spec};
use crate::error::Error;
use crate::filter::{ContainerFilter, PodFilter};
use crate::pods::Pods;
use crate::status::{ContainerState, ContainerStatus, ExitReason, PodState};
use insula_isolators::spec::{ContainerSpec, ImageMount, ImageRequest, VolumeMount};
use insula_wire::OsText;
use insula_wire::plan::Propagation;
use std::sync::Arc;
use std::time::Duration;

fn words(words: &[&str]) -> Vec<OsText> {
    words
        .iter()
        .map(|&word| OsText::try_from(word).unwrap())
        .collect()
}

fn running(name: &str, command: &[&str]) -> ContainerSpec {
    ContainerSpec {
        command: words(command),
        ..container_spec(name)
    }
}

async fn wait_for(pods: &Pods, id: &str, state: ContainerState) -> Arc<ContainerStatus> {
    for _ in 0..500 {
        let status = pods.container_status(id).await.unwrap();
        if status.state == state {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("container {id} did not become {state:?}");
}

#[tokio::test]
async fn a_whole_life_leaves_nothing() {
    let bench = Bench::new();
    let pods = bench.open().await;
    let pod = pods.run_sandbox(pod_spec("web")).await.unwrap();
    let status = pods.sandbox_status(pod.short()).await.unwrap();
    assert_eq!((status.state, status.ips.len()), (PodState::Ready, 1));
    let id = pods
        .create_container(pod.as_str(), running("main", &["sleep"]))
        .await
        .unwrap();
    assert_eq!(
        pods.container_status(id.as_str()).await.unwrap().state,
        ContainerState::Created
    );
    pods.start_container(id.as_str()).await.unwrap();
    let status = pods.container_status(id.short()).await.unwrap();
    assert_eq!(
        (status.state, status.started_at),
        (ContainerState::Running, 5)
    );
    assert_eq!(status.image_id, "sha256:1");
    let output = pods
        .exec_sync(id.as_str(), words(&["echo"]), None)
        .await
        .unwrap();
    assert_eq!(
        (
            output.stdout.as_slice(),
            output.stderr.as_slice(),
            output.code
        ),
        (&b"out"[..], &b"err"[..], 3)
    );
    assert!(matches!(
        pods.start_container(id.as_str()).await,
        Err(Error::FailedPrecondition(_))
    ));
    pods.stop_container(id.as_str(), Duration::from_mins(1))
        .await
        .unwrap();
    pods.stop_container(id.as_str(), Duration::ZERO)
        .await
        .unwrap();
    let status = pods.container_status(id.as_str()).await.unwrap();
    assert_eq!(
        (status.state, status.exit_code),
        (ContainerState::Exited, 143)
    );
    assert_eq!(status.reason, Some(ExitReason::Error));
    pods.remove_container(id.as_str()).await.unwrap();
    assert!(
        pods.remove_container(id.as_str())
            .await
            .unwrap_err()
            .is_not_found()
    );
    pods.stop_sandbox(pod.as_str()).await.unwrap();
    pods.stop_sandbox(pod.as_str()).await.unwrap();
    let refused = pods
        .create_container(pod.as_str(), running("late", &["true"]))
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("not ready: it was stopped"),
        "{refused}"
    );
    assert_eq!(
        pods.sandbox_status(pod.as_str()).await.unwrap().state,
        PodState::NotReady
    );
    pods.remove_sandbox(pod.as_str()).await.unwrap();
    assert!(
        pods.sandbox_status(pod.as_str())
            .await
            .unwrap_err()
            .is_not_found()
    );
    assert_eq!(bench.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_program_that_ends_is_completed() {
    let bench = Bench::new();
    let pods = bench.open().await;
    let pod = pods.run_sandbox(pod_spec("web")).await.unwrap();
    let id = pods
        .create_container(pod.as_str(), running("main", &["true"]))
        .await
        .unwrap();
    pods.start_container(id.as_str()).await.unwrap();
    let status = wait_for(&pods, id.as_str(), ContainerState::Exited).await;
    assert_eq!(
        (status.exit_code, status.reason),
        (0, Some(ExitReason::Completed))
    );
    assert_eq!(status.finished_at, 7);
}

#[tokio::test]
async fn a_pod_that_fails_at_any_point_is_undone_and_its_name_is_free() {
    for fault in [
        Fault::StartSupervisor,
        Fault::Connect,
        Fault::MakePod,
        Fault::BindNamespace,
        Fault::PlaceSupervisor,
        Fault::Attach,
    ] {
        let bench = Bench::new();
        let pods = bench.open().await;
        bench.break_at(Some(fault));
        let error = pods.run_sandbox(pod_spec("web")).await.unwrap_err();
        assert!(error.to_string().contains(&format!("{fault:?}")), "{error}");
        assert_eq!(bench.leftovers(), Vec::<String>::new(), "{fault:?}");
        assert!(
            pods.list_sandboxes(&PodFilter::default())
                .await
                .unwrap()
                .is_empty()
        );
        bench.break_at(None);
        pods.run_sandbox(pod_spec("web")).await.unwrap();
    }
}

/// A volume at `/v`.
fn volume(host_path: &str, propagation: Propagation) -> VolumeMount {
    VolumeMount {
        container_path: "/v".to_owned(),
        host_path: host_path.to_owned(),
        image: None,
        readonly: false,
        recursive_readonly: false,
        selinux_relabel: false,
        propagation,
        options: Vec::new(),
        ids: None,
    }
}

#[tokio::test]
async fn a_container_that_fails_at_any_point_is_undone_and_its_name_is_free() {
    let of_host = volume("/tmp", Propagation::Private);
    let of_image = VolumeMount {
        host_path: String::new(),
        image: Some(ImageMount {
            request: ImageRequest {
                image: "image".to_owned(),
                ..ImageRequest::default()
            },
            id: String::new(),
            sub_path: String::new(),
        }),
        ..of_host.clone()
    };
    for fault in [
        Fault::Image,
        Fault::Rootfs,
        Fault::Plan,
        Fault::MakeGroup,
        Fault::ApplyGroup,
        Fault::ImageMount,
        Fault::Volume,
        Fault::Create,
        Fault::Place,
        Fault::Placed,
    ] {
        let bench = Bench::new();
        let pods = bench.open().await;
        let pod = pods.run_sandbox(pod_spec("web")).await.unwrap();
        let spec = ContainerSpec {
            mounts: vec![of_image.clone(), of_host.clone()],
            ..running("main", &["sleep"])
        };
        bench.break_at(Some(fault));
        let error = pods
            .create_container(pod.as_str(), spec.clone())
            .await
            .unwrap_err();
        assert!(error.to_string().contains(&format!("{fault:?}")), "{error}");
        assert!(
            pods.list_containers(&ContainerFilter::default())
                .await
                .unwrap()
                .is_empty()
        );
        assert!(bench.world().rootfs.is_empty(), "{fault:?}");
        let containers = bench
            .config()
            .state
            .join("pods")
            .join(pod.as_str())
            .join("containers");
        assert_eq!(
            std::fs::read_dir(containers).unwrap().count(),
            0,
            "{fault:?}"
        );
        bench.break_at(None);
        pods.create_container(pod.as_str(), spec).await.unwrap();
        pods.remove_sandbox(pod.as_str()).await.unwrap();
        assert_eq!(bench.leftovers(), Vec::<String>::new(), "{fault:?}");
    }
}

#[tokio::test]
async fn an_unknown_image_is_named() {
    let bench = Bench::new();
    let pods = bench.open().await;
    let pod = pods.run_sandbox(pod_spec("web")).await.unwrap();
    let mut spec = container_spec("main");
    spec.image.image = "nobody/nothing".to_owned();
    let error = pods.create_container(pod.as_str(), spec).await.unwrap_err();
    assert!(
        error.is_not_found() && error.to_string().contains("nobody/nothing"),
        "{error}"
    );
}

#[tokio::test]
async fn a_container_that_cannot_start_says_why() {
    let bench = Bench::new();
    let pods = bench.open().await;
    let pod = pods.run_sandbox(pod_spec("web")).await.unwrap();
    let id = pods
        .create_container(pod.as_str(), running("main", &["sleep"]))
        .await
        .unwrap();
    bench.break_at(Some(Fault::Start));
    assert!(matches!(
        pods.start_container(id.as_str()).await,
        Err(Error::CannotRun { .. })
    ));
    let status = pods.container_status(id.as_str()).await.unwrap();
    assert_eq!(
        (status.state, status.exit_code, status.reason),
        (ContainerState::Exited, 128, Some(ExitReason::StartError))
    );
    assert!(status.message.contains("Start"), "{}", status.message);
}

#[tokio::test]
async fn repeated_requests_join_or_get_the_same_answer() {
    let bench = Bench::new();
    let pods = bench.open().await;
    bench.break_at(Some(Fault::HangAttach));
    let first =
        tokio::time::timeout(Duration::from_millis(50), pods.run_sandbox(pod_spec("web"))).await;
    assert!(first.is_err(), "the caller gave up");
    let (again, more) = (pods.clone(), pods.clone());
    let joined = tokio::spawn(async move { again.run_sandbox(pod_spec("web")).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    bench.break_at(None);
    let id = joined.await.unwrap().unwrap();
    assert_eq!(more.run_sandbox(pod_spec("web")).await.unwrap(), id);
    assert_eq!(
        pods.list_sandboxes(&PodFilter::default())
            .await
            .unwrap()
            .len(),
        1
    );
    let mut other = pod_spec("web");
    other.hostname = "other".to_owned();
    let error = pods.run_sandbox(other).await.unwrap_err();
    assert!(
        matches!(&error, Error::AlreadyExists { holder, .. } if *holder == id.to_string()),
        "{error}"
    );
    let container = pods
        .create_container(id.as_str(), running("main", &["sleep"]))
        .await
        .unwrap();
    assert_eq!(
        pods.create_container(id.as_str(), running("main", &["sleep"]))
            .await
            .unwrap(),
        container
    );
    let error = pods
        .create_container(id.as_str(), running("main", &["true"]))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::AlreadyExists { holder, .. } if *holder == container.to_string()),
        "{error}"
    );
}

#[tokio::test]
async fn a_shorter_stop_shortens_the_one_in_flight() {
    let bench = Bench::new();
    let pods = bench.open().await;
    let pod = pods.run_sandbox(pod_spec("web")).await.unwrap();
    let id = pods
        .create_container(pod.as_str(), running("main", &["stubborn"]))
        .await
        .unwrap();
    pods.start_container(id.as_str()).await.unwrap();
    let (slow, slow_id) = (pods.clone(), id.clone());
    let slow = tokio::spawn(async move {
        slow.stop_container(slow_id.as_str(), Duration::from_hours(1))
            .await
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(
        pods.container_status(id.as_str()).await.unwrap().state,
        ContainerState::Running
    );
    pods.stop_container(id.as_str(), Duration::ZERO)
        .await
        .unwrap();
    slow.await.unwrap().unwrap();
    assert_eq!(
        pods.container_status(id.as_str()).await.unwrap().exit_code,
        137
    );
}

#[tokio::test]
async fn a_pod_s_stop_ends_a_grace_period_and_a_hanging_creation() {
    let bench = Bench::new();
    let pods = bench.open().await;
    let pod = pods.run_sandbox(pod_spec("web")).await.unwrap();
    let id = pods
        .create_container(pod.as_str(), running("main", &["stubborn"]))
        .await
        .unwrap();
    pods.start_container(id.as_str()).await.unwrap();
    let (slow, slow_id) = (pods.clone(), id.clone());
    let slow = tokio::spawn(async move {
        slow.stop_container(slow_id.as_str(), Duration::from_hours(1))
            .await
    });
    bench.break_at(Some(Fault::HangVolume));
    let (creating, pod_id) = (pods.clone(), pod.clone());
    let mut hanging = running("hanging", &["true"]);
    hanging.mounts.push(volume("/tmp", Propagation::Private));
    let creating =
        tokio::spawn(async move { creating.create_container(pod_id.as_str(), hanging).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    pods.stop_sandbox(pod.as_str()).await.unwrap();
    assert!(matches!(creating.await.unwrap(), Err(Error::Aborted(_))));
    slow.await.unwrap().unwrap();
    bench.break_at(None);
    pods.remove_sandbox(pod.as_str()).await.unwrap();
    bench.settles().await;
}

/// `/proc` is a mount of its own everywhere; whether it is shared depends on
/// the machine, and so does what has to come of it.
#[tokio::test]
async fn a_volume_must_be_able_to_propagate() {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let refusal =
        insula_isolators::volumes::check_propagation(&mounts, "/proc", Propagation::Bidirectional)
            .err();
    let bench = Bench::new();
    let pods = bench.open().await;
    let pod = pods.run_sandbox(pod_spec("web")).await.unwrap();
    let mut spec = running("main", &["sleep"]);
    spec.mounts
        .push(volume("/proc", Propagation::Bidirectional));
    let created = pods.create_container(pod.as_str(), spec).await;
    assert_eq!(
        created.err().map(|error| error.to_string()),
        refusal.map(|refusal| refusal.to_string())
    );
}

#[tokio::test]
async fn a_stop_that_fails_can_be_repeated() {
    let bench = Bench::new();
    let pods = bench.open().await;
    let pod = pods.run_sandbox(pod_spec("web")).await.unwrap();
    bench.break_at(Some(Fault::Detach));
    assert!(pods.stop_sandbox(pod.as_str()).await.is_err());
    assert_eq!(
        pods.sandbox_status(pod.as_str()).await.unwrap().state,
        PodState::NotReady
    );
    bench.break_at(None);
    pods.stop_sandbox(pod.as_str()).await.unwrap();
    pods.remove_sandbox(pod.as_str()).await.unwrap();
    assert_eq!(bench.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_supervisor_s_death_breaks_its_pod_and_no_other() {
    let bench = Bench::new();
    let pods = bench.open().await;
    let mut made = Vec::new();
    for name in ["one", "two"] {
        let pod = pods.run_sandbox(pod_spec(name)).await.unwrap();
        let id = pods
            .create_container(pod.as_str(), running("main", &["sleep"]))
            .await
            .unwrap();
        pods.start_container(id.as_str()).await.unwrap();
        made.push((pod, id));
    }
    let [(one, dead), (two, alive)] = &made[..] else {
        panic!()
    };
    bench.supervisor(one).die();
    let status = wait_for(&pods, dead.as_str(), ContainerState::Exited).await;
    assert_eq!(
        (status.exit_code, status.reason),
        (137, Some(ExitReason::Error))
    );
    assert!(
        status.message.contains("supervisor died"),
        "{}",
        status.message
    );
    let pod = pods.sandbox_status(one.as_str()).await.unwrap();
    assert_eq!(
        (pod.state, pod.reason.as_str()),
        (PodState::NotReady, "SupervisorDied")
    );
    assert!(
        bench
            .world()
            .killed
            .iter()
            .any(|path| path.ends_with(dead.as_str()))
    );
    assert_eq!(
        pods.sandbox_status(two.as_str()).await.unwrap().state,
        PodState::Ready
    );
    pods.exec_sync(alive.as_str(), words(&["echo"]), None)
        .await
        .unwrap();
    let refused = pods
        .create_container(one.as_str(), running("new", &["true"]))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("supervisor"), "{refused}");
    for (pod, _) in &made {
        pods.stop_sandbox(pod.as_str()).await.unwrap();
        pods.remove_sandbox(pod.as_str()).await.unwrap();
    }
    assert_eq!(bench.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_lost_connection_is_no_death() {
    let bench = Bench::new();
    let pods = bench.open().await;
    let pod = pods.run_sandbox(pod_spec("web")).await.unwrap();
    let id = pods
        .create_container(pod.as_str(), running("main", &["sleep"]))
        .await
        .unwrap();
    pods.start_container(id.as_str()).await.unwrap();
    bench.supervisor(&pod).hang_up();
    tokio::time::sleep(Duration::from_millis(20)).await;
    pods.exec_sync(id.as_str(), words(&["echo"]), None)
        .await
        .unwrap();
    assert_eq!(
        pods.sandbox_status(pod.as_str()).await.unwrap().state,
        PodState::Ready
    );
    assert_eq!(
        pods.container_status(id.as_str()).await.unwrap().state,
        ContainerState::Running
    );
}

#[tokio::test]
async fn execs_are_capped_and_end_at_their_deadline() {
    let bench = Bench::new();
    let pods = bench.open().await;
    let pod = pods.run_sandbox(pod_spec("web")).await.unwrap();
    let id = pods
        .create_container(pod.as_str(), running("main", &["sleep"]))
        .await
        .unwrap();
    assert!(matches!(
        pods.exec_sync(id.as_str(), words(&["echo"]), None).await,
        Err(Error::FailedPrecondition(_))
    ));
    pods.start_container(id.as_str()).await.unwrap();
    assert!(matches!(
        pods.exec_sync(id.as_str(), Vec::new(), None).await,
        Err(Error::InvalidArgument(_))
    ));
    let error = pods
        .exec_sync(
            id.as_str(),
            words(&["hang"]),
            Some(Duration::from_millis(30)),
        )
        .await
        .unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded { .. }), "{error}");
    let output = pods
        .exec_sync(id.as_str(), words(&["flood"]), None)
        .await
        .unwrap();
    assert!(output.stdout.len() <= crate::exec::OUTPUT_LIMIT);
}

#[tokio::test]
async fn updates_and_measurements() {
    let bench = Bench::new();
    let pods = bench.open().await;
    let pod = pods.run_sandbox(pod_spec("web")).await.unwrap();
    let id = pods
        .create_container(pod.as_str(), running("main", &["sleep"]))
        .await
        .unwrap();
    let want = insula_isolators::spec::Resources {
        cpu_shares: 9,
        ..Default::default()
    };
    pods.update_container(id.as_str(), want.clone())
        .await
        .unwrap();
    assert_eq!(
        pods.container_status(id.as_str())
            .await
            .unwrap()
            .resources
            .cpu_shares,
        9
    );
    pods.update_sandbox_resources(pod.as_str(), None, Some(want))
        .await
        .unwrap();
    assert_eq!(
        pods.sandbox_status(pod.as_str())
            .await
            .unwrap()
            .resources
            .as_ref()
            .unwrap()
            .cpu_shares,
        9
    );
    pods.start_container(id.as_str()).await.unwrap();
    assert_eq!(
        pods.list_container_stats(&ContainerFilter::default())
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        pods.sandbox_stats(pod.as_str())
            .await
            .unwrap()
            .containers
            .len(),
        1
    );
    assert!(
        pods.container_stats("ffff")
            .await
            .unwrap_err()
            .is_not_found()
    );
    assert!(!pods.metrics().registry().gather().is_empty());
}
