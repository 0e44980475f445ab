use super::{DeviceEdit, Format, parse};
use insula_wire::Hook;
use insula_wire::plan::{DeviceKind, MountSource, Propagation};
use proptest::prelude::*;

const JSON: &str = r#"{
  "cdiVersion": "0.7.0", "kind": "vendor.com/gpu",
  "annotations": {"made-by": "hand"},
  "devices": [
    {"name": "0", "containerEdits": {
      "env": ["GPU=0", "EMPTY="],
      "deviceNodes": [
        {"path": "/dev/gpu0", "hostPath": "/dev/null", "permissions": "wr", "fileMode": 438, "uid": 5},
        {"path": "/dev/gpuctl", "type": "u", "major": 195, "minor": 255}
      ]}},
    {"name": "all", "annotations": {}, "containerEdits": {"additionalGids": [0, 44]}}
  ],
  "containerEdits": {
    "mounts": [
      {"hostPath": "/usr/lib/libgpu.so", "containerPath": "/usr/lib/libgpu.so",
       "options": ["ro", "nosuid", "nodev", "rbind", "rslave"]},
      {"hostPath": "tmpfs", "containerPath": "/run/gpu", "type": "tmpfs", "options": ["size=1m", "noexec"]}
    ]
  }
}"#;

const YAML: &str = "
cdiVersion: 0.7.0
kind: vendor.com/gpu
devices:
- name: \"0\"
  containerEdits:
    env: [GPU=0]
    deviceNodes:
    - path: /dev/gpu0
      fileMode: 0640
      permissions: rw
";

#[test]
fn json_is_read() {
    let vendor = parse(JSON, Format::Json).unwrap();
    assert_eq!(vendor.kind, "vendor.com/gpu");
    let device = &vendor.devices["0"];
    let env: Vec<String> = device
        .env
        .iter()
        .map(|(name, value)| format!("{name}={}", value.to_string_lossy()))
        .collect();
    assert_eq!(env, ["GPU=0", "EMPTY="]);
    assert_eq!(
        device.devices,
        [
            DeviceEdit {
                path: "/dev/gpu0".to_owned(),
                host_path: Some("/dev/null".to_owned()),
                kind: None,
                numbers: None,
                mode: Some(0o666),
                uid: Some(5),
                gid: None,
                access: "rw".to_owned(),
            },
            DeviceEdit {
                path: "/dev/gpuctl".to_owned(),
                host_path: None,
                kind: Some(DeviceKind::Character),
                numbers: Some((195, 255)),
                mode: None,
                uid: None,
                gid: None,
                access: "rwm".to_owned(),
            },
        ]
    );
    assert_eq!(vendor.devices["all"].additional_gids, [44]);
    let [library, run] = &vendor.common.mounts[..] else {
        panic!("{:?}", vendor.common.mounts);
    };
    assert!(library.attributes.readonly && library.attributes.nosuid && library.attributes.nodev);
    assert_eq!(library.propagation, Propagation::HostToContainer);
    assert!(run.attributes.noexec);
    assert_eq!(
        run.source,
        MountSource::Filesystem {
            kind: "tmpfs".to_owned(),
            options: vec![("size".to_owned(), Some("1m".to_owned()))],
        }
    );
    assert_eq!(vendor.common.unsupported, None);
}

#[test]
fn yaml_is_read() {
    let vendor = parse(YAML, Format::Yaml).unwrap();
    let device = &vendor.devices["0"].devices[0];
    assert_eq!((device.mode, device.access.as_str()), (Some(0o640), "rw"));
    // JSON is YAML, too.
    assert_eq!(
        parse(JSON, Format::Yaml).unwrap(),
        parse(JSON, Format::Json).unwrap()
    );
}

