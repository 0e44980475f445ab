//! Content digests.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::error::{Error, Result};

/// A digest algorithm that images use (OCI image-spec, descriptor.md, "Registered Algorithms").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, what everybody uses.
    Sha256,
    /// SHA-512, allowed by the specification.
    Sha512,
}

/// A validated digest: `sha256:` and 64, or `sha512:` and 128, lowercase hexadecimal digits.
///
/// Nothing else becomes a digest, so one may be part of a path or a URL (CVE-2024-3727).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    text: Box<str>,
}

/// Computes a [`Digest`] piece by piece.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "the hash states have none")]
pub enum Hasher {
    /// SHA-256.
    Sha256(sha2::Sha256),
    /// SHA-512.
    Sha512(sha2::Sha512),
}

// === impl Algorithm ===

impl Algorithm {
    /// The name before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

// === impl Digest ===

impl Digest {
    /// The digest of some bytes.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The SHA-256 of some bytes.
    pub fn sha256(bytes: &[u8]) -> Self {
        Self::of(Algorithm::Sha256, bytes)
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// `sha256:<hex>`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The hexadecimal part.
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.name().len() + 1..]
    }

    /// A file name for this digest: the hexadecimal part for SHA-256, else `<algorithm>-<hex>`.
    pub fn file_stem(&self) -> String {
        match self.algorithm {
            Algorithm::Sha256 => self.hex().to_owned(),
            Algorithm::Sha512 => format!("sha512-{}", self.hex()),
        }
    }

    /// The digest whose [`Digest::file_stem`] this is.
    pub fn from_file_stem(stem: &str) -> Option<Self> {
        match stem.strip_prefix("sha512-") {
            Some(hex) => format!("sha512:{hex}").parse().ok(),
            None => format!("sha256:{stem}").parse().ok(),
        }
    }

    /// A short form for messages and progress lines: twelve hexadecimal digits.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }

    /// Checks `bytes` against this digest. `what` names them in the error.
    pub fn verify(&self, bytes: &[u8], what: &str) -> Result<()> {
        let actual = Self::of(self.algorithm, bytes);
        if actual == *self {
            return Ok(());
        }
        Err(Error::corrupt(
            what,
            format!("its digest is {actual}, expected {self}"),
        ))
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |reason: &str| {
            let shown: String = text.chars().take(160).collect();
            Error::corrupt(format!("digest {shown:?}"), reason)
        };
        let Some((name, hex)) = text.split_once(':') else {
            return Err(invalid(
                "no algorithm; expected sha256:<64 hexadecimal digits>",
            ));
        };
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(invalid("unknown algorithm; expected sha256 or sha512")),
        };
        if hex.len() != algorithm.hex_length() {
            return Err(invalid("wrong number of hexadecimal digits"));
        }
        if !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(invalid("not lowercase hexadecimal"));
        }
        Ok(Self {
            algorithm,
            text: text.into(),
        })
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.text.into()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

// === impl Hasher ===

impl Hasher {
    /// An empty state.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(sha2::Sha512::new()),
        }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(state) => state.update(bytes),
            Self::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of all bytes added.
    pub fn finish(self) -> Digest {
        let (algorithm, hex) = match self {
            Self::Sha256(state) => (Algorithm::Sha256, hex::encode(state.finalize())),
            Self::Sha512(state) => (Algorithm::Sha512, hex::encode(state.finalize())),
        };
        Digest {
            algorithm,
            text: format!("{}:{hex}", algorithm.name()).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn accepts_only_the_canonical_form() {
        assert_eq!(Digest::sha256(b"").as_str(), EMPTY);
        let sha512 = format!("sha512:{}", "a".repeat(128));
        let upper = EMPTY.to_uppercase().replace("SHA", "sha");
        let cases: [(&str, bool); 9] = [
            (EMPTY, true),
            (&sha512, true),
            (&upper, false),
            ("sha256:../../x", false),
            ("sha256:", false),
            (
                "sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                false,
            ),
            ("md5:d41d8cd98f00b204e9800998ecf8427e", false),
            (
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                false,
            ),
            (
                " sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                false,
            ),
        ];
        for (text, valid) in cases {
            assert_eq!(text.parse::<Digest>().is_ok(), valid, "{text}");
        }
    }

    #[test]
    fn file_stems_round_trip() {
        for digest in [Digest::sha256(b"x"), Digest::of(Algorithm::Sha512, b"x")] {
            assert_eq!(Digest::from_file_stem(&digest.file_stem()), Some(digest));
        }
        assert_eq!(Digest::from_file_stem("../x"), None);
    }

    #[test]
    fn verify_names_both_digests() {
        let error = Digest::sha256(b"a")
            .verify(b"b", "manifest")
            .unwrap_err()
            .to_string();
        assert!(error.contains(Digest::sha256(b"a").as_str()), "{error}");
        assert!(error.contains(Digest::sha256(b"b").as_str()), "{error}");
    }
}
