//! How connections speak to the task that owns the machine.

use std::sync::Arc;

use quinn::Connection;
use sloth_core::{AgentId, Millis};
use sloth_protocol::{
    coordinator::{Answer, Ask, Command, ConnId, Enroll, Reply},
    wire::{Record, Refusal, RefusalCode},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::events::Standing;

/// Requests of agents that wait for the machine.
pub(super) const AGENT_QUEUE_MAX: usize = 4096;
/// Requests of operators that wait for the machine. They have a queue of their own, so that no crowd of agents
/// keeps an operator from stopping it.
pub(super) const OPERATOR_QUEUE_MAX: usize = 256;
/// KiB of reports that wait for the machine or for the disk.
const REPORT_KIB_MAX: usize = 64 * 1024;
/// How long an agent that finds the queue full is to stay away, at least.
pub(super) const BUSY_RETRY: Millis = Millis::from_secs(2);

/// Speaks to the task that owns the machine.
#[derive(Debug, Clone)]
pub(super) struct CoreHandle {
    agents: mpsc::Sender<Message>,
    operators: mpsc::Sender<Message>,
    report_room: Arc<Semaphore>,
}

/// The other end.
#[derive(Debug)]
pub(super) struct Inlets {
    pub(super) agents: mpsc::Receiver<Message>,
    pub(super) operators: mpsc::Receiver<Message>,
}

/// What the task is told.
#[derive(Debug)]
pub(super) enum Message {
    /// An agent has connected.
    Connected { conn: ConnId, agent: AgentId, connection: Connection },
    /// It is gone.
    Closed { conn: ConnId },
    /// It asks something.
    Asked { conn: ConnId, ask: Ask, reply: Replier, room: Option<OwnedSemaphorePermit> },
    /// A host would be an agent.
    Enroll { enroll: Enroll, reply: Replier },
    /// An operator has connected.
    Operator { name: String, connection: Connection },
    /// An operator orders or asks something.
    Command { operator: String, command: Command, reply: Replier },
    /// How does everything stand?
    Standing { reply: oneshot::Sender<Standing> },
}

pub(super) type Replier = oneshot::Sender<Answer>;

impl CoreHandle {
    pub(super) fn new() -> (Self, Inlets) {
        let (agents, from_agents) = mpsc::channel(AGENT_QUEUE_MAX);
        let (operators, from_operators) = mpsc::channel(OPERATOR_QUEUE_MAX);
        let report_room = Arc::new(Semaphore::new(REPORT_KIB_MAX));
        (Self { agents, operators, report_room }, Inlets { agents: from_agents, operators: from_operators })
    }

    /// Says that an agent has connected; its requests come after it.
    pub(super) async fn connected(&self, conn: ConnId, agent: AgentId, connection: Connection) {
        // The task ends only with the whole server, and then all connections are closed.
        let _ = self.agents.send(Message::Connected { conn, agent, connection }).await;
    }

    /// Says that a connection is gone.
    pub(super) async fn closed(&self, conn: ConnId) {
        let _ = self.agents.send(Message::Closed { conn }).await;
    }

    /// Asks for an agent. When too much is going on, it is told so at once.
    pub(super) async fn ask(&self, conn: ConnId, ask: Ask) -> Answer {
        let room = match self.room_for(&ask) {
            Ok(room) => room,
            Err(refusal) => return Answer::Refused(refusal),
        };
        let (reply, answer) = oneshot::channel();
        match self.agents.try_send(Message::Asked { conn, ask, reply, room }) {
            Ok(()) => answer.await.unwrap_or_else(|_| Answer::Refused(going_down())),
            Err(_) => Answer::Refused(busy()),
        }
    }

    /// Asks for a host that would be an agent.
    pub(super) async fn enroll(&self, enroll: Enroll) -> Answer {
        let (reply, answer) = oneshot::channel();
        match self.agents.try_send(Message::Enroll { enroll, reply }) {
            Ok(()) => answer.await.unwrap_or_else(|_| Answer::Refused(going_down())),
            Err(_) => Answer::Refused(busy()),
        }
    }

    /// Says that an operator has connected; what it asks comes after it.
    pub(super) async fn operator(&self, name: &str, connection: Connection) {
        // As with agents.
        let _ = self.operators.send(Message::Operator { name: name.to_owned(), connection }).await;
    }

    /// Asks for an operator, and waits for its turn.
    pub(super) async fn command(&self, operator: &str, command: Command) -> Result<Reply, Refusal> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Command { operator: operator.to_owned(), command, reply };
        self.operators.send(message).await.map_err(|_| going_down())?;
        match answer.await.unwrap_or_else(|_| Answer::Refused(going_down())) {
            Answer::Operator(reply) => Ok(reply),
            Answer::Refused(refusal) => Err(refusal),
            Answer::Agent(_)
            | Answer::Welcome { .. }
            | Answer::Work(_)
            | Answer::Certify { .. }
            | Answer::Enrolled { .. } => Err(unexpected()),
        }
    }

    /// How everything stands; none while the server is going down.
    pub(super) async fn standing(&self) -> Option<Standing> {
        let (reply, answer) = oneshot::channel();
        self.operators.send(Message::Standing { reply }).await.ok()?;
        answer.await.ok()
    }

    fn room_for(&self, ask: &Ask) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        let Ask::Report(report) = ask else { return Ok(None) };
        let kib = 1 + report.records().iter().map(Record::weight).sum::<usize>() / 1024;
        let kib = u32::try_from(kib).map_err(|_| busy())?;
        Arc::clone(&self.report_room).try_acquire_many_owned(kib).map(Some).map_err(|_| busy())
    }
}

/// Too much is going on.
pub(super) fn busy() -> Refusal {
    let reason = "the coordinator has too much to do at this moment";
    Refusal { retry_after: BUSY_RETRY, ..Refusal::new(RefusalCode::Busy, reason) }
}

/// The machine is gone, and may be back.
pub(super) fn going_down() -> Refusal {
    let reason = "the coordinator is going down or cannot write to its disk: ask again later";
    Refusal { retry_after: BUSY_RETRY, ..Refusal::new(RefusalCode::Busy, reason) }
}

/// The machine gave an answer to another question.
pub(super) fn unexpected() -> Refusal {
    Refusal::new(RefusalCode::Internal, "the coordinator failed to answer: its log says more")
}
