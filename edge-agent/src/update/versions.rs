//! Versions of the agent in its directory: `versions/<version>/sloth-agent`, and beside it the digest it was staged with.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use sloth_core::{Digest, fs};
use sloth_protocol::update::{Tail, Version};

use crate::paths::Paths;

/// The program's name in a version's directory.
pub(super) const PROGRAM: &str = "sloth-agent";
/// The file with the program's digest.
pub(super) const DIGEST: &str = "digest";
/// Most bytes of that file.
const DIGEST_BYTES_MAX: u64 = 128;
/// How much of a file is read at a time.
const READ_BYTES: usize = 64 * 1024;
/// Most bytes of the log of a version on trial that are read back.
const LOG_BYTES_MAX: u64 = 1024 * 1024;

/// Why a version cannot be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum DamageError {
    /// It is not there, or cannot be read.
    #[error("`{}` cannot be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what was staged.
    #[error("`{}` is not what was staged: it was changed since, or the disk has lost some of it", path.display())]
    Changed {
        /// Which file.
        path: PathBuf,
    },
}

/// The program of a version, if it is what was staged.
pub(super) fn program(paths: &Paths, version: &Version) -> Result<PathBuf, DamageError> {
    let dir = paths.version(version);
    let path = dir.join(PROGRAM);
    let changed = || DamageError::Changed { path: path.clone() };
    let staged = fs::read_capped(&dir.join(DIGEST), DIGEST_BYTES_MAX).map_err(|_| changed())?;
    let staged: Digest = String::from_utf8_lossy(&staged).trim().parse().map_err(|_| changed())?;
    let digest = digest(&path).map_err(|source| DamageError::Read { path: path.clone(), source })?;
    if digest == staged { Ok(path) } else { Err(changed()) }
}

/// The digest of a file.
pub(super) fn digest(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::from_bytes(*hasher.finalize().as_bytes())),
            read => hasher.update(buffer.get(..read).unwrap_or_default()),
        };
    }
}

/// Where the lines of a version on trial are.
pub(super) fn log(paths: &Paths, version: &Version) -> PathBuf {
    paths.versions().join(format!("{version}.log"))
}

/// The last of those lines.
pub(super) fn tail(paths: &Paths, version: &Version) -> Tail {
    let mut tail = Tail::default();
    if let Ok(bytes) = fs::read_capped(&log(paths, version), LOG_BYTES_MAX) {
        String::from_utf8_lossy(&bytes).lines().for_each(|line| tail.push(line));
    }
    tail
}

/// Removes the programs of all versions but `keep`, the logs of all but these and `logs`, and what an earlier process
/// left half done.
pub(super) fn remove_others(paths: &Paths, keep: &BTreeSet<Version>, logs: &BTreeSet<Version>) {
    let Ok(entries) = std::fs::read_dir(paths.versions()) else { return };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let version = |text: &str| text.parse::<Version>().ok();
        let is_kept = match (version(&name), name.strip_suffix(".log").and_then(version)) {
            (Some(version), _) => keep.contains(&version),
            (None, Some(version)) => keep.contains(&version) || logs.contains(&version),
            (None, None) => !fs::is_temporary(&path),
        };
        // What cannot be removed today is tried again after the next update.
        let _ = match (is_kept, path.is_dir()) {
            (true, _) => Ok(()),
            (false, true) => std::fs::remove_dir_all(&path),
            (false, false) => std::fs::remove_file(&path),
        };
    }
}

#[cfg(test)]
mod tests {
    use sloth_core::fs::Access;

    use super::*;

    #[test]
    fn only_what_was_staged_is_a_program_and_only_what_is_needed_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let paths = Paths::new(dir.path());
        let write = |path: &Path, bytes: &[u8]| {
            fs::create_dir(path.parent().expect("a parent"), Access::Owner).expect("made");
            fs::replace(path, bytes, Access::Owner).expect("written");
        };
        for minor in 0..4 {
            let version = Version::new(1, minor, 0);
            write(&paths.version(&version).join(PROGRAM), b"\x7fELF");
            write(&paths.version(&version).join(DIGEST), Digest::of(b"\x7fELF").to_string().as_bytes());
            write(&log(&paths, &version), b"a\nb\n");
        }
        let (first, last) = (Version::new(1, 0, 0), Version::new(1, 3, 0));
        assert!(program(&paths, &first).is_ok());
        write(&paths.version(&last).join(PROGRAM), b"\x7fELG");
        assert!(matches!(program(&paths, &last), Err(DamageError::Changed { .. })));
        assert!(program(&paths, &Version::new(2, 0, 0)).is_err());
        assert_eq!(tail(&paths, &first).text(), "a\nb\n");

        write(&paths.versions().join(".sloth-tmp-1-0").join(PROGRAM), b"");
        remove_others(&paths, &BTreeSet::from([first]), &BTreeSet::from([last]));
        let left = std::fs::read_dir(paths.versions()).expect("listed");
        let mut left: Vec<_> =
            left.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
        left.sort();
        assert_eq!(left, ["1.0.0", "1.0.0.log", "1.3.0.log"]);
    }
}
