//! What is wrong is refused with words that name it, and leaves nothing.

use crate::support::calls::{create_request, refusal};
use crate::support::case::cases;
use crate::support::outcome::{check, check_contains, check_eq};
use crate::support::requests::{self, command, host_pod, of_image, pod, script, sleeper};
use crate::support::{Case, Node, Outcome};
use insula_cri_api::v1::security_profile::ProfileType;
use insula_cri_api::v1::{
    ContainerConfig, ContainerState, Int64Value, NamespaceMode, PullImageRequest,
    RunPodSandboxRequest, SeLinuxOption, SecurityProfile,
};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

pub fn cases() -> Vec<Case> {
    cases![
        a_plugin_that_hangs_is_killed,
        a_registry_that_hangs_is_given_up,
        images_that_are_not_what_they_say_are_refused,
        a_registry_that_is_not_there_is_told_so,
        references_that_are_none_are_refused,
        a_full_disk_is_told_so_and_leaves_no_half_image,
        containers_that_cannot_run_are_refused,
        names_in_use_are_refused,
        unknown_runtime_handlers_are_refused,
        what_this_version_cannot_confine_is_refused,
        a_node_without_network_configuration_says_what_is_missing,
        a_plugin_that_fails_is_quoted,
        a_plugin_outside_of_its_directories_is_refused,
        configurations_with_mistakes_are_refused,
        sysctls_that_are_not_the_pods_are_refused,
        paths_that_lead_elsewhere_are_refused,
    ]
}

