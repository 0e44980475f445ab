//! Attacks that other runtimes have fallen to, replayed; each names the flaw where there is one.

use crate::support::calls::exec_request;
use crate::support::case::cases;
use crate::support::outcome::{check, check_contains, check_eq};
use crate::support::requests::{
    self, BUSYBOX, host_pod, mount, of_image, script, sleeper, variable,
};
use crate::support::{Case, Node, Outcome};
use insula_cri_api::v1::{
    Capability, ContainerConfig, Int64Value, LinuxContainerUser, SupplementalGroupsPolicy,
};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

pub fn cases() -> Vec<Case> {
    cases![
        an_endless_output_of_an_exec_is_cut,
        users_are_numbers_or_names_and_nothing_between,
        an_exec_has_the_user_of_its_container,
        groups_follow_the_policy,
        masked_and_read_only_paths_hold,
        masks_hold_where_the_image_or_a_volume_has_links,
        capabilities_are_what_was_asked_for,
        no_new_privileges_holds,
        the_daemons_directories_are_closed_to_users,
        a_working_directory_cannot_leave_by_a_descriptor,
        mount_points_that_are_links_stay_inside,
        files_that_the_runtime_writes_do_not_follow_links,
        environments_are_not_mixed_up,
        layers_stay_inside_of_their_image,
        accounts_that_are_no_files_are_refused,
    ]
}

fn user(config: &mut ContainerConfig, uid: i64) {
    requests::security(config).run_as_user = Some(Int64Value { value: uid });
}

/// CVE-2022-31030.
async fn an_endless_output_of_an_exec_is_cut(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("exec")).await?;
    let id = node.run(&pod, sleeper("main")).await?;
    let status = format!("/proc/{}/status", node.daemon()?.pid());
    let text = "yes | head -c 60000000; yes error | head -c 40000000 >&2";
    let mut runtime = node.runtime()?;
    for _ in 0..3 {
        let answer = runtime
            .exec_sync(exec_request(&id, &["sh", "-c", text], 60))
            .await?
            .into_inner();
        // Both together, since clients take no answer of more than 16 MiB.
        let kept = answer.stdout.len() + answer.stderr.len();
        check!(
            (15 << 20..=16 << 20).contains(&kept) && !answer.stderr.is_empty(),
            "bytes of output: {kept}"
        );
        check_eq!(answer.exit_code, 0, "exit code: the writer must not notice");
    }
    let peak = std::fs::read_to_string(status)?;
    let peak = peak
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap_or_default()
        .trim()
        .to_owned();
    let kilobytes: u64 = peak.trim_end_matches(" kB").parse()?;
    check!(
        kilobytes < 400 << 10,
        "the daemon's memory has peaked at {peak}"
    );
    Ok(())
}

/// CVE-2024-40635, CVE-2026-46680, CVE-2026-30892.
pub(super) async fn users_are_numbers_or_names_and_nothing_between(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("users")).await?;
    node.pull(BUSYBOX).await?;
    for uid in [-1, 1 << 31, (1 << 32) - 1, 1 << 32, i64::MAX, i64::MIN] {
        let mut config = sleeper("bad");
        user(&mut config, uid);
        check_contains!(
            node.refused_container(&pod, config).await?,
            "InvalidArgument: "
        );
    }
    for name in [
        "4294967296",
        "99999999999",
        "-1",
        "1:0",
        "root\nx",
        "2147483648",
    ] {
        let mut config = sleeper("bad");
        requests::security(&mut config).run_as_username = name.into();
        let error = node.refused_container(&pod, config).await?;
        check!(error.starts_with("InvalidArgument: "), "{name:?}: {error}");
    }
    Ok(())
}

