//! Standard output.

use std::io::{self, Write};

use serde::Serialize;

use super::error::ClientError;

/// Prints text as it is.
pub(crate) fn print(text: &str) -> Result<(), ClientError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(ClientError::output)
}

/// Prints a JSON document for people and programs.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), ClientError> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| ClientError::File {
        doing: "write JSON".into(),
        source: error.into(),
    })?;
    text.push('\n');
    print(&text)
}

/// Says something to a person on standard error. That nobody reads it is no trouble.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
