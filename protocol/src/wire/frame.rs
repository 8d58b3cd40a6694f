//! Frames: a length, then that many bytes.

use serde::{Serialize, de::DeserializeOwned};

/// Bytes of a frame's length field.
pub const FRAME_HEADER_BYTES: usize = 4;
/// Most bytes of a frame's body from a peer that showed a certificate.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes of a frame's body from a peer that did not.
pub const FRAME_UNAUTHENTICATED_BYTES_MAX: usize = 16 * 1024;

/// A message that cannot be framed.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// Its bytes are over [`FRAME_BYTES_MAX`].
    #[error("a message of {bytes} bytes is over the limit of {FRAME_BYTES_MAX}")]
    TooLong {
        /// How long it would have been.
        bytes: usize,
    },
    /// It holds something that postcard cannot write.
    #[error("cannot encode a message")]
    Postcard(#[source] postcard::Error),
}

/// A frame whose body is not the message that was expected.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not such a message.
    #[error("the peer sent what is not a message of this protocol")]
    Postcard(#[source] postcard::Error),
    /// A message and then more.
    #[error("the peer sent {bytes} bytes more than its message")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

/// A frame's length is over what its sender may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer announced a frame of {length} bytes, over the limit of {max}")]
pub struct TooLong {
    /// What the header says.
    pub length: usize,
    /// What is allowed.
    pub max: usize,
}

/// The frame that carries `message`, header included.
///
/// # Errors
///
/// When the body would be over [`FRAME_BYTES_MAX`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, EncodeError> {
    let mut frame = postcard::to_extend(message, vec![0; FRAME_HEADER_BYTES]).map_err(EncodeError::Postcard)?;
    let bytes = frame.len() - FRAME_HEADER_BYTES;
    match u32::try_from(bytes) {
        Ok(length) if bytes <= FRAME_BYTES_MAX => {
            frame[..FRAME_HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
            Ok(frame)
        }
        _ => Err(EncodeError::TooLong { bytes }),
    }
}

/// The message in a frame's body.
///
/// # Errors
///
/// When the bytes are not exactly one such message.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    let (message, rest) = postcard::take_from_bytes(body).map_err(DecodeError::Postcard)?;
    if rest.is_empty() { Ok(message) } else { Err(DecodeError::Trailing { bytes: rest.len() }) }
}

/// The body's length that a frame's header announces.
///
/// # Errors
///
/// When it is over `max`; nothing of the body must be read then.
pub fn frame_length(header: [u8; FRAME_HEADER_BYTES], max: usize) -> Result<usize, TooLong> {
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if length <= max { Ok(length) } else { Err(TooLong { length, max }) }
}
