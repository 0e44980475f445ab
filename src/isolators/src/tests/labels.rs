//! AppArmor profiles and SELinux labels.

use super::Fixture;
use crate::apparmor::{
    DEFAULT_PROFILE, PolicyParts, default_profile, needs_profiles, parse_profiles,
};
use crate::selinux::{Label, Policy};
use crate::spec::{ProfileRequest, SelinuxOptions};
use crate::table::exec_process;

/// AppArmor on or off; p for privileged; what is asked; what is loaded beside
/// the default profile, which `!` says is missing; the outcome.
const APPARMOR: &str = "
on  -  unset           mine   => insula-default
on  -  runtime-default mine   => insula-default
on  -  unconfined      mine   => none
on  -  mine            mine   => mine
on  -  localhost/mine  mine   => mine
on  -  other           mine   => error: other\\\" is not loaded
on  -  min             mine   => error: min\\\" is not loaded
on  -  localhost/      mine   => error: is no name
on  -  a\u{7}b           mine   => error: is no name
on  p  unset           mine   => none
on  p  runtime-default mine   => none
on  p  mine            mine   => mine
on  -  unset           !mine  => none
on  -  runtime-default !mine  => error: there is no parser
on  -  mine            !mine  => mine
off -  unset           -      => none
off -  unconfined      -      => none
off -  runtime-default -      => error: not enabled on this host
off -  mine            -      => error: not enabled on this host
off p  runtime-default -      => none
off p  mine            -      => error: not enabled on this host
";

#[test]
fn apparmor_profiles() {
    for line in APPARMOR.lines().filter(|line| !line.is_empty()) {
        let (case, want) = line.split_once(" => ").unwrap();
        let words: Vec<&str> = case.split(' ').filter(|word| !word.is_empty()).collect();
        let [enabled, privileged, asked, loaded] = words[..] else {
            panic!("{line}");
        };
        let mut fixture = match privileged {
            "p" => Fixture::privileged(),
            _ => Fixture::new(),
        };
        fixture.host.apparmor = enabled == "on";
        fixture.apparmor.loaded = loaded.split('!').map(str::to_owned).collect();
        if loaded.starts_with('!') {
            fixture.apparmor.default_missing = Some("there is no parser".to_owned());
        } else if enabled == "on" {
            fixture.apparmor.loaded.insert(DEFAULT_PROFILE.to_owned());
        }
        fixture.spec.security.apparmor = match asked {
            "unset" => ProfileRequest::Unset,
            "runtime-default" => ProfileRequest::RuntimeDefault,
            "unconfined" => ProfileRequest::Unconfined,
            name => ProfileRequest::Localhost(name.to_owned()),
        };
        let plan = match fixture.plan() {
            Ok(plan) => plan,
            Err(error) => {
                let text = format!("error: {error:?}");
                let words = want.strip_prefix("error: ").unwrap_or(want);
                assert!(text.contains(words), "{line}: {text}");
                continue;
            }
        };
        let profile = plan.process.apparmor_profile.as_deref();
        assert_eq!(profile.unwrap_or("none"), want, "{line}");
        let exec = exec_process(&plan, vec![super::views::text("/bin/true")]).unwrap();
        assert_eq!(exec.apparmor_profile.as_deref(), profile, "exec, {line}");
        assert!(profile.is_none() || needs_profiles(&fixture.spec), "{line}");
    }
}

#[test]
fn the_kernels_list_of_profiles() {
    let list = "insula-default (enforce)\n/usr/bin/man (complain)\nwith (parts) (kill)\nbroken\n";
    let names: Vec<_> = parse_profiles(list).into_iter().collect();
    assert_eq!(names, ["/usr/bin/man", "insula-default", "with (parts)"]);
    assert!(parse_profiles("").is_empty());
}

#[test]
fn the_default_profile_follows_the_host() {
    let all = PolicyParts {
        abi: true,
        tunables: true,
        base: true,
    };
    let full = default_profile(all, Some("crafty"));
    for line in [
        "abi <abi/3.0>,",
        "#include <tunables/global>",
        "  #include <abstractions/base>",
        "  signal (receive) peer=crafty,",
        "  signal (send,receive) peer=insula-default,",
        "  deny mount,",
        "  deny @{PROC}/* w,",
        "  deny /sys/firmware/** rwklx,",
    ] {
        assert!(full.lines().any(|known| known == line), "{line}\n{full}");
    }
    let bare = default_profile(PolicyParts::default(), Some("a}\nb"));
    assert!(!bare.contains("include") && !bare.contains("abi/3.0") && !bare.contains("a}"));
    assert!(bare.contains("@{PROC}=/proc/"));
}

