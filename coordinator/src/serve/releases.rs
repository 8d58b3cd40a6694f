//! Taking in releases of the agent: blobs first, then the signed metadata that names them.

use sloth_bundle::ChunkStore;
use sloth_core::{Chain, Digest};
use sloth_protocol::{
    coordinator::{Command, Reply},
    wire::{Published, Refusal, RefusalCode},
};
use sloth_trust::{Envelope, RootPin, TargetBinary, Trusted, sha256::Hasher};

use super::{
    connection::{Context, failed},
    core_handle::unexpected,
    publish::{self, check_blobs, invalid, manifest},
};

/// Takes in a release whose blobs are all there.
pub(super) async fn publish(context: &Context, operator: &str, bytes: Vec<u8>) -> Result<Published, Refusal> {
    let Reply::Root(root) = context.core.command(operator, Command::Root).await? else { return Err(unexpected()) };
    let Some(root) = root else {
        let reason = "there is no trust root yet: `sloth-coord publish` makes one of the key that it is given";
        return Err(Refusal::new(RefusalCode::Invalid, reason));
    };
    let (blobs, metadata) = (context.blobs.clone(), bytes.clone());
    let looked = tokio::task::spawn_blocking(move || examine(&blobs, &root, &metadata)).await;
    looked.map_err(|error| failed(&error))??;
    match context.core.command(operator, Command::PublishRelease(bytes)).await? {
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
        | Reply::Cancelling(_)
        | Reply::Releases(_)
        | Reply::Rollout(_) => Err(unexpected()),
    }
}

/// The blobs by which a binary is fetched.
pub(super) fn blobs_of(blobs: &ChunkStore, binary: &TargetBinary) -> Result<Vec<Digest>, Refusal> {
    let deltas = binary.deltas.iter().map(|delta| delta.blob.digest);
    Ok(publish::blobs_of(blobs, binary.manifest)?.into_iter().chain(deltas).collect())
}

/// Whether the signatures are good, and every blob is there and what the release says of it.
fn examine(blobs: &ChunkStore, root: &[u8], bytes: &[u8]) -> Result<(), Refusal> {
    let root = Envelope::decode(root).map_err(|error| failed(&error))?;
    let trusted = Trusted::new(&root, RootPin::of(&root.payload)).map_err(|error| failed(&error))?;
    let envelope = Envelope::decode(bytes).map_err(|error| invalid(Chain(&error).to_string()))?;
    let release = trusted.verify_release(&envelope).map_err(|error| invalid(Chain(&error).to_string()))?;
    release.targets.iter().try_for_each(|binary| examine_binary(blobs, binary))
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
        let plain = blobs.read(chunk.digest, u64::from(chunk.length)).map_err(|error| failed(&error))?;
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
