//! Pods with user namespaces of their own: root inside is nobody on the host, and all works as
//! without.

use super::image_volumes::{self, with_image};
use super::processes::race;
use super::{labels, seccomp};
use crate::support::calls::Pod;
use crate::support::case::cases;
use crate::support::outcome::{check, check_contains, check_eq};
use crate::support::requests::{self, ids, mapped, mapped_pod, mount, pod, script, sleeper};
use crate::support::{Case, Node, Outcome, cgroup, skip};
use insula_cri_api::v1::security_profile::ProfileType;
use insula_cri_api::v1::{
    Capability, ContainerConfig, Device, Int64Value, NamespaceMode, PodSandboxConfig,
    SecurityProfile,
};
use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The host's id for root inside.
const ROOT: u32 = requests::FIRST_ID;

pub fn cases() -> Vec<Case> {
    cases![
        nothing_of_the_host_is_seen_by_a_racer_in_a_user_namespace,
        nothing_of_the_host_is_seen_by_a_racer_in_a_shared_pid_and_user_namespace,
        root_inside_is_nobody_on_the_host in cgroup,
        nothing_is_mounted_on_the_host,
        each_pid_namespace in cgroup,
        the_nodes_network_and_ipc in cgroup,
        containers_share_a_volume_and_execs_are_mapped,
        a_container_after_a_restart_of_the_daemon,
        rights_and_limits_hold_inside in cgroup,
        devices_and_terminals in cgroup,
        settings_of_the_kernel,
        a_privileged_container_is_root_of_its_pod_only in cgroup,
        what_does_not_go_together_is_refused,
        images_as_volumes_belong_to_root_inside,
        system_calls_are_filtered in cgroup,
        apparmor_profiles_hold in cgroup,
    ]
}

fn pod_with_pid(name: &str, pid: NamespaceMode) -> PodSandboxConfig {
    let mut config = mapped_pod(requests::host_pod(name));
    requests::namespaces(&mut config).pid = pid.into();
    config
}

fn with_pid(config: ContainerConfig, pid: NamespaceMode) -> ContainerConfig {
    let mut config = mapped(config);
    requests::container_namespaces(&mut config).pid = pid.into();
    config
}

/// A volume that is shown with the pod's ids.
fn mapped_mount(config: &mut ContainerConfig, host: &Path, container: &str) {
    let at = mount(config, host, container);
    config.mounts[at].uid_mappings = ids();
    config.mounts[at].gid_mappings = ids();
}

fn directory(node: &Node, name: &str, mode: u32) -> Outcome<PathBuf> {
    let path = node.path("volumes").join(name);
    std::fs::create_dir(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
    Ok(path)
}

fn owner(path: &Path) -> Outcome<(u32, u32)> {
    let metadata =
        std::fs::symlink_metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((metadata.uid(), metadata.gid()))
}

/// A line of a process's status on the host.
fn status_line(pid: i32, name: &str) -> Outcome<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find(|line| line.starts_with(name));
    Ok(line.unwrap_or_default().to_owned())
}

