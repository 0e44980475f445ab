//! The runtime handlers of the configuration, asked what they are.

use super::config::Runtimes;
use super::config::runtimes::Kind;
use insula_oci::runtime::probe;
use insula_pods::{Handler, Handlers, OciRuntime};
use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

/// How long a runtime may take to tell what it is. The daemon waits for that
/// when it starts.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks all of them at once. Blocks until the last has answered.
pub(crate) fn look(runtimes: &Runtimes) -> BTreeMap<String, Handler> {
    thread::scope(|scope| {
        let asked: Vec<_> = runtimes
            .iter()
            .map(|(name, runtime)| {
                let path = runtime
                    .path
                    .as_ref()
                    .filter(|_| runtime.kind == Some(Kind::Oci));
                let asked = path.map(|path| (path, scope.spawn(|| probe(path, PATIENCE))));
                (name, runtime, asked)
            })
            .collect();
        asked
            .into_iter()
            .map(|(name, runtime, asked)| {
                let handler = match asked {
                    None => Handler::Native,
                    Some((path, asked)) => Handler::Oci(OciRuntime {
                        path: path.clone(),
                        args: runtime.args.clone(),
                        timeout: Duration::from_secs(runtime.seconds().into()),
                        facts: match asked.join() {
                            Ok(facts) => facts.map_err(|error| error.to_string()),
                            Err(_) => Err("asking it failed".to_owned()),
                        },
                    }),
                };
                (name.clone(), handler)
            })
            .collect()
    })
}

/// Asks them and tells the log what they are.
pub(crate) fn open(runtimes: &Runtimes) -> BTreeMap<String, Handler> {
    let handlers = look(runtimes);
    for (handler, found) in &handlers {
        let Handler::Oci(OciRuntime { path, facts, .. }) = found else {
            continue;
        };
        match facts {
            Ok(facts) => {
                tracing::info!(handler, path = %path.display(), version = facts.version, "runtime handler");
            }
            Err(error) => {
                tracing::warn!(
                    handler,
                    error,
                    "a runtime handler cannot be used; pods that name it fail until it can and the daemon was started again"
                );
            }
        }
    }
    handlers
}

/// What `Status` tells of them, and of the native one by both its names.
pub(crate) fn shown(
    handlers: &BTreeMap<String, Handler>,
    recursive_read_only_mounts: bool,
    user_namespaces: bool,
) -> Vec<insula_server::Handler> {
    let native = |name: &str| insula_server::Handler {
        name: name.to_owned(),
        recursive_read_only_mounts,
        user_namespaces,
    };
    let others = handlers.iter().map(|(name, handler)| match handler {
        Handler::Native => native(name),
        Handler::Oci(runtime) => insula_server::Handler {
            name: name.clone(),
            recursive_read_only_mounts: recursive_read_only_mounts
                && runtime.has_recursive_read_only(),
            user_namespaces: false,
        },
    });
    ["", insula_pods::handlers::NATIVE]
        .map(native)
        .into_iter()
        .chain(others)
        .collect()
}

/// The handlers as the pods' room takes them.
pub(crate) fn for_pods(handlers: &BTreeMap<String, Handler>) -> Handlers {
    Handlers::new(handlers.clone())
}
