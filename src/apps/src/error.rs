//! What can be wrong with an app definition, and what is only worth a word.

use std::fmt;

/// Why a definition cannot be run. Every message names the field by its JSON path.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The text is longer than [`crate::MAX_DEFINITION_BYTES`].
    #[error(
        "the app definition has {bytes} bytes, more than the {limit} allowed: is this the right file?"
    )]
    TooLarge {
        /// Length of the text.
        bytes: usize,
        /// Longest text allowed.
        limit: usize,
    },
    /// The text is not JSON.
    #[error("the app definition is not valid JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// A field that no app definition has.
    #[error("{path}: unknown field{}", nearest.as_ref().map(|name| format!("; did you mean {name:?}?")).unwrap_or_default())]
    UnknownField {
        /// Where it is.
        path: String,
        /// The known field with the most similar name, if one is similar.
        nearest: Option<String>,
    },
    /// A field that has to be there is not.
    #[error("{path} is missing: {why}")]
    Missing {
        /// Where it should be.
        path: String,
        /// What it is needed for.
        why: &'static str,
    },
    /// A value of the wrong type or out of range.
    #[error("{path}: want {want}, have {have}")]
    Invalid {
        /// Where it is.
        path: String,
        /// What would be valid.
        want: String,
        /// The value, shortened.
        have: String,
    },
    /// Fields that exclude each other.
    #[error("{path}: {why}")]
    Conflict {
        /// One of the fields.
        path: String,
        /// What it conflicts with and which to keep.
        why: String,
    },
    /// Something that would change what the app does, and that cannot be done.
    #[error("{path} is not supported: {why}")]
    Unsupported {
        /// Where it is.
        path: String,
        /// Why not, and what to do instead.
        why: String,
    },
}

/// Something a person should know about how a definition is run here. Not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// JSON path of the field it is about.
    pub path: String,
    /// What happens.
    pub text: String,
}

impl Notice {
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.text)
    }
}
