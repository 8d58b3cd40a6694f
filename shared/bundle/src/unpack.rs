//! From a manifest and its chunks to a directory.

use std::{
    collections::BTreeSet,
    fs::{DirBuilder, File as OsFile, OpenOptions, Permissions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use sloth_core::fs::{self, Action, FsError};

use crate::{ChunkStore, File, Manifest, RelPath, StoreError};

/// The mode of directories. Who may reach them is for the directory that holds them all to say.
const DIR_MODE: u32 = 0o755;
/// The mode of a directory that is still being filled.
const FRESH_MODE: u32 = 0o700;
/// The mode of files.
const FILE_MODE: u32 = 0o644;
/// The mode of files that may be executed.
const EXECUTABLE_MODE: u32 = 0o755;

/// Why a bundle was not unpacked. Nothing is then at the destination.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The system refused.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// Something is there already.
    #[error("`{}` is there already", path.display())]
    Exists {
        /// The destination.
        path: PathBuf,
    },
    /// A chunk is missing or damaged.
    #[error("cannot unpack `{path}`")]
    Chunk {
        /// The file that needs it.
        path: RelPath,
        /// What is wrong.
        source: StoreError,
    },
}

/// Makes the directory `dest` with the files of `manifest`, whose chunks are in `store`. It appears whole and on
/// the disk, or not at all.
///
/// Everything is made in a fresh directory beside `dest`. Links come last, so that nothing is written through
/// one, and every chunk is compared with its digest.
///
/// # Errors
///
/// When `dest` exists, a chunk is missing or damaged, or the system refuses.
pub fn unpack(manifest: &Manifest, store: &ChunkStore, dest: &Path) -> Result<(), UnpackError> {
    if dest.symlink_metadata().is_ok() {
        return Err(UnpackError::Exists { path: dest.to_owned() });
    }
    let fresh = fs::temporary_name(dest.parent().unwrap_or(Path::new(".")));
    let made = make(manifest, store, &fresh).and_then(|()| Ok(fs::rename(&fresh, dest)?));
    if made.is_err() {
        // The first error is the one worth telling; a directory left behind is known by its name.
        let _ = std::fs::remove_dir_all(&fresh);
    }
    made
}

fn make(manifest: &Manifest, store: &ChunkStore, fresh: &Path) -> Result<(), UnpackError> {
    let parts = manifest.parts();
    make_dir(fresh, FRESH_MODE)?;
    let paths = parts.files.iter().map(|file| &file.path).chain(parts.links.iter().map(|link| &link.path));
    // In order, a directory comes before what is in it.
    let dirs: BTreeSet<&str> = paths.flat_map(RelPath::ancestors).collect();
    for dir in dirs {
        make_dir(&fresh.join(dir), DIR_MODE)?;
    }
    for file in &parts.files {
        write_file(file, store, &fresh.join(file.path.as_str()))?;
    }
    for link in &parts.links {
        let path = fresh.join(link.path.as_str());
        symlink(&link.target, &path).map_err(FsError::of(Action::Create, &path))?;
    }
    set_mode(fresh, DIR_MODE)?;
    sync_all(fresh)
}

fn make_dir(path: &Path, mode: u32) -> Result<(), UnpackError> {
    DirBuilder::new().mode(mode).create(path).map_err(FsError::of(Action::Create, path))?;
    set_mode(path, mode)
}

fn write_file(file: &File, store: &ChunkStore, path: &Path) -> Result<(), UnpackError> {
    let mode = if file.executable { EXECUTABLE_MODE } else { FILE_MODE };
    let mut content = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(FsError::of(Action::Create, path))?;
    for chunk in &file.chunks {
        let plain = store
            .read(chunk.digest, u64::from(chunk.length))
            .map_err(|source| UnpackError::Chunk { path: file.path.clone(), source })?;
        content.write_all(&plain).map_err(FsError::of(Action::Write, path))?;
    }
    set_mode(path, mode)
}

/// The process's mask may have taken bits from what was just made.
fn set_mode(path: &Path, mode: u32) -> Result<(), UnpackError> {
    let set = std::fs::set_permissions(path, Permissions::from_mode(mode));
    Ok(set.map_err(FsError::of(Action::SetMode, path))?)
}

/// Waits once for everything, where one wait for each file would cost a turn of the disk each.
fn sync_all(dir: &Path) -> Result<(), UnpackError> {
    let synced = OsFile::open(dir).and_then(|dir| Ok(rustix::fs::syncfs(dir)?));
    Ok(synced.map_err(FsError::of(Action::Sync, dir))?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use sloth_core::{
        Digest,
        fs::{Access, create_dir, replace},
    };

    use super::*;
    use crate::{Limits, Parts, pack};

    struct Fixture {
        dir: tempfile::TempDir,
        store: ChunkStore,
        manifest: Manifest,
    }

    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().expect("a directory");
        let source = dir.path().join("source");
        let large: Vec<u8> = (0..1_000_000_u32).flat_map(|i| i.wrapping_mul(i).to_be_bytes()).collect();
        for (path, bytes) in
            [("main.sloth", &b"task()"[..]), ("bin/tool", b"#!/bin/sh\n"), ("empty", b""), ("l", &large)]
        {
            create_dir(source.join(path).parent().expect("has one"), Access::Everyone).expect("made");
            replace(&source.join(path), bytes, Access::Everyone).expect("written");
        }
        std::fs::set_permissions(source.join("bin/tool"), Permissions::from_mode(0o700)).expect("set");
        symlink("../main.sloth", source.join("bin/workflow")).expect("linked");
        symlink("bin", source.join("tools")).expect("linked");

        let store = ChunkStore::open(&dir.path().join("store")).expect("opened");
        let packed = pack(&source, &Limits::default()).expect("packed");
        assert!(4_000_000 < packed.store_into(&store).expect("stored"));
        assert_eq!(packed.store_into(&store).expect("stored"), 0);
        let (name, workflow) = ("web".parse().expect("a name"), "main.sloth".parse().expect("a path"));
        let (files, links) = (packed.files, packed.links);
        let parts = Parts { name, version: "1".to_owned(), workflow, files, links, plan: Vec::new() };
        let bytes = Manifest::new(parts, &Limits::default()).and_then(|m| m.encode()).expect("encoded");
        let manifest = Manifest::decode(&bytes, &Limits::default()).expect("decoded");
        Fixture { dir, store, manifest }
    }

    #[test]
    fn a_directory_comes_back_as_it_was() {
        let f = fixture();
        let (source, dest) = (f.dir.path().join("source"), f.dir.path().join("dest"));
        unpack(&f.manifest, &f.store, &dest).expect("unpacked");
        let mode = |path: &str| std::fs::symlink_metadata(dest.join(path)).expect("there").mode() & 0o777;
        assert_eq!((mode(""), mode("bin"), mode("bin/tool"), mode("l")), (0o755, 0o755, 0o755, 0o644));
        for path in ["main.sloth", "bin/tool", "empty", "l", "bin/workflow", "tools/tool"] {
            let read = |root: &Path| std::fs::read(root.join(path)).expect("read");
            assert_eq!(read(&source), read(&dest), "{path}");
        }
        assert_eq!(std::fs::read_link(dest.join("tools")).expect("a link"), Path::new("bin"));
        let again = pack(&dest, &Limits::default()).expect("packed");
        assert_eq!((&again.files, &again.links), (&f.manifest.parts().files, &f.manifest.parts().links));

        let error = unpack(&f.manifest, &f.store, &dest).expect_err("is there");
        assert!(matches!(error, UnpackError::Exists { .. }), "{error}");
    }

    #[test]
    fn without_every_chunk_nothing_appears() {
        let f = fixture();
        let lost = f.manifest.chunks().last().copied().expect("has some");
        std::fs::remove_file(blob(f.dir.path(), lost.digest)).expect("removed");
        let dest = f.dir.path().join("dest");
        let error = unpack(&f.manifest, &f.store, &dest).expect_err("one is missing");
        assert!(matches!(error, UnpackError::Chunk { source: StoreError::Missing { .. }, .. }), "{error}");
        replace(&blob(f.dir.path(), lost.digest), b"damaged", Access::Owner).expect("damaged");
        let error = unpack(&f.manifest, &f.store, &dest).expect_err("one is damaged");
        assert!(matches!(error, UnpackError::Chunk { source: StoreError::Corrupt { .. }, .. }), "{error}");
        let mut names: Vec<_> =
            std::fs::read_dir(f.dir.path()).expect("listed").map(|e| e.expect("read").file_name()).collect();
        names.sort();
        assert_eq!(names, ["source", "store"]);
    }

    fn blob(dir: &Path, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        dir.join("store/blobs").join(&name[..2]).join(name)
    }
}