#[test]
fn what_is_wrong_is_said() {
    for (from, to, want) in [
        ("0.7.0", "0.2.0", "cdiVersion \"0.2.0\" is not known"),
        ("vendor.com/gpu", "gpu", "its kind holds no `/`"),
        (
            "\"name\": \"all\"",
            "\"name\": \"0\"",
            "device \"0\" is described twice",
        ),
        (
            "\"name\": \"all\"",
            "\"name\": \"a/b\"",
            "device \"a/b\": its name",
        ),
        ("EMPTY=", "EMPTY", "is not of the form NAME=value"),
        ("EMPTY=", "=x", "is not of the form NAME=value"),
        ("\"wr\"", "\"x\"", "not made of r, w and m"),
        ("\"u\"", "\"x\"", "is not b, c, u or p"),
        ("\"/dev/gpu0\"", "\"dev/gpu0\"", "is not absolute"),
        ("\"/dev/gpu0\"", "\"/dev/../gpu0\"", "holds `..`"),
        ("\"/run/gpu\"", "\"/run/\\u0000gpu\"", "holds a NUL byte"),
        ("195", "-1", "invalid value"),
        (
            "\"additionalGids\"",
            "\"extraGids\"",
            "unknown field `extraGids`",
        ),
        (
            "\"devices\": [",
            "\"devices\": [], \"x\": [",
            "unknown field `x`",
        ),
    ] {
        let text = JSON.replacen(from, to, 1);
        assert_ne!(text, JSON, "{from}");
        let why = parse(&text, Format::Json).unwrap_err();
        assert!(why.contains(want), "{to}: {why}");
    }
    let empty = r#"{"cdiVersion": "1.0.0", "kind": "v/c", "devices": []}"#;
    assert_eq!(parse(empty, Format::Json).unwrap_err(), "has no devices");
    assert!(parse(&" ".repeat(2 << 20), Format::Json).is_err());
}

#[test]
fn what_cannot_be_done_is_noted_and_the_rest_read() {
    for (edits, want) in [
        (r#""intelRdt": {"closID": "a"}"#, "Intel RDT"),
        (
            r#""netDevices": [{"hostInterfaceName": "a", "name": "b"}]"#,
            "network devices moved into the container",
        ),
        (
            r#""deviceNodes": [{"path": "/dev/p", "type": "p"}]"#,
            "the named pipe \"/dev/p\"",
        ),
        (
            r#""mounts": [{"hostPath": "/a", "containerPath": "/b", "options": ["rshared"]}]"#,
            "the option \"rshared\" of the mount at \"/b\"",
        ),
        (
            r#""mounts": [{"hostPath": "a", "containerPath": "/b", "type": "nfs"}]"#,
            "the mount of type \"nfs\" at \"/b\"",
        ),
    ] {
        let text = format!(
            r#"{{"cdiVersion": "1.1.0", "kind": "v/c", "devices": [
                {{"name": "bad", "containerEdits": {{{edits}}}}},
                {{"name": "good", "containerEdits": {{"env": ["A=b"]}}}}]}}"#
        );
        let vendor = parse(&text, Format::Json).unwrap();
        assert_eq!(vendor.devices["bad"].unsupported.as_deref(), Some(want));
        assert_eq!(vendor.devices["good"].unsupported, None);
    }
}

/// A file with one device that has these edits.
fn with_edits(version: &str, edits: &str) -> String {
    format!(
        r#"{{"cdiVersion": "{version}", "kind": "v/c", "devices": [
            {{"name": "a", "containerEdits": {{{edits}}}}}]}}"#
    )
}

