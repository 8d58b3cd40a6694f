//! What scripts do to files, each with a sentence when it does not work.

use std::{
    fs::{File, Metadata, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Component, Path, PathBuf},
};

use rustix::fs::OFlags;
use sloth_core::{
    error::Chain,
    fs::{Access, Action, FsError, create_temporary, read_capped},
};

use crate::beneath::{self, Way, entry, followed, inode, metadata};

/// Most bytes of a file that a script reads into a text.
pub(super) const READ_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Most names that a listing gives.
const LIST_NAMES_MAX: usize = 100_000;

/// What the process's mask takes from when a script makes a file.
const NEW_FILE_MODE: u32 = 0o666;
/// The bits of a mode that can be set.
pub(super) const MODE_BITS: u32 = 0o7777;

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

/// For `map_err`: the error with its causes.
pub(super) fn told(error: impl std::error::Error + 'static) -> String {
    beneath::plain_text(Chain(&error).to_string())
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    openable(path)?;
    read_capped(&inode(path), READ_BYTES_MAX).map_err(told)
}

/// Puts `bytes` at `path` at once. A file that is there keeps its mode and its owner, and a link its place; what
/// is no plain file, such as a device or a file of the kernel, is written into.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let target = followed(path);
    match metadata(&target) {
        Ok(found) if found.is_file() && !is_kernel(&target) => replace_like(&target, bytes, &found).map_err(told),
        Ok(_) => {
            openable(&target)?;
            let file = open(OpenOptions::new().write(true), &inode(&target));
            file.and_then(|mut file| file.write_all(bytes)).map_err(said("write", &target))
        }
        Err(_) => sloth_core::fs::replace(&entry(&target), bytes, Access::Everyone).map_err(told),
    }
}

/// A file to add to; it is made when it is missing.
pub(super) fn open_to_append(path: &Path) -> Result<File, String> {
    openable(path)?;
    let mut options = OpenOptions::new();
    let options = options.append(true).create(true).mode(NEW_FILE_MODE);
    open(options, &inode(path)).map_err(said("append to", path))
}

/// A file to fill from its start; it is made when it is missing.
pub(super) fn open_anew(path: &Path) -> Result<File, String> {
    openable(path)?;
    let mut options = OpenOptions::new();
    let options = options.write(true).truncate(true).create(true).mode(NEW_FILE_MODE);
    open(options, &inode(path)).map_err(said("write", path))
}

/// The last part of a path.
pub(super) fn file_name(path: &Path) -> &std::ffi::OsStr {
    path.file_name().unwrap_or_default()
}

/// Copies a file with its mode; the target appears at once. A target that is a directory gets it by its name.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let to = match from.file_name() {
        Some(name) if metadata(&followed(to)).is_ok_and(|there| there.is_dir()) => to.join(name),
        Some(_) | None => to.to_owned(),
    };
    let to = followed(&to);
    openable(from)?;
    let mut source = File::open(inode(from)).map_err(said("copy", from))?;
    let found = source.metadata().map_err(said("copy", from))?;
    if !found.is_file() {
        return Err(format!("cannot copy `{}`: it is no plain file", from.display()));
    }
    if metadata(&to).is_ok_and(|there| (there.dev(), there.ino()) == (found.dev(), found.ino())) {
        return Err(format!("cannot copy `{}` onto itself", from.display()));
    }
    let mode = Permissions::from_mode(found.mode() & MODE_BITS);
    let filled = place(&to, |file| {
        io::copy(&mut source, file)?;
        file.set_permissions(mode)
    });
    filled.map_err(told)
}

pub(super) fn remove(path: &Path, depth: Depth) -> Result<(), String> {
    let way = entry(path);
    let found = match way.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound && depth == Depth::All => return Ok(()),
        Err(error) => return Err(said("remove", path)(error)),
    };
    let removed = match (found.is_dir(), depth) {
        (false, _) => std::fs::remove_file(&way),
        (true, Depth::One) => std::fs::remove_dir(&way),
        (true, Depth::All) if path.parent().is_none() => Err(io::Error::other("this is the root of the file system")),
        (true, Depth::All) => std::fs::remove_dir_all(&way),
    };
    removed.map_err(said("remove", path))
}

/// Gives what is at `path` another name, at once; between file systems a plain file is copied.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), String> {
    match std::fs::rename(entry(from), entry(to)) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices && from.is_file() && !from.is_symlink() => {
            copy(from, to)?;
            remove(from, Depth::One)
        }
        renamed => renamed.map_err(said("move", from)),
    }
}

/// Sets the times of what is at `path` to the host's clock; an empty file is made where nothing is.
pub(super) fn touch(path: &Path) -> Result<(), String> {
    if path.metadata().is_err() {
        return open_to_append(path).map(drop);
    }
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    let set = rustix::fs::utimensat(rustix::fs::CWD, inode(path).as_ref(), &times, rustix::fs::AtFlags::empty());
    set.map_err(|error| said("touch", path)(error.into()))
}

