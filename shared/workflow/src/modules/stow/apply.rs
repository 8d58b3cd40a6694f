//! Does what was planned.

use std::{
    os::unix::fs::{lchown, symlink},
    path::Path,
};

use sloth_core::fs::Access;

use super::{
    super::files::{self, Depth},
    tree::{Step, beneath},
};
use crate::beneath::{entry, inode};

/// Whom new links and directories belong to: a user and a group by their numbers.
pub(super) type Ids = (u32, u32);

/// Does `steps` in `target`; a file that is adopted moves into `package`, the directory of the package.
pub(super) fn apply(target: &Path, package: Option<&Path>, steps: &[Step], owner: Option<Ids>) -> Result<(), String> {
    make_directories(target, owner)?;
    for step in steps {
        match step {
            Step::Adopt(path) => {
                let package = package.ok_or("no package is named that takes the files")?;
                files::rename(&beneath(target, path), &beneath(package, path))?;
            }
            Step::Unlink(path) | Step::RemoveDirectory(path) => files::remove(&beneath(target, path), Depth::One)?,
            Step::MakeDirectory(path) => {
                let path = beneath(target, path);
                std::fs::create_dir(entry(&path)).map_err(files::said("make the directory", &path))?;
                give(&path, owner)?;
            }
            Step::Link { at, to, replaces } => link(&beneath(target, at), to, *replaces, owner)?,
        }
    }
    Ok(())
}

/// Makes a directory and those above it that are missing.
pub(super) fn make_directories(path: &Path, owner: Option<Ids>) -> Result<(), String> {
    let is_missing = |path: &&Path| inode(path).metadata().is_err();
    let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    sloth_core::fs::create_dir(&entry(path), Access::Everyone).map_err(files::told)?;
    missing.into_iter().try_for_each(|made| give(made, owner))
}

/// A link that takes the place of another is made beside it, so that there is always one.
fn link(path: &Path, to: &Path, replaces: bool, owner: Option<Ids>) -> Result<(), String> {
    let way = entry(path);
    if replaces {
        let temporary = sloth_core::fs::temporary_name(way.parent().unwrap_or(Path::new("/")));
        symlink(to, &temporary).map_err(files::said("make the link", path))?;
        let renamed = sloth_core::fs::rename(&temporary, &way);
        if renamed.is_err() {
            // The first error is the one worth telling.
            let _ = std::fs::remove_file(&temporary);
        }
        renamed.map_err(files::told)?;
    } else {
        symlink(to, &way).map_err(files::said("make the link", path))?;
    }
    give(path, owner)
}

fn give(path: &Path, owner: Option<Ids>) -> Result<(), String> {
    let Some((uid, gid)) = owner else { return Ok(()) };
    lchown(entry(path), Some(uid), Some(gid)).map_err(files::said("change the owner of", path))
}
