//! Image references as people and kubelet write them.
//!
//! The grammar is the one of the distribution project (reference.md there), with Docker's
//! short-hands: `redis` is `docker.io/library/redis:latest`.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;
use crate::error::{Error, Result};

/// The registry of names that name none.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag of references that have neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";
/// Upper bound of `domain/repository`, in bytes.
const MAX_NAME: usize = 255;
/// Upper bound of a tag, in bytes.
const MAX_TAG: usize = 128;
/// Upper bound of the whole text, in bytes.
const MAX_REFERENCE: usize = MAX_NAME + MAX_TAG + 256;

/// A parsed, normalised image reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

// === impl Reference ===

impl Reference {
    /// The registry's name, with a port where one was written: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The path below the registry: `library/redis`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was given or neither tag nor digest was (`latest`).
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `domain/repository`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.repository)
    }

    /// The name under which the CRI lists a tag: `docker.io/library/redis:latest`.
    ///
    /// None for a reference with a digest: what was asked for by digest gets no tag.
    pub fn repo_tag(&self) -> Option<String> {
        match (&self.digest, &self.tag) {
            (None, Some(tag)) => Some(format!("{}/{}:{tag}", self.domain, self.repository)),
            _ => None,
        }
    }

    /// The name under which the CRI lists a digest: `docker.io/library/redis@sha256:…`.
    pub fn repo_digest(&self, digest: &Digest) -> String {
        format!("{}/{}@{digest}", self.domain, self.repository)
    }

    /// What a registry is asked for: the digest, else the tag.
    pub(crate) fn object(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => DEFAULT_TAG,
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).map_err(|reason| Error::InvalidReference {
            reference: text.chars().take(300).collect(),
            reason: reason.to_owned(),
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > MAX_REFERENCE {
        return Err("it is too long");
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            let digest = digest.parse().map_err(
                |_| "the part after @ is not sha256: and 64 lowercase hexadecimal digits",
            )?;
            (rest, Some(digest))
        }
        None => (text, None),
    };
    // A colon after the last slash begins a tag; one before it belongs to a port.
    let colon = rest.rfind(':').filter(|at| !rest[*at..].contains('/'));
    let (name, tag) = match colon {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let (domain, repository) = split_domain(name)?;
    check_repository(&repository)?;
    if domain.len() + 1 + repository.len() > MAX_NAME {
        return Err("the name is longer than 255 bytes");
    }
    let tag = match (tag, &digest) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, None) => Some(DEFAULT_TAG.to_owned()),
        (None, Some(_)) => None,
    };
    Ok(Reference {
        domain,
        repository,
        tag,
        digest,
    })
}

fn split_domain(name: &str) -> Result<(String, String), &'static str> {
    if name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err("64 hexadecimal digits are an image id, not a name");
    }
    let (domain, repository) = match name.split_once('/') {
        // As Docker decides: a first part with a dot, a colon, capitals or `localhost` is a host.
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            check_domain(first)?;
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == "index.docker.io" {
        DEFAULT_DOMAIN
    } else {
        domain
    };
    let repository = if domain == DEFAULT_DOMAIN && !repository.contains('/') {
        format!("library/{repository}")
    } else {
        repository.to_owned()
    };
    Ok((domain.to_owned(), repository))
}

fn check_domain(domain: &str) -> Result<(), &'static str> {
    const BAD: &str = "the registry's name is not a host name or address with an optional port";
    let (host, port) = if let Some(rest) = domain.strip_prefix('[') {
        let (address, after) = rest.split_once(']').ok_or(BAD)?;
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(BAD);
        }
        (
            None,
            if after.is_empty() {
                None
            } else {
                Some(after.strip_prefix(':').ok_or(BAD)?)
            },
        )
    } else {
        match domain.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(domain), None),
        }
    };
    if let Some(port) = port
        && (port.is_empty()
            || !port.bytes().all(|b| b.is_ascii_digit())
            || port.parse::<u16>().is_err())
    {
        return Err(BAD);
    }
    let Some(host) = host else { return Ok(()) };
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.split('.').all(label) {
        Ok(())
    } else {
        Err(BAD)
    }
}

fn check_repository(repository: &str) -> Result<(), &'static str> {
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("the repository's name must be lowercase");
    }
    if repository.split('/').all(is_path_component) {
        return Ok(());
    }
    Err("the repository's name may hold only a-z, 0-9 and single separators . _ __ - between them")
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alphanumeric(first) || !alphanumeric(last) {
        return false;
    }
    bytes.split(|b| alphanumeric(*b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

/// `[\w][\w.-]{0,127}`
fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = tag.as_bytes();
    if bytes.len() > MAX_TAG {
        return Err("the tag is longer than 128 bytes");
    }
    match bytes.first() {
        Some(first) if word(*first) => {}
        _ => return Err("the tag must begin with a letter, digit or underscore"),
    }
    if bytes.iter().all(|b| word(*b) || matches!(b, b'.' | b'-')) {
        Ok(())
    } else {
        Err("the tag may hold only letters, digits, _ . and -")
    }
}

#[cfg(test)]
mod tests;
