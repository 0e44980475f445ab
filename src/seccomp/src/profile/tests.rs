use super::{
    Architectures, Condition, Flags, KernelVersion, Listener, MAX_BYTES, Operator, Profile,
    ProfileError,
};
use crate::action::Action;
use crate::architecture::{Architecture, NamedArchitecture};
use insula_wire::Capability;

#[test]
fn both_dialects_are_read() {
    let text = br#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "ENOSYS", "defaultErrnoRet": 38,
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_S390X", "subArchitectures": null}
        ],
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"],
        "listenerPath": "/run/agent.sock", "listenerMetadata": "x",
        "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "c",
             "includes": {"caps": ["CAP_SYS_ADMIN", "CAP_FLY"], "arches": ["amd64"], "minKernel": "4.8"},
             "excludes": {}},
            {"name": "kill", "action": "SCMP_ACT_TRACE", "errnoRet": 65535,
             "args": [{"index": 5, "value": 18446744073709551615, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]}
        ]
    }"#;
    let profile = Profile::parse(text).unwrap();
    let known = NamedArchitecture::Known;
    assert_eq!(profile.default_action, Action::Error(38));
    assert_eq!(
        profile.architectures,
        Architectures::Mapped(vec![
            (known(Architecture::X86_64), vec![known(Architecture::X86)]),
            (NamedArchitecture::Foreign, vec![]),
        ])
    );
    assert_eq!(
        profile.flags,
        Flags {
            log: true,
            spec_allow: false,
            wait_killable: false
        }
    );
    assert_eq!(
        profile.listener,
        Some(Listener {
            path: "/run/agent.sock".to_owned(),
            metadata: "x".to_owned()
        })
    );
    let [first, second] = &profile.groups[..] else {
        panic!("{:?}", profile.groups);
    };
    assert_eq!(first.names, ["read", "write"]);
    assert_eq!(
        first.includes.capabilities,
        [Some(Capability::SysAdmin), None]
    );
    assert_eq!(
        first.includes.kernel,
        Some(KernelVersion { major: 4, minor: 8 })
    );
    assert_eq!(second.names, ["kill"]);
    assert_eq!(second.action, Action::Trace(65535));
    assert_eq!(
        second.conditions,
        [Condition {
            argument: 5,
            operator: Operator::MaskedEqual,
            value: u64::MAX,
            value_two: 3
        }]
    );
}

#[test]
fn actions_have_their_errors() {
    for (fields, expected) in [
        (r#""SCMP_ACT_KILL""#, Action::KillThread),
        (r#""SCMP_ACT_KILL_THREAD""#, Action::KillThread),
        (r#""SCMP_ACT_KILL_PROCESS""#, Action::KillProcess),
        (r#""SCMP_ACT_TRAP""#, Action::Trap),
        (r#""SCMP_ACT_ERRNO""#, Action::Error(1)),
        (
            r#""SCMP_ACT_ERRNO", "defaultErrnoRet": 0"#,
            Action::Error(0),
        ),
        (
            r#""SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "defaultErrno": "EACCES""#,
            Action::Error(13),
        ),
        (r#""SCMP_ACT_TRACE""#, Action::Trace(1)),
        (r#""SCMP_ACT_LOG""#, Action::Log),
        (r#""SCMP_ACT_NOTIFY""#, Action::Notify),
        (r#""SCMP_ACT_ALLOW""#, Action::Allow),
    ] {
        let profile = Profile::parse(format!("{{\"defaultAction\": {fields}}}").as_bytes());
        let profile = profile.unwrap();
        assert_eq!(profile.default_action, expected);
        // What runc and crun set where nothing is said.
        assert!(profile.flags.spec_allow);
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let group = |inside: &str| {
        format!(
            "{{\"defaultAction\": \"SCMP_ACT_ALLOW\",\n\"syscalls\": [\n{{\"names\": [\"read\"], {inside}}}]}}"
        )
    };
    for (text, expected) in [
        (String::new(), "EOF while parsing a value at line 1 column 0"),
        ("{}".to_owned(), "missing field `defaultAction` at line 1 column 2"),
        ("[]".to_owned(), "invalid length 0"),
        (r#"{"defaultAction": "SCMP_ACT_FLY"}"#.to_owned(), "unknown variant `SCMP_ACT_FLY`"),
        (
            r#"{"defaultAction": "SCMP_ACT_KILL", "syscals": []}"#.to_owned(),
            "unknown field `syscals`",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_KILL", "defaultErrnoRet": 1}"#.to_owned(),
            "an error number was given for an action that has none",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_KILL", "architectures": ["SCMP_ARCH_Z80"]}"#.to_owned(),
            "unknown architecture \"SCMP_ARCH_Z80\"",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_KILL", "architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "SCMP_ARCH_X86"}]}"#.to_owned(),
            "both architectures and archMap",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_KILL", "flags": ["NEW_LISTENER"]}"#.to_owned(),
            "unknown variant `NEW_LISTENER`",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_KILL", "listenerPath": "agent"}"#.to_owned(),
            "listenerPath \"agent\" is not absolute",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_KILL", "listenerMetadata": "x"}"#.to_owned(),
            "without listenerPath",
        ),
        (group(r#""name": "write", "action": "SCMP_ACT_LOG""#), "both names and the name \"write\" are given: one is wanted at line 3"),
        (group(r#""action": "SCMP_ACT_ERRNO", "errnoRet": 4096"#), "error number 4096 is above 4095 at line 3"),
        (group(r#""action": "SCMP_ACT_ERRNO", "errno": "EMAGIC""#), "unknown error \"EMAGIC\""),
        (group(r#""action": "SCMP_ACT_LOG", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]"#), "argument 6 is not one of 0 to 5 at line 3"),
        (group(r#""action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}]"#), "invalid value: integer `-1`"),
        (group(r#""action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_XX"}]"#), "unknown variant `SCMP_CMP_XX`"),
        (group(r#""action": "SCMP_ACT_LOG", "includes": {"minKernel": "new"}"#), "\"new\" is no kernel version"),
        (
            r#"{"defaultAction": "SCMP_ACT_KILL", "syscalls": [{"names": [], "action": "SCMP_ACT_LOG"}]}"#.to_owned(),
            "a rule names no system call",
        ),
    ] {
        let error = Profile::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let long = vec![b' '; MAX_BYTES + 1];
    assert!(matches!(
        Profile::parse(&long),
        Err(ProfileError::TooLarge(_))
    ));
}

#[test]
fn kernel_versions_are_the_first_two_numbers() {
    for (text, expected) in [
        ("4.8", Some((4, 8))),
        ("6.12.43+deb13-amd64", Some((6, 12))),
        ("6.18-rc1", Some((6, 18))),
        ("6", None),
        ("6.", None),
        ("six.one", None),
        ("-6.1", None),
    ] {
        let version = text.parse::<KernelVersion>().ok();
        assert_eq!(version.map(|it| (it.major, it.minor)), expected, "{text}");
    }
    let version = |text: &str| text.parse::<KernelVersion>().unwrap();
    assert!(version("6.2") < version("6.12"));
}
