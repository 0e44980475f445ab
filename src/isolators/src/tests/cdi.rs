//! CDI devices in plans.

use super::files::volume;
use super::views::{Fixture, plan_of, refusal_of, text};
use crate::cdi::InjectedDevice;
use insula_wire::plan::{DeviceKind, DeviceNode, Mount, MountAttributes, MountSource, Propagation};

fn device(path: &str, minor: u32) -> InjectedDevice {
    InjectedDevice {
        node: DeviceNode {
            path: path.to_owned(),
            kind: DeviceKind::Character,
            major: 195,
            minor,
            mode: 0o660,
            uid: 0,
            gid: 0,
        },
        uid: None,
        gid: Some(44),
        access: "rw".to_owned(),
    }
}

fn mount(target: &str, source: &str) -> Mount {
    Mount {
        target: target.to_owned(),
        source: MountSource::Host {
            path: source.to_owned(),
        },
        attributes: MountAttributes {
            readonly: true,
            ..MountAttributes::default()
        },
        propagation: Propagation::Private,
    }
}

fn gpu(fixture: &mut Fixture) {
    fixture.cdi.env = vec![("GPU".to_owned(), text("0"))];
    fixture.cdi.devices = vec![device("/dev/gpu0", 0)];
    fixture.cdi.mounts = vec![mount("/usr/lib/gpu/", "/opt/gpu")];
    fixture.cdi.groups = vec![44, 7];
}

#[test]
fn a_device_brings_its_node_its_rule_its_mounts_and_its_groups() {
    let plan = plan_of(|fixture| {
        gpu(fixture);
        fixture.spec.security.run_as_user = Some(1000);
        fixture.spec.envs = vec![("GPU".to_owned(), text("mine"))];
    });
    let node = plan.devices.last().unwrap();
    assert_eq!(
        (node.path.as_str(), node.uid, node.gid),
        ("/dev/gpu0", 1000, 44)
    );
    let rule = plan.cgroup.resources.devices.last().unwrap();
    assert_eq!(
        (rule.major, rule.minor, rule.access.as_str()),
        (Some(195), Some(0), "rw")
    );
    assert!(
        plan.mounts
            .iter()
            .any(|mount| mount.target == "/usr/lib/gpu")
    );
    assert!(
        plan.process.env.contains(&text("GPU=0")),
        "the vendor's counts"
    );
    let groups = &plan.process.user.supplementary_groups;
    assert!(
        groups.is_sorted() && groups.contains(&7) && groups.contains(&44),
        "{groups:?}"
    );
}

#[test]
fn a_privileged_container_needs_no_rule() {
    let mut fixture = Fixture::privileged();
    gpu(&mut fixture);
    let plan = fixture.plan().unwrap();
    assert_eq!(plan.cgroup.resources.devices.len(), 1);
    assert!(plan.devices.iter().any(|node| node.path == "/dev/gpu0"));
}

#[test]
fn what_vendors_say_takes_the_place_of_what_others_say() {
    let plan = plan_of(|fixture| {
        fixture.spec.mounts = vec![volume("/data")];
        fixture.cdi.mounts = vec![mount("/data", "/old"), mount("/data", "/opt/gpu")];
        fixture.cdi.devices = vec![
            device("/dev/null", 1),
            device("/dev/null", 2),
            device("/dev/core", 3),
        ];
    });
    let sources: Vec<_> = plan
        .mounts
        .iter()
        .filter(|mount| mount.target == "/data")
        .collect();
    assert_eq!(sources, [&mount("/data", "/opt/gpu")]);
    let nulls: Vec<_> = plan
        .devices
        .iter()
        .filter(|node| node.path == "/dev/null")
        .collect();
    assert_eq!(nulls.len(), 1);
    assert_eq!((nulls[0].major, nulls[0].minor), (195, 2));
    assert!(plan.links.iter().all(|link| link.path != "/dev/core"));
}

#[test]
fn what_the_runtime_needs_itself_is_refused() {
    for (target, want) in [
        ("/", "cdi: a CDI device wants a mount at /,"),
        ("/dev//", "cdi: a CDI device wants a mount at /dev,"),
        ("/proc", "at /proc,"),
        ("/a/../dev", "`..`"),
    ] {
        let text = refusal_of(|fixture| fixture.cdi.mounts = vec![mount(target, "/opt")]);
        assert!(text.contains(want), "{target}: {text}");
    }
    let text = refusal_of(|fixture| {
        fixture.host.recursive_readonly = false;
        fixture.cdi.mounts = vec![mount("/x", "/opt")];
        fixture.cdi.mounts[0].attributes.recursive_readonly = true;
    });
    assert!(text.contains("AT_RECURSIVE"), "{text}");
}
