//! The answer to VERSION, and versions that are refused.

use crate::error::{Code, Failure};
use insula_cni::CniVersion;
use serde::Serialize;

/// The answer to VERSION.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VersionAnswer {
    cni_version: &'static str,
    supported_versions: [&'static str; 5],
}

/// The version of this name.
pub(crate) fn parse(text: &str) -> Result<CniVersion, Failure> {
    CniVersion::parse(text).ok_or_else(|| {
        let spoken = CniVersion::ALL.map(CniVersion::as_str).join(", ");
        Failure::new(
            Code::IncompatibleVersion,
            format!("cniVersion {text:?} is not spoken by insula-net"),
            format!("write one of {spoken}"),
        )
    })
}

// === impl VersionAnswer ===

impl VersionAnswer {
    pub(crate) fn new() -> Self {
        Self {
            cni_version: CniVersion::V1_1_0.as_str(),
            supported_versions: CniVersion::ALL.map(CniVersion::as_str),
        }
    }
}
