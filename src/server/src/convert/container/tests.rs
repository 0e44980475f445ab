use super::{from_cri, image_to_cri, metadata_to_cri};
use insula_cri_api::v1::{
    CdiDevice, ContainerConfig, ContainerMetadata, Device, ImageSpec, Int64Value, KeyValue,
    LinuxContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext, Mount, Signal,
};
use insula_wire::OsText;

fn config() -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: "redis".into(),
            attempt: 3,
        }),
        image: Some(ImageSpec {
            image: "docker.io/library/redis:7".into(),
            user_specified_image: "redis:7".into(),
            annotations: [("a".to_owned(), "b".to_owned())].into(),
            ..ImageSpec::default()
        }),
        ..ContainerConfig::default()
    }
}

#[test]
fn the_least_a_client_may_send_is_enough() {
    let spec = from_cri(config()).unwrap();
    assert_eq!(Some(metadata_to_cri(&spec)), config().metadata);
    assert_eq!(Some(image_to_cri(&spec.image)), config().image);
    assert_eq!(spec.stop_signal, None);
    assert_eq!(spec.log_path, "");
}

#[test]
fn a_full_configuration_is_parsed() {
    let spec = from_cri(ContainerConfig {
        command: vec!["redis-server".into()],
        args: vec!["--port".into(), "1".into()],
        working_dir: "/data".into(),
        envs: vec![KeyValue {
            key: "BYTES".into(),
            value: vec![0xff, 0xfe],
        }],
        mounts: vec![Mount {
            container_path: "/data".into(),
            host_path: "/srv".into(),
            ..Mount::default()
        }],
        devices: vec![Device {
            host_path: "/dev/fuse".into(),
            ..Device::default()
        }],
        log_path: "/redis/0.log".into(),
        stop_signal: Signal::Sigint as i32,
        linux: Some(LinuxContainerConfig {
            resources: Some(LinuxContainerResources {
                cpu_shares: 2,
                ..LinuxContainerResources::default()
            }),
            security_context: Some(LinuxContainerSecurityContext {
                run_as_user: Some(Int64Value { value: 1000 }),
                ..LinuxContainerSecurityContext::default()
            }),
        }),
        ..config()
    })
    .unwrap();
    assert_eq!(
        spec.envs,
        [("BYTES".to_owned(), OsText::new([0xff, 0xfe]).unwrap())]
    );
    assert_eq!(spec.log_path, "redis/0.log");
    assert_eq!(spec.stop_signal, Some(2));
    assert_eq!(spec.resources.cpu_shares, 2);
    assert_eq!(spec.security.run_as_user, Some(1000));
    assert_eq!(spec.devices[0].permissions, "rwm");
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_bad_field_is_named() {
    type Change = fn(&mut ContainerConfig);
    let cases: &[(Change, &str)] = &[
        (|c| c.metadata = None, "metadata: is missing"),
        (|c| c.image = None, "image: is missing"),
        (
            |c| c.image.as_mut().unwrap().image.clear(),
            "image.image: is empty",
        ),
        (
            |c| c.metadata.as_mut().unwrap().name = "a\0".into(),
            "metadata.name: holds a NUL byte",
        ),
        (
            |c| c.args = vec!["ok".into(), "a\0b".into()],
            "args[1]: holds a NUL byte",
        ),
        (
            |c| c.working_dir = "data".into(),
            "working_dir: \"data\" is relative, an absolute path is expected",
        ),
        (
            |c| {
                c.envs = vec![KeyValue {
                    key: "A=B".into(),
                    value: Vec::new(),
                }];
            },
            "envs[0].key: \"A=B\" holds `=`",
        ),
        (
            |c| {
                c.envs = vec![KeyValue {
                    key: "A".into(),
                    value: vec![0],
                }];
            },
            "envs[0].value: holds a NUL byte",
        ),
        (
            |c| c.mounts = vec![Mount::default()],
            "mounts[0].container_path: is empty",
        ),
        (
            |c| c.log_path = "../../etc/passwd".into(),
            "log_path: \"../../etc/passwd\" holds `..`, write the path that is meant",
        ),
        (
            |c| c.log_path = "x".repeat(256),
            "log_path: has a part of more than 255 bytes, which no file name can be",
        ),
        (
            |c| c.stop_signal = 99,
            "stop_signal: 99 is not a value of enum Signal",
        ),
        (
            |c| {
                c.linux.get_or_insert_default().resources = Some(LinuxContainerResources {
                    cpu_period: -5,
                    ..LinuxContainerResources::default()
                });
            },
            "linux.resources.cpu_period: -5 is negative",
        ),
        (
            |c| {
                c.linux.get_or_insert_default().security_context =
                    Some(LinuxContainerSecurityContext {
                        run_as_group: Some(Int64Value { value: 1 }),
                        ..LinuxContainerSecurityContext::default()
                    });
            },
            "linux.security_context.run_as_group: needs `run_as_user` or `run_as_username`",
        ),
        (
            |c| {
                c.cdi_devices = vec![CdiDevice {
                    name: "vendor.com/gpu=\0".into(),
                }];
            },
            "CDI_devices[0].name: holds a NUL byte",
        ),
    ];
    for (change, want) in cases {
        let mut message = config();
        change(&mut message);
        assert_eq!(from_cri(message).unwrap_err().to_string(), *want);
    }
}
