//! Directories for one input, and what is in them.

use std::{
    collections::BTreeMap,
    fs::{Metadata, read, read_dir, read_link},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// Where memory is a file system: thousands of inputs a second are no load for a disk.
const MEMORY: &str = "/dev/shm";

/// Something in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    Dir { mode: u32 },
    File { mode: u32, bytes: Vec<u8> },
    Link { target: PathBuf },
}

/// A fresh directory, gone with the value.
pub(super) fn dir() -> TempDir {
    let mut builder = tempfile::Builder::new();
    let dir = builder.prefix("sloth-fuzz-");
    dir.tempdir_in(MEMORY).or_else(|_| dir.tempdir()).expect("a directory for scratch files")
}

/// Everything under `root` but what is under one of `but`, by path. Links are not followed.
pub(super) fn snapshot(root: &Path, but: &[&Path]) -> BTreeMap<PathBuf, Entry> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        if but.contains(&path.as_path()) {
            continue;
        }
        let metadata = path.symlink_metadata().expect("it was listed");
        if metadata.is_dir() {
            left.extend(read_dir(&path).expect("readable").map(|entry| entry.expect("readable").path()));
        }
        found.insert(path.clone(), entry(&path, &metadata));
    }
    found
}

fn entry(path: &Path, metadata: &Metadata) -> Entry {
    let mode = metadata.permissions().mode() & 0o7777;
    if metadata.is_dir() {
        Entry::Dir { mode }
    } else if metadata.is_symlink() {
        Entry::Link { target: read_link(path).expect("a link") }
    } else {
        Entry::File { mode, bytes: read(path).expect("readable") }
    }
}
