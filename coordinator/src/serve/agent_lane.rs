//! What agents ask.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quinn::{Connection, RecvStream, SendStream};
use sloth_bundle::{StoreError, chunk::BLOB_BYTES_MAX};
use sloth_core::{AgentId, Millis};
use sloth_protocol::{
    coordinator::{Answer, Ask, CheckedReport, ConnId},
    wire::{
        AgentRequest, AgentResponse, BlobHead, FRAME_BYTES_MAX, Fetch, Lane, Refusal, RefusalCode, Renew, Renewed,
        Report,
    },
};
use sloth_transport::{CloseCode, Priority};
use sloth_trust::PublicKey;
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};
use tracing::Instrument as _;

use super::{
    connection::{self, Context, Ended, FRAME_TIMEOUT, failed, misbehaved},
    core_handle::{busy, unexpected},
};
use crate::events;

/// How long a fetch waits for its turn before the agent is told to come back.
const BLOB_WAIT: Duration = Duration::from_secs(10);
/// Requests of one agent that are being read at a time: one that sends them by halves keeps no others waiting.
const READS_MAX: usize = 4;
/// Blobs that are being sent to one agent at a time: as many as an agent asks for, so that one that asks for more
/// takes no others' places.
const BLOBS_PER_AGENT_MAX: usize = 8;
/// Bytes that are handed to a blob's stream at a time.
const BLOB_PIECE_BYTES: usize = 64 * 1024;
/// Longest that a peer may take over one of them.
const BLOB_PIECE_TIMEOUT: Duration = Duration::from_secs(60);

/// One agent's connection.
struct Agent {
    context: Arc<Context>,
    id: AgentId,
    conn: ConnId,
    /// When the newest certificate ends that this connection has seen, in milliseconds.
    not_after: AtomicU64,
    /// What verifies its receipts, once it was welcomed.
    receipt_key: OnceLock<Box<PublicKey>>,
    reads: Semaphore,
    blobs: Semaphore,
}

/// Serves an agent until its connection is gone.
pub(super) async fn serve(context: Arc<Context>, connection: Connection, id: AgentId, not_after: Millis) {
    let Ok(_permit) = Arc::clone(&context.permits.agents).try_acquire_owned() else {
        tracing::warn!("too many agents are connected, this one is turned away");
        return CloseCode::Shutdown.close(&connection);
    };
    events::Connected { agent: id, address: connection.remote_address() }.emit();
    let conn = context.next_conn();
    context.core.connected(conn, id, connection.clone()).await;
    let agent = Arc::new(Agent {
        context: Arc::clone(&context),
        id,
        conn,
        not_after: AtomicU64::new(not_after.as_u64()),
        receipt_key: OnceLock::new(),
        reads: Semaphore::new(READS_MAX),
        blobs: Semaphore::new(BLOBS_PER_AGENT_MAX),
    });
    let mut requests = JoinSet::new();
    // The transport bounds how many streams a peer has open.
    while let Ok((sending, receiving)) = connection.accept_bi().await {
        while requests.try_join_next().is_some() {}
        let (agent, connection) = (Arc::clone(&agent), connection.clone());
        let request = async move {
            if let Err(Ended::Misbehaved(error)) = agent.request(sending, receiving).await {
                misbehaved(&connection, &agent.id.to_string(), &error);
            }
        };
        requests.spawn(request.in_current_span());
    }
    requests.shutdown().await;
    context.core.closed(conn).await;
    tracing::debug!("disconnected");
}

impl Agent {
    async fn request(&self, mut sending: SendStream, mut receiving: RecvStream) -> Result<(), Ended> {
        let request = {
            let Ok(_own) = self.reads.acquire().await else { return Err(Ended::Gone) };
            let Ok(_turn) = self.context.permits.agent_reads.acquire().await else { return Err(Ended::Gone) };
            connection::read(&mut receiving, FRAME_BYTES_MAX, FRAME_TIMEOUT).await?
        };
        let priority = priority(&request);
        priority.apply(&sending);
        let expired = self.not_after.load(Ordering::Relaxed) < self.context.clock.now().as_u64();
        let response = match request {
            AgentRequest::Renew(renew) => self.ask(Ask::Renew(renew)).await,
            // Hello is how the agent learns the time by which its certificate is judged.
            AgentRequest::Poll(_) | AgentRequest::Report(_) | AgentRequest::Fetch(_) if expired => {
                let reason = "the agent's certificate has ended: it has to be renewed first";
                // Not denied, which agents stay away for: this clock may have jumped, and be right again in a minute.
                AgentResponse::Refused(Refusal::new(RefusalCode::Conflict, reason))
            }
            AgentRequest::Hello(hello) => self.ask(Ask::Hello(hello)).await,
            AgentRequest::Poll(poll) => self.ask(Ask::Poll(poll)).await,
            AgentRequest::Report(report) => self.ask(Ask::Report(self.checked(report))).await,
            AgentRequest::Fetch(fetch) => return self.fetch(&mut sending, fetch).await,
        };
        if let AgentResponse::Refused(refusal) = &response {
            events::Refused { refusal }.emit();
        }
        connection::answer(&mut sending, &response, AgentResponse::Refused).await?;
        // Finishing twice is the only failure, and this is the first time.
        let _ = sending.finish();
        Ok(())
    }

