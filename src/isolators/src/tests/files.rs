//! Mounts, devices, links, paths.

use super::{Fixture, plan_of, refusal_of};
use crate::isolator::ResolvedDevice;
use crate::spec::{DeviceMapping, ImageMount, ImageRequest, NamespaceMode, VolumeMount};
use crate::volumes::check_propagation;
use insula_sys::cgroup::{Hierarchy, Layout};
use insula_wire::plan::{DeviceKind, DeviceNode, LaunchPlan, Mount, MountSource, Propagation};

pub(super) fn volume(container_path: &str) -> VolumeMount {
    VolumeMount {
        container_path: container_path.to_owned(),
        host_path: "/srv/volume".to_owned(),
        image: None,
        readonly: false,
        recursive_readonly: false,
        selinux_relabel: false,
        propagation: Propagation::Private,
        options: Vec::new(),
        ids: None,
    }
}

fn mount<'a>(plan: &'a LaunchPlan, target: &str) -> Option<&'a Mount> {
    let found: Vec<_> = plan
        .mounts
        .iter()
        .filter(|mount| mount.target == target)
        .collect();
    assert!(found.len() <= 1, "{target} is mounted twice");
    found.first().copied()
}

fn source<'a>(plan: &'a LaunchPlan, target: &str) -> &'a str {
    match &mount(plan, target).unwrap().source {
        MountSource::Host { path } => path,
        MountSource::Image { id, .. } => id,
        MountSource::Filesystem { kind, .. } => kind,
        MountSource::Proc => "proc",
        MountSource::PodShm => "pod shm",
    }
}

#[test]
fn default_mounts() {
    let plan = plan_of(|_| {});
    for (target, from, readonly) in [
        ("/proc", "proc", false),
        ("/sys", "sysfs", true),
        ("/dev", "tmpfs", false),
        ("/dev/pts", "devpts", false),
        ("/dev/mqueue", "mqueue", false),
        ("/dev/shm", "pod shm", false),
        ("/sys/fs/cgroup", "cgroup2", true),
        ("/etc/hostname", "/run/insula/pods/pod/hostname", false),
        ("/etc/hosts", "/run/insula/pods/pod/hosts", false),
        (
            "/etc/resolv.conf",
            "/run/insula/pods/pod/resolv.conf",
            false,
        ),
    ] {
        assert_eq!(source(&plan, target), from, "{target}");
        let attributes = mount(&plan, target).unwrap().attributes;
        assert_eq!(attributes.readonly, readonly, "{target}");
        assert!(attributes.nosuid, "{target}");
    }
    assert_eq!(plan.mounts.len(), 10);
    let links: Vec<&str> = plan.links.iter().map(|link| link.path.as_str()).collect();
    let expected = [
        "/dev/fd",
        "/dev/stdin",
        "/dev/stdout",
        "/dev/stderr",
        "/dev/core",
        "/dev/ptmx",
    ];
    assert_eq!(links, expected);
    let nodes: Vec<&str> = plan.devices.iter().map(|node| node.path.as_str()).collect();
    let expected = [
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/random",
        "/dev/urandom",
        "/dev/tty",
    ];
    assert_eq!(nodes, expected);
    assert!(!plan.rootfs.readonly);
}

#[test]
fn parents_are_mounted_before_what_is_below() {
    let plan = plan_of(|fixture| {
        let paths = ["/data/a/b", "/data", "/data/a", "/dev/shm/x"];
        fixture.spec.mounts = paths.map(volume).into();
    });
    for (index, mount) in plan.mounts.iter().enumerate() {
        for later in &plan.mounts[index..] {
            assert!(
                !crate::path::is_below(&mount.target, &later.target),
                "{} before {}",
                mount.target,
                later.target
            );
        }
    }
}