/// What the container asks for, what its pod does, the pod's level; p for
/// privileged; the labels of the process and of mounts. `_` is nothing.
const SELINUX: &str = "
_:_:_:_               _               s0:c1,c2 - => u:r:container_t:s0:c1,c2 u:o:container_file_t:s0:c1,c2
_:_:_:_               _               _        - => u:r:container_t:s0 u:o:container_file_t:s0
_:_:_:s0              _               s0:c1,c2 - => u:r:container_t:s0 u:o:container_file_t:s0
su:sr:net_t:s0:c4,c5  _               s0:c1,c2 - => su:sr:net_t:s0:c4,c5 su:o:container_file_t:s0:c4,c5
_:_:_:_               su:sr:net_t:_   s0:c1,c2 - => su:sr:net_t:s0:c1,c2 su:o:container_file_t:s0:c1,c2
_:_:own_t:_           su:sr:net_t:_   s0:c1,c2 - => su:sr:own_t:s0:c1,c2 su:o:container_file_t:s0:c1,c2
_:_:_:_               _               s0:c1,c2 p => u:r:spc_t:s0 u:o:container_file_t:s0:c1,c2
su:sr:net_t:s0:c4,c5  _               s0:c1,c2 p => u:r:spc_t:s0 su:o:container_file_t:s0:c4,c5
_:_:_:s0,c4,c5        _               s0:c1,c2 - => error
_:_:_:s0,c4,c5        _               s0:c1,c2 p => error
_:_:_:_               _:_:_:nonsense  s0:c1,c2 - => error
";

fn options(text: &str) -> Option<SelinuxOptions> {
    let mut parts = text.splitn(4, ':').filter(|part| *part != "_").peekable();
    parts.peek()?;
    let mut parts = text.splitn(4, ':');
    let mut next = || match parts.next() {
        None | Some("_") => String::new(),
        Some(part) => part.to_owned(),
    };
    Some(SelinuxOptions {
        user: next(),
        role: next(),
        kind: next(),
        level: next(),
    })
}

fn policy() -> Policy {
    let label = |text| Label::parse(text).unwrap();
    Policy {
        containers: Some((
            label("u:r:container_t:s0"),
            label("u:o:container_file_t:s0"),
        )),
        privileged: Some(label("u:r:spc_t:s0")),
        levels: true,
    }
}

#[test]
fn selinux_labels() {
    for line in SELINUX.lines().filter(|line| !line.is_empty()) {
        let (case, want) = line.split_once(" => ").unwrap();
        let words: Vec<&str> = case.split_whitespace().collect();
        let [own, of_pod, level, privileged] = words[..] else {
            panic!("{line}");
        };
        let mut fixture = match privileged {
            "p" => Fixture::privileged(),
            _ => Fixture::new(),
        };
        fixture.host.selinux = Some(policy());
        fixture.spec.security.selinux = options(own);
        fixture.pod.selinux = options(of_pod);
        fixture.selinux_level = (level != "_").then(|| level.to_owned());
        match fixture.plan() {
            Ok(plan) => {
                let labels = [&plan.process.selinux_label, &plan.mount_label];
                let labels = labels.map(|label| label.as_deref().unwrap_or("_"));
                assert_eq!(labels.join(" "), want, "{line}");
            }
            Err(error) => {
                assert_eq!(want, "error", "{line}: {error}");
                assert!(error.to_string().contains("is not of the form"), "{error}");
            }
        }
        // Off: nothing to apply to, but nonsense stays nonsense.
        fixture.host.selinux = None;
        match fixture.plan() {
            Ok(plan) => assert_eq!(
                (plan.process.selinux_label, plan.mount_label),
                (None, None),
                "{line}"
            ),
            Err(_) => assert_eq!(want, "error", "{line}"),
        }
    }
}

#[test]
fn policies_that_lack_something() {
    let mut fixture = Fixture::new();
    fixture.host.selinux = Some(Policy {
        containers: None,
        ..policy()
    });
    let plan = fixture.plan().unwrap();
    assert_eq!((plan.process.selinux_label, plan.mount_label), (None, None));
    fixture.spec.security.selinux = options("_:_:x_t:_");
    let error = fixture.plan().unwrap_err().to_string();
    assert!(error.contains("no types for containers"), "{error}");

    let without_levels = |text| Label::parse(text).unwrap();
    fixture.host.selinux = Some(Policy {
        containers: Some((without_levels("u:r:c_t"), without_levels("u:o:f_t"))),
        privileged: None,
        levels: false,
    });
    let plan = fixture.plan().unwrap();
    assert_eq!(plan.process.selinux_label.as_deref(), Some("u:r:x_t"));
    assert_eq!(plan.mount_label.as_deref(), Some("u:o:f_t"));
    fixture.spec.security.selinux = options("_:_:_:s0");
    let error = fixture.plan().unwrap_err().to_string();
    assert!(error.contains("has no levels"), "{error}");
}
