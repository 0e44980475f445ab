//! From a blob's bytes to a verified tree on disk.
//!
//! ```text
//! pieces from the network → sha256 (blob) → inflate → sha256 (diff id) → tar entries → directory
//! ```
//!
//! One blocking thread does all of it for one layer: inflating is the bottleneck, and layers are
//! what is parallel. Nothing of it trusts the bytes before both digests are right, and the tree is
//! not part of the store before the caller renames it there.

pub(crate) mod attributes;
mod extract;
mod members;
mod path;
mod read;
pub(crate) mod remove;
mod stream;
mod untar;

pub(crate) use self::extract::{Accounting, OPAQUE, RootAttributes};
pub(crate) use self::members::{Member, MemberKind, each_member};
pub use self::path::EntryPath;
pub(crate) use self::stream::{PieceReader, unpack_layer};
pub(crate) use self::untar::parse_only as parse_tar;