#[test]
fn cgroup_version_1_has_a_mount_per_hierarchy_and_links() {
    let plan = plan_of(|fixture| {
        let mut systemd = Hierarchy::legacy("/sys/fs/cgroup/systemd", &[]);
        systemd.name = Some("systemd".to_owned());
        fixture.host.cgroup = Layout::new(vec![
            Hierarchy::legacy("/sys/fs/cgroup/cpu,cpuacct", &["cpu", "cpuacct"]),
            Hierarchy::legacy("/sys/fs/cgroup/memory", &["memory"]),
            systemd,
            Hierarchy::unified("/sys/fs/cgroup/unified", &[]),
        ]);
    });
    assert_eq!(source(&plan, "/sys/fs/cgroup"), "tmpfs");
    for (name, kind, options) in [
        (
            "cpu,cpuacct",
            "cgroup",
            vec![("cpu", None), ("cpuacct", None)],
        ),
        ("memory", "cgroup", vec![("memory", None)]),
        ("systemd", "cgroup", vec![("name", Some("systemd"))]),
        ("unified", "cgroup2", vec![]),
    ] {
        let mount = mount(&plan, &format!("/sys/fs/cgroup/{name}")).unwrap();
        let options = options
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.map(str::to_owned)));
        let expected = MountSource::Filesystem {
            kind: kind.to_owned(),
            options: options.collect(),
        };
        assert_eq!(mount.source, expected);
        assert!(mount.attributes.readonly, "{name}");
    }
    for name in ["cpu", "cpuacct"] {
        let path = format!("/sys/fs/cgroup/{name}");
        assert!(
            plan.links
                .iter()
                .any(|link| link.path == path && link.target == "cpu,cpuacct")
        );
    }
}

/// Every file system of a plan for this host, made detached: kind and options
/// are what the kernel knows.
#[test]
fn root_the_kernel_knows_the_file_systems() {
    if !super::is_root() {
        eprintln!("skipped: making file systems needs root");
        return;
    }
    let plan = plan_of(|fixture| fixture.host.cgroup = Layout::detect().unwrap());
    let mut made = 0;
    for mount in &plan.mounts {
        let MountSource::Filesystem { kind, options } = &mount.source else {
            continue;
        };
        let options = options
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_deref()));
        let attributes = insula_sys::mount::Attributes::default();
        let result = insula_sys::mount::new_filesystem(kind, options, attributes);
        assert!(result.is_ok(), "{}: {:?}", mount.target, result.err());
        made += 1;
    }
    assert!(made >= 5);
}

#[test]
fn a_volume_takes_the_place_of_defaults() {
    type Gone = &'static [&'static str];
    type Kept = &'static [&'static str];
    let table: &[(&str, Gone, Kept)] = &[
        ("/etc/hosts", &[], &["/etc/hostname", "/dev"]),
        ("etc/./hosts/", &[], &["/etc/hostname"]),
        (
            "/dev",
            &["/dev/pts", "/dev/shm", "/dev/mqueue"],
            &["/proc", "/sys/fs/cgroup"],
        ),
        ("/dev/shm", &[], &["/dev", "/dev/pts"]),
        ("/sys/fs/cgroup", &[], &["/sys"]),
        ("/sys", &[], &["/sys/fs/cgroup"]),
        ("/etc", &[], &["/etc/hosts"]),
    ];
    for (path, gone, kept) in table {
        let plan = plan_of(|fixture| fixture.spec.mounts = vec![volume(path)]);
        assert_eq!(
            source(&plan, &crate::path::clean(path)),
            "/srv/volume",
            "{path}"
        );
        for target in *gone {
            assert!(mount(&plan, target).is_none(), "{target} under {path}");
        }
        for target in *kept {
            assert!(mount(&plan, target).is_some(), "{target} with {path}");
        }
    }
    let plan = plan_of(|fixture| fixture.spec.mounts = vec![volume("/dev")]);
    assert!(
        plan.devices.is_empty() && plan.links.is_empty(),
        "nothing is made in a directory of the host"
    );
    let plan = plan_of(|fixture| fixture.spec.mounts = vec![volume("/dev/null")]);
    assert!(plan.devices.iter().all(|node| node.path != "/dev/null"));
    let plan = plan_of(|fixture| {
        fixture.spec.mounts = vec![volume("/sys")];
        fixture.spec.mounts[0].propagation = Propagation::Bidirectional;
    });
    assert!(
        mount(&plan, "/sys/fs/cgroup").is_none(),
        "it would appear on the host"
    );
}

