//! Bytes that are nearly always text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An argument or an environment value: bytes without NUL, usually UTF-8.
///
/// The CRI carries environment values as bytes (KEP-4369, `KeyValue.value`),
/// so `String` will not do. In JSON it is a plain string where it can be, and
/// `{"base64": "…"}` otherwise, so that plans stay readable.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct OsText(Vec<u8>);

/// The bytes hold a NUL, which `execve(2)` cannot pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("text holds a NUL byte, which cannot be passed to a process")]
pub struct NulError;

// === impl OsText ===

impl OsText {
    /// Takes bytes that hold no NUL.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, NulError> {
        let bytes = bytes.into();
        if bytes.contains(&0) {
            return Err(NulError);
        }
        Ok(Self(bytes))
    }

    /// The bytes, without a terminating NUL.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text with bytes that are not UTF-8 replaced, for people.
    pub fn to_string_lossy(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl std::fmt::Debug for OsText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.to_string_lossy(), f)
    }
}

impl TryFrom<&str> for OsText {
    type Error = NulError;

    fn try_from(text: &str) -> Result<Self, NulError> {
        Self::new(text.as_bytes())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Repr {
    Text(String),
    Bytes { base64: String },
}

impl Serialize for OsText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Repr::Bytes {
                base64: STANDARD.encode(&self.0),
            }
            .serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for OsText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = match Repr::deserialize(deserializer)? {
            Repr::Text(text) => text.into_bytes(),
            Repr::Bytes { base64 } => STANDARD.decode(base64).map_err(de::Error::custom)?,
        };
        Self::new(bytes).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::OsText;

    #[test]
    fn text_and_bytes_survive_json() {
        for bytes in [
            &b"plain"[..],
            b"",
            b"caf\xc3\xa9",
            b"\xff\xfe raw",
            b"line\nbreak",
        ] {
            let text = OsText::new(bytes).unwrap();
            let json = serde_json::to_string(&text).unwrap();
            assert_eq!(
                serde_json::from_str::<OsText>(&json).unwrap(),
                text,
                "{json}"
            );
        }
    }

    #[test]
    fn nul_is_refused_from_bytes_and_from_json() {
        assert!(OsText::new(&b"a\0b"[..]).is_err());
        assert!(serde_json::from_str::<OsText>(r#""a\u0000b""#).is_err());
        assert!(serde_json::from_str::<OsText>(r#"{"base64":"AA=="}"#).is_err());
    }
}
