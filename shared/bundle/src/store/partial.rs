//! Downloads that go on where they stopped.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use sloth_core::{
    Digest,
    fs::{self, Action, FsError, ReadError},
};

use super::{ChunkStore, StoreError, frame_bytes_max};

/// The mode of a download: nobody else reads what was not checked.
const PARTIAL_MODE: u32 = 0o600;

impl ChunkStore {
    /// How many compressed bytes of `digest` were downloaded so far: the offset to go on at.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn partial_len(&self, digest: Digest) -> Result<u64, StoreError> {
        let path = self.partial_path(digest);
        match std::fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(source) => Err(FsError::of(Action::Read, &path)(source).into()),
        }
    }

    /// Adds the compressed `bytes` at `offset` to the download of the `length` bytes that `digest` names. Returns
    /// where it stands. One task at a time downloads one digest.
    ///
    /// # Errors
    ///
    /// When they do not continue the download, or it becomes larger than `length` bytes can be.
    pub fn append_partial(&self, digest: Digest, length: u64, offset: u64, bytes: &[u8]) -> Result<u64, StoreError> {
        let have = self.partial_len(digest)?;
        if have != offset {
            return Err(StoreError::Offset { digest, offset, have });
        }
        let (bytes_max, added) = (frame_bytes_max(length), u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let len = have.saturating_add(added);
        if bytes_max < len {
            return Err(StoreError::DownloadTooLarge { digest, bytes_max });
        }
        let path = self.partial_path(digest);
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(PARTIAL_MODE)
            .open(&path)
            .and_then(|mut file| file.write_all(bytes))
            .map_err(FsError::of(Action::Write, &path))?;
        Ok(len)
    }

    /// Ends the download of the `length` bytes that `digest` names: checks what there is and keeps it. Whether
    /// it was good or not, the next download begins at zero.
    ///
    /// # Errors
    ///
    /// When what was downloaded is not what `digest` names.
    pub fn finish_partial(&self, digest: Digest, length: u64) -> Result<(), StoreError> {
        let path = self.partial_path(digest);
        let frame = fs::read_capped(&path, frame_bytes_max(length)).map_err(|error| match error {
            ReadError::Fs(error) if error.source.kind() == ErrorKind::NotFound => StoreError::Missing { digest },
            ReadError::Fs(error) => error.into(),
            ReadError::TooLarge { bytes_max, .. } => StoreError::DownloadTooLarge { digest, bytes_max },
        });
        let kept = frame.and_then(|frame| self.put_frame(digest, length, &frame));
        match (kept, self.forget_partial(digest)) {
            (Err(error), _) | (Ok(()), Err(error)) => Err(error),
            (Ok(()), Ok(())) => Ok(()),
        }
    }

    /// Drops what was downloaded of `digest`.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn forget_partial(&self, digest: Digest) -> Result<(), StoreError> {
        let path = self.partial_path(digest);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(source) => Err(FsError::of(Action::Remove, &path)(source).into()),
        }
    }

    fn partial_path(&self, digest: Digest) -> PathBuf {
        self.partial.join(digest.to_string())
    }
}
