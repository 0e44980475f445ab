use super::{ContainerRecord, End, PodRecord, Progress, Records};
use crate::ids::{ContainerId, PodId};
use crate::paths::Paths;
use crate::status::ExitReason;
use crate::testing;
use insula_wire::message::Exit;
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn pod(id: PodId) -> PodRecord {
    PodRecord {
        id,
        spec: Arc::new(testing::pod_spec("web")),
        progress: Progress::Ready,
        created_at: 1,
        ips: vec!["10.0.0.1".parse().unwrap()],
        hostname: "web".to_owned(),
        cgroup_path: "insula/x".to_owned(),
        made_cgroups: vec!["insula/x".to_owned()],
        reason: String::new(),
        message: String::new(),
        resources: None,
        overhead: None,
        selinux_level: None,
    }
}

fn container(pod_id: PodId) -> ContainerRecord {
    ContainerRecord {
        id: ContainerId::random().unwrap(),
        pod_id,
        spec: Arc::new(testing::container_spec("main")),
        plan: Arc::new(testing::plan("c")),
        image_id: "sha256:1".to_owned(),
        image_ref: "sha256:1".to_owned(),
        image_name: "image".to_owned(),
        created_at: 2,
        started_at: 3,
        resources: insula_isolators::spec::Resources::default(),
        end: Some(End {
            code: 137,
            finished_at: 4,
            reason: ExitReason::OomKilled,
            message: String::new(),
        }),
    }
}

fn records(directory: &Path, boot: &str) -> Records {
    Records::new(
        Paths::new(&directory.join("state"), &directory.join("root")),
        boot,
    )
}

#[test]
fn what_was_written_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let records = records(directory.path(), "boot");
    let pod = pod(PodId::random().unwrap());
    let container = container(pod.id.clone());
    let paths = Paths::new(
        &directory.path().join("state"),
        &directory.path().join("root"),
    );
    fs::create_dir_all(paths.pod(&pod.id).container(&container.id)).unwrap();
    records.write_pod(&pod).unwrap();
    records.write_container(&container).unwrap();
    let found = records.read_all().unwrap();
    assert_eq!(found.pods, vec![(pod, vec![container])]);
    assert!(found.set_aside.is_empty());
}

#[test]
fn what_cannot_be_used_is_moved_aside_and_nothing_else() {
    type Spoil = fn(&str) -> String;
    let cases: [(&str, Spoil); 4] = [
        ("cut", |json| json[..json.len() / 2].to_owned()),
        ("empty", |_| String::new()),
        ("version", |json| {
            json.replace("\"version\": 1", "\"version\": 99")
        }),
        ("field", |json| json.replace("\"progress\"", "\"progres\"")),
    ];
    for (name, spoil) in cases {
        let directory = tempfile::tempdir().unwrap();
        let records = records(directory.path(), "boot");
        let (good, bad) = (pod(PodId::random().unwrap()), pod(PodId::random().unwrap()));
        let paths = Paths::new(
            &directory.path().join("state"),
            &directory.path().join("root"),
        );
        for pod in [&good, &bad] {
            fs::create_dir_all(paths.pod(&pod.id).path()).unwrap();
            records.write_pod(pod).unwrap();
        }
        let path = paths.pod(&bad.id).record();
        fs::write(&path, spoil(&fs::read_to_string(&path).unwrap())).unwrap();
        let found = records.read_all().unwrap();
        assert_eq!(found.pods, vec![(good, vec![])], "{name}");
        assert_eq!(found.set_aside.len(), 1, "{name}");
        assert!(!paths.pod(&bad.id).path().exists(), "{name}");
        assert_eq!(
            fs::read_dir(paths.set_aside()).unwrap().count(),
            1,
            "{name}"
        );
        assert!(found.aside_pods.contains(&bad.id), "{name}");
        let again = records.read_all().unwrap();
        assert!(
            again.aside_pods.contains(&bad.id) && again.set_aside.is_empty(),
            "{name}"
        );
    }
}

#[test]
fn a_directory_without_a_record_is_removed_unless_its_supervisor_runs() {
    for (name, files, locked) in [
        ("being made", &["containers/"][..], false),
        ("being written", &["containers/", "pod.tmp"], false),
        ("being removed", &["lock", "messages", "files/"], false),
        ("running", &["lock", "messages", "files/"], true),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let records = records(directory.path(), "boot");
        let paths = Paths::new(
            &directory.path().join("state"),
            &directory.path().join("root"),
        );
        let id = PodId::random().unwrap();
        let pod = paths.pod(&id);
        fs::create_dir_all(pod.path()).unwrap();
        for file in files {
            match file.strip_suffix('/') {
                Some(inner) => fs::create_dir(pod.path().join(inner)).unwrap(),
                None => fs::write(pod.path().join(file), "").unwrap(),
            }
        }
        let lock = locked.then(|| fs::File::open(pod.lock()).unwrap());
        if let Some(lock) = &lock {
            lock.lock().unwrap();
        }
        let found = records.read_all().unwrap();
        assert!(found.pods.is_empty() && !pod.path().exists(), "{name}");
        assert_eq!(found.set_aside.len(), usize::from(locked), "{name}");
        assert_eq!(found.aside_pods.contains(&id), locked, "{name}");
    }
}

#[test]
fn reasons_are_the_ones_kubelet_knows() {
    for (code, oom_killed, reason) in [
        (0, false, "Completed"),
        (1, false, "Error"),
        (137, false, "Error"),
        (137, true, "OOMKilled"),
    ] {
        let end = End::from_exit(&Exit {
            code,
            finished_at: 1,
            started_at: 1,
            oom_killed,
            output_cut: false,
        });
        assert_eq!((end.reason.as_str(), end.code), (reason, code));
    }
}

#[test]
fn records_of_another_boot_are_void() {
    let directory = tempfile::tempdir().unwrap();
    let pod = pod(PodId::random().unwrap());
    let paths = Paths::new(
        &directory.path().join("state"),
        &directory.path().join("root"),
    );
    fs::create_dir_all(paths.pod(&pod.id).path()).unwrap();
    records(directory.path(), "before").write_pod(&pod).unwrap();
    let found = records(directory.path(), "after").read_all().unwrap();
    assert!(found.pods.is_empty() && found.set_aside.is_empty());
    assert!(!paths.pod(&pod.id).path().exists());
}