async fn an_exec_has_the_user_of_its_container(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("users")).await?;
    let staging = "gcr.io/k8s-staging-cri-tools";
    let cases: Vec<(String, Option<i64>, &str)> = vec![
        (format!("{staging}/test-image-user-uid"), None, "1002 0 0"),
        (
            format!("{staging}/test-image-user-username"),
            None,
            "33 33 33",
        ),
        (
            format!("{staging}/test-image-user-uid-group"),
            None,
            "1003 1004 1004",
        ),
        (
            format!("{staging}/test-image-user-username-group"),
            None,
            "33 1004 1004",
        ),
        (
            format!("{staging}/test-image-predefined-group"),
            None,
            "1000",
        ),
        (BUSYBOX.to_owned(), Some(1), "1 1 1"),
        (BUSYBOX.to_owned(), Some(2_147_483_647), "2147483647 0 0"),
    ];
    for (number, (reference, uid, wanted)) in cases.into_iter().enumerate() {
        let name = format!("user-{number}");
        let mut config = of_image(&name, &reference);
        config.command = [
            "sh",
            "-c",
            "echo $(id -u) $(id -g) $(id -G); exec sleep 7777",
        ]
        .map(str::to_owned)
        .into();
        if let Some(uid) = uid {
            user(&mut config, uid);
        }
        let id = node.run(&pod, config).await?;
        let started = node.wait_for_output(&id, "\n").await?;
        let ran = node.shell(&id, "echo $(id -u) $(id -g) $(id -G)").await?;
        check!(
            started.starts_with(wanted),
            "{reference}: {started:?}, wanted {wanted:?}"
        );
        check_eq!(ran, started, "exec in {reference}");
        let told = node
            .container_status(&id)
            .await?
            .user
            .and_then(|user| user.linux)
            .unwrap_or_default();
        let words: Vec<_> = started.split_whitespace().map(str::to_owned).collect();
        check_eq!(
            words[..2],
            [told.uid.to_string(), told.gid.to_string()],
            "user in the status"
        );
        node.remove(&id).await?;
    }
    Ok(())
}

/// CVE-2023-25173.
async fn groups_follow_the_policy(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("groups")).await?;
    let reference = "gcr.io/k8s-staging-cri-tools/test-image-predefined-group";
    for (policy, wanted) in [
        (SupplementalGroupsPolicy::Merge, vec![1000, 1234, 50000]),
        (SupplementalGroupsPolicy::Strict, vec![1000, 1234]),
    ] {
        let mut config = of_image(&format!("{policy:?}").to_lowercase(), reference);
        config.command = ["sh", "-c", "id -G; exec sleep 7777"]
            .map(str::to_owned)
            .into();
        let security = requests::security(&mut config);
        security.supplemental_groups = vec![1234];
        security.supplemental_groups_policy = policy.into();
        let id = node.run(&pod, config).await?;
        let sorted = |text: &str| -> Vec<i64> {
            let mut groups: Vec<_> = text
                .split_whitespace()
                .filter_map(|group| group.parse().ok())
                .collect();
            groups.sort_unstable();
            groups
        };
        let started = sorted(&node.wait_for_output(&id, "\n").await?);
        check_eq!(
            sorted(&node.shell(&id, "id -G").await?),
            started,
            "groups of an exec"
        );
        let LinuxContainerUser {
            gid,
            mut supplemental_groups,
            ..
        } = node
            .container_status(&id)
            .await?
            .user
            .and_then(|user| user.linux)
            .unwrap_or_default();
        supplemental_groups.sort_unstable();
        check_eq!(supplemental_groups, started, "groups in the status");
        check!(
            started.contains(&gid),
            "the primary group is not among {started:?}"
        );
        check_eq!(started, wanted, "groups by {policy:?}");
        node.remove(&id).await?;
    }
    Ok(())
}

