//! CRI messages to the runtime's own types and back.
//!
//! Towards the runtime everything is parsed: what comes out of here holds no
//! NUL where the kernel takes a string, no number outside its range, no
//! combination that the interface forbids. What is wrong is answered with the
//! field's name as the interface spells it, so that a person finds it in their
//! own file. Each file holds one kind of message, both ways.

pub mod container;
pub mod image;
pub mod metrics;
pub mod mounts;
pub mod pod;
pub mod resources;
pub mod security;
pub mod signal;
pub mod stats;
pub mod status;
pub mod user_namespace;

use insula_wire::OsText;

/// Longest name of a pod, a namespace, a container or an id, in bytes. That of
/// a DNS subdomain (RFC 1123), which is what Kubernetes allows at most.
pub const NAME_MAX: usize = 253;

/// Longest path the kernel takes, in bytes, without its NUL (`PATH_MAX`).
pub const PATH_MAX: usize = 4095;

/// Why a message cannot become one of our types.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The client has to change the request.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field as the interface names it, such as `config.mounts[2].host_path`.
        field: String,
        /// What is wrong with it and what is expected.
        problem: String,
    },
    /// The request is sound, but this build does not do it.
    #[error("{field}: {problem}")]
    Unsupported {
        /// As above.
        field: String,
        /// What is missing.
        problem: String,
    },
}

// === impl Rejected ===

impl Rejected {
    /// `field` has to be changed by the client.
    pub fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// `field` asks for something that this build lacks.
    pub fn unsupported(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Unsupported {
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// Puts the name of the surrounding message in front of the field's.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        let (Self::Invalid { field, .. } | Self::Unsupported { field, .. }) = &mut self;
        *field = format!("{outer}.{field}");
        self
    }
}

/// A message that must be there.
pub fn required<T>(value: Option<T>, field: &str) -> Result<T, Rejected> {
    value.ok_or_else(|| Rejected::invalid(field, "is missing"))
}

/// Text of at most `longest` bytes without NUL; may be empty.
pub fn text(value: String, field: &str, longest: usize) -> Result<String, Rejected> {
    if value.contains('\0') {
        return Err(Rejected::invalid(field, "holds a NUL byte"));
    }
    if value.len() > longest {
        return Err(Rejected::invalid(
            field,
            format!(
                "is {} bytes long, at most {longest} are allowed",
                value.len()
            ),
        ));
    }
    Ok(value)
}

/// A name: text that is not empty and no path.
pub fn name(value: String, field: &str) -> Result<String, Rejected> {
    let value = text(value, field, NAME_MAX)?;
    if value.is_empty() {
        return Err(Rejected::invalid(field, "is empty"));
    }
    if value.contains('/') || value == "." || value == ".." {
        return Err(Rejected::invalid(
            field,
            format!("{value:?} is a path, not a name"),
        ));
    }
    Ok(value)
}

/// The id of a pod or container as a client gives it: whole, or as many of its
/// first digits as make it unique.
pub fn id(value: String, field: &str) -> Result<String, Rejected> {
    name(value, field)
}

/// An absolute path without `..`.
pub fn absolute_path(value: String, field: &str) -> Result<String, Rejected> {
    let value = text(value, field, PATH_MAX)?;
    if value.is_empty() {
        return Err(Rejected::invalid(field, "is empty"));
    }
    if !value.starts_with('/') {
        return Err(Rejected::invalid(
            field,
            format!("{value:?} is relative, an absolute path is expected"),
        ));
    }
    without_parent(value, field)
}

/// A path with no `..` in it; may be empty or relative.
pub fn without_parent(value: String, field: &str) -> Result<String, Rejected> {
    let value = text(value, field, PATH_MAX)?;
    if value.split('/').any(|part| part == "..") {
        return Err(Rejected::invalid(
            field,
            format!("{value:?} holds `..`, write the path that is meant"),
        ));
    }
    Ok(value)
}

/// An argument of a program.
pub fn argument(value: String, field: &str) -> Result<OsText, Rejected> {
    OsText::new(value).map_err(|_| Rejected::invalid(field, "holds a NUL byte"))
}

/// Arguments of a program; the index of a bad one is part of the field.
pub fn arguments(values: Vec<String>, field: &str) -> Result<Vec<OsText>, Rejected> {
    values
        .into_iter()
        .enumerate()
        .map(|(index, value)| argument(value, &format!("{field}[{index}]")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Rejected, absolute_path, name, required, text};

    #[test]
    fn the_field_is_named_from_the_outside_in() {
        let rejected = Rejected::invalid("host_path", "is empty")
            .within("mounts[2]")
            .within("config");
        assert_eq!(rejected.to_string(), "config.mounts[2].host_path: is empty");
    }

    #[test]
    fn bad_text_says_what_is_expected() {
        let cases: &[(Result<String, Rejected>, &str)] = &[
            (text("a\0b".into(), "f", 9), "f: holds a NUL byte"),
            (
                text("x".repeat(10), "f", 9),
                "f: is 10 bytes long, at most 9 are allowed",
            ),
            (name(String::new(), "f"), "f: is empty"),
            (
                name("../x".into(), "f"),
                "f: \"../x\" is a path, not a name",
            ),
            (name("..".into(), "f"), "f: \"..\" is a path, not a name"),
            (
                absolute_path("etc".into(), "f"),
                "f: \"etc\" is relative, an absolute path is expected",
            ),
            (
                absolute_path("/a/../b".into(), "f"),
                "f: \"/a/../b\" holds `..`, write the path that is meant",
            ),
            (required(None, "f"), "f: is missing"),
        ];
        for (got, want) in cases {
            assert_eq!(got.as_ref().unwrap_err().to_string(), *want);
        }
    }
}
