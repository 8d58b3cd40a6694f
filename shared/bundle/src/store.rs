//! Where chunks and manifests are kept, by digest.

mod evict;
mod partial;

use std::path::{Path, PathBuf};

use sloth_core::{
    Digest, Millis,
    fs::{self, Access, Action, FsError, ReadError},
};

use crate::{Chunk, ChunkError, chunk};

pub use evict::Evicted;

/// Bytes on disk under the digest of what they decompress to.
///
/// Layout: `blobs/<first two digits>/<digest>` holds one zstd frame each, `partial/<digest>` what was downloaded
/// of one so far. A blob gets its name when its content is on the disk, so that whatever has a name is whole,
/// also after a power cut. What a failing disk changes later is found on reading, and removed.
///
/// Nothing is held in memory, and any number of threads may use one store.
#[derive(Debug, Clone)]
pub struct ChunkStore {
    blobs: PathBuf,
    partial: PathBuf,
}

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// It is not here.
    #[error("`{digest}` is not in the store")]
    Missing {
        /// What was asked for.
        digest: Digest,
    },
    /// It was here, damaged, and was removed.
    #[error("`{digest}` was damaged on disk and was removed: fetch it again")]
    Corrupt {
        /// What was asked for.
        digest: Digest,
        /// What was wrong, where its size was right.
        source: ChunkError,
    },
    /// It was here, with more bytes than it can have, and was removed.
    #[error("`{digest}` was too large on disk and was removed: fetch it again")]
    Oversized {
        /// What was asked for.
        digest: Digest,
    },
    /// It is here, whole, and has another length than was said.
    #[error("`{digest}` does not have {length} bytes")]
    OtherLength {
        /// What was asked for.
        digest: Digest,
        /// How long it was said to be, at most or exactly.
        length: u64,
    },
    /// What was given is not what its name says.
    #[error("a blob was refused")]
    Refused {
        /// What is wrong with it.
        source: ChunkError,
    },
    /// A piece of a download that does not continue it.
    #[error("the download of `{digest}` stands at {have} bytes, a piece for byte {offset} does not continue it")]
    Offset {
        /// What is downloaded.
        digest: Digest,
        /// Where the piece belongs.
        offset: u64,
        /// How many bytes there are.
        have: u64,
    },
    /// A download that grows beyond what it can be.
    #[error("the download of `{digest}` is larger than the {bytes_max} bytes it can have")]
    DownloadTooLarge {
        /// What is downloaded.
        digest: Digest,
        /// The bound.
        bytes_max: u64,
    },
}

