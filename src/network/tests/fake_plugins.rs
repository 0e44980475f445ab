//! The runtime against plugins that do as they are told.

mod support;

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use insula_network::{DefaultNetwork, Error, Network, NetworkStatus, PortMapping, Protocol};
use support::{Node, RESULT, sandbox};
use tokio::time::sleep;

/// Every operation can be spawned.
fn _operations_are_send(network: &'static Network) {
    fn send(_: impl Send) {}
    send(network.status());
    send(network.attach(sandbox("s")));
    send(network.detach("s", NETNS));
    send(network.check("s"));
    send(network.gc(Box::leak(Box::default())));
    send(network.attachments());
    send(network.set_pod_cidrs(""));
}

const NETNS: Option<&Path> = None;

/// Waits until `condition` holds, and fails the test if it never does.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if condition() {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

/// Whether the process whose id is in `file` is gone, or dead and not yet reaped by its new parent.
fn is_dead(file: &Path) -> bool {
    let pid = fs::read_to_string(file).unwrap();
    fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .ok()
        .is_none_or(|stat| stat.rsplit(')').next().unwrap().trim().starts_with('Z'))
}

#[tokio::test]
async fn a_chain_is_added_in_order_and_deleted_in_reverse() {
    let node = Node::new();
    node.plugin("a", "ADD) echo \"$RESULT\";;");
    node.plugin("b", "ADD) echo \"$RESULT\" | sed 's/10.9.0.2/10.9.0.3/';;");
    node.configure(
        "1.0.0",
        r#"{"type":"a","own":1.50},{"type":"b","capabilities":{"portMappings":true}}"#,
    );
    let network = node.open().await;
    let mut request = sandbox("s1");
    request.port_mappings = vec![PortMapping {
        host_port: 8080,
        container_port: 80,
        protocol: Protocol::Tcp,
        host_ip: None,
    }];
    let attached = network.attach(request).await.unwrap();
    let second = RESULT.replace("10.9.0.2", "10.9.0.3");
    assert_eq!(
        attached.ips,
        ["10.9.0.3".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(attached.raw.get(), second);
    assert_eq!(attached.plugin_times.len(), 2);
    assert_eq!(node.order(), ["a ADD", "b ADD"]);
    assert_eq!(
        node.seen("a", "ADD", "stdin").unwrap(),
        r#"{"type":"a","own":1.50,"name":"net","cniVersion":"1.0.0"}"#
    );
    let mapping = r#""runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}"#;
    assert_eq!(
        node.seen("b", "ADD", "stdin").unwrap(),
        format!(
            r#"{{"type":"b","capabilities":{{"portMappings":true}},"name":"net","cniVersion":"1.0.0",{mapping},"prevResult":{RESULT}}}"#
        )
    );
    let records = network.attachments().await.unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].ips, attached.ips);

    // DEL gets what ADD got, although the directory now says something else.
    fs::remove_file(node.config.conf_dir.join("10-test.conflist")).unwrap();
    network
        .detach("s1", Some(Path::new("/proc/self/ns/net")))
        .await
        .unwrap();
    assert_eq!(node.order(), ["b DEL", "a DEL"]);
    let del = node.seen("a", "DEL", "stdin").unwrap();
    assert_eq!(
        del,
        format!(
            r#"{{"type":"a","own":1.50,"name":"net","cniVersion":"1.0.0","prevResult":{second}}}"#
        )
    );
    assert!(node.seen("b", "DEL", "stdin").unwrap().contains(mapping));
    assert_eq!(node.records(), Vec::<String>::new());
    // Idempotent, and nobody is asked again.
    network.detach("s1", NETNS).await.unwrap();
    network.detach("never-seen", NETNS).await.unwrap();
    assert_eq!(node.order(), Vec::<String>::new());
}

