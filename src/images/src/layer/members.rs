//! A tar archive that is not unpacked but looked into.

use std::io::Read;

use super::path::EntryPath;
use super::read::Kind;
use super::untar::{TarStream, each};
use crate::error::Result;

/// One file of an archive, or another name of one.
#[derive(Debug)]
pub(crate) struct Member {
    /// Its name.
    pub(crate) path: EntryPath,
    /// What it is.
    pub(crate) kind: MemberKind,
}

/// What a [`Member`] is.
#[derive(Debug)]
pub(crate) enum MemberKind {
    /// A file, whose bytes lie in the archive.
    File {
        /// Where they begin.
        offset: u64,
        /// How many there are.
        size: u64,
    },
    /// A link to another member.
    Link(EntryPath),
}

/// Reads an archive to its end and gives each file and link in it to `visit`. Directories,
/// devices, sparse files and links that lead out of the archive are passed over. `what` names the
/// archive.
pub(crate) fn each_member(
    reader: &mut dyn Read,
    what: &str,
    mut visit: impl FnMut(Member) -> Result<()>,
) -> Result<()> {
    each(&mut TarStream::new(reader), what, |entry, content| {
        let kind = match &entry.kind {
            Kind::File { size, sparse: None } => MemberKind::File {
                offset: content.position(),
                size: *size,
            },
            Kind::HardLink(target) => MemberKind::Link(target.clone()),
            Kind::Symlink(target) => match beside(&entry.path, target) {
                Some(target) => MemberKind::Link(target),
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        visit(Member {
            path: entry.path.clone(),
            kind,
        })
    })
}

/// What a symbolic link's target means, seen from the link.
fn beside(link: &EntryPath, target: &[u8]) -> Option<EntryPath> {
    let (parent, _) = link.split();
    EntryPath::parse(&[parent, b"/", target].concat()).ok()
}
