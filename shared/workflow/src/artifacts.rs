//! Artifacts: files that a task leaves for others, kept in the run's scratch directory.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::{
    beneath::{Last, Place, create_dirs_above, entry, inode},
    limits::ARTIFACT_BYTES_MAX,
};

/// Most files that the patterns of one task find.
const FILES_MAX: usize = 1_000;
/// How deep `**` looks.
const DEPTH_MAX: usize = 16;
/// The bits of a mode that a copy gets.
const MODE_BITS: u32 = 0o777;

/// Why artifacts could not be kept or fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArtifactError {
    #[error("artifact `{pattern}`: no file of `{}` matches it", dir.display())]
    None { pattern: String, dir: PathBuf },
    #[error("artifact `{pattern}` leads out of the task's directory: write a pattern relative to it")]
    Outside { pattern: String },
    #[error("cannot consume `{name}`: no task of this workflow has left it")]
    Missing { name: String },
    #[error("the artifacts take more than {ARTIFACT_BYTES_MAX} bytes or {FILES_MAX} files")]
    TooLarge,
    #[error("cannot copy `{}` to `{}`", from.display(), to.display())]
    Copy { from: PathBuf, to: PathBuf, source: io::Error },
}

/// Copies the files of `dir` that match `patterns` into `store`, by their last names.
pub(crate) fn keep(dir: &Path, patterns: &[String], store: &Path) -> Result<(), ArtifactError> {
    let mut bytes = 0_u64;
    let (dir, store) = (held(dir)?, held(store)?);
    for pattern in patterns {
        let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if pattern.starts_with('/') || parts.contains(&"..") {
            return Err(ArtifactError::Outside { pattern: pattern.clone() });
        }
        let mut found = Vec::new();
        find(&dir, &parts, DEPTH_MAX, &mut found);
        if found.is_empty() {
            return Err(ArtifactError::None { pattern: pattern.clone(), dir: dir.path().to_owned() });
        }
        if FILES_MAX < found.len() {
            return Err(ArtifactError::TooLarge);
        }
        for file in found {
            bytes = bytes.saturating_add(known(&file).map_or(0, |data| data.len()));
            if ARTIFACT_BYTES_MAX < bytes {
                return Err(ArtifactError::TooLarge);
            }
            let Some(name) = file.file_name() else { continue };
            copy(&file, &store.join(name))?;
        }
    }
    Ok(())
}

/// Copies the files called `names` from `store` into `dir`.
pub(crate) fn fetch(store: &Path, names: &[String], dir: &Path) -> Result<(), ArtifactError> {
    let (dir, store) = (held(dir)?, held(store)?);
    for name in names {
        let name = last_part(name);
        let kept = fs::read_dir(inode(&store))
            .map(|entries| entries.flatten().map(|entry| store.join(entry.file_name())).collect());
        let kept: Vec<PathBuf> = kept.unwrap_or_default();
        let mut found =
            kept.iter().filter(|path| path.file_name().is_some_and(|n| matches(name, &n.to_string_lossy())));
        let mut any = false;
        for file in found.by_ref() {
            any = true;
            copy(file, &dir.join(file.file_name().unwrap_or_default()))?;
        }
        if !any {
            return Err(ArtifactError::Missing { name: name.to_owned() });
        }
    }
    Ok(())
}

