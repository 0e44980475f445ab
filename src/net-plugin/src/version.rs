//! Versions of the CNI specification that this plugin speaks.

use crate::error::{Code, Failure};
use serde::Serialize;

/// A released version of the specification, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Results with interfaces, and chains of plugins.
    V0_3_0,
    /// As 0.3.0, with a corrected text.
    V0_3_1,
    /// CHECK, and `prevResult` on DEL.
    V0_4_0,
    /// Addresses without a family.
    V1_0_0,
    /// STATUS and GC.
    V1_1_0,
}

/// The answer to VERSION.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VersionAnswer {
    cni_version: &'static str,
    supported_versions: [&'static str; 5],
}

// === impl Version ===

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Self; 5] = [
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];

    /// As it is written in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The version of this name.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| {
                let spoken = Self::ALL.map(Self::as_str).join(", ");
                Failure::new(
                    Code::IncompatibleVersion,
                    format!("cniVersion {text:?} is not spoken by insula-net"),
                    format!("write one of {spoken}"),
                )
            })
    }
}

// === impl VersionAnswer ===

impl VersionAnswer {
    pub(crate) fn new() -> Self {
        Self {
            cni_version: Version::V1_1_0.as_str(),
            supported_versions: Version::ALL.map(Version::as_str),
        }
    }
}
