use proptest::prelude::*;
use serde_json::{Value, json};

use HostPort::{Any, Fixed, Preferred, Unmapped};

use super::*;
use crate::{
    AssignedPort, Declared, HostPort, Instance, InstanceId, NetworkChoice, NetworkMode,
    PortRequest, PortWish, Protocol, label,
};

const REDIS: &[u8] = include_bytes!("../../../../examples/redis.json");

/// The smallest app, with fields changed or added.
fn app_with(change: Value) -> Value {
    let mut app = json!({"id": "/web", "container": {"type": "MESOS", "docker": {"image": "web"}}});
    merge(&mut app, change);
    app
}

fn merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change,
    }
}

fn read(change: Value) -> Result<(App, Vec<Notice>)> {
    parse(app_with(change).to_string().as_bytes())
}

fn app(change: Value) -> App {
    let shown = change.to_string();
    read(change)
        .unwrap_or_else(|error| panic!("{shown}: {error}"))
        .0
}

fn error(change: Value) -> String {
    let shown = change.to_string();
    match read(change) {
        Ok(_) => panic!("{shown}: no error"),
        Err(error) => error.to_string(),
    }
}

/// Every port is free; "any" gives 31000.
#[expect(
    clippy::unnecessary_wraps,
    reason = "the signature that assign asks for"
)]
fn all_free(wish: PortWish<'_>) -> Option<u16> {
    Some(wish.port.unwrap_or(31000))
}

