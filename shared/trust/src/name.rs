//! Names of bundles and patterns over them, of channels and of platforms.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Most characters of a bundle's name.
pub const NAME_CHARS_MAX: usize = 64;

/// The name of a bundle: 1 to 64 of `a`–`z`, `0`–`9`, `-`, `_` and `.`, the first a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BundleName(String);

/// A text that cannot be a name of its kind, or a pattern over names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not {what}: it takes 1 to {NAME_CHARS_MAX} lower-case letters, digits, `-`, `_` and `.`, and begins with a letter or digit"
)]
pub struct InvalidName {
    /// The start of what was given.
    pub text: String,
    /// What was wanted, with its article.
    pub what: &'static str,
}

impl BundleName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BundleName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if is_name(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidName { text: sloth_core::excerpt(text), what: "a bundle's name" })
    }
}

/// Which bundles' names a role speaks for: a name, the beginning of names (`web-*`), or every name (`*`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamePattern(String);

impl NamePattern {
    /// Whether `name` is meant.
    #[must_use]
    pub fn matches(&self, name: &BundleName) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => name.0.starts_with(prefix),
            None => name.0 == self.0,
        }
    }

    /// How closely it says what it means: of two patterns that match a name, the greater one counts. A whole
    /// name is above any beginning of it.
    #[must_use]
    pub fn weight(&self) -> (usize, bool) {
        match self.0.strip_suffix('*') {
            Some(prefix) => (prefix.len(), false),
            None => (self.0.len(), true),
        }
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which releases of the agent a host takes: `stable` unless it says otherwise. Spelled as a bundle's name is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Channel(String);

impl Channel {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Channel {
    fn default() -> Self {
        Self("stable".to_owned())
    }
}

impl FromStr for Channel {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if is_name(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidName { text: sloth_core::excerpt(text), what: "a channel's name" })
    }
}

/// The platform that a binary was built for, like `x86_64-unknown-linux-gnu`. Spelled as a bundle's name is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Triple(String);

impl Triple {
    /// The platform that this program was built for. The vendor is always `unknown`.
    #[must_use]
    pub fn own() -> Self {
        let libc = if cfg!(target_env = "musl") { "musl" } else { "gnu" };
        Self::of(std::env::consts::ARCH, std::env::consts::OS, libc)
    }

    /// The platform of a processor and a system, each of which is spelled as a name is.
    fn of(arch: &str, os: &str, libc: &str) -> Self {
        Self(format!("{arch}-unknown-{os}-{libc}"))
    }

    /// The platform as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Triple {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if is_name(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidName { text: sloth_core::excerpt(text), what: "a platform" })
    }
}

impl FromStr for NamePattern {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let literal = text.strip_suffix('*').unwrap_or(text);
        if text == "*" || is_name(literal) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidName {
            text: sloth_core::excerpt(text),
            what: "a bundle's name, a beginning of names like `web-*`, or `*`",
        })
    }
}

macro_rules! text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(BundleName);
text!(NamePattern);
text!(Channel);
text!(Triple);

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    text.len() <= NAME_CHARS_MAX
        && text.bytes().all(allowed)
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for name in ["web", "web-1.2_x", "0", &"a".repeat(64)] {
            assert_eq!(name.parse::<BundleName>().expect(name).as_str(), name);
        }
        for name in ["", ".", "..", "-x", "Web", "a/b", "a b", "a:b", "ä", "web\n", &"a".repeat(65)] {
            assert!(name.parse::<BundleName>().is_err(), "{name}");
        }
        for pattern in ["", "**", "*x", "a*b", "A*", ".*"] {
            assert!(pattern.parse::<NamePattern>().is_err(), "{pattern}");
        }
    }

    #[test]
    fn platforms_are_named_as_the_compiler_does() {
        assert_eq!(Triple::of("x86_64", "linux", "gnu").as_str(), "x86_64-unknown-linux-gnu");
        assert_eq!(Triple::own().as_str().parse(), Ok(Triple::own()));
    }

    #[test]
    fn patterns_match_and_the_closest_is_heaviest() {
        let name: BundleName = "web-shop".parse().expect("a name");
        for (pattern, expected) in [("*", true), ("web-*", true), ("web-shop", true), ("web", false), ("db-*", false)] {
            let pattern: NamePattern = pattern.parse().expect("a pattern");
            assert_eq!(pattern.matches(&name), expected, "{pattern}");
        }
        let mut patterns: Vec<NamePattern> =
            ["web-shop", "*", "web-shop*", "web-*"].iter().map(|p| p.parse().expect("a pattern")).collect();
        patterns.sort_by_key(NamePattern::weight);
        assert_eq!(
            patterns.iter().map(NamePattern::as_str).collect::<Vec<_>>(),
            ["*", "web-*", "web-shop*", "web-shop"]
        );
    }
}
