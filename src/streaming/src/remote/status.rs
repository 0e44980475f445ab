//! What the error stream of a remote command says at its end.

use crate::negotiate::Report;
use crate::runtime::StreamError;
use serde::{Deserialize, Serialize};

/// How a session ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The command has ended with this code, or an attached client's streams
    /// have, for which it is 0.
    Exited(i32),
    /// There is no exit code.
    Failed(StreamError),
}

/// `metav1.Status`, as far as remote commands use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the interface's own name")]
pub struct Status {
    /// Always empty, always there.
    #[serde(default)]
    pub metadata: Metadata,
    /// `Success` or `Failure`.
    pub status: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// `NonZeroExitCode` or `InternalError`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Where the exit code is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
    /// An HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
}

/// `metav1.ListMeta` without any of its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Metadata {}

/// `metav1.StatusDetails`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// One for each thing that went wrong.
    #[serde(default)]
    pub causes: Vec<Cause>,
}

/// `metav1.StatusCause`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// `ExitCode`, or nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The exit code in decimal, or a text.
    #[serde(default)]
    pub message: String,
}

// === impl Outcome ===

impl Outcome {
    /// The bytes for the error stream; nothing is written where nothing went
    /// wrong and the protocol is older than v4.
    pub(crate) fn report(&self, report: Report) -> Vec<u8> {
        let status = self.status();
        match report {
            Report::Status => serde_json::to_vec(&status).unwrap_or_default(),
            Report::Text => status.message.into_bytes(),
        }
    }

    fn status(&self) -> Status {
        match self {
            Self::Exited(0) => Status {
                metadata: Metadata {},
                status: "Success".into(),
                message: String::new(),
                reason: String::new(),
                details: None,
                code: None,
            },
            Self::Exited(code) => Status {
                metadata: Metadata {},
                status: "Failure".into(),
                message: format!("command terminated with non-zero exit code: exit status {code}"),
                reason: "NonZeroExitCode".into(),
                details: Some(Details {
                    causes: vec![Cause {
                        reason: "ExitCode".into(),
                        message: code.to_string(),
                    }],
                }),
                code: None,
            },
            Self::Failed(error) => {
                let error = error.to_string();
                Status {
                    metadata: Metadata {},
                    status: "Failure".into(),
                    message: format!("Internal error occurred: {error}"),
                    reason: "InternalError".into(),
                    details: Some(Details {
                        causes: vec![Cause {
                            reason: String::new(),
                            message: error,
                        }],
                    }),
                    code: Some(500),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;
    use crate::negotiate::Report;
    use crate::runtime::StreamError;

    #[test]
    fn clients_find_the_exit_code() {
        for (outcome, json, text) in [
            (
                Outcome::Exited(0),
                r#"{"metadata":{},"status":"Success"}"#,
                "",
            ),
            (
                Outcome::Exited(3),
                r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: exit status 3","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#,
                "command terminated with non-zero exit code: exit status 3",
            ),
            (
                Outcome::Failed(StreamError::Runtime("no such file".into())),
                r#"{"metadata":{},"status":"Failure","message":"Internal error occurred: no such file","reason":"InternalError","details":{"causes":[{"message":"no such file"}]},"code":500}"#,
                "Internal error occurred: no such file",
            ),
        ] {
            let written = |report| String::from_utf8(outcome.report(report)).unwrap();
            assert_eq!(written(Report::Status), json);
            assert_eq!(written(Report::Text), text);
        }
    }
}
