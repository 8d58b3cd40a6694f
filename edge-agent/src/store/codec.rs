//! Values on the disk: a version byte, then postcard.

use serde::{Serialize, de::DeserializeOwned};

/// The version of every value that this build writes.
const VALUE_VERSION: u8 = 1;

/// Bytes that are not the value that should be there.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Written by a later release, or by nobody.
    #[error("a value has version {found:?}, this sloth-agent reads version {VALUE_VERSION}")]
    Version {
        /// Its first byte.
        found: Option<u8>,
    },
    /// Not such a value.
    #[error("a value cannot be read")]
    Postcard(#[from] postcard::Error),
    /// A value and then more.
    #[error("a value has {bytes} bytes too many")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    Ok(postcard::to_extend(value, vec![VALUE_VERSION])?)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match bytes.split_first() {
        Some((&VALUE_VERSION, rest)) => decode_plain(rest),
        first => Err(CodecError::Version { found: first.map(|(version, _)| *version) }),
    }
}

/// A value without a version: a part of a key.
pub(super) fn decode_plain<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, rest) = postcard::take_from_bytes(bytes)?;
    if rest.is_empty() { Ok(value) } else { Err(CodecError::Trailing { bytes: rest.len() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_value_is_refused() {
        let bytes = encode(&(7_u64, "text")).expect("encoded");
        assert_eq!(bytes[0], VALUE_VERSION);
        assert_eq!(decode::<(u64, String)>(&bytes).expect("decoded"), (7, "text".to_owned()));
        let longer = [bytes.as_slice(), &[0]].concat();
        let newer = [&[VALUE_VERSION + 1], &bytes[1..]].concat();
        for bytes in [&[][..], &bytes[..3], &longer, &newer] {
            assert!(decode::<(u64, String)>(bytes).is_err(), "{bytes:?}");
        }
    }
}
