//! The agent's store: one redb file, one thread that writes it.
//!
//! The thread takes what has queued up, commits it in one transaction, and answers when it is on the disk. A commit
//! that failed has changed nothing; the database is then closed, and opened again for the next command, since redb
//! does not go on after an error of its file.

mod codec;
mod error;
mod state;
mod tables;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use sloth_core::Millis;
use sloth_protocol::{
    agent::{Durable, Write},
    wire::{Lane, Record},
};
use sloth_workflow::{StateError, StateOperation, StateReply};
use tokio::sync::{mpsc, oneshot};

pub use codec::CodecError;
pub use error::StoreError;
pub use state::STATE_BYTES_MAX;

use writer::{Command, Writer};

/// The version of the file's layout that this build reads and writes.
pub const SCHEMA: u32 = 1;
/// Most bytes of the file that are kept in memory.
pub const CACHE_BYTES: usize = 4 * 1024 * 1024;
/// Most commands that wait; who has more waits too.
const COMMANDS_MAX: usize = 256;

/// A handle to the store. When the last one is dropped, the file is closed.
#[derive(Debug, Clone)]
pub struct Store {
    commands: mpsc::Sender<Command>,
}

/// Opens the database of a store, each time that it has to be opened.
type Opener = Box<dyn FnMut() -> Result<redb::Database, error::Fault> + Send>;

impl Store {
    /// Opens the store at `path`, making it when it is missing. Blocks until it is there.
    ///
    /// # Errors
    ///
    /// When another process has it, a later release wrote it, or the system refuses.
    pub fn open(path: &Path, now: Millis) -> Result<Self, StoreError> {
        let file = path.to_owned();
        Self::start(path.to_owned(), Box::new(move || writer::open_file(&file)), STATE_BYTES_MAX, now)
    }

    fn start(path: PathBuf, opener: Opener, state_bytes_max: u64, now: Millis) -> Result<Self, StoreError> {
        let mut writer = Writer::new(path.clone(), opener, state_bytes_max);
        writer.open(now)?;
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);
        let spawned = std::thread::Builder::new().name("store".to_owned()).spawn(move || writer.run(queue));
        let started = |source| sloth_core::fs::FsError { action: sloth_core::fs::Action::Write, path, source };
        spawned.map_err(|source| StoreError::Fs(Arc::new(started(source))))?;
        Ok(Self { commands })
    }

    /// What the machine is restored from.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub async fn load(&self) -> Result<Durable, StoreError> {
        self.ask(|done| Command::Load { done }).await
    }

    /// Commits `writes` in one transaction. After `Ok` they are on the disk.
    ///
    /// # Errors
    ///
    /// When the disk is full or broken. Nothing was changed then.
    pub async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.ask(|done| Command::Commit { writes, done }).await
    }

    /// Those of the lane's records under `seqs` that are there, in that order.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub async fn records(&self, lane: Lane, seqs: Vec<u64>) -> Result<Vec<Record>, StoreError> {
        self.ask(|done| Command::Records { lane, seqs, done }).await
    }

    /// Does what a script asked of its state. Every bundle has a `namespace` of its own.
    ///
    /// # Errors
    ///
    /// When it cannot be done, in a sentence for the script.
    pub async fn state(
        &self,
        namespace: &str,
        operation: StateOperation,
        now: Millis,
    ) -> Result<StateReply, StateError> {
        let request = state::Request { namespace: namespace.to_owned(), operation, now };
        let answer = self.ask(|done| Command::State { request, done }).await;
        let answer = answer.unwrap_or_else(|error| Err(sloth_core::Chain(&error).to_string()));
        answer.map_err(|message| StateError { message })
    }

    /// Closes the file, so that the next start need not check it. Whoever still has a handle gets
    /// [`StoreError::Closed`] from now on.
    pub async fn close(&self) {
        // A thread that is gone has closed it.
        let _ = self.ask(|done| Command::Close { done }).await;
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command,
    ) -> Result<T, StoreError> {
        let (done, answer) = oneshot::channel();
        self.commands.send(command(done)).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }
}

#[cfg(test)]
mod tests;