async fn refused_pull(node: &Node, reference: &str) -> Outcome<String> {
    let image = Some(requests::image(reference));
    let request = PullImageRequest {
        image,
        ..PullImageRequest::default()
    };
    let error = refusal(node.images()?.pull_image(request).await)?;
    // It is taken away behind the answer.
    let begun = Instant::now();
    loop {
        let staged: Vec<_> = std::fs::read_dir(node.path("root/staging"))?
            .flatten()
            .collect();
        if staged.is_empty() {
            break;
        }
        check!(
            begun.elapsed() < Duration::from_secs(5),
            "left in staging by {reference}: {staged:?}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(error)
}

/// Makes a registry host of the node: `host` is served at `url`.
fn write_host(node: &Node, host: &str, url: &str) -> Outcome {
    let directory = node.path("certs.d").join(host);
    std::fs::create_dir_all(&directory)?;
    let text = format!("server = \"{url}\"\ncapabilities = [\"pull\", \"resolve\"]\n");
    Ok(std::fs::write(directory.join("hosts.toml"), text)?)
}

async fn a_registry_that_hangs_is_given_up(node: &mut Node) -> Outcome {
    // The kernel takes the connection; nobody ever reads from it.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    write_host(node, "hangs.example", &format!("http://{address}"))?;
    let begun = Instant::now();
    let error = refused_pull(node, "hangs.example/some/image:1").await?;
    check_eq!(
        error,
        format!(
            "DeadlineExceeded: waiting for {address} to answer GET http://{address}/v2/some/image/manifests/1 made no progress for 60.0 s"
        ),
        "error"
    );
    check!(
        begun.elapsed() < Duration::from_secs(100),
        "it was given up after {:?}",
        begun.elapsed()
    );
    Ok(())
}

async fn a_registry_that_is_not_there_is_told_so(node: &mut Node) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    drop(listener);
    write_host(node, "gone.example", &format!("http://{address}"))?;
    let error = refused_pull(node, "gone.example/some/image:1").await?;
    // kubelet looks for the first word.
    check!(
        error.starts_with("Unavailable: RegistryUnavailable: "),
        "{error}"
    );
    check_contains!(error, address.to_string());
    check_contains!(error, "onnection refused");
    Ok(())
}

async fn images_that_are_not_what_they_say_are_refused(node: &mut Node) -> Outcome {
    let missing = format!("docker.io/library/busybox@sha256:{}", "0".repeat(64));
    let cases: &[(&str, &[&str])] = &[
        (
            "docker.io/library/no-such-image:1",
            &[
                "NotFound: ",
                "docker.io/library/no-such-image:1",
                "not found",
            ],
        ),
        (
            "docker.io/library/busybox:no-such-tag",
            &["NotFound: ", "busybox:no-such-tag"],
        ),
        (&missing, &["NotFound: ", "sha256:0000"]),
        (
            "docker.io/bad/digest:latest",
            &["DataLoss: ", "is corrupt: ", "sha256:"],
        ),
        (
            "docker.io/bad/diff-id:latest",
            &["DataLoss: ", "is corrupt: ", "sha256:"],
        ),
        ("docker.io/bad/size:latest", &["DataLoss: ", "is corrupt: "]),
        (
            "docker.io/bad/traversal:latest",
            &["DataLoss: ", "../escaped", "it leaves the layer"],
        ),
        (
            "docker.io/bad/traversal-inside:latest",
            &["DataLoss: ", "a/../../../escaped", "it leaves the layer"],
        ),
        (
            "docker.io/bad/hard-link:latest",
            &[
                "DataLoss: ",
                "entry \"passwd\": its hard link's target: ",
                "it leaves the layer",
            ],
        ),
        ("docker.io/bad/whiteout:latest", &["DataLoss: ", ".wh..."]),
        ("docker.io/bad/no-platform:latest", &["linux/", "s390x"]),
    ];
    for (reference, words) in cases {
        let error = refused_pull(node, reference).await?;
        for word in *words {
            check!(
                error.contains(word),
                "{reference}: {word:?} is not in {error:?}"
            );
        }
        check!(
            !Path::new("/escaped").exists() && !node.path("root/escaped").exists(),
            "{reference} has escaped"
        );
    }
    let images = node
        .images()?
        .list_images(insula_cri_api::v1::ListImagesRequest::default())
        .await?;
    check_eq!(
        images.into_inner().images,
        [],
        "images after nothing but refusals"
    );
    Ok(())
}

async fn references_that_are_none_are_refused(node: &mut Node) -> Outcome {
    for reference in [
        "",
        "library/UPPER:1",
        "a b",
        "busybox@sha256:../../x",
        "busybox@sha256:ABC",
        "http://x/y",
        "x:y:z",
    ] {
        let error = refused_pull(node, reference).await?;
        check!(
            error.starts_with("InvalidArgument: "),
            "{reference:?}: {error}"
        );
    }
    Ok(())
}

async fn a_full_disk_is_told_so_and_leaves_no_half_image(node: &mut Node) -> Outcome {
    node.terminate().await?;
    let root = node.path("root");
    std::fs::remove_dir_all(&root)?;
    std::fs::create_dir(&root)?;
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount(c"tmpfs", &root, c"tmpfs", flags, c"size=1m,mode=0711")?;
    let result = async {
        node.start().await?;
        let error = refused_pull(node, "docker.io/library/redis:latest").await?;
        check!(
            error.starts_with(&format!(
                "ResourceExhausted: no space left on the file system of {} while writing ",
                root.display()
            )),
            "{error}"
        );
        check_contains!(error, "; free space there or move the store");
        check!(node.pods().await?.is_empty(), "the daemon lists pods");
        node.terminate().await
    }
    .await;
    if result.is_err() && node.daemon().is_ok() {
        node.kill()?;
    }
    rustix::mount::unmount(&root, rustix::mount::UnmountFlags::DETACH)?;
    node.start().await?;
    result
}

async fn containers_that_cannot_run_are_refused(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("bad")).await?;
    for reference in [
        requests::BUSYBOX,
        "docker.io/bad/no-command:latest",
        "docker.io/bad/missing-binary:latest",
        "docker.io/bad/unknown-user:latest",
    ] {
        node.pull(reference).await?;
    }
    let with_user = |change: fn(&mut ContainerConfig)| {
        let mut config = sleeper("user");
        change(&mut config);
        config
    };
    let cases: Vec<(ContainerConfig, &str)> = vec![
        (
            of_image("absent", "docker.io/library/never-pulled:1"),
            "NotFound: ",
        ),
        (
            of_image("no-command", "docker.io/bad/no-command:latest"),
            "no command",
        ),
        (
            of_image("missing", "docker.io/bad/missing-binary:latest"),
            "/no/such/program",
        ),
        (
            command("not-there", &["no-such-program"]),
            "no-such-program",
        ),
        (
            command("no-program", &["/etc/passwd"]),
            "execute program: exec: \"/etc/passwd\": permission denied",
        ),
        (
            command("directory", &["/etc"]),
            "execute program: exec: \"/etc\": permission denied",
        ),
        (
            of_image("unknown-user", "docker.io/bad/unknown-user:latest"),
            "unable to find user \"nosuchuser\": no matching entry in the image's /etc/passwd",
        ),
        (
            with_user(|config| {
                requests::security(config).run_as_group = Some(Int64Value { value: 5 });
            }),
            "needs `run_as_user` or `run_as_username`",
        ),
    ];
    for (config, words) in cases {
        let name = config.metadata.clone().unwrap_or_default().name;
        let error = node.refused_container(&pod, config).await?;
        check!(
            error.contains(words),
            "{name}: {words:?} is not in {error:?}"
        );
    }
    // A start that failed can be looked at.
    let config = command("looked-at", &["no-such-program"]);
    let id = node.create(&pod, config).await?;
    check!(
        node.start_container(&id).await.is_err(),
        "a missing program was started"
    );
    let status = node.container_status(&id).await?;
    check_eq!(status.state(), ContainerState::ContainerExited, "state");
    check_eq!(
        (status.reason.as_str(), status.exit_code),
        ("ContainerCannotRun", 128),
        "reason"
    );
    check_contains!(status.message, "no-such-program");
    Ok(())
}