async fn root_inside_is_nobody_on_the_host(node: &mut Node) -> Outcome {
    let (shown, plain) = (
        directory(node, "shown", 0o755)?,
        directory(node, "plain", 0o777)?,
    );
    std::fs::write(shown.join("of-root"), "r")?;
    let pod = node.run_pod(mapped_pod(pod("mapped"))).await?;
    let mut config = mapped(sleeper("main"));
    mapped_mount(&mut config, &shown, "/shown");
    mount(&mut config, &plain, "/plain");
    let id = node.run(&pod, config).await?;
    check_eq!(
        node.shell(&id, "id -u; id -g; cat /proc/self/uid_map | tr -s ' '")
            .await?,
        format!("0\n0\n 0 {ROOT} {}\n", requests::ID_COUNT),
        "ids"
    );
    let pid = node.pid(&id).await?;
    check_eq!(
        status_line(pid, "Uid:")?,
        format!("Uid:\t{ROOT}\t{ROOT}\t{ROOT}\t{ROOT}"),
        "user of the process on the host"
    );
    check_eq!(
        node.shell(
            &id,
            "stat -c %u:%g / /bin/busybox /etc/hosts /etc/resolv.conf /dev /dev/shm /shown/of-root"
        )
        .await?,
        "0:0\n".repeat(7),
        "owners seen inside"
    );
    node.shell(
        &id,
        "mkdir /made && touch /made/file && chown 1000:1001 /made/file && touch /shown/new /plain/new \
         && echo 10.9.8.7 added >> /etc/hosts && touch /bin/busybox",
    )
    .await?;
    let upper = node.path("root/rw").join(&id).join("upper");
    let hosts = node.path("state/pods").join(&pod.id).join("files/hosts");
    for (path, wanted) in [
        (upper.clone(), (ROOT, ROOT)),
        (upper.join("made"), (ROOT, ROOT)),
        (upper.join("made/file"), (ROOT + 1000, ROOT + 1001)),
        // Copied up from the image.
        (upper.join("bin/busybox"), (ROOT, ROOT)),
        (plain.join("new"), (ROOT, ROOT)),
        (hosts.clone(), (ROOT, ROOT)),
        // KEP-127: on disk as it is shown.
        (shown.join("new"), (0, 0)),
    ] {
        check_eq!(owner(&path)?, wanted, "owner of {}", path.display());
    }
    check_contains!(std::fs::read_to_string(hosts)?, "10.9.8.7 added");
    // What belongs to root of the host is out of reach.
    std::fs::write(plain.join("of-root"), "r")?;
    check_eq!(
        node.shell(
            &id,
            "stat -c %u /plain/of-root; chmod 777 /plain/of-root 2>/dev/null || echo no"
        )
        .await?,
        "65534\nno\n",
        "a file of the host's root"
    );
    let mut user = mapped(script("user", "id -u; id -G; echo again > /dev/stdout"));
    let security = requests::security(&mut user);
    security.run_as_user = Some(Int64Value { value: 1000 });
    security.supplemental_groups = vec![2000];
    let (status, output) = node.finish(&pod, user).await?;
    check_eq!(status.exit_code, 0, "exit code");
    check_eq!(output, "1000\n0 2000\nagain\n", "a user's ids and output");
    Ok(())
}

/// Where something is mounted, other tests' nodes apart.
fn mountinfo(node: &Node) -> Outcome<BTreeSet<String>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let point = |line: &str| line.split(' ').nth(4).unwrap_or_default().to_owned();
    let points = table.lines().map(point);
    Ok(points
        .filter(|point| {
            !Path::new(point).starts_with(&node.world.scratch)
                || Path::new(point).starts_with(&node.directory)
        })
        .collect())
}

async fn nothing_is_mounted_on_the_host(node: &mut Node) -> Outcome {
    let volume = directory(node, "volume", 0o777)?;
    let before = mountinfo(node)?;
    let pod = node.run_pod(mapped_pod(pod("mapped"))).await?;
    let mut config = mapped(sleeper("main"));
    mapped_mount(&mut config, &volume, "/volume");
    let id = node.run(&pod, config).await?;
    node.shell(&id, "touch /volume/x").await?;
    let during = mountinfo(node)?;
    let new: Vec<_> = during.difference(&before).collect();
    let file = node.path("state/netns").join(&pod.id);
    check_eq!(new, [&file.to_string_lossy().into_owned()], "new mounts");
    node.stop_pod(&pod.id).await?;
    node.remove_pod(&pod.id).await?;
    check_eq!(mountinfo(node)?, before, "mounts afterwards");
    Ok(())
}

async fn user_namespace(node: &Node, id: &str) -> Outcome<String> {
    node.shell(id, "readlink /proc/self/ns/user").await
}

