//! What earlier steps of a run that only checks would have made.
//!
//! Such a run changes nothing, so a later step does not find on the disk what it would find in earnest. What an earlier
//! step would have made counts as there; where its content can be told it is told, and else it is said that it cannot
//! be. A missing file is an error as it would be in the run itself, unless a step whose effect nobody knows, such as a
//! command, was left out before.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::{Component, Path, PathBuf},
};

use mlua::Lua;

use super::{call::Call, files};
use crate::beneath::{entry, inode};

/// Most bytes of one file whose content is kept.
const CONTENT_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes of all of them.
const CONTENTS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most paths that are kept. Past them nothing is known.
const PATHS_MAX: usize = 100_000;
/// The modules whose changes are known path by path.
const KNOWN_BY_PATH: [&str; 12] =
    ["fs", "file_ops", "file", "io", "os", "http", "net", "state", "stack", "cron", "sysctl", "user"];

/// What a step makes of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Made {
    /// A file, with its content where that can be told.
    File(Option<Vec<u8>>),
    /// A new directory, which is empty.
    Directory,
    /// A directory with more in it than is known.
    Filled,
    /// Nothing is there any more.
    Gone,
}

/// What a step finds at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// What the disk has.
    AsItIs,
    /// A file that an earlier step would have made or changed, with its content where that can be told.
    File(Option<Vec<u8>>),
    /// A directory that an earlier step would have made.
    Directory,
    /// An earlier step would have removed it.
    Gone,
    /// It is not there, and an earlier step may make it.
    Perhaps,
}

/// What is known; an app datum of the machine.
#[derive(Default)]
struct Foreseen {
    paths: BTreeMap<PathBuf, Made>,
    kept_bytes: usize,
    users: BTreeSet<String>,
    groups: BTreeSet<String>,
    /// Whether a step was left out whose effect nobody knows.
    is_open: bool,
}

/// Notes what the running step makes of `path`. It does nothing in a run that does its work.
pub(super) fn note(call: &Call, path: &Path, made: Made) {
    if call.checking() {
        Foreseen::with(&call.lua, |foreseen| foreseen.note(plain(path), made));
    }
}

/// As [`note`], of a new user and of the group that comes with it.
pub(super) fn note_user(call: &Call, name: &str) {
    if call.checking() {
        Foreseen::with(&call.lua, |foreseen| {
            foreseen.users.insert(name.to_owned());
            foreseen.groups.insert(name.to_owned());
        });
    }
}

/// As [`note`], of a new group.
pub(super) fn note_group(call: &Call, name: &str) {
    if call.checking() {
        Foreseen::with(&call.lua, |foreseen| foreseen.groups.insert(name.to_owned()));
    }
}

/// Notes that the running step, a function of a module, is left out. What it makes is known only of some modules.
pub(super) fn left_out(call: &Call) {
    let module = call.name.split('.').next().unwrap_or_default();
    if !KNOWN_BY_PATH.contains(&module) {
        left_out_unknown(call);
    }
}

/// As [`left_out`], of a command, which may make anything.
pub(super) fn left_out_unknown(call: &Call) {
    if call.checking() {
        Foreseen::with(&call.lua, |foreseen| foreseen.is_open = true);
    }
}

/// Whether a user of this name may be there by now though the host has none.
pub(super) fn may_have_user(call: &Call, name: &str) -> bool {
    call.checking() && Foreseen::with(&call.lua, |foreseen| foreseen.is_open || foreseen.users.contains(name))
}

/// As [`may_have_user`], of a group.
pub(super) fn may_have_group(call: &Call, name: &str) -> bool {
    call.checking() && Foreseen::with(&call.lua, |foreseen| foreseen.is_open || foreseen.groups.contains(name))
}

/// What the running step finds at `path`.
pub(super) fn look(call: &Call, path: &Path) -> Seen {
    if !call.checking() {
        return Seen::AsItIs;
    }
    Foreseen::with(&call.lua, |foreseen| foreseen.look(&plain(path), || entry(path).symlink_metadata().is_ok()))
}

/// Whether the running step finds anything at `path`.
pub(super) fn exists(call: &Call, path: &Path) -> bool {
    match look(call, path) {
        Seen::AsItIs => inode(path).metadata().is_ok(),
        Seen::File(_) | Seen::Directory => true,
        Seen::Gone | Seen::Perhaps => false,
    }
}

