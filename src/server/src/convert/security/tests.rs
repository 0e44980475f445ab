use super::{For, from_cri, namespaces, namespaces_to_cri, profile};
use insula_cri_api::v1::{
    IdMapping, Int64Value, LinuxContainerSecurityContext as Message, NamespaceOption,
    SeLinuxOption, SecurityProfile, UserNamespace,
};
use insula_isolators::spec::{GroupsPolicy, NamespaceMode, ProfileRequest};

const POD: i32 = 0;
const CONTAINER: i32 = 1;
const NODE: i32 = 2;
const TARGET: i32 = 3;

fn options(network: i32, pid: i32, ipc: i32) -> NamespaceOption {
    NamespaceOption {
        network,
        pid,
        ipc,
        target_id: String::new(),
        userns_options: None,
    }
}

fn mapping(container_id: u32, length: u32) -> IdMapping {
    IdMapping {
        host_id: 100_000,
        container_id,
        length,
    }
}

#[test]
fn namespaces_come_back_as_asked() {
    let target = NamespaceOption {
        target_id: "abc".into(),
        ..options(POD, TARGET, POD)
    };
    for message in [
        options(POD, POD, POD),
        options(POD, CONTAINER, POD),
        options(NODE, NODE, NODE),
        target,
    ] {
        let parsed = namespaces(message.clone(), For::Container).unwrap();
        assert_eq!(namespaces_to_cri(&parsed), message);
    }
}

#[test]
fn a_target_without_target_mode_is_dropped() {
    let message = NamespaceOption {
        target_id: "abc".into(),
        ..options(POD, CONTAINER, POD)
    };
    let parsed = namespaces(message, For::Container).unwrap();
    assert_eq!(parsed.pid, NamespaceMode::Container);
    assert_eq!(parsed.target_id, "");
}

#[test]
fn impossible_namespaces_are_refused() {
    let cases = [
        (
            options(CONTAINER, POD, POD),
            For::Container,
            "network: CONTAINER is not possible, only POD and NODE are",
        ),
        (
            options(POD, POD, TARGET),
            For::Container,
            "ipc: TARGET is not possible, only POD and NODE are",
        ),
        (
            options(POD, TARGET, POD),
            For::Container,
            "target_id: is empty, but `pid` is TARGET",
        ),
        (
            options(POD, TARGET, POD),
            For::Pod,
            "pid: TARGET is for containers, not for a pod",
        ),
        (
            options(POD, 9, POD),
            For::Pod,
            "pid: 9 is not a value of enum NamespaceMode",
        ),
    ];
    for (message, whose, want) in cases {
        assert_eq!(namespaces(message, whose).unwrap_err().to_string(), want);
    }
}

#[test]
fn a_user_namespace_comes_back() {
    let message = NamespaceOption {
        userns_options: Some(UserNamespace {
            mode: POD,
            uids: vec![mapping(0, 1000)],
            gids: vec![mapping(0, 10)],
        }),
        ..options(POD, POD, POD)
    };
    let parsed = namespaces(message.clone(), For::Pod).unwrap();
    assert_eq!(namespaces_to_cri(&parsed), message);
    let message = NamespaceOption {
        userns_options: Some(UserNamespace {
            mode: POD,
            uids: vec![mapping(1, 1000)],
            gids: vec![],
        }),
        ..options(POD, POD, POD)
    };
    let error = namespaces(message, For::Pod).unwrap_err().to_string();
    assert_eq!(
        error,
        "userns_options.uids: does not map id 0 of the container"
    );
}

