//! Security modules that label processes.

use super::Row;
use insula_isolators::apparmor::{DEFAULT_PROFILE, parse_profiles};
use insula_isolators::selinux::{Policy, own_label};
use std::fs;
use std::path::Path;

pub(super) fn apparmor() -> Row {
    let name = "AppArmor";
    if !fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.trim() == "Y")
    {
        return Row::ok(
            name,
            "not enabled in this kernel: containers that name a profile are refused",
        );
    }
    let lost =
        "containers run without a profile, and those that ask for RuntimeDefault are refused";
    let list = "/sys/kernel/security/apparmor/profiles";
    let parser = ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    match (fs::read_to_string(list), parser) {
        (Err(error), _) => Row::missing(name, format!("{list}: {error}"), lost),
        (Ok(loaded), _) if parse_profiles(&loaded).contains(DEFAULT_PROFILE) => {
            Row::ok(name, format!("enabled, {DEFAULT_PROFILE} is loaded"))
        }
        (Ok(_), None) => Row::missing(
            name,
            "enabled, but apparmor_parser is not installed, which loads the default profile",
            lost,
        ),
        (Ok(_), Some(parser)) => Row::ok(
            name,
            format!("enabled, the daemon loads {DEFAULT_PROFILE} with {parser}"),
        ),
    }
}

pub(super) fn selinux() -> Row {
    let name = "SELinux";
    match Policy::detect() {
        None => Row::ok(name, "not enabled in this kernel: options have no effect"),
        Some(Policy {
            containers: Some((process, file)),
            privileged,
            levels,
        }) => {
            let shown = privileged
                .as_ref()
                .map_or("the daemon's own".to_owned(), ToString::to_string);
            let found = format!(
                "{}: containers are {process}, their files {file}, privileged ones {shown}",
                mode()
            );
            let policy = Policy {
                containers: Some((process, file)),
                privileged,
                levels,
            };
            domain(name, &found, &policy)
        }
        Some(_) => Row::warning(
            name,
            format!(
                "{}, but the policy names no type for containers: it has no lxc_contexts file, and no container_t",
                mode()
            ),
            "containers run with the daemon's own label, those that ask for another are refused: install a policy for containers, such as container-selinux",
        ),
    }
}

/// What is done about what the policy forbids (selinux(8)).
fn mode() -> &'static str {
    match fs::read_to_string("/sys/fs/selinux/enforce").as_deref() {
        Ok("1") => "enforcing",
        Ok("0") => "permissive",
        _ => "enabled",
    }
}

/// Whether this process runs in a domain that the policy knows as a container
/// engine's: only of such a one may containers use the pipes. It is the daemon,
/// or a command where no daemon runs, whose label a daemon would not have.
fn domain(name: &str, found: &str, policy: &Policy) -> Row {
    let own = match own_label() {
        Ok(own) => own,
        Err(error) => {
            let lost = "whether containers may use the daemon's pipes is not known";
            return Row::warning(name, format!("{found}; own label: {error}"), lost);
        }
    };
    if policy.may_use_pipes_of(&own) == Some(false) {
        return Row::warning(
            name,
            format!("{found}; the process that looked is {own}, whose pipes they may not use"),
            "a daemon with that label gives containers no standard streams where the policy is \
             enforced: label its program as a container engine (container_runtime_exec_t with \
             container-selinux, crio_exec_t with the reference policy) and start it as a service",
        );
    }
    Row::ok(name, format!("{found}; the process that looked is {own}"))
}