#[test]
fn privileged_and_host_namespaces_change_the_defaults() {
    let plan = Fixture::privileged().plan().unwrap();
    assert!(!mount(&plan, "/sys").unwrap().attributes.readonly);
    assert!(!mount(&plan, "/sys/fs/cgroup").unwrap().attributes.readonly);
    let plan = plan_of(|fixture| {
        fixture.pod.namespaces.ipc = NamespaceMode::Node;
        fixture.pod.namespaces.network = NamespaceMode::Node;
    });
    assert_eq!(source(&plan, "/dev/shm"), "/dev/shm");
    assert_eq!(source(&plan, "/sys"), "sysfs");
    let plan = plan_of(|fixture| fixture.spec.security.readonly_rootfs = true);
    assert!(plan.rootfs.readonly);
    assert!(mount(&plan, "/etc/hosts").unwrap().attributes.readonly);
    assert!(!mount(&plan, "/dev/shm").unwrap().attributes.readonly);
}

#[test]
fn volumes() {
    let plan = plan_of(|fixture| {
        let mut one = volume("data/../srv");
        one.readonly = true;
        one.recursive_readonly = true;
        one.options = ["noexec", "nodev", "nosuid"].map(str::to_owned).into();
        one.selinux_relabel = true;
        fixture.spec.mounts = vec![one];
    });
    let one = mount(&plan, "/srv").unwrap().attributes;
    assert!(one.readonly && one.recursive_readonly && one.noexec && one.nodev && one.nosuid);
    assert_eq!(plan.opened_mounts().count(), 4);
    for propagation in [Propagation::HostToContainer, Propagation::Bidirectional] {
        let plan = plan_of(|fixture| {
            fixture.spec.mounts = vec![volume("/v")];
            fixture.spec.mounts[0].propagation = propagation;
        });
        assert_eq!(mount(&plan, "/v").unwrap().propagation, propagation);
    }
}

/// Makes a volume show an image.
fn image(one: &mut VolumeMount, sub_path: &str) {
    one.host_path.clear();
    one.readonly = true;
    one.image = Some(ImageMount {
        request: ImageRequest::default(),
        id: "sha256:1".to_owned(),
        sub_path: sub_path.to_owned(),
    });
}

#[test]
fn images_as_volumes() {
    let plan = plan_of(|fixture| {
        let mut one = volume("/v");
        image(&mut one, "etc/ssl");
        one.options = vec!["noexec".to_owned()];
        fixture.spec.mounts = vec![one];
    });
    let one = mount(&plan, "/v").unwrap();
    assert_eq!(
        one.source,
        MountSource::Image {
            id: "sha256:1".to_owned(),
            sub_path: "etc/ssl".to_owned()
        }
    );
    assert!(one.attributes.readonly && one.attributes.noexec);
    assert!(plan.opened_mounts().any(|opened| opened == one));
}

/// What a refusal says, and the change that brings it about.
type Breakage<'a> = (&'a str, &'a dyn Fn(&mut VolumeMount));

