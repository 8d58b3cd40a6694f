//! The daemon: one loop around the machine of `sloth_protocol::agent`, and those who do what it says.
//!
//! Every part that works for the loop is made anew when the machine is: after a commit that failed, nothing of the
//! machine's memory is believed any more, so its connection and its workers go, and it is restored from the disk.

mod bundles;
mod core_loop;
mod fetch;
mod link;
mod local_socket;
mod notes;
mod pace;
mod status;
mod supervise;
mod updates;
mod workers;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use sloth_bundle::{ChunkStore, StoreError as ChunkError};
use sloth_core::{
    Clock, Millis,
    fs::{FsError, LockError, LockFile},
};
use sloth_protocol::{
    agent::{Config, RestoreError, Updates},
    update::FromDaemon,
};
use sloth_transport::Identity;
use sloth_trust::{MachineKey, Triple};
use tokio::sync::mpsc;
use tracing::Instrument as _;

pub use local_socket::{AskError, ask};
pub use status::{JobStatus, LaneStatus, Status};

use crate::{
    VERSION,
    config::Settings,
    enrolment::{self, Enrolment, EnrolmentError},
    leftovers::{self, Whose},
    paths::Paths,
    platform,
    store::{Store, StoreError},
    update::supervised::Supervised,
};

/// Downloads that nobody went on with for so long are removed at the start.
const DOWNLOAD_AGE_MAX: Millis = Millis::from_secs(7 * 24 * 3600);
/// Most questions of this host that wait for an answer.
const QUESTIONS_MAX: usize = 16;

/// Why a daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The host is not enrolled, or its enrolment cannot be read.
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
    /// Another daemon has the directory.
    #[error("cannot start the daemon")]
    Lock {
        /// Who has it.
        #[from]
        source: LockError,
    },
    /// The system refused.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cache of bundles cannot be opened.
    #[error("cannot open the cache of bundles")]
    Cache {
        /// Why.
        #[from]
        source: ChunkError,
    },
    /// The trust root is not the one that was enrolled with.
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

/// A daemon that may run.
#[derive(Debug)]
pub struct Daemon {
    shared: Arc<Shared>,
    _lock: LockFile,
}

/// What all parts of the daemon know.
#[derive(Debug)]
struct Shared {
    paths: Paths,
    settings: Settings,
    enrolment: Enrolment,
    /// Replaced when the certificate is renewed.
    identity: Mutex<Identity>,
    /// Signs receipts.
    receipt_key: MachineKey,
    store: Store,
    chunks: ChunkStore,
    clock: Clock,
    /// What is started as a worker.
    program: PathBuf,
    supervised: Option<Supervised>,
}

impl Daemon {
    /// Takes the directory and reads what is in it. `program` is started, with the argument `worker`, for each run.
    ///
    /// # Errors
    ///
    /// When the host is not enrolled, another daemon has the directory, or something in it cannot be used.
    pub fn open(paths: Paths, settings: Settings, program: PathBuf) -> Result<Self, DaemonError> {
        let enrolment = Enrolment::load(&paths)?;
        if enrolment.is_of_another_machine() {
            tracing::warn!(
                "this host's machine-id is not that of the host that was enrolled: if its disk is a copy, give it an identity of its own with `sloth-agent enroll --again TOKEN`"
            );
        }
        let identity = enrolment::load_identity(&paths)?;
        let receipt_key = enrolment.receipt_key(&paths)?;
        paths.create()?;
        let lock = LockFile::acquire(&paths.lock())?;
        let clock = Clock::new();
        let now = clock.now();
        let store = Store::open(&paths.store(), now)?;
        let chunks = ChunkStore::open(&paths.cache())?;
        chunks.sweep(now - DOWNLOAD_AGE_MAX)?;
        let identity = Mutex::new(identity);
        let supervised = Supervised::from_environment();
        let shared =
            Shared { paths, settings, enrolment, identity, receipt_key, store, chunks, clock, program, supervised };
        Ok(Self { shared: Arc::new(shared), _lock: lock })
    }

    /// Works until `stop` resolves, and then stops everything that it started.
    ///
    /// # Errors
    ///
    /// When what is on the disk cannot be used. A disk that fails later is waited for.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), DaemonError> {
        let span = tracing::info_span!("agent", name = %self.shared.enrolment.name);
        self.run_in_span(stop).instrument(span).await
    }

    async fn run_in_span(self, stop: impl Future<Output = ()>) -> Result<(), DaemonError> {
        let durable = self.shared.store.load().await?;
        let shared = Arc::clone(&self.shared);
        let jobs = durable.jobs.keys().copied().collect();
        // The workers of an earlier daemon end with it; what they started may not have.
        let swept = tokio::task::spawn_blocking(move || {
            if !leftovers::kill(&Whose { runs: jobs, session: None }) {
                tracing::error!("processes of an earlier daemon's runs cannot be ended: a task may run twice");
            }
            bundles::sweep(&shared.paths);
            workers::sweep(&shared.paths, &durable.jobs.keys().copied().collect());
        });
        // A panic in there was logged, and leaves nothing worse behind than there was.
        let _ = swept.await;
        let (asking, questions) = mpsc::channel(QUESTIONS_MAX);
        let socket = local_socket::listen(&self.shared.paths.socket(), asking);
        let ran = core_loop::run(Arc::clone(&self.shared), questions, stop).await;
        drop(socket);
        self.shared.store.close().await;
        ran
    }
}

impl Shared {
    /// Tells the supervisor, if there is one.
    fn say(&self, word: FromDaemon) {
        if let Some(supervised) = &self.supervised {
            supervised.say(word);
        }
    }

    /// Resolves when the supervisor wants the daemon to end once its work is done.
    async fn is_to_end(&self) {
        match &self.supervised {
            Some(supervised) => supervised.ends().await,
            None => std::future::pending().await,
        }
    }

    /// What the machine is told.
    fn machine_config(&self) -> Config {
        let (certificate_from, certificate_until) = self.with_identity(|own| (own.not_before(), own.not_after()));
        let mut host_labels = self.enrolment.host_labels.clone();
        host_labels.extend(self.settings.labels.clone());
        Config {
            id: self.enrolment.agent,
            name: self.enrolment.name.clone(),
            host_labels,
            enrolled_labels: self.enrolment.labels.clone(),
            version: VERSION.to_owned(),
            platform: platform::detect(),
            root: self.enrolment.root.clone(),
            root_pin: self.enrolment.root_pin,
            certificate_from,
            certificate_until,
            pacing: self.settings.pacing(),
            runs_max: self.settings.runs_max,
            outbox_bytes_max: [self.settings.outbox_results_bytes, self.settings.outbox_logs_bytes],
            updates: Updates { target: Triple::own(), rules: updates::rules(self) },
        }
    }

    fn with_identity<T>(&self, read: impl FnOnce(&mut Identity) -> T) -> T {
        // Whoever panicked while holding it has changed it as a whole or not at all.
        read(&mut self.identity.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
