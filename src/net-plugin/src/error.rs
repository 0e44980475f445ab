//! Failures, in the form that CNI wants them (specification 1.1.0, section "Error").

use crate::netlink::NetlinkError;
use serde::Serialize;
use std::io;

/// What kind of failure it is, by the number a runtime is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The configuration is of a version that is not spoken.
    IncompatibleVersion,
    /// A key, or its value, that this plugin does not have.
    UnsupportedField,
    /// A missing or wrong environment variable.
    InvalidEnvironment,
    /// Reading or writing failed.
    InputOutput,
    /// What was read is no JSON, or not of the shape it must have.
    Decoding,
    /// The configuration contradicts itself or cannot be had.
    InvalidConfiguration,
    /// The same may succeed in a moment.
    TryAgainLater,
    /// STATUS: ADD would fail now.
    NotAvailable,
    /// The kernel refused.
    System,
    /// No address is free.
    NoAddress,
    /// CHECK: it is not as ADD left it.
    Changed,
    /// Somebody else has what was asked for: an address, a host port, the attachment itself.
    Taken,
}

/// A failure as it is told to the runtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {details}")]
pub struct Failure {
    /// What kind it is.
    pub code: Code,
    /// What went wrong.
    pub message: String,
    /// Why, and what to do about it.
    pub details: String,
}

/// The object that is written to standard output.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorObject<'a> {
    cni_version: &'a str,
    code: u32,
    msg: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    details: &'a str,
}

// === impl Code ===

impl Code {
    /// The number: those below 100 are the specification's.
    pub fn number(self) -> u32 {
        match self {
            Self::IncompatibleVersion => 1,
            Self::UnsupportedField => 2,
            Self::InvalidEnvironment => 4,
            Self::InputOutput => 5,
            Self::Decoding => 6,
            Self::InvalidConfiguration => 7,
            Self::TryAgainLater => 11,
            Self::NotAvailable => 50,
            Self::System => 100,
            Self::NoAddress => 101,
            Self::Changed => 102,
            Self::Taken => 103,
        }
    }
}

// === impl Failure ===

impl Failure {
    /// A failure of this kind: what went wrong, and why or what to do.
    pub(crate) fn new(code: Code, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: details.into(),
        }
    }

    /// A configuration that contradicts itself.
    pub(crate) fn configuration(message: impl Into<String>) -> Self {
        Self::new(
            Code::InvalidConfiguration,
            "invalid network configuration",
            message,
        )
    }

    /// A variable of the environment that is missing or wrong.
    pub(crate) fn environment(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidEnvironment, "invalid environment", message)
    }

    /// What CHECK found changed.
    pub(crate) fn changed(message: impl Into<String>) -> Self {
        Self::new(
            Code::Changed,
            "the attachment is not as ADD left it",
            message,
        )
    }

    /// A file that could not be read or written.
    pub(crate) fn io(doing: impl Into<String>, error: &io::Error) -> Self {
        Self::new(Code::InputOutput, doing, error.to_string())
    }

    /// A system call that failed.
    #[expect(clippy::needless_pass_by_value, reason = "an argument of map_err")]
    pub(crate) fn system(error: insula_sys::Error) -> Self {
        Self::new(Code::System, error.call(), error.errno().to_string())
    }

    /// The failure as JSON, in the version that the runtime speaks.
    pub fn to_json(&self, version: &str) -> String {
        let object = ErrorObject {
            cni_version: version,
            code: self.code.number(),
            msg: &self.message,
            details: &self.details,
        };
        serde_json::to_string(&object).unwrap_or_default()
    }
}

impl From<NetlinkError> for Failure {
    fn from(error: NetlinkError) -> Self {
        Self::new(Code::System, error.request, error.errno.to_string())
    }
}
