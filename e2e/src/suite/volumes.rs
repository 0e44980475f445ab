//! Paths of the host in containers: propagation, read-only, sources that are links or not there.

use crate::support::case::cases;
use crate::support::outcome::{check, check_contains, check_eq};
use crate::support::requests::{self, host_pod, mount, script, sleeper};
use crate::support::{Case, Node, Outcome, skip};
use insula_cri_api::v1::{ContainerConfig, Int64Value, MountPropagation, StatusRequest};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

pub fn cases() -> Vec<Case> {
    cases![
        mounts_go_where_propagation_lets_them,
        propagation_needs_a_source_that_can,
        read_only_holds_for_one_mount_or_for_all_below,
        sources_may_be_links_files_and_missing,
        the_root_may_be_read_only,
        mounts_cover_each_other_by_depth,
        mount_options_hold,
        the_status_tells_the_mounts_that_were_asked_for,
        a_volume_may_cover_what_the_image_has,
        a_termination_message_reaches_its_file,
    ]
}

/// A mounted tmpfs that goes away with this value.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn new(at: PathBuf, shared: bool) -> Outcome<Self> {
        std::fs::create_dir_all(&at)?;
        rustix::mount::mount(c"tmpfs", &at, c"tmpfs", MountFlags::empty(), None)?;
        let tmpfs = Self(at);
        let kind = if shared {
            MountPropagationFlags::SHARED
        } else {
            MountPropagationFlags::PRIVATE
        };
        mount_change(&tmpfs.0, kind)?;
        Ok(tmpfs)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        if let Err(errno) = unmount(&self.0, UnmountFlags::DETACH) {
            println!("unmount {}: {errno}", self.0.display());
        }
    }
}

fn with_volume(
    name: &str,
    host: &Path,
    change: impl FnOnce(&mut insula_cri_api::v1::Mount),
) -> ContainerConfig {
    let mut config = sleeper(name);
    requests::security(&mut config).privileged = true;
    let at = mount(&mut config, host, "/vol");
    change(&mut config.mounts[at]);
    config
}

fn privileged_pod(name: &str) -> insula_cri_api::v1::PodSandboxConfig {
    let mut config = host_pod(name);
    requests::pod_security(&mut config).privileged = true;
    config
}

pub(super) async fn mounts_go_where_propagation_lets_them(node: &mut Node) -> Outcome {
    let pod = node.run_pod(privileged_pod("volumes")).await?;
    let shared = Tmpfs::new(node.path("volumes/shared"), true)?;
    let mut ids = Vec::new();
    for (name, mode) in [
        ("private", MountPropagation::PropagationPrivate),
        ("slave", MountPropagation::PropagationHostToContainer),
        ("shared", MountPropagation::PropagationBidirectional),
    ] {
        let config = with_volume(name, &shared.0, |volume| volume.propagation = mode.into());
        ids.push(node.run(&pod, config).await?);
    }
    // A mount of the host, such as kubelet makes for a volume that comes late.
    let late = Tmpfs::new(shared.0.join("host"), false)?;
    std::fs::write(late.0.join("file"), "of the host")?;
    for (id, sees) in ids.iter().zip([false, true, true]) {
        let read = node.exec(id, &["cat", "/vol/host/file"]).await?;
        check_eq!(read.code == 0, sees, "mount of the host is seen: {read:?}");
    }
    // A mount of each container.
    for (id, name) in ids.iter().zip(["private", "slave", "shared"]) {
        let text = format!(
            "mkdir /vol/{name} && mount -t tmpfs none /vol/{name} && echo {name} > /vol/{name}/file"
        );
        node.shell(id, &text).await?;
    }
    for (name, seen) in [("private", false), ("slave", false), ("shared", true)] {
        check_eq!(
            shared.0.join(name).join("file").exists(),
            seen,
            "mount of the {name} container on the host"
        );
    }
    node.shell(&ids[2], "umount /vol/shared").await?;
    check!(
        !shared.0.join("shared/file").exists(),
        "an unmount of the container did not reach the host"
    );
    for id in &ids {
        node.stop(id, 0).await?;
    }
    Ok(())
}

