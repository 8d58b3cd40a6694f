//! Which files of a package are not linked.

use std::path::Path;

use ::regex::Regex;

use super::super::{files, regex, star};

/// The file of a package that says what is not linked, instead of [`ALWAYS`].
const LOCAL: &str = ".stow-local-ignore";
/// The same for all packages of a user, in the home directory.
pub(super) const GLOBAL: &str = ".stow-global-ignore";
/// What is not linked when no such file is there.
const ALWAYS: &str = r"
RCS
.+,v
CVS
\.\#.+
\.cvsignore
\.svn
_darcs
\.hg
\.git
\.gitignore
\.gitmodules
.+~
\#.*\#
^/README.*
^/LICENSE.*
^/COPYING
";

/// A pattern that a script gives.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    /// With `*` for any text: of a name, or of a path where it has a slash.
    Star(String),
    Expression(Regex),
}

/// Where in a path an expression is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    End,
}

/// What one package leaves out.
#[derive(Debug, Clone)]
pub(super) struct Ignore {
    given: Vec<Pattern>,
    paths: Vec<Regex>,
    names: Vec<Regex>,
}

impl Pattern {
    /// A text with signs that only regular expressions have is one.
    pub(super) fn parse(text: &str, anchor: Anchor) -> Result<Self, String> {
        if !text.contains(['\\', '^', '$', '(', '|', '+', '[']) && !text.contains(".*") {
            return Ok(Self::Star(text.trim_start_matches("./").trim_end_matches('/').to_owned()));
        }
        let anchored = match anchor {
            Anchor::Start => format!(r"\A(?:{text})"),
            Anchor::End => format!(r"(?:{text})\z"),
        };
        regex::compile(&anchored).map(Self::Expression)
    }

    pub(super) fn takes(&self, path: &Path) -> bool {
        match self {
            Self::Star(pattern) if pattern.contains('/') => star::fits(pattern, &path.to_string_lossy()),
            Self::Star(pattern) => star::fits(pattern, &files::file_name(path).to_string_lossy()),
            Self::Expression(expression) => expression.is_match(&path.to_string_lossy()),
        }
    }
}

impl Ignore {
    /// What the package in `dir` leaves out, when the script gave these patterns. `global` is what the file of the user
    /// holds, if there is one.
    pub(super) fn of(dir: &Path, given: &[Pattern], global: Option<&str>) -> Result<Self, String> {
        let local = dir.join(LOCAL);
        let own = if crate::beneath::entry(&local).symlink_metadata().is_ok_and(|found| found.is_file()) {
            let bytes = files::read(&local)?;
            Some(String::from_utf8(bytes).map_err(|_| format!("`{}` is not a text", local.display()))?)
        } else {
            None
        };
        let text = own.as_deref().or(global).unwrap_or(ALWAYS);
        let (mut paths, mut names) = (Vec::new(), vec![regex::compile(r"\A\.stow-local-ignore\z")?]);
        for pattern in text.lines().filter_map(pattern_of) {
            // One with a slash is about the path.
            let (list, anchored) = if pattern.contains('/') {
                (&mut paths, format!("(?:^|/)(?:{pattern})(?:/|$)"))
            } else {
                (&mut names, format!(r"\A(?:{pattern})\z"))
            };
            list.push(regex::compile(&anchored)?);
        }
        Ok(Self { given: given.to_vec(), paths, names })
    }

    /// Whether what is at `path` in the package is left out.
    pub(super) fn takes(&self, path: &Path) -> bool {
        let (whole, name) = (format!("/{}", path.display()), files::file_name(path).to_string_lossy());
        self.given.iter().any(|pattern| pattern.takes(path))
            || self.paths.iter().any(|expression| expression.is_match(&whole))
            || self.names.iter().any(|expression| expression.is_match(&name))
    }
}

/// The expression of a line; none when it is empty or a comment.
fn pattern_of(line: &str) -> Option<&str> {
    let line = line.trim();
    let comment = line.match_indices('#').map(|(at, _)| at).find(|at| line[..*at].ends_with([' ', '\t']));
    let line = comment.map_or(line, |at| line[..at].trim_end());
    (!line.is_empty() && !line.starts_with('#')).then_some(line)
}

#[cfg(test)]
mod tests {
    use sloth_core::fs::{Access, replace};

    use super::*;

    #[test]
    fn what_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let ignore = Ignore::of(dir.path(), &[], None).unwrap();
        for (path, expected) in [
            (".vimrc", false),
            (".git", true),
            (".gitignore", true),
            (".gitconfig", false),
            ("a/.git", true),
            ("README.md", true),
            ("docs/README.md", false),
            ("x~", true),
            ("#x#", true),
            (".#lock", true),
            ("main.c,v", true),
            (".stow-local-ignore", true),
        ] {
            assert_eq!(ignore.takes(Path::new(path)), expected, "{path}");
        }
        let local = "# what is not ours\n\nnotes\\.txt  # mine\n^/only/here\n\\#x\n";
        replace(&dir.path().join(LOCAL), local.as_bytes(), Access::Owner).unwrap();
        let given = ["*.swp", "sub/b*", r"\.bak$"].map(|text| Pattern::parse(text, Anchor::End).unwrap());
        let ignore = Ignore::of(dir.path(), &given, Some("ignored")).unwrap();
        for (path, expected) in [
            ("notes.txt", true),
            ("x/notes.txt", true),
            ("only/here", true),
            ("only/here/below", true),
            ("x/only/here", false),
            ("#x", true),
            (".git", false),
            ("ignored", false),
            ("a/.x.swp", true),
            ("sub/bin", true),
            ("bin", false),
            ("x.bak", true),
            (".stow-local-ignore", true),
        ] {
            assert_eq!(ignore.takes(Path::new(path)), expected, "{path}");
        }
        assert!(Pattern::parse("(", Anchor::Start).is_err());
    }
}