    async fn ask(&self, ask: Ask) -> AgentResponse {
        match self.context.core.ask(self.conn, ask).await {
            Answer::Agent(response) => response,
            Answer::Welcome { welcome, receipt_key } => {
                // A second hello on one connection is answered with the same key.
                let _ = self.receipt_key.set(receipt_key);
                AgentResponse::Welcome(welcome)
            }
            Answer::Work(orders) => AgentResponse::Work(orders.signed(|said| self.context.online.seal(said))),
            Answer::Refused(refusal) => AgentResponse::Refused(refusal),
            Answer::Certify { agent, renew } => self.certify(agent, &renew),
            Answer::Enrolled { .. } | Answer::Operator(_) => AgentResponse::Refused(unexpected()),
        }
    }

    /// The report, its receipts held against the agent's key: here, where many are at it at once.
    fn checked(&self, report: Report) -> CheckedReport {
        CheckedReport::new(report, self.id, self.receipt_key.get().map(Box::as_ref))
    }

    fn certify(&self, agent: AgentId, renew: &Renew) -> AgentResponse {
        let now = self.context.clock.now();
        match self.context.authority.issue_agent(&renew.csr, agent, now, self.context.certificate_life) {
            Ok(issued) => {
                events::Renewed { agent, not_after: issued.not_after }.emit();
                // Who holds the new certificate need not connect again to show it.
                self.not_after.fetch_max(issued.not_after.as_u64(), Ordering::Relaxed);
                AgentResponse::Renewed(Renewed {
                    certificate: issued.der,
                    not_before: issued.not_before,
                    not_after: issued.not_after,
                })
            }
            Err(error) => {
                let reason = sloth_core::Chain(&error).to_string();
                AgentResponse::Refused(Refusal::new(RefusalCode::Invalid, reason))
            }
        }
    }

    /// Sends a blob from a place on.
    async fn fetch(&self, sending: &mut SendStream, fetch: Fetch) -> Result<(), Ended> {
        let turn = async { (self.blobs.acquire().await, self.context.permits.blobs.acquire().await) };
        let Ok((Ok(_own), Ok(_turn))) = timeout(BLOB_WAIT, turn).await else {
            return refuse(sending, busy()).await;
        };
        let blobs = self.context.blobs.clone();
        let read = tokio::task::spawn_blocking(move || blobs.frame(fetch.digest, BLOB_BYTES_MAX as u64)).await;
        let blob = match read {
            Ok(Ok(blob)) => blob,
            Ok(Err(StoreError::Missing { digest })) => {
                let reason = format!("the coordinator does not have the blob `{digest}`");
                return refuse(sending, Refusal::new(RefusalCode::NotFound, reason)).await;
            }
            Ok(Err(error)) => return refuse(sending, failed(&error)).await,
            Err(error) => return refuse(sending, failed(&error)).await,
        };
        let rest = usize::try_from(fetch.offset).ok().and_then(|offset| blob.get(offset..));
        let Some(rest) = rest else {
            let reason =
                format!("the blob `{}` has {} bytes, there is none at {}", fetch.digest, blob.len(), fetch.offset);
            return refuse(sending, Refusal::new(RefusalCode::Invalid, reason)).await;
        };
        let head = AgentResponse::Blob(BlobHead { length: u64::try_from(blob.len()).unwrap_or(u64::MAX) });
        connection::answer(sending, &head, AgentResponse::Refused).await?;
        for piece in rest.chunks(BLOB_PIECE_BYTES) {
            match timeout(BLOB_PIECE_TIMEOUT, sending.write_all(piece)).await {
                Ok(Ok(())) => {}
                // A slow reader goes on later from where it is.
                Ok(Err(_)) | Err(_) => return Err(Ended::Gone),
            }
        }
        let _ = sending.finish();
        Ok(())
    }
}

async fn refuse(sending: &mut SendStream, refusal: Refusal) -> Result<(), Ended> {
    events::Refused { refusal: &refusal }.emit();
    // A peer that gives this stream no room must not keep the place that it has among the downloads.
    connection::answer(sending, &AgentResponse::Refused(refusal), AgentResponse::Refused).await?;
    let _ = sending.finish();
    Ok(())
}

const fn priority(request: &AgentRequest) -> Priority {
    match request {
        AgentRequest::Hello(_) | AgentRequest::Poll(_) | AgentRequest::Renew(_) => Priority::Control,
        AgentRequest::Report(report) => match report.lane {
            Lane::Results => Priority::Results,
            Lane::Logs => Priority::Logs,
        },
        AgentRequest::Fetch(_) => Priority::Blobs,
    }
}
