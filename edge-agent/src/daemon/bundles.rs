//! Unpacked bundles on the disk.
//!
//! `bundles/<digest>/` holds the files, `bundles/<digest>.manifest` the manifest. The second is written last and
//! removed first: a bundle is there when its manifest is.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::SystemTime,
};

use sloth_bundle::{
    ChunkStore, Limits, Manifest, ManifestError, UnpackError, limits::MANIFEST_BYTES_MAX, pack, unpack,
};
use sloth_core::{
    Digest,
    fs::{self, Access, Action, FsError, ReadError},
};

use super::Shared;
use crate::paths::Paths;

/// Why a bundle is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum BundleError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("the manifest of bundle `{digest}` was damaged on the disk")]
    Damaged { digest: Digest },
}

/// Whether the bundle is unpacked, and is still what was signed: a run may have written into it, and a disk forgets. If
/// so, it counts as used now.
pub(super) fn has(shared: &Shared, digest: Digest) -> bool {
    let paths = &shared.paths;
    let Ok(manifest) = read_manifest(paths, digest) else { return false };
    match pack(&paths.bundle(digest), &Limits::default()) {
        Ok(found) if found.files == manifest.parts().files && found.links == manifest.parts().links => {}
        Ok(_) | Err(_) => {
            tracing::warn!(bundle = %digest.short(), "an unpacked bundle was changed, and is unpacked anew");
            return false;
        }
    }
    let used = SystemTime::UNIX_EPOCH + shared.clock.now().as_duration();
    std::fs::File::open(paths.bundle_manifest(digest)).and_then(|file| file.set_modified(used)).is_ok()
}

/// The file that a run of the bundle begins with.
pub(super) fn workflow(paths: &Paths, digest: Digest) -> Result<String, BundleError> {
    Ok(read_manifest(paths, digest)?.parts().workflow.as_str().to_owned())
}

/// Unpacks the bundle whose chunks are all in the cache. `bytes` are those of `manifest`.
///
/// What is there already is replaced at once: a run that uses it goes on with files of the same content.
pub(super) fn install(
    paths: &Paths,
    chunks: &ChunkStore,
    manifest: &Manifest,
    bytes: &[u8],
) -> Result<(), BundleError> {
    let digest = Digest::of(bytes);
    let (fresh, old, dir) =
        (fs::temporary_name(&paths.bundles()), fs::temporary_name(&paths.bundles()), paths.bundle(digest));
    unpack(manifest, chunks, &fresh)?;
    if dir.exists() {
        fs::rename(&dir, &old)?;
    }
    fs::rename(&fresh, &dir)?;
    remove_dir(&old)?;
    Ok(fs::replace(&paths.bundle_manifest(digest), bytes, Access::Owner)?)
}

/// Removes unpacked bundles that were not used for longest, until the rest has at most `bytes_max` bytes. What is
/// `pinned` stays.
pub(super) fn evict(paths: &Paths, bytes_max: u64, pinned: &BTreeSet<Digest>) -> Result<(), BundleError> {
    let mut bundles = Vec::new();
    for (digest, path) in manifests(paths)? {
        let metadata = std::fs::metadata(&path).map_err(FsError::of(Action::Read, &path))?;
        let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        bundles.push((used, digest, dir_bytes(&paths.bundle(digest))));
    }
    bundles.sort_unstable();
    let mut left: u64 = bundles.iter().map(|(_, _, bytes)| bytes).sum();
    for (_, digest, bytes) in bundles {
        if left <= bytes_max {
            break;
        }
        if !pinned.contains(&digest) {
            tracing::debug!(bundle = %digest.short(), bytes, "removing a bundle that was not used for long");
            remove(paths, digest)?;
            left = left.saturating_sub(bytes);
        }
    }
    Ok(())
}

/// Removes what a crash left: directories without a manifest and the other way round, and temporary ones.
pub(super) fn sweep(paths: &Paths) {
    let Ok(entries) = std::fs::read_dir(paths.bundles()) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let digest = name.strip_suffix(".manifest").unwrap_or(name).parse::<Digest>().ok();
        let whole =
            digest.is_some_and(|digest| paths.bundle(digest).is_dir() && paths.bundle_manifest(digest).is_file());
        if whole {
            continue;
        }
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "cannot remove what a crash left");
        }
    }
}

