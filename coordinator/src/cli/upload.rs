//! Handing over blobs.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sloth_bundle::{Packed, chunk};
use sloth_cli::{Failure, Outcome};
use sloth_core::Digest;
use sloth_protocol::wire::{BLOBS_ASKED_MAX, OperatorRequest, OperatorResponse};
use sloth_trust::ManifestRef;

use super::client::{AskError, Client, expect_answer};

/// Blobs that are on their way at a time.
const UPLOADS_MAX: usize = 8;

/// Where blobs come from.
#[derive(Clone, Copy)]
pub(super) struct Upload<'a> {
    pub(super) packed: &'a Packed,
    pub(super) manifest: &'a [u8],
    pub(super) reference: ManifestRef,
}

impl Upload<'_> {
    /// How many bytes these blobs have before they are compressed.
    pub(super) fn bytes(self, blobs: &[Digest]) -> u64 {
        let lengths = self.lengths();
        blobs.iter().filter_map(|digest| lengths.get(digest)).sum()
    }

    fn lengths(self) -> BTreeMap<Digest, u64> {
        let chunks = self.packed.chunks().map(|chunk| (chunk.digest, u64::from(chunk.length)));
        chunks.chain([(self.reference.digest, self.reference.length)]).collect()
    }

    fn frame(self, digest: Digest) -> Result<Vec<u8>, Failure> {
        if digest == self.reference.digest {
            return chunk::compress(digest, self.manifest).map_err(Outcome::Internal.because());
        }
        self.packed.frame(digest).map_err(Outcome::Usage.because())
    }
}

/// Those of `blobs` that the coordinator does not have.
pub(super) async fn missing(client: &Client, blobs: Vec<Digest>) -> Result<Vec<Digest>, AskError> {
    let mut missing = Vec::new();
    for some in blobs.chunks(BLOBS_ASKED_MAX) {
        let answer = client.ask(OperatorRequest::MissingBlobs(some.to_vec())).await?;
        missing.append(&mut expect_answer!(answer, Missing)?);
    }
    Ok(missing)
}

/// Uploads `blobs`, and gives how many bytes they have before they are compressed.
pub(super) async fn upload(client: &Client, from: Upload<'_>, blobs: &[Digest]) -> Result<u64, Failure> {
    let lengths = from.lengths();
    let uploads = stream::iter(blobs).map(|digest| async {
        let length = lengths.get(digest).copied().unwrap_or_default();
        let frame = from.frame(*digest)?;
        client.upload(OperatorRequest::PutBlob { digest: *digest, length }, &frame).await?;
        Ok::<_, Failure>(length)
    });
    uploads.buffer_unordered(UPLOADS_MAX).try_fold(0, async |sum, length| Ok(sum + length)).await
}
