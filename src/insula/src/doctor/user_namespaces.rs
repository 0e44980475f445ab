//! User namespaces, and file systems that can be shown with other ids.

use super::Row;
use insula_images::RootfsIds;
use insula_sys::{mount, user_namespace};
use std::os::fd::AsFd as _;
use std::path::Path;

/// First and number of the ids that are tried; any would do.
const TRIED: (u32, u32) = (65_536, 65_536);

const LOST: &str = "pods with hostUsers: false do not start";

pub(super) fn rows(root: &Path, state: &Path) -> [Row; 3] {
    let made = ids().map(|_| "made with 65536 ids".to_owned());
    let layers =
        try_root_file_system(root).map(|()| format!("layers in {} can be mapped", root.display()));
    [
        Row::tried("user namespaces", made, LOST),
        Row::tried("idmapped layers", layers, LOST),
        Row::tried(
            "idmapped mounts",
            try_mount(state).map(|()| format!("work on the file system of {}", state.display())),
            "volumes there cannot be given to pods with hostUsers: false",
        ),
    ]
}

/// Whether containers in user namespaces can have root file systems in the
/// image store at `root`. The error is for people.
pub(crate) fn try_root_file_system(root: &Path) -> Result<(), String> {
    insula_images::try_ids(existing(root), &ids()?).map_err(|error| error.to_string())
}

fn try_mount(path: &Path) -> Result<(), String> {
    let tree = mount::clone_tree(existing(path), false).map_err(|error| error.to_string())?;
    mount::map_ids(&tree, ids()?.namespace.as_fd(), false).map_err(|error| error.to_string())
}

fn ids() -> Result<RootfsIds, String> {
    let line = format!("0 {} {}\n", TRIED.0, TRIED.1);
    let namespace = user_namespace::make(&line, &line).map_err(|error| error.to_string())?;
    let range = TRIED.0..TRIED.0 + TRIED.1;
    Ok(RootfsIds {
        namespace,
        uids: range.clone(),
        gids: range,
    })
}

/// The daemon may not have made its directory yet.
fn existing(path: &Path) -> &Path {
    path.ancestors()
        .find(|path| path.is_dir())
        .unwrap_or(Path::new("/"))
}
