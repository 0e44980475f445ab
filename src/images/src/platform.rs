//! Which of an index's manifests runs on a host.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// An operating system and a processor, in Go's names as OCI documents use them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

// === impl Platform ===

impl Platform {
    /// Linux on the processor this program was built for.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            other => (other, None),
        };
        Self {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
        }
    }

    /// A platform by its parts, normalised (`x86_64` is `amd64`, `aarch64` is `arm64`).
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let variant = variant.filter(|v| !v.is_empty()).map(str::to_lowercase);
        let architecture = architecture.to_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64" | "amd64", v) => ("amd64", v.filter(|v| *v != "v1")),
            ("aarch64" | "arm64", v) => ("arm64", Some(v.unwrap_or("v8"))),
            ("armhf", _) | ("arm", None) => ("arm", Some("v7")),
            ("armel", _) => ("arm", Some("v6")),
            ("i386", v) => ("386", v),
            (other, v) => (other, v),
        };
        // `arm/7` is a spelling of `arm/v7`.
        let variant = variant.map(|v| {
            if v.starts_with('v') {
                v.into()
            } else {
                format!("v{v}")
            }
        });
        Self {
            os: os.to_lowercase(),
            architecture: architecture.to_owned(),
            variant,
        }
    }

    /// The operating system: `linux`.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// The processor: `amd64`.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The processor's variant, such as `v7`.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// How well an image made for `offered` runs here: None when it does not, else a rank, lower
    /// being better. 32-bit arm runs lower variants (v7 takes v6); everything else must be equal.
    pub fn rank(&self, offered: &Self) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        let level = |platform: &Self| {
            let variant = platform.variant.as_deref()?.strip_prefix('v')?;
            variant.split('.').next()?.parse::<u32>().ok()
        };
        match (level(self), level(offered)) {
            (Some(here), Some(there)) => here.checked_sub(there),
            (None, None) if self.variant == offered.variant => Some(0),
            // No variant runs on all of them, but those for a variant come first.
            (Some(here), None) => Some(here),
            (None, _) => None,
        }
    }
}

impl FromStr for Platform {
    type Err = Error;

    /// Reads `os/architecture[/variant]`.
    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(Error::Unsupported(format!(
                "platform {text:?} is not os/architecture[/variant], such as linux/amd64"
            ))),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks() {
        let cases = [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64", "linux/x86_64", Some(0)),
            ("linux/amd64", "linux/amd64/v1", Some(0)),
            ("linux/amd64", "linux/amd64/v3", None),
            ("linux/amd64", "windows/amd64", None),
            ("linux/amd64", "unknown/unknown", None),
            ("linux/amd64", "linux/arm64", None),
            ("linux/arm64", "linux/arm64/v8", Some(0)),
            ("linux/arm/v7", "linux/arm/v7", Some(0)),
            ("linux/arm/v7", "linux/arm/v6", Some(1)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/arm/7", "linux/arm", Some(0)),
            ("linux/arm64", "linux/arm/v7", None),
        ];
        for (host, offered, rank) in cases {
            let (host, offered): (Platform, Platform) =
                (host.parse().unwrap(), offered.parse().unwrap());
            assert_eq!(host.rank(&offered), rank, "{host} {offered}");
        }
    }
}
