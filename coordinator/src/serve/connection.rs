//! From a packet of a stranger to a connection of somebody known.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream};
use serde::{Serialize, de::DeserializeOwned};
use sloth_bundle::ChunkStore;
use sloth_core::{Chain, Clock, Millis};
use sloth_protocol::{
    coordinator::ConnId,
    wire::{DecodeError, Refusal, RefusalCode},
};
use sloth_transport::{
    Authority, CloseCode, Limits, Peer, RecvError, SendError, admit, recv, send,
    settings::{HANDSHAKE_TIMEOUT, widen},
};
use tokio::{sync::Semaphore, time::timeout};
use tracing::Instrument as _;

use super::{
    agent_lane,
    core_handle::CoreHandle,
    enroll_lane,
    follow::Followers,
    online::Online,
    operator_lane,
    shares::{Share, Shares},
};
use crate::{events, store::StoreHandle};

/// Agents that are connected at a time.
pub const AGENT_CONNECTIONS_MAX: usize = 100_000;
/// Operators that are connected at a time. They share nothing with agents, so that a crowd of these keeps no
/// operator out.
pub const OPERATOR_CONNECTIONS_MAX: usize = 256;
/// Hosts that enrol at a time.
pub const ENROLLING_CONNECTIONS_MAX: usize = 1024;
/// Those of one address, which may be a whole branch behind NAT.
const ENROLLING_PER_ADDRESS_MAX: usize = 256;
/// Which part of all handshakes may be one address's.
const HANDSHAKES_PER_ADDRESS_PART: usize = 2;
/// Requests of agents that are being read at a time; each may have come to one frame.
const AGENT_READS_MAX: usize = 4096;
/// Blobs that are being sent at a time.
const BLOB_STREAMS_MAX: usize = 128;
/// Blobs that are being taken in at a time.
const UPLOADS_MAX: usize = 32;
/// Longest that a peer with a certificate may take over one frame, which a slow line needs for the longest.
pub(super) const FRAME_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest that a peer may take to read one answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// What every connection needs.
pub(super) struct Context {
    pub(super) clock: Arc<Clock>,
    pub(super) authority: Authority,
    pub(super) online: Online,
    pub(super) store: StoreHandle,
    pub(super) blobs: ChunkStore,
    pub(super) core: CoreHandle,
    pub(super) followers: Arc<Followers>,
    pub(super) addresses: Vec<String>,
    pub(super) certificate_life: Millis,
    pub(super) permits: Permits,
    next_conn: AtomicU64,
}

/// What may go on at the same time.
pub(super) struct Permits {
    pub(super) agents: Arc<Semaphore>,
    pub(super) operators: Arc<Semaphore>,
    pub(super) enrolling: Arc<Semaphore>,
    pub(super) enrolling_from: Arc<Shares>,
    pub(super) agent_reads: Arc<Semaphore>,
    pub(super) blobs: Arc<Semaphore>,
    pub(super) uploads: Arc<Semaphore>,
}

/// How a stream ended before its request was answered.
#[derive(Debug)]
pub(super) enum Ended {
    /// The peer gave it up, or is gone.
    Gone,
    /// The peer broke the protocol, which costs it its connection.
    Misbehaved(String),
}

impl Context {
    #[expect(clippy::too_many_arguments, reason = "each is used by another part of serving")]
    pub(super) fn new(
        clock: Arc<Clock>,
        authority: Authority,
        online: Online,
        store: StoreHandle,
        blobs: ChunkStore,
        core: CoreHandle,
        followers: Arc<Followers>,
        addresses: Vec<String>,
        certificate_life: Millis,
    ) -> Self {
        let permits = |count| Arc::new(Semaphore::new(count));
        let permits = Permits {
            agents: permits(AGENT_CONNECTIONS_MAX),
            operators: permits(OPERATOR_CONNECTIONS_MAX),
            enrolling: permits(ENROLLING_CONNECTIONS_MAX),
            enrolling_from: Shares::new(ENROLLING_PER_ADDRESS_MAX),
            agent_reads: permits(AGENT_READS_MAX),
            blobs: permits(BLOB_STREAMS_MAX),
            uploads: permits(UPLOADS_MAX),
        };
        let next_conn = AtomicU64::new(1);
        Self {
            clock,
            authority,
            online,
            store,
            blobs,
            core,
            followers,
            addresses,
            certificate_life,
            permits,
            next_conn,
        }
    }

    pub(super) fn next_conn(&self) -> ConnId {
        self.next_conn.fetch_add(1, Ordering::Relaxed)
    }
}

