//! How a test ends.

use std::fmt;

/// What a test comes to.
pub type Outcome<T = ()> = Result<T, Stop>;

/// Why a test does not go on.
#[derive(Debug)]
pub enum Stop {
    /// Something is not as it must be.
    Failed(String),
    /// It cannot be tried here, for this reason.
    Skipped(String),
}

/// Ends a test that cannot be tried here. What the environment promises is never skipped.
pub fn skip(reason: impl Into<String>) -> Outcome {
    Err(Stop::Skipped(reason.into()))
}

// === impl Stop ===

impl Stop {
    /// Says what was being done.
    pub fn within(self, what: impl fmt::Display) -> Self {
        match self {
            Self::Failed(why) => Self::Failed(format!("{what}: {why}")),
            skipped @ Self::Skipped(_) => skipped,
        }
    }

    /// For people.
    pub fn text(&self) -> &str {
        let (Self::Failed(text) | Self::Skipped(text)) = self;
        text
    }
}

// Without a `Display` of its own, so that every error with one can become a `Stop` by `?`.
impl<E: fmt::Display> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Fails the test with a message unless the condition holds.
macro_rules! check {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::support::Stop::Failed(format!($($message)+)));
        }
    };
}

/// Fails the test unless both are equal; the message says what they are of.
macro_rules! check_eq {
    ($found:expr, $wanted:expr, $($message:tt)+) => {
        match (&$found, &$wanted) {
            (found, wanted) => {
                if *found != *wanted {
                    return Err($crate::support::Stop::Failed(format!(
                        "{}: found {found:?}, wanted {wanted:?}",
                        format_args!($($message)+)
                    )));
                }
            }
        }
    };
}

/// Fails the test unless the text contains the words.
macro_rules! check_contains {
    ($text:expr, $words:expr) => {
        match (&$text, &$words) {
            (text, words) => {
                if !text.contains::<&str>(words.as_ref()) {
                    return Err($crate::support::Stop::Failed(format!(
                        "{words:?} is not in {text:?}"
                    )));
                }
            }
        }
    };
}

pub(crate) use {check, check_contains, check_eq};
