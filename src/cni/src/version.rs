//! The versions of the CNI specification that are spoken here.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A released version of the CNI specification, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum CniVersion {
    /// Results with interfaces, and chains of plugins.
    V0_3_0,
    /// As 0.3.0, with a corrected text.
    V0_3_1,
    /// CHECK, and `prevResult` on DEL.
    V0_4_0,
    /// Lists only; addresses without a family.
    V1_0_0,
    /// STATUS and GC.
    V1_1_0,
}

impl CniVersion {
    /// All of them, oldest first.
    pub const ALL: [Self; 5] = [
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];

    /// Parses `"1.0.0"` and its like; `None` for a version that is not spoken.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
    }

    /// The version as it is written in configurations and results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// What to tell a user about a version that is not in [`Self::ALL`].
    pub fn unsupported(text: &str) -> String {
        let known = Self::ALL.map(Self::as_str).join(", ");
        format!("cniVersion {text:?} is not supported; use one of {known}")
    }

    /// CHECK exists, and DEL gets the cached result (0.4.0).
    pub fn has_check(self) -> bool {
        self >= Self::V0_4_0
    }

    /// STATUS and GC exist (1.1.0).
    pub fn has_status_and_gc(self) -> bool {
        self >= Self::V1_1_0
    }

    /// Each entry of `ips` names its address family (before 1.0.0).
    pub fn names_address_family(self) -> bool {
        self < Self::V1_0_0
    }
}

impl fmt::Display for CniVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl From<CniVersion> for String {
    fn from(version: CniVersion) -> Self {
        version.as_str().to_owned()
    }
}

impl TryFrom<String> for CniVersion {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| Self::unsupported(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::CniVersion;

    #[test]
    fn versions_parse_print_and_order() {
        for version in CniVersion::ALL {
            assert_eq!(CniVersion::parse(version.as_str()), Some(version));
        }
        assert!(CniVersion::ALL.is_sorted());
        for bad in ["", "0.2.0", "1.0", "1.2.0", "v1.0.0", "1.0.0 "] {
            assert_eq!(CniVersion::parse(bad), None, "{bad:?}");
        }
    }
}
