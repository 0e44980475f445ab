//! Paths inside a container, as text. Resolving them in the container's root
//! is the launcher's work; here they are only made comparable.

use crate::isolator::Refusal;

/// Longest path that the kernel takes, with its NUL (`PATH_MAX`).
const MAX_LENGTH: usize = 4096;

/// The absolute form of a path: a leading slash, no empty part, no `.`; `..`
/// goes up and stops at the root.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// How many parts a clean path has; the root has none.
pub(crate) fn depth(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

/// Whether a clean path is another one or lies below it.
pub(crate) fn is_at_or_below(path: &str, parent: &str) -> bool {
    parent == "/"
        || path == parent
        || path
            .strip_prefix(parent)
            .is_some_and(|rest| rest.starts_with('/'))
}

/// Whether a clean path lies below another one.
pub(crate) fn is_below(path: &str, parent: &str) -> bool {
    path != parent && is_at_or_below(path, parent)
}

/// Refuses what no path may be: empty, with a NUL, longer than the kernel
/// takes.
pub(crate) fn validate(what: &str, path: &str) -> Result<(), Refusal> {
    let why = if path.is_empty() {
        "is empty"
    } else if path.contains('\0') {
        "holds a NUL byte"
    } else if path.len() >= MAX_LENGTH {
        "is longer than 4095 bytes"
    } else {
        return Ok(());
    };
    let shown: String = path.chars().take(256).collect();
    Err(Refusal::new(format!("{what} {shown:?} {why}")))
}

/// As [`validate`], and refuses a `..`, by which text and kernel could
/// disagree about where a path leads.
pub(crate) fn refuse_parent_parts(what: &str, path: &str) -> Result<(), Refusal> {
    validate(what, path)?;
    if path.split('/').any(|part| part == "..") {
        return Err(Refusal::new(format!(
            "{what} {path:?} holds a part `..`: write it without"
        )));
    }
    Ok(())
}