async fn propagation_needs_a_source_that_can(node: &mut Node) -> Outcome {
    let pod = node.run_pod(privileged_pod("volumes")).await?;
    node.pull(requests::BUSYBOX).await?;
    let private = Tmpfs::new(node.path("volumes/private"), false)?;
    for (mode, words) in [
        (
            MountPropagation::PropagationBidirectional,
            "which is not a shared mount, as Bidirectional mount propagation needs: run `mount --make-rshared ",
        ),
        (
            MountPropagation::PropagationHostToContainer,
            "which is not a shared or slave mount, as HostToContainer mount propagation needs: run `mount --make-rshared ",
        ),
    ] {
        let config = with_volume("bad", &private.0, |volume| volume.propagation = mode.into());
        check_contains!(node.refused_container(&pod, config).await?, words);
    }
    Ok(())
}

async fn read_only_holds_for_one_mount_or_for_all_below(node: &mut Node) -> Outcome {
    let status = node.runtime()?.status(StatusRequest::default()).await?;
    let handlers = status.into_inner().runtime_handlers;
    let features = handlers.iter().filter_map(|handler| handler.features);
    if !features
        .into_iter()
        .all(|features| features.recursive_read_only_mounts)
    {
        return skip("this kernel has no mount_setattr(AT_RECURSIVE), which came with Linux 5.12");
    }
    let pod = node.run_pod(host_pod("volumes")).await?;
    let top = Tmpfs::new(node.path("volumes/top"), false)?;
    let below = Tmpfs::new(top.0.join("below"), false)?;
    let run = |name: &'static str, readonly: bool, recursive: bool| {
        let mut config = sleeper(name);
        let at = mount(&mut config, &top.0, "/vol");
        config.mounts[at].readonly = readonly;
        config.mounts[at].recursive_read_only = recursive;
        config
    };
    for (config, top_writable, below_writable) in [
        (run("writable", false, false), true, true),
        (run("readonly", true, false), false, true),
        (run("recursive", true, true), false, false),
    ] {
        let name = config.metadata.clone().unwrap_or_default().name;
        let id = node.run(&pod, config).await?;
        for (path, writable) in [("/vol/x", top_writable), ("/vol/below/x", below_writable)] {
            let ran = node.exec(&id, &["touch", path]).await?;
            check_eq!(
                ran.code == 0,
                writable,
                "{name}: {path} can be written: {ran:?}"
            );
            if !writable {
                check_eq!(
                    ran.stderr,
                    format!("touch: {path}: Read-only file system\n"),
                    "{name}"
                );
            }
        }
        node.stop(&id, 0).await?;
    }
    let error = node
        .refused_container(&pod, run("bad", false, true))
        .await?;
    check_eq!(
        error,
        "InvalidArgument: config.mounts[0].recursive_read_only: needs `readonly` as well",
        "error"
    );
    drop(below);
    Ok(())
}

pub(super) async fn sources_may_be_links_files_and_missing(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("volumes")).await?;
    let volumes = node.path("volumes");
    std::fs::create_dir(volumes.join("real"))?;
    std::fs::write(volumes.join("real/file"), "content")?;
    std::os::unix::fs::symlink("real", volumes.join("link"))?;
    std::os::unix::fs::symlink(volumes.join("real/file"), volumes.join("file-link"))?;
    let mut config = sleeper("main");
    mount(&mut config, &volumes.join("link"), "/link");
    mount(&mut config, &volumes.join("file-link"), "/made/for/it");
    mount(&mut config, &volumes.join("missing/deep"), "/missing");
    let id = node.run(&pod, config).await?;
    check_eq!(
        node.shell(&id, "cat /link/file /made/for/it").await?,
        "contentcontent",
        "what the links lead to"
    );
    node.shell(&id, "echo back > /missing/file").await?;
    check_eq!(
        std::fs::read_to_string(volumes.join("missing/deep/file"))?,
        "back\n",
        "a source that was made"
    );
    Ok(())
}

pub(super) async fn the_root_may_be_read_only(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("volumes")).await?;
    let mut config = sleeper("main");
    requests::security(&mut config).readonly_rootfs = true;
    mount(&mut config, &node.path("volumes"), "/vol");
    let id = node.run(&pod, config).await?;
    let ran = node.exec(&id, &["touch", "test.go"]).await?;
    check_eq!(
        ran.stderr,
        "touch: test.go: Read-only file system\n",
        "a read-only root"
    );
    node.shell(&id, "touch /vol/x /dev/shm/x").await?;
    Ok(())
}