async fn each_pid_namespace(node: &mut Node) -> Outcome {
    let own = std::fs::read_link("/proc/self/ns/user")?;
    let own = format!("{}\n", own.display());
    for (name, mode) in [
        ("own", NamespaceMode::Container),
        ("shared", NamespaceMode::Pod),
        ("node", NamespaceMode::Node),
    ] {
        let pod = node.run_pod(pod_with_pid(name, mode)).await?;
        let first = node.run(&pod, with_pid(sleeper("first"), mode)).await?;
        let second = node.run(&pod, with_pid(sleeper("second"), mode)).await?;
        let user = user_namespace(node, &first).await?;
        check!(user != own, "{name}: the user namespace is the node's");
        check_eq!(
            user_namespace(node, &second).await?,
            user,
            "{name}: second container"
        );
        let pid = node.pid(&second).await?;
        let inside = node.shell(&second, "readlink /proc/self/ns/pid").await?;
        let outside = std::fs::read_link(format!("/proc/{pid}/ns/pid"))?;
        check_eq!(
            inside.trim(),
            outside.to_string_lossy(),
            "{name}: PID namespace"
        );
        check_eq!(
            node.shell(
                &first,
                "test -d /proc/1 && test -d /sys/kernel && echo both"
            )
            .await?,
            "both\n",
            "{name}: proc and sysfs"
        );
        if mode == NamespaceMode::Pod {
            let reaper = node
                .shell(
                    &first,
                    "grep -E '^(Cap(Eff|Prm)|Uid)' /proc/1/status | tr -s '\\t' ' '",
                )
                .await?;
            check_contains!(reaper, "Uid: 0 0 0 0");
            check_contains!(reaper, "CapEff: 0000000000000000");
            for _ in 0..5 {
                node.shell(&first, "(sleep 0.01 &) ; (true &)").await?;
            }
        }
        let target = node
            .run(&pod, {
                let mut config = with_pid(sleeper("target"), NamespaceMode::Target);
                requests::container_namespaces(&mut config)
                    .target_id
                    .clone_from(&first);
                config
            })
            .await?;
        check_eq!(user_namespace(node, &target).await?, user, "{name}: target");
        node.stop(&second, 5).await?;
        node.stop_pod(&pod.id).await?;
    }
    Ok(())
}

async fn the_nodes_network_and_ipc(node: &mut Node) -> Outcome {
    let mut config = mapped_pod(requests::host_pod("node"));
    requests::namespaces(&mut config).ipc = NamespaceMode::Node.into();
    let pod = node.run_pod(config).await?;
    let mut config = mapped(sleeper("main"));
    requests::container_namespaces(&mut config).network = NamespaceMode::Node.into();
    requests::container_namespaces(&mut config).ipc = NamespaceMode::Node.into();
    let id = node.run(&pod, config).await?;
    for kind in ["net", "ipc", "uts"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}"))?;
        check_eq!(
            node.shell(&id, &format!("readlink /proc/self/ns/{kind}"))
                .await?
                .trim(),
            own.to_string_lossy(),
            "{kind} namespace"
        );
    }
    let interfaces = node.shell(&id, "ls /sys/class/net").await?;
    check!(
        interfaces.lines().any(|name| name == "lo"),
        "/sys shows {interfaces}"
    );
    let written = node
        .exec(&id, &["sh", "-c", "echo 1 > /sys/kernel/uevent_helper"])
        .await?;
    check_contains!(written.stderr, "Read-only file system");
    check!(written.code != 0, "/sys can be written to");
    Ok(())
}

async fn containers_share_a_volume_and_execs_are_mapped(node: &mut Node) -> Outcome {
    let volume = directory(node, "volume", 0o755)?;
    let pod = node.run_pod(mapped_pod(pod("mapped"))).await?;
    let mut ids = Vec::new();
    for name in ["one", "two"] {
        let mut config = mapped(sleeper(name));
        mapped_mount(&mut config, &volume, "/volume");
        ids.push(node.run(&pod, config).await?);
    }
    let (one, two) = (&ids[0], &ids[1]);
    node.shell(one, "echo from one > /volume/file; chmod 600 /volume/file")
        .await?;
    check_eq!(
        node.shell(two, "cat /volume/file; stat -c %u:%g /volume/file; id -u")
            .await?,
        "from one\n0:0\n0\n",
        "the other container"
    );
    check_eq!(
        node.shell(
            two,
            "echo $$ > /dev/shm/x; cat /proc/self/uid_map | tr -s ' '"
        )
        .await?,
        format!(" 0 {ROOT} {}\n", requests::ID_COUNT),
        "mapping of an exec"
    );
    node.shell(one, "test -s /dev/shm/x && rm /dev/shm/x")
        .await?;
    let failed = node
        .exec(one, &["sh", "-c", "echo out; echo err >&2; exit 7"])
        .await?;
    check_eq!(
        (failed.stdout.as_str(), failed.stderr.as_str(), failed.code),
        ("out\n", "err\n", 7),
        "an exec's streams"
    );
    // More than the keys a user may have (`kernel.keys.maxkeys`).
    for _ in 0..30 {
        let runs = (0..10).map(|_| node.exec(one, &["true"]));
        for run in futures_util::future::join_all(runs).await {
            check_eq!(run?.code, 0, "exit code of true");
        }
    }
    Ok(())
}

