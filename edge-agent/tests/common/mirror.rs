//! How the coordinator of the tests sends blobs, and how a hostile one does.

use std::{sync::Arc, time::Duration};

use quinn::SendStream;
use sloth_core::Digest;
use sloth_protocol::wire::{AgentResponse, BlobHead, Refusal, RefusalCode};
use sloth_transport::send;

use super::coordinator::{FRAME_BYTES_MAX, Shared};

/// One drop of a trickle, and the time between two of them.
const DROP_BYTES: usize = 64;
const DROP_INTERVAL: Duration = Duration::from_secs(1);

/// What a hostile mirror does to a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trick {
    /// It says that there is no such blob.
    Withheld,
    /// It sends some other blob in its place.
    Swapped,
    /// It declares more than a blob can have, and sends that.
    TooLong,
    /// It sends and never ends.
    Endless,
    /// It sends slower than anybody would wait for.
    Trickle,
}

impl Trick {
    async fn play(self, shared: &Arc<Shared>, frame: Vec<u8>, offset: u64, mut sending: SendStream) {
        let length = u64::try_from(frame.len()).expect("fits");
        match self {
            Self::Withheld => {
                let refusal = Refusal::new(RefusalCode::NotFound, "there is no such blob");
                let _ = send(&mut sending, &AgentResponse::Refused(refusal)).await;
            }
            Self::Swapped => {
                let digest = Digest::of(b"something else");
                shared.chunks.put_plain(digest, b"something else").expect("stored");
                let other = shared.chunks.frame(digest, FRAME_BYTES_MAX as u64).expect("there");
                let length = u64::try_from(other.len()).expect("fits");
                let _ = send(&mut sending, &AgentResponse::Blob(BlobHead { length })).await;
                let _ = sending.write_all(&other).await;
                let _ = sending.finish();
                let _ = sending.stopped().await;
            }
            Self::TooLong => {
                let long = vec![7; frame.len() + 4096];
                let length = u64::try_from(long.len()).expect("fits");
                let _ = send(&mut sending, &AgentResponse::Blob(BlobHead { length })).await;
                let _ = sending.write_all(&long).await;
                let _ = sending.finish();
                let _ = sending.stopped().await;
            }
            Self::Endless => {
                let _ = send(&mut sending, &AgentResponse::Blob(BlobHead { length })).await;
                without_end(&mut sending).await;
            }
            Self::Trickle => {
                let _ = send(&mut sending, &AgentResponse::Blob(BlobHead { length })).await;
                let from = usize::try_from(offset).expect("fits").min(frame.len());
                for drop in frame[from..].chunks(DROP_BYTES) {
                    if sending.write_all(drop).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(DROP_INTERVAL).await;
                }
                let _ = sending.finish();
                let _ = sending.stopped().await;
            }
        }
    }
}

/// Sends until the other side has had enough.
pub(super) async fn without_end(sending: &mut SendStream) {
    // As the length of a frame, more than any has.
    while sending.write_all(&[0xff; 4096]).await.is_ok() {}
}

pub(super) async fn blob(shared: &Arc<Shared>, digest: Digest, offset: u64, mut sending: SendStream) {
    let Ok(mut frame) = shared.chunks.frame(digest, FRAME_BYTES_MAX as u64) else {
        let refusal = Refusal::new(RefusalCode::NotFound, "there is no such blob");
        let _ = send(&mut sending, &AgentResponse::Refused(refusal)).await;
        return;
    };
    let (mut cut, mut corrupt, mut stalls, mut trick) = (None, false, false, None);
    shared.change(|state| {
        state.offsets.push(offset);
        cut = state.cuts.pop();
        corrupt = state.corrupt;
        trick = state.trick;
        stalls = 0 < state.stalls;
        state.stalls = state.stalls.saturating_sub(1);
    });
    if let Some(trick) = trick {
        return trick.play(shared, frame, offset, sending).await;
    }
    if corrupt && let Some(last) = frame.last_mut() {
        *last ^= 1;
    }
    let length = u64::try_from(frame.len()).expect("fits");
    let _ = send(&mut sending, &AgentResponse::Blob(BlobHead { length })).await;
    let rest = &frame[usize::try_from(offset).expect("fits").min(frame.len())..];
    let cut = if stalls { Some(0) } else { cut };
    let rest = &rest[..cut.unwrap_or(rest.len()).min(rest.len())];
    let _ = sending.write_all(rest).await;
    if !stalls {
        let _ = sending.finish();
    }
    // A stream that is dropped before its end was acknowledged is reset.
    let _ = sending.stopped().await;
}
