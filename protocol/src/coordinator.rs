//! The coordinator's machine: who may come in, what each agent is to do, and what came of it.
//!
//! It never sees a bundle's files, runs no Lua and holds no key: what it says of itself the driver signs. What is finished is written and
//! forgotten: in memory are the agents, the bundles' metadata, the runs that have not ended and what each agent has
//! still to be told.

mod catalog;
mod copies;
mod dispatch;
mod durable;
mod head;
mod inbox;
mod machine;
mod operators;
mod orders;
mod receipts;
mod registry;
mod releases;
mod rollouts;
mod views;

use std::collections::BTreeSet;

pub use durable::{
    AgentRecord, AgentReleaseRow, Durable, HeadRow, Inbox, Item, Job, JobEnd, JobUpdate, OperatorRecord, ReceiptRow,
    Release, Run, Token, UpdateStanding, Write,
};
pub use machine::Coordinator;
pub use orders::{Instruction, Orders, Unsigned};
pub use receipts::{CheckedReport, RejectedReceipts};
pub use rollouts::{
    Before, ROLLOUTS_LIVE_MAX, ROLLOUTS_MAX, ReleaseName, RolloutHost, RolloutNote, RolloutOrder, RolloutRecord,
};
use sloth_core::{AgentId, Digest, Labels, Millis, RunId, TokenId};
use sloth_trust::PublicKey;

use crate::wire::{
    AgentResponse, AgentsPage, AssignRelease, BundleView, CreateToken, Hello, OperatorView, OperatorsPage, Platform,
    Poll, Published, Refusal, ReleaseView, Renew, RolloutRequest, RolloutResponse, StartRun, Started, TokensPage,
    Welcome,
};

/// Most agents that a coordinator takes, those whose identity was withdrawn not counted.
pub const AGENTS_MAX: usize = 200_000;
/// Most agents whose identity was withdrawn and that can still be looked at; the one that was last seen first goes first.
pub const REVOKED_MAX: usize = 10_000;
/// Most join tokens that are kept at a time; of those that are used up, the one that expires first goes first.
pub const TOKENS_MAX: usize = 10_000;
/// Most operators that are known; of those that have only been seen, the one that was seen first goes first.
pub const OPERATORS_MAX: usize = 1000;
/// Longest life of a join token.
pub const TOKEN_TTL_MAX: Millis = Millis::from_secs(30 * 24 * 3600);
/// Most releases of one bundle that are kept; the oldest one that no run uses goes first.
pub const RELEASES_MAX: usize = 100;
/// Most releases of the agent that are kept; the oldest goes first.
pub const AGENT_RELEASES_MAX: usize = 100;
/// Most trust roots, each of which vouched for the next.
pub const ROOTS_MAX: usize = 1024;
/// Most runs that have not ended.
pub const RUNS_ACTIVE_MAX: usize = 10_000;
/// Most runs that have ended and can still be looked at; the oldest one goes first.
pub const RUNS_ENDED_MAX: usize = 10_000;
/// Shortest and longest time that a run may be given.
pub const RUN_TTL_MIN: Millis = Millis::from_secs(1);
/// See [`RUN_TTL_MIN`].
pub const RUN_TTL_MAX: Millis = Millis::from_secs(90 * 24 * 3600);
/// Most items that wait for one agent.
pub const WORK_WAITING_MAX: usize = 1024;
/// After a run's deadline, agents have this long to say what became of it before it counts as expired.
pub const EXPIRY_GRACE: Millis = Millis::from_secs(120);
/// Most bytes of logs of one run; the rest is counted and not kept.
pub const RUN_LOG_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Most bytes of what one agent tells of the course of one run; the rest is counted and not kept. Its end counts always.
pub const JOB_RESULT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A lost connection's return is spread so that no more than this many come back in a second.
pub const RECONNECTS_PER_SECOND: u64 = 500;
/// Polls that are not held are spread so that no more than this many come in a second.
pub const POLLS_PER_SECOND: u64 = 1000;
/// Longest pause between two polls that are not held.
pub const POLL_PAUSE_MAX: Millis = Millis::from_secs(3600);
/// An agent's row is written anew when it was last seen longer ago than this.
pub const LAST_SEEN_STEP: Millis = Millis::from_secs(3600);

