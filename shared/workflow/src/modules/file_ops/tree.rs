//! A directory that is filled by what an archive says: held open, and no link in it followed.

use std::{
    ffi::OsStr,
    os::fd::{AsRawFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, mkdirat, openat},
    io::Errno,
};

/// The mode of directories that are made on the way.
const DIR_MODE: u32 = 0o755;

/// A directory, held open.
pub(super) struct Tree {
    dir: OwnedFd,
    /// What it is called in messages.
    shown: PathBuf,
}

/// The way to a name in such a directory; good as long as it lives.
pub(super) struct Spot {
    pub(super) path: PathBuf,
    _dir: OwnedFd,
}

/// Whether directories that are missing are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Made,
    Left,
}

impl Tree {
    pub(super) fn open(way: &Path, shown: &Path) -> Result<Self, String> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, way, flags, Mode::empty());
        let dir = dir.map_err(|error| format!("cannot open the directory `{}`: {error}", shown.display()))?;
        Ok(Self { dir, shown: shown.to_owned() })
    }

    /// The way to `relative`, which has names only; `None` = a directory above it is missing.
    pub(super) fn spot(&self, relative: &Path, missing: Missing) -> Result<Option<Spot>, String> {
        let wrong = |name: &OsStr, error: Errno| {
            let shown = self.shown.join(relative);
            match error {
                Errno::LOOP | Errno::NOTDIR => {
                    format!("cannot put `{}`: `{}` above it is no directory", shown.display(), name.display())
                }
                error => format!("cannot put `{}`: {error}", shown.display()),
            }
        };
        let mut names: Vec<&OsStr> = Vec::new();
        for part in relative.components() {
            let Component::Normal(name) = part else {
                return Err(format!("`{}` leads out of `{}`", relative.display(), self.shown.display()));
            };
            names.push(name);
        }
        let Some((last, above)) = names.split_last() else {
            return Err(format!("`{}` names nothing", relative.display()));
        };
        let mut dir = self.dir.try_clone().map_err(|error| error.to_string())?;
        for name in above {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            dir = match openat(&dir, *name, flags, Mode::empty()) {
                Ok(below) => below,
                Err(Errno::NOENT) if missing == Missing::Left => return Ok(None),
                Err(Errno::NOENT) => {
                    mkdirat(&dir, *name, Mode::from_raw_mode(DIR_MODE)).map_err(|error| wrong(name, error))?;
                    openat(&dir, *name, flags, Mode::empty()).map_err(|error| wrong(name, error))?
                }
                Err(error) => return Err(wrong(name, error)),
            };
        }
        let path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(last);
        Ok(Some(Spot { path, _dir: dir }))
    }

    /// What `relative` is called in messages.
    pub(super) fn shown(&self, relative: &Path) -> PathBuf {
        self.shown.join(relative)
    }
}
