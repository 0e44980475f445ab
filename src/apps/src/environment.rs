//! The variables a task finds in its environment.
//!
//! Names as Marathon gives them ("Task environment variables" in its documentation). The app's
//! own `env` comes last and so overrides them, as there.

use std::collections::BTreeMap;

use crate::app::App;
use crate::config::{Instance, SANDBOX_DIRECTORY};
use crate::networking::AssignedPort;

/// Longest list of labels in `MARATHON_APP_LABELS`, in bytes: it is for convenience, and an
/// argument list has bounds.
const MAX_LABELS: usize = 4096;

/// All variables, in order of their names.
pub(crate) fn of(app: &App, instance: &Instance<'_>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        all.insert(name.to_owned(), value);
    };
    set("HOST", instance.host.to_owned());
    set("MESOS_TASK_ID", instance.id.task_id(app));
    set("MESOS_SANDBOX", SANDBOX_DIRECTORY.to_owned());
    set("MARATHON_APP_ID", app.id.to_string());
    set("MARATHON_APP_VERSION", instance.version.to_owned());
    set("MARATHON_APP_DOCKER_IMAGE", app.image.clone());
    set("MARATHON_APP_RESOURCE_CPUS", decimal(app.cpus));
    set("MARATHON_APP_RESOURCE_MEM", decimal(app.memory_mib));
    set("MARATHON_APP_RESOURCE_DISK", decimal(app.disk_mib));
    set("MARATHON_APP_RESOURCE_GPUS", "0".to_owned());
    let names: Vec<String> = app.labels.keys().map(|name| variable(name)).collect();
    let mut list = names.join(" ");
    if list.len() > MAX_LABELS {
        list.clear();
    }
    set("MARATHON_APP_LABELS", list);
    for (name, value) in &app.labels {
        set(
            &format!("MARATHON_APP_LABEL_{}", variable(name)),
            value.clone(),
        );
    }
    all.extend(ports(instance.ports));
    all.extend(app.environment.clone());
    all
}

fn ports(ports: &[AssignedPort]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (index, port) in ports.iter().enumerate() {
        let number = port.advertised.to_string();
        if index == 0 {
            all.insert("PORT".to_owned(), number.clone());
        }
        all.insert(format!("PORT{index}"), number.clone());
        all.insert(format!("PORT_{}", port.container), number.clone());
        if let Some(name) = &port.name {
            all.insert(format!("PORT_{}", variable(name)), number);
        }
    }
    if !ports.is_empty() {
        let numbers: Vec<String> = ports
            .iter()
            .map(|port| port.advertised.to_string())
            .collect();
        all.insert("PORTS".to_owned(), numbers.join(","));
    }
    all
}

/// Upper case, and an underscore for what a shell does not take in a name.
fn variable(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}

/// A number as Marathon writes it: always with a decimal point.
fn decimal(number: f64) -> String {
    format!("{number:?}")
}
