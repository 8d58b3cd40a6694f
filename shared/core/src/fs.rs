//! Files that survive a crash: either the old content or the new, never half of one.

mod lock;

use std::{
    fmt,
    fs::{DirBuilder, File, Metadata, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

pub use lock::{LockError, LockFile};

use crate::Secret;

/// Every right of a file's group and of others.
const OTHERS: u32 = 0o077;
/// How a temporary file's name begins; see [`is_temporary`].
const TEMPORARY_PREFIX: &str = ".sloth-tmp-";
/// How many names are tried for a temporary file: leftovers of an earlier process may hold some.
const TEMPORARY_NAMES_MAX: u32 = 64;

/// Who may read what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The owner alone: files `0600`, directories `0700`.
    Owner,
    /// Everyone may read, the owner writes: files `0644`, directories `0755`.
    Everyone,
}

impl Access {
    const fn file_mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Everyone => 0o644,
        }
    }

    const fn dir_mode(self) -> u32 {
        match self {
            Self::Owner => 0o700,
            Self::Everyone => 0o755,
        }
    }
}

/// What was tried on a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Creating it.
    Create,
    /// Reading it.
    Read,
    /// Writing it.
    Write,
    /// Giving it its name.
    Rename,
    /// Removing it.
    Remove,
    /// Waiting until the disk has it.
    Sync,
    /// Setting its mode.
    SetMode,
    /// Locking it.
    Lock,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Write => "write",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::Sync => "sync",
            Self::SetMode => "set the mode of",
            Self::Lock => "lock",
        })
    }
}

/// A file operation that the system refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`{}", path.display(), way_out(source))]
pub struct FsError {
    /// What was tried.
    pub action: Action,
    /// On what.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl FsError {
    /// For `map_err`: turns what the system said into an error that says what was tried on what.
    pub fn of(action: Action, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { action, path, source }
    }
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refused.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// It is larger than the reader takes.
    #[error("`{}` is larger than the {bytes_max} bytes it may have", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound.
        bytes_max: u64,
    },
}

impl ReadError {
    /// Whether there is no such file.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Fs(error) => error.source.kind() == io::ErrorKind::NotFound,
            Self::TooLarge { .. } => false,
        }
    }
}

/// Why a secret was not read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Its file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is a pipe, a directory, a device or the like.
    #[error("`{}` is to hold a secret, and is no regular file: put the secret into one, with mode 600", path.display())]
    NoFile {
        /// What was named.
        path: PathBuf,
    },
    /// Others may read it.
    #[error(
        "`{0}` holds a secret, and its mode {mode:03o} lets others read it: `chmod 600 {0}`, and think of who may have it",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

impl SecretError {
    /// Whether there is no such file.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Read(error) => error.is_not_found(),
            Self::NoFile { .. } | Self::Exposed { .. } => false,
        }
    }
}

/// Puts `bytes` at `path`, replacing what is there. After a crash at any moment the file holds the old bytes
/// or the new ones; after `Ok` the new ones are on the disk.
///
/// # Errors
///
/// When the directory does not exist or the system refuses a step. The old file is then untouched.
pub fn replace(path: &Path, bytes: &[u8], access: Access) -> Result<(), FsError> {
    // The name of the file beside it says nothing to whoever named this one.
    let of_path = |error: FsError| FsError { action: Action::Write, path: path.to_owned(), ..error };
    let (temporary, mut file) = create_temporary(parent(path), access).map_err(of_path)?;
    let filled = fill(&temporary, &mut file, bytes, access).map_err(of_path);
    let written = filled.and_then(|()| rename(&temporary, path));
    if written.is_err() {
        // The first error is the one worth telling; a file left behind is known by its name.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Renames `from` to `to` on the same file system and waits until the disk has it. The content must have been
/// synced before.
///
/// # Errors
///
/// When the system refuses either step.
pub fn rename(from: &Path, to: &Path) -> Result<(), FsError> {
    std::fs::rename(from, to).map_err(FsError::of(Action::Rename, to))?;
    sync_dir(parent(to))
}

/// Makes the directory `path` and those above it that are missing, each with the mode of `access`, and waits
/// until the disk has them. A directory that exists keeps its mode.
///
/// # Errors
///
/// When the system refuses, or something other than a directory stands in the way.
pub fn create_dir(path: &Path, access: Access) -> Result<(), FsError> {
    if path.is_dir() {
        return Ok(());
    }
    let above = parent(path);
    if !above.is_dir() {
        create_dir(above, access)?;
    }
    match DirBuilder::new().mode(access.dir_mode()).create(path) {
        Ok(()) => {}
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        Err(source) => return Err(FsError { action: Action::Create, path: path.to_owned(), source }),
    }
    let mode = Permissions::from_mode(access.dir_mode());
    std::fs::set_permissions(path, mode).map_err(FsError::of(Action::SetMode, path))?;
    sync_dir(above)
}

/// Waits until the disk has the names in the directory `path`.
///
/// # Errors
///
/// When the system refuses.
pub fn sync_dir(path: &Path) -> Result<(), FsError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(FsError::of(Action::Sync, path))
}

/// Waits until the disk has all that was written to the file system that `path` is on: where many files are worth it only
/// together.
///
/// # Errors
///
/// When the system refuses.
pub fn sync_file_system(path: &Path) -> Result<(), FsError> {
    let synced = File::open(path).and_then(|file| Ok(rustix::fs::syncfs(file)?));
    synced.map_err(FsError::of(Action::Sync, path))
}

/// Reads the whole file at `path`, which may have `bytes_max` bytes at most. No more than that is ever held.
///
/// # Errors
///
/// When the system refuses or the file is larger.
pub fn read_capped(path: &Path, bytes_max: u64) -> Result<Vec<u8>, ReadError> {
    read_file(path, &open(path)?, bytes_max)
}

/// Reads the whole file at `path`, which holds a secret: only its owner may be able to read it.
///
/// # Errors
///
/// As [`read_capped`]; when it is no regular file; and when its group or others have any right to it.
pub fn read_secret(path: &Path, bytes_max: u64) -> Result<Secret<String>, SecretError> {
    // The file that is looked at is the one that is read, whatever takes its name in between.
    let file = open_secret(path)?;
    let bytes = Secret::new(read_file(path, &file, bytes_max)?);
    // What is no text is no key either, and refused as such.
    Ok(Secret::new(String::from_utf8_lossy(bytes.expose()).into_owned()))
}

/// Whether `path` is a temporary file of [`create_temporary`], which a crash may leave behind.
#[must_use]
pub fn is_temporary(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(TEMPORARY_PREFIX))
}

