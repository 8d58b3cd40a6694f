//! Taking in bundles: blobs first, then the signed metadata that names them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use quinn::RecvStream;
use serde::Deserialize;
use sloth_bundle::{ChunkStore, Limits, Manifest, StoreError, chunk};
use sloth_core::{Chain, Digest};
use sloth_protocol::{
    coordinator::{Command, ManifestFacts, Reply},
    wire::{Published, Refusal, RefusalCode},
};
use sloth_trust::{Envelope, ManifestRef, RootPin, Trusted};
use tokio::time::timeout;

use super::{
    connection::{Context, failed},
    core_handle::unexpected,
};

/// Longest that one blob may take.
const BLOB_TIMEOUT: Duration = Duration::from_secs(600);
/// Most missing blobs that a refusal names.
const MISSING_SHOWN_MAX: usize = 3;

/// A workflow in a manifest's plan, as far as it counts here.
#[derive(Deserialize)]
struct Planned {
    name: String,
}

/// Takes in a blob that follows on the stream.
pub(super) async fn put_blob(
    context: &Context,
    digest: Digest,
    length: u64,
    receiving: &mut RecvStream,
) -> Result<(), Refusal> {
    let plain = usize::try_from(length).ok().filter(|length| *length <= chunk::BLOB_BYTES_MAX);
    let Some(plain) = plain else {
        let reason = format!("a blob takes {} bytes at most, `{digest}` has {length}", chunk::BLOB_BYTES_MAX);
        return Err(Refusal::new(RefusalCode::TooLarge, reason));
    };
    let turn = Arc::clone(&context.permits.uploads).acquire_owned().await;
    let read = timeout(BLOB_TIMEOUT, receiving.read_to_end(chunk::frame_bytes_max(plain))).await;
    let cut =
        |why: String| Refusal::new(RefusalCode::Invalid, format!("the blob `{digest}` did not come whole: {why}"));
    let frame = match read {
        Ok(Ok(frame)) => frame,
        Ok(Err(error)) => return Err(cut(Chain(&error).to_string())),
        Err(elapsed) => return Err(cut(elapsed.to_string())),
    };
    let blobs = context.blobs.clone();
    let kept = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        blobs.put_frame(digest, length, &frame)
    });
    match kept.await.map_err(|error| failed(&error))? {
        Ok(()) => Ok(()),
        Err(error @ StoreError::Refused { .. }) => Err(Refusal::new(RefusalCode::Invalid, Chain(&error).to_string())),
        Err(error) => Err(failed(&error)),
    }
}

/// Takes in a release whose blobs are all there.
pub(super) async fn publish(context: &Context, operator: &str, bytes: Vec<u8>) -> Result<Published, Refusal> {
    let (bytes, manifest) = examined(context, operator, bytes, examine).await?;
    published(context, operator, Command::Publish { metadata: bytes, manifest }).await
}

/// What `examine` finds in a signed envelope, with the blobs and the trust that there is; and the envelope again.
pub(super) async fn examined<T: Send + 'static>(
    context: &Context,
    operator: &str,
    bytes: Vec<u8>,
    examine: impl FnOnce(&ChunkStore, &Trusted, &Envelope) -> Result<T, Refusal> + Send + 'static,
) -> Result<(Vec<u8>, T), Refusal> {
    let Reply::Root(root) = context.core.command(operator, Command::Root).await? else { return Err(unexpected()) };
    let Some(root) = root else {
        let reason = "there is no trust root yet: `sloth-coord publish` makes one of the key that it is given";
        return Err(Refusal::new(RefusalCode::Invalid, reason));
    };
    let blobs = context.blobs.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let root = Envelope::decode(&root).map_err(|error| failed(&error))?;
        let trusted = Trusted::new(&root, RootPin::of(&root.payload)).map_err(|error| failed(&error))?;
        let envelope = Envelope::decode(&bytes).map_err(|error| invalid(Chain(&error).to_string()))?;
        let found = examine(&blobs, &trusted, &envelope)?;
        Ok((bytes, found))
    });
    looked.await.map_err(|error| failed(&error))?
}

