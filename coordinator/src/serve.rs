//! `sloth-coord serve`: agents and operators come here.
//!
//! One task owns the machine of `sloth_protocol::coordinator`. Connections send it what is asked and get what is
//! answered, which is always on the disk by then. Blobs and the events of runs do not pass through it.

mod agent_lane;
mod complaint;
mod connection;
mod core_handle;
mod core_loop;
mod enroll_lane;
mod follow;
mod http;
mod online;
mod operator_lane;
mod publish;
mod releases;
mod shares;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

pub use connection::{AGENT_CONNECTIONS_MAX, ENROLLING_CONNECTIONS_MAX, OPERATOR_CONNECTIONS_MAX};
pub use core_loop::CoreError;
pub use online::OnlineError;
use quinn::Endpoint;
use sloth_bundle::{ChunkStore, StoreError as BlobError};
use sloth_core::{
    Clock, Digest, Millis,
    fs::{self, LockError, LockFile, SecretError},
};
use sloth_protocol::coordinator::{Durable, Settings};
use sloth_transport::{
    Authority, AuthorityError, CloseCode, IssueError, Limits, ListenError, TlsError, listen, server,
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use self::{complaint::Complaint, connection::Context, core_handle::CoreHandle, core_loop::Core, follow::Followers};
use crate::{
    config::{Config, SettingsError},
    paths::Paths,
    store::{RedbStore, Store, StoreError, StoreHandle},
};

/// How long the certificate of the coordinator itself is good. It is made anew at every start.
const SERVER_CERTIFICATE_LIFE: Millis = Millis::from_secs(90 * 24 * 3600);
/// And when it is made anew while it serves: a third is left then.
const SERVER_CERTIFICATE_RENEW: Duration = Duration::from_secs(60 * 24 * 3600);
/// How often it is looked whether that time has come, or the clock was set.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(60);
/// How long peers have to hear that the coordinator is going down.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(3);
/// Most bytes of a PEM file.
const PEM_BYTES_MAX: u64 = 64 * 1024;
/// Uploads that nobody went on with for this long are removed at the start.
const ABANDONED: Millis = Millis::from_secs(24 * 3600);
/// How long what was uploaded waits for the signatures of a bundle or release that names it.
const UNSUBMITTED_KEPT: Millis = Millis::from_secs(14 * 24 * 3600);

/// Why the coordinator does not serve, or has stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Another process serves from this directory.
    #[error("another coordinator serves from `{}`", dir.display())]
    Lock {
        /// The directory.
        dir: PathBuf,
        /// Who.
        source: LockError,
    },
    /// The authority's files cannot be read.
    #[error("cannot read the coordinator's authority in `{}`", dir.display())]
    AuthorityFile {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: SecretError,
    },
    /// The authority cannot be used.
    #[error("cannot use the coordinator's authority in `{}`", dir.display())]
    Authority {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: AuthorityError,
    },
    /// The online keys cannot be used.
    #[error("cannot use the coordinator's online keys")]
    Online {
        /// Why.
        #[from]
        source: OnlineError,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The blobs cannot be used.
    #[error("cannot open the bundles' files")]
    Blobs {
        /// Why.
        #[from]
        source: BlobError,
    },
    /// The coordinator's own certificate.
    #[error("cannot make the coordinator's certificate")]
    Certificate {
        /// Why.
        #[from]
        source: IssueError,
    },
    /// TLS.
    #[error("cannot set up TLS")]
    Tls {
        /// Why.
        #[from]
        source: TlsError,
    },
    /// The UDP socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The TCP socket.
    #[error("cannot listen on TCP `{address}` for metrics: choose another `http` address in the settings")]
    Http {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Metrics.
    #[error("cannot collect metrics")]
    Metrics {
        /// Why.
        source: Arc<metrics_exporter_prometheus::BuildError>,
    },
    /// No thread, no randomness.
    #[error("the system gives no {what}")]
    System {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// The machine.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// A task of the server was lost.
    #[error("the coordinator failed: its log says more")]
    Lost {
        /// How.
        source: tokio::task::JoinError,
    },
}

/// A coordinator that serves.
#[derive(Debug)]
pub struct Server {
    endpoint: Endpoint,
    http: SocketAddr,
    core: JoinHandle<Result<(), CoreError>>,
    stop: watch::Sender<bool>,
    /// Held until the store is closed.
    _lock: LockFile,
}

impl Server {
    /// Opens everything in the coordinator's directory and begins to serve. To be called within a tokio runtime of
    /// several threads.
    ///
    /// # Errors
    ///
    /// When something in the directory cannot be used, or an address cannot be listened on.
    pub async fn start(paths: &Paths, config: Config) -> Result<Self, ServeError> {
        let lock = LockFile::acquire(&paths.lock())
            .map_err(|source| ServeError::Lock { dir: paths.dir().to_owned(), source })?;
        let clock = Arc::new(Clock::new());
        let authority = authority(paths)?;
        let blobs = ChunkStore::open(&paths.blobs())?;
        let store: Arc<dyn Store> = Arc::new(RedbStore::open(&paths.store())?);
        let no_thread = |source| ServeError::System { what: "thread", source };
        let (store, _writer) = StoreHandle::start(store).map_err(no_thread)?;
        let metrics = http::metrics().map_err(|source| ServeError::Metrics { source })?;
        let followers = Arc::new(Followers::default());
        let (core_handle, inlets) = CoreHandle::new();
        let online = online::Online::open(&paths.online_keys())?;
        let settings = Settings { head_life: config.head_life.millis() };
        let core = Core::restore(Arc::clone(&clock), store.clone(), Arc::clone(&followers), inlets, settings, seed()?);
        let core = core.await?;
        tidy(&blobs, core.machine().durable(), clock.now());

        let identity = authority.issue_server(clock.now(), SERVER_CERTIFICATE_LIFE)?;
        let endpoint =
            listen(config.listen, server(&authority, &identity, Limits::default())?, &authority.continuity())?;
        let listener =
            http::listen(config.http).await.map_err(|source| ServeError::Http { address: config.http, source })?;
        let http = listener.local_addr().unwrap_or(config.http);
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(http::serve(listener, core_handle.clone(), store.clone(), metrics, stopped.clone()));
        let life = config.certificate_life.millis();
        let context =
            Context::new(clock, authority, online, store, blobs, core_handle, followers, config.addresses, life);
        let context = Arc::new(context);
        tokio::spawn(renew(Arc::clone(&context), endpoint.clone(), stopped.clone()));
        tokio::spawn(connection::accept(context, endpoint.clone(), Limits::default()));
        let core = tokio::spawn(core.run(stopped));
        Ok(Self { endpoint, http, core, stop, _lock: lock })
    }

    /// Where agents and operators connect.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Where metrics and health are told.
    #[must_use]
    pub const fn http(&self) -> SocketAddr {
        self.http
    }

    /// Serves until `stop` is ready or the machine cannot go on, and then takes leave of everybody.
    ///
    /// # Errors
    ///
    /// When the machine could not go on.
    pub async fn run_until(mut self, stop: impl Future<Output = ()> + Send) -> Result<(), ServeError> {
        let ended = tokio::select! {
            ended = &mut self.core => Some(ended),
            () = stop => None,
        };
        self.endpoint.close(CloseCode::Shutdown.code(), CloseCode::Shutdown.reason().as_bytes());
        // Nobody listens any more when everything has ended by itself.
        let _ = self.stop.send(true);
        let ended = match ended {
            Some(ended) => ended,
            None => self.core.await,
        };
        if timeout(GOODBYE_TIMEOUT, self.endpoint.wait_idle()).await.is_err() {
            tracing::debug!("not everybody heard the goodbye");
        }
        ended.map_err(|source| ServeError::Lost { source })?.map_err(ServeError::from)
    }
}

/// Reads the coordinator's authority.
///
/// # Errors
///
/// When its files are missing or damaged.
pub fn authority(paths: &Paths) -> Result<Authority, ServeError> {
    let dir = || paths.dir().to_owned();
    let refuse = |source| ServeError::AuthorityFile { dir: dir(), source };
    let certificate =
        fs::read_capped(&paths.authority_certificate(), PEM_BYTES_MAX).map_err(SecretError::from).map_err(refuse)?;
    let key = Paths::authority_credential().unwrap_or_else(|| paths.authority_key());
    let key = fs::read_secret(&key, PEM_BYTES_MAX).map_err(refuse)?;
    Authority::from_pem(&String::from_utf8_lossy(&certificate), &key)
        .map_err(|source| ServeError::Authority { dir: dir(), source })
}

/// Gives the coordinator a new certificate in time. Connections that are up stay up.
async fn renew(context: Arc<Context>, endpoint: Endpoint, mut stop: watch::Receiver<bool>) {
    let mut issued = context.clock.now();
    let mut complaint = Complaint::default();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(CERTIFICATE_CHECK) => {}
        }
        // The clock may have been set: one of the future, or of long ago, is good for nothing.
        let now = context.clock.now();
        if issued <= now && now.since(issued).as_duration() < SERVER_CERTIFICATE_RENEW {
            continue;
        }
        let authority = &context.authority;
        let renewed = authority
            .issue_server(now, SERVER_CERTIFICATE_LIFE)
            .map_err(ServeError::from)
            .and_then(|identity| Ok(server(authority, &identity, Limits::default())?));
        match renewed {
            Ok(config) => {
                complaint.settle();
                endpoint.set_server_config(Some(config));
                issued = now;
            }
            Err(error) => {
                let error = sloth_core::Chain(&error).to_string();
                if !complaint.is_due(now, &error) {
                    continue;
                }
                tracing::error!(error, "the coordinator's certificate ends in 30 days and is not renewed: start again");
            }
        }
    }
}

/// Removes the blobs that no release names any more and that are not waiting for one: what was published under names that
/// were dropped, and what was uploaded for nothing.
fn tidy(blobs: &ChunkStore, state: &Durable, now: Millis) {
    let mut named = BTreeSet::<Digest>::new();
    for release in state.bundles.values().flat_map(|releases| releases.values()) {
        match publish::blobs_of(blobs, release.metadata.manifest) {
            Ok(digests) => named.extend(digests),
            Err(refusal) => {
                // Which chunks it has cannot be told, so none is removed.
                let bundle = format!("{} {}", release.metadata.name, release.metadata.version);
                tracing::error!(bundle, error = %refusal, "a bundle is damaged: publish it again");
                return;
            }
        }
    }
    for binary in state.releases.values().flat_map(|row| row.release.targets.iter()) {
        match releases::blobs_of(blobs, binary) {
            Ok(digests) => named.extend(digests),
            Err(refusal) => {
                tracing::error!(digest = %binary.digest, error = %refusal, "a release of the agent is damaged: publish it again");
                return;
            }
        }
    }
    match blobs.sweep(now - ABANDONED).and_then(|_| blobs.evict_unused(now - UNSUBMITTED_KEPT, &named)) {
        Ok(evicted) if 0 < evicted.files => {
            tracing::info!(files = evicted.files, bytes = evicted.bytes, "blobs that no release needs were removed");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(error = %sloth_core::Chain(&error), "cannot tidy the bundles' files"),
    }
}

fn seed() -> Result<u64, ServeError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| ServeError::System { what: "randomness", source: io::Error::other(error) })?;
    Ok(u64::from_be_bytes(bytes))
}
