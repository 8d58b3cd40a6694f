//! What is in a directory.

use std::{
    fs::{DirEntry, File, FileType, Metadata, OpenOptions},
    os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use sloth_core::fs::{Action, FsError};

use super::{PackError, SKIPPED};
use crate::{InvalidPath, Limits, Link, ManifestError, RelPath, path::check_link};

/// Files and links in the order of their paths.
pub(super) struct Found {
    pub(super) files: Vec<(RelPath, bool)>,
    pub(super) links: Vec<Link>,
}

pub(super) fn walk(dir: &Path, limits: &Limits) -> Result<Found, PackError> {
    let mut found = Found { files: Vec::new(), links: Vec::new() };
    let mut todo = vec![dir.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in std::fs::read_dir(&next).map_err(FsError::of(Action::Read, &next))? {
            let entry = entry.map_err(FsError::of(Action::Read, &next))?;
            if SKIPPED.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            todo.extend(found.take(dir, &entry)?);
            let count = found.files.len().saturating_add(found.links.len()).saturating_add(todo.len());
            if limits.files_max < count {
                let source = ManifestError::TooManyFiles { count, files_max: limits.files_max };
                return Err(PackError::Limit { dir: dir.to_owned(), source });
            }
        }
    }
    found.files.sort();
    found.links.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Opens a file that is to be packed. What was found may have been replaced since: a link is not followed, and
/// a pipe does not make us wait.
pub(super) fn open(path: &Path) -> Result<File, PackError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(FsError::of(Action::Read, path))?;
    let metadata = file.metadata().map_err(FsError::of(Action::Read, path))?;
    if !metadata.is_file() {
        return Err(PackError::Changed { path: path.to_owned() });
    }
    Ok(file)
}

impl Found {
    /// Takes one entry; gives it back if it is a directory, to be read in turn.
    fn take(&mut self, dir: &Path, entry: &DirEntry) -> Result<Option<PathBuf>, PackError> {
        let path = entry.path();
        let inside = inside(dir, &path)?;
        let metadata = entry.metadata().map_err(FsError::of(Action::Read, &path))?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Ok(Some(path));
        }
        if kind.is_file() {
            self.files.push((inside, executable(&metadata)));
        } else if kind.is_symlink() {
            self.links.push(link(inside, &path)?);
        } else {
            return Err(PackError::Special { path, kind: special(kind) });
        }
        Ok(None)
    }
}

fn inside(dir: &Path, path: &Path) -> Result<RelPath, PackError> {
    let relative = path.strip_prefix(dir).unwrap_or(path);
    let text = relative.to_str().ok_or_else(|| PackError::NotUtf8 { path: path.to_owned() })?;
    text.parse().map_err(|source: InvalidPath| PackError::Path { path: path.to_owned(), source })
}

fn link(inside: RelPath, path: &Path) -> Result<Link, PackError> {
    let target = std::fs::read_link(path).map_err(FsError::of(Action::Read, path))?;
    let text = target.to_str().ok_or_else(|| PackError::NotUtf8 { path: path.to_owned() })?.to_owned();
    match check_link(&inside, &text) {
        Ok(()) => Ok(Link { path: inside, target: text }),
        Err(source) => Err(PackError::LinkOut { path: path.to_owned(), target, source }),
    }
}

fn executable(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & 0o100 != 0
}

fn special(kind: FileType) -> &'static str {
    if kind.is_fifo() {
        "named pipe"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    }
}
