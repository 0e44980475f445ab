//! Ids of pods and containers.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Length of an id in characters.
pub const ID_LENGTH: usize = 64;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// A new random id from the kernel's generator, getrandom(2).
            pub fn random() -> crate::Result<Self> {
                random_hex().map(Self)
            }

            /// Takes text that is exactly 64 lower-case hex digits.
            pub fn parse(text: &str) -> Result<Self, NotAnId> {
                if text.len() == ID_LENGTH && is_prefix(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NotAnId(text.chars().take(ID_LENGTH).collect()))
                }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first twelve digits, for people.
            pub fn short(&self) -> &str {
                &self.0[..12]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotAnId;

            fn try_from(text: String) -> Result<Self, NotAnId> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

id_type! {
    /// Id of a pod: 64 lower-case hex digits.
    PodId
}

id_type! {
    /// Id of a container: 64 lower-case hex digits.
    ContainerId
}

/// Text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an id: an id is {ID_LENGTH} lower-case hexadecimal digits")]
pub struct NotAnId(String);

/// Whether the text can be the beginning of an id.
pub(crate) fn is_prefix(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= ID_LENGTH
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Two random numbers, for an SELinux level.
pub(crate) fn random_pair() -> crate::Result<[u32; 2]> {
    Ok([random_bytes()?, random_bytes()?].map(u32::from_ne_bytes))
}

fn random_bytes<const LENGTH: usize>() -> crate::Result<[u8; LENGTH]> {
    let mut bytes = [0_u8; LENGTH];
    let mut filled = 0;
    while filled < bytes.len() {
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
                .map_err(|errno| {
                    crate::Error::internal("make an id", format!("getrandom() = {errno}"))
                })?;
    }
    Ok(bytes)
}

fn random_hex() -> crate::Result<String> {
    use std::fmt::Write as _;
    let bytes: [u8; ID_LENGTH / 2] = random_bytes()?;
    Ok(bytes
        .iter()
        .fold(String::with_capacity(ID_LENGTH), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }))
}

#[cfg(test)]
mod tests {
    use super::{ContainerId, PodId, is_prefix};

    #[test]
    fn only_whole_lower_case_hex_is_an_id() {
        for (text, good) in [
            ("a".repeat(64), true),
            ("0123456789abcdef".repeat(4), true),
            ("A".repeat(64), false),
            ("a".repeat(63), false),
            ("a".repeat(65), false),
            ("../../../../../../../../../../etc/passwd".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(PodId::parse(&text).is_ok(), good, "{text:?}");
        }
    }

    #[test]
    fn random_ids_are_ids_and_differ() {
        let (one, two) = (
            ContainerId::random().unwrap(),
            ContainerId::random().unwrap(),
        );
        assert_ne!(one, two);
        assert_eq!(ContainerId::parse(one.as_str()).unwrap(), one);
    }

    #[test]
    fn a_record_with_a_bad_id_does_not_parse() {
        assert!(serde_json::from_str::<PodId>(r#""../x""#).is_err());
    }

    #[test]
    fn prefixes() {
        assert!(is_prefix("0a"));
        assert!(!is_prefix(""));
        assert!(!is_prefix("xyz"));
    }
}
