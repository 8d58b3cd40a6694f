//! The supervisor's own log lines: a few, so that it needs nothing that takes memory for its whole life.

use std::io::{self, Write as _};

use sloth_core::Millis;

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
    /// Writes a line. A log that takes nothing more is no reason to stop.
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
        let _ = io::stderr().write_all(line.as_bytes());
    }
}
