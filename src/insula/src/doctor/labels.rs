//! Security modules that label processes.

use super::Row;
use insula_isolators::apparmor::{DEFAULT_PROFILE, parse_profiles};
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