pub(super) async fn masked_and_read_only_paths_hold(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("masks")).await?;
    let mut config = sleeper("main");
    let security = requests::security(&mut config);
    security.masked_paths = [
        "/proc/kcore",
        "/proc/keys",
        "/proc/timer_list",
        "/proc/acpi",
        "/sys/firmware",
        "/proc/not-there",
    ]
    .map(str::to_owned)
    .into();
    security.readonly_paths = ["/proc/sys", "/proc/irq", "/proc/sysrq-trigger"]
        .map(str::to_owned)
        .into();
    let id = node.run(&pod, config).await?;
    for file in ["/proc/kcore", "/proc/keys", "/proc/timer_list"] {
        let text = format!("[ ! -e {file} ] || head -c 100 {file} | wc -c");
        let read = node.shell(&id, &text).await?;
        check!(
            matches!(read.trim(), "" | "0"),
            "{file} can be read: {read}"
        );
    }
    for directory in ["/proc/acpi", "/sys/firmware"] {
        check_eq!(
            node.shell(&id, &format!("[ ! -e {directory} ] || ls -A {directory}"))
                .await?,
            "",
            "{directory}"
        );
    }
    for file in [
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
    ] {
        let write = node
            .exec(
                &id,
                &["sh", "-c", &format!("[ -e {file} ] && echo x > {file}")],
            )
            .await?;
        check!(write.code != 0, "{file} can be written");
    }
    // Without lists there is no mask (procMount: Unmasked).
    let open = node.run(&pod, sleeper("open")).await?;
    let mounts = node.shell(&open, "cat /proc/mounts").await?;
    for path in ["/proc/timer_list", "/proc/keys", "/proc/sys"] {
        check!(
            !mounts.contains(&format!(" {path} ")),
            "{path} is masked, although nobody asked for it"
        );
    }
    // Nor does AppArmor's default profile take its place. timer_list wants rights over the host.
    let keys = node.shell(
        &open,
        "[ ! -e /proc/keys ] || head -c 100 /proc/keys && echo read",
    );
    check_contains!(keys.await?, "read");
    Ok(())
}

/// CVE-2025-31133, CVE-2019-19921: `/dev/null` and `/proc` of the image or of a volume are links.
async fn masks_hold_where_the_image_or_a_volume_has_links(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("masks")).await?;
    let trap = node.path("volumes/dev");
    std::fs::create_dir(&trap)?;
    std::os::unix::fs::symlink("/proc/sys/kernel/core_pattern", trap.join("null"))?;
    std::os::unix::fs::symlink("/tmp", trap.join("shm"))?;
    let before = std::fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    let mut config = script(
        "main",
        "head -c 10 /proc/keys | wc -c; grep core_pattern /proc/mounts; exit 0",
    );
    mount(&mut config, &trap, "/dev");
    requests::security(&mut config).masked_paths = vec!["/proc/keys".into()];
    // Refused, or confined: both are right, an escape is not.
    match node.run(&pod, config).await {
        Ok(id) => {
            node.wait_for_end(&id).await?;
            check_eq!(node.stdout(&id).await?, "0\n", "the mask");
        }
        Err(stop) => check_contains!(stop.text().to_owned(), "/dev"),
    }
    check_eq!(
        std::fs::read_to_string("/proc/sys/kernel/core_pattern")?,
        before,
        "core_pattern"
    );
    Ok(())
}

