//! Taking in releases of the agent: blobs first, then the signed metadata that names them.

use sloth_bundle::{ChunkStore, StoreError};
use sloth_core::{Chain, Digest};
use sloth_protocol::{
    coordinator::Command,
    wire::{Published, Refusal, RefusalCode},
};
use sloth_trust::{Envelope, TargetBinary, Trusted, sha256::Hasher};

use super::{
    connection::{Context, failed},
    publish::{self, check_blobs, examined, invalid, manifest, published},
};

/// Takes in a release whose blobs are all there.
pub(super) async fn publish(context: &Context, operator: &str, bytes: Vec<u8>) -> Result<Published, Refusal> {
    let (bytes, ()) = examined(context, operator, bytes, examine).await?;
    published(context, operator, Command::PublishRelease(bytes)).await
}

/// The blobs by which a binary is fetched.
pub(super) fn blobs_of(blobs: &ChunkStore, binary: &TargetBinary) -> Result<Vec<Digest>, Refusal> {
    let deltas = binary.deltas.iter().map(|delta| delta.blob.digest);
    Ok(publish::blobs_of(blobs, binary.manifest)?.into_iter().chain(deltas).collect())
}

/// Whether the signatures are good, and every blob is there and what the release says of it.
fn examine(blobs: &ChunkStore, trusted: &Trusted, envelope: &Envelope) -> Result<(), Refusal> {
    let release = trusted.verify_release(envelope).map_err(|error| invalid(Chain(&error).to_string()))?;
    release.targets.iter().try_for_each(|binary| examine_binary(blobs, binary))
}

/// Whose fault it is that a chunk cannot be used.
fn unusable(error: &StoreError) -> Refusal {
    match error {
        StoreError::OtherLength { .. } => invalid(format!("the manifest is wrong of a chunk: {error}")),
        StoreError::Missing { .. } | StoreError::Corrupt { .. } | StoreError::Oversized { .. } => {
            Refusal::new(RefusalCode::NotFound, format!("a chunk is not there, {error}: publish it again"))
        }
        StoreError::Fs(_)
        | StoreError::Refused { .. }
        | StoreError::Offset { .. }
        | StoreError::DownloadTooLarge { .. } => failed(error),
    }
}

fn examine_binary(blobs: &ChunkStore, binary: &TargetBinary) -> Result<(), Refusal> {
    let target = &binary.target;
    let manifest = manifest(blobs, binary.manifest)?;
    check_blobs(blobs, &manifest)?;
    if let Some(delta) = binary.deltas.iter().find(|delta| !blobs.has(delta.blob.digest)) {
        let reason = format!("the delta `{}` for `{target}` is missing: publish it again", delta.blob.digest.short());
        return Err(Refusal::new(RefusalCode::NotFound, reason));
    }
    let [file] = manifest.parts().files.as_slice() else {
        return Err(invalid(format!("the manifest for `{target}` is not of one binary alone")));
    };
    let mut hasher = Hasher::default();
    for chunk in &file.chunks {
        let plain = blobs.read(chunk.digest, u64::from(chunk.length)).map_err(|error| unusable(&error))?;
        hasher.update(&plain);
    }
    let got = hasher.finish();
    if (file.size, got) != (binary.length, binary.digest) {
        let reason = format!(
            "the binary for `{target}` has {} bytes and the SHA-256 `{got}`, {} and `{}` were signed",
            file.size, binary.length, binary.digest
        );
        return Err(invalid(reason));
    }
    Ok(())
}
