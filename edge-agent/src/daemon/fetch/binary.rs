//! Bringing binaries of the agent in: what the running one has in common with the new one is not fetched.

use std::{
    collections::BTreeSet, fs::OpenOptions, io::Write as _, ops::Not as _, os::unix::fs::OpenOptionsExt as _,
    path::Path, sync::Arc,
};

use sloth_bundle::{
    ChunkStore, DeltaError, File, Limits, Manifest, StoreError as ChunkError, delta, limits::MANIFEST_BYTES_MAX, seed,
};
use sloth_core::{
    Chain, Digest,
    fs::{self, Access, Action, FsError},
};
use sloth_protocol::agent::{Event, FetchError, Update};
use sloth_trust::{Delta, Sha256, Triple, sha256::Hasher};
use tracing::Instrument as _;

use super::{Fetcher, Shared, Work, blocking, later, never};
use crate::update::stage::{Expected, StageError, stage};

/// The mode of a binary that was not tried yet.
const MODE: u32 = 0o700;

/// Why there is no binary.
#[derive(Debug, thiserror::Error)]
enum AssembleError {
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error("a part of the binary is not there")]
    Chunk(#[from] ChunkError),
    #[error(transparent)]
    Delta(#[from] DeltaError),
    #[error("the binary's SHA-256 is `{got}`, `{wanted}` was signed")]
    Other { got: Sha256, wanted: Sha256 },
}

impl Fetcher {
    /// Sees that the binary of an update is on the disk, and tells.
    pub(in crate::daemon) fn stage(&mut self, update: Update) {
        while self.tasks.try_join_next().is_some() {}
        let (work, counter) = (Arc::clone(&self.work), update.counter);
        let task = async move {
            let result = work.bring_and_stage(update).await;
            // Without the loop there is nobody to tell.
            let _ = work.events.send(Event::UpdateReady { counter, result }).await;
        };
        if let Some(before) = self.staging.replace((counter, self.tasks.spawn(task.in_current_span()))) {
            before.1.abort();
        }
    }

    /// The update is over: nothing more is brought in for it.
    pub(in crate::daemon) fn forget_update(&mut self, counter: u64) {
        if let Some((_, staging)) = self.staging.take_if(|(other, _)| *other == counter) {
            staging.abort();
        }
    }
}

impl Work {
    /// Brings the binary in, and lets it show that it runs here.
    async fn bring_and_stage(&self, update: Update) -> Result<(), FetchError> {
        self.bring_binary(&update).await?;
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let path = shared.paths.update_binary(update.digest);
            let file = std::fs::File::open(&path).map_err(|error| later(&error))?;
            let (version, target) = (Some(update.version), Some(Triple::own()));
            let expected = Expected { version, above: None, target, bytes: update.length, sha256: update.digest };
            stage(&shared.paths, file, &expected).map_err(|error| match &error {
                StageError::Fs(_) | StageError::Source { .. } => later(&error),
                StageError::TooLarge { .. }
                | StageError::Mismatch
                | StageError::Elf { .. }
                | StageError::Target { .. }
                | StageError::SelfTest { .. }
                | StageError::Version { .. }
                | StageError::Older { .. }
                | StageError::Taken { .. } => never(&error),
            })?;
            // The staged one is a copy; what stays behind goes before the next update.
            let _ = std::fs::remove_file(&path);
            Ok(())
        })
        .await
    }

    async fn bring_binary(&self, update: &Update) -> Result<(), FetchError> {
        let own = Arc::clone(&self.shared);
        let (path, digest) = (own.paths.update_binary(update.digest), update.digest);
        let there = path.clone();
        if blocking(move || Ok(is_there(&there, digest))).await? {
            return Ok(());
        }
        if u64::try_from(MANIFEST_BYTES_MAX).is_ok_and(|max| max < update.manifest_bytes) {
            let reason =
                format!("its manifest has {} bytes, this agent takes {MANIFEST_BYTES_MAX}", update.manifest_bytes);
            return Err(FetchError::Never(reason));
        }
        let _turn = Arc::clone(&self.turn).lock_owned().await;
        if self.by_delta(update, &path).await? {
            return Ok(());
        }
        let file = self.manifest_of(update).await?;
        let wanted: BTreeSet<Digest> = file.chunks.iter().map(|chunk| chunk.digest).collect();
        let (shared, chunks) = (Arc::clone(&self.shared), file.chunks.clone());
        let missing = blocking(move || {
            // A program that cannot be read gives nothing, and all of the new one is fetched.
            match seed(&shared.program, &wanted, &shared.chunks) {
                Ok(bytes) => tracing::info!(bytes, "the running version has this much of the next one"),
                Err(error) => tracing::warn!(error = %Chain(&error), "cannot read the running version"),
            }
            Ok(shared.chunks.missing(&chunks))
        })
        .await?;
        let bytes: u64 = missing.iter().map(|chunk| u64::from(chunk.length)).sum();
        tracing::info!(version = %update.version, chunks = missing.len(), bytes, of = update.length, "fetching an update");
        self.download_all(missing).await?;
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            assemble(&shared.chunks, &file, &path, digest).map_err(|error| match &error {
                AssembleError::Other { .. } => never(&error),
                AssembleError::Fs(_) | AssembleError::Chunk(_) | AssembleError::Delta(_) => later(&error),
            })
        })
        .await
    }

    /// Makes the binary of the one that runs, where there is a delta from that; whether it is there then.
    async fn by_delta(&self, update: &Update, path: &Path) -> Result<bool, FetchError> {
        let (shared, deltas) = (Arc::clone(&self.shared), update.deltas.clone());
        let running =
            blocking(move || Ok(deltas.is_empty().not().then(|| digest_of(&shared.program).ok()).flatten())).await?;
        let Some(delta) = update.deltas.iter().find(|delta| Some(delta.from) == running).copied() else {
            return Ok(false);
        };
        let (digest, length) = (delta.blob.digest, delta.blob.length);
        tracing::info!(version = %update.version, bytes = length, of = update.length, "fetching an update as a delta");
        let shared = Arc::clone(&self.shared);
        if !blocking(move || Ok(shared.chunks.has(digest))).await? {
            match self.download(self.connection()?, digest, length).await {
                Ok(()) => {}
                Err(FetchError::Never(reason)) => {
                    tracing::warn!(%reason, "the delta cannot be used: fetching the whole");
                    return Ok(false);
                }
                Err(later) => return Err(later),
            }
        }
        let (shared, path, wanted, bytes) = (Arc::clone(&self.shared), path.to_owned(), update.digest, update.length);
        blocking(move || {
            let made = patch(&shared, delta, &path, (wanted, bytes));
            if let Err(error) = &made {
                tracing::warn!(error = %Chain(error), "the delta cannot be used: fetching the whole");
            }
            Ok(made.is_ok())
        })
        .await
    }

    /// The one file of the update's manifest.
    async fn manifest_of(&self, update: &Update) -> Result<File, FetchError> {
        let (digest, length) = (update.manifest, update.manifest_bytes);
        let shared = Arc::clone(&self.shared);
        if !blocking(move || Ok(shared.chunks.has(digest))).await? {
            self.download(self.connection()?, digest, length).await?;
        }
        let shared = Arc::clone(&self.shared);
        let bytes = blocking(move || shared.chunks.read(digest, length).map_err(|error| later(&error))).await?;
        let manifest = Manifest::decode(&bytes, &Limits::default()).map_err(|error| never(&error))?;
        let mut files = manifest.into_parts().files.into_iter();
        match (files.next(), files.next()) {
            (Some(file), None) if file.size == update.length => Ok(file),
            (Some(_) | None, _) => {
                Err(FetchError::Never("its manifest is not of the one binary that was signed".to_owned()))
            }
        }
    }
}