impl ChunkStore {
    /// Opens the store in the directory `dir`, making it when it is missing.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let store = Self { blobs: dir.join("blobs"), partial: dir.join("partial") };
        fs::create_dir(&store.blobs, Access::Owner)?;
        fs::create_dir(&store.partial, Access::Owner)?;
        Ok(store)
    }

    /// Whether `digest` is here.
    #[must_use]
    pub fn has(&self, digest: Digest) -> bool {
        self.blob_path(digest).exists()
    }

    /// Those of `chunks` that are not here.
    #[must_use]
    pub fn missing(&self, chunks: &[Chunk]) -> Vec<Chunk> {
        chunks.iter().filter(|chunk| !self.has(chunk.digest)).copied().collect()
    }

    /// Keeps `plain`, whose digest must be `digest`.
    ///
    /// # Errors
    ///
    /// When it has another digest or is too large, or the system refuses.
    pub fn put_plain(&self, digest: Digest, plain: &[u8]) -> Result<(), StoreError> {
        let length = u64::try_from(plain.len()).unwrap_or(u64::MAX);
        let refused = |source| StoreError::Refused { source };
        if chunk::BLOB_BYTES_MAX < plain.len() {
            return Err(refused(ChunkError::TooLarge { digest, length }));
        }
        if Digest::of(plain) != digest {
            return Err(refused(ChunkError::Mismatch { digest }));
        }
        self.keep(digest, &chunk::compress(digest, plain).map_err(refused)?)
    }

    /// Keeps the compressed `frame` of the `length` bytes that `digest` names.
    ///
    /// # Errors
    ///
    /// When it does not decompress into these bytes, or the system refuses.
    pub fn put_frame(&self, digest: Digest, length: u64, frame: &[u8]) -> Result<(), StoreError> {
        chunk::decompress(digest, length, frame).map_err(|source| StoreError::Refused { source })?;
        self.keep(digest, frame)
    }

    /// The `length` bytes that `digest` names.
    ///
    /// # Errors
    ///
    /// When they are not here, have another length, or were damaged; damaged ones are removed.
    pub fn read(&self, digest: Digest, length: u64) -> Result<Vec<u8>, StoreError> {
        let frame = self.frame(digest, length)?;
        chunk::decompress(digest, length, &frame)
            .map_err(|source| self.unusable(digest, length, StoreError::Corrupt { digest, source }))
    }

    /// The bytes that `digest` names, whose length is not known but for a bound.
    ///
    /// # Errors
    ///
    /// When they are not here, were damaged, or are more than `bytes_max`; damaged ones are removed.
    pub fn read_capped(&self, digest: Digest, bytes_max: usize) -> Result<Vec<u8>, StoreError> {
        let length = u64::try_from(bytes_max).unwrap_or(u64::MAX);
        let frame = self.frame(digest, length)?;
        chunk::decompress_capped(digest, bytes_max, &frame)
            .map_err(|source| self.unusable(digest, length, StoreError::Corrupt { digest, source }))
    }

    /// The compressed bytes under `digest`, as they are sent to others, who check them.
    ///
    /// # Errors
    ///
    /// When they are not here, or more than `length` bytes come to.
    pub fn frame(&self, digest: Digest, length: u64) -> Result<Vec<u8>, StoreError> {
        match fs::read_capped(&self.blob_path(digest), frame_bytes_max(length)) {
            Ok(frame) => Ok(frame),
            Err(error) if error.is_not_found() => Err(StoreError::Missing { digest }),
            Err(ReadError::Fs(error)) => Err(error.into()),
            Err(ReadError::TooLarge { .. }) => Err(self.unusable(digest, length, StoreError::Oversized { digest })),
        }
    }

    /// Says that `digests` were used at `now`, for [`ChunkStore::evict`]. What is not here is passed over.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn touch(&self, digests: impl IntoIterator<Item = Digest>, now: Millis) -> Result<(), StoreError> {
        let now = std::time::UNIX_EPOCH + now.as_duration();
        for digest in digests {
            let path = self.blob_path(digest);
            match std::fs::File::open(&path).and_then(|file| file.set_modified(now)) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(FsError::of(Action::Write, &path)(source).into()),
            }
        }
        Ok(())
    }

    fn keep(&self, digest: Digest, frame: &[u8]) -> Result<(), StoreError> {
        let path = self.blob_path(digest);
        // A damaged one is written over: whoever brings it means to mend it.
        if self.is_whole(digest) {
            return Ok(());
        }
        if let Some(dir) = path.parent() {
            fs::create_dir(dir, Access::Owner)?;
        }
        Ok(fs::replace(&path, frame, Access::Owner)?)
    }

    fn blob_path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        self.blobs.join(name.get(..2).unwrap_or_default()).join(name)
    }

    /// Whether `digest` is here and is what its name says. Unlike [`Self::has`], this reads it.
    #[must_use]
    pub fn is_whole(&self, digest: Digest) -> bool {
        let bytes_max = chunk::BLOB_BYTES_MAX;
        let frame = fs::read_capped(&self.blob_path(digest), frame_bytes_max(bytes_max as u64));
        frame.is_ok_and(|frame| chunk::decompress_capped(digest, bytes_max, &frame).is_ok())
    }

    /// Why `digest` is not the `length` bytes that it was said to be. It is removed if it is damaged, as `fault` says; the
    /// length is whoever asks to answer for, and a wrong one harms nobody else.
    fn unusable(&self, digest: Digest, length: u64, fault: StoreError) -> StoreError {
        if self.is_whole(digest) {
            return StoreError::OtherLength { digest, length };
        }
        // Where that fails, the next reader finds it again.
        let _ = std::fs::remove_file(self.blob_path(digest));
        fault
    }
}

fn frame_bytes_max(length: u64) -> u64 {
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(chunk::BLOB_BYTES_MAX);
    u64::try_from(chunk::frame_bytes_max(length)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