async fn a_container_after_a_restart_of_the_daemon(node: &mut Node) -> Outcome {
    let pod = node.run_pod(mapped_pod(pod("mapped"))).await?;
    let before = node.run(&pod, mapped(sleeper("before"))).await?;
    let user = user_namespace(node, &before).await?;
    node.restart().await?;
    let volume = directory(node, "volume", 0o755)?;
    let mut config = mapped(sleeper("after"));
    mapped_mount(&mut config, &volume, "/volume");
    let after = node.run(&pod, config).await?;
    check_eq!(user_namespace(node, &after).await?, user, "user namespace");
    check_eq!(
        node.shell(
            &after,
            "touch /volume/x /made; stat -c %u /volume/x /made /bin/busybox"
        )
        .await?,
        "0\n0\n0\n",
        "owners"
    );
    check_eq!(
        user_namespace(node, &before).await?,
        user,
        "exec in the older one"
    );
    Ok(())
}

async fn rights_and_limits_hold_inside(node: &mut Node) -> Outcome {
    let pod = node.run_pod(mapped_pod(pod("mapped"))).await?;
    let mut config = mapped(sleeper("main"));
    let resources = requests::resources(&mut config);
    resources.memory_limit_in_bytes = 64 << 20;
    resources.oom_score_adj = 500;
    let security = requests::security(&mut config);
    security.no_new_privs = true;
    // AppArmor's default profile refuses every mount(2), whoever asks.
    security.apparmor = Some(SecurityProfile {
        profile_type: ProfileType::Unconfined.into(),
        ..SecurityProfile::default()
    });
    security.capabilities = Some(Capability {
        add_capabilities: vec!["SYS_ADMIN".into(), "NET_ADMIN".into()],
        ..Capability::default()
    });
    let id = node.run(&pod, config).await?;
    let text = "cat /proc/self/oom_score_adj; grep NoNewPrivs /proc/self/status; \
                mkdir /m && mount -t tmpfs tmpfs /m && hostname changed && hostname; \
                ip link set lo down && ip link set lo up && echo network";
    check_eq!(
        node.shell(&id, text).await?,
        "500\nNoNewPrivs:\t1\nchanged\nnetwork\n",
        "rights inside"
    );
    check_eq!(
        cgroup::read(&id, cgroup::Value::Memory)?,
        (64_u64 << 20).to_string(),
        "limit of memory"
    );
    let forbidden = [
        "mknod /tmp/mem c 1 1",
        "echo 1 > /proc/sys/kernel/panic",
        "echo -1000 > /proc/self/oom_score_adj",
        "mount -o remount,rw /sys/fs/cgroup && mkdir /sys/fs/cgroup/memory/x /sys/fs/cgroup/x",
    ];
    for text in forbidden {
        let ran = node.exec(&id, &["sh", "-c", text]).await?;
        check!(ran.code != 0, "{text:?} succeeded");
    }
    // Capabilities that are not given are not there.
    let none = node.run(&pod, mapped(sleeper("plain"))).await?;
    let ran = node
        .exec(&none, &["mount", "-t", "tmpfs", "tmpfs", "/tmp"])
        .await?;
    check!(ran.code != 0, "a container without SYS_ADMIN mounts");
    Ok(())
}

async fn devices_and_terminals(node: &mut Node) -> Outcome {
    let pod = node.run_pod(mapped_pod(pod("mapped"))).await?;
    let mut config = mapped(sleeper("main"));
    config.devices.push(Device {
        container_path: "/dev/net/zero".into(),
        host_path: "/dev/zero".into(),
        permissions: "r".into(),
    });
    let id = node.run(&pod, config).await?;
    let text = "cd /dev; stat -c '%n %u:%g %a' null zero full random urandom tty net net/zero; \
                head -c 4 zero | wc -c; head -c 4 net/zero | wc -c; head -c 4 urandom | wc -c; \
                echo x > null; echo x > full 2>/dev/null || echo full";
    check_eq!(
        node.shell(&id, text).await?,
        "null 0:0 666\nzero 0:0 666\nfull 0:0 666\nrandom 0:0 666\nurandom 0:0 666\ntty 0:0 666\n\
         net 0:0 755\nnet/zero 0:0 666\n4\n4\n4\nfull\n",
        "devices"
    );
    let mut terminal = mapped(script(
        "terminal",
        "tty; stat -c %u /dev/console; test -t 1 && echo terminal",
    ));
    terminal.tty = true;
    let (status, output) = node.finish(&pod, terminal).await?;
    check_eq!(status.exit_code, 0, "exit code");
    let output = output.replace('\r', "");
    check_contains!(output, "/dev/");
    check_contains!(output, "0\nterminal\n");
    Ok(())
}

