//! Security modules that label processes.

use super::Row;
use insula_isolators::apparmor::{DEFAULT_PROFILE, parse_profiles};
use insula_isolators::selinux::Policy;
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
            ..
        }) => {
            let privileged =
                privileged.map_or("the daemon's own".to_owned(), |label| label.to_string());
            Row::ok(
                name,
                format!(
                    "enabled: containers are {process}, their files {file}, privileged ones {privileged}"
                ),
            )
        }
        Some(_) => Row::warning(
            name,
            "enabled, but the policy knows neither its own lxc_contexts nor container_t",
            "containers run with the daemon's label, and options are refused: install a policy for containers, such as container-selinux",
        ),
    }
}
