//! Containers in user namespaces.

use super::views::id_mappings;
use super::{Fixture, plan_of};
use crate::isolator::ResolvedDevice;
use crate::spec::{DeviceMapping, NamespaceMode, VolumeMount};
use crate::sysctls;
use insula_wire::plan::{DeviceKind, DeviceNode, LaunchPlan, MountSource, NewOrHost, PodOrHost};
use insula_wire::{IdMappings, IdRange};

fn mapped(change: impl FnOnce(&mut Fixture)) -> Result<LaunchPlan, String> {
    let mut fixture = Fixture::new();
    fixture.pod.namespaces.user = Some(id_mappings());
    fixture.spec.security.namespaces.user = Some(id_mappings());
    change(&mut fixture);
    fixture.plan().map_err(|error| error.to_string())
}

fn volume(container_path: &str, ids: Option<IdMappings>) -> VolumeMount {
    VolumeMount {
        ids,
        ..super::files::volume(container_path)
    }
}

fn device(fixture: &mut Fixture, path: &str) {
    let mapping = DeviceMapping {
        container_path: path.to_owned(),
        host_path: "/dev/x".to_owned(),
        permissions: "r".to_owned(),
    };
    fixture.spec.devices.push(mapping.clone());
    fixture.devices.push(ResolvedDevice {
        mapping,
        node: DeviceNode {
            path: path.to_owned(),
            kind: DeviceKind::Character,
            major: 10,
            minor: 229,
            mode: 0o600,
            uid: 0,
            gid: 0,
        },
    });
}

fn terminal_group(plan: &LaunchPlan) -> bool {
    plan.mounts.iter().any(|mount| match &mount.source {
        MountSource::Filesystem { kind, options } if kind == "devpts" => {
            options.iter().any(|(key, _)| key == "gid")
        }
        _ => false,
    })
}

#[test]
fn the_plan_says_it_and_the_cgroup_namespace_is_new() {
    let plan = plan_of(|_| {});
    assert_eq!(plan.namespaces.user, PodOrHost::Host);
    assert!(terminal_group(&plan));
    let plan = mapped(|_| {}).unwrap();
    assert_eq!(plan.namespaces.user, PodOrHost::Pod);
    assert!(terminal_group(&plan));
    let plan = mapped(|fixture| {
        fixture.pod.privileged = true;
        fixture.spec.security.privileged = true;
    });
    assert_eq!(plan.unwrap().namespaces.cgroup, NewOrHost::New);
    let few = IdMappings {
        gids: IdRange::new(0, 200_000, 5).unwrap(),
        ..id_mappings()
    };
    let plan = mapped(|fixture| {
        fixture.pod.namespaces.user = Some(few);
        fixture.spec.security.namespaces.user = Some(few);
    });
    assert!(!terminal_group(&plan.unwrap()), "group 5 is not mapped");
}

#[test]
fn volumes_are_mapped_as_they_ask() {
    let plan = mapped(|fixture| {
        fixture.spec.mounts = vec![volume("/a", Some(id_mappings())), volume("/b", None)];
    })
    .unwrap();
    for (target, expected) in [("/a", true), ("/b", false), ("/etc/hosts", false)] {
        let mount = plan.mounts.iter().find(|mount| mount.target == target);
        assert_eq!(
            mount.map(|mount| mount.attributes.id_mapped),
            Some(expected),
            "{target}"
        );
    }
}

#[test]
fn what_cannot_be_is_refused() {
    type Change = fn(&mut Fixture);
    let cases: &[(Change, &str)] = &[
        (
            |fixture| fixture.spec.security.namespaces.user = None,
            "the user namespace of the container is the node's, that of its pod (users 100000+65536, groups 200000+1000)",
        ),
        (
            |fixture| fixture.pod.namespaces.user = None,
            "that of its pod the node's",
        ),
        (
            |fixture| {
                let ids = IdMappings {
                    uids: IdRange::new(0, 300_000, 65_536).unwrap(),
                    ..id_mappings()
                };
                fixture.spec.mounts = vec![volume("/a", Some(ids))];
            },
            "the volume at /a is to be shown with the ids (users 300000+65536, groups 200000+1000)",
        ),
        (
            |fixture| fixture.spec.security.run_as_user = Some(65_536),
            "with user 65536, but the pod's user namespace has only the 65536 from 0 on",
        ),
        (
            |fixture| fixture.spec.security.supplemental_groups = vec![1000],
            "with group 1000, but the pod's user namespace has only the 1000 from 0 on",
        ),
        (
            |fixture| device(fixture, "/srv/x"),
            "device /srv/x is not directly on the container's /dev",
        ),
        (
            |fixture| device(fixture, "/dev/shm/x"),
            "device /dev/shm/x is not directly",
        ),
    ];
    for (change, words) in cases {
        let error = mapped(change).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    mapped(|fixture| device(fixture, "/dev/net/x")).unwrap();
    let mut fixture = Fixture::new();
    fixture.spec.mounts = vec![volume("/a", Some(id_mappings()))];
    let error = fixture.plan().unwrap_err().to_string();
    assert!(error.contains("the user namespace of the pod is the node's"));
}

#[test]
fn pings_are_for_the_groups_there_are() {
    let mut pod = Fixture::new().pod;
    pod.namespaces.network = NamespaceMode::Pod;
    let range = "net.ipv4.ping_group_range";
    assert_eq!(sysctls::of_pod(&pod).unwrap()[range], "0 2147483647");
    pod.namespaces.user = Some(id_mappings());
    assert_eq!(sysctls::of_pod(&pod).unwrap()[range], "0 999");
}
