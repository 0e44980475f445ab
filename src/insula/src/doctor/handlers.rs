//! Runtime handlers that are external runtimes.

use super::Row;
use crate::serve::{Runtimes, handlers};
use insula_oci::runtime::{Containers, Facts};
use insula_pods::Handler;

/// One row for each handler of the configuration.
pub(super) fn rows(runtimes: &Runtimes) -> Vec<Row> {
    handlers::look(runtimes)
        .into_iter()
        .map(|(name, handler)| {
            let row = format!("runtime handler {name}");
            match handler {
                Handler::Native => Row::ok(&row, "native"),
                Handler::Oci(runtime) => Row::tried(
                    &row,
                    runtime
                        .facts
                        .map(|facts| format!("{}: {}", runtime.path.display(), describe(&facts))),
                    "pods with this handler fail: install the runtime, or correct its path in the configuration",
                ),
            }
        })
        .collect()
}

fn describe(facts: &Facts) -> String {
    if facts.containers() == Some(Containers::Sandbox) {
        return format!(
            "{}; each container is a sandbox, so a pod has one at a time",
            facts.version
        );
    }
    let Some(features) = &facts.features else {
        return format!(
            "{}; it has no command `features`, so recursive read-only mounts are refused",
            facts.version
        );
    };
    let known: Vec<_> = [
        (features.namespaces, "namespaces"),
        (features.seccomp, "seccomp"),
        (features.recursive_read_only, "recursive read-only mounts"),
        (features.user_namespaces, "user namespaces (not used)"),
    ]
    .into_iter()
    .filter_map(|(has, name)| has.then_some(name))
    .collect();
    format!("{}; features: {}", facts.version, known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::rows;
    use crate::doctor::State;
    use crate::serve::config_from;

    #[test]
    fn each_handler_has_a_row() {
        let config = config_from(
            "[runtimes.none]\ntype = \"oci\"\npath = \"/nowhere/crun\"\n\
             [runtimes.other]\ntype = \"native\"\n\
             [runtimes.true]\ntype = \"oci\"\npath = \"/bin/true\"\n",
        );
        let rows = rows(&config.runtimes);
        let of = |name: &str| rows.iter().find(|row| row.name.ends_with(name)).unwrap();
        assert_eq!(of(" other").detail, "native");
        assert_eq!(of(" none").state, State::Missing);
        assert!(of(" none").detail.starts_with("/nowhere/crun: "));
        // It says nothing where features are expected.
        assert_eq!(of(" true").state, State::Missing);
    }
}
