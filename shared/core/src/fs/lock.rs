//! One process at a time.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::{Access, Action, FsError};

/// Most bytes read of a lock file: a process id and room to spare.
const PID_BYTES_MAX: u64 = 32;

/// A file that one process at a time holds. The system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct LockFile {
    _file: File,
}

/// Why a lock file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The system refused.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// Another process has it.
    #[error("`{}` is held by {}: stop it, or use another directory", path.display(), holder(*pid))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who has it, if it said so.
        pid: Option<u32>,
    },
}

impl LockFile {
    /// Takes the lock file at `path`, making it when it is missing. It is held until dropped.
    ///
    /// # Errors
    ///
    /// When another process holds it, or the system refuses.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(Access::Owner.file_mode())
            .open(path)
            .map_err(FsError::of(Action::Create, path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Held { path: path.to_owned(), pid: read_pid(&file) });
            }
            Err(TryLockError::Error(source)) => return Err(FsError::of(Action::Lock, path)(source).into()),
        }
        // Who holds it is for people: a full disk does not make it free.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

fn read_pid(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}