async fn names_in_use_are_refused(node: &mut Node) -> Outcome {
    let first = node.run_pod(host_pod("web")).await?;
    let mut other = host_pod("web");
    other
        .labels
        .insert("another".into(), "configuration".into());
    let error = node.refused_pod(other.clone()).await?;
    check_eq!(
        error,
        format!(
            "AlreadyExists: the name e2e/web (uid uid-web, attempt 0) is in use by pod {}, which was made from a different \
             configuration: remove that one first, or use another attempt number",
            first.id
        ),
        "pod"
    );
    other.metadata.get_or_insert_default().attempt = 1;
    node.run_pod(other).await?;

    let id = node.run(&first, sleeper("main")).await?;
    let error = refusal(
        node.runtime()?
            .create_container(create_request(&first, script("main", "true")))
            .await,
    )?;
    check_eq!(
        error,
        format!(
            "AlreadyExists: the name main (attempt 0) in pod {} is in use by container {id}, which was made from a different \
             configuration: remove that one first, or use another attempt number",
            first.id
        ),
        "container"
    );
    Ok(())
}

async fn unknown_runtime_handlers_are_refused(node: &mut Node) -> Outcome {
    let request = RunPodSandboxRequest {
        config: Some(host_pod("web")),
        runtime_handler: "kata".into(),
    };
    let error = refusal(node.runtime()?.run_pod_sandbox(request).await)?;
    check_eq!(
        error,
        "InvalidArgument: runtime_handler: \"kata\" is not configured, there are \"\" and \"native\"",
        "error"
    );
    Ok(())
}

async fn what_this_version_cannot_confine_is_refused(node: &mut Node) -> Outcome {
    // kubelet asks for it on every pod, where it concerns the pod's own process.
    let mut config = host_pod("web");
    let profile = |kind: ProfileType, reference: &str| {
        Some(SecurityProfile {
            profile_type: kind.into(),
            localhost_ref: reference.into(),
        })
    };
    requests::pod_security(&mut config).seccomp = profile(ProfileType::RuntimeDefault, "");
    let pod = node.run_pod(config).await?;
    node.pull(requests::BUSYBOX).await?;

    let mut cases: Vec<(ContainerConfig, &str)> = Vec::new();
    let mut add =
        |words: &'static str,
         change: &dyn Fn(&mut insula_cri_api::v1::LinuxContainerSecurityContext)| {
            let mut config = sleeper("main");
            change(requests::security(&mut config));
            cases.push((config, words));
        };
    add("seccomp profile", &|security| {
        security.seccomp = profile(ProfileType::Localhost, "/profiles/x.json");
    });
    add(
        "localhost_ref: is empty, but `profile_type` is Localhost",
        &|security| {
            security.seccomp = profile(ProfileType::Localhost, "");
        },
    );
    add("AppArmor profile", &|security| {
        security.apparmor = profile(ProfileType::Localhost, "mine");
    });
    add("is not of the form s0:c1,c2", &|security| {
        security.selinux_options = Some(SeLinuxOption {
            level: "s0,c1,c2".into(),
            ..SeLinuxOption::default()
        });
    });
    for (config, words) in cases {
        let error = node.refused_container(&pod, config).await?;
        check_contains!(error, words);
    }
    let mut unconfined = script("main", "true");
    requests::security(&mut unconfined).seccomp = profile(ProfileType::Unconfined, "");
    let (status, _) = node.finish(&pod, unconfined).await?;
    check_eq!(status.exit_code, 0, "an unconfined container");

    let mut config = requests::mapped_pod(requests::pod("users"));
    requests::namespaces(&mut config)
        .userns_options
        .get_or_insert_default()
        .uids
        .clear();
    let error = node.refused_pod(config).await?;
    check_contains!(error, "has 0 mappings, exactly one is possible");
    Ok(())
}