#[test]
fn hooks_are_read_each_into_its_list() {
    let text = with_edits(
        "0.3.0",
        r#""hooks": [
            {"hookName": "prestart", "path": "/bin/a"},
            {"hookName": "createRuntime", "path": "/bin/b"},
            {"hookName": "createContainer", "path": "/bin/c", "args": ["c", "-x"],
             "env": ["A=b"], "timeout": 5},
            {"hookName": "startContainer", "path": "/bin/d"},
            {"hookName": "poststart", "path": "/bin/e"},
            {"hookName": "poststop", "path": "/bin/f"},
            {"hookName": "prestart", "path": "/bin/g"}]"#,
    );
    let hooks = &parse(&text, Format::Json).unwrap().devices["a"].hooks;
    let paths =
        |list: &[Hook]| -> Vec<String> { list.iter().map(|one| one.path.clone()).collect() };
    assert_eq!(paths(&hooks.prestart), ["/bin/a", "/bin/g"]);
    assert_eq!(paths(&hooks.create_runtime), ["/bin/b"]);
    assert_eq!(paths(&hooks.start_container), ["/bin/d"]);
    assert_eq!(paths(&hooks.poststart), ["/bin/e"]);
    assert_eq!(paths(&hooks.poststop), ["/bin/f"]);
    assert_eq!(
        hooks.create_container,
        [Hook {
            path: "/bin/c".to_owned(),
            args: vec!["c".to_owned(), "-x".to_owned()],
            env: vec!["A=b".to_owned()],
            timeout: Some(5),
        }]
    );
    for (hook, want) in [
        (
            r#""hookName": "prestop", "path": "/a""#,
            "hookName \"prestop\" is not one of",
        ),
        (
            r#""hookName": "poststop", "path": "a""#,
            "\"a\" is not absolute",
        ),
        (
            r#""hookName": "poststop", "path": "/a", "env": ["x"]"#,
            "NAME=value",
        ),
        (
            r#""hookName": "poststop", "path": "/a", "args": ["\u0000"]"#,
            "NUL",
        ),
        (
            r#""hookName": "poststop", "path": "/a", "timeout": 0"#,
            "timeout of 0 s",
        ),
        (
            r#""hookName": "poststop", "path": "/a", "timeout": 3601"#,
            "timeout of 3601 s",
        ),
        (r#""hookName": "poststop""#, "path"),
        (r#""hookName": "poststop", "path": "/a", "dir": "/""#, "dir"),
    ] {
        let text = with_edits("1.0.0", &format!(r#""hooks": [{{{hook}}}]"#));
        let why = parse(&text, Format::Json).unwrap_err();
        assert!(why.contains(want), "{hook}: {why}");
    }
}

#[test]
fn a_file_says_no_more_than_its_version_knows() {
    for (edits, before, since) in [
        (
            r#""mounts": [{"hostPath": "/a", "containerPath": "/b", "type": "bind"}]"#,
            "0.3.0",
            "0.4.0",
        ),
        (
            r#""deviceNodes": [{"path": "/dev/a", "hostPath": "/dev/b"}]"#,
            "0.4.0",
            "0.5.0",
        ),
        (r#""additionalGids": [7]"#, "0.6.0", "0.7.0"),
        (r#""intelRdt": {"closID": "a"}"#, "0.6.0", "0.7.0"),
        (r#""intelRdt": {"schemata": ["a"]}"#, "1.0.0", "1.1.0"),
        (
            r#""intelRdt": {"enableMonitoring": true}"#,
            "1.0.0",
            "1.1.0",
        ),
        (
            r#""netDevices": [{"hostInterfaceName": "a", "name": "b"}]"#,
            "1.0.0",
            "1.1.0",
        ),
    ] {
        let why = parse(&with_edits(before, edits), Format::Json).unwrap_err();
        let want = format!("cdiVersion {before:?} is too old");
        assert!(
            why.contains(&want) && why.ends_with(since),
            "{edits}: {why}"
        );
        parse(&with_edits(since, edits), Format::Json).unwrap();
    }
    let plain = with_edits("0.4.0", "");
    for (from, to, since) in [
        (r#""a""#, r#""0a""#, "0.5.0"),
        (r#""v/c""#, r#""v/c.d""#, "0.6.0"),
        (r#""name""#, r#""annotations": {"a": "b"}, "name""#, "0.6.0"),
        (r#""kind""#, r#""annotations": {"a": "b"}, "kind""#, "0.6.0"),
    ] {
        parse(&plain, Format::Json).unwrap();
        let changed = plain.replacen(from, to, 1);
        let why = parse(&changed, Format::Json).unwrap_err();
        assert!(why.ends_with(since), "{to}: {why}");
        parse(&changed.replace("0.4.0", since), Format::Json).unwrap();
    }
}

#[test]
fn aliases_do_not_grow_without_bound() {
    let many = "A=b, ".repeat(5000);
    let mut lines = vec![format!(
        "cdiVersion: 1.0.0\nkind: v/c\ncontainerEdits: {{env: &all [{many}]}}\ndevices:"
    )];
    let device = |number| format!("- {{name: d{number}, containerEdits: {{env: *all}}}}");
    lines.extend((0..2000).map(device));
    let text = lines.join("\n");
    let why = parse(&text, Format::Yaml).unwrap_err();
    assert!(why.contains("budget"), "{why}");
}

proptest! {
    #[test]
    fn no_text_upsets_it(text in ".{0,200}", yaml in any::<bool>()) {
        let format = if yaml { Format::Yaml } else { Format::Json };
        let _ = parse(&text, format);
        let _ = parse(&YAML.replace("0640", &text), Format::Yaml);
    }
}