#[test]
fn redis_of_the_examples() {
    let (app, notices) = parse(REDIS).expect("the example is valid");
    assert_eq!(notices, []);
    let networking = app.networking(None).expect("networking");
    assert_eq!(networking.mode, NetworkMode::Pod);
    assert_eq!(networking.notices.len(), 1);
    let ports = networking.assign(0, all_free).expect("ports");
    let id = InstanceId {
        index: 0,
        of: app.instances,
        uid: "u1".into(),
    };
    let instance = Instance {
        id: &id,
        network: networking.mode,
        ports: &ports,
        host: "node",
        version: "2026-01-01T00:00:00Z",
    };

    let sandbox = instance.sandbox(&app);
    assert_eq!(sandbox.hostname, "redis");
    assert_eq!(sandbox.log_directory, "/var/log/pods/insula_redis_u1");
    assert_eq!(sandbox.dns_config, None);
    assert_eq!(sandbox.labels[label::APP_ID], "/redis");
    assert_eq!(sandbox.labels[label::POD_UID], "u1");
    let [mapping] = &sandbox.port_mappings[..] else {
        panic!("{:?}", sandbox.port_mappings)
    };
    assert_eq!(
        (mapping.container_port, mapping.host_port, mapping.protocol),
        (6379, 6379, 0)
    );
    let linux = sandbox.linux.expect("linux");
    assert_eq!(linux.cgroup_parent, "");

    let container = instance.container(&app, "sha256:abc");
    assert_eq!(container.log_path, "redis/0.log");
    assert_eq!(container.image.expect("image").image, "sha256:abc");
    assert!(container.command.is_empty() && container.args.is_empty());
    let env: BTreeMap<_, _> = container
        .envs
        .iter()
        .map(|e| (e.key.as_str(), std::str::from_utf8(&e.value).expect("text")))
        .collect();
    for (name, want) in [
        ("PORT", "6379"),
        ("PORT0", "6379"),
        ("PORTS", "6379"),
        ("PORT_REDIS", "6379"),
        ("HOST", "node"),
        ("MARATHON_APP_ID", "/redis"),
        ("MARATHON_APP_RESOURCE_CPUS", "1.0"),
        ("MARATHON_APP_RESOURCE_MEM", "128.0"),
        ("MARATHON_APP_DOCKER_IMAGE", "redis"),
        ("MESOS_SANDBOX", "/mnt/mesos/sandbox"),
        ("MESOS_TASK_ID", "redis.instance-u1._app.1"),
    ] {
        assert_eq!(env.get(name).copied(), Some(want), "{name}");
    }
    let resources = container
        .linux
        .and_then(|linux| linux.resources)
        .expect("resources");
    assert_eq!(
        (
            resources.cpu_shares,
            resources.cpu_quota,
            resources.memory_limit_in_bytes
        ),
        (1024, 0, 134_217_728)
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn errors_name_the_path_and_what_to_do() {
    let image = |docker: Value| json!({"container": {"docker": docker}});
    for (change, want) in [
        (json!({"id": null}), "id is missing"),
        (json!({"id": "/Web"}), "id: want an app id is a path"),
        (
            json!({"cpu": 1}),
            "cpu: unknown field; did you mean \"cpus\"?",
        ),
        (json!({"cpus": 0}), "cpus: want a number from 0.001"),
        (json!({"mem": "128"}), "mem: want a number"),
        (json!({"instances": 0}), "instances: want at least 1"),
        (json!({"instances": 1.5}), "instances: want an integer"),
        (
            json!({"cmd": "a", "args": ["b"]}),
            "cmd: cmd and args exclude",
        ),
        (json!({"cmd": " "}), "cmd: want a command line"),
        (
            json!({"container": null}),
            "container is missing: without an image",
        ),
        (
            json!({"container": {"docker": null}}),
            "container.docker is missing",
        ),
        (
            json!({"container": {"type": "RKT"}}),
            "container.type: want \"MESOS\" or \"DOCKER\", have \"RKT\"",
        ),
        (
            json!({"container": {"portMapping": []}}),
            "container.portMapping: unknown field; did you mean \"portMappings\"?",
        ),
        (
            image(json!({"image": "a b"})),
            "container.docker.image: want an image reference",
        ),
        (
            image(json!({"image": null})),
            "container.docker.image is missing",
        ),
        (
            image(json!({"forcePull": true})),
            "container.docker.forcePull: unknown field; did you mean \"forcePullImage\"?",
        ),
        (
            image(json!({"pullConfig": {"secret": "x"}})),
            "container.docker.pullConfig is not supported",
        ),
        (
            image(json!({"parameters": [{"key": "shm-size", "value": "1g"}]})),
            "container.docker.parameters[0].key \"shm-size\" is not supported: the CRI has no field",
        ),
        (
            image(json!({"parameters": [{"key": "volume", "value": "a:/b"}]})),
            "container.docker.parameters[0].value: want an absolute path",
        ),
        (
            image(json!({"parameters": [{"key": "cap-add"}]})),
            "container.docker.parameters[0].value is missing",
        ),
        (
            json!({"container": {"volumes": [{"containerPath": "data", "hostPath": "/data"}]}}),
            "container.volumes[0].containerPath is not supported: \"data\" is relative",
        ),
        (
            json!({"container": {"volumes": [{"containerPath": "/data", "hostPath": "/a/../b"}]}}),
            "container.volumes[0].hostPath: want a path without",
        ),
        (
            json!({"container": {"volumes": [{"containerPath": "/data", "persistent": {"size": 1}}]}}),
            "container.volumes[0].persistent is not supported",
        ),
        (
            json!({"env": {"KEY": {"secret": "s"}}}),
            "env.KEY is not supported: there is no secret store",
        ),
        (
            json!({"env": {"A=B": "x"}}),
            "env.A=B: want a variable name",
        ),
        (json!({"env": {"A": 1}}), "env.A: want a string"),
        (
            json!({"labels": {"io.kubernetes.pod.uid": "x"}}),
            "labels.io.kubernetes.pod.uid: labels that begin",
        ),
        (
            json!({"fetch": [{"uri": "http://x"}]}),
            "fetch is not supported",
        ),
        (json!({"gpus": 1}), "gpus is not supported"),
        (json!({"user": "a b"}), "user: want a user name"),
        (json!({"user": "1:x"}), "user: want a user name"),
        (
            json!({"portDefinitions": [{"port": 70000}]}),
            "portDefinitions[0].port: want an integer from 0 to 65535",
        ),
        (
            json!({"portDefinitions": [{"protocol": "sctp"}]}),
            "portDefinitions[0].protocol: want",
        ),
        (json!({"ports": [1, "x"]}), "ports[1]: want a port"),
        (
            json!({"container": {"portMappings": [{"containerPort": 80}]}}),
            "container.portMappings: port mappings need a network",
        ),
        (
            json!({"networks": [{"mode": "container"}]}),
            "networks[0].name is missing",
        ),
        (
            json!({"networks": [{"mode": "bridge"}]}),
            "networks[0].mode: want",
        ),
        (
            json!({"networks": [{"mode": "container", "name": "a"}, {"mode": "container", "name": "b"}]}),
            "networks[1] is not supported",
        ),
        (
            json!({"resourceLimits": {"mem": 1}}),
            "resourceLimits.mem: want a number from 128",
        ),
        (
            json!({"taskKillGracePeriodSeconds": -1}),
            "taskKillGracePeriodSeconds: want an integer",
        ),
    ] {
        let have = error(change.clone());
        assert!(have.starts_with(want), "{change}\nwant {want}\nhave {have}");
    }
    assert!(parse(b"{").is_err_and(|error| matches!(error, AppError::NotJson(_))));
    assert!(
        parse(&vec![b' '; MAX_DEFINITION_BYTES + 1])
            .is_err_and(|error| matches!(error, AppError::TooLarge { .. }))
    );
}

#[test]
fn notices_name_what_has_no_effect() {
    let (_, notices) = read(json!({
        "disk": 10,
        "constraints": [["hostname", "UNIQUE"]],
        "healthChecks": [{"protocol": "TCP"}],
        "dependencies": [],
        "fetch": [],
        "tasksRunning": 1,
        "container": {"docker": {"privileged": true}},
    }))
    .expect("valid");
    let paths: Vec<_> = notices.iter().map(|notice| notice.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "container.docker.privileged",
            "disk",
            "constraints",
            "healthChecks",
            "tasksRunning"
        ]
    );
}

#[test]
fn fields_become_what_they_mean() {
    assert_eq!(
        app(json!({"cmd": "echo $PORT0"})).command,
        Command::Shell("echo $PORT0".into())
    );
    assert_eq!(
        app(json!({"args": ["--x"]})).command,
        Command::Arguments(vec!["--x".into()])
    );
    assert_eq!(app(json!({"args": []})).command, Command::OfImage);
    assert_eq!(
        app(json!({"user": "1000:50"})).run_as,
        RunAs::Ids {
            uid: 1000,
            gid: Some(50)
        }
    );
    assert_eq!(
        app(json!({"user": "www-data"})).run_as,
        RunAs::Name("www-data".into())
    );
    assert_eq!(
        app(json!({"mem": 64.5})).memory_limit,
        MemoryLimit::Bytes(67_633_152)
    );
    let limited = app(json!({"resourceLimits": {"cpus": 1.5, "mem": "unlimited"}}));
    assert_eq!(limited.cpu_limit, CpuLimit::Processors(1.5));
    assert_eq!(limited.memory_limit, MemoryLimit::Unlimited);

    let docker = app(json!({"container": {"docker": {"parameters": [
        {"key": "cap-add", "value": "cap_net_admin"},
        {"key": "hostname", "value": "h"},
        {"key": "env", "value": "A=1=2"},
        {"key": "env", "value": "B=parameter"},
        {"key": "sysctl", "value": "net.core.somaxconn=511"},
        {"key": "device", "value": "/dev/fuse"},
        {"key": "volume", "value": "/a:/b:ro"},
        {"key": "user", "value": "7"},
    ]}}, "env": {"B": "env"}}));
    assert_eq!(docker.settings.add_capabilities, ["NET_ADMIN"]);
    assert_eq!(docker.settings.hostname.as_deref(), Some("h"));
    assert_eq!(docker.environment["A"], "1=2");
    assert_eq!(docker.environment["B"], "env");
    assert_eq!(docker.settings.sysctls["net.core.somaxconn"], "511");
    assert_eq!(
        docker.settings.devices,
        [("/dev/fuse".into(), "/dev/fuse".into(), "rwm".into())]
    );
    assert!(docker.volumes[0].read_only);
    assert_eq!(docker.run_as, RunAs::Ids { uid: 7, gid: None });
}

fn port(container: Option<u16>, host: HostPort) -> PortRequest {
    PortRequest {
        container,
        host,
        protocols: vec![Protocol::Tcp],
        name: None,
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn ports_by_network() {
    let definitions = json!({"portDefinitions": [{"port": 80}, {"port": 0}]});
    let required = json!({"ports": [80], "requirePorts": true});
    let bridge = json!({"networks": [{"mode": "container/bridge"}]});
    let mappings = |mode: &str| {
        let mut change = json!({"container": {"portMappings": [
            {"containerPort": 80}, {"containerPort": 81, "hostPort": 8081}, {"hostPort": 0}]}});
        merge(
            &mut change,
            if mode == "container" {
                json!({"networks": [{"mode": "container", "name": "dcos"}]})
            } else if mode == "legacy" {
                json!({"container": {"docker": {"network": "BRIDGE"}}})
            } else {
                json!({"networks": [{"mode": mode}]})
            },
        );
        change
    };
    let cases = [
        (
            definitions.clone(),
            None,
            NetworkMode::Pod,
            vec![port(Some(80), Preferred(80)), port(None, Any)],
        ),
        (
            definitions,
            Some(NetworkChoice::Host),
            NetworkMode::Host,
            vec![port(Some(80), Preferred(80)), port(None, Any)],
        ),
        (
            required,
            None,
            NetworkMode::Pod,
            vec![port(Some(80), Fixed(80))],
        ),
        (json!({}), None, NetworkMode::Pod, vec![]),
        (
            json!({}),
            Some(NetworkChoice::Host),
            NetworkMode::Host,
            vec![port(None, Any)],
        ),
        (bridge, None, NetworkMode::Pod, vec![port(None, Any)]),
        (
            mappings("container/bridge"),
            None,
            NetworkMode::Pod,
            vec![
                port(Some(80), Any),
                port(Some(81), Fixed(8081)),
                port(None, Any),
            ],
        ),
        (
            mappings("legacy"),
            None,
            NetworkMode::Pod,
            vec![
                port(Some(80), Any),
                port(Some(81), Fixed(8081)),
                port(None, Any),
            ],
        ),
        (
            mappings("container"),
            Some(NetworkChoice::Cni),
            NetworkMode::Pod,
            vec![
                port(Some(80), Unmapped),
                port(Some(81), Fixed(8081)),
                port(None, Any),
            ],
        ),
    ];
    for (change, choice, mode, want) in cases {
        let networking = app(change.clone()).networking(choice).expect("networking");
        assert_eq!(
            (networking.mode, networking.ports),
            (mode, want),
            "{change}"
        );
    }
    assert_eq!(
        app(mappings("container")).declared,
        Declared::Container("dcos".into())
    );
    assert!(
        app(mappings("container"))
            .networking(Some(NetworkChoice::Host))
            .is_err()
    );
    let twice = app(json!({"ports": [80], "requirePorts": true, "instances": 2}));
    assert!(twice.networking(None).is_err_and(|error| {
        error
            .to_string()
            .starts_with("instances: 2 instances cannot all have port 80")
    }));
}

#[test]
fn ports_are_assigned() {
    let taken = |wish: PortWish<'_>| match wish.port {
        Some(_) => None,
        None => Some(31000),
    };
    let assign =
        |mode, request: PortRequest, instance, free: &dyn Fn(PortWish<'_>) -> Option<u16>| {
            let networking = crate::Networking {
                mode,
                ports: vec![request],
                notices: vec![],
            };
            networking.assign(instance, free).map(|mut ports| {
                let AssignedPort {
                    container,
                    host,
                    advertised,
                    ..
                } = ports.remove(0);
                (container, host, advertised)
            })
        };
    let pod = NetworkMode::Pod;
    let host = NetworkMode::Host;
    for (mode, request, instance, want) in [
        (pod, port(Some(80), Preferred(80)), 0, (80, Some(80), 80)),
        (pod, port(Some(80), Preferred(80)), 1, (80, Some(31000), 80)),
        (host, port(Some(80), Preferred(80)), 0, (80, Some(80), 80)),
        (
            host,
            port(Some(80), Preferred(80)),
            1,
            (31000, Some(31000), 31000),
        ),
        (pod, port(None, Any), 0, (31000, Some(31000), 31000)),
        (pod, port(Some(80), Any), 0, (80, Some(31000), 31000)),
        (pod, port(Some(80), Unmapped), 0, (80, None, 80)),
        (pod, port(None, Unmapped), 0, (31000, None, 31000)),
        (pod, port(Some(80), Fixed(8080)), 0, (80, Some(8080), 8080)),
    ] {
        assert_eq!(
            assign(mode, request.clone(), instance, &all_free),
            Ok(want),
            "{request:?} {instance}"
        );
    }
    assert_eq!(
        assign(pod, port(Some(80), Preferred(80)), 0, &taken),
        Ok((80, Some(31000), 80))
    );
    assert_eq!(
        assign(pod, port(Some(80), Fixed(80)), 0, &taken).map_err(|error| error.to_string()),
        Err("port 80 of the host is in use: free it, or let the definition ask for port 0".into())
    );
}

/// JSON of any shape, with field names that are often real ones.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop_oneof![
            Just("host"),
            Just("MESOS"),
            Just("redis"),
            Just("tcp"),
            Just("/x")
        ]
        .prop_map(Value::from),
    ];
    let key = prop_oneof![
        prop_oneof![
            Just("id"),
            Just("container"),
            Just("docker"),
            Just("image"),
            Just("networks"),
            Just("mode"),
            Just("portDefinitions"),
            Just("port"),
            Just("portMappings"),
            Just("parameters"),
            Just("key"),
            Just("value"),
            Just("volumes"),
            Just("env"),
            Just("labels"),
            Just("cpus"),
            Just("mem"),
            Just("resourceLimits"),
            Just("user"),
            Just("instances"),
        ]
        .prop_map(str::to_owned),
        ".{0,6}",
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    /// No input makes the parser panic, and what it accepts can be made into configurations.
    #[test]
    fn any_definition_is_an_app_or_an_error(change in any_json()) {
        if let Ok((app, _)) = parse(app_with(change).to_string().as_bytes())
            && let Ok(networking) = app.networking(None)
            && let Ok(ports) = networking.assign(0, all_free)
        {
            let id = InstanceId { index: 0, of: app.instances, uid: "u".into() };
            let instance = Instance { id: &id, network: networking.mode, ports: &ports, host: "h", version: "v" };
            let sandbox = instance.sandbox(&app);
            prop_assert!(sandbox.log_directory.starts_with("/var/log/pods/insula_"));
            prop_assert!(!sandbox.log_directory.contains(".."));
            prop_assert!(sandbox.hostname.len() <= 63 || app.settings.hostname.is_some());
            let container = instance.container(&app, "sha256:0");
            prop_assert!(container.envs.iter().all(|env| !env.key.contains('=') && !env.value.contains(&0)));
        }
    }

    #[test]
    fn any_bytes(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&text);
    }
}
