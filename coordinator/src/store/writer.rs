//! The one thread that writes.

use std::{
    io,
    sync::Arc,
    thread::{Builder, JoinHandle},
    time::Instant,
};

use sloth_protocol::coordinator::Write;
use tokio::sync::{mpsc, oneshot};

use super::{Committed, Store, StoreError};
use crate::events;

/// Commits that wait for the writer.
const QUEUE_COMMITS_MAX: usize = 64;

/// A store with a thread that writes to it. Commits that wait at the same moment become one transaction.
#[derive(Clone)]
pub struct StoreHandle {
    store: Arc<dyn Store>,
    queue: mpsc::Sender<Commit>,
}

/// Why something was not committed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// The store refused.
    #[error("cannot commit to the store")]
    Store {
        /// Why. Shared by all whose changes were in that transaction.
        source: Arc<StoreError>,
    },
    /// The writer has ended.
    #[error("the store was closed")]
    Closed,
}

struct Commit {
    writes: Vec<Write>,
    done: oneshot::Sender<Result<(), CommitError>>,
}

impl StoreHandle {
    /// Starts the writer. It ends when the last handle is gone.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start(store: Arc<dyn Store>) -> io::Result<(Self, JoinHandle<()>)> {
        let (queue, commits) = mpsc::channel(QUEUE_COMMITS_MAX);
        let writer = Arc::clone(&store);
        let thread = Builder::new().name("store".to_owned()).spawn(move || write(writer.as_ref(), commits))?;
        Ok((Self { store, queue }, thread))
    }

    /// Makes all changes or none. They are on the disk when this returns.
    ///
    /// # Errors
    ///
    /// When the store refuses; what it holds is then to be found out by loading it.
    pub async fn commit(&self, writes: Vec<Write>) -> Result<(), CommitError> {
        let (done, result) = oneshot::channel();
        self.queue.send(Commit { writes, done }).await.map_err(|_| CommitError::Closed)?;
        result.await.map_err(|_| CommitError::Closed)?
    }

    /// Shows that the disk takes changes.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub async fn probe(&self) -> Result<(), CommitError> {
        self.commit(Vec::new()).await
    }

    /// Does something with the store that blocks, away from the threads that serve connections.
    ///
    /// # Errors
    ///
    /// What `work` gives.
    pub async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, CommitError> {
        let store = Arc::clone(&self.store);
        let result = tokio::task::spawn_blocking(move || work(store.as_ref())).await;
        result.map_err(|_| CommitError::Closed)?.map_err(|error| CommitError::Store { source: Arc::new(error) })
    }
}

impl std::fmt::Debug for StoreHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreHandle").finish_non_exhaustive()
    }
}

fn write(store: &dyn Store, mut commits: mpsc::Receiver<Commit>) {
    while let Some(first) = commits.blocking_recv() {
        let mut waiting = vec![first.done];
        let mut writes = first.writes;
        while let Ok(next) = commits.try_recv() {
            waiting.push(next.done);
            writes.extend(next.writes);
        }
        let begun = Instant::now();
        let result = store.commit(&writes);
        events::Committed { writes: writes.len(), seconds: begun.elapsed().as_secs_f64() }.emit();
        if let Ok(Committed { receipts }) = result {
            events::ReceiptsKept { receipts }.emit();
        }
        let result = result.map(drop).map_err(|error| CommitError::Store { source: Arc::new(error) });
        for done in waiting {
            // Who asked may be gone.
            let _ = done.send(result.clone());
        }
    }
}
