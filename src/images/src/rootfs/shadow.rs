//! Directories that a layer has files in but no entry for, such as `tmp/x` without `tmp/`.
//!
//! Unpacked, they hide what a layer below says about them: overlayfs shows the attributes of the
//! topmost directory. So such a directory is made once more in the container's upper directory,
//! with the attributes of the topmost entry for it. Layers are shared by images with different
//! layers below, so this cannot be settled when a layer is unpacked.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, Timespec, Timestamps};
use rustix::io::{Errno, Result};

use crate::layer::remove::DIRECTORY;
use crate::layer::{Accounting, OPAQUE, attributes};
use crate::store::ImageId;

/// Directories of one image that are looked for in its layers.
const MAX_PATHS: usize = 8192;
/// Images whose shadows are remembered.
const MAX_REMEMBERED: usize = 256;

/// A directory to be made in the upper one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shadow {
    /// Relative to the root; those above it come before it.
    path: String,
    /// Which layer has its attributes, counted from the top.
    layer: usize,
}

/// The shadows of images; an image's layers never change.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<HashMap<ImageId, Arc<Vec<Shadow>>>>);

/// What a layer has at a path.
enum Found {
    /// A directory. `last` if nothing below it is seen.
    Directory { last: bool },
    /// Nothing. `last` if a directory above it hides the layers below.
    Nothing { last: bool },
    /// Something else, also in place of a directory above: nothing below is seen.
    Other,
}

// === impl Cache ===

impl Cache {
    pub(super) fn get(&self, image: &ImageId) -> Option<Arc<Vec<Shadow>>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(image).cloned()
    }

    pub(super) fn keep(&self, image: ImageId, shadows: Vec<Shadow>) -> Arc<Vec<Shadow>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        let shadows = Arc::new(shadows);
        known.insert(image, Arc::clone(&shadows));
        shadows
    }
}

/// Finds them: `lower` are the layers' trees, `layers` what is known about them; the top one first.
pub(super) fn find(lower: &[OwnedFd], layers: &[Arc<Accounting>]) -> Result<Vec<Shadow>> {
    let layers: Vec<HashSet<&str>> = layers
        .iter()
        .map(|layer| layer.implicit.iter().map(String::as_str).collect())
        .collect();
    let paths: BTreeSet<&str> = layers.iter().flatten().copied().collect();
    let mut found = BTreeMap::new();
    for path in paths.into_iter().take(MAX_PATHS) {
        let (first, decides) = topmost(lower, &layers, path)?;
        if first == decides {
            continue;
        }
        // What is made above it in the upper directory hides attributes, too.
        for (end, _) in path.match_indices('/') {
            let above = &path[..end];
            if found.contains_key(above) {
                continue;
            }
            let (_, decides) = topmost(lower, &layers, above)?;
            if let Some(layer) = decides {
                found.insert(above, layer);
            }
        }
        if let Some(layer) = decides {
            found.insert(path, layer);
        }
    }
    let shadows = found.into_iter();
    Ok(shadows
        .map(|(path, layer)| Shadow {
            path: path.to_owned(),
            layer,
        })
        .collect())
}

/// The layer whose directory overlayfs would show, and the one whose attributes it should have:
/// the topmost with an entry for it, or else the first.
fn topmost(
    lower: &[OwnedFd],
    implicit: &[HashSet<&str>],
    path: &str,
) -> Result<(Option<usize>, Option<usize>)> {
    let mut first = None;
    for (at, (tree, implicit)) in lower.iter().zip(implicit).enumerate() {
        let last = match look(tree, path)? {
            Found::Directory { last } => {
                first = first.or(Some(at));
                if !implicit.contains(path) {
                    return Ok((first, Some(at)));
                }
                last
            }
            Found::Nothing { last } => last,
            Found::Other => true,
        };
        if last {
            break;
        }
    }
    Ok((first, first))
}

fn look(tree: &OwnedFd, path: &str) -> Result<Found> {
    let mut last = false;
    let mut at = rustix::fs::openat(tree, ".", DIRECTORY, Mode::empty())?;
    for part in path.split('/') {
        at = match rustix::fs::openat(&at, part, DIRECTORY, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT) => return Ok(Found::Nothing { last }),
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Found::Other),
            Err(error) => return Err(error),
        };
        last = last || is_opaque(&at)?;
    }
    Ok(Found::Directory { last })
}

fn is_opaque(directory: &OwnedFd) -> Result<bool> {
    let mut value = [0; 1];
    match rustix::fs::fgetxattr(directory, OPAQUE, &mut value) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes them in the upper directory.
pub(super) fn make(upper: &OwnedFd, lower: &[OwnedFd], shadows: &[Shadow]) -> Result<()> {
    let mut times = Vec::new();
    for Shadow { path, layer } in shadows {
        let Some(tree) = lower.get(*layer) else {
            continue;
        };
        let from = descend(tree, path)?;
        let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
        let above = descend(upper, above)?;
        rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o700))?;
        let made = rustix::fs::openat(&above, name, DIRECTORY, Mode::empty())?;
        attributes::copy(&from, &made)?;
        times.push((made, modified(&from)?));
    }
    // Each has changed the one above it.
    for (directory, times) in &times {
        rustix::fs::futimens(directory, times)?;
    }
    Ok(())
}

/// Part by part: no link is followed.
fn descend(root: impl AsFd, path: &str) -> Result<OwnedFd> {
    let mut at = rustix::fs::openat(root, ".", DIRECTORY, Mode::empty())?;
    for part in path.split('/').filter(|part| *part != ".") {
        at = rustix::fs::openat(&at, part, DIRECTORY, Mode::empty())?;
    }
    Ok(at)
}

fn modified(directory: &OwnedFd) -> Result<Timestamps> {
    let stat = rustix::fs::fstat(directory)?;
    let time = Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
    };
    Ok(Timestamps {
        last_access: time,
        last_modification: time,
    })
}