#[tokio::test]
async fn plugins_get_a_clean_environment() {
    let node = Node::new();
    node.plugin("a", "ADD) echo \"$RESULT\";;");
    node.configure("1.0.0", r#"{"type":"a"}"#);
    let network = node.open().await;
    network.attach(sandbox("s1")).await.unwrap();
    let bins = node
        .config
        .bin_dirs
        .iter()
        .map(|dir| dir.display().to_string());
    for (name, expected) in [
        ("CNI_COMMAND", "ADD".to_owned()),
        ("CNI_CONTAINERID", "s1".to_owned()),
        ("CNI_NETNS", "/proc/self/ns/net".to_owned()),
        ("CNI_IFNAME", "eth0".to_owned()),
        (
            "CNI_ARGS",
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;\
             K8S_POD_INFRA_CONTAINER_ID=s1;K8S_POD_UID=u-1"
                .to_owned(),
        ),
        ("CNI_PATH", bins.collect::<Vec<_>>().join(":")),
    ] {
        assert_eq!(node.variable("a", "ADD", name), Some(expected), "{name}");
    }
    for line in node.seen("a", "ADD", "env").unwrap().lines() {
        let name = line.split('=').next().unwrap();
        // The shell itself adds the last three.
        assert!(
            name.starts_with("CNI_") || ["PATH", "PWD", "SHLVL", "_", "OLDPWD"].contains(&name),
            "{line}"
        );
    }
    network
        .detach("s1", Some(Path::new("/nowhere")))
        .await
        .unwrap();
    assert_eq!(node.variable("a", "DEL", "CNI_NETNS").unwrap(), "");
}

#[tokio::test]
async fn without_a_configuration_pods_are_at_the_default_network() {
    let mut node = Node::new();
    node.plugin("insula-net", "ADD) echo \"$RESULT\";;");
    node.plugin("a", "ADD) echo \"$RESULT\";;");
    // The daemon's own plugin counts, not one of that name elsewhere.
    let own = node.dir.path().join("own");
    fs::create_dir(&own).unwrap();
    fs::rename(
        node.config.bin_dirs[1].join("insula-net"),
        own.join("insula-net"),
    )
    .unwrap();
    node.plugin("insula-net", "*) exit 1;;");
    node.config.own_plugin = Some(own.join("insula-net"));
    node.config.default_network = Some(DefaultNetwork {
        bridge: "br-test".to_owned(),
        subnets: vec!["10.9.0.0/24".parse().unwrap()],
        data_dir: "/addresses".into(),
    });
    let network = node.open().await;
    assert!(network.status().await.is_ready());
    let attached = network.attach(sandbox("s1")).await.unwrap();
    assert_eq!(attached.network, "insula");
    let stdin = node.seen("insula-net", "ADD", "stdin").unwrap();
    assert!(
        stdin.contains("br-test") && stdin.contains("10.9.0.0/24"),
        "{stdin}"
    );
    // A configuration that comes later holds for new pods, and is not forgotten about old ones.
    node.configure("1.0.0", r#"{"type":"a"}"#);
    node.order();
    network.attach(sandbox("s2")).await.unwrap();
    network.detach("s1", NETNS).await.unwrap();
    assert_eq!(node.order(), ["a ADD", "insula-net DEL"]);
    // A configuration that is wrong is not replaced in silence.
    node.write_conf("10-test.conflist", "{");
    assert!(!network.status().await.is_ready());
}

#[tokio::test]
async fn a_failed_add_is_undone_by_all_plugins() {
    let node = Node::new();
    node.plugin("a", "ADD) echo \"$RESULT\";;");
    node.plugin(
        "b",
        r#"ADD) echo oops >&2; echo '{"code":11,"msg":"busy","details":"no lease"}'; exit 1;;"#,
    );
    node.plugin("c", "ADD) echo \"$RESULT\";;");
    node.configure("1.0.0", r#"{"type":"a"},{"type":"b"},{"type":"c"}"#);
    let network = node.open().await;
    let error = network.attach(sandbox("s1")).await.unwrap_err();
    assert!(error.is_transient());
    let Error::PluginFailed(failure) = &error else {
        panic!("{error}");
    };
    assert_eq!(failure.code, Some(11));
    let text = error.to_string();
    for part in [
        "\"b\"",
        "ADD",
        "\"net\"",
        "try again later",
        "busy; no lease",
        "oops",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(node.order(), ["a ADD", "b ADD", "c DEL", "b DEL", "a DEL"]);
    assert_eq!(node.records(), Vec::<String>::new());
}

#[tokio::test]
async fn results_without_an_address_are_failures() {
    let node = Node::new();
    for output in [
        "true",
        "echo '{}'",
        "echo nonsense",
        r#"echo '{"cniVersion":"0.2.0"}'"#,
    ] {
        node.plugin("a", &format!("ADD) {output};;"));
        node.configure("1.0.0", r#"{"type":"a"}"#);
        let network = node.open().await;
        let error = network.attach(sandbox("s1")).await.unwrap_err();
        assert!(
            matches!(error, Error::BadAnswer { .. }),
            "{output}: {error}"
        );
        assert_eq!(node.order(), ["a ADD", "a DEL"], "{output}");
        assert_eq!(node.records(), Vec::<String>::new(), "{output}");
    }
}

#[tokio::test]
async fn a_delete_that_fails_is_kept_and_repeated() {
    let node = Node::new();
    node.plugin("a", "ADD) echo \"$RESULT\";;");
    node.plugin("b", "ADD) exit 1;; DEL) exit 1;;");
    node.configure("1.0.0", r#"{"type":"a"},{"type":"b"}"#);
    let network = node.open().await;
    network.attach(sandbox("s1")).await.unwrap_err();
    // The other plugin released what it had all the same.
    assert_eq!(node.order(), ["a ADD", "b ADD", "b DEL", "a DEL"]);
    assert_eq!(node.records(), ["s1.json"]);
    assert!(matches!(
        network.attach(sandbox("s1")).await,
        Err(Error::AlreadyAttached(_))
    ));
    network.detach("s1", NETNS).await.unwrap_err();
    assert_eq!(node.records(), ["s1.json"]);
    // Code 3: the plugin knows of nothing to undo.
    node.plugin("b", r#"DEL) echo '{"code":3,"msg":"unknown"}'; exit 1;;"#);
    network.detach("s1", NETNS).await.unwrap();
    assert_eq!(node.records(), Vec::<String>::new());
}

#[tokio::test]
async fn a_plugin_that_hangs_is_killed_with_its_children() {
    let mut node = Node::new();
    node.plugin(
        "a",
        "ADD) sleep 1000 & echo $! > $LOG/child; echo $$ > $LOG/leader; echo waiting >&2; wait;;",
    );
    node.configure("1.0.0", r#"{"type":"a"}"#);
    node.config.plugin_deadline = Duration::from_secs(2);
    let network = node.open().await;
    let error = network.attach(sandbox("s1")).await.unwrap_err();
    assert!(matches!(error, Error::PluginTimeout { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("did not finish ADD") && text.contains("waiting"),
        "{text}"
    );
    for file in ["leader", "child"] {
        until(file, || is_dead(&node.log(file))).await;
    }
    assert_eq!(node.order(), ["a ADD", "a DEL"]);
    assert_eq!(node.records(), Vec::<String>::new());
}

#[tokio::test]
async fn a_dropped_attach_is_killed_and_can_be_undone() {
    let node = Node::new();
    node.plugin(
        "a",
        "ADD) sleep 1000 & echo $! > $LOG/child.new; mv $LOG/child.new $LOG/child; wait;;",
    );
    node.configure("1.0.0", r#"{"type":"a"}"#);
    let network = node.open().await;
    let task = tokio::spawn({
        let network = network.clone();
        async move { network.attach(sandbox("s1")).await }
    });
    until("the plugin runs", || node.log("child").exists()).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    until("the child is dead", || is_dead(&node.log("child"))).await;
    assert_eq!(node.records(), ["s1.json"]);
    let report = network.gc(&HashSet::new()).await.unwrap();
    assert_eq!(report.removed, ["s1"]);
    assert_eq!(node.order(), ["a ADD", "a DEL"]);
    assert!(
        !node
            .seen("a", "DEL", "stdin")
            .unwrap()
            .contains("prevResult")
    );
    assert_eq!(node.records(), Vec::<String>::new());
}

#[tokio::test]
async fn output_is_bounded_and_a_left_behind_child_is_not_waited_for() {
    let node = Node::new();
    node.configure("1.0.0", r#"{"type":"a"}"#);
    let network = node.open().await;
    node.plugin("a", "ADD) head -c 2000000 /dev/zero;;");
    let error = network.attach(sandbox("s1")).await.unwrap_err().to_string();
    assert!(error.contains("more than 1048576 bytes"), "{error}");

    node.plugin(
        "a",
        "ADD) head -c 2000000 /dev/zero | tr '\\0' x >&2; exit 1;;",
    );
    let error = network.attach(sandbox("s1")).await.unwrap_err().to_string();
    assert!(
        error.contains("xxx") && error.len() < 2_000,
        "{}",
        error.len()
    );

    node.plugin(
        "a",
        "ADD) sleep 1000 & echo $! > $LOG/child; echo \"$RESULT\";;",
    );
    network.attach(sandbox("s1")).await.unwrap();
    // A success leaves the plugin's daemon alone.
    assert!(!is_dead(&node.log("child")));
    let pid = fs::read_to_string(node.log("child")).unwrap();
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    network.detach("s1", NETNS).await.unwrap();
}

#[tokio::test]
async fn a_plugin_need_not_read_its_input() {
    let node = Node::new();
    let path = node.dir.path().join("bin/a");
    fs::write(&path, format!("#!/bin/sh\nexec 0<&-\necho '{RESULT}'\n")).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let padding = "x".repeat(500_000);
    node.configure("1.0.0", &format!(r#"{{"type":"a","padding":"{padding}"}}"#));
    node.open().await.attach(sandbox("s1")).await.unwrap();
}

#[tokio::test]
async fn bad_requests_run_nothing() {
    let node = Node::new();
    node.plugin("a", "ADD) echo \"$RESULT\";;");
    let network = node.open().await;
    assert!(matches!(
        network.attach(sandbox("s1")).await,
        Err(Error::NoConfiguration(_))
    ));
    node.configure("1.0.0", r#"{"type":"a"},{"type":"absent"}"#);
    assert!(matches!(
        network.attach(sandbox("s1")).await,
        Err(Error::PluginMissing { .. })
    ));
    node.configure("1.0.0", r#"{"type":"../log/a"}"#);
    assert!(matches!(
        network.attach(sandbox("s1")).await,
        Err(Error::BadConfiguration { .. })
    ));
    node.configure("1.0.0", r#"{"type":"a"}"#);
    for id in ["", "../s1", "a/b", ".x"] {
        assert!(matches!(
            network.attach(sandbox(id)).await,
            Err(Error::InvalidAttachment(_))
        ));
        assert!(network.detach(id, NETNS).await.is_err());
    }
    let mut request = sandbox("s1");
    request.netns = node.dir.path().to_owned();
    assert!(matches!(
        network.attach(request).await,
        Err(Error::InvalidAttachment(_))
    ));
    let mut request = sandbox("s1");
    request.pod.name = "web;K8S_POD_NAMESPACE=kube-system".into();
    assert!(matches!(
        network.attach(request).await,
        Err(Error::InvalidAttachment(_))
    ));
    assert_eq!(node.order(), Vec::<String>::new());
    assert_eq!(node.records(), Vec::<String>::new());
}

#[tokio::test]
async fn check_asks_with_the_cached_result() {
    let node = Node::new();
    node.plugin("a", "ADD) echo \"$RESULT\";;");
    node.configure("1.0.0", r#"{"type":"a"}"#);
    let network = node.open().await;
    assert!(matches!(
        network.check("s1").await,
        Err(Error::NotAttached(_))
    ));
    network.attach(sandbox("s1")).await.unwrap();
    network.check("s1").await.unwrap();
    assert!(node.seen("a", "CHECK", "stdin").unwrap().contains(RESULT));
    node.plugin("a", "CHECK) exit 1;;");
    assert!(matches!(
        network.check("s1").await,
        Err(Error::PluginFailed(_))
    ));
    network.detach("s1", NETNS).await.unwrap();

    // Neither before 0.4.0 nor where it is disabled; and DEL of 0.3.1 gets no result.
    let old = RESULT.replace("1.0.0", "0.3.1");
    node.plugin("a", &format!("ADD) echo '{old}';; CHECK) exit 1;;"));
    node.configure("0.3.1", r#"{"type":"a"}"#);
    network.attach(sandbox("s2")).await.unwrap();
    network.check("s2").await.unwrap();
    network.detach("s2", NETNS).await.unwrap();
    assert!(
        !node
            .seen("a", "DEL", "stdin")
            .unwrap()
            .contains("prevResult")
    );
    node.plugin("a", "ADD) echo \"$RESULT\";; CHECK) exit 1;;");
    node.write_conf(
        "10-test.conflist",
        r#"{"cniVersion":"1.0.0","name":"net","disableCheck":true,"plugins":[{"type":"a"}]}"#,
    );
    network.attach(sandbox("s3")).await.unwrap();
    network.check("s3").await.unwrap();
}

fn message(status: &NetworkStatus) -> &str {
    assert!(!status.is_ready());
    assert_eq!(status.reason(), "NetworkPluginNotReady");
    status.message()
}

#[tokio::test]
async fn readiness_follows_the_truth() {
    let mut node = Node::new();
    node.config.status_interval = Duration::ZERO;
    node.config.status_grace = Duration::ZERO;
    let network = node.open().await;
    let status = network.status().await;
    assert!(
        message(&status).contains("no CNI configuration in"),
        "{status:?}"
    );
    node.write_conf("10-test.conflist", "{");
    let status = network.status().await;
    assert!(message(&status).contains("10-test.conflist"), "{status:?}");
    node.configure("1.1.0", r#"{"type":"a","ipam":{"type":"ip"}}"#);
    let status = network.status().await;
    assert!(
        message(&status).contains("\"a\" is not an executable file in"),
        "{status:?}"
    );
    node.plugin(
        "a",
        r#"VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}';;"#,
    );
    let status = network.status().await;
    assert!(
        message(&status).contains("\"ip\" is not an executable file"),
        "{status:?}"
    );
    node.plugin("ip", "");
    let status = network.status().await;
    assert!(
        message(&status).contains("it speaks 0.4.0, 1.0.0, but"),
        "{status:?}"
    );
    node.plugin("a", r#"VERSION) echo '{"supportedVersions":["1.1.0"]}';; STATUS) echo '{"code":50,"msg":"agent is down"}'; exit 1;;"#);
    let status = network.status().await;
    assert!(message(&status).contains("agent is down"), "{status:?}");
    node.plugin("a", "");
    assert_eq!(network.status().await, NetworkStatus::Ready);
    assert_eq!(node.variable("a", "STATUS", "CNI_CONTAINERID"), None);
    fs::remove_dir_all(&node.config.conf_dir).unwrap();
    assert!(!network.status().await.is_ready());
}

#[tokio::test]
async fn plugins_are_not_asked_for_each_status() {
    let mut node = Node::new();
    node.config.status_interval = Duration::from_mins(10);
    node.plugin("a", "");
    node.configure("1.1.0", r#"{"type":"a"}"#);
    let network = node.open().await;
    for _ in 0..3 {
        assert!(network.status().await.is_ready());
    }
    assert_eq!(node.order(), ["a STATUS"]);
    // Another configuration is another question.
    node.configure("1.1.0", r#"{"type":"a","new":true}"#);
    assert!(network.status().await.is_ready());
    assert_eq!(node.order(), ["a STATUS"]);
}

#[tokio::test]
async fn garbage_collection_spares_the_valid_ones() {
    let node = Node::new();
    node.plugin("a", "ADD) echo \"$RESULT\" | sed 's/1.0.0/1.1.0/';;");
    node.configure("1.1.0", r#"{"type":"a"}"#);
    let before = node.open().await;
    for id in ["stale", "valid", "other"] {
        before.attach(sandbox(id)).await.unwrap();
    }
    drop(before);
    // As after a reboot: the namespace that is at the path now is another one.
    let record = node.config.state_dir.join("stale.json");
    let text = fs::read_to_string(&record).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    fs::write(&record, text.replace(boot.trim(), "an-earlier-boot")).unwrap();
    fs::write(node.config.state_dir.join("broken.json"), "{").unwrap();
    node.order();

    let network = node.open().await;
    network.attach(sandbox("live")).await.unwrap();
    node.order();
    let report = network
        .gc(&HashSet::from(["valid".to_owned()]))
        .await
        .unwrap();
    assert_eq!(report.removed, ["other", "stale"]);
    assert!(report.failed.is_empty(), "{report:?}");
    assert_eq!(node.order(), ["a DEL", "a DEL", "a GC"]);
    assert_eq!(node.variable("a", "DEL", "CNI_NETNS").unwrap(), "");
    assert!(node.seen("a", "GC", "stdin").unwrap().ends_with(
        r#""cni.dev/valid-attachments":[{"containerID":"live","ifname":"eth0"},{"containerID":"valid","ifname":"eth0"}]}"#
    ));
    assert_eq!(
        node.records(),
        [
            "broken.json.bad",
            "live.json",
            "live.result",
            "valid.json",
            "valid.result"
        ]
    );

    node.write_conf(
        "10-test.conflist",
        r#"{"cniVersion":"1.1.0","name":"net","disableGC":true,"plugins":[{"type":"a"}]}"#,
    );
    network.gc(&HashSet::new()).await.unwrap();
    assert_eq!(
        node.order(),
        ["a DEL"],
        "live stays, valid goes, GC is not asked"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chains_run_side_by_side_but_not_too_many() {
    let mut node = Node::new();
    node.config.max_concurrent = 2;
    node.plugin(
        "a",
        "ADD) mkdir $LOG/run.$$; ls -d $LOG/run.* | wc -l >> $LOG/count; sleep 0.1; rmdir $LOG/run.$$; echo \"$RESULT\";;",
    );
    node.configure("1.0.0", r#"{"type":"a"}"#);
    let network = node.open().await;
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let network = network.clone();
            tokio::spawn(async move { network.attach(sandbox(&format!("s{number}"))).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let counts = fs::read_to_string(node.log("count")).unwrap();
    let most: usize = counts
        .lines()
        .map(|line| line.trim().parse().unwrap())
        .max()
        .unwrap();
    assert!(most <= 2, "{counts}");
    assert_eq!(network.attachments().await.unwrap().len(), 8);
}

#[tokio::test]
async fn pod_ranges_last_over_a_restart() {
    let node = Node::new();
    node.plugin("a", "ADD) echo \"$RESULT\";;");
    node.configure("1.0.0", r#"{"type":"a","capabilities":{"ipRanges":true}}"#);
    let network: Network = node.open().await;
    assert!(network.set_pod_cidrs("10.1.0.0/33").await.is_err());
    network
        .set_pod_cidrs("10.1.0.0/24,fd00::/64")
        .await
        .unwrap();
    network.set_pod_cidrs("").await.unwrap();
    drop(network);
    let network = node.open().await;
    assert_eq!(network.pod_cidrs().len(), 2);
    network.attach(sandbox("s1")).await.unwrap();
    assert!(node.seen("a", "ADD", "stdin").unwrap().contains(
        r#""runtimeConfig":{"ipRanges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00::/64"}]]}"#
    ));
}
