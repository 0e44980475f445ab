//! Names of devices, and where a container asks for them.

use super::CdiError;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// What annotations that ask for devices begin with.
const ANNOTATION_PREFIX: &str = "cdi.k8s.io/";

/// Most devices of one container.
pub(super) const MAX_REQUESTED: usize = 512;

/// Longest kind, and longest name within one, in bytes.
const MAX_LENGTH: usize = 255;

/// The full name of a device, `vendor.com/class=name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceName {
    kind: String,
    name: String,
}

// === impl DeviceName ===

impl DeviceName {
    /// Vendor and class, `vendor.com/class`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The name within its kind.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for DeviceName {
    type Err = CdiError;

    fn from_str(text: &str) -> Result<Self, CdiError> {
        let invalid = |why| CdiError::InvalidName {
            name: text.chars().take(2 * MAX_LENGTH).collect(),
            why,
        };
        let (kind, name) = text.split_once('=').ok_or(invalid("holds no `=`"))?;
        check_kind(kind).map_err(invalid)?;
        check_name(name).map_err(invalid)?;
        Ok(Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.name)
    }
}

/// SPEC.md, "Kind": a vendor and a class, each beginning with a letter.
pub(super) fn check_kind(kind: &str) -> Result<(), &'static str> {
    if kind.len() > MAX_LENGTH {
        return Err("its kind is longer than 255 bytes");
    }
    let (vendor, class) = kind.split_once('/').ok_or("its kind holds no `/`")?;
    let letter = |text: &str| text.starts_with(|first: char| first.is_ascii_alphabetic());
    if !letter(vendor) || !is_word(vendor, "_-.") {
        return Err("its vendor is not made of letters, digits and `_-.`, between letters");
    }
    if !letter(class) || !is_word(class, "_-.") {
        return Err("its class is not made of letters, digits and `_-.`, between letters");
    }
    Ok(())
}

/// SPEC.md, "CDI Devices": the name of a device may begin with a digit.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.len() > MAX_LENGTH {
        return Err("its name is longer than 255 bytes");
    }
    if !is_word(name, "_-.:") {
        return Err(
            "its name is not made of letters, digits and `_-.:`, between letters or digits",
        );
    }
    Ok(())
}

/// Letters and digits, with some others between.
fn is_word(text: &str, between: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric();
    text.starts_with(plain)
        && text.ends_with(plain)
        && text
            .chars()
            .all(|letter| plain(letter) || between.contains(letter))
}

/// The devices that a container asks for: those that are listed (CRI
/// `ContainerConfig.CDI_devices`) and those in annotations `cdi.k8s.io/…`,
/// whose values are lists with commas. Each once, in the order of its first
/// mention.
///
/// # Errors
/// Refuses names that no device can have, and very many.
pub fn requested(
    listed: &[String],
    annotations: &BTreeMap<String, String>,
) -> Result<Vec<DeviceName>, CdiError> {
    let annotated = annotations
        .iter()
        .filter(|(key, _)| key.starts_with(ANNOTATION_PREFIX))
        .flat_map(|(_, value)| value.split(','));
    let mut names = Vec::new();
    for text in listed.iter().map(String::as_str).chain(annotated) {
        let name = text.parse()?;
        if !names.contains(&name) {
            names.push(name);
        }
        if names.len() > MAX_REQUESTED {
            return Err(CdiError::TooMany(names.len()));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::{DeviceName, requested};

    #[test]
    fn names_are_as_the_specification_has_them() {
        for (text, valid) in [
            ("vendor.com/gpu=0", true),
            ("vendor.com/gpu=GPU-1:2_3.4", true),
            ("v/c.d=all", true),
            ("", false),
            ("vendor.com/gpu", false),
            ("gpu=0", false),
            ("vendor.com/=0", false),
            ("/gpu=0", false),
            ("1vendor/gpu=0", false),
            ("vendor/1gpu=0", false),
            ("vendor/gpu=", false),
            ("vendor/gpu=-a", false),
            ("vendor/gpu=a=b", false),
            ("vendor/gpu=../a", false),
            ("vendor/g/pu=0", false),
            ("vendor /gpu=0", false),
        ] {
            let parsed = text.parse::<DeviceName>();
            assert_eq!(parsed.is_ok(), valid, "{text:?}: {parsed:?}");
            if let Ok(name) = parsed {
                assert_eq!(name.to_string(), text);
            }
        }
        assert!(
            format!("v/c={}", "a".repeat(600))
                .parse::<DeviceName>()
                .is_err()
        );
    }

    #[test]
    fn lists_and_annotations_count_together_and_each_device_once() {
        let listed = ["v/c=b".to_owned(), "v/c=a".to_owned()];
        let annotations = [
            ("cdi.k8s.io/plugin_1", "v/c=a,v/d=0"),
            ("cdi.k8s.io/plugin_2", "v/c=b"),
            ("example.org/cdi.k8s.io/", "not, looked = at"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        let names = requested(&listed, &annotations).unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["v/c=b", "v/c=a", "v/d=0"]);
        let bad = [("cdi.k8s.io/x".to_owned(), "v/c=a, v/c=b".to_owned())].into();
        assert!(
            requested(&[], &bad).is_err(),
            "a blank is no part of a name"
        );
        let many: Vec<String> = (0..600).map(|number| format!("v/c={number}")).collect();
        assert!(requested(&many, &std::collections::BTreeMap::new()).is_err());
    }
}