async fn a_node_without_network_configuration_says_what_is_missing(node: &mut Node) -> Outcome {
    std::fs::remove_file(node.path("cni/10-insula.conflist"))?;
    let error = node.refused_pod(pod("web")).await?;
    check_contains!(
        error,
        format!(
            "no CNI configuration in {}: put a *.conflist there (a network add-on usually does)",
            node.path("cni").display()
        )
    );
    // Pods of the node's network need none.
    node.run_pod(host_pod("host")).await?;
    Ok(())
}

/// A plugin that does as a script says.
fn write_plugin(node: &Node, name: &str, body: &str) -> Outcome {
    std::fs::create_dir_all(node.path("plugins"))?;
    let path = node.path("plugins").join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n"))?;
    Ok(std::fs::set_permissions(
        &path,
        std::fs::Permissions::from_mode(0o755),
    )?)
}

fn use_plugin(node: &Node, name: &str) -> Outcome {
    node.write_network_file(&serde_json::json!({
        "cniVersion": "1.0.0", "name": node.name, "plugins": [{"type": name}],
    }))
}

async fn a_plugin_that_fails_is_quoted(node: &mut Node) -> Outcome {
    let body = r#"case $CNI_COMMAND in
        VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}' ;;
        ADD) echo '{"cniVersion":"1.0.0","code":7,"msg":"no more cables","details":"ask the janitor"}'; exit 1 ;;
    esac"#;
    write_plugin(node, "cables", body)?;
    use_plugin(node, "cables")?;
    let error = node.refused_pod(pod("web")).await?;
    for words in ["\"cables\"", "ADD", "no more cables", "ask the janitor"] {
        check_contains!(error, words);
    }
    write_plugin(
        node,
        "cables",
        "[ $CNI_COMMAND = DEL ] || { echo oops >&2; kill -9 $$; }",
    )?;
    let error = node.refused_pod(pod("web")).await?;
    for words in ["\"cables\"", "oops"] {
        check_contains!(error, words);
    }
    check!(node.pods().await?.is_empty(), "pods that failed are listed");
    Ok(())
}

async fn a_plugin_that_hangs_is_killed(node: &mut Node) -> Outcome {
    // With a child, as shells have them, and only when it is to do something.
    let body = r#"case $CNI_COMMAND in
        VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}' ;;
        ADD) echo waiting for a lock >&2; sleep 7777 & sleep 7776 ;;
    esac"#;
    write_plugin(node, "stuck", body)?;
    use_plugin(node, "stuck")?;
    let error = node.refused_pod(pod("web")).await?;
    check_contains!(
        error,
        "CNI plugin \"stuck\" did not finish ADD for network "
    );
    check_contains!(error, " s and was killed");
    check_contains!(error, "waiting for a lock");
    let mine = node.path("plugins/stuck");
    let left: Vec<_> = crate::support::processes::all()
        .into_iter()
        .filter(|process| process.command.contains(&*mine.to_string_lossy()))
        .collect();
    check!(left.is_empty(), "the plugin lives: {left:?}");
    Ok(())
}

/// CVE-2021-20206.
async fn a_plugin_outside_of_its_directories_is_refused(node: &mut Node) -> Outcome {
    for name in ["../../../../bin/true", "/bin/true", "..", "a/b"] {
        use_plugin(node, name)?;
        let error = node.refused_pod(pod("web")).await?;
        check_contains!(error, "10-insula.conflist");
        check_contains!(error, name);
    }
    Ok(())
}

