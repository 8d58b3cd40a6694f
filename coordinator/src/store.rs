//! What the coordinator has on its disk.
//!
//! [`Store`] speaks of the coordinator's things and not of keys, so that another database can stand behind it. Its
//! calls block: [`StoreHandle`] gives them a thread of their own and commits what waits together.

mod apply;
mod chain;
mod codec;
mod database;
mod load;
mod reads;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

use std::path::PathBuf;

pub use codec::CodecError;
use sloth_core::{
    AgentId, RunId,
    fs::{FsError, ReadError},
};
use sloth_protocol::{
    coordinator::{Durable, Write},
    wire::{HeadsPage, NewestReceipts, ReceiptsAsked, ReceiptsPage, ResultsPage, RunEvent, RunView, RunsPage},
};
use sloth_trust::EnvelopeError;

pub use self::{
    chain::RECEIPTS_MAX,
    database::RedbStore,
    tables::HEADS_MAX,
    writer::{CommitError, StoreHandle},
};

/// The coordinator's disk.
pub trait Store: Send + Sync + 'static {
    /// Everything that a machine is restored from.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or was damaged.
    fn load(&self) -> Result<Durable, StoreError>;

    /// Makes all changes or none, and returns when they would survive a power cut. No changes prove that the disk
    /// still takes some.
    ///
    /// # Errors
    ///
    /// When the disk refuses. It cannot be told then whether the changes were made: [`Store::reopen`] it and load.
    fn commit(&self, writes: &[Write]) -> Result<Committed, StoreError>;

    /// Opens the disk anew after a failed commit.
    ///
    /// # Errors
    ///
    /// When it is still not usable.
    fn reopen(&self) -> Result<(), StoreError>;

    /// At most `rows` runs, newest first, from before a run on.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    fn runs(&self, before: Option<RunId>, rows: usize) -> Result<RunsPage, StoreError>;

    /// One run with its jobs and tasks, as much of it as fits into one answer; none when there is no such run.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    fn run(&self, run: RunId) -> Result<Option<RunView>, StoreError>;

    /// The heads that were issued after a version, in their order, at most one answer of them.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    fn heads(&self, after: u64) -> Result<HeadsPage, StoreError>;

    /// Receipts, in the order of the chain, at most one answer of them.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    fn receipts(&self, asked: ReceiptsAsked) -> Result<ReceiptsPage, StoreError>;

    /// The newest receipts, the newest first, at most one answer of them.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    fn newest_receipts(&self, asked: NewestReceipts) -> Result<ReceiptsPage, StoreError>;

    /// What is kept of a run's ends after an agent's, at most one answer of them; none of a run that is not there.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    fn results(&self, run: RunId, after: Option<AgentId>) -> Result<ResultsPage, StoreError>;

    /// What happened in a run after a number, at most one frame of it; none when there is no such run.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    fn events(&self, run: RunId, after: u64, agent: Option<AgentId>) -> Result<Option<EventsRead>, StoreError>;
}

/// What became of changes that only the disk can judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Committed {
    /// Receipts that were put into the chain; others were of no job, or of one that has its receipt.
    pub receipts: u64,
}

/// Some events of a run, as they were at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsRead {
    /// Numbers rising.
    pub events: Vec<RunEvent>,
    /// Every event up to this number was looked at.
    pub through: u64,
    /// Whether there are events above it.
    pub more: bool,
    /// Whether the run has ended everywhere.
    pub ended: bool,
}

/// Why the store does not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("the store `{}` is used by another process: stop that one, or give another `--dir`", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// A later version wrote it.
    #[error("the store `{}` is of schema {found}, and this program reads up to {known}: upgrade sloth-coord", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: u32,
        /// What this program reads.
        known: u32,
    },
    /// The system refused.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The database refused.
    #[error("cannot {action} the store `{}`: if it is damaged, bring back a copy of it", path.display())]
    Database {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the database said.
        source: Box<redb::Error>,
    },
    /// A value that is not what it should be.
    #[error("the store `{}` is damaged, a row of `{table}` cannot be read: bring back a copy of it", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Which table.
        table: &'static str,
        /// What is wrong with the row.
        source: RowError,
    },
}

/// Why a row cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// Its value.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Its key has the wrong length.
    #[error("its key has {bytes} bytes")]
    Key {
        /// How many.
        bytes: usize,
    },
    /// A release's envelope.
    #[error("its envelope cannot be read")]
    Envelope {
        /// Why.
        source: EnvelopeError,
    },
    /// A release's metadata.
    #[error("its metadata cannot be read")]
    Metadata {
        /// Why.
        source: serde_json::Error,
    },
    /// A row that another one names is not there.
    #[error("the row of `{table}` that it names is missing")]
    Missing {
        /// Where it should be.
        table: &'static str,
    },
}

impl From<ReadError> for StoreError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Fs(error) => Self::Fs(error),
            ReadError::TooLarge { path, .. } => Self::Fs(FsError {
                action: sloth_core::fs::Action::Read,
                path,
                source: std::io::ErrorKind::FileTooLarge.into(),
            }),
        }
    }
}