/// The content of the file at `path`, as the running step finds it.
///
/// # Errors
///
/// When there is none, or a run that only checks cannot tell it.
pub(super) fn read(call: &Call, path: &Path) -> Result<Vec<u8>, String> {
    match look(call, path) {
        Seen::AsItIs => files::read(path),
        Seen::File(Some(content)) => Ok(content),
        Seen::File(None) => Err(untold("read", path)),
        Seen::Directory => Err(format!("cannot read `{}`: it is a directory", path.display())),
        Seen::Gone => Err(format!("cannot read `{}`: an earlier step would have removed it", path.display())),
        Seen::Perhaps => Err(perhaps("read", path)),
    }
}

/// The names in the directory at `path`, in order, as the running step finds them.
///
/// # Errors
///
/// As [`read`].
pub(super) fn list(call: &Call, path: &Path) -> Result<Vec<String>, String> {
    let mut names = match look(call, path) {
        Seen::AsItIs => files::list(path)?,
        Seen::Directory => Vec::new(),
        Seen::File(_) => return Err(format!("cannot list `{}`: it is a file", path.display())),
        Seen::Gone => return Err(format!("cannot list `{}`: an earlier step would have removed it", path.display())),
        Seen::Perhaps => return Err(perhaps("list", path)),
    };
    if call.checking() {
        let dir = plain(path);
        let is_told = Foreseen::with(&call.lua, |foreseen| foreseen.amend(&dir, &mut names));
        if !is_told {
            return Err(untold("list", path));
        }
    }
    Ok(names)
}

/// Checks in a run that only checks that there will be a directory to make `path` in.
///
/// # Errors
///
/// When there is none.
pub(super) fn check_parent(call: &Call, path: &Path) -> Result<(), String> {
    let Some(dir) = path.parent().filter(|dir| call.checking() && !dir.as_os_str().is_empty()) else { return Ok(()) };
    let why = match look(call, dir) {
        Seen::AsItIs if inode(dir).is_dir() => return Ok(()),
        Seen::Directory | Seen::Perhaps => return Ok(()),
        Seen::AsItIs if entry(dir).symlink_metadata().is_ok() => "is no directory",
        Seen::File(_) => "is no directory",
        Seen::AsItIs | Seen::Gone => "is not there",
    };
    Err(format!("cannot write `{}`: the directory `{}` {why}", path.display(), dir.display()))
}

/// What to say of a file that is there, with a content that cannot be told.
pub(super) fn untold(action: &str, path: &Path) -> String {
    format!(
        "cannot {action} `{}` in a run that only checks: an earlier step would have made it, and what is in it cannot be told",
        path.display()
    )
}

/// What to say of a file that may be there.
pub(super) fn perhaps(action: &str, path: &Path) -> String {
    format!(
        "cannot {action} `{}` in a run that only checks: it is not there, and whether an earlier step makes it cannot be told",
        path.display()
    )
}

impl Foreseen {
    fn with<T>(lua: &Lua, use_it: impl FnOnce(&mut Self) -> T) -> T {
        if let Some(mut foreseen) = lua.app_data_mut::<Self>() {
            return use_it(&mut foreseen);
        }
        let mut foreseen = Self::default();
        let result = use_it(&mut foreseen);
        lua.set_app_data(foreseen);
        result
    }

    fn note(&mut self, path: PathBuf, made: Made) {
        if PATHS_MAX <= self.paths.len() {
            self.is_open = true;
            return;
        }
        // What was below it went with it.
        let below: Vec<PathBuf> = self.below(&path).map(|(path, _)| path.clone()).collect();
        for path in below {
            self.drop_path(&path);
        }
        self.drop_path(&path);
        let made = match made {
            Made::File(Some(content)) => {
                let fits = content.len() <= CONTENT_BYTES_MAX && self.kept_bytes + content.len() <= CONTENTS_BYTES_MAX;
                self.kept_bytes += if fits { content.len() } else { 0 };
                Made::File(fits.then_some(content))
            }
            Made::Directory | Made::Filled | Made::Gone | Made::File(None) => made,
        };
        self.paths.insert(path, made);
    }

    fn drop_path(&mut self, path: &Path) {
        if let Some(Made::File(Some(content))) = self.paths.remove(path) {
            self.kept_bytes -= content.len();
        }
    }

    fn look(&self, path: &Path, is_there: impl FnOnce() -> bool) -> Seen {
        if let Some(made) = self.paths.get(path) {
            return match made {
                Made::File(content) => Seen::File(content.clone()),
                Made::Directory | Made::Filled => Seen::Directory,
                Made::Gone if self.is_open => Seen::Perhaps,
                Made::Gone => Seen::Gone,
            };
        }
        // Directories on the way to what was made are made with it.
        let holds = self.below(path).any(|(_, made)| *made != Made::Gone);
        match path.ancestors().skip(1).find_map(|above| self.paths.get(above)) {
            Some(Made::Filled) => {
                if is_there() {
                    Seen::AsItIs
                } else {
                    Seen::Perhaps
                }
            }
            Some(_) if holds => Seen::Directory,
            Some(Made::Directory | Made::Gone | Made::File(_)) if self.is_open => Seen::Perhaps,
            Some(Made::Directory | Made::Gone | Made::File(_)) => Seen::Gone,
            None if is_there() => Seen::AsItIs,
            None if holds => Seen::Directory,
            None if self.is_open => Seen::Perhaps,
            None => Seen::AsItIs,
        }
    }

    fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = (&'a PathBuf, &'a Made)> {
        let from = path.to_owned();
        self.paths
            .range(from..)
            .filter(move |(known, _)| *known != path)
            .take_while(move |(known, _)| known.starts_with(path))
    }

    /// Changes the names in `dir` to what they would be; `false` = nobody knows.
    fn amend(&self, dir: &Path, names: &mut Vec<String>) -> bool {
        let filled = dir.ancestors().find_map(|above| self.paths.get(above)) == Some(&Made::Filled);
        let mut all: BTreeSet<String> = names.drain(..).collect();
        for (path, made) in self.below(dir) {
            let Ok(rest) = path.strip_prefix(dir) else { continue };
            let mut parts = rest.components();
            let Some(name) = parts.next().map(|name| name.as_os_str().to_string_lossy().into_owned()) else { continue };
            match made {
                Made::Gone if parts.next().is_none() => drop(all.remove(&name)),
                Made::Gone => {}
                Made::File(_) | Made::Directory | Made::Filled => drop(all.insert(name)),
            }
        }
        names.extend(all);
        !filled
    }
}

/// The path without `.` and `..`, by its text alone.
fn plain(path: &Path) -> PathBuf {
    let mut parts: Vec<OsString> = Vec::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(parts.pop()),
            Component::Prefix(_) | Component::RootDir => parts.push(OsString::from("/")),
            Component::Normal(name) => parts.push(name.to_owned()),
        }
    }
    parts.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(foreseen: &Foreseen, path: &str) -> Seen {
        foreseen.look(&plain(Path::new(path)), || path.starts_with("/disk"))
    }

    #[test]
    fn what_was_made_is_there_and_what_was_removed_is_not() {
        let mut foreseen = Foreseen::default();
        let mut note = |path: &str, made| foreseen.note(plain(Path::new(path)), made);
        note("/a/file", Made::File(Some(b"x".to_vec())));
        note("/a/./dir", Made::Directory);
        note("/a/dir/in/deep", Made::File(None));
        note("/disk/gone", Made::Gone);
        note("/tree", Made::Filled);
        for (path, seen) in [
            ("/a/../a/file", Seen::File(Some(b"x".to_vec()))),
            ("/a", Seen::Directory),
            ("/a/dir", Seen::Directory),
            ("/a/dir/in", Seen::Directory),
            ("/a/dir/other", Seen::Gone),
            ("/a/other", Seen::AsItIs),
            ("/disk/gone", Seen::Gone),
            ("/disk/gone/below", Seen::Gone),
            ("/disk/other", Seen::AsItIs),
            ("/tree/any", Seen::Perhaps),
            ("/nowhere", Seen::AsItIs),
        ] {
            assert_eq!(look(&foreseen, path), seen, "{path}");
        }
        let mut names = vec!["old".to_owned(), "gone".to_owned()];
        assert!(foreseen.amend(Path::new("/disk"), &mut names));
        assert_eq!(names, ["old"]);
        assert!(foreseen.amend(Path::new("/a"), &mut names));
        assert_eq!(names, ["dir", "file", "old"]);
        assert!(!foreseen.amend(Path::new("/tree"), &mut names));
        foreseen.note(PathBuf::from("/a"), Made::Gone);
        assert_eq!((look(&foreseen, "/a/file"), foreseen.kept_bytes), (Seen::Gone, 0));
        foreseen.is_open = true;
        assert_eq!((look(&foreseen, "/nowhere"), look(&foreseen, "/disk/other")), (Seen::Perhaps, Seen::AsItIs));
    }

    #[test]
    fn large_contents_are_not_kept() {
        let mut foreseen = Foreseen::default();
        foreseen.note(PathBuf::from("/a"), Made::File(Some(vec![0; CONTENT_BYTES_MAX + 1])));
        assert_eq!(look(&foreseen, "/a"), Seen::File(None));
        for n in 0..=CONTENTS_BYTES_MAX / CONTENT_BYTES_MAX {
            foreseen.note(PathBuf::from(format!("/{n}")), Made::File(Some(vec![0; CONTENT_BYTES_MAX])));
        }
        assert_eq!(foreseen.kept_bytes, CONTENTS_BYTES_MAX);
    }
}
