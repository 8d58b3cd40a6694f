//! The store in one file of redb.

use std::{
    fmt,
    fs::OpenOptions,
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use redb::{
    Builder, Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
    WriteTransaction, backends::FileBackend,
};
use sloth_core::{
    AgentId, RunId,
    fs::{Action, FsError},
};
use sloth_protocol::{
    coordinator::{Durable, Write},
    wire::{HeadsPage, NewestReceipts, ReceiptsAsked, ReceiptsPage, ResultsPage, RunView, RunsPage},
};

use super::{
    Committed, EventsRead, RowError, Store, StoreError,
    apply::Changes,
    chain::{self, RECEIPTS_MAX},
    load,
    reads::{self, Reader},
    tables,
};

/// The layout of the file that this program writes.
pub(super) const SCHEMA: u32 = 1;
/// What the database keeps of the file in memory.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// The file's mode: what agents reported is for its owner alone.
const MODE: u32 = 0o600;

type Open = Box<dyn Fn(&Builder) -> Result<Database, DatabaseError> + Send + Sync>;

/// A store in one file, which one process at a time has open.
pub struct RedbStore {
    path: PathBuf,
    open: Open,
    /// None while it is opened anew, or when that failed.
    database: RwLock<Option<Database>>,
    /// Most receipts that are kept.
    receipts_max: u64,
}

/// What went wrong inside, before it is known in which file.
#[derive(Debug)]
pub(super) enum Fault {
    /// The database refused.
    Database(Box<redb::Error>),
    /// A row is not what it should be.
    Row { table: &'static str, source: RowError },
}

impl RedbStore {
    /// Opens the file at `path`, making it when it is missing.
    ///
    /// # Errors
    ///
    /// When another process has it, a newer version wrote it, it was damaged, or the system refuses.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = path.to_owned();
        // What the umask would let others read is not for them.
        let open =
            move || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(MODE).open(&file);
        Self::with(path, Box::new(move |builder| builder.create_with_backend(FileBackend::new(open()?)?)))
    }

    pub(super) fn with(path: &Path, open: Open) -> Result<Self, StoreError> {
        let store = Self { path: path.to_owned(), open, database: RwLock::new(None), receipts_max: RECEIPTS_MAX };
        store.reopen()?;
        Ok(store)
    }

    /// The same store, which keeps no more receipts than this.
    #[cfg(test)]
    pub(super) fn with_receipts_max(mut self, receipts_max: u64) -> Self {
        self.receipts_max = receipts_max;
        self
    }

    fn write<T>(&self, change: impl FnOnce(&WriteTransaction) -> Result<T, Fault>) -> Result<T, StoreError> {
        let work = |database: &Database| {
            let mut transaction = database.begin_write().map_err(Fault::of)?;
            transaction.set_durability(Durability::Immediate).map_err(Fault::of)?;
            // Opening a large file after a crash takes a millisecond instead of a walk through all of it.
            transaction.set_quick_repair(true);
            let value = change(&transaction)?;
            transaction.commit().map_err(Fault::of)?;
            Ok(value)
        };
        self.with_database("write", work)
    }

    fn read<T>(&self, look: impl FnOnce(&ReadTransaction) -> Result<T, Fault>) -> Result<T, StoreError> {
        self.with_database("read", |database| look(&database.begin_read().map_err(Fault::of)?))
    }

    fn with_database<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Database) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let closed = || Fault::Database(Box::new(redb::Error::DatabaseClosed));
        let result = database.as_ref().ok_or_else(closed).and_then(work);
        result.map_err(|fault| self.error(action, fault))
    }

    fn check_schema(&self) -> Result<(), StoreError> {
        let found = self.write(|transaction| {
            for table in tables::ALL {
                transaction.open_table(table).map_err(Fault::of)?;
            }
            let mut meta = transaction.open_table(tables::META).map_err(Fault::of)?;
            let found = meta.get(tables::META_SCHEMA).map_err(Fault::of)?.map(|value| value.value().to_vec());
            if found.is_none() {
                meta.insert(tables::META_SCHEMA, SCHEMA.to_be_bytes().as_slice()).map_err(Fault::of)?;
            }
            Ok(found)
        })?;
        match found.map(|bytes| <[u8; 4]>::try_from(bytes).map(u32::from_be_bytes)) {
            None | Some(Ok(SCHEMA)) => Ok(()),
            Some(Ok(found)) => Err(StoreError::Newer { path: self.path.clone(), found, known: SCHEMA }),
            Some(Err(bytes)) => {
                let source = RowError::Key { bytes: bytes.len() };
                Err(StoreError::Row { path: self.path.clone(), table: "meta", source })
            }
        }
    }

    fn error(&self, action: &'static str, fault: Fault) -> StoreError {
        let path = self.path.clone();
        let error = match fault {
            Fault::Row { table, source } => return StoreError::Row { path, table, source },
            Fault::Database(error) => error,
        };
        if matches!(*error, redb::Error::DatabaseAlreadyOpen) {
            return StoreError::Locked { path };
        }
        // What the database finds wrong with the file itself comes as an error of reading, too.
        let is_damage = |source: &io::Error| matches!(source.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof);
        if matches!(&*error, redb::Error::Io(source) if is_damage(source)) {
            return StoreError::Database { action, path, source: error };
        }
        if let redb::Error::Io(source) = *error {
            let action = if action == "read" { Action::Read } else { Action::Write };
            return StoreError::Fs(FsError { action, path, source });
        }
        StoreError::Database { action, path, source: error }
    }
}

