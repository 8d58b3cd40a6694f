//! Bringing bundles in: the manifest by its signed digest, then the chunks that are not here yet.

mod binary;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use quinn::{Connection, RecvStream};
use sloth_bundle::{Chunk, Limits, Manifest, StoreError as ChunkError, UnpackError, limits::MANIFEST_BYTES_MAX};
use sloth_core::{Chain, Digest, RunId};
use sloth_protocol::{
    agent::{Event, FetchError},
    wire::{AgentRequest, AgentResponse, BlobHead, Fetch, RefusalCode},
};
use sloth_transport::{Priority, request};
use tokio::{
    sync::{OwnedMutexGuard, mpsc},
    task::{AbortHandle, JoinSet, spawn_blocking},
    time::{Instant, timeout},
};

use tracing::Instrument as _;

use super::{
    Shared,
    bundles::{self, BundleError},
    link::Link,
    notes,
    pace::{PACE_BYTES_PER_SECOND, PACE_WINDOW, Pace},
};

/// Chunks that are downloaded at a time.
const DOWNLOADS_MAX: usize = 8;
/// How long a download may stand still.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a download is held before it is written.
const PIECE_BYTES: usize = 64 * 1024;

/// Brings bundles in, one after the other.
#[derive(Debug)]
pub(super) struct Fetcher {
    work: Arc<Work>,
    tasks: JoinSet<()>,
    /// Who fetches for a run, until the run is forgotten.
    fetches: BTreeMap<RunId, AbortHandle>,
    /// Who brings in the binary of the update with this number.
    staging: Option<(u64, AbortHandle)>,
}

#[derive(Debug)]
struct Work {
    shared: Arc<Shared>,
    link: Link,
    events: mpsc::Sender<Event>,
    /// Which bundles are needed, and by which runs.
    pins: Mutex<BTreeMap<RunId, Digest>>,
    /// Held by the one that downloads: what the next one needs may have come with it.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Fetcher {
    pub(super) fn new(shared: Arc<Shared>, link: Link, events: mpsc::Sender<Event>) -> Self {
        let work = Work { shared, link, events, pins: Mutex::default(), turn: Arc::default() };
        Self { work: Arc::new(work), tasks: JoinSet::new(), fetches: BTreeMap::new(), staging: None }
    }

    /// Sees that the bundle is unpacked, and tells.
    pub(super) fn fetch(&mut self, run: RunId, manifest: Digest, manifest_bytes: u64) {
        while self.tasks.try_join_next().is_some() {}
        self.work.pins().insert(run, manifest);
        let work = Arc::clone(&self.work);
        let task = async move {
            let result = work.bring(manifest, manifest_bytes).await;
            // Without the loop there is nobody to tell.
            let _ = work.events.send(Event::Fetched { run, result }).await;
        };
        let fetch = self.tasks.spawn(task.in_current_span());
        self.fetches.insert(run, fetch);
    }

    /// The run needs its bundle no more: whoever waits to download another need not wait for this one.
    pub(super) fn forget(&mut self, run: RunId) {
        self.work.pins().remove(&run);
        if let Some(fetch) = self.fetches.remove(&run) {
            fetch.abort();
        }
    }

    /// Stops what is under way; downloads go on where they stopped when they are asked for again.
    pub(super) fn end(mut self) {
        self.tasks.abort_all();
    }
}

impl Work {
    async fn bring(&self, digest: Digest, length: u64) -> Result<(), FetchError> {
        let shared = Arc::clone(&self.shared);
        if blocking(move || Ok(bundles::has(&shared, digest))).await? {
            return Ok(());
        }
        if u64::try_from(MANIFEST_BYTES_MAX).is_ok_and(|max| max < length) {
            return Err(FetchError::Never(format!(
                "its manifest has {length} bytes, this agent takes {MANIFEST_BYTES_MAX}"
            )));
        }
        let turn = match Arc::clone(&self.turn).try_lock_owned() {
            Ok(turn) => turn,
            Err(_) => {
                let turn = Arc::clone(&self.turn).lock_owned().await;
                let shared = Arc::clone(&self.shared);
                if blocking(move || Ok(bundles::has(&shared, digest))).await? {
                    return Ok(());
                }
                turn
            }
        };
        let shared = Arc::clone(&self.shared);
        if !blocking(move || Ok(shared.chunks.has(digest))).await? {
            self.download(self.connection()?, digest, length).await?;
        }
        let shared = Arc::clone(&self.shared);
        let bytes = blocking(move || shared.chunks.read(digest, length).map_err(|error| later(&error))).await?;
        let manifest = Manifest::decode(&bytes, &Limits::default()).map_err(|error| never(&error))?;
        let (shared, chunks) = (Arc::clone(&self.shared), manifest.chunks());
        let missing = blocking(move || Ok(shared.chunks.missing(&chunks))).await?;
        self.download_all(missing).await?;
        self.install(manifest, bytes, turn).await
    }