#[test]
fn only_an_absent_profile_says_nothing() {
    let message = |profile_type, localhost_ref: &str| {
        Some(SecurityProfile {
            profile_type,
            localhost_ref: localhost_ref.into(),
        })
    };
    let cases = [
        (None, Ok(ProfileRequest::Unset)),
        (message(0, ""), Ok(ProfileRequest::RuntimeDefault)),
        (message(1, ""), Ok(ProfileRequest::Unconfined)),
        (
            message(2, "/p.json"),
            Ok(ProfileRequest::Localhost("/p.json".into())),
        ),
        (
            message(2, ""),
            Err("seccomp.localhost_ref: is empty, but `profile_type` is Localhost"),
        ),
        (
            message(1, "/p.json"),
            Err("seccomp.localhost_ref: is set, but `profile_type` is not Localhost"),
        ),
        (
            message(3, ""),
            Err("seccomp.profile_type: 3 is not a value of enum ProfileType"),
        ),
    ];
    for (message, want) in cases {
        let got = profile(message, "seccomp").map_err(|rejected| rejected.to_string());
        assert_eq!(got, want.map_err(str::to_owned));
    }
}

#[test]
#[expect(deprecated, reason = "the string is still sent")]
fn the_apparmor_structure_wins_over_the_string() {
    let cases = [
        ("", None, ProfileRequest::Unset),
        ("runtime/default", None, ProfileRequest::RuntimeDefault),
        ("unconfined", None, ProfileRequest::Unconfined),
        (
            "localhost/web",
            None,
            ProfileRequest::Localhost("web".into()),
        ),
        ("localhost/web", Some(1), ProfileRequest::Unconfined),
    ];
    for (string, structure, want) in cases {
        let message = Message {
            apparmor_profile: string.into(),
            apparmor: structure.map(|profile_type| SecurityProfile {
                profile_type,
                localhost_ref: String::new(),
            }),
            ..Message::default()
        };
        assert_eq!(from_cri(message).unwrap().apparmor, want, "{string}");
    }
    let message = Message {
        apparmor_profile: "web".into(),
        ..Message::default()
    };
    assert_eq!(
        from_cri(message).unwrap_err().to_string(),
        "apparmor_profile: \"web\" is not \"runtime/default\", \"unconfined\" or \"localhost/NAME\""
    );
}

#[test]
fn users_and_groups_are_judged() {
    let id = |value| Some(Int64Value { value });
    let cases = [
        (id(0), id(0), "", Ok(())),
        (None, id(1), "nobody", Ok(())),
        (id(4_294_967_294), None, "", Ok(())),
        (
            None,
            id(1),
            "",
            Err("run_as_group: needs `run_as_user` or `run_as_username`"),
        ),
        (
            id(1),
            None,
            "nobody",
            Err("run_as_username: only one of `run_as_user` and `run_as_username` can be set"),
        ),
        (
            id(-1),
            None,
            "",
            Err("run_as_user: -1 is not an id between 0 and 4294967294"),
        ),
        (
            id(4_294_967_295),
            None,
            "",
            Err("run_as_user: 4294967295 is not an id between 0 and 4294967294"),
        ),
    ];
    for (run_as_user, run_as_group, name, want) in cases {
        let message = Message {
            run_as_user,
            run_as_group,
            run_as_username: name.into(),
            ..Message::default()
        };
        let got = from_cri(message)
            .map(|_| ())
            .map_err(|rejected| rejected.to_string());
        assert_eq!(got, want.map_err(str::to_owned));
    }
}

#[test]
fn groups_policy_is_merge_strict_or_an_error() {
    let parse = |value| {
        from_cri(Message {
            supplemental_groups_policy: value,
            supplemental_groups: vec![5],
            ..Message::default()
        })
    };
    assert_eq!(
        parse(0).unwrap().supplemental_groups_policy,
        GroupsPolicy::Merge
    );
    assert_eq!(
        parse(1).unwrap().supplemental_groups_policy,
        GroupsPolicy::Strict
    );
    assert!(parse(2).is_err());
}

#[test]
fn selinux_is_asked_for_by_any_part() {
    let parse = |level: &str| {
        from_cri(Message {
            selinux_options: Some(SeLinuxOption {
                level: level.into(),
                ..SeLinuxOption::default()
            }),
            ..Message::default()
        })
        .unwrap()
        .selinux
    };
    assert_eq!(parse(""), None);
    assert_eq!(parse("s0:c1,c2").unwrap().level, "s0:c1,c2");
}