/// The names in a directory, in order.
pub(super) fn list(path: &Path) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(inode(path)).map_err(said("list", path))?;
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

/// What `path` leads to, links followed, when that lies beneath `root`.
pub(super) fn found_beneath(path: &Path, root: &Path) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    path.starts_with(root.canonicalize().ok()?).then_some(path)
}

/// Replaces a file with one of the same owner and mode.
fn replace_like(path: &Path, bytes: &[u8], found: &Metadata) -> Result<(), FsError> {
    place(path, |file| {
        file.write_all(bytes)?;
        dress(file, found, found.mode() & MODE_BITS)
    })
}

/// Gives a file that is to replace another the owner of that one, and a mode.
pub(super) fn dress(file: &File, found: &Metadata, mode: u32) -> io::Result<()> {
    let made = file.metadata()?;
    if (made.uid(), made.gid()) != (found.uid(), found.gid()) {
        fchown(file, Some(found.uid()), Some(found.gid()))?;
    }
    // After the owner: changing that takes the set-user-id bit away.
    file.set_permissions(Permissions::from_mode(mode))
}

/// Puts a new file at `path` once `fill` has filled it and the disk has it.
fn place(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), FsError> {
    let way = entry(path);
    let path = &*way;
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        Some(_) | None => Path::new("."),
    };
    let of_path = |error: FsError| FsError { action: Action::Write, path: path.to_owned(), ..error };
    let (temporary, mut file) = create_temporary(dir, Access::Owner).map_err(of_path)?;
    let filled = fill(&mut file).and_then(|()| file.sync_all()).map_err(FsError::of(Action::Write, path));
    let placed = filled.and_then(|()| sloth_core::fs::rename(&temporary, path));
    if placed.is_err() {
        // The first error is the one worth telling.
        let _ = std::fs::remove_file(&temporary);
    }
    placed
}

/// Opens what is meant. Where every link was followed already, a link is one that somebody has put there since.
fn open(options: &mut OpenOptions, way: &Way) -> io::Result<File> {
    let flags = if way.is_name() { OFlags::NOFOLLOW } else { OFlags::empty() };
    options.custom_flags(flags.bits().cast_signed()).open(way)
}

/// Refuses what opening would wait for: another process at the other end of a pipe.
pub(super) fn openable(path: &Path) -> Result<(), String> {
    match metadata(&followed(path)) {
        Ok(found) if found.file_type().is_fifo() || found.file_type().is_socket() => {
            Err(format!("cannot open `{}`: it is a pipe or a socket, not a file", path.display()))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Whether renaming onto `path` cannot work, though it looks like a plain file.
pub(super) fn is_kernel(path: &Path) -> bool {
    ["/proc", "/sys", "/dev"].iter().any(|root| path.starts_with(root))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::beneath::{Last, Place};

    /// Whoever may write in a directory can put a link where a file or a directory was, at any moment.
    #[test]
    fn a_link_that_is_put_there_after_the_check_leads_nowhere() {
        type Work = fn(&Path, &Path) -> Result<(), String>;
        let cases: [(&str, Work); 3] = [
            ("write", |path, _| replace(path, b"changed")),
            ("copy", |path, other| copy(other, path)),
            ("append", |path, _| open_to_append(path)?.write_all(b"changed").map_err(|error| error.to_string())),
        ];
        for (name, work) in cases {
            for there in [true, false] {
                let dir = tempfile::tempdir().unwrap();
                let (root, out) = (dir.path().join("in"), dir.path().join("out"));
                fs::create_dir_all(root.join("sub")).unwrap();
                fs::create_dir(&out).unwrap();
                let put = |path: &Path, text: &str| {
                    sloth_core::fs::replace(path, text.as_bytes(), Access::Everyone).unwrap();
                };
                put(&out.join("f"), "outside");
                put(&root.join("other"), "other");
                if there {
                    put(&root.join("sub/f"), "inside");
                }
                let root = root.canonicalize().unwrap();
                let place = Place::beneath(&root.join("sub/f"), Last::Followed, [root.as_path()]).unwrap().unwrap();
                let other = Place::beneath(&root.join("other"), Last::Followed, [root.as_path()]).unwrap().unwrap();
                fs::rename(root.join("sub"), root.join("moved")).unwrap();
                symlink(&out, root.join("sub")).unwrap();
                // It may be refused; it must not get out.
                let _ = work(&place, &other);
                assert_eq!(fs::read(out.join("f")).unwrap(), b"outside", "{name}, there before: {there}");
                assert!(root.join("moved/f").exists(), "{name}, there before: {there}");
            }
        }
    }
}