/// CVE-2022-29162 and its kin; CVE-2016-8867.
pub(super) async fn capabilities_are_what_was_asked_for(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("capabilities")).await?;
    let sets = "grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | tr -d '\\n\\t'";
    let given = |add: &[&str], drop: &[&str], uid: i64| {
        let mut config = script("caps", &format!("{sets}; echo; exec sleep 7777"));
        requests::security(&mut config).capabilities = Some(Capability {
            add_capabilities: add.iter().map(|name| (*name).to_owned()).collect(),
            drop_capabilities: drop.iter().map(|name| (*name).to_owned()).collect(),
            ..Capability::default()
        });
        user(&mut config, uid);
        config
    };
    let of = |inheritable: &str, effective: &str, bounding: &str| {
        format!(
            "CapInh:{inheritable}CapPrm:{effective}CapEff:{effective}CapBnd:{bounding}CapAmb:{inheritable}"
        )
    };
    let none = "0000000000000000";
    let default = "00000000a80425fb";
    let cases = [
        (given(&[], &[], 0), of(none, default, default)),
        (
            given(&["NET_ADMIN"], &["ALL"], 0),
            of(none, "0000000000001000", "0000000000001000"),
        ),
        (given(&[], &["ALL"], 0), of(none, none, none)),
        (
            given(&["NET_ADMIN"], &["CHOWN"], 0),
            of(none, "00000000a80435fa", "00000000a80435fa"),
        ),
        (given(&["NET_RAW"], &[], 1000), of(none, none, default)),
        {
            // Both are in force for a user that is not root, and for execs.
            let mut config = given(&[], &["ALL"], 1000);
            let ambient = ["NET_BIND_SERVICE", "CHOWN"].map(str::to_owned).to_vec();
            requests::security(&mut config)
                .capabilities
                .get_or_insert_default()
                .add_ambient_capabilities = ambient;
            let both = "0000000000000401";
            (config, of(both, both, both))
        },
    ];
    for (number, (mut config, wanted)) in cases.into_iter().enumerate() {
        config.metadata.get_or_insert_default().attempt = u32::try_from(number)?;
        config.log_path = format!("{number}.log");
        let id = node.run(&pod, config).await?;
        let started = node.wait_for_output(&id, "CapAmb").await?;
        check_eq!(
            started.trim(),
            wanted,
            "capabilities at the start, case {number}"
        );
        check_eq!(
            node.shell(&id, sets).await?,
            wanted,
            "capabilities of an exec, case {number}"
        );
        node.remove(&id).await?;
    }
    let error = node
        .refused_container(&pod, given(&["FLY"], &[], 0))
        .await?;
    check_contains!(
        error,
        "unknown capability \"FLY\": use a name of capabilities(7) such as NET_ADMIN, or ALL"
    );
    Ok(())
}

pub(super) async fn no_new_privileges_holds(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("privileges")).await?;
    for (name, no_new, wanted) in [
        ("plain", false, "Effective uid: 0"),
        ("locked", true, "Effective uid: 1000"),
    ] {
        let mut config = of_image(name, "registry.k8s.io/e2e-test-images/nonewprivs:1.3");
        config.command = ["sh", "-c", "/usr/local/bin/nnp; exec sleep 7777"]
            .map(str::to_owned)
            .into();
        user(&mut config, 1000);
        requests::security(&mut config).no_new_privs = no_new;
        let id = node.run(&pod, config).await?;
        check_contains!(node.wait_for_output(&id, "Effective").await?, wanted);
        check_contains!(node.shell(&id, "/usr/local/bin/nnp").await?, wanted);
    }
    Ok(())
}

/// CVE-2021-41103, CVE-2024-25621.
async fn the_daemons_directories_are_closed_to_users(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("closed")).await?;
    let id = node
        .run(
            &pod,
            script("main", "echo secret > /secret; exec sleep 7777"),
        )
        .await?;
    node.shell(&id, "while [ ! -e /secret ]; do sleep 0.01; done")
        .await?;
    let as_nobody = |text: &str| -> Outcome<String> {
        let output = Command::new("sh")
            .args(["-c", text])
            .uid(65534)
            .gid(65534)
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    for directory in ["root", "state"] {
        let at = node.path(directory);
        let names = as_nobody(&format!("ls {} 2>/dev/null", at.display()))?;
        check_eq!(names, "", "names in {directory} that a user sees");
    }
    let known = [
        format!(
            "cat {}/pods/{}/pod.json",
            node.path("state").display(),
            pod.id
        ),
        format!("ls {}/pods/{}", node.path("state").display(), pod.id),
        format!("ls {}/rw/{id}", node.path("root").display()),
        format!("find {}/rw/{id} -name secret", node.path("root").display()),
        format!("ls {}/layers", node.path("root").display()),
        format!("cat {}/images/*", node.path("root").display()),
    ];
    for text in known {
        check_eq!(as_nobody(&format!("{text} 2>/dev/null"))?, "", "{text}");
    }
    let socket = node.path("state/insula.sock");
    let connected = Command::new("python3")
        .arg("-c")
        .arg("import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])")
        .arg(socket)
        .uid(65534)
        .gid(65534)
        .output()?;
    check_contains!(
        String::from_utf8_lossy(&connected.stderr),
        "PermissionError"
    );
    Ok(())
}

