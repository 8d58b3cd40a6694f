//! Paths inside a bundle.

use std::{fmt, str::FromStr};

/// Most bytes of a path.
pub const PATH_BYTES_MAX: usize = 4096;
/// Most bytes of one part of a path.
pub const PART_BYTES_MAX: usize = 255;
/// Most parts of a path.
pub const PATH_DEPTH_MAX: usize = 32;

/// A path below the bundle's directory: parts joined by `/`, none of them empty, `.` or `..`, without control
/// characters or backslashes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(String);

/// A text that cannot be a path in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` cannot be a path in a bundle: {reason}", path.escape_debug())]
pub struct InvalidPath {
    /// The start of what was given.
    pub path: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl RelPath {
    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directories above it, the nearest first.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(parent(&self.0), |path| parent(path))
    }
}

impl FromStr for RelPath {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        match fault(text) {
            None => Ok(Self(text.to_owned())),
            Some(reason) => Err(invalid(text, reason)),
        }
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks that a link at `path` to `target` stays inside the bundle.
///
/// `..` is taken at the beginning of a target only. There it climbs over real directories, since nothing lies
/// under a link; after a part that is itself a link it would climb from wherever that link leads.
///
/// # Errors
///
/// Says what is wrong with the target.
pub fn check_link(path: &RelPath, target: &str) -> Result<(), InvalidPath> {
    let mut down = target;
    let mut climbs = 0;
    while let Some(rest) = down.strip_prefix("../") {
        climbs += 1;
        down = rest;
    }
    if down == ".." {
        climbs += 1;
        down = ".";
    }
    if path.ancestors().count() < climbs {
        return Err(invalid(target, "the link leads out of the bundle"));
    }
    match fault(down) {
        Some(_) if down == "." => Ok(()),
        Some(reason) => Err(invalid(target, reason)),
        None => Ok(()),
    }
}

fn fault(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("it is empty");
    }
    if PATH_BYTES_MAX < text.len() {
        return Some("it is longer than 4096 bytes");
    }
    if text.starts_with('/') {
        return Some("it is absolute");
    }
    if text.chars().any(char::is_control) {
        return Some("it has control characters");
    }
    if text.contains('\\') {
        return Some("it has a backslash");
    }
    if PATH_DEPTH_MAX < text.split('/').count() {
        return Some("it has more than 32 parts");
    }
    text.split('/').find_map(|part| match part {
        "" => Some("it has an empty part"),
        "." => Some("it has a part `.`"),
        ".." => Some("it has a part `..`"),
        part if PART_BYTES_MAX < part.len() => Some("a part is longer than 255 bytes"),
        _ => None,
    })
}

fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(parent, _)| parent)
}

fn invalid(path: &str, reason: &'static str) -> InvalidPath {
    InvalidPath { path: sloth_core::excerpt(path), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_stay_below_are_taken() {
        for path in ["a", "a/b.sloth", ".hidden", "a/..b", "ä/ö", &"x".repeat(255), &["d"; 32].join("/")] {
            assert!(path.parse::<RelPath>().is_ok(), "{path}");
        }
        for path in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../a",
            "a/..",
            "a/../b",
            ".",
            "./a",
            "a/./b",
            "a//b",
            "a/",
            "a\0b",
            "a\nb",
            "a\u{7f}",
            "a\\b",
            "..\\a",
            "C:\\a",
            &"x".repeat(256),
            &["d"; 33].join("/"),
            &vec!["d".repeat(200); 21].join("/"),
        ] {
            assert!(path.parse::<RelPath>().is_err(), "{path}");
        }
    }

    #[test]
    fn only_links_that_stay_inside_are_taken() {
        let path: RelPath = "a/b/link".parse().expect("a path");
        for target in ["c", "c/d", "..", "../..", "../c", "../../c/d", "."] {
            assert_eq!(check_link(&path, target), Ok(()), "{target}");
        }
        for target in
            ["", "/", "/etc", "../../..", "../../../c", "c/..", "c/../../..", "../c/../..", "./c", "../", "c//d", "c\0"]
        {
            assert!(check_link(&path, target).is_err(), "{target}");
        }
    }
}