#[test]
fn volumes_that_are_refused() {
    let refused = |change: &dyn Fn(&mut VolumeMount)| {
        refusal_of(|fixture| {
            let mut one = volume("/v");
            change(&mut one);
            fixture.spec.mounts = vec![one];
        })
    };
    let rro = |one: &mut VolumeMount| {
        one.recursive_readonly = true;
        one.readonly = true;
    };
    let table: &[Breakage<'_>] = &[
        ("container path \"\" is empty", &|one| {
            one.container_path.clear();
        }),
        ("container's root", &|one| {
            one.container_path = "/a/..".to_owned();
        }),
        ("NUL", &|one| one.container_path = "/a\0".to_owned()),
        ("longer than 4095", &|one| {
            one.container_path = format!("/{}", "a".repeat(5000));
        }),
        ("host path \"\" is empty", &|one| one.host_path.clear()),
        ("not absolute", &|one| one.host_path = "srv".to_owned()),
        ("ImageVolumeMountFailed: ", &|one| {
            image(one, "etc");
            one.host_path = "/srv".to_owned();
        }),
        ("it must be read-only", &|one| {
            image(one, "etc");
            one.readonly = false;
        }),
        ("it must have private propagation", &|one| {
            image(one, "etc");
            one.propagation = Propagation::HostToContainer;
        }),
        ("is absolute", &|one| image(one, "/etc")),
        ("\"a/../../b\"", &|one| image(one, "a/../../b")),
        ("mount option \"suid\"", &|one| {
            one.options = vec!["suid".to_owned()];
        }),
        ("RROUnsupported: ", &|one| one.recursive_readonly = true),
        ("it needs private propagation", &|one| {
            rro(one);
            one.propagation = Propagation::HostToContainer;
        }),
        ("it needs private propagation", &|one| {
            rro(one);
            one.propagation = Propagation::Bidirectional;
        }),
    ];
    for (expected, change) in table {
        let text = refused(change);
        assert!(
            text.contains(expected)
                && ["volumes: ", "RROUnsupported: ", "ImageVolumeMountFailed: "]
                    .iter()
                    .any(|first| text.starts_with(first)),
            "{expected:?} in {text:?}"
        );
    }
    let text = refusal_of(|fixture| {
        fixture.host.recursive_readonly = false;
        let mut one = volume("/v");
        rro(&mut one);
        fixture.spec.mounts = vec![one];
    });
    assert!(
        text.contains("RROUnsupported: ") && text.contains("Linux 5.12"),
        "{text}"
    );
    let text = refusal_of(|fixture| fixture.spec.mounts = vec![volume("/v"), volume("/v/")]);
    assert!(text.contains("mount /v"), "{text}");
}

#[test]
fn propagation_depends_on_the_mount_of_the_source() {
    use Propagation::{Bidirectional, HostToContainer, Private};
    let mountinfo = "\
20 1 8:1 / / rw shared:1 - ext4 /dev/sda rw
21 20 0:5 / /private rw - tmpfs t rw
22 20 0:6 / /slave rw master:1 - tmpfs t rw
23 20 0:7 / /with\\040space rw - tmpfs t rw
24 20 0:8 / /twice rw shared:4 - tmpfs t rw
25 24 0:9 / /twice rw - tmpfs t rw
";
    for (source, wanted, possible) in [
        ("/srv", Bidirectional, true),
        ("/srv", HostToContainer, true),
        ("/private/a", Bidirectional, false),
        ("/private/a", HostToContainer, false),
        ("/private/a", Private, true),
        ("/privateer", Bidirectional, true),
        ("/slave", Bidirectional, false),
        ("/slave", HostToContainer, true),
        ("/with space/x", HostToContainer, false),
        ("/twice", Bidirectional, false),
    ] {
        let result = check_propagation(mountinfo, source, wanted);
        assert_eq!(result.is_ok(), possible, "{source} {wanted:?}: {result:?}");
    }
    let text = check_propagation(mountinfo, "/private/a", Bidirectional).unwrap_err();
    assert!(
        text.to_string().starts_with(
            r#"path "/private/a" is mounted on "/private", which is not a shared mount"#
        ),
        "{text}"
    );
}