fn read_manifest(paths: &Paths, digest: Digest) -> Result<Manifest, BundleError> {
    let bytes_max = u64::try_from(MANIFEST_BYTES_MAX).unwrap_or(u64::MAX);
    let bytes = fs::read_capped(&paths.bundle_manifest(digest), bytes_max)?;
    if Digest::of(&bytes) != digest {
        return Err(BundleError::Damaged { digest });
    }
    Ok(Manifest::decode(&bytes, &Limits::default())?)
}

fn remove(paths: &Paths, digest: Digest) -> Result<(), BundleError> {
    let manifest = paths.bundle_manifest(digest);
    std::fs::remove_file(&manifest).map_err(FsError::of(Action::Remove, &manifest))?;
    remove_dir(&paths.bundle(digest))
}

fn remove_dir(dir: &Path) -> Result<(), BundleError> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FsError::of(Action::Remove, dir)(error).into())
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn manifests(paths: &Paths) -> Result<Vec<(Digest, PathBuf)>, BundleError> {
    let dir = paths.bundles();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(FsError::of(Action::Read, &dir))? {
        let path = entry.map_err(FsError::of(Action::Read, &dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".manifest"));
        if let Some(digest) = name.and_then(|name| name.parse().ok()) {
            found.push((digest, path));
        }
    }
    Ok(found)
}

/// The bytes of all files under `dir`. What cannot be read counts nothing.
fn dir_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => dir_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use sloth_core::Millis;

    use super::*;

    /// What [`evict`] goes by.
    fn used_at(paths: &Paths, digest: Digest, at: Millis) {
        let file = std::fs::File::open(paths.bundle_manifest(digest)).expect("there");
        file.set_modified(SystemTime::UNIX_EPOCH + at.as_duration()).expect("set");
    }

    fn bundle(paths: &Paths, content: &str, used: u64) -> Digest {
        let digest = Digest::of(content.as_bytes());
        fs::create_dir(&paths.bundle(digest).join("sub"), Access::Owner).expect("made");
        fs::replace(&paths.bundle(digest).join("sub/file"), content.as_bytes(), Access::Owner).expect("written");
        fs::replace(&paths.bundle_manifest(digest), b"m", Access::Owner).expect("written");
        used_at(paths, digest, Millis::from_secs(used));
        digest
    }

    fn there(paths: &Paths, digests: &[Digest]) -> Vec<bool> {
        digests.iter().map(|digest| paths.bundle(*digest).exists()).collect()
    }

    #[test]
    fn the_bundles_that_were_not_used_for_longest_go_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let paths = Paths::new(dir.path());
        paths.create().expect("made");
        let all =
            [bundle(&paths, "aaaaaaaaaa", 30), bundle(&paths, "bbbbbbbbbb", 10), bundle(&paths, "cccccccccc", 20)];
        evict(&paths, 30, &BTreeSet::new()).expect("evicted");
        assert_eq!(there(&paths, &all), [true, true, true]);
        evict(&paths, 25, &BTreeSet::from([all[1]])).expect("evicted");
        assert_eq!(there(&paths, &all), [true, true, false]);
        evict(&paths, 0, &BTreeSet::from([all[1]])).expect("evicted");
        assert_eq!(there(&paths, &all), [false, true, false]);
        assert!(!paths.bundle_manifest(all[0]).exists() && paths.bundle_manifest(all[1]).exists());
    }

    #[test]
    fn halves_of_bundles_are_swept() {
        let dir = tempfile::tempdir().expect("a directory");
        let paths = Paths::new(dir.path());
        paths.create().expect("made");
        let all = [bundle(&paths, "a", 1), bundle(&paths, "b", 1), bundle(&paths, "c", 1)];
        std::fs::remove_file(paths.bundle_manifest(all[0])).expect("removed");
        std::fs::remove_dir_all(paths.bundle(all[1])).expect("removed");
        fs::create_dir(&fs::temporary_name(&paths.bundles()), Access::Owner).expect("made");
        sweep(&paths);
        let names = std::fs::read_dir(paths.bundles()).expect("listed").count();
        assert_eq!((names, there(&paths, &all)), (2, vec![false, false, true]));
    }
}
