//! Chunks: pieces of files, named by their content, compressed on disk and on the wire.

use sloth_core::Digest;

use crate::limits::{CHUNK_BYTES_MAX, MANIFEST_BYTES_MAX};

/// How hard zstd tries. Bundles are packed once and read by every agent, and level 3 keeps packing at disk speed.
const ZSTD_LEVEL: i32 = 3;

/// Most bytes of a compressed chunk: what zstd makes of one that cannot be compressed.
pub const FRAME_BYTES_MAX: usize = frame_bytes_max(CHUNK_BYTES_MAX);
/// Most bytes that one name in a store may stand for: a manifest's.
pub const BLOB_BYTES_MAX: usize = MANIFEST_BYTES_MAX;

/// A piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chunk {
    /// The digest of its bytes, before compression.
    pub digest: Digest,
    /// How many bytes it has, before compression.
    pub length: u32,
}

/// Bytes that are not what they were to be.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// The name stands for more than any chunk or manifest has.
    #[error("`{digest}` claims {length} bytes, at most {BLOB_BYTES_MAX} are taken")]
    TooLarge {
        /// What was asked for.
        digest: Digest,
        /// The bytes it claims.
        length: u64,
    },
    /// It cannot be decompressed, or into more bytes than it may have.
    #[error("`{digest}` cannot be decompressed into its {length} bytes")]
    Decompress {
        /// What was asked for.
        digest: Digest,
        /// The bytes it is to have.
        length: u64,
        /// What zstd said.
        source: std::io::Error,
    },
    /// It decompresses into other bytes.
    #[error("the bytes given for `{digest}` are others")]
    Mismatch {
        /// What was asked for.
        digest: Digest,
    },
    /// It cannot be compressed.
    #[error("`{digest}` cannot be compressed")]
    Compress {
        /// What was to be compressed.
        digest: Digest,
        /// What zstd said.
        source: std::io::Error,
    },
}

/// Most bytes that `length` bytes come to when they are compressed.
#[must_use]
pub const fn frame_bytes_max(length: usize) -> usize {
    // Zstandard's own bound is a little lower: 1/256, and 64 bytes for small inputs.
    length + length / 128 + 1024
}

/// Compresses `plain`, whose digest is `digest`.
///
/// # Errors
///
/// When zstd fails, as it does without memory.
pub fn compress(digest: Digest, plain: &[u8]) -> Result<Vec<u8>, ChunkError> {
    zstd::bulk::compress(plain, ZSTD_LEVEL).map_err(|source| ChunkError::Compress { digest, source })
}

/// The `length` bytes named `digest` from their compressed form. Whatever `frame` claims, no more than `length`
/// bytes are written.
///
/// # Errors
///
/// When they are not those bytes.
pub fn decompress(digest: Digest, length: u64, frame: &[u8]) -> Result<Vec<u8>, ChunkError> {
    let capacity = usize::try_from(length)
        .ok()
        .filter(|length| *length <= BLOB_BYTES_MAX)
        .ok_or(ChunkError::TooLarge { digest, length })?;
    let plain = decompress_capped(digest, capacity, frame)?;
    if plain.len() == capacity { Ok(plain) } else { Err(ChunkError::Mismatch { digest }) }
}

/// The bytes named `digest` from their compressed form. Whatever `frame` claims, no more than `bytes_max` are
/// written.
///
/// # Errors
///
/// When they are not those bytes, or more.
pub fn decompress_capped(digest: Digest, bytes_max: usize, frame: &[u8]) -> Result<Vec<u8>, ChunkError> {
    let length = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    let plain =
        zstd::bulk::decompress(frame, bytes_max).map_err(|source| ChunkError::Decompress { digest, length, source })?;
    if Digest::of(&plain) == digest { Ok(plain) } else { Err(ChunkError::Mismatch { digest }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_nothing_else_does() {
        let plain = b"some workflow ".repeat(100);
        let (digest, length) = (Digest::of(&plain), 1400);
        let frame = compress(digest, &plain).expect("compressed");
        assert!(frame.len() < plain.len());
        assert_eq!(decompress(digest, length, &frame).expect("the same"), plain);

        for cut in 0..frame.len() {
            assert!(decompress(digest, length, &frame[..cut]).is_err(), "cut at {cut}");
        }
        assert!(matches!(decompress(Digest::of(b"x"), length, &frame), Err(ChunkError::Mismatch { .. })));
        assert!(decompress(digest, length + 1, &frame).is_err());
        assert!(decompress(digest, u64::MAX, &frame).is_err());
        assert_eq!(decompress_capped(digest, 2000, &frame).expect("the same"), plain);
        assert!(
            decompress_capped(digest, 1399, &frame).is_err()
                && decompress_capped(Digest::of(b"x"), 2000, &frame).is_err()
        );
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let bomb = zstd::bulk::compress(&vec![0; 100 << 20], 19).expect("compressed");
        assert!(bomb.len() < 20_000);
        let refused = decompress(Digest::of(b"x"), 1000, &bomb);
        assert!(matches!(refused, Err(ChunkError::Decompress { .. })), "{refused:?}");
    }

    #[test]
    fn what_cannot_be_compressed_fits_its_bound() {
        let mut state = 1_u64;
        let noise: Vec<u8> = (0..CHUNK_BYTES_MAX)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()[0]
            })
            .collect();
        for length in [0, 1, 100, CHUNK_BYTES_MAX] {
            let plain = &noise[..length];
            let frame = compress(Digest::of(plain), plain).expect("compressed");
            assert!(frame.len() <= frame_bytes_max(length), "{length} became {}", frame.len());
        }
    }
}