/// CVE-2024-21626.
async fn a_working_directory_cannot_leave_by_a_descriptor(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("directory")).await?;
    node.pull(BUSYBOX).await?;
    let volume = node.path("volumes");
    for fd in 3..24 {
        std::os::unix::fs::symlink(
            format!("/proc/self/fd/{fd}"),
            volume.join(format!("link-{fd}")),
        )?;
        for directory in [format!("/proc/self/fd/{fd}"), format!("/vol/link-{fd}")] {
            let mut config = script(
                "main",
                "ls -d ./../../../../../etc/insula-e2e* 2>/dev/null; pwd; ls -A . | head -n 3",
            );
            config.metadata.get_or_insert_default().attempt = fd;
            config.working_dir.clone_from(&directory);
            mount(&mut config, &volume, "/vol");
            let error = node.refused_container(&pod, config).await;
            let error = error.map_err(|stop| stop.within(&directory))?;
            check_contains!(error, directory);
            for container in node.containers().await? {
                node.remove(&container.id).await?;
            }
        }
    }
    Ok(())
}

/// CVE-2021-30465, CVE-2024-45310.
async fn mount_points_that_are_links_stay_inside(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("links")).await?;
    let (shared, canary, other) = (
        node.path("volumes/shared"),
        node.path("volumes/canary"),
        node.path("volumes/other"),
    );
    for directory in [&shared, &canary, &other] {
        std::fs::create_dir(directory)?;
    }
    std::fs::write(canary.join("file"), "of the host")?;
    std::fs::write(other.join("name"), "other")?;
    let up = "../".repeat(20);
    std::os::unix::fs::symlink(
        format!("{up}{}", canary.strip_prefix("/")?.display()),
        shared.join("up"),
    )?;
    std::os::unix::fs::symlink(&canary, shared.join("absolute"))?;
    std::os::unix::fs::symlink("/proc/self/cwd", shared.join("magic"))?;
    for (number, link) in ["up", "absolute", "magic"].into_iter().enumerate() {
        let mut config = script(
            "main",
            "cat /vol/*/sub/name 2>/dev/null; cat /vol/*/file; exit 0",
        );
        config.metadata.get_or_insert_default().attempt = u32::try_from(number)?;
        mount(&mut config, &shared, "/vol");
        mount(&mut config, &other, &format!("/vol/{link}/sub"));
        match node.run(&pod, config).await {
            Ok(id) => {
                node.wait_for_end(&id).await?;
                let output = node.stdout(&id).await?;
                check!(!output.contains("of the host"), "{link}: {output}");
            }
            Err(stop) => check!(stop.text().contains("/vol/"), "{link}: {}", stop.text()),
        }
        let names: Vec<_> = std::fs::read_dir(&canary)?
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        check_eq!(names, ["file"], "files of the host after {link}");
    }
    // A live attacker swaps the mount point while containers are started.
    let attacker = {
        let mut config = script(
            "attacker",
            "cd /vol; while :; do mkdir d; mv -T d x; rmdir x; ln -s /proc x; rm x; done 2>/dev/null",
        );
        mount(&mut config, &shared, "/vol");
        node.run(&pod, config).await?
    };
    for number in 0..30 {
        let mut config = script(
            "victim",
            "cat /vol/x/*/file /proc/*/sub/name 2>/dev/null; grep -c ' /proc' /proc/mounts",
        );
        config.metadata.get_or_insert_default().attempt = number;
        mount(&mut config, &shared, "/vol");
        mount(&mut config, &other, "/vol/x/sub");
        if let Ok(id) = node.run(&pod, config).await {
            node.wait_for_end(&id).await?;
            let output = node.stdout(&id).await?;
            check!(
                !output.contains("of the host") && !output.contains("other"),
                "start {number}: {output}"
            );
            node.remove(&id).await?;
        }
    }
    node.stop(&attacker, 0).await?;
    let names: Vec<_> = std::fs::read_dir(&canary)?
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    check_eq!(names, ["file"], "files of the host");
    Ok(())
}

