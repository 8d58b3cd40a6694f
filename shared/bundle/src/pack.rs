//! From a directory to files and chunks.

mod walk;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use fastcdc::v2020::StreamCDC;
use sloth_core::{
    Digest,
    fs::{Action, FsError},
};

use crate::{
    Chunk, ChunkError, ChunkStore, File, InvalidPath, Limits, Link, ManifestError, RelPath, StoreError, chunk,
    limits::{CHUNK_BYTES_AVERAGE, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN},
};

/// Directories that are not part of a bundle, wherever they are.
pub const SKIPPED: [&str; 1] = [".git"];

/// What was found in a directory. The content stays on disk and is read again when it is asked for.
#[derive(Debug)]
pub struct Packed {
    /// The files, in the order of their paths.
    pub files: Vec<File>,
    /// The links, in the order of their paths.
    pub links: Vec<Link>,
    dir: PathBuf,
    /// Where each file's content is, in the order of the files.
    origins: Vec<PathBuf>,
    sources: BTreeMap<Digest, Source>,
}

/// Where a chunk's bytes are.
#[derive(Debug, Clone, Copy)]
struct Source {
    file: usize,
    offset: u64,
    length: u32,
}

/// Why a directory was not packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The system refused.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A name that a manifest cannot hold.
    #[error("`{}` has a name that is not UTF-8: rename it, or keep it out of the bundle", path.display())]
    NotUtf8 {
        /// Which.
        path: PathBuf,
    },
    /// A path that a manifest cannot hold.
    #[error("`{}` cannot be in a bundle: rename it, or keep it out of the bundle", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: InvalidPath,
    },
    /// Neither file, directory nor link.
    #[error("`{}` is a {kind}: a bundle holds files, directories and links only", path.display())]
    Special {
        /// Which.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A link to somewhere else.
    #[error("the link `{}` to `{}` is refused: make it relative, to something inside the bundle", path.display(), target.display())]
    LinkOut {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
        /// What is wrong with it.
        source: InvalidPath,
    },
    /// Over a limit.
    #[error("`{}` is too large for a bundle", dir.display())]
    Limit {
        /// The bundle's directory.
        dir: PathBuf,
        /// Which limit.
        source: ManifestError,
    },
    /// It was written to after it was packed.
    #[error("`{}` changed while it was packed: try again when nothing writes to it", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A chunk that nothing of the directory has.
    #[error("no file of the bundle has the chunk `{digest}`")]
    UnknownChunk {
        /// What was asked for.
        digest: Digest,
    },
    /// A chunk that cannot be compressed.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The store did not take a chunk.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads the directory `dir` and finds the chunks of every file in it. One chunk is in memory at a time.
///
/// # Errors
///
/// When something in it cannot be in a bundle, each time named; or it is over a limit.
pub fn pack(dir: &Path, limits: &Limits) -> Result<Packed, PackError> {
    let found = walk::walk(dir, limits)?;
    let mut packed = Packed::new(dir, found.links);
    let mut total = 0_u64;
    for (path, executable) in found.files {
        let origin = dir.join(path.as_str());
        let file = packed.chunk_file(origin, path, executable, limits)?;
        total = total.saturating_add(file.size);
        if limits.total_bytes_max < total {
            let source = ManifestError::TotalTooLarge { total_bytes_max: limits.total_bytes_max };
            return Err(PackError::Limit { dir: dir.to_owned(), source });
        }
        packed.files.push(file);
    }
    Ok(packed)
}

/// Reads the file `origin` and finds its chunks: it is the only file of its bundle, `path` there, and executable.
///
/// # Errors
///
/// When it cannot be read, or is over a limit.
pub fn pack_file(origin: &Path, path: RelPath, limits: &Limits) -> Result<Packed, PackError> {
    let mut packed = Packed::new(origin.parent().unwrap_or(Path::new(".")), Vec::new());
    let file = packed.chunk_file(origin.to_owned(), path, true, limits)?;
    packed.files.push(file);
    Ok(packed)
}

/// Puts those chunks of the file `path` into `store` that are among `wanted` and not there: what a new version has in
/// common with an old one need not be fetched. Returns how many bytes that were, uncompressed.
///
/// # Errors
///
/// When the file cannot be read, or the store refuses.
pub fn seed(path: &Path, wanted: &BTreeSet<Digest>, store: &ChunkStore) -> Result<u64, PackError> {
    let mut found = 0;
    for piece in pieces(walk::open(path)?) {
        let piece = piece.map_err(FsError::of(Action::Read, path))?;
        let digest = Digest::of(&piece);
        if wanted.contains(&digest) && !store.has(digest) {
            store.put_plain(digest, &piece)?;
            found += u64::try_from(piece.len()).unwrap_or(u64::MAX);
        }
    }
    Ok(found)
}

impl Packed {
    /// The distinct chunks, in the order of their digests.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk> + '_ {
        self.sources.iter().map(|(digest, source)| Chunk { digest: *digest, length: source.length })
    }

    /// The bytes of a chunk, read again from its file.
    ///
    /// # Errors
    ///
    /// When no file has it, or the file changed since.
    pub fn read(&self, digest: Digest) -> Result<Vec<u8>, PackError> {
        let unknown = PackError::UnknownChunk { digest };
        let Some(source) = self.sources.get(&digest) else { return Err(unknown) };
        let Some(path) = self.origins.get(source.file).cloned() else { return Err(unknown) };
        let mut content = walk::open(&path)?;
        let mut plain = Vec::new();
        content
            .seek(SeekFrom::Start(source.offset))
            .and_then(|_| content.take(u64::from(source.length)).read_to_end(&mut plain))
            .map_err(FsError::of(Action::Read, &path))?;
        if Digest::of(&plain) != digest {
            return Err(PackError::Changed { path });
        }
        Ok(plain)
    }

    /// The compressed bytes of a chunk, as they are stored and sent.
    ///
    /// # Errors
    ///
    /// As [`Packed::read`].
    pub fn frame(&self, digest: Digest) -> Result<Vec<u8>, PackError> {
        Ok(chunk::compress(digest, &self.read(digest)?)?)
    }

    /// Puts every chunk into `store` that is not there already. Returns how many bytes were added, uncompressed.
    ///
    /// # Errors
    ///
    /// When a file changed since, or the store refuses.
    pub fn store_into(&self, store: &ChunkStore) -> Result<u64, PackError> {
        let mut added = 0;
        for chunk in self.chunks() {
            if !store.has(chunk.digest) {
                store.put_plain(chunk.digest, &self.read(chunk.digest)?)?;
                added += u64::from(chunk.length);
            }
        }
        Ok(added)
    }

    fn new(dir: &Path, links: Vec<Link>) -> Self {
        Self { files: Vec::new(), links, dir: dir.to_owned(), origins: Vec::new(), sources: BTreeMap::new() }
    }

    fn chunk_file(
        &mut self,
        full: PathBuf,
        path: RelPath,
        executable: bool,
        limits: &Limits,
    ) -> Result<File, PackError> {
        let content = walk::open(&full)?;
        let index = self.files.len();
        let mut file = File { path, executable, size: 0, chunks: Vec::new() };
        for piece in pieces(content) {
            let piece = piece.map_err(FsError::of(Action::Read, &full))?;
            let length = u32::try_from(piece.len()).map_err(|_| PackError::Changed { path: full.clone() })?;
            let chunk = Chunk { digest: Digest::of(&piece), length };
            self.sources.entry(chunk.digest).or_insert(Source { file: index, offset: file.size, length });
            file.chunks.push(chunk);
            file.size += u64::from(length);
            if limits.file_bytes_max < file.size {
                let (path, size, file_bytes_max) = (file.path, file.size, limits.file_bytes_max);
                let source = ManifestError::FileTooLarge { path, size, file_bytes_max };
                return Err(PackError::Limit { dir: self.dir.clone(), source });
            }
        }
        self.origins.push(full);
        Ok(file)
    }
}

/// Cuts where the content says so, so that a change moves only the chunks around it.
fn pieces(content: impl Read) -> impl Iterator<Item = io::Result<Vec<u8>>> {
    StreamCDC::new(content, CHUNK_BYTES_MIN, CHUNK_BYTES_AVERAGE, CHUNK_BYTES_MAX)
        .map(|piece| piece.map(|piece| piece.data).map_err(io::Error::from))
}

#[cfg(test)]
mod tests;
