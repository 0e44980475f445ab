//! Fields that mean something only elsewhere: on a cluster, under a supervisor, or in the answers
//! of Marathon's own API.

use serde_json::Value;

use super::Result;
use crate::error::{AppError, Notice};
use crate::reader::Fields;

/// What a cluster does with them does not happen on one machine.
const CLUSTER: [&str; 9] = [
    "acceptedResourceRoles",
    "constraints",
    "dependencies",
    "killSelection",
    "residency",
    "role",
    "unreachableStrategy",
    "upgradeStrategy",
    "versionInfo",
];

/// They need somebody who watches the app and starts it again.
const SUPERVISOR: [&str; 6] = [
    "backoffFactor",
    "backoffSeconds",
    "check",
    "healthChecks",
    "maxLaunchDelaySeconds",
    "readinessChecks",
];

/// Marathon's API returns them with a definition; they say what was, not what to do.
const ANSWERS: [&str; 13] = [
    "deployments",
    "executorResources",
    "lastTaskFailure",
    "readinessCheckResults",
    "servicePorts",
    "storeUrls",
    "taskStats",
    "tasks",
    "tasksHealthy",
    "tasksRunning",
    "tasksStaged",
    "tasksUnhealthy",
    "version",
];

/// They would change what the app does, so leaving them out would be a lie.
const REFUSED: [(&str, &str); 5] = [
    (
        "fetch",
        "files are not fetched yet; put them into the image, or mount them with \
         container.volumes",
    ),
    (
        "uris",
        "files are not fetched yet; put them into the image, or mount them with \
         container.volumes",
    ),
    (
        "secrets",
        "there is no secret store on one machine; mount a file with container.volumes",
    ),
    (
        "executor",
        "there are no executors here; describe the program with cmd or args",
    ),
    (
        "ipAddress",
        "it is the form of Marathon before 1.5; use networks",
    ),
];

/// Takes all of them, and `gpus`.
pub(super) fn read(fields: &mut Fields, notices: &mut Vec<Notice>) -> Result<()> {
    for (name, why) in REFUSED {
        if fields
            .take(name)
            .is_some_and(|value| says_something(&value))
        {
            return Err(AppError::Unsupported {
                path: name.to_owned(),
                why: why.to_owned(),
            });
        }
    }
    if fields.integer("gpus", 0..=1024)?.unwrap_or(0) > 0 {
        return Err(AppError::Unsupported {
            path: "gpus".into(),
            why: "GPUs cannot be asked for by number yet".into(),
        });
    }
    for (names, text) in [
        (
            &CLUSTER[..],
            "no effect: it needs a cluster, and this is one machine",
        ),
        (
            &SUPERVISOR[..],
            "no effect: nothing restarts or checks the app here",
        ),
        (
            &ANSWERS[..],
            "no effect: it is part of Marathon's answers, not of a definition",
        ),
    ] {
        for name in names {
            if fields
                .take(name)
                .is_some_and(|value| says_something(&value))
            {
                notices.push(Notice::new(*name, text));
            }
        }
    }
    Ok(())
}

/// Empty values are what Marathon's API fills in for absent ones.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}
