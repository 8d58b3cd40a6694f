//! Frames between daemon and worker, for threads and for tasks.

use std::io::{self, Read};

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::protocol::FRAME_BYTES_MAX;

const HEADER_BYTES: usize = 4;
/// What is set aside for reading.
const READ_BYTES: usize = 16 * 1024;

/// Why there is no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The socket failed.
    #[error("the socket failed")]
    Io(#[from] io::Error),
    /// The other side ended within a frame.
    #[error("the other side ended within a message")]
    Cut,
    /// More than a frame takes.
    #[error("a message of {bytes} bytes is over the limit of {FRAME_BYTES_MAX}")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// Not a message.
    #[error("what came is not a message")]
    Postcard(#[from] postcard::Error),
}

/// The frame of `message`, header included.
///
/// # Errors
///
/// When it is longer than a frame may be.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = postcard::to_extend(message, vec![0; HEADER_BYTES])?;
    let bytes = frame.len() - HEADER_BYTES;
    let length = u32::try_from(bytes).ok().filter(|_| bytes <= FRAME_BYTES_MAX).ok_or(FrameError::TooLong { bytes })?;
    frame[..HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// Waits for a frame; none when the other side has ended. Blocks.
///
/// # Errors
///
/// See [`FrameError`].
pub fn read<T: DeserializeOwned>(socket: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut header = [0; HEADER_BYTES];
    let mut have = 0;
    while have < HEADER_BYTES {
        match socket.read(&mut header[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(FrameError::Cut),
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let length = length(header)?;
    let mut body = Vec::with_capacity(length.min(READ_BYTES));
    let wanted = u64::try_from(length).unwrap_or(u64::MAX);
    socket.take(wanted).read_to_end(&mut body)?;
    if body.len() < length {
        return Err(FrameError::Cut);
    }
    decode(&body).map(Some)
}

/// Reads frames in a task. Waiting for the next one can be given up at any time without losing its place.
#[derive(Debug)]
pub struct FrameReader<R> {
    socket: R,
    buffer: Vec<u8>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads from `socket`.
    pub const fn new(socket: R) -> Self {
        Self { socket, buffer: Vec::new() }
    }

    /// The next frame; none when the other side has ended.
    ///
    /// # Errors
    ///
    /// See [`FrameError`].
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            self.buffer.reserve(READ_BYTES);
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(FrameError::Cut) };
            }
        }
    }

    /// The first frame of the buffer, if all of it is there.
    fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some((header, rest)) = self.buffer.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let length = length(*header)?;
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = decode(body)?;
        self.buffer.drain(..HEADER_BYTES + length);
        if self.buffer.is_empty() && READ_BYTES < self.buffer.capacity() {
            // One large message must not cost memory for ever.
            self.buffer = Vec::new();
        }
        Ok(Some(message))
    }
}

