//! AppArmor profiles and SELinux labels.

use super::Fixture;
use crate::apparmor::{
    DEFAULT_PROFILE, PolicyParts, default_profile, needs_profiles, parse_profiles,
};
use crate::spec::ProfileRequest;
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
