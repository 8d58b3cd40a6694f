//! Keeping a store under its budget.

use std::{
    collections::BTreeSet,
    fs::{DirEntry, ReadDir},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::SystemTime,
};

use sloth_core::{
    Digest, Millis,
    fs::{Action, FsError, is_temporary},
};

use super::{ChunkStore, StoreError};

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Evicted {
    /// How many files were removed.
    pub files: usize,
    /// How many bytes they had on disk.
    pub bytes: u64,
    /// How many bytes are left. After [`ChunkStore::evict`], more than the budget only where what is pinned has
    /// more.
    pub left: u64,
}

/// One file of the store. Ordered by when it was used last.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    used: SystemTime,
    path: PathBuf,
    bytes: u64,
}

impl ChunkStore {
    /// Removes blobs, those first that were not used for longest, until the store has `bytes_max` bytes at most.
    /// What is `pinned` stays. A blob counts as used when it was put and when it was
    /// [touched](ChunkStore::touch).
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn evict(&self, bytes_max: u64, pinned: &BTreeSet<Digest>) -> Result<Evicted, StoreError> {
        let mut entries = self.entries()?;
        // One that is being written has no name to be evicted by yet.
        entries.retain(|entry| !is_temporary(&entry.path));
        entries.sort_unstable();
        let mut evicted = Evicted { left: entries.iter().map(|entry| entry.bytes).sum(), ..Evicted::default() };
        for entry in entries {
            if evicted.left <= bytes_max {
                break;
            }
            if !named(&entry.path).is_some_and(|digest| pinned.contains(&digest)) {
                evicted.remove(&entry)?;
            }
        }
        Ok(evicted)
    }

    /// Removes the blobs that are not `pinned` and were last used before `before`.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn evict_unused(&self, before: Millis, pinned: &BTreeSet<Digest>) -> Result<Evicted, StoreError> {
        let before = SystemTime::UNIX_EPOCH + before.as_duration();
        let mut evicted = Evicted::default();
        for entry in self.entries()?.into_iter().filter(|entry| !is_temporary(&entry.path)) {
            evicted.left += entry.bytes;
            let is_pinned = || named(&entry.path).is_some_and(|digest| pinned.contains(&digest));
            if entry.used < before && !is_pinned() {
                evicted.remove(&entry)?;
            }
        }
        Ok(evicted)
    }

    /// Removes what crashes left behind: temporary files, and downloads that nobody went on with since `before`.
    /// For the store's owner to call while nothing else uses it, as at its start.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn sweep(&self, before: Millis) -> Result<Evicted, StoreError> {
        let before = SystemTime::UNIX_EPOCH + before.as_duration();
        let mut downloads = Vec::new();
        list(&self.partial, &mut downloads)?;
        let mut evicted = Evicted::default();
        for entry in self.entries()?.into_iter().chain(downloads) {
            evicted.left += entry.bytes;
            let abandoned = entry.path.starts_with(&self.partial) && entry.used < before;
            if abandoned || is_temporary(&entry.path) {
                evicted.remove(&entry)?;
            }
        }
        Ok(evicted)
    }

    fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        for dir in read_dir(&self.blobs)? {
            let dir = dir.map_err(FsError::of(Action::Read, &self.blobs))?;
            list(&dir.path(), &mut entries)?;
        }
        Ok(entries)
    }
}

impl Evicted {
    fn remove(&mut self, entry: &Entry) -> Result<(), StoreError> {
        match std::fs::remove_file(&entry.path) {
            Ok(()) => {
                self.files += 1;
                self.bytes += entry.bytes;
            }
            // Somebody else was faster.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(FsError::of(Action::Remove, &entry.path)(source).into()),
        }
        self.left = self.left.saturating_sub(entry.bytes);
        Ok(())
    }
}

fn list(dir: &Path, entries: &mut Vec<Entry>) -> Result<(), StoreError> {
    for entry in read_dir(dir)? {
        let entry = entry.map_err(FsError::of(Action::Read, dir))?;
        match describe(&entry) {
            Ok(entry) => entries.push(entry),
            // Removed since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(FsError::of(Action::Read, &entry.path())(source).into()),
        }
    }
    Ok(())
}

fn describe(entry: &DirEntry) -> io::Result<Entry> {
    let metadata = entry.metadata()?;
    let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Ok(Entry { used, path: entry.path(), bytes: metadata.len() })
}

fn read_dir(dir: &Path) -> Result<ReadDir, StoreError> {
    Ok(std::fs::read_dir(dir).map_err(FsError::of(Action::Read, dir))?)
}

fn named(path: &Path) -> Option<Digest> {
    path.file_name()?.to_str()?.parse().ok()
}