async fn mounts_cover_each_other_by_depth(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("volumes")).await?;
    let volumes = node.path("volumes");
    for name in ["outer", "inner"] {
        std::fs::create_dir(volumes.join(name))?;
        std::fs::write(volumes.join(name).join("name"), name)?;
    }
    let mut config = script("main", "cat /a/name /a/b/c/name; ls /a");
    // The deeper one comes first.
    mount(&mut config, &volumes.join("inner"), "/a/b/c");
    mount(&mut config, &volumes.join("outer"), "/a");
    let (status, output) = node.finish(&pod, config).await?;
    check_eq!(
        (status.exit_code, output.as_str()),
        (0, "outerinnerb\nname\n"),
        "mounts"
    );
    Ok(())
}

async fn mount_options_hold(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("volumes")).await?;
    let volume = Tmpfs::new(node.path("volumes/options"), false)?;
    std::fs::copy(node.world.programs.join("memory"), volume.0.join("program"))?;
    let mut config = sleeper("main");
    let at = mount(&mut config, &volume.0, "/vol");
    config.mounts[at].mount_options = vec!["noexec".into(), "nosuid".into(), "nodev".into()];
    let id = node.run(&pod, config).await?;
    check_contains!(
        node.exec(&id, &["sh", "-c", "/vol/program 1"])
            .await?
            .stderr,
        "Permission denied"
    );
    let table = node.shell(&id, "grep ' /vol ' /proc/mounts").await?;
    check_contains!(table, "nosuid,nodev,noexec");
    Ok(())
}

async fn the_status_tells_the_mounts_that_were_asked_for(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("volumes")).await?;
    let mut config = sleeper("main");
    let at = mount(&mut config, &node.path("volumes"), "/vol");
    config.mounts[at].readonly = true;
    let wanted = config.mounts.clone();
    let id = node.run(&pod, config).await?;
    let told = node.container_status(&id).await?.mounts;
    check_eq!(told.len(), 1, "mounts");
    check_eq!(
        (
            &told[0].host_path,
            &told[0].container_path,
            told[0].readonly,
            told[0].propagation
        ),
        (
            &wanted[0].host_path,
            &wanted[0].container_path,
            true,
            wanted[0].propagation
        ),
        "mount"
    );
    Ok(())
}

async fn a_volume_may_cover_what_the_image_has(node: &mut Node) -> Outcome {
    let pod = node.run_pod(host_pod("volumes")).await?;
    let hosts = node.path("volumes/hosts");
    std::fs::write(&hosts, "127.0.0.9 mine\n")?;
    let mut config = script(
        "main",
        "cat /etc/hosts; ls /etc/passwd/ 2>&1 | head -n 1; ls /home | wc -l",
    );
    mount(&mut config, &hosts, "/etc/hosts");
    std::fs::create_dir(node.path("volumes/home"))?;
    mount(&mut config, &node.path("volumes/home"), "/home");
    let (_, output) = node.finish(&pod, config).await?;
    check!(
        output.starts_with("127.0.0.9 mine\n") && output.ends_with("\n0\n"),
        "{output}"
    );
    Ok(())
}

/// What kubelet does for `terminationMessagePath`: a file of the host, which everybody may write,
/// is mounted over a path in `/dev`.
async fn a_termination_message_reaches_its_file(node: &mut Node) -> Outcome {
    let plain = node.run_pod(host_pod("message")).await?;
    let mapped = node
        .run_pod(requests::mapped_pod(host_pod("mapped")))
        .await?;
    for (name, pod, user, read_only) in [
        ("root", &plain, 0, false),
        ("user", &plain, 1000, true),
        ("mapped-root", &mapped, 0, true),
        ("mapped-user", &mapped, 1000, false),
    ] {
        let file = node.path("volumes").join(name);
        std::fs::write(&file, "")?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666))?;
        let text = "printf 'the reason' > /dev/termination-log; exit 3";
        let mut config = script(name, text);
        let at = mount(&mut config, &file, "/dev/termination-log");
        let security = requests::security(&mut config);
        security.run_as_user = Some(Int64Value { value: user });
        security.readonly_rootfs = read_only;
        if name.starts_with("mapped") {
            config.mounts[at].uid_mappings = requests::ids();
            config.mounts[at].gid_mappings = requests::ids();
            config = requests::mapped(config);
        }
        let (status, _) = node.finish(pod, config).await?;
        check_eq!(status.exit_code, 3, "exit code of {name}");
        check_eq!(
            std::fs::read_to_string(&file)?,
            "the reason",
            "the message of {name}"
        );
    }
    Ok(())
}
