//! What a daemon finds that starts after another.

use super::{Bench, Fault, container_spec, pod_spec};
use crate::events::EventKind;
use crate::filter::PodFilter;
use crate::ids::{ContainerId, PodId};
use crate::pods::Pods;
use crate::status::{ContainerState, ExitReason, PodState};
use insula_isolators::spec::ContainerSpec;
use insula_wire::OsText;
use std::time::Duration;
use tokio::runtime::Runtime;

/// A daemon that can be killed.
struct Daemon {
    runtime: Runtime,
    pods: Pods,
}

impl Daemon {
    fn start(bench: &Bench) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let pods = runtime.block_on(bench.open());
        Self { runtime, pods }
    }

    /// Ends at once, whatever it was doing.
    fn kill(self) {
        self.runtime.shutdown_background();
    }

    fn make(&self, name: &str) -> (PodId, ContainerId) {
        self.runtime.block_on(async {
            let pod = self.pods.run_sandbox(pod_spec(name)).await.unwrap();
            let spec = ContainerSpec {
                command: vec![OsText::try_from("sleep").unwrap()],
                ..container_spec("main")
            };
            let id = self
                .pods
                .create_container(pod.as_str(), spec)
                .await
                .unwrap();
            self.pods.start_container(id.as_str()).await.unwrap();
            (pod, id)
        })
    }
}