/// Has the machine publish what was examined.
pub(super) async fn published(context: &Context, operator: &str, command: Command) -> Result<Published, Refusal> {
    match context.core.command(operator, command).await? {
        Reply::Published(published) => Ok(published),
        Reply::Done
        | Reply::Root(_)
        | Reply::Token { .. }
        | Reply::Agents(_)
        | Reply::Agent(_)
        | Reply::Bundles(_)
        | Reply::Started(_)
        | Reply::Ended(_)
        | Reply::Tokens(_)
        | Reply::Operators(_)
        | Reply::Operator(_)
        | Reply::Cancelling(_)
        | Reply::Releases(_)
        | Reply::Rollout(_) => Err(unexpected()),
    }
}

/// The plan in a manifest, if it is there and is text.
pub(super) fn plan(blobs: &ChunkStore, digest: Digest) -> Option<String> {
    let bytes = blobs.read_capped(digest, chunk::BLOB_BYTES_MAX).ok()?;
    let manifest = Manifest::decode(&bytes, &Limits::default()).ok()?;
    String::from_utf8(manifest.into_parts().plan).ok()
}

/// The blobs that a manifest consists of, itself first.
pub(super) fn blobs_of(blobs: &ChunkStore, reference: ManifestRef) -> Result<Vec<Digest>, Refusal> {
    let chunks = manifest(blobs, reference)?.chunks();
    Ok(std::iter::once(reference.digest).chain(chunks.into_iter().map(|chunk| chunk.digest)).collect())
}

/// What the manifest says, once the signatures are good and every blob is there.
fn examine(blobs: &ChunkStore, trusted: &Trusted, envelope: &Envelope) -> Result<ManifestFacts, Refusal> {
    let metadata = trusted.verify_bundle(envelope).map_err(|error| invalid(Chain(&error).to_string()))?;
    let manifest = manifest(blobs, metadata.manifest)?;
    let parts = manifest.parts();
    if parts.name != metadata.name || parts.version != metadata.version {
        let reason = format!(
            "the metadata is of `{}` {}, and its manifest of `{}` {}: sign the metadata of that bundle",
            metadata.name, metadata.version, parts.name, parts.version
        );
        return Err(invalid(reason));
    }
    check_blobs(blobs, &manifest)?;
    let workflows: Vec<Planned> = serde_json::from_slice(&parts.plan)
        .map_err(|error| invalid(format!("the plan in the manifest cannot be read: {error}")))?;
    let workflows: BTreeSet<String> = workflows.into_iter().map(|planned| planned.name).collect();
    Ok(ManifestFacts { size: manifest.total_bytes(), workflows })
}

/// Whether every chunk of a manifest is there.
pub(super) fn check_blobs(blobs: &ChunkStore, manifest: &Manifest) -> Result<(), Refusal> {
    let missing = blobs.missing(&manifest.chunks());
    if missing.is_empty() {
        return Ok(());
    }
    let shown: Vec<_> = missing.iter().take(MISSING_SHOWN_MAX).map(|chunk| chunk.digest.short()).collect();
    let reason = format!("{} blobs of it are missing, like {}: publish it again", missing.len(), shown.join(", "));
    Err(Refusal::new(RefusalCode::NotFound, reason))
}

pub(super) fn manifest(blobs: &ChunkStore, reference: ManifestRef) -> Result<Manifest, Refusal> {
    let bytes = match blobs.read(reference.digest, reference.length) {
        Ok(bytes) => bytes,
        Err(error @ (StoreError::Missing { .. } | StoreError::Corrupt { .. } | StoreError::Oversized { .. })) => {
            let reason = format!("the manifest is not there, {error}: publish it again");
            return Err(Refusal::new(RefusalCode::NotFound, reason));
        }
        Err(error @ StoreError::OtherLength { .. }) => {
            return Err(invalid(format!("the manifest is not the one that was signed: {error}")));
        }
        Err(error) => return Err(failed(&error)),
    };
    Manifest::decode(&bytes, &Limits::default()).map_err(|error| invalid(Chain(&error).to_string()))
}

pub(super) fn invalid(reason: String) -> Refusal {
    Refusal::new(RefusalCode::Invalid, reason)
}
