//! What can go wrong with a store.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use sloth_core::fs::{Action, FsError};

use super::{SCHEMA, codec::CodecError};

/// Why a store does not do what was asked. Whatever it was, nothing of it was done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The system refused.
    #[error(transparent)]
    Fs(Arc<FsError>),
    /// Another process has it.
    #[error("`{}` is in use by another process: stop it, or use another directory", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// A later release wrote it.
    #[error("`{}` was written by a newer sloth-agent (schema {found}, this one knows {SCHEMA}): install that one again, or use another directory", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
    },
    /// The database cannot go on.
    #[error("the store `{}` cannot be used: if it is damaged, move it away and start again", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What the database said.
        source: Arc<redb::Error>,
    },
    /// A value that nobody wrote so.
    #[error("the store `{}` holds something that cannot be read: move it away and start again", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Arc<CodecError>,
    },
    /// A key that nobody wrote so.
    #[error("the store `{}` holds a key that cannot be read: move it away and start again", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// Its thread is gone.
    #[error("the store was closed")]
    Closed,
}

/// A failure inside the store, before it is known which file it concerns.
#[derive(Debug)]
pub(super) enum Fault {
    Database(Box<redb::Error>),
    Codec(CodecError),
    Key,
    Newer(u32),
    Fs(FsError),
}

impl Fault {
    /// The error to tell of the store at `path`.
    pub(super) fn at(self, path: &Path) -> StoreError {
        let path = path.to_owned();
        match self {
            Self::Fs(error) => StoreError::Fs(Arc::new(error)),
            Self::Newer(found) => StoreError::Newer { path, found },
            Self::Codec(source) => StoreError::Value { path, source: Arc::new(source) },
            Self::Key => StoreError::Key { path },
            Self::Database(error) => match io_of(*error) {
                Ok(error) => StoreError::Fs(Arc::new(FsError::of(Action::Write, &path)(error))),
                Err(redb::Error::DatabaseAlreadyOpen) => StoreError::Locked { path },
                Err(error) => StoreError::Database { path, source: Arc::new(error) },
            },
        }
    }
}

fn io_of(error: redb::Error) -> Result<io::Error, redb::Error> {
    // What the database finds wrong with the file itself comes as an error of reading, too.
    let is_damage = |error: &io::Error| matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof);
    if matches!(&error, redb::Error::Io(error) if is_damage(error)) {
        return Err(error);
    }
    if let redb::Error::Io(error) = error { Ok(error) } else { Err(error) }
}

macro_rules! from_database {
    ($($error:ty),*) => {$(
        impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )*};
}

from_database!(
    redb::Error,
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError
);

impl From<CodecError> for Fault {
    fn from(error: CodecError) -> Self {
        Self::Codec(error)
    }
}