#[test]
fn image_volumes() {
    let plan = plan_of(|fixture| {
        fixture.image.volumes = ["/data", "/cache/", "/data/", "/etc/app"]
            .map(str::to_owned)
            .into();
        fixture.spec.mounts = vec![volume("/cache")];
    });
    assert_eq!(
        source(&plan, "/data"),
        "/var/lib/insula/rw/container/volumes/0"
    );
    assert_eq!(source(&plan, "/cache"), "/srv/volume");
    assert_eq!(
        source(&plan, "/etc/app"),
        "/var/lib/insula/rw/container/volumes/3"
    );
    for path in [
        "/",
        "",
        "//",
        "/proc",
        "/proc/self/attr",
        "/sys",
        "/sys/fs",
        "/dev",
        "/dev/x",
        "proc",
        "/a/../../b",
        "/..",
        "/a\0",
    ] {
        let text = refusal_of(|fixture| fixture.image.volumes = vec![path.to_owned()]);
        assert!(text.starts_with("image-volumes: "), "{path:?}: {text}");
    }
    assert!(
        plan_of(|fixture| fixture.image.volumes = vec!["/process".to_owned()])
            .mounts
            .len()
            > 10
    );
    let text =
        refusal_of(|fixture| fixture.image.volumes = (0..129).map(|n| format!("/v{n}")).collect());
    assert!(text.contains("129 volumes"), "{text}");
}

fn fuse_at(path: &str) -> DeviceNode {
    DeviceNode {
        path: path.to_owned(),
        kind: DeviceKind::Character,
        major: 10,
        minor: 229,
        mode: 0o660,
        uid: 0,
        gid: 7,
    }
}

#[test]
fn words_that_clients_look_for_come_first() {
    let text = refusal_of(|fixture| {
        fixture.host.recursive_readonly = false;
        fixture.spec.mounts = vec![VolumeMount {
            readonly: true,
            recursive_readonly: true,
            ..volume("/v")
        }];
    });
    assert!(text.starts_with("RROUnsupported: "), "{text}");
    let other = refusal_of(|fixture| {
        fixture.spec.mounts = vec![VolumeMount {
            options: vec!["suid".to_owned()],
            ..volume("/v")
        }];
    });
    assert!(other.starts_with("volumes: mount option"), "{other}");
}

#[test]
fn devices() {
    let mapping = |permissions: &str| DeviceMapping {
        container_path: "/dev/fuse".to_owned(),
        host_path: "/dev/fuse".to_owned(),
        permissions: permissions.to_owned(),
    };
    let with = |fixture: &mut Fixture, permissions: &str| {
        fixture.spec.devices = vec![mapping(permissions)];
        fixture.devices = vec![ResolvedDevice {
            mapping: mapping(permissions),
            node: fuse_at("/dev/fuse"),
        }];
    };
    for (given, expected) in [("mr", "rm"), ("", "rwm"), ("rw", "rw")] {
        let plan = plan_of(|fixture| with(fixture, given));
        let rule = plan
            .cgroup
            .resources
            .devices
            .iter()
            .find(|rule| rule.major == Some(10))
            .unwrap();
        assert_eq!(
            (rule.minor, rule.access.as_str(), rule.allow),
            (Some(229), expected, true)
        );
        assert!(
            plan.devices
                .iter()
                .any(|node| node.path == "/dev/fuse" && node.gid == 7)
        );
    }
    for (ownership, user, group, expected) in [
        (false, Some(1000), Some(2000), (0, 7)),
        (true, Some(1000), Some(2000), (1000, 2000)),
        (true, Some(1000), None, (1000, 7)),
        (true, None, None, (0, 7)),
    ] {
        let plan = plan_of(|fixture| {
            with(fixture, "rw");
            fixture.device_ownership = ownership;
            fixture.spec.security.run_as_user = user;
            fixture.spec.security.run_as_group = group;
        });
        let owner = |path: &str| {
            let node = plan.devices.iter().find(|node| node.path == path).unwrap();
            (node.uid, node.gid)
        };
        assert_eq!(
            owner("/dev/fuse"),
            expected,
            "{ownership} {user:?} {group:?}"
        );
        assert_eq!(owner("/dev/null"), (0, 0));
    }
    let text = refusal_of(|fixture| with(fixture, "rx"));
    assert!(text.contains("\"rx\""), "{text}");
    let text = refusal_of(|fixture| fixture.spec.devices = vec![mapping("r")]);
    assert!(
        text.contains("/dev/fuse") && text.contains("not found"),
        "{text}"
    );

    let plan = plan_of(|_| {});
    let rules = &plan.cgroup.resources.devices;
    assert!(rules.iter().all(|rule| rule.allow && rule.kind.is_some()));
    assert!(
        rules
            .iter()
            .all(|rule| rule.access == "m" || rule.major.is_some())
    );
}