fn length(header: [u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    let bytes = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if bytes <= FRAME_BYTES_MAX { Ok(bytes) } else { Err(FrameError::TooLong { bytes }) }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    let (message, rest) = postcard::take_from_bytes(body)?;
    if rest.is_empty() { Ok(message) } else { Err(postcard::Error::DeserializeBadEncoding.into()) }
}

#[cfg(test)]
mod tests {
    use sloth_core::{Labels, Millis, RunId};
    use sloth_protocol::wire::{LogStream, OnInterrupt, RunEnd, RunOutcome, TaskEnd, TaskName, TaskStatus};

    use super::*;
    use crate::worker::protocol::{Begin, FromWorker, Resume, ToWorker};

    fn task() -> TaskName {
        TaskName { workflow: "w".into(), task: "t".into() }
    }

    fn end() -> TaskEnd {
        let (message, outputs) = ("m".to_owned(), "{}".to_owned());
        let (started, ended) = (Millis::ZERO, Millis::from_u64(1));
        TaskEnd { task: task(), status: TaskStatus::Failed, attempts: 2, message, outputs, started, ended }
    }

    fn to_worker() -> Vec<ToWorker> {
        let begin = Begin {
            run: RunId::new(Millis::ZERO, 5),
            bundle_dir: "/b".into(),
            file: "a.sloth".into(),
            workflow: Some("w".into()),
            values: "{\"a\":1}".into(),
            capabilities: vec!["exec".into()],
            workdir: "/r".into(),
            agent: "web-1".into(),
            labels: Labels::from([("role".into(), "web".into())]),
            log_bytes_per_task: 7,
        };
        vec![
            ToWorker::Begin(Box::new(begin)),
            ToWorker::Resume(Resume::Ended(end())),
            ToWorker::Resume(Resume::Begun { task: task(), attempts: 3 }),
            ToWorker::Run,
            ToWorker::Go { task: task() },
            ToWorker::Noted { task: task() },
            ToWorker::Cancel,
            ToWorker::StateReply { id: 1, reply: Ok("x".repeat(100_000)) },
            ToWorker::StateReply { id: 2, reply: Err("no".into()) },
        ]
    }

    fn from_worker() -> Vec<FromWorker> {
        let run_end = RunEnd { outcome: RunOutcome::Cancelled, message: "m".into(), outputs: "{}".into() };
        vec![
            FromWorker::Starting { task: task(), attempt: 1, on_interrupt: OnInterrupt::Fail },
            FromWorker::Ended(end()),
            FromWorker::RunEnded(run_end),
            FromWorker::Log { task: None, stream: LogStream::Stderr, text: "a\nb".into() },
            FromWorker::State { id: 9, operation: "{}".into() },
        ]
    }

    #[tokio::test]
    async fn messages_come_back_however_they_are_cut() {
        let bytes: Vec<u8> = to_worker().iter().flat_map(|message| encode(message).expect("encoded")).collect();
        let mut socket = bytes.as_slice();
        let mut read_back = Vec::new();
        while let Some(message) = read::<ToWorker>(&mut socket).expect("read") {
            read_back.push(message);
        }
        assert_eq!(read_back, to_worker());

        let bytes: Vec<u8> = from_worker().iter().flat_map(|message| encode(message).expect("encoded")).collect();
        for size in [1, 3, 7, 1000] {
            let pieces = bytes.chunks(size).fold(tokio_test_reader(), |builder, piece| builder.with(piece));
            let mut reader = FrameReader::new(pieces);
            let mut read_back = Vec::new();
            while let Some(message) = reader.next::<FromWorker>().await.expect("read") {
                read_back.push(message);
            }
            assert_eq!(read_back, from_worker(), "in pieces of {size}");
        }
    }

    #[tokio::test]
    async fn what_is_no_frame_is_refused() {
        let long = u32::try_from(FRAME_BYTES_MAX + 1).expect("fits").to_be_bytes();
        let whole = encode(&ToWorker::Run).expect("encoded");
        let trailing = [&2_u32.to_be_bytes()[..], &whole[HEADER_BYTES..], &[0]].concat();
        for (bytes, expected) in [
            (&long[..], "over the limit"),
            (&[0, 0], "within a message"),
            (&[0, 0, 0, 9, 1], "within a message"),
            (&[0, 0, 0, 1, 99], "not a message"),
            (&trailing, "not a message"),
        ] {
            let error = read::<ToWorker>(&mut &*bytes).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
            let error = FrameReader::new(bytes).next::<ToWorker>().await.expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
        let large = ToWorker::StateReply { id: 1, reply: Ok("x".repeat(FRAME_BYTES_MAX)) };
        assert!(matches!(encode(&large), Err(FrameError::TooLong { .. })));
    }

    /// Gives its pieces one at a time.
    struct Pieces(std::collections::VecDeque<Vec<u8>>);

    fn tokio_test_reader() -> Pieces {
        Pieces(std::collections::VecDeque::new())
    }

    impl Pieces {
        fn with(mut self, piece: &[u8]) -> Self {
            self.0.push_back(piece.to_vec());
            self
        }
    }

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _context: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            if let Some(piece) = self.0.pop_front() {
                buffer.put_slice(&piece);
            }
            std::task::Poll::Ready(Ok(()))
        }
    }
}