async fn exited(pods: &Pods, id: &ContainerId) -> (i32, Option<ExitReason>) {
    for _ in 0..500 {
        let status = pods.container_status(id.as_str()).await.unwrap();
        if status.state == ContainerState::Exited {
            return (status.exit_code, status.reason);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{id} did not end");
}

#[test]
fn pods_survive_the_daemon_and_ends_meanwhile_are_known() {
    let bench = Bench::new();
    let daemon = Daemon::start(&bench);
    let made: Vec<_> = (0..10)
        .map(|number| daemon.make(&format!("pod{number}")))
        .collect();
    daemon.kill();
    bench.supervisor(&made[3].0).end(made[3].1.as_str(), 42);
    let daemon = Daemon::start(&bench);
    daemon.runtime.block_on(async {
        let listed = daemon
            .pods
            .list_sandboxes(&PodFilter::default())
            .await
            .unwrap();
        assert_eq!(listed.len(), 10);
        assert!(listed.iter().all(|pod| pod.state == PodState::Ready));
        assert_eq!(
            exited(&daemon.pods, &made[3].1).await,
            (42, Some(ExitReason::Error))
        );
        for (number, (pod, id)) in made.iter().enumerate() {
            if number != 3 {
                let output = daemon
                    .pods
                    .exec_sync(id.as_str(), vec!["echo".try_into().unwrap()], None)
                    .await;
                assert_eq!(output.unwrap().code, 3);
            }
            daemon.pods.remove_sandbox(pod.as_str()).await.unwrap();
        }
        bench.settles().await;
    });
    daemon.kill();
}

#[test]
fn a_pod_keeps_its_selinux_level_for_life() {
    let bench = Bench::new();
    bench.world().selinux = true;
    let daemon = Daemon::start(&bench);
    let (one, _) = daemon.make("one");
    let (two, _) = daemon.make("two");
    let levels = |bench: &Bench| -> Vec<String> {
        let files = |pod: &PodId| {
            let state = bench.directory.path().join("state");
            state.join("pods").join(pod.as_str()).join("files")
        };
        let world = bench.world();
        let labels_of = |pod| {
            let mut labels: Vec<_> = world
                .relabelled
                .iter()
                .filter(|(path, _)| *path == files(pod))
                .map(|(_, label)| label.clone())
                .collect();
            labels.dedup();
            labels
        };
        [labels_of(&one), labels_of(&two)].concat()
    };
    let before = levels(&bench);
    assert_eq!(before.len(), 2, "one level each: {before:?}");
    assert_ne!(before[0], before[1]);
    assert!(before[0].starts_with("s0:c"), "{before:?}");
    daemon.kill();
    let daemon = Daemon::start(&bench);
    daemon.runtime.block_on(async {
        let late = container_spec("late");
        let late = daemon.pods.create_container(one.as_str(), late).await;
        late.unwrap();
    });
    assert_eq!(levels(&bench), before);
    daemon.kill();
}

#[test]
fn a_supervisor_that_died_meanwhile_is_found_dead() {
    let bench = Bench::new();
    let daemon = Daemon::start(&bench);
    let ((one, ended), (two, killed)) = (daemon.make("one"), daemon.make("two"));
    daemon.kill();
    bench.supervisor(&one).end(ended.as_str(), 7);
    bench.supervisor(&one).die();
    bench.supervisor(&two).die();
    let daemon = Daemon::start(&bench);
    daemon.runtime.block_on(async {
        assert_eq!(
            exited(&daemon.pods, &ended).await,
            (7, Some(ExitReason::Error)),
            "from exit.json"
        );
        assert_eq!(
            exited(&daemon.pods, &killed).await,
            (137, Some(ExitReason::Error))
        );
        for pod in [&one, &two] {
            assert_eq!(
                daemon
                    .pods
                    .sandbox_status(pod.as_str())
                    .await
                    .unwrap()
                    .state,
                PodState::NotReady
            );
            daemon.pods.stop_sandbox(pod.as_str()).await.unwrap();
            daemon.pods.remove_sandbox(pod.as_str()).await.unwrap();
        }
        bench.settles().await;
    });
    daemon.kill();
}

/// One has its supervisor still, the other has not: neither works, and no supervisor has died.
#[test]
fn a_pod_whose_stop_was_cut_short_is_not_ready() {
    for fault in [Fault::HangDetach, Fault::Detach] {
        let bench = Bench::new();
        let daemon = Daemon::start(&bench);
        let (pod, id) = daemon.make("web");
        bench.break_at(Some(fault));
        daemon.runtime.block_on(async {
            let stopped = tokio::time::timeout(
                Duration::from_millis(200),
                daemon.pods.stop_sandbox(pod.as_str()),
            );
            assert!(!matches!(stopped.await, Ok(Ok(()))), "{fault:?}");
        });
        daemon.kill();
        bench.break_at(None);
        let daemon = Daemon::start(&bench);
        daemon.runtime.block_on(async {
            exited(&daemon.pods, &id).await;
            let status = daemon.pods.sandbox_status(pod.as_str()).await.unwrap();
            assert_eq!(status.state, PodState::NotReady, "{fault:?}");
            let late = container_spec("late");
            let refused = daemon.pods.create_container(pod.as_str(), late).await;
            let words = refused.unwrap_err().to_string();
            assert!(words.contains("it is being stopped"), "{words}");
            daemon.pods.stop_sandbox(pod.as_str()).await.unwrap();
            let status = daemon.pods.sandbox_status(pod.as_str()).await.unwrap();
            assert_eq!(status.reason, "", "{fault:?}: no supervisor has died");
            daemon.pods.remove_sandbox(pod.as_str()).await.unwrap();
            bench.settles().await;
        });
        daemon.kill();
    }
}

#[test]
fn a_pod_that_was_being_made_is_undone() {
    let bench = Bench::new();
    let daemon = Daemon::start(&bench);
    bench.break_at(Some(Fault::HangAttach));
    daemon.runtime.block_on(async {
        let made = tokio::time::timeout(
            Duration::from_millis(200),
            daemon.pods.run_sandbox(pod_spec("web")),
        );
        assert!(made.await.is_err());
    });
    daemon.kill();
    assert!(!bench.leftovers().is_empty());
    bench.break_at(None);
    let daemon = Daemon::start(&bench);
    daemon.runtime.block_on(async {
        assert!(
            daemon
                .pods
                .list_sandboxes(&PodFilter::default())
                .await
                .unwrap()
                .is_empty()
        );
        bench.settles().await;
        daemon.pods.run_sandbox(pod_spec("web")).await.unwrap();
    });
    daemon.kill();
}

#[test]
fn what_belongs_to_nobody_is_removed_and_what_is_aside_is_kept() {
    let bench = Bench::new();
    let daemon = Daemon::start(&bench);
    let (pod, container) = daemon.make("web");
    let (aside, kept) = daemon.make("aside");
    daemon.kill();
    let (nobody, orphan) = (PodId::random().unwrap(), ContainerId::random().unwrap());
    let state = bench.config().state;
    {
        let mut world = bench.world();
        world.rootfs.insert(orphan.clone());
        world.attached.insert(nobody.clone());
        world.groups.insert(format!("insula/{nobody}"));
        world.groups.insert(format!("insula/{pod}/{orphan}"));
    }
    let netns = state.join("netns").join(nobody.as_str());
    std::fs::write(&netns, "").unwrap();
    std::fs::write(state.join("netns").join(aside.as_str()), "").unwrap();
    std::fs::write(
        state.join("pods").join(aside.as_str()).join("pod.json"),
        "{",
    )
    .unwrap();
    let daemon = Daemon::start(&bench);
    daemon.runtime.block_on(async {
        for _ in 0..500 {
            let attached = bench.world().attached.contains(&nobody);
            if !attached {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let world = bench.world();
        assert!(!netns.exists());
        assert!(!world.rootfs.contains(&orphan) && !world.attached.contains(&nobody));
        assert!(
            !world
                .groups
                .iter()
                .any(|group| group.contains(nobody.as_str()) || group.contains(orphan.as_str()))
        );
        assert!(world.rootfs.contains(&container), "in use");
        assert!(
            world.rootfs.contains(&kept) && world.attached.contains(&aside),
            "aside"
        );
        assert!(state.join("netns").join(aside.as_str()).exists(), "aside");
    });
    daemon.kill();
}

#[test]
fn listeners_hear_of_adopted_pods_and_nothing_old() {
    let bench = Bench::new();
    let daemon = Daemon::start(&bench);
    let (pod, container) = daemon.make("web");
    daemon.kill();

    let daemon = Daemon::start(&bench);
    daemon.runtime.block_on(async {
        let mut events = daemon.pods.events().unwrap();
        let stopping = daemon
            .pods
            .stop_container(container.as_str(), Duration::from_mins(1));
        stopping.await.unwrap();
        let told = events.next().await.unwrap();
        assert_eq!(
            (told.subject.as_str(), told.kind, told.pod.id.as_str()),
            (container.as_str(), EventKind::Stopped, pod.as_str())
        );
    });
    daemon.kill();
}