async fn configurations_with_mistakes_are_refused(node: &mut Node) -> Outcome {
    node.terminate().await?;
    let (file, good) = (node.path("config.toml"), node.configuration());
    let at = file.display();
    let line = good.lines().count() + 1;
    let mut cases = vec![
        (
            format!("{good}levle = \"info\"\n"),
            format!("{at}:{line}: unknown key `log.levle`, did you mean `log.level`?"),
        ),
        (
            format!("{good}[cin]\n"),
            format!("{at}:{line}: unknown key `cin`, did you mean `cni`?"),
        ),
        (
            good.replace("level = \"debug\"", "level = \"loud\""),
            "log.level".to_owned(),
        ),
        (good.replace("[log]", "[log"), format!("{at}:")),
    ];
    if !Path::new("/run/systemd/system").exists() {
        cases.push((
            good.replace("driver = \"cgroupfs\"", "driver = \"systemd\""),
            "this machine was not booted by systemd".to_owned(),
        ));
    }
    for (text, words) in cases {
        std::fs::write(&file, text)?;
        std::fs::write(node.path("log"), "")?;
        node.refused_start().await?;
        check_contains!(node.log(), words);
        // What is found out after the log was opened is said there.
        let log = node.log();
        check!(
            log.contains("insula serve: ") || log.contains("ERROR insula::serve: "),
            "the log does not say who ended: {log}"
        );
    }
    Ok(std::fs::write(&file, good)?)
}

/// CVE-2022-0811, CVE-2022-0532.
async fn sysctls_that_are_not_the_pods_are_refused(node: &mut Node) -> Outcome {
    let host = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")?;
    let with = |name: &str, value: &str, change: fn(&mut insula_cri_api::v1::PodSandboxConfig)| {
        let mut config = pod("web");
        change(&mut config);
        config
            .linux
            .get_or_insert_default()
            .sysctls
            .insert(name.to_owned(), value.to_owned());
        config
    };
    let host_network: fn(&mut _) =
        |config| requests::namespaces(config).network = NamespaceMode::Node.into();
    let host_ipc: fn(&mut _) =
        |config| requests::namespaces(config).ipc = NamespaceMode::Node.into();
    let cases = [
        (
            with("kernel.core_pattern", "|/bin/sh", |_| {}),
            "kernel.core_pattern",
        ),
        (with("kernel.shm_rmid_forced", "1\n2", |_| {}), "one line"),
        (
            with("net/../kernel/core_pattern", "x", |_| {}),
            "net/../kernel/core_pattern",
        ),
        (
            with(
                "kernel.shm_rmid_forced'+'net.ipv4.ip_forward=0",
                "1",
                |_| {},
            ),
            "ip_forward",
        ),
        (
            with("net.ipv4.ip_forward", "1", host_network),
            "would change the node",
        ),
        (
            with("kernel.shm_rmid_forced", "1", host_ipc),
            "would change the node",
        ),
    ];
    for (config, words) in cases {
        let error = node.refused_pod(config).await?;
        check!(error.starts_with("InvalidArgument: "), "{error}");
        check_contains!(error, words);
    }
    check_eq!(
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")?,
        host,
        "the node's ip_forward"
    );
    Ok(())
}

async fn paths_that_lead_elsewhere_are_refused(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("web")).await?;
    node.pull(requests::BUSYBOX).await?;
    let mut log = sleeper("main");
    log.log_path = "../../../../../../tmp/insula-e2e-escaped.log".into();
    let mut relative = sleeper("main");
    requests::mount(&mut relative, Path::new("etc"), "/mnt");
    let mut root = sleeper("main");
    requests::mount(&mut root, Path::new("/etc"), "/tmp/..");
    let mut parent = sleeper("main");
    parent.working_dir = "relative".into();
    for (config, words) in [
        (log, "log_path"),
        (relative, "host_path"),
        (root, "mounts[0]"),
        (parent, "working_dir"),
    ] {
        let error = node.refused_container(&pod, config).await?;
        check!(error.starts_with("InvalidArgument: "), "{words}: {error}");
    }
    check!(
        !Path::new("/tmp/insula-e2e-escaped.log").exists(),
        "the log has escaped"
    );
    Ok(())
}
