//! Messages on streams: one request a stream, each message a frame.

use quinn::{Connection, ConnectionError, ReadError, ReadExactError, RecvStream, SendStream, WriteError};
use serde::{Serialize, de::DeserializeOwned};
use sloth_protocol::wire::{
    self, DecodeError, EncodeError, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, TooLong, frame_length,
};

use crate::{close::Lost, settings::Priority};

/// What is set aside for a frame before any of it has come: a length alone must not cost memory.
const FIRST_BYTES: usize = 16 * 1024;

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It cannot be framed.
    #[error("cannot frame the message")]
    Encode {
        /// Why.
        #[from]
        source: EncodeError,
    },
    /// The peer does not read on. What it has to say may be on the other direction of the stream.
    #[error("the peer stopped reading (code {code})")]
    Stopped {
        /// Why, if it meant anything by it.
        code: u64,
    },
    /// The stream was finished before, on this side.
    #[error("the stream was finished on this side already")]
    Finished,
    /// The connection is no more.
    #[error("the connection was lost while sending")]
    Lost {
        /// Why.
        source: Lost,
    },
}

/// Why no message came.
#[derive(Debug, thiserror::Error)]
pub enum RecvError {
    /// The peer has nothing more to say. After the last message this is no error.
    #[error("the peer ended the stream without a message")]
    Finished,
    /// The peer ended the stream within a message.
    #[error("the peer ended the stream within a message")]
    Cut,
    /// The peer gave up the stream.
    #[error("the peer gave up the stream (code {code})")]
    Reset {
        /// Why, if it meant anything by it.
        code: u64,
    },
    /// The message is over the limit. Nothing of it was read.
    #[error("the peer's message is too long")]
    TooLong {
        /// By how much.
        #[from]
        source: TooLong,
    },
    /// The bytes are not such a message.
    #[error("cannot read the peer's message")]
    Malformed {
        /// Why.
        #[from]
        source: DecodeError,
    },
    /// The stream was closed before, on this side.
    #[error("the stream was closed on this side already")]
    Closed,
    /// The connection is no more.
    #[error("the connection was lost while waiting for a message")]
    Lost {
        /// Why.
        source: Lost,
    },
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No stream could be opened.
    #[error("the connection was lost before the request was sent")]
    Open {
        /// Why.
        source: Lost,
    },
    /// The request was not sent.
    #[error("cannot send the request")]
    Send {
        /// Why.
        source: SendError,
    },
    /// No answer came.
    #[error("there is no answer to the request")]
    Recv {
        /// Why.
        source: RecvError,
    },
}

impl RequestError {
    /// Why the connection is no more, if that is the reason.
    #[must_use]
    pub const fn lost(&self) -> Option<&Lost> {
        match self {
            Self::Open { source }
            | Self::Send { source: SendError::Lost { source } }
            | Self::Recv { source: RecvError::Lost { source } } => Some(source),
            Self::Send { source: SendError::Encode { .. } | SendError::Stopped { .. } | SendError::Finished }
            | Self::Recv {
                source:
                    RecvError::Finished
                    | RecvError::Cut
                    | RecvError::Reset { .. }
                    | RecvError::TooLong { .. }
                    | RecvError::Malformed { .. }
                    | RecvError::Closed,
            } => None,
        }
    }
}

/// Sends one message. The stream stays open for more; a stream that is dropped is finished.
///
/// # Errors
///
/// When the message is too long, the peer does not read on, or the connection is lost.
pub async fn send<T: Serialize>(stream: &mut SendStream, message: &T) -> Result<(), SendError> {
    let frame = wire::encode(message)?;
    stream.write_all(&frame).await.map_err(|error| match error {
        WriteError::Stopped(code) => SendError::Stopped { code: code.into_inner() },
        WriteError::ConnectionLost(error) => SendError::Lost { source: error.into() },
        WriteError::ClosedStream | WriteError::ZeroRttRejected => SendError::Finished,
    })
}

/// Waits for one message whose body has `max` bytes at most. Not cancel safe: a stream on which a call was dropped
/// half-way has lost its place.
///
/// # Errors
///
/// See [`RecvError`]. Whatever it is, no more than `max` bytes were held.
pub async fn recv<T: DeserializeOwned>(stream: &mut RecvStream, max: usize) -> Result<T, RecvError> {
    let mut header = [0; FRAME_HEADER_BYTES];
    stream.read_exact(&mut header).await.map_err(|error| match error {
        ReadExactError::FinishedEarly(0) => RecvError::Finished,
        ReadExactError::FinishedEarly(_) => RecvError::Cut,
        ReadExactError::ReadError(error) => error.into(),
    })?;
    let length = frame_length(header, max)?;
    let mut body = Vec::with_capacity(length.min(FIRST_BYTES));
    while body.len() < length {
        match stream.read_chunk(length - body.len(), true).await? {
            Some(chunk) => body.extend_from_slice(&chunk.bytes),
            None => return Err(RecvError::Cut),
        }
    }
    Ok(wire::decode(&body)?)
}

/// Asks on a stream of its own and waits for the answer. What follows the answer is on the stream that is returned.
/// There is no time limit but the connection's: see [`crate::settings::REQUEST_TIMEOUT`].
///
/// # Errors
///
/// When the request cannot be sent, no answer comes, or the answer is not a `Resp`.
pub async fn request<Req: Serialize, Resp: DeserializeOwned>(
    connection: &Connection,
    message: &Req,
    priority: Priority,
) -> Result<(Resp, RecvStream), RequestError> {
    let (mut sending, mut receiving) =
        connection.open_bi().await.map_err(|error| RequestError::Open { source: error.into() })?;
    priority.apply(&sending);
    match send(&mut sending, message).await {
        // Finishing twice is the only failure, and this is the first time.
        Ok(()) => drop(sending.finish()),
        // Who refuses a request before its end has answered already.
        Err(SendError::Stopped { .. }) => {}
        Err(source) => return Err(RequestError::Send { source }),
    }
    match recv(&mut receiving, FRAME_BYTES_MAX).await {
        Ok(answer) => Ok((answer, receiving)),
        Err(source) => Err(RequestError::Recv { source }),
    }
}

impl From<ReadError> for RecvError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Reset { code: code.into_inner() },
            ReadError::ConnectionLost(error) => Self::from(error),
            ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => Self::Closed,
        }
    }
}

impl From<ConnectionError> for RecvError {
    fn from(error: ConnectionError) -> Self {
        Self::Lost { source: error.into() }
    }
}
