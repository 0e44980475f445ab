//! Our errors as gRPC statuses.
//!
//! kubelet looks at three codes (`NotFound`, `Unimplemented`,
//! `DeadlineExceeded`) and at words at the start of a message
//! (`k8s.io/cri-api/pkg/errors`); people read the rest.

use crate::convert::Rejected;
use tonic::{Code, Status};

/// Words that kubelet looks for at the start of a message. A room below may
/// put the stage in front of them; here they go to the front again.
const LEADING_WORDS: &[&str] = &[
    "ImageVolumeMountFailed",
    "RROUnsupported",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];

/// Longest message in a status. It travels in an HTTP/2 header, of which
/// clients take 8 KiB and more, after percent-encoding.
const MESSAGE_MAX: usize = 2048;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request could not be parsed.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// Pods or containers.
    #[error(transparent)]
    Pods(#[from] insula_pods::Error),
    /// Images.
    #[error(transparent)]
    Images(#[from] insula_images::Error),
    /// A session of exec, attach or port-forward.
    #[error(transparent)]
    Sessions(#[from] insula_streaming::TokenError),
    /// The call is of a kind that this build does not do.
    #[error("{method} is not supported by this version: {missing}")]
    Unimplemented {
        /// Name of the call.
        method: &'static str,
        /// What it would need.
        missing: &'static str,
    },
    /// The daemon itself failed.
    #[error("{0}")]
    Internal(String),
}

// === impl Error ===

impl Error {
    /// What a client can do about it.
    pub fn code(&self) -> Code {
        match self {
            Self::Rejected(Rejected::Invalid { .. }) => Code::InvalidArgument,
            Self::Rejected(Rejected::Unsupported { .. }) | Self::Unimplemented { .. } => {
                Code::Unimplemented
            }
            Self::Pods(error) => pods_code(error),
            Self::Images(error) => images_code(error),
            Self::Sessions(insula_streaming::TokenError::TooMany) => Code::ResourceExhausted,
            Self::Sessions(insula_streaming::TokenError::Random(_)) | Self::Internal(_) => {
                Code::Internal
            }
        }
    }

    /// The text for the client, of bounded length.
    pub fn message(&self) -> String {
        let mut message = self.to_string();
        if self.registry_unavailable() {
            // Ours says the same in other words.
            let cause = message.strip_prefix("registry unavailable: ");
            message = format!("RegistryUnavailable: {}", cause.unwrap_or(&message));
        }
        if let Some(word) = LEADING_WORDS
            .iter()
            .find(|word| message.contains(**word) && !message.starts_with(**word))
        {
            message = format!("{word}: {message}");
        }
        shorten(message)
    }

    fn registry_unavailable(&self) -> bool {
        let image_error = match self {
            Self::Images(error) => Some(error),
            Self::Pods(insula_pods::Error::Images { source, .. }) => source.downcast_ref(),
            _ => None,
        };
        matches!(image_error, Some(insula_images::Error::Unavailable(_)))
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(error.code(), error.message())
    }
}

fn pods_code(error: &insula_pods::Error) -> Code {
    use insula_pods::Error;
    match error {
        Error::NotFound { .. } => Code::NotFound,
        Error::InvalidArgument(_) => Code::InvalidArgument,
        Error::AlreadyExists { .. } => Code::AlreadyExists,
        Error::FailedPrecondition(_) | Error::CannotRun { .. } => Code::FailedPrecondition,
        Error::DeadlineExceeded { .. } => Code::DeadlineExceeded,
        Error::Unimplemented(_) => Code::Unimplemented,
        Error::ResourceExhausted(_) => Code::ResourceExhausted,
        Error::Aborted(_) => Code::Aborted,
        Error::Images { source, .. } => source.downcast_ref().map_or(Code::Internal, images_code),
        Error::Network { .. } | Error::Internal { .. } => Code::Internal,
    }
}

fn images_code(error: &insula_images::Error) -> Code {
    use insula_images::Error;
    match error {
        Error::NotFound { .. } => Code::NotFound,
        Error::InvalidReference { .. } => Code::InvalidArgument,
        Error::Unauthorized { .. } => Code::PermissionDenied,
        Error::Unavailable(_) => Code::Unavailable,
        Error::DeadlineExceeded { .. } => Code::DeadlineExceeded,
        Error::Corrupt { .. } => Code::DataLoss,
        Error::NoSpace { .. } => Code::ResourceExhausted,
        Error::Unsupported(_) => Code::Unimplemented,
        Error::Configuration { .. } => Code::FailedPrecondition,
        Error::Cancelled(_) => Code::Cancelled,
        Error::Io { .. } => Code::Internal,
    }
}

fn shorten(message: String) -> String {
    if message.len() <= MESSAGE_MAX {
        return message;
    }
    let end = (0..=MESSAGE_MAX)
        .rev()
        .find(|at| message.is_char_boundary(*at))
        .unwrap_or(0);
    format!("{} … ({} bytes more)", &message[..end], message.len() - end)
}

#[cfg(test)]
mod tests {
    use super::{Code, Error, Rejected, Status, shorten};
    use insula_pods::Error as Pods;
    use std::time::Duration;

    #[test]
    fn each_kind_has_the_code_that_a_client_acts_on() {
        let cases: Vec<(Error, Code)> = vec![
            (Rejected::invalid("f", "bad").into(), Code::InvalidArgument),
            (Rejected::unsupported("f", "no").into(), Code::Unimplemented),
            (
                Pods::NotFound {
                    what: "pod",
                    id: "x".into(),
                }
                .into(),
                Code::NotFound,
            ),
            (
                Pods::DeadlineExceeded {
                    stage: "exec".into(),
                    after: Duration::from_secs(1),
                }
                .into(),
                Code::DeadlineExceeded,
            ),
            (
                Pods::FailedPrecondition("x".into()).into(),
                Code::FailedPrecondition,
            ),
            (
                Pods::ResourceExhausted("x".into()).into(),
                Code::ResourceExhausted,
            ),
            (
                Pods::Images {
                    stage: "root file system",
                    source: insula_pods::Cause::new(insula_images::Error::Corrupt {
                        what: "layer".into(),
                        reason: "r".into(),
                    }),
                }
                .into(),
                Code::DataLoss,
            ),
            (
                insula_streaming::TokenError::TooMany.into(),
                Code::ResourceExhausted,
            ),
            (
                insula_images::Error::InvalidReference {
                    reference: "A".into(),
                    reason: "r".into(),
                }
                .into(),
                Code::InvalidArgument,
            ),
        ];
        for (error, want) in cases {
            assert_eq!(error.code(), want, "{error}");
        }
    }

    #[test]
    fn words_that_kubelet_looks_for_come_first() {
        let cases: Vec<(Error, &str)> = vec![
            (
                insula_images::Error::Unavailable("r.example: refused".into()).into(),
                "RegistryUnavailable: r.example",
            ),
            (
                Pods::FailedPrecondition("volumes: RROUnsupported: mounts[0]".into()).into(),
                "RROUnsupported: volumes: ",
            ),
            (
                Pods::FailedPrecondition("RROUnsupported: mounts[0]".into()).into(),
                "RROUnsupported: mounts[0]",
            ),
        ];
        for (error, want) in cases {
            let status = Status::from(error);
            assert!(status.message().starts_with(want), "{}", status.message());
        }
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let short = shorten("ä".repeat(5000));
        assert!(short.len() < 2100, "{}", short.len());
        assert!(short.ends_with("bytes more)"));
    }
}