    async fn install(&self, manifest: Manifest, bytes: Vec<u8>, turn: OwnedMutexGuard<()>) -> Result<(), FetchError> {
        let shared = Arc::clone(&self.shared);
        let pinned: BTreeSet<Digest> = self.pins().values().copied().collect();
        let budget = shared.settings.bundle_cache_bytes;
        blocking(move || {
            // It goes on when the fetch is given up, and nobody else may install meanwhile.
            let _turn = turn;
            bundles::install(&shared.paths, &shared.chunks, &manifest, &bytes).map_err(|error| unpacked(&error))?;
            let now = shared.clock.now();
            let used = manifest.chunks().into_iter().map(|chunk| chunk.digest);
            let tidied = shared.chunks.touch(used, now).and_then(|()| shared.chunks.evict(budget, &BTreeSet::new()));
            if let Err(error) = tidied {
                tracing::warn!(error = %Chain(&error), "cannot keep the cache of chunks under its budget");
            }
            if let Err(error) = bundles::evict(&shared.paths, budget, &pinned) {
                tracing::warn!(error = %Chain(&error), "cannot keep the unpacked bundles under their budget");
            }
            Ok(())
        })
        .await
    }

    async fn download_all(&self, missing: Vec<Chunk>) -> Result<(), FetchError> {
        let mut downloads = JoinSet::new();
        let mut waiting = missing.into_iter();
        loop {
            while downloads.len() < DOWNLOADS_MAX
                && let Some(chunk) = waiting.next()
            {
                let (shared, connection) = (Arc::clone(&self.shared), self.connection()?);
                downloads
                    .spawn(async move { download(&shared, &connection, chunk.digest, u64::from(chunk.length)).await });
            }
            match downloads.join_next().await {
                Some(Ok(result)) => result?,
                Some(Err(error)) => return Err(later(&error)),
                None => return Ok(()),
            }
        }
    }

    async fn download(&self, connection: Connection, digest: Digest, length: u64) -> Result<(), FetchError> {
        download(&self.shared, &connection, digest, length).await
    }

    fn connection(&self) -> Result<Connection, FetchError> {
        self.link.connection().ok_or_else(|| FetchError::Later("there is no connection to the coordinator".to_owned()))
    }