/// Takes in connections until the endpoint is closed.
pub(super) async fn accept(context: Arc<Context>, endpoint: Endpoint, limits: Limits) {
    let handshaking = Arc::new(AtomicUsize::new(0));
    // Forged senders cannot fill another's share: addresses are validated long before that many are under way.
    let shares = Shares::new(limits.handshakes_max / HANDSHAKES_PER_ADDRESS_PART);
    while let Some(incoming) = endpoint.accept().await {
        let Some(share) = shares.take(incoming.remote_address().ip()) else {
            incoming.refuse();
            continue;
        };
        let Some(incoming) = admit(incoming, handshaking.load(Ordering::Relaxed), limits) else { continue };
        let handshake = Handshake::begin(&handshaking, share);
        tokio::spawn(serve(Arc::clone(&context), incoming, handshake));
    }
}

async fn serve(context: Arc<Context>, incoming: Incoming, handshake: Handshake) {
    let address = incoming.remote_address();
    let connection = match timeout(HANDSHAKE_TIMEOUT, incoming).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(%address, error = %Chain(&error), "a handshake failed");
            return;
        }
        Err(_elapsed) => {
            tracing::debug!(%address, "a handshake took too long");
            return;
        }
    };
    drop(handshake);
    let peer = match Peer::of(&connection, context.clock.now()) {
        Ok(peer) => peer,
        Err(error) => return misbehaved(&connection, "unknown", &Chain(&error).to_string()),
    };
    match peer {
        Peer::Agent { id, not_after, .. } => {
            widen(&connection);
            let span = tracing::info_span!("agent", agent = %id);
            Box::pin(agent_lane::serve(context, connection, id, not_after)).instrument(span).await;
        }
        Peer::Operator { name, not_after } => {
            widen(&connection);
            let span = tracing::info_span!("operator", operator = name);
            Box::pin(operator_lane::serve(context, connection, name, not_after)).instrument(span).await;
        }
        Peer::Nobody => Box::pin(enroll_lane::serve(context, connection)).await,
    }
}

/// Counts a handshake for as long as it lasts.
struct Handshake {
    count: Arc<AtomicUsize>,
    _share: Share,
}

impl Handshake {
    fn begin(count: &Arc<AtomicUsize>, share: Share) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self { count: Arc::clone(count), _share: share }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Closes the connection of a peer that broke the protocol. It costs nobody else anything.
pub(super) fn misbehaved(connection: &Connection, peer: &str, error: &str) {
    events::Misbehaved { address: connection.remote_address(), peer, error }.emit();
    CloseCode::Misbehaved.close(connection);
}

/// Reads the one frame of a request.
pub(super) async fn read<T: DeserializeOwned>(
    stream: &mut RecvStream,
    bytes_max: usize,
    longest: Duration,
) -> Result<T, Ended> {
    match timeout(longest, recv(stream, bytes_max)).await {
        Ok(Ok(message)) => Ok(message),
        Ok(Err(error)) => Err(of_recv(&error)),
        Err(_elapsed) => Err(Ended::Misbehaved(format!("it sent no whole message in {} s", longest.as_secs()))),
    }
}

/// Sends the one frame of an answer. One that is over the limit of a frame is refused instead.
pub(super) async fn answer<T: Serialize>(
    stream: &mut SendStream,
    answer: &T,
    refused: impl FnOnce(Refusal) -> T,
) -> Result<(), Ended> {
    let sent = timeout(ANSWER_TIMEOUT, async {
        match send(stream, answer).await {
            Err(SendError::Encode { source }) => {
                let reason = format!("the answer is too long to be sent: {source}");
                send(stream, &refused(Refusal::new(RefusalCode::TooLarge, reason))).await
            }
            sent => sent,
        }
    });
    match sent.await {
        Ok(Ok(())) => Ok(()),
        // A slow reader loses its answer and may ask again.
        Ok(Err(_)) | Err(_) => Err(Ended::Gone),
    }
}

/// This program or this machine failed: what is told to the peer, while the log has the rest.
pub(super) fn failed(error: &dyn std::error::Error) -> Refusal {
    tracing::error!(error = %Chain(error), "a request failed");
    let reason = format!("the coordinator failed: {}", Chain(error));
    Refusal::new(RefusalCode::Internal, reason)
}

fn of_recv(error: &RecvError) -> Ended {
    match error {
        RecvError::Lost { .. } | RecvError::Reset { .. } | RecvError::Closed => Ended::Gone,
        RecvError::Finished
        | RecvError::Cut
        | RecvError::TooLong { .. }
        | RecvError::Malformed { source: DecodeError::Postcard(_) | DecodeError::Trailing { .. } } => {
            Ended::Misbehaved(Chain(error).to_string())
        }
    }
}
