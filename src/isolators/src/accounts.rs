//! The image's `/etc/passwd` and `/etc/group`, passwd(5) and group(5).
//!
//! Both come from an image and are hostile: of any size, with any bytes. They
//! are read as bytes, line by line, nothing is copied but what is looked for,
//! and a line that is not well-formed does not exist.

/// The most that is read of either file, bytes (CVE-2026-47262). Whoever reads
/// them from an image stops there and refuses the image.
pub const MAX_FILE: usize = 10 << 20;

/// Largest user or group id: 2^31 - 1. The kernel's highest values mean
/// "nobody" and "no change", and others have wrapped around (CVE-2024-40635).
pub const MAX_ID: u32 = 0x7fff_ffff;

/// One line of `/etc/passwd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account<'a> {
    /// Login name.
    pub name: &'a [u8],
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Home directory as written; may be anything.
    pub home: &'a [u8],
}

/// One line of `/etc/group`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group<'a> {
    /// Name.
    pub name: &'a [u8],
    /// Group id.
    pub gid: u32,
    members: &'a [u8],
}

// === impl Group ===

impl Group<'_> {
    /// Whether a user is listed as a member.
    pub fn has_member(&self, name: &[u8]) -> bool {
        !name.is_empty()
            && self
                .members
                .split(|byte| *byte == b',')
                .any(|one| trim(one) == name)
    }
}

/// The well-formed lines of a passwd file.
pub fn accounts(passwd: &[u8]) -> impl Iterator<Item = Account<'_>> {
    lines(passwd).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?;
        let (uid, gid) = (fields.nth(1)?, fields.next()?);
        Some(Account {
            name,
            uid: id(uid)?,
            gid: id(gid)?,
            home: fields.nth(1).unwrap_or_default(),
        })
    })
}

/// The well-formed lines of a group file.
pub fn groups(group: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(group).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?;
        Some(Group {
            name,
            gid: id(fields.nth(1)?)?,
            members: fields.next().unwrap_or_default(),
        })
    })
}

/// Lines with a name, without comments, and without the `+` and `-` entries of
/// the Network Information Service.
fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n')
        .map(trim)
        .filter(|line| !matches!(line.first(), None | Some(b'#' | b'+' | b'-' | b':')))
}

fn trim(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

/// A decimal id in range: digits only, so no sign, no space, no prefix.
fn id(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits)
        .ok()?
        .parse()
        .ok()
        .filter(|id| *id <= MAX_ID)
}
