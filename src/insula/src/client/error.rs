//! Errors as a person reads them: one line that names what failed and what to do.

use std::fmt;
use std::io;
use std::time::Duration;

use tonic::{Code, Status};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody listens at the socket.
    #[error("no daemon listens at {address}: {hint}")]
    NoDaemon { address: String, hint: &'static str },
    /// The socket is there and may not be used.
    #[error("{address} may not be opened: run this command as root")]
    NotAllowed { address: String },
    /// The connection failed otherwise.
    #[error("cannot connect to {address}: {reason}")]
    Connection { address: String, reason: String },
    /// The daemon could not be started, or did not come up.
    #[error("the daemon started by this command {what}{}", excerpt(log))]
    Embedded { what: String, log: String },
    /// The daemon's answer is an error.
    #[error("cannot {doing}: {}", human(status))]
    Refused { doing: String, status: Box<Status> },
    /// No answer in time.
    #[error("cannot {doing}: no answer from the daemon within {} s; its log says what it waits for", limit.as_secs())]
    Timeout { doing: String, limit: Duration },
    /// The daemon's answer lacks something.
    #[error(
        "cannot {doing}: the daemon's answer has no {what}; do this command and the daemon belong together? (insula version)"
    )]
    Incomplete { doing: String, what: &'static str },
    /// A name that nothing has.
    #[error("nothing is called {name:?}: insula ps -a lists what there is")]
    Unknown { name: String },
    /// A name that several things have.
    #[error("{name:?} could be {}; say which by its name or id", .candidates.join(" or "))]
    Ambiguous {
        name: String,
        candidates: Vec<String>,
    },
    /// The app definition is not one.
    #[error("{file}: {source}")]
    Definition {
        file: String,
        source: insula_apps::AppError,
    },
    /// A port that is needed is taken.
    #[error("{0}")]
    Port(#[from] insula_apps::NoFreePort),
    /// A file of this machine.
    #[error("cannot {doing}: {source}")]
    File { doing: String, source: io::Error },
    /// The streams of a container or a pod.
    #[error("cannot {doing}: {source}")]
    Streams {
        doing: String,
        source: insula_streaming::client::ClientError,
    },
    /// Something that cannot be asked for.
    #[error("{0}")]
    Usage(String),
    /// Standard output was closed by its reader: not worth a word.
    #[error("standard output was closed")]
    BrokenPipe,
}

impl ClientError {
    pub(crate) fn file(doing: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File {
            doing: doing.to_string(),
            source,
        }
    }

    /// Writing to standard output failed.
    pub(crate) fn output(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::BrokenPipe {
            Self::BrokenPipe
        } else {
            Self::File {
                doing: "write to standard output".into(),
                source,
            }
        }
    }

    /// Whether the daemon says that there is no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.code() == Code::NotFound)
    }
}

/// The error and its causes in one line.
pub(crate) fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

/// A gRPC status in words. The daemon's own message says what is wrong; the code adds what kind
/// of trouble that is where the message alone could mislead.
fn human(status: &Status) -> String {
    let message = status.message().trim();
    let message = if message.is_empty() {
        "the daemon does not say why"
    } else {
        message
    };
    match status.code() {
        Code::Unimplemented => format!("this daemon cannot do that: {message}"),
        // With a cause it comes from the connection; without, the daemon says it of a registry.
        Code::Unavailable if std::error::Error::source(status).is_some() => {
            format!("the daemon is gone or going: {message}")
        }
        Code::DeadlineExceeded => format!("it took too long: {message}"),
        Code::PermissionDenied | Code::Unauthenticated => format!("not allowed: {message}"),
        Code::ResourceExhausted => format!("too much for the daemon: {message}"),
        _ => message.to_owned(),
    }
}

fn excerpt(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(5)..];
    if last.is_empty() {
        String::new()
    } else {
        format!("; its last words: {}", last.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_one_line() {
        let refused = |code, message: &str| {
            one_line(&ClientError::Refused {
                doing: "pull redis".into(),
                status: Box::new(Status::new(code, message)),
            })
        };
        for (have, want) in [
            (
                refused(Code::NotFound, "no such image"),
                "cannot pull redis: no such image",
            ),
            (
                refused(Code::Unimplemented, "x"),
                "cannot pull redis: this daemon cannot do that: x",
            ),
            (
                refused(Code::Internal, "a\n  b\n"),
                "cannot pull redis: a; b",
            ),
            (
                refused(Code::Unknown, ""),
                "cannot pull redis: the daemon does not say why",
            ),
            (
                one_line(&ClientError::Embedded {
                    what: "ended with exit status: 1".into(),
                    log: "1\n2\n3\n4\n5\n6\n".into(),
                }),
                "the daemon started by this command ended with exit status: 1; its last words: 2; 3; 4; 5; 6",
            ),
            (
                one_line(&ClientError::Ambiguous {
                    name: "a".into(),
                    candidates: vec!["a-0".into(), "a-1".into()],
                }),
                "\"a\" could be a-0 or a-1; say which by its name or id",
            ),
            (
                one_line(&ClientError::file("read x")(io::Error::from(
                    io::ErrorKind::NotFound,
                ))),
                "cannot read x: entity not found",
            ),
        ] {
            assert_eq!(have, want);
        }
        assert!(matches!(
            ClientError::output(io::ErrorKind::BrokenPipe.into()),
            ClientError::BrokenPipe
        ));
    }
}