#[test]
fn a_privileged_container_has_the_devices_of_the_host() {
    let mut fixture = Fixture::privileged();
    let paths = [
        "/dev/fuse",
        "/dev/null",
        "/dev/pts/0",
        "/dev/console",
        "/dev/net/tun",
    ];
    fixture.host.host_devices = paths.map(fuse_at).into();
    let plan = fixture.plan().unwrap();
    let nodes: Vec<&str> = plan.devices.iter().map(|node| node.path.as_str()).collect();
    assert!(nodes.contains(&"/dev/fuse") && nodes.contains(&"/dev/net/tun"));
    assert!(!nodes.contains(&"/dev/pts/0") && !nodes.contains(&"/dev/console"));
    assert_eq!(
        plan.devices
            .iter()
            .find(|node| node.path == "/dev/null")
            .unwrap()
            .minor,
        3
    );
    let [rule] = plan.cgroup.resources.devices.as_slice() else {
        panic!("one rule")
    };
    assert_eq!(
        (rule.kind, rule.major, rule.minor, rule.access.as_str()),
        (None, None, None, "rwm")
    );
}

#[test]
fn masked_and_readonly_paths_are_exactly_the_list() {
    let set = |fixture: &mut Fixture| {
        fixture.spec.security.masked_paths = ["/proc/kcore", "/bin/ls/", "/proc/kcore"]
            .map(str::to_owned)
            .into();
        fixture.spec.security.readonly_paths = vec!["/tmp".to_owned()];
    };
    let plan = plan_of(set);
    assert_eq!(plan.masked_paths, ["/proc/kcore", "/bin/ls"]);
    assert_eq!(plan.readonly_paths, ["/tmp"]);
    assert!(
        plan_of(|_| {}).masked_paths.is_empty(),
        "no defaults are added"
    );
    let mut fixture = Fixture::privileged();
    set(&mut fixture);
    let plan = fixture.plan().unwrap();
    assert!(plan.masked_paths.is_empty() && plan.readonly_paths.is_empty());
    for path in ["", "proc", "/proc/../x", "/a\0"] {
        refusal_of(|fixture| fixture.spec.security.masked_paths = vec![path.to_owned()]);
        refusal_of(|fixture| fixture.spec.security.readonly_paths = vec![path.to_owned()]);
    }
    for list in [
        crate::paths::DEFAULT_MASKED_PATHS,
        crate::paths::DEFAULT_READONLY_PATHS,
    ] {
        assert!(list.is_sorted());
        let plan = plan_of(|fixture| {
            fixture.spec.security.masked_paths = list.iter().map(|&path| path.to_owned()).collect();
        });
        assert_eq!(plan.masked_paths, list);
    }
}

#[test]
fn the_log_lies_below_the_pods_directory() {
    let log = |directory: &str, path: &str| {
        let mut fixture = Fixture::new();
        fixture.pod.log_directory = directory.to_owned();
        fixture.spec.log_path = path.to_owned();
        fixture.plan().map(|plan| plan.stdio.log_path)
    };
    assert_eq!(
        log("/var/log/", "c//0.log").unwrap().as_deref(),
        Some("/var/log/c/0.log")
    );
    assert_eq!(log("", "0.log").unwrap(), None);
    assert_eq!(log("/var/log", "").unwrap(), None);
    for (directory, path) in [
        ("/var/log", "../../etc/cron.d/x"),
        ("/var/log", "a\0"),
        ("log", "0.log"),
    ] {
        log(directory, path).unwrap_err();
    }
}