impl Store for RedbStore {
    fn load(&self) -> Result<Durable, StoreError> {
        self.read(|transaction| load::durable(&Reader::open(transaction)?))
    }

    fn commit(&self, writes: &[Write]) -> Result<Committed, StoreError> {
        self.write(|transaction| {
            let mut changes = Changes::open(transaction, self.receipts_max)?;
            if writes.is_empty() {
                changes.probe()?;
            }
            writes.iter().try_for_each(|write| changes.apply(write))?;
            Ok(changes.committed)
        })
    }

    fn reopen(&self) -> Result<(), StoreError> {
        {
            let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
            // The old one lets go of the file before it is opened again.
            drop(database.take());
            let opened = (self.open)(Builder::new().set_cache_size(CACHE_BYTES));
            *database = Some(opened.map_err(|error| self.error("open", Fault::of(error)))?);
        }
        let checked = self.check_schema();
        if checked.is_err() {
            drop(self.database.write().unwrap_or_else(PoisonError::into_inner).take());
        }
        checked
    }

    fn runs(&self, before: Option<RunId>, rows: usize) -> Result<RunsPage, StoreError> {
        self.read(|transaction| reads::runs(&Reader::open(transaction)?, before, rows))
    }

    fn run(&self, run: RunId) -> Result<Option<RunView>, StoreError> {
        self.read(|transaction| reads::run(&Reader::open(transaction)?, run))
    }

    fn heads(&self, after: u64) -> Result<HeadsPage, StoreError> {
        self.read(|transaction| chain::heads(&Reader::open(transaction)?, after))
    }

    fn receipts(&self, asked: ReceiptsAsked) -> Result<ReceiptsPage, StoreError> {
        self.read(|transaction| chain::receipts(&Reader::open(transaction)?, asked))
    }

    fn newest_receipts(&self, asked: NewestReceipts) -> Result<ReceiptsPage, StoreError> {
        self.read(|transaction| chain::newest_receipts(&Reader::open(transaction)?, asked))
    }

    fn results(&self, run: RunId, after: Option<AgentId>) -> Result<ResultsPage, StoreError> {
        self.read(|transaction| reads::results(&Reader::open(transaction)?, run, after))
    }

    fn events(&self, run: RunId, after: u64, agent: Option<AgentId>) -> Result<Option<EventsRead>, StoreError> {
        self.read(|transaction| reads::events(&Reader::open(transaction)?, run, after, agent))
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Fault {
    pub(super) fn of<E: Into<redb::Error>>(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }

    /// For `map_err`: says in which table the row is.
    pub(super) fn row<E: Into<RowError>>(table: &'static str) -> impl Fn(E) -> Self {
        move |error| Self::Row { table, source: error.into() }
    }
}
