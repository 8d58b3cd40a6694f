//! The streams of a command: kept under a bound, and handed on line by line.

use std::cell::RefCell;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::ChildStdin,
};

use super::Command;
use crate::host::Stream;

const READ_BUFFER_BYTES: usize = 16 * 1024;

/// What was read of one stream, and the line that is not complete yet.
pub(super) struct Capture<'a> {
    stream: Stream,
    sink: &'a dyn Fn(Stream, String),
    pub(super) bytes: Vec<u8>,
    bytes_max: usize,
    pub(super) truncated: bool,
    line: Vec<u8>,
    line_bytes_max: usize,
}

impl<'a> Capture<'a> {
    pub(super) fn new(stream: Stream, command: &Command, sink: &'a dyn Fn(Stream, String)) -> Self {
        Self {
            stream,
            sink,
            bytes: Vec::new(),
            bytes_max: command.capture_bytes_max,
            truncated: false,
            line: Vec::new(),
            line_bytes_max: command.line_bytes_max.max(1),
        }
    }

    fn push(&mut self, chunk: &[u8]) {
        let room = self.bytes_max.saturating_sub(self.bytes.len());
        self.truncated |= room < chunk.len();
        self.bytes.extend_from_slice(&chunk[..room.min(chunk.len())]);
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            for part in piece.chunks(self.line_bytes_max) {
                if self.line_bytes_max < self.line.len() + part.len() {
                    self.emit();
                }
                self.line.extend_from_slice(part);
            }
            if piece.ends_with(b"\n") {
                self.emit();
            }
        }
    }

    fn emit(&mut self) {
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        (self.sink)(self.stream, String::from_utf8_lossy(line).into_owned());
        self.line.clear();
    }

    pub(super) fn finish(mut self) -> Self {
        if !self.line.is_empty() {
            self.emit();
        }
        self
    }
}

pub(super) async fn feed(stdin: Option<ChildStdin>, bytes: &[u8]) {
    if let Some(mut stdin) = stdin {
        // A command that does not read to the end is free not to.
        let _ = stdin.write_all(bytes).await;
    }
}

pub(super) async fn drain(pipe: Option<impl AsyncRead + Unpin>, capture: &RefCell<Capture<'_>>) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    // An error of a pipe is its end: the command's own end is told by its status.
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        capture.borrow_mut().push(&buffer[..count]);
        // A command that prints without end leaves the others, and the timers, their turn.
        if count == buffer.len() {
            tokio::task::yield_now().await;
        }
    }
}
