//! Deltas: one version of a file as what it takes beyond another.
//!
//! Compilers shift addresses all over a program, so that two versions of one have hardly a chunk in common, though
//! nearly everything is alike. A delta is a zstd frame with the old version as its dictionary.

use std::io::{self, Read, Write as _};

use zstd::stream::{read::Decoder, write::Encoder};

/// How hard zstd tries: a release is made once, and level 9 takes about a second for a program of 16 MiB.
const ZSTD_LEVEL: i32 = 9;
/// Bytes, as powers of two, over which zstd looks for what is alike: as many as the versions have, and no more than it
/// takes memory for.
const WINDOW_LOG_MIN: u32 = 20;
/// See [`WINDOW_LOG_MIN`].
const WINDOW_LOG_MAX: u32 = 27;

/// Why there is no delta, or nothing comes of it.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// It cannot be made.
    #[error("no delta can be made")]
    Make {
        /// What zstd said.
        source: io::Error,
    },
    /// It is not one for this old version.
    #[error("the delta does not fit what it was to be applied to")]
    Apply {
        /// What zstd said.
        source: io::Error,
    },
    /// It makes more or less than it was to.
    #[error("the delta makes other than the {length} bytes that it was to make")]
    Length {
        /// How many were wanted.
        length: u64,
    },
}

/// What `new` takes beyond `old`.
///
/// # Errors
///
/// When zstd fails, as it does without memory.
pub fn delta(old: &[u8], new: &[u8]) -> Result<Vec<u8>, DeltaError> {
    let make = || {
        let mut made = Vec::new();
        let mut encoder = Encoder::with_ref_prefix(&mut made, ZSTD_LEVEL, old)?;
        encoder.long_distance_matching(true)?;
        encoder.window_log(window_log(old.len().max(new.len())))?;
        encoder.write_all(new)?;
        encoder.finish()?;
        Ok(made)
    };
    make().map_err(|source| DeltaError::Make { source })
}

/// The `length` bytes that `delta` makes of `old`. Whatever the delta claims, no more are written. What comes is to be
/// compared with its digest.
///
/// # Errors
///
/// When the delta is not for `old`, or makes another number of bytes.
pub fn apply(old: &[u8], delta: &[u8], length: u64) -> Result<Vec<u8>, DeltaError> {
    let apply = || {
        let mut decoder = Decoder::with_ref_prefix(delta, old)?;
        decoder.window_log_max(WINDOW_LOG_MAX)?;
        let mut made = Vec::new();
        decoder.take(length.saturating_add(1)).read_to_end(&mut made)?;
        Ok(made)
    };
    let made = apply().map_err(|source| DeltaError::Apply { source })?;
    if u64::try_from(made.len()) == Ok(length) { Ok(made) } else { Err(DeltaError::Length { length }) }
}

fn window_log(bytes: usize) -> u32 {
    bytes.next_power_of_two().trailing_zeros().clamp(WINDOW_LOG_MIN, WINDOW_LOG_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program: code that calls by distance, so that an insertion changes a few bytes of nearly everything.
    fn program(shift: u32) -> Vec<u8> {
        let mut state = 7_u32;
        let mut code = Vec::new();
        for at in 0..200_000_u32 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            code.extend(state.to_le_bytes());
            if at % 5 == 0 {
                code.extend((at * 16 + shift).to_le_bytes());
            }
        }
        code
    }

    #[test]
    fn a_new_version_is_made_of_the_old_one() {
        let (old, new) = (program(0), program(64));
        let made = delta(&old, &new).expect("made");
        assert!(made.len() < new.len() / 2, "{} of {} bytes", made.len(), new.len());
        let length = new.len() as u64;
        assert!(apply(&old, &made, length).expect("applied") == new);
        for wrong in [length - 1, length + 1, 0] {
            assert!(matches!(apply(&old, &made, wrong), Err(DeltaError::Length { .. })), "{wrong}");
        }
        assert!(apply(&vec![0; old.len()], &made, length).ok().as_ref() != Some(&new), "another old version");
        for cut in [0, 1, 10, made.len() - 1] {
            assert!(apply(&old, &made[..cut], length).is_err(), "cut at {cut}");
        }
        let mut state = 1_usize;
        for _ in 0..200 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut changed = made.clone();
            let at = (state >> 20) % changed.len();
            changed[at] ^= 0x55;
            // It may still make something; that is compared with its digest.
            let _ = apply(&old, &changed, length);
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let bomb = delta(b"old", &vec![0; 64 << 20]).expect("made");
        assert!(bomb.len() < 100_000);
        assert!(matches!(apply(b"old", &bomb, 1000), Err(DeltaError::Length { .. })));
    }
}
