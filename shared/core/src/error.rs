//! How an error is shown, once, at the edge, and how much of a foreign text it repeats.

use std::{error::Error, fmt};

/// Most causes that are shown; a longer chain is a loop.
const CAUSES_MAX: usize = 32;
/// Most characters of a foreign text that an error repeats.
pub const EXCERPT_CHARS_MAX: usize = 120;

/// Shows an error and its causes on one line, joined by `: `.
///
/// Our errors never repeat their cause in their own text, so a text printed without this adapter says what
/// failed and not why.
#[derive(Clone, Copy)]
pub struct Chain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let causes = std::iter::successors(self.0.source(), |&cause| cause.source());
        for cause in causes.take(CAUSES_MAX) {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The start of a foreign text, as far as errors repeat it.
#[must_use]
pub fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read manifest `/b/m.toml`")]
    struct Outer {
        source: std::io::Error,
    }

    #[test]
    fn causes_follow_in_order() {
        let error = Outer { source: std::io::Error::other("disk on fire") };
        assert_eq!(Chain(&error).to_string(), "cannot read manifest `/b/m.toml`: disk on fire");
    }
}