    fn pins(&self) -> std::sync::MutexGuard<'_, BTreeMap<RunId, Digest>> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Downloads the blob that stands for the `length` bytes of `digest`, from where an earlier download stopped.
async fn download(
    shared: &Arc<Shared>,
    connection: &Connection,
    digest: Digest,
    length: u64,
) -> Result<(), FetchError> {
    loop {
        let own = Arc::clone(shared);
        let offset = blocking(move || own.chunks.partial_len(digest).map_err(|error| later(&error))).await?;
        let received = receive(shared, connection, digest, length, offset).await;
        let own = Arc::clone(shared);
        let finished = match received {
            Ok(()) => blocking(move || Ok(own.chunks.finish_partial(digest, length))).await?,
            Err(Received::Useless) => blocking(move || Ok(own.chunks.forget_partial(digest))).await?,
            Err(Received::Failed(error)) => return Err(error),
        };
        match finished {
            Ok(()) if shared.chunks.has(digest) => return Ok(()),
            // What was there before did not belong to what came now: once more from the start.
            Ok(()) | Err(ChunkError::Refused { .. } | ChunkError::DownloadTooLarge { .. }) if 0 < offset => {}
            Ok(()) => return Err(FetchError::Later(format!("the coordinator sent nothing of `{digest}`"))),
            Err(error @ (ChunkError::Refused { .. } | ChunkError::DownloadTooLarge { .. })) => {
                return Err(never(&error));
            }
            Err(error) => return Err(later(&error)),
        }
    }
}

/// Why a blob was not received.
enum Received {
    /// What was there before cannot be continued.
    Useless,
    Failed(FetchError),
}

impl From<FetchError> for Received {
    fn from(error: FetchError) -> Self {
        Self::Failed(error)
    }
}

async fn receive(
    shared: &Arc<Shared>,
    connection: &Connection,
    digest: Digest,
    length: u64,
    offset: u64,
) -> Result<(), Received> {
    let message = AgentRequest::Fetch(Fetch { digest, offset });
    let answer = timeout(STALL_TIMEOUT, request::<_, AgentResponse>(connection, &message, Priority::Blobs)).await;
    let (response, mut stream) = answer.map_err(|_| stalled())?.map_err(|error| later(&error))?;
    let whole = match response {
        AgentResponse::Blob(BlobHead { length }) => length,
        AgentResponse::Refused(refusal) if refusal.code == RefusalCode::Invalid && 0 < offset => {
            return Err(Received::Useless);
        }
        AgentResponse::Refused(refusal) => return Err(FetchError::Later(notes::brief(&refusal.reason)).into()),
        AgentResponse::Welcome(_) | AgentResponse::Work(_) | AgentResponse::Acked(_) | AgentResponse::Renewed(_) => {
            return Err(FetchError::Later("the coordinator gave an answer to another question".to_owned()).into());
        }
    };
    let mut have = offset;
    let mut pace = Pace::new(Instant::now());
    loop {
        let Piece { bytes, then } = next_piece(&mut stream, &mut pace).await;
        if !bytes.is_empty() {
            let (own, at) = (Arc::clone(shared), have);
            let kept = blocking(move || Ok(own.chunks.append_partial(digest, length, at, &bytes))).await?;
            have = match kept {
                Ok(have) => have,
                Err(ChunkError::DownloadTooLarge { .. }) if 0 < offset => return Err(Received::Useless),
                Err(error @ ChunkError::DownloadTooLarge { .. }) => return Err(never(&error).into()),
                Err(error) => return Err(later(&error).into()),
            };
        }
        match then {
            Then::More => {}
            Then::End => break,
            Then::Broken(error) => return Err(error.into()),
        }
    }
    if have == whole {
        return Ok(());
    }
    if whole < have {
        return Err(Received::Useless);
    }
    Err(FetchError::Later("the coordinator ended a download too early".to_owned()).into())
}

/// What came of a download at once.
struct Piece {
    bytes: Vec<u8>,
    then: Then,
}

/// What comes after a piece.
enum Then {
    More,
    End,
    /// Nothing, and the piece is still good: a download goes on after it.
    Broken(FetchError),
}

/// What comes next, gathered so that the disk is not asked for every packet.
async fn next_piece(stream: &mut RecvStream, pace: &mut Pace) -> Piece {
    let mut bytes = Vec::new();
    let then = loop {
        match timeout(STALL_TIMEOUT, stream.read_chunk(PIECE_BYTES, true)).await {
            Err(_) => break Then::Broken(stalled()),
            Ok(Err(error)) => break Then::Broken(later(&error)),
            Ok(Ok(None)) => break Then::End,
            Ok(Ok(Some(chunk))) => {
                bytes.extend_from_slice(&chunk.bytes);
                if !pace.keeps_up(Instant::now(), chunk.bytes.len()) {
                    break Then::Broken(too_slow());
                }
            }
        }
        if PIECE_BYTES <= bytes.len() {
            break Then::More;
        }
    };
    Piece { bytes, then }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FetchError> + Send + 'static,
) -> Result<T, FetchError> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(later(&error)))
}

fn stalled() -> FetchError {
    FetchError::Later(format!("a download stood still for {} s", STALL_TIMEOUT.as_secs()))
}

fn too_slow() -> FetchError {
    let seconds = PACE_WINDOW.as_secs();
    FetchError::Later(format!("a download brought less than {PACE_BYTES_PER_SECOND} bytes a second for {seconds} s"))
}

fn later(error: &dyn std::error::Error) -> FetchError {
    FetchError::Later(Chain(error).to_string())
}

fn never(error: &dyn std::error::Error) -> FetchError {
    FetchError::Never(Chain(error).to_string())
}

/// A disk that fails may work later, and what is missing in the cache may be fetched again; a manifest does not change.
fn unpacked(error: &BundleError) -> FetchError {
    match error {
        BundleError::Manifest(_) => never(error),
        BundleError::Unpack(UnpackError::Fs(_) | UnpackError::Exists { .. } | UnpackError::Chunk { .. })
        | BundleError::Read(_)
        | BundleError::Fs(_)
        | BundleError::Damaged { .. } => later(error),
    }
}
