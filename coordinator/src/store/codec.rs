//! Values on the disk: a version byte and postcard.

use serde::{Serialize, de::DeserializeOwned};

/// The first byte of every value. A value of another shape gets another version and a way to read this one.
const VERSION: u8 = 1;

/// Bytes that are not the value they should be, or a value that has no bytes.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// It is in another version.
    #[error("its value is of version {found}, and this program reads {VERSION}")]
    Version {
        /// Which one.
        found: u8,
    },
    /// There is nothing.
    #[error("its value is empty")]
    Empty,
    /// There is more than the value.
    #[error("its value is followed by {bytes} bytes")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// It is something else.
    #[error("its value cannot be read")]
    Malformed(#[source] postcard::Error),
    /// It cannot be written.
    #[error("its value cannot be written")]
    Encode(#[source] postcard::Error),
}

pub(super) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    postcard::to_extend(value, vec![VERSION]).map_err(CodecError::Encode)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (version, body) = bytes.split_first().ok_or(CodecError::Empty)?;
    if *version != VERSION {
        return Err(CodecError::Version { found: *version });
    }
    let (value, rest) = postcard::take_from_bytes(body).map_err(CodecError::Malformed)?;
    if rest.is_empty() { Ok(value) } else { Err(CodecError::Trailing { bytes: rest.len() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_values_of_this_version_are_read() {
        let bytes = encode("hello").expect("written");
        assert_eq!(decode::<String>(&bytes).expect("read"), "hello");
        assert!(matches!(decode::<String>(&[]), Err(CodecError::Empty)));
        assert!(matches!(decode::<String>(&[2, 0]), Err(CodecError::Version { found: 2 })));
        assert!(matches!(decode::<String>(&bytes[..3]), Err(CodecError::Malformed(_))));
        assert!(matches!(decode::<String>(&[&bytes[..], &[0]].concat()), Err(CodecError::Trailing { bytes: 1 })));
    }
}