/// How long a head is good for new work unless the settings say otherwise.
pub const HEAD_LIFE: Millis = Millis::from_secs(24 * 3600);
/// Shortest and longest life of a head: agents ask every few minutes, and who keeps news from one may do so for that long.
pub const HEAD_LIFE_MIN: Millis = Millis::from_secs(3600);
/// See [`HEAD_LIFE_MIN`].
pub const HEAD_LIFE_MAX: Millis = Millis::from_secs(7 * 24 * 3600);

/// What a coordinator is told at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long a head is good for new work.
    pub head_life: Millis,
}

impl Default for Settings {
    fn default() -> Self {
        Self { head_life: HEAD_LIFE }
    }
}

/// Names a connection; never used twice in a process's life.
pub type ConnId = u64;
/// Names a request that waits for its answer; never used twice in a process's life.
pub type Ticket = u64;

/// What happens to a coordinator.
#[derive(Debug, Clone)]
pub enum Event {
    /// Time has come to [`Output::wake_at`].
    Wake,
    /// An agent with a good certificate has connected.
    Connected {
        /// Its connection.
        conn: ConnId,
        /// Who it is.
        agent: AgentId,
    },
    /// A connection is gone.
    Closed {
        /// Which one.
        conn: ConnId,
    },
    /// An agent asks something.
    Asked {
        /// On which connection.
        conn: ConnId,
        /// Under which name.
        ticket: Ticket,
        /// What.
        ask: Ask,
    },
    /// A host would be an agent.
    Enroll {
        /// Under which name it asks.
        ticket: Ticket,
        /// What it brings.
        enroll: Enroll,
    },
    /// An operator orders or asks something.
    Command {
        /// Under which name.
        ticket: Ticket,
        /// Who.
        operator: String,
        /// What.
        command: Command,
    },
}

/// What an agent asks of the machine. Blobs are the driver's.
#[derive(Debug, Clone)]
pub enum Ask {
    /// Who it is.
    Hello(Hello),
    /// For work.
    Poll(Poll),
    /// To take in records.
    Report(CheckedReport),
    /// For a certificate.
    Renew(Renew),
}

/// What a host brings to become an agent, its request's signature checked by the driver.
#[derive(Debug, Clone)]
pub struct Enroll {
    /// Which token.
    pub token: TokenId,
    /// The digest of the token's secret half.
    pub secret: Digest,
    /// The digest of the public key that the certificate will hold.
    pub key: Digest,
    /// The name it would go by.
    pub name: String,
    /// Its release.
    pub version: String,
    /// What it runs on.
    pub platform: Platform,
    /// Labels from the host's own configuration.
    pub labels: Labels,
    /// What verifies the receipts that it will sign.
    pub receipt_key: PublicKey,
}

/// What an operator orders or asks of the machine. Ended runs and events are the driver's.
#[derive(Debug, Clone)]
pub enum Command {
    /// For the trust root.
    Root,
    /// To make this envelope the trust root.
    PutRoot(Vec<u8>),
    /// To publish a bundle whose blobs the driver has checked.
    Publish {
        /// The metadata's envelope.
        metadata: Vec<u8>,
        /// What the driver read in the manifest.
        manifest: ManifestFacts,
    },
    /// To make a join token.
    CreateToken {
        /// What it shall allow.
        create: CreateToken,
        /// Its public half.
        id: TokenId,
        /// The digest of its secret half.
        secret: Digest,
    },
    /// For agents.
    Agents {
        /// Which.
        selector: String,
        /// After which.
        after: Option<AgentId>,
    },
    /// For one agent by name or id.
    Agent(String),
    /// To withdraw an agent's identity.
    RevokeAgent(String),
    /// To forget an agent whose identity was withdrawn.
    ForgetAgent(String),
    /// For join tokens.
    Tokens {
        /// After which.
        after: Option<TokenId>,
    },
    /// To make a join token count no more.
    RevokeToken(TokenId),
    /// To be let in, with a credential that ends then. Refused to a name that was withdrawn, as all else is.
    Greet {
        /// When the credential ends.
        until: Millis,
    },
    /// For operators.
    Operators {
        /// After which.
        after: Option<String>,
    },
    /// To make an operator's credentials count no more.
    RevokeOperator(String),
    /// For every bundle's newest release.
    Bundles,
    /// For every release of a bundle.
    Bundle(String),
    /// To start a run.
    StartRun(StartRun),
    /// To cancel a run.
    CancelRun(RunId),
    /// To publish a release of the agent whose blobs the driver has checked.
    PublishRelease(Vec<u8>),
    /// For every release of the agent.
    Releases,
    /// To take back the release of the agent with this number.
    WithdrawRelease(u64),
    /// To order one agent to go to a release.
    AssignRelease(AssignRelease),
    /// For rollouts, or to change one.
    Rollout(RolloutRequest),
}

