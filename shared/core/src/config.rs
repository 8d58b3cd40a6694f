//! Configuration files: TOML, with errors that say where.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
pub use toml::Spanned;

use crate::{
    Millis,
    fs::{self, ReadError},
};

/// Most bytes of a configuration file.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// Why a configuration file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It could not be read.
    #[error(transparent)]
    Read {
        /// What stood in the way; it names the file.
        source: ReadError,
    },
    /// It is not what was wanted.
    #[error("`{}`, line {line}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where in it, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
}

/// Reads the TOML file at `path`. That unknown keys are refused is for `T` to say (`deny_unknown_fields`).
///
/// # Errors
///
/// When the file cannot be read, is larger than [`CONFIG_BYTES_MAX`], is not UTF-8, or does not hold a `T`.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let bytes = fs::read_capped(path, CONFIG_BYTES_MAX).map_err(|source| ConfigError::Read { source })?;
    parse(path, &bytes)
}

/// Reads TOML that stands in memory; `path` is what errors call it.
///
/// # Errors
///
/// When the bytes are not UTF-8 or do not hold a `T`.
pub fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, ConfigError> {
    let refuse =
        |at: usize, message: String| ConfigError::Parse { path: path.to_owned(), line: line(bytes, at), message };
    let text = std::str::from_utf8(bytes).map_err(|e| refuse(e.valid_up_to(), "this is not UTF-8 text".to_owned()))?;
    toml::from_str(text).map_err(|e| refuse(e.span().map_or(0, |span| span.start), one_line(e.message())))
}

/// The line, from 1, of what stands at `at` in a file, as a [`Spanned`] value tells it.
#[must_use]
pub fn line(bytes: &[u8], at: usize) -> usize {
    1 + bytes.iter().take(at).filter(|byte| **byte == b'\n').count()
}

/// A span of time as people write it: `500ms`, `30s`, `1h 30m`, `90d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Millis);

/// A text that is not a span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a duration: write a number with a unit, like `500ms`, `30s`, `1h 30m` or `90d`")]
pub struct InvalidSpan {
    /// The start of what was given.
    pub text: String,
}

impl Span {
    /// The span of so many milliseconds.
    #[must_use]
    pub const fn new(span: Millis) -> Self {
        Self(span)
    }

    /// The span of so many seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(Millis::from_secs(secs))
    }

    /// The span in milliseconds.
    #[must_use]
    pub const fn millis(self) -> Millis {
        self.0
    }
}

impl From<Span> for Millis {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&humantime::format_duration(self.0.as_duration()), f)
    }
}

impl FromStr for Span {
    type Err = InvalidSpan;

    fn from_str(text: &str) -> Result<Self, InvalidSpan> {
        humantime::parse_duration(text)
            .map(|span| Self(span.into()))
            .map_err(|_| InvalidSpan { text: crate::excerpt(text) })
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(SpanVisitor)
    }
}

struct SpanVisitor;

impl serde::de::Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration with a unit, like `30s`")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Span, E> {
        text.parse().map_err(E::custom)
    }
}

fn one_line(message: &str) -> String {
    message.lines().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Chain;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        poll: Span,
        #[serde(default)]
        name: String,
    }

    fn refusal(text: &[u8]) -> String {
        Chain(&parse::<Settings>(Path::new("/etc/a.toml"), text).expect_err("refused")).to_string()
    }

    #[test]
    fn a_file_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.toml");
        fs::replace(&path, b"name = 'web'\npoll = '1m 30s'\n", fs::Access::Owner).expect("written");
        let settings: Settings = load(&path).expect("readable");
        assert_eq!((settings.poll, settings.name.as_str()), (Span::from_secs(90), "web"));
        let missing = load::<Settings>(&dir.path().join("none.toml")).expect_err("missing");
        assert!(Chain(&missing).to_string().contains("none.toml`"), "{}", Chain(&missing));
    }

    #[test]
    fn errors_name_the_file_the_line_and_the_fault() {
        for (text, expected) in [
            (&b"poll = '30s'\nnmae = 'x'"[..], "`/etc/a.toml`, line 2: unknown field `nmae`"),
            (b"\npoll = 'soon'", "line 2: `soon` is not a duration: write a number with a unit"),
            (b"poll = 30", "line 1: invalid type: integer `30`, expected a duration with a unit, like `30s`"),
            (b"name = 'x'\npoll = ", "line 2: "),
            (b"poll = '30s'\n\nname = '\xff'", "line 3: this is not UTF-8"),
            (b"name = 'x'", "missing field `poll`"),
        ] {
            let error = refusal(text);
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn spans_round_trip() {
        for text in ["500ms", "30s", "1h 30m", "90days"] {
            let span: Span = text.parse().expect(text);
            assert_eq!(span.to_string().parse(), Ok(span));
        }
        for text in ["", "30", "s", "-1s", "1 fortnight"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
