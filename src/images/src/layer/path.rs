//! Names of tar entries.

use std::fmt;

/// The name of an entry, relative to the layer's root, without `.`, `..` or empty parts.
///
/// Cleaned by its text alone, as all runtimes do: `a/../b` is `b` whatever `a` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryPath(Vec<u8>);

/// Why a name is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// `..` climbs above the root.
    #[error("it leaves the layer")]
    Leaves,
    /// It has a NUL byte.
    #[error("it has a NUL byte")]
    Nul,
    /// A part is longer than 255 bytes.
    #[error("a part of it is longer than 255 bytes")]
    LongName,
    /// It is longer than 4095 bytes.
    #[error("it is longer than 4095 bytes")]
    LongPath,
}

/// What the last part of a name asks for (OCI image-spec, layer.md, "Whiteouts").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role<'a> {
    /// An ordinary entry.
    Plain,
    /// `.wh.<name>`: hides `<name>` of the layers below.
    Whiteout(&'a [u8]),
    /// `.wh..wh..opq`: hides all that layers below have in its directory.
    Opaque,
    /// Another `.wh..wh.` name: AUFS's own, means nothing.
    AufsPrivate,
    /// `.wh.` with nothing to hide, or used as a directory.
    Malformed,
}

const WHITEOUT: &[u8] = b".wh.";
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

// === impl EntryPath ===

impl EntryPath {
    /// Cleans a raw name. Absolute names are taken as relative to the root.
    pub fn parse(raw: &[u8]) -> Result<Self, BadPath> {
        if raw.contains(&0) {
            return Err(BadPath::Nul);
        }
        let mut clean = Vec::with_capacity(raw.len());
        for part in raw.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    if clean.is_empty() {
                        return Err(BadPath::Leaves);
                    }
                    clean.truncate(clean.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                }
                _ if part.len() > 255 => return Err(BadPath::LongName),
                _ => {
                    if !clean.is_empty() {
                        clean.push(b'/');
                    }
                    clean.extend_from_slice(part);
                }
            }
        }
        if clean.len() > 4095 {
            return Err(BadPath::LongPath);
        }
        Ok(Self(clean))
    }

    /// Whether this is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The name's bytes; empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The parent's name and the last part. Both are empty for the root.
    pub fn split(&self) -> (&[u8], &[u8]) {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (&[], &self.0),
        }
    }

    pub(super) fn role(&self) -> Role<'_> {
        let (parent, name) = self.split();
        for part in parent.split(|byte| *byte == b'/') {
            if part.starts_with(AUFS) {
                return Role::AufsPrivate;
            }
            if part.starts_with(WHITEOUT) {
                return Role::Malformed;
            }
        }
        match name.strip_prefix(WHITEOUT) {
            None => Role::Plain,
            Some(_) if name == OPAQUE => Role::Opaque,
            Some(_) if name.starts_with(AUFS) => Role::AufsPrivate,
            Some(b"" | b"." | b"..") => Role::Malformed,
            Some(hidden) => Role::Whiteout(hidden),
        }
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.0).escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cleaning() {
        let cases: [(&[u8], Result<&str, BadPath>); 14] = [
            (b"a/b", Ok("a/b")),
            (b"./a//b/", Ok("a/b")),
            (b"/a", Ok("a")),
            (b"a/../b", Ok("b")),
            (b"a/b/../..", Ok("")),
            (b".", Ok("")),
            (b"./", Ok("")),
            (b"/", Ok("")),
            (b"", Ok("")),
            (b"..", Err(BadPath::Leaves)),
            (b"/..", Err(BadPath::Leaves)),
            (b"a/../../b", Err(BadPath::Leaves)),
            (b"../host-canary", Err(BadPath::Leaves)),
            (b"a\0b", Err(BadPath::Nul)),
        ];
        for (raw, expected) in cases {
            let got = EntryPath::parse(raw).map(|path| String::from_utf8(path.0).unwrap());
            assert_eq!(
                got,
                expected.map(str::to_owned),
                "{}",
                String::from_utf8_lossy(raw)
            );
        }
        assert_eq!(EntryPath::parse(&[b'a'; 256]), Err(BadPath::LongName));
        assert_eq!(
            EntryPath::parse(&b"aa/".repeat(1500)),
            Err(BadPath::LongPath)
        );
    }

    #[test]
    fn roles() {
        let cases: [(&[u8], Role<'_>); 9] = [
            (b"a/b", Role::Plain),
            (b"a/.wh.b", Role::Whiteout(b"b")),
            (b".wh.b", Role::Whiteout(b"b")),
            (b"a/.wh..wh..opq", Role::Opaque),
            (b".wh..wh.plnk/1.2", Role::AufsPrivate),
            (b".wh..wh.aufs", Role::AufsPrivate),
            (b"a/.wh.", Role::Malformed),
            (b"a/.wh...", Role::Malformed),
            (b".wh.x/y", Role::Malformed),
        ];
        for (raw, role) in cases {
            assert_eq!(EntryPath::parse(raw).unwrap().role(), role);
        }
    }

    proptest! {
        #[test]
        fn a_clean_name_stays_inside(raw in proptest::collection::vec(prop_oneof![Just(b'.'), Just(b'/'), Just(b'a'), any::<u8>()], 0..64)) {
            if let Ok(path) = EntryPath::parse(&raw) {
                let mut parts = path.as_bytes().split(|byte| *byte == b'/');
                prop_assert!(path.is_root() || parts.all(|part| !part.is_empty() && part != b"." && part != b".."));
                prop_assert_eq!(EntryPath::parse(path.as_bytes()), Ok(path));
            }
        }
    }
}
