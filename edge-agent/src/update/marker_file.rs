//! The marker on the disk, and the one before it.
//!
//! Each marker replaces the last as a whole, and the last one is kept beside it: whatever becomes of the first file, the
//! supervisor goes on from the second. It lies one change back, and that is safe: no change is needed to undo one.

use std::path::{Path, PathBuf};

use sloth_core::{
    Chain,
    fs::{self, Access, FsError, ReadError},
};
use sloth_protocol::update::{MARKER_BYTES_MAX, Marker, MarkerError};

use crate::paths::Paths;

/// Why a marker is not used.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Marker(#[from] MarkerError),
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The newest marker that can be read.
    pub(super) marker: Option<Marker>,
    /// What was wrong with newer ones, for the log.
    pub(super) problems: Vec<String>,
}

/// Reads the marker, and moves aside what cannot be read.
pub(super) fn load(paths: &Paths) -> Found {
    let mut found = Found::default();
    for path in [paths.update_marker(), paths.update_marker_before()] {
        match read(&path) {
            Ok(marker) => {
                found.marker = marker;
                if found.marker.is_some() {
                    break;
                }
            }
            Err(error) => {
                let problem = format!("the update marker `{}` is moved aside: {}", path.display(), Chain(&error));
                found.problems.push(problem);
                // One that can be neither read nor moved is written over.
                let _ = fs::rename(&path, &moved_aside(&path));
            }
        }
    }
    found
}

/// Reads the marker and changes nothing.
pub(super) fn look(paths: &Paths) -> Option<Marker> {
    [paths.update_marker(), paths.update_marker_before()].iter().find_map(|path| read(path).ok().flatten())
}

/// Puts `marker` in the place of the one that is there. After an error the old one counts.
///
/// # Errors
///
/// When the system refuses.
pub(super) fn store(paths: &Paths, marker: &Marker) -> Result<(), FsError> {
    let path = paths.update_marker();
    if let Ok(Some(before)) = read(&path) {
        fs::replace(&paths.update_marker_before(), before.encode().as_bytes(), Access::Owner)?;
    }
    fs::create_dir(paths.dir(), Access::Owner)?;
    fs::replace(&path, marker.encode().as_bytes(), Access::Owner)
}

/// Where a file that cannot be read is kept to be looked at. Each of the two has a place of its own.
fn moved_aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".corrupt");
    PathBuf::from(name)
}

fn read(path: &Path) -> Result<Option<Marker>, LoadError> {
    match fs::read_capped(path, u64::try_from(MARKER_BYTES_MAX).unwrap_or(u64::MAX)) {
        Ok(bytes) => Ok(Some(Marker::decode(&bytes)?)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use sloth_protocol::update::{Slot, Version};

    use super::*;

    fn marker(minor: u64) -> Marker {
        Marker { current: Slot::Installed(Version::new(1, minor, 0)), ..Marker::new(Version::new(1, 0, 0)) }
    }

    #[test]
    fn a_marker_that_is_damaged_is_moved_aside_and_the_one_before_counts() {
        let dir = tempfile::tempdir().expect("a directory");
        let paths = Paths::new(dir.path());
        assert!(load(&paths).marker.is_none());
        store(&paths, &marker(1)).expect("stored");
        store(&paths, &marker(2)).expect("stored");
        assert_eq!(load(&paths).marker, Some(marker(2)));

        fs::replace(&paths.update_marker(), b"sloth-update 1 torn", Access::Owner).expect("written");
        assert_eq!(look(&paths), Some(marker(1)));
        let found = load(&paths);
        assert_eq!((found.marker, found.problems.len()), (Some(marker(1)), 1));
        assert!(moved_aside(&paths.update_marker()).exists());

        store(&paths, &marker(3)).expect("stored");
        fs::replace(&paths.update_marker(), b"", Access::Owner).expect("written");
        fs::replace(&paths.update_marker_before(), &[0; 100], Access::Owner).expect("written");
        let found = load(&paths);
        assert_eq!((found.marker, found.problems.len()), (None, 2));
        store(&paths, &marker(4)).expect("stored");
        assert_eq!(load(&paths).marker, Some(marker(4)));
    }
}