/// The last part of a path.
pub(crate) fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether `name` is what `pattern` describes: `*` stands for any characters, `?` for one.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on when a `*` must stand for one character more.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            Some(_) | None => {
                let Some((after, stood)) = star else { return false };
                star = Some((after, stood + 1));
                p = after;
                n = stood + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The files below `dir` that the parts of a pattern match: one more than is taken at most, which tells that there are
/// too many.
fn find(dir: &Path, parts: &[&str], depth: usize, found: &mut Vec<PathBuf>) {
    let Some((part, rest)) = parts.split_first() else { return };
    if depth == 0 {
        return;
    }
    if *part == "**" {
        find(dir, rest, depth, found);
    }
    let entries = fs::read_dir(inode(dir)).into_iter().flatten().flatten();
    let mut names: Vec<PathBuf> = entries.map(|found| dir.join(found.file_name())).collect();
    names.sort();
    for path in names {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Symlinks could lead out of the directory.
        let Ok(kind) = known(&path).map(|data| data.file_type()) else { continue };
        if *part == "**" && kind.is_dir() {
            find(&path, parts, depth - 1, found);
        } else if matches(part, &name) {
            if rest.is_empty() && kind.is_file() && found.len() <= FILES_MAX {
                found.push(path);
            } else if kind.is_dir() {
                find(&path, rest, depth - 1, found);
            }
        }
    }
}

/// A directory, or its place, held open while it is worked in, so that a link that is put there meanwhile leads nowhere.
fn held(dir: &Path) -> Result<Place, ArtifactError> {
    let wrong = |source| ArtifactError::Copy { from: dir.to_owned(), to: dir.to_owned(), source };
    let dir = std::path::absolute(dir).map_err(wrong)?;
    let place = Place::beneath(&dir, Last::Followed, [Path::new("/")]).map_err(wrong)?;
    Ok(place.unwrap_or_else(|| Place::unbound(dir)))
}

/// What is known of what is at `path` itself.
fn known(path: &Path) -> io::Result<Metadata> {
    entry(path).symlink_metadata()
}

/// Copies a plain file with its mode. What is there gives way to it: a link would lead elsewhere.
fn copy(from: &Path, to: &Path) -> Result<(), ArtifactError> {
    let copied = || {
        if from == to {
            return Ok(());
        }
        create_dirs_above(to).map_err(io::Error::other)?;
        let mut source = fs::File::open(inode(from))?;
        let mode = source.metadata()?.mode() & MODE_BITS;
        let way = entry(to);
        if way.symlink_metadata().is_ok() {
            fs::remove_file(&way)?;
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&way)?;
        io::copy(&mut source, &mut file).map(drop)
    };
    copied().map_err(|source| ArtifactError::Copy { from: from.to_owned(), to: to.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names() {
        for (pattern, name, expected) in [
            ("*.txt", "a.txt", true),
            ("*.txt", "a.txt.gz", false),
            ("a*b*c", "a12b3bc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("", "a", false),
            ("report", "report", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_that_finds_too_many_files_keeps_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let (work, store) = (dir.path().join("work"), dir.path().join("store"));
        fs::create_dir(&work).expect("a directory");
        for number in 0..FILES_MAX {
            fs::File::create(work.join(format!("{number}.txt"))).expect("made");
        }
        keep(&work, &["*.txt".into()], &store).expect("kept");
        assert_eq!(fs::read_dir(&store).expect("a directory").count(), FILES_MAX);
        fs::File::create(work.join("one-more.txt")).expect("made");
        let other = dir.path().join("other");
        assert!(matches!(keep(&work, &["*.txt".into()], &other), Err(ArtifactError::TooLarge)));
        assert!(!other.exists());
    }

    #[test]
    fn files_are_kept_and_fetched() {
        let dir = tempfile::tempdir().expect("a directory");
        let (work, store, other) = (dir.path().join("work"), dir.path().join("store"), dir.path().join("other"));
        fs::create_dir_all(work.join("dist/deep")).expect("a directory");
        for name in ["dist/app.tar", "dist/deep/app.sum", "log.txt"] {
            sloth_core::fs::replace(&work.join(name), name.as_bytes(), sloth_core::fs::Access::Everyone)
                .expect("written");
        }
        std::os::unix::fs::symlink("/etc/hostname", work.join("dist/link.tar")).expect("a link");
        keep(&work, &["dist/*.tar".into(), "**/*.sum".into()], &store).expect("kept");
        let mut names: Vec<_> =
            fs::read_dir(&store).expect("a directory").map(|e| e.expect("an entry").file_name()).collect();
        names.sort();
        assert_eq!(names, ["app.sum", "app.tar"]);
        fetch(&store, &["app.*".into()], &other).expect("fetched");
        assert_eq!(fs::read_to_string(other.join("app.tar")).expect("a file"), "dist/app.tar");
        for (pattern, error) in [("*.zip", "no file of"), ("../*", "leads out"), ("/etc/*", "leads out")] {
            let told = keep(&work, &[pattern.into()], &store).expect_err(pattern).to_string();
            assert!(told.contains(error), "{told}");
        }
        assert!(matches!(fetch(&store, &["x".into()], &other), Err(ArtifactError::Missing { .. })));
    }
}