async fn settings_of_the_kernel(node: &mut Node) -> Outcome {
    let mut config = mapped_pod(pod("mapped"));
    let settings = &mut config.linux.get_or_insert_default().sysctls;
    settings.insert("net.ipv4.ip_local_port_range".into(), "20000 30000".into());
    let pod = node.run_pod(config).await?;
    let text = "cat /proc/sys/net/ipv4/ip_local_port_range /proc/sys/net/ipv4/ping_group_range \
                /proc/sys/net/ipv4/ip_unprivileged_port_start | tr -s '\\t' ' '; hostname";
    let (_, output) = node.finish(&pod, mapped(script("main", text))).await?;
    check_eq!(
        output,
        format!("20000 30000\n0 {}\n0\nmapped\n", requests::ID_COUNT - 1),
        "settings"
    );
    let mut config = mapped_pod(requests::pod("refused"));
    let settings = &mut config.linux.get_or_insert_default().sysctls;
    let beyond = format!("0 {}", requests::ID_COUNT);
    settings.insert("net.ipv4.ping_group_range".into(), beyond);
    check_contains!(node.refused_pod(config).await?, "net.ipv4.ping_group_range");
    Ok(())
}

async fn a_privileged_container_is_root_of_its_pod_only(node: &mut Node) -> Outcome {
    let mut config = mapped_pod(pod("privileged"));
    requests::pod_security(&mut config).privileged = true;
    let pod = node.run_pod(config).await?;
    let mut config = mapped(sleeper("main"));
    requests::security(&mut config).privileged = true;
    let id = node.run(&pod, config).await?;
    check_eq!(
        node.shell(&id, "mkdir /m && mount -t tmpfs tmpfs /m && echo mounted; ls /sys/fs/cgroup >/dev/null && echo cgroups")
            .await?,
        "mounted\ncgroups\n",
        "a privileged container"
    );
    for text in [
        "mknod /tmp/mem c 1 1",
        "echo 1 > /proc/sys/kernel/panic",
        "cat /proc/kcore",
    ] {
        let ran = node.exec(&id, &["sh", "-c", text]).await?;
        check!(ran.code != 0, "{text:?} succeeded");
    }
    Ok(())
}

async fn refused(node: &Node, pod: &Pod, config: ContainerConfig, words: &str) -> Outcome {
    let error = node.refused_container(pod, config).await?;
    check_contains!(error, words);
    Ok(())
}

async fn what_does_not_go_together_is_refused(node: &mut Node) -> Outcome {
    node.pull(requests::BUSYBOX).await?;
    let mapped_one = node.run_pod(mapped_pod(pod("mapped"))).await?;
    let plain = node.run_pod(pod("plain")).await?;
    let same = "userns_options have to be the same";
    refused(node, &mapped_one, sleeper("a"), same).await?;
    refused(node, &plain, mapped(sleeper("a")), same).await?;
    let mut other = mapped(sleeper("a"));
    if let Some(user) = &mut requests::container_namespaces(&mut other).userns_options {
        user.uids[0].host_id += 1;
    }
    refused(node, &mapped_one, other, same).await?;
    let mut stranger = mapped(sleeper("a"));
    requests::security(&mut stranger).run_as_user = Some(Int64Value {
        value: requests::ID_COUNT.into(),
    });
    let words = "but the pod's user namespace has only";
    refused(node, &mapped_one, stranger, words).await?;
    let mut volume = sleeper("a");
    mapped_mount(&mut volume, &node.path("volumes"), "/volume");
    refused(node, &plain, volume, "only that one's are possible").await?;
    // sysfs has no idmapped mounts.
    let mut volume = mapped(sleeper("a"));
    mapped_mount(&mut volume, Path::new("/sys/kernel"), "/volume");
    let words = "the ids of the volume /sys/kernel cannot be mapped";
    refused(node, &mapped_one, volume, words).await?;
    let mut config = mapped_pod(pod("root"));
    if let Some(user) = &mut requests::namespaces(&mut config).userns_options {
        user.gids[0].host_id = 0;
    }
    let error = node.refused_pod(config).await?;
    check_contains!(error, "maps id 0 of the container to root of the node");
    Ok(())
}

