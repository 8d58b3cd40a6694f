//! What scripts do to files, each with a sentence when it does not work.

use std::{
    fs::{File, Metadata, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

use sloth_core::{
    error::Chain,
    fs::{Access, FsError, create_temporary, read_capped},
};

/// Most bytes of a file that a script reads into a text.
pub(super) const READ_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Most names that a listing gives.
const LIST_NAMES_MAX: usize = 100_000;

/// How much of a directory is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// A file or an empty directory.
    One,
    /// Whatever is there; nothing there is fine too.
    All,
}

/// For `map_err`: says what was tried on what.
pub(super) fn said(action: &str, path: &Path) -> impl FnOnce(io::Error) -> String {
    let tried = format!("cannot {action} `{}`", path.display());
    move |error| format!("{tried}: {error}")
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    read_capped(path, READ_BYTES_MAX).map_err(|error| Chain(&error).to_string())
}

/// Puts `bytes` at `path` at once. A file that is there keeps its mode and its owner, and a link its place; what
/// is no plain file, such as a device or a file of the kernel, is written into.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match target.metadata() {
        Ok(found) if found.is_file() && !is_kernel(&target) => {
            replace_like(&target, bytes, &found).map_err(|error| Chain(&error).to_string())
        }
        Ok(_) => {
            let file = OpenOptions::new().write(true).open(&target);
            file.and_then(|mut file| file.write_all(bytes)).map_err(said("write", &target))
        }
        Err(_) => sloth_core::fs::replace(&target, bytes, Access::Everyone).map_err(|error| Chain(&error).to_string()),
    }
}

/// Copies a plain file with its mode.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let to =
        if to.is_dir() { from.file_name().map_or_else(|| to.to_owned(), |name| to.join(name)) } else { to.to_owned() };
    let same = |a: &Metadata, b: &Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    if let (Ok(a), Ok(b)) = (from.metadata(), to.metadata())
        && same(&a, &b)
    {
        return Err(format!("cannot copy `{}` onto itself", from.display()));
    }
    std::fs::copy(from, &to).map(drop).map_err(said(&format!("copy `{}` to", from.display()), &to))
}

pub(super) fn remove(path: &Path, depth: Depth) -> Result<(), String> {
    let found = match path.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound && depth == Depth::All => return Ok(()),
        Err(error) => return Err(said("remove", path)(error)),
    };
    let removed = match (found.is_dir(), depth) {
        (false, _) => std::fs::remove_file(path),
        (true, Depth::One) => std::fs::remove_dir(path),
        (true, Depth::All) if path.parent().is_none() => Err(io::Error::other("this is the root of the file system")),
        (true, Depth::All) => std::fs::remove_dir_all(path),
    };
    removed.map_err(said("remove", path))
}

/// The names in a directory, in order.
pub(super) fn list(path: &Path) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(path).map_err(said("list", path))?;
    let mut names = Vec::new();
    for entry in entries {
        if names.len() == LIST_NAMES_MAX {
            return Err(format!("`{}` has more than the {LIST_NAMES_MAX} names that a list may have", path.display()));
        }
        names.push(entry.map_err(said("list", path))?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// The file `relative` beneath `root`, with every link followed.
pub(super) fn beneath(root: &Path, relative: &Path) -> Result<PathBuf, String> {
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let outside = || format!("`{}` lies outside the bundle", relative.display());
    if !plain {
        return Err(outside());
    }
    let root = root.canonicalize().map_err(said("find", root))?;
    let missing = |_| format!("there is no file `{}` in the bundle", relative.display());
    let path = root.join(relative).canonicalize().map_err(missing)?;
    if path.starts_with(&root) { Ok(path) } else { Err(outside()) }
}

/// Whether `path` leads to something beneath `root`, links followed.
pub(super) fn is_beneath(path: &Path, root: &Path) -> bool {
    match (path.canonicalize(), root.canonicalize()) {
        (Ok(path), Ok(root)) => path.starts_with(root),
        _ => false,
    }
}

fn replace_like(path: &Path, bytes: &[u8], found: &Metadata) -> Result<(), FsError> {
    use sloth_core::fs::Action;
    let dir = path.parent().unwrap_or(Path::new("/"));
    let (temporary, mut file) = create_temporary(dir, Access::Owner)?;
    let filled = fill(&mut file, bytes, found).map_err(FsError::of(Action::Write, &temporary));
    let placed = filled.and_then(|()| sloth_core::fs::rename(&temporary, path));
    if placed.is_err() {
        // The first error is the one worth telling.
        let _ = std::fs::remove_file(&temporary);
    }
    placed
}

fn fill(file: &mut File, bytes: &[u8], like: &Metadata) -> io::Result<()> {
    file.write_all(bytes)?;
    let made = file.metadata()?;
    if (made.uid(), made.gid()) != (like.uid(), like.gid()) {
        std::os::unix::fs::fchown(&*file, Some(like.uid()), Some(like.gid()))?;
    }
    // After the owner: changing that takes the set-user-id bit away.
    file.set_permissions(Permissions::from_mode(like.mode() & 0o7777))?;
    file.sync_all()
}

/// Whether renaming onto `path` cannot work, though it looks like a plain file.
fn is_kernel(path: &Path) -> bool {
    ["/proc", "/sys", "/dev"].iter().any(|root| path.starts_with(root))
}
