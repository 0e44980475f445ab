//! `insula doctor`.

use std::process::ExitCode;

use insula_cri_api::v1::{StatusRequest, StatusResponse};
use serde_json::{Value, json};

use super::Outcome;
use super::connection::{Client, QUESTION, answer};
use super::error::ClientError;
use super::inspect::parsed;
use super::output::{print, print_json, say};
use super::table::Table;
use crate::cli::{Format, Global};

/// Prints the daemon's conditions and the table of features that it found on this host. Without
/// a daemon, what this command can find by itself.
pub(crate) async fn doctor(global: &Global) -> Outcome {
    let client = match Client::connect(&global.address).await {
        Ok(client) => client,
        Err(error @ ClientError::NoDaemon { .. }) => return without_daemon(global, &error),
        Err(error) => return Err(error),
    };
    let request = StatusRequest { verbose: true };
    let status = answer(
        "ask for the daemon's state",
        QUESTION,
        client.runtime().status(request),
    )
    .await?;
    let report = status.info.get("doctor").map(|text| parsed(text));
    let healthy = conditions(&status).iter().all(|(_, met, _)| *met);
    match global.output {
        Format::Json => print_json(&json!({
            "conditions": conditions(&status)
                .iter()
                .map(|(name, met, message)| json!({"name": name, "met": met, "message": message}))
                .collect::<Vec<_>>(),
            "doctor": report,
        }))?,
        Format::Table => {
            print(&condition_table(&status))?;
            if let Some(report) = report {
                print(&format!("\n{}", features(&report)))?;
            }
        }
    }
    Ok(if healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn without_daemon(global: &Global, error: &ClientError) -> Outcome {
    say(&format!("insula: {error}"));
    let report = crate::serve::host_report();
    match global.output {
        Format::Json => print_json(&json!({"conditions": Value::Null, "doctor": report}))?,
        Format::Table => print(&features(&report))?,
    }
    Ok(ExitCode::FAILURE)
}

fn conditions(status: &StatusResponse) -> Vec<(&str, bool, String)> {
    status
        .status
        .iter()
        .flat_map(|status| &status.conditions)
        .map(|condition| {
            let message = match (condition.reason.as_str(), condition.message.as_str()) {
                ("", message) => message.to_owned(),
                (reason, "") => reason.to_owned(),
                (reason, message) => format!("{reason}: {message}"),
            };
            (condition.r#type.as_str(), condition.status, message)
        })
        .collect()
}

fn condition_table(status: &StatusResponse) -> String {
    let mut table = Table::new(["CONDITION", "MET", "WHY"]);
    for (name, met, message) in conditions(status) {
        let met = if met { "yes" } else { "no" };
        table.row([name.to_owned(), met.to_owned(), message]);
    }
    table.to_string()
}

/// A report is a list of objects with `name`, `state`, `detail` and `lost`; anything else is
/// shown as the JSON it is.
fn features(report: &Value) -> String {
    let rows = report.as_array().and_then(|rows| {
        rows.iter()
            .map(|row| {
                let text = |key| row.get(key).and_then(Value::as_str).map(str::to_owned);
                Some([
                    text("name")?,
                    text("state")?,
                    text("detail").unwrap_or_default(),
                    text("lost").unwrap_or_default(),
                ])
            })
            .collect::<Option<Vec<_>>>()
    });
    let Some(rows) = rows else {
        return format!("{report:#}\n");
    };
    let mut table = Table::new(["FEATURE", "STATE", "FOUND", "LOST WITHOUT IT"]);
    for row in rows {
        table.row(row);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use insula_cri_api::v1::{RuntimeCondition, RuntimeStatus};

    use super::*;

    #[test]
    fn tables() {
        let condition = |name: &str, met, reason: &str, message: &str| RuntimeCondition {
            r#type: name.into(),
            status: met,
            reason: reason.into(),
            message: message.into(),
        };
        let status = StatusResponse {
            status: Some(RuntimeStatus {
                conditions: vec![
                    condition("RuntimeReady", true, "", ""),
                    condition(
                        "NetworkReady",
                        false,
                        "NetworkPluginNotReady",
                        "no configuration",
                    ),
                ],
            }),
            ..Default::default()
        };
        assert_eq!(
            condition_table(&status),
            "CONDITION      MET   WHY\n\
             RuntimeReady   yes\n\
             NetworkReady   no    NetworkPluginNotReady: no configuration\n"
        );
        assert_eq!(
            features(&json!([
                {"name": "idmap", "state": "ok", "detail": "tried", "lost": ""},
                {"name": "x", "state": "missing", "detail": "old kernel", "lost": "y"},
            ])),
            "FEATURE   STATE     FOUND        LOST WITHOUT IT\n\
             idmap     ok        tried\n\
             x         missing   old kernel   y\n"
        );
        assert_eq!(features(&json!({"a": 1})), "{\n  \"a\": 1\n}\n");
    }
}
