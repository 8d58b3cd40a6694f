//! The supervisor's own log lines: a few, so that it needs nothing that takes memory for its whole life.

use std::{
    io::{self, Write as _},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sloth_core::Millis;

/// What a pipe takes whole when it says that it takes something.
const PIECE_BYTES: usize = 4096;
/// How long a log that takes nothing is waited for, at first.
const PATIENCE: Duration = Duration::from_millis(100);

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For finding faults.
    Debug,
    /// What happens.
    Info,
    /// What should not.
    Warn,
    /// What a person must look at.
    Error,
}

/// The log, on standard error.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    /// Whether each line is a JSON object.
    pub format: LogShape,
    /// What is left out lies below.
    pub level: Level,
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogShape {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }

    /// The level that directives like `debug` or `info,sloth_protocol=trace` have for everything.
    #[must_use]
    pub fn of(directives: &str) -> Self {
        let words = directives.split(',').map(|word| word.trim().to_ascii_lowercase());
        words
            .filter_map(|word| match word.as_str() {
                "trace" | "debug" => Some(Self::Debug),
                "info" => Some(Self::Info),
                "warn" => Some(Self::Warn),
                "error" | "off" => Some(Self::Error),
                _ => None,
            })
            .next_back()
            .unwrap_or(Self::Info)
    }
}

impl Log {
    /// Writes a line.
    pub fn line(&self, at: Millis, level: Level, message: &str) {
        if level < self.level {
            return;
        }
        let name = level.name();
        let line = match self.format {
            LogShape::Text => format!("{at} {name:>5} supervisor: {message}\n"),
            LogShape::Json => {
                let at = at.to_string();
                let line =
                    serde_json::json!({ "timestamp": at, "level": name, "message": message, "target": "supervisor" });
                format!("{line}\n")
            }
        };
        put(line.as_bytes());
    }
}

/// Passes bytes on to standard error. What it does not take in time is left out, and how much that was is told once it
/// takes something again: a log that stands still must not keep a supervisor from its work.
pub(super) fn put(bytes: &[u8]) {
    /// Bytes that were left out since the log took something last.
    static LEFT_OUT: AtomicUsize = AtomicUsize::new(0);
    let patience = if LEFT_OUT.load(Ordering::Relaxed) == 0 { PATIENCE } else { Duration::ZERO };
    let mut pieces = bytes.chunks(PIECE_BYTES);
    for piece in &mut pieces {
        if !takes(patience) {
            let left = piece.len() + pieces.map(<[u8]>::len).sum::<usize>();
            LEFT_OUT.fetch_add(left, Ordering::Relaxed);
            return;
        }
        let gap = LEFT_OUT.swap(0, Ordering::Relaxed);
        if gap != 0 {
            let _ =
                io::stderr().write_all(format!("\nsupervisor: {gap} bytes of the log are left out here\n").as_bytes());
        }
        let _ = io::stderr().write_all(piece);
    }
}

/// Whether standard error takes a piece at once, or before `patience` is over.
fn takes(patience: Duration) -> bool {
    let stderr = io::stderr();
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    let wait = Timespec::try_from(patience).ok();
    // One that is closed takes everything, and loses it.
    matches!(poll(&mut fds, wait.as_ref()), Ok(1..))
}