/// Whether the file is there, whole, as it was signed.
fn is_there(path: &Path, wanted: Sha256) -> bool {
    digest_of(path).is_ok_and(|got| got == wanted)
}

fn digest_of(path: &Path) -> std::io::Result<Sha256> {
    let mut hasher = Hasher::default();
    std::io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
    Ok(hasher.finish())
}

/// Makes the file of the running program and a delta that was fetched.
fn patch(shared: &Shared, by: Delta, path: &Path, wanted: (Sha256, u64)) -> Result<(), AssembleError> {
    let (wanted, length) = wanted;
    let old = std::fs::read(&shared.program).map_err(FsError::of(Action::Read, &shared.program))?;
    let made = delta::apply(&old, &shared.chunks.read(by.blob.digest, by.blob.length)?, length)?;
    put(path, wanted, |content| content.take(&made))
}

/// Puts the file together from its chunks.
fn assemble(chunks: &ChunkStore, file: &File, path: &Path, wanted: Sha256) -> Result<(), AssembleError> {
    put(path, wanted, |content| {
        file.chunks.iter().try_for_each(|chunk| content.take(&chunks.read(chunk.digest, u64::from(chunk.length))?))
    })
}

/// A file that is being written, and its SHA-256 so far.
struct Content<'p> {
    file: std::fs::File,
    path: &'p Path,
    hasher: Hasher,
}

impl Content<'_> {
    fn take(&mut self, bytes: &[u8]) -> Result<(), AssembleError> {
        self.hasher.update(bytes);
        Ok(self.file.write_all(bytes).map_err(FsError::of(Action::Write, self.path))?)
    }
}

/// Writes a file beside where it belongs, and puts it there when it is what was signed and on the disk.
fn put(
    path: &Path,
    wanted: Sha256,
    fill: impl FnOnce(&mut Content<'_>) -> Result<(), AssembleError>,
) -> Result<(), AssembleError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir(dir, Access::Owner)?;
    sweep(dir)?;
    let fresh = fs::temporary_name(dir);
    let made = write(&fresh, wanted, fill).and_then(|()| Ok(fs::rename(&fresh, path)?));
    if made.is_err() {
        // The first error is the one worth telling; what is left behind goes before the next attempt.
        let _ = std::fs::remove_file(&fresh);
    }
    made
}

fn write(
    fresh: &Path,
    wanted: Sha256,
    fill: impl FnOnce(&mut Content<'_>) -> Result<(), AssembleError>,
) -> Result<(), AssembleError> {
    let created = OpenOptions::new().write(true).create_new(true).mode(MODE).open(fresh);
    let file = created.map_err(FsError::of(Action::Create, fresh))?;
    let mut content = Content { file, path: fresh, hasher: Hasher::default() };
    fill(&mut content)?;
    let got = content.hasher.finish();
    if got != wanted {
        return Err(AssembleError::Other { got, wanted });
    }
    Ok(content.file.sync_all().map_err(FsError::of(Action::Sync, fresh))?)
}

/// Removes binaries of earlier updates and halves of any.
fn sweep(dir: &Path) -> Result<(), FsError> {
    let refuse = FsError::of(Action::Read, dir);
    let entries = std::fs::read_dir(dir).map_err(refuse)?;
    for path in entries.flatten().map(|entry| entry.path()) {
        std::fs::remove_file(&path).map_err(FsError::of(Action::Remove, &path))?;
    }
    Ok(())
}