async fn images_as_volumes_belong_to_root_inside(node: &mut Node) -> Outcome {
    node.pull(image_volumes::OTHER).await?;
    let look = "stat -c %u:%g /vol/bin/busybox; /vol/bin/busybox echo runs; touch /vol/new 2>&1; \
                id -u";
    // One image, shown to pods with and without user namespaces.
    for (name, config, root) in [
        ("mapped", mapped_pod(pod("mapped")), true),
        ("plain", pod("plain"), true),
        ("user", mapped_pod(pod("user")), false),
    ] {
        let is_mapped = config != pod(name);
        let pod = node.run_pod(config).await?;
        let mut config = with_image(script("main", look), image_volumes::OTHER, "");
        if is_mapped {
            config = mapped(config);
        }
        let user = if root { 0 } else { 1000 };
        requests::security(&mut config).run_as_user = Some(Int64Value { value: user });
        let (status, output) = node.finish(&pod, config).await?;
        check_eq!(status.exit_code, 0, "exit code");
        check_eq!(
            output,
            format!("0:0\nruns\ntouch: /vol/new: Read-only file system\n{user}\n"),
            "what {name} sees"
        );
    }
    Ok(())
}

async fn system_calls_are_filtered(node: &mut Node) -> Outcome {
    for (name, pid) in [
        ("own", NamespaceMode::Container),
        ("shared", NamespaceMode::Pod),
    ] {
        let pod = node.run_pod(pod_with_pid(name, pid)).await?;
        for user in [0, 1000] {
            let mut config = with_pid(seccomp::refused(node, &format!("as-{user}")), pid);
            seccomp::profile(&mut config, ProfileType::RuntimeDefault, "");
            requests::security(&mut config).run_as_user = Some(Int64Value { value: user });
            let (_, output) = node.finish(&pod, config).await?;
            check_eq!(
                output.trim(),
                seccomp::expected(),
                "verdicts for user {user}, pid namespace: {name}"
            );
        }
        let mut config = with_pid(sleeper("main"), pid);
        mount(&mut config, &node.world.programs, "/programs");
        seccomp::profile(&mut config, ProfileType::RuntimeDefault, "");
        let id = node.run(&pod, config).await?;
        let text = "/programs/refused unshare keyctl; grep ^Seccomp: /proc/self/status";
        check_eq!(
            node.shell(&id, text).await?,
            "unshare EPERM\nkeyctl EPERM\nSeccomp:\t2\n",
            "verdicts for an exec"
        );
    }
    Ok(())
}

async fn apparmor_profiles_hold(node: &mut Node) -> Outcome {
    if !labels::enabled() {
        return skip("AppArmor is not enabled in this kernel");
    }
    let pod = node.run_pod(mapped_pod(pod("profiles"))).await?;
    for (name, kind, shown) in [
        (
            "default",
            ProfileType::RuntimeDefault,
            "insula-default (enforce)",
        ),
        ("unconfined", ProfileType::Unconfined, "unconfined"),
    ] {
        let mut config = mapped(sleeper(name));
        let security = requests::security(&mut config);
        security.apparmor = Some(SecurityProfile {
            profile_type: kind.into(),
            ..SecurityProfile::default()
        });
        security.capabilities = Some(Capability {
            add_capabilities: vec!["SYS_ADMIN".into()],
            ..Capability::default()
        });
        let id = node.run(&pod, config).await?;
        let text = "cat /proc/1/attr/current /proc/self/attr/current";
        check_eq!(
            node.shell(&id, text).await?,
            format!("{shown}\n{shown}\n"),
            "profiles of {name}"
        );
        // Root of a user namespace may mount, unless the profile says no.
        let text = ["mount", "-t", "tmpfs", "tmpfs", "/tmp"];
        let ran = node.exec(&id, &text).await?;
        check_eq!(ran.code == 0, name == "unconfined", "{name}: {ran:?}");
    }
    Ok(())
}

async fn nothing_of_the_host_is_seen_by_a_racer_in_a_user_namespace(node: &mut Node) -> Outcome {
    race(node, NamespaceMode::Container, true).await
}

async fn nothing_of_the_host_is_seen_by_a_racer_in_a_shared_pid_and_user_namespace(
    node: &mut Node,
) -> Outcome {
    race(node, NamespaceMode::Pod, true).await
}
