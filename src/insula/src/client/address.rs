//! Where a daemon listens.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A unix socket, written `unix:///run/insula/insula.sock` or as a plain absolute path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address(PathBuf);

impl Address {
    /// Where the daemon listens unless told otherwise.
    pub(crate) const DEFAULT: &str = "unix:///run/insula/insula.sock";

    /// Path of the socket.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn is_default(&self) -> bool {
        self.to_string() == Self::DEFAULT
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}", self.0.display())
    }
}

/// A text that is not the address of a unix socket.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a daemon's address is a unix socket, such as {}", Address::DEFAULT)]
pub(crate) struct NotAnAddress;

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let path = text.strip_prefix("unix://").unwrap_or(text);
        if path.starts_with('/') && !path.ends_with('/') && !path.contains('\0') {
            Ok(Self(path.into()))
        } else {
            Err(NotAnAddress)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, want) in [
            ("unix:///run/a.sock", Some("/run/a.sock")),
            ("/run/a.sock", Some("/run/a.sock")),
            ("unix://a.sock", None),
            ("a.sock", None),
            ("tcp://127.0.0.1:1", None),
            ("/run/", None),
            ("", None),
        ] {
            let have = text.parse::<Address>().ok();
            assert_eq!(
                have.as_ref().map(Address::path),
                want.map(Path::new),
                "{text:?}"
            );
        }
        assert!(
            Address::DEFAULT
                .parse::<Address>()
                .is_ok_and(|a| a.is_default())
        );
    }
}