/// What a manifest says that the machine needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFacts {
    /// Bytes of the bundle's files.
    pub size: u64,
    /// The names of its workflows.
    pub workflows: BTreeSet<String>,
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// To an agent, as it is.
    Agent(AgentResponse),
    /// To an agent's hello; the driver holds the receipts of this connection against the key.
    Welcome {
        /// What is sent.
        welcome: Welcome,
        /// What verifies the agent's receipts.
        receipt_key: Box<PublicKey>,
    },
    /// To an agent's poll: the driver signs it.
    Work(Box<Orders>),
    /// To an agent: the driver makes the certificate for the key it asked with.
    Certify {
        /// Who it is for.
        agent: AgentId,
        /// The request.
        renew: Renew,
    },
    /// To a host: the driver makes the certificate for the key it asked with.
    Enrolled {
        /// Who it is from now on.
        agent: AgentId,
        /// The labels that its token gives.
        labels: Labels,
        /// The trust root's envelope.
        root: Vec<u8>,
    },
    /// To an operator.
    Operator(Reply),
    /// To anybody.
    Refused(Refusal),
}

/// The answer to an operator.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Done.
    Done,
    /// The trust root's envelope.
    Root(Option<Vec<u8>>),
    /// A bundle is published.
    Published(Published),
    /// A join token counts: the trust root's pin that goes into its text, and until when.
    Token {
        /// The pin.
        root: sloth_trust::RootPin,
        /// Until when.
        expires: Millis,
    },
    /// Agents.
    Agents(AgentsPage),
    /// One agent.
    Agent(Box<crate::wire::AgentView>),
    /// Bundles' releases, without their plans.
    Bundles(Vec<BundleView>),
    /// Join tokens.
    Tokens(TokensPage),
    /// Operators.
    Operators(OperatorsPage),
    /// One operator.
    Operator(OperatorView),
    /// A run has begun.
    Started(Started),
    /// The run was started before, and has ended: on how many agents is on the disk.
    Ended(RunId),
    /// A run is being cancelled.
    Cancelling(RunId),
    /// Releases of the agent.
    Releases(Vec<ReleaseView>),
    /// About rollouts.
    Rollout(Box<RolloutResponse>),
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The agent's identity is unknown or was withdrawn.
    Revoked,
    /// The same agent has connected again.
    Superseded,
}

/// A host came with the identity of an agent that another host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyNote {
    /// Whose identity.
    pub agent: AgentId,
    /// What that agent is called.
    pub name: String,
    /// What the host calls itself.
    pub hostname: String,
    /// Whether it is the first time that this agent's identity was found twice.
    pub first: bool,
}

/// What a machine answers to an event.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// To be committed in one transaction before anything is sent.
    pub writes: Vec<Write>,
    /// The answers, each to be sent once.
    pub answers: Vec<(Ticket, Answer)>,
    /// Connections to close after the answers.
    pub closes: Vec<(ConnId, CloseReason)>,
    /// Operators whose connections are to be closed after the answers.
    pub withdrawn: Vec<String>,
    /// Receipts that do not count.
    pub rejected: Vec<RejectedReceipts>,
    /// Runs of which something new can be read after the commit.
    pub touched: BTreeSet<RunId>,
    /// What rollouts did, to be told after the commit.
    pub notes: Vec<RolloutNote>,
    /// Hosts that came with the identity of another, to be told after the commit.
    pub copies: Vec<CopyNote>,
    /// When to send [`Event::Wake`], whatever was said before.
    pub wake_at: Option<Millis>,
}