/// CVE-2025-24965 and the like: hosts, hostname and resolv.conf of the image are links.
async fn files_that_the_runtime_writes_do_not_follow_links(node: &mut Node) -> Outcome {
    let pod = node.run_pod(requests::pod("files")).await?;
    let (etc, canary) = (node.path("volumes/etc"), node.path("volumes/canary"));
    std::fs::create_dir(&etc)?;
    std::fs::write(&canary, "of the host")?;
    for name in ["hosts", "hostname", "resolv.conf"] {
        std::os::unix::fs::symlink(&canary, etc.join(name))?;
    }
    let mut config = script("main", "cat /etc/hostname; exit 0");
    mount(&mut config, &etc, "/etc");
    match node.run(&pod, config).await {
        Ok(id) => {
            node.wait_for_end(&id).await?;
            check!(
                !node.stdout(&id).await?.contains("of the host"),
                "a container reads the host's file"
            );
        }
        Err(stop) => check_contains!(stop.text().to_owned(), "/etc/"),
    }
    check_eq!(
        std::fs::read_to_string(&canary)?,
        "of the host",
        "the host's file"
    );
    Ok(())
}

/// CVE-2021-21334.
async fn environments_are_not_mixed_up(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("environments")).await?;
    node.pull(BUSYBOX).await?;
    let node = &*node;
    let runs = (0..24).map(|number| {
        let pod = &pod;
        async move {
            let mut config = script(&format!("main-{number}"), "env | grep ^OWN");
            config.envs = vec![
                variable("OWN", "first"),
                variable("OWN", &number.to_string()),
                variable(&format!("OWN_{number}"), "x"),
            ];
            let id = node.create(pod, config).await?;
            node.start_container(&id).await?;
            node.wait_for_end(&id).await?;
            let output = node.stdout(&id).await?;
            let mut lines: Vec<_> = output.lines().collect();
            lines.sort_unstable();
            check_eq!(
                lines,
                [format!("OWN={number}"), format!("OWN_{number}=x")],
                "environment"
            );
            Ok(())
        }
    });
    for run in futures_util::future::join_all(runs).await {
        run?;
    }
    Ok(())
}

/// CVE-2025-47290 and the like.
async fn layers_stay_inside_of_their_image(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("layers")).await?;
    let host = std::path::Path::new("/tmp/insula-escaped");
    match node.pull("docker.io/bad/symlink-parent:latest").await {
        Ok(_) => {
            let mut config = of_image("main", "docker.io/bad/symlink-parent:latest");
            config.command = vec!["cat".into(), "/tmp/insula-escaped".into()];
            let (status, output) = node.finish(&pod, config).await?;
            check_eq!(
                (status.exit_code, output.as_str()),
                (0, "outside\n"),
                "a file below a link of its own image"
            );
        }
        Err(stop) => check_contains!(stop.text().to_owned(), "way-out"),
    }
    check!(!host.exists(), "a layer has written {}", host.display());
    Ok(())
}

/// CVE-2026-47262, CVE-2024-9676: the account files are read in-root, bounded, and only if they are files.
async fn accounts_that_are_no_files_are_refused(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("accounts")).await?;
    let canary = node.path("volumes/passwd");
    std::fs::write(&canary, "intruder:x:0:0::/:/bin/sh\n")?;
    // What is mounted over them is not the image's: it must not be looked at for the user.
    let mut config = script("main", "id -u");
    mount(&mut config, &canary, "/etc/passwd");
    requests::security(&mut config).run_as_username = "intruder".into();
    node.pull(BUSYBOX).await?;
    check_contains!(
        node.refused_container(&pod, config).await?,
        "unable to find user \"intruder\": no matching entry in the image's /etc/passwd"
    );
    Ok(())
}
