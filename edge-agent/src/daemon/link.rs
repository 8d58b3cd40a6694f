//! The connection to the coordinator, and requests on it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quinn::Connection;
use sloth_core::{Chain, Clock, Millis};
use sloth_protocol::{
    agent::{Ask, Event, Ticket},
    wire::{AgentRequest, AgentResponse, Lane, Record, RecordBody, Renew, Renewed, Report},
};
use sloth_transport::{
    CloseCode, Connector, IdentityError, KeyRequest, Lost, Priority, RequestError, Subject, request,
};
use sloth_trust::{MachineKey, Receipt};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use tracing::Instrument as _;

use super::Shared;
use crate::{enrolment, store::StoreError};

/// How long a connection on which a request failed may take to say why it was closed.
const REASON_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a close may take to reach the coordinator.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The connection, if there is one.
#[derive(Debug, Clone)]
pub(super) struct Link {
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The link that the machine wants; zero for none.
    wanted: u64,
    connection: Option<Connection>,
    task: Option<JoinHandle<()>>,
}

/// Why a request has no answer for the machine.
#[derive(Debug, thiserror::Error)]
enum AnswerError {
    #[error("a request was not answered")]
    Request(#[from] RequestError),
    #[error("cannot read what is to be reported")]
    Store(#[from] StoreError),
    #[error("the new certificate cannot be used")]
    Identity(#[from] IdentityError),
    #[error("the new certificate is not for this agent")]
    Stranger,
    #[error("the new certificate cannot be kept")]
    Keep(#[from] sloth_core::fs::FsError),
}

impl Link {
    pub(super) fn new(shared: Arc<Shared>, events: mpsc::Sender<Event>) -> Self {
        Self { shared, events, state: Arc::default() }
    }

    /// The connection that is open.
    pub(super) fn connection(&self) -> Option<Connection> {
        self.state().connection.clone()
    }

    /// Makes a connection. It is not before `not_before`, whatever this host's clock says.
    pub(super) fn connect(&self, link: u64, not_before: Millis) {
        self.disconnect();
        self.state().wanted = link;
        let own = self.clone();
        let task = tokio::spawn(async move { own.keep(link, not_before).await }.in_current_span());
        self.state().task = Some(task);
    }

    pub(super) fn disconnect(&self) {
        self.close(CloseCode::Normal);
    }

    /// Closes the connection and waits a little until the coordinator knows.
    pub(super) async fn end(self) {
        self.close(CloseCode::Shutdown);
        let task = self.state().task.take();
        if let Some(task) = task {
            // The coordinator finds out by itself as well.
            let _ = timeout(CLOSE_TIMEOUT, task).await;
        }
    }

    pub(super) fn ask(&self, ticket: Ticket, ask: Ask) {
        // Without a connection its end was told, or is about to be.
        let Some(connection) = self.connection() else { return };
        let own = self.clone();
        let task = async move {
            match own.answer(&connection, ticket, ask).await {
                Ok(event) if own.is_current(&connection) => own.tell(event).await,
                // An answer on a connection that was given up is an answer to nothing.
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(error = %Chain(&error), "a request has no answer: closing the connection");
                    // A peer that closed says why, and that may still be on its way.
                    let _ = timeout(REASON_TIMEOUT, connection.closed()).await;
                    // Its end is told by whoever watches it.
                    CloseCode::Misbehaved.close(&connection);
                }
            }
        };
        tokio::spawn(task.in_current_span());
    }

    /// Makes the connection `link`, and watches it to its end.
    async fn keep(&self, link: u64, not_before: Millis) {
        // A fresh clock: one that was set back counts for certificates at once.
        let now = Clock::new().now().max(not_before);
        let identity = self.shared.with_identity(|identity| identity.clone());
        let connector = Connector::enrolled(self.shared.enrolment.authority.clone(), identity);
        let made = match connector.connect(&self.shared.enrolment.addresses, now).await {
            Ok(made) => made,
            Err(error) => {
                let reason = Chain(&error).to_string();
                return self.tell(Event::Disconnected { link, reason }).await;
            }
        };
        if !self.opened(link, &made.connection) {
            return CloseCode::Normal.close(&made.connection);
        }
        tracing::debug!(link, address = %made.address, "connected");
        self.tell(Event::Connected { link }).await;
        let lost = Lost::from(made.connection.closed().await);
        self.closed(link);
        self.tell(if matches!(lost, Lost::Closed { code: CloseCode::Revoked }) {
            Event::Revoked { link }
        } else {
            Event::Disconnected { link, reason: Chain(&lost).to_string() }
        })
        .await;
        let _ = timeout(CLOSE_TIMEOUT, made.endpoint.wait_idle()).await;
    }

    /// Whether the connection is still wanted; it is then the one to ask on.
    fn opened(&self, link: u64, connection: &Connection) -> bool {
        let mut state = self.state();
        let wanted = state.wanted == link;
        if wanted {
            state.connection = Some(connection.clone());
        }
        wanted
    }

    fn is_current(&self, connection: &Connection) -> bool {
        self.connection().is_some_and(|current| current.stable_id() == connection.stable_id())
    }

    fn closed(&self, link: u64) {
        let mut state = self.state();
        if state.wanted == link {
            (state.wanted, state.connection) = (0, None);
        }
    }

    fn close(&self, code: CloseCode) {
        let mut state = self.state();
        state.wanted = 0;
        if let Some(connection) = state.connection.take() {
            code.close(&connection);
        }
    }

    async fn answer(&self, connection: &Connection, ticket: Ticket, ask: Ask) -> Result<Event, AnswerError> {
        let (message, priority) = match ask {
            Ask::Hello(hello) => (AgentRequest::Hello(hello), Priority::Control),
            Ask::Poll(poll) => (AgentRequest::Poll(poll), Priority::Control),
            Ask::Report { lane, dropped, seqs } => {
                let mut records = self.shared.store.records(lane, seqs).await?;
                sign_receipts(&mut records, &self.shared.receipt_key);
                let priority = match lane {
                    Lane::Results => Priority::Results,
                    Lane::Logs => Priority::Logs,
                };
                (AgentRequest::Report(Report { lane, dropped, records }), priority)
            }
            Ask::Renew => return self.renew(connection, ticket).await,
        };
        let (response, _) = request::<_, AgentResponse>(connection, &message, priority).await?;
        Ok(Event::Answered { ticket, response })
    }

    /// Has a new key certified, and keeps it before the machine is told.
    async fn renew(&self, connection: &Connection, ticket: Ticket) -> Result<Event, AnswerError> {
        let key = KeyRequest::generate()?;
        let message = AgentRequest::Renew(Renew { csr: key.csr().to_vec() });
        let (response, _) = request::<_, AgentResponse>(connection, &message, Priority::Control).await?;
        let AgentResponse::Renewed(Renewed { certificate, .. }) = response else {
            return Ok(Event::Answered { ticket, response });
        };
        let identity = key.certified(certificate)?;
        if !matches!(identity.subject(), Ok(Subject::Agent(agent)) if agent == self.shared.enrolment.agent) {
            return Err(AnswerError::Stranger);
        }
        let (from, until): (Millis, Millis) = (identity.not_before(), identity.not_after());
        let (shared, kept) = (Arc::clone(&self.shared), identity.clone());
        let keeping = tokio::task::spawn_blocking(move || enrolment::store_identity(&shared.paths, &kept));
        keeping.await.unwrap_or(Ok(()))?;
        self.shared.with_identity(|own| *own = identity);
        tracing::info!(%until, "the certificate was renewed");
        Ok(Event::Renewed { ticket, from, until })
    }

    async fn tell(&self, event: Event) {
        // Without the loop there is nobody to tell.
        let _ = self.events.send(event).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is changed as a whole or not at all.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Signs the receipts among records. A receipt gets the same bytes however often it is sent.
fn sign_receipts(records: &mut [Record], key: &MachineKey) {
    for record in records {
        if let RecordBody::Receipt { payload, signature } = &mut record.body
            && let Ok(receipt) = serde_json::from_slice::<Receipt>(payload)
        {
            *signature = key.sign(payload, &receipt.domain()).minisig;
        }
    }
}