/// A new empty file in `dir`, born with its mode, to be filled, synced and renamed.
///
/// # Errors
///
/// When the system refuses.
pub fn create_temporary(dir: &Path, access: Access) -> Result<(PathBuf, File), FsError> {
    let mut tries = 0;
    loop {
        let path = temporary_name(dir);
        match OpenOptions::new().write(true).create_new(true).mode(access.file_mode()).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < TEMPORARY_NAMES_MAX => tries += 1,
            Err(source) => return Err(FsError { action: Action::Create, path, source }),
        }
    }
}

/// A name in `dir` that [`is_temporary`] knows. Nothing is made; two calls in a process never agree.
#[must_use]
pub fn temporary_name(dir: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    dir.join(format!("{TEMPORARY_PREFIX}{}-{number}", std::process::id()))
}

fn open(path: &Path) -> Result<File, FsError> {
    File::open(path).map_err(FsError::of(Action::Read, path))
}

fn read_file(path: &Path, file: &File, bytes_max: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(FsError::of(Action::Read, path))?;
    if u64::try_from(bytes.len()).map_or(true, |len| bytes_max < len) {
        return Err(ReadError::TooLarge { path: path.to_owned(), bytes_max });
    }
    Ok(bytes)
}

/// Opens a file that holds a secret. What somebody put in its place, a pipe or a terminal, would keep whoever opens or
/// reads it waiting.
fn open_secret(path: &Path) -> Result<File, SecretError> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let opened = OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
    let of_read = |error| ReadError::from(FsError::of(Action::Read, path)(error));
    let file = opened.map_err(of_read)?;
    let metadata = file.metadata().map_err(of_read)?;
    if !metadata.is_file() {
        return Err(SecretError::NoFile { path: path.to_owned() });
    }
    private(path, &metadata)?;
    Ok(file)
}

fn private(path: &Path, metadata: &Metadata) -> Result<(), SecretError> {
    let mode = metadata.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(SecretError::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

fn fill(path: &Path, file: &mut File, bytes: &[u8], access: Access) -> Result<(), FsError> {
    file.write_all(bytes).map_err(FsError::of(Action::Write, path))?;
    // The process's mask may have taken bits that the readers need.
    file.set_permissions(Permissions::from_mode(access.file_mode())).map_err(FsError::of(Action::SetMode, path))?;
    file.sync_all().map_err(FsError::of(Action::Sync, path))
}

/// The directory that holds `path`; the current one for a bare name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

fn way_out(error: &io::Error) -> &'static str {
    use rustix::io::Errno;

    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT) => ", no room is left: free some space on that file system",
        Some(Errno::ROFS) => ", its file system is read-only: remount it, or use another directory",
        Some(Errno::ACCESS | Errno::PERM) => {
            ", permission is missing: run as the owner of that directory, or change its owner"
        }
        Some(_) | None => "",
    }
}

#[cfg(test)]
mod tests;
