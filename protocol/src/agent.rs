//! The agent's machine: what it has been ordered to do, how far it got, and what it still has to report.
//!
//! ```text
//! order ──verify──▶ accepted ──fetch──▶ ready ──slot──▶ running ──▶ ended
//!                      │                  ▲                │
//!                      └── refused        └── worker died ─┘
//! ```
//!
//! A job's stage and every task's start and end are on the disk before the worker is told to go on, and a record of
//! each waits in the outbox until the coordinator says that it is on *its* disk.

mod durable;
mod jobs;
mod machine;
mod outbox;
mod receipts;
mod session;
mod trust;
mod updates;

use std::collections::{BTreeMap, BTreeSet};

pub use durable::{Basis, Durable, Entry, Job, LaneState, Stage, TaskState, Update, UpdateStage, Write};
pub use machine::{Agent, RestoreError};
use sloth_core::{AgentId, Digest, Labels, Millis, RunId};
use sloth_trust::{BundleName, Channel, RootPin, Triple, Version};

use crate::wire::{
    AgentResponse, Dropped, Hello, Lane, LogStream, OnInterrupt, Platform, Poll, RunEnd, TaskEnd, TaskName,
    UpdateVerdict,
};

/// Most jobs that an agent holds, begun or not.
pub const JOBS_MAX: usize = 64;
/// How far an order's generation may lie above the last one's. Some are left out, of orders that were taken back; who
/// would use up all numbers that there are has to send a great many orders.
pub const GENERATION_STEP_MAX: u64 = 1 << 24;
/// How often a run's worker may be started again without a task having ended in between.
pub const WORKER_STARTS_MAX: u32 = 5;
/// Shortest wait before a bundle is asked for again, at the first attempt.
pub const FETCH_RETRY_BASE: Millis = Millis::from_secs(5);
/// Longest.
pub const FETCH_RETRY_CAP: Millis = Millis::from_secs(300);
/// The span from which the first attempt to connect again is drawn, unless the coordinator named a longer one.
pub const RECONNECT_BASE: Millis = Millis::from_secs(1);
/// Longest wait between two attempts to connect.
pub const RECONNECT_CAP: Millis = Millis::from_secs(60);
/// Longest wait between two attempts of an agent that was told it may not come in.
pub const DENIED_RETRY: Millis = Millis::from_secs(600);
/// Longest wait that a coordinator can tell an agent; what is over it counts as this.
pub const TOLD_WAIT_MAX: Millis = Millis::from_secs(2 * 3600);
/// How long an answer may take before the connection counts as dead, beyond what a poll is held.
pub const ANSWER_PATIENCE: Millis = Millis::from_secs(30);
/// A run's end waits this long for the logs before it, so that who follows a run sees all of it in order.
pub const LOGS_PATIENCE: Millis = Millis::from_secs(2);
/// How long an agent that was given work and no head that counts waits before it asks again.
pub const STALE_RETRY: Millis = Millis::from_secs(60);
/// How long a new certificate is left in peace, also when clocks that disagree make it look as if it had run out.
pub const RENEW_RETRY: Millis = Millis::from_secs(60);
/// How long a cancelled or expired worker has to end before it counts as stopped.
pub const STOP_PATIENCE: Millis = Millis::from_secs(60);

/// What an agent is told at its start and keeps for its life.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who it is.
    pub id: AgentId,
    /// Its name in the fleet.
    pub name: String,
    /// Labels from the host's configuration.
    pub host_labels: Labels,
    /// Labels that its join token gave.
    pub enrolled_labels: Labels,
    /// Its release.
    pub version: String,
    /// What it runs on.
    pub platform: Platform,
    /// The envelope of the trust root that it starts from.
    pub root: Vec<u8>,
    /// What the join token pinned that root to.
    pub root_pin: RootPin,
    /// When its certificate begins to count.
    pub certificate_from: Millis,
    /// When it stops.
    pub certificate_until: Millis,
    /// How it keeps in touch.
    pub pacing: Pacing,
    /// Most runs at a time.
    pub runs_max: usize,
    /// Most bytes of records that wait in each lane, in the order of [`Lane::ALL`].
    pub outbox_bytes_max: [usize; 2],
    /// What it does about updates of itself.
    pub updates: Updates,
}

/// What an agent does about updates of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Updates {
    /// The platform that it was built for.
    pub target: Triple,
    /// The host's own word, until [`Agent::hear_update_rules`] brings another.
    pub rules: UpdateRules,
}

/// The host's own word on updates of the agent: it counts above everybody else's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpdateRules {
    /// Why it takes none, in one sentence; none when it takes them.
    pub held: Option<String>,
    /// Why it begins none now, in one sentence: what it was ordered waits.
    pub waits: Option<String>,
    /// The only version that it takes.
    pub pin: Option<Version>,
    /// Which releases it takes.
    pub channel: Channel,
    /// Versions that failed here.
    pub bad: BTreeSet<Version>,
    /// The version that could not connect and is tried again, and how that stands, in one sentence.
    pub put_off: Option<(Version, String)>,
}

/// What a supervisor says of an update that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateOutcome {
    /// Above that of every outcome before.
    pub number: u64,
    /// The version that ran before.
    pub from: String,
    /// The version that was tried.
    pub to: String,
    /// Whether it stays.
    pub verdict: UpdateVerdict,
    /// Why, when it does not.
    pub reason: String,
    /// What it logged last, when it failed.
    pub log_tail: String,
}

/// How an agent keeps in touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pacing {
    /// The connection stays, and each poll is held for this long: work starts at once.
    Hold(Millis),
    /// Connect, ask, report, leave, and come back after about this long: for metered links.
    Interval(Millis),
}

/// Names one request, so that its answer is known.
pub type Ticket = u64;

/// What happens to an agent.
#[derive(Debug, Clone)]
pub enum Event {
    /// Time has come to [`Output::wake_at`].
    Wake,
    /// The connection that [`Effect::Connect`] asked for is there.
    Connected {
        /// Which one.
        link: u64,
    },
    /// A connection ended, or could not be made.
    Disconnected {
        /// Which one; an older one than the last is of no account.
        link: u64,
        /// For people.
        reason: String,
    },
    /// The coordinator closed the connection, or would not have it, since this agent's identity was withdrawn.
    Revoked {
        /// Which one; an older one than the last is of no account.
        link: u64,
    },
    /// A request was answered.
    Answered {
        /// Which request.
        ticket: Ticket,
        /// The answer.
        response: AgentResponse,
    },
    /// The driver has stored the certificate that an answer to [`Ask::Renew`] brought.
    Renewed {
        /// The request.
        ticket: Ticket,
        /// When the certificate begins to count.
        from: Millis,
        /// When it stops.
        until: Millis,
    },
    /// An [`Effect::Fetch`] is over.
    Fetched {
        /// For which run.
        run: RunId,
        /// Whether its bundle is unpacked on the disk.
        result: Result<(), FetchError>,
    },
    /// A worker wants to begin an attempt at a task.
    TaskStarting {
        /// In which run.
        run: RunId,
        /// Which task.
        task: TaskName,
        /// The attempt, from 1.
        attempt: u32,
        /// What becomes of it when the agent stops in the middle.
        on_interrupt: OnInterrupt,
    },
    /// A worker's task has ended.
    TaskEnded {
        /// In which run.
        run: RunId,
        /// How.
        end: TaskEnd,
    },
    /// A worker has ended its run and is gone.
    RunEnded {
        /// Which run.
        run: RunId,
        /// How.
        end: RunEnd,
    },
    /// A worker is gone before it ended its run.
    WorkerDied {
        /// Which run.
        run: RunId,
        /// For people.
        how: String,
    },
    /// A worker printed something.
    Logged {
        /// In which run.
        run: RunId,
        /// From which task.
        task: Option<TaskName>,
        /// Where to.
        stream: LogStream,
        /// Whole lines.
        text: String,
    },
    /// An [`Effect::Stage`] is over.
    UpdateReady {
        /// The release's number.
        counter: u64,
        /// Whether its binary is on the disk and was tried.
        result: Result<(), FetchError>,
    },
    /// What [`Effect::Switch`] asked for cannot happen.
    UpdateFailed {
        /// The release's number.
        counter: u64,
        /// [`UpdateVerdict::Held`] where the host's rules are against it, else [`UpdateVerdict::Refused`].
        verdict: UpdateVerdict,
        /// Why.
        reason: String,
    },
    /// The supervisor says what came of an update. Answered by [`Effect::UpdateNoted`].
    UpdateOutcome(UpdateOutcome),
}

/// Why a bundle is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchError {
    /// It may be there later: no connection, no space, not found yet.
    Later(String),
    /// What came is not what was signed, or can never be unpacked.
    Never(String),
}

/// What the driver does for an agent, after the writes are on the disk, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make a connection; answer with [`Event::Connected`] or [`Event::Disconnected`].
    Connect {
        /// Its name.
        link: u64,
    },
    /// Close the connection, if it is still there.
    Disconnect,
    /// Send a request; answer with [`Event::Answered`], or with [`Event::Disconnected`] when no answer can come.
    Ask {
        /// Its name.
        ticket: Ticket,
        /// What to ask.
        ask: Ask,
    },
    /// See that the bundle is unpacked on the disk and stays there until [`Effect::Forget`].
    Fetch {
        /// For which run.
        run: RunId,
        /// The digest of its manifest.
        manifest: Digest,
        /// The manifest's length in bytes.
        manifest_bytes: u64,
    },
    /// Start a worker.
    Start(Box<Start>),
    /// Tell the worker that it may begin the attempt it asked for.
    Go {
        /// In which run.
        run: RunId,
        /// Which task.
        task: TaskName,
    },
    /// Tell the worker that the task's end is on the disk.
    Noted {
        /// In which run.
        run: RunId,
        /// Which task.
        task: TaskName,
    },
    /// Stop the worker and all that it started; answer with [`Event::RunEnded`] or [`Event::WorkerDied`].
    Stop {
        /// Which run.
        run: RunId,
        /// Why, for people.
        why: StopReason,
    },
    /// The job is over: its bundle and its directory may go.
    Forget {
        /// Which run.
        run: RunId,
    },
    /// See that the binary of a release is on the disk and tried; answer with [`Event::UpdateReady`].
    Stage(Box<Update>),
    /// Have the supervisor hand over to a staged version, which ends this process; answer with [`Event::UpdateFailed`] when
    /// it does not.
    Switch {
        /// The release's number.
        counter: u64,
        /// Its version.
        version: Version,
    },
    /// The update is over before it was handed over to: what was brought in for it may go.
    ForgetUpdate {
        /// The release's number.
        counter: u64,
    },
    /// What the supervisor said of an update is on the disk: it need not be said again.
    UpdateNoted {
        /// Up to this number.
        number: u64,
    },
    /// Tell the log.
    Note(Note),
}

/// Why a worker is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// An operator cancelled the run.
    Cancelled,
    /// The run's deadline passed.
    Expired,
    /// The worker asked for what it may not.
    Misbehaved,
}

/// What is worth a line in the agent's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A run was taken on.
    Accepted {
        /// Which run.
        run: RunId,
        /// Of which bundle.
        bundle: BundleName,
    },
    /// A run was not taken on.
    Refused {
        /// Which run.
        run: RunId,
        /// Why.
        reason: String,
    },
    /// A later trust root counts from now on.
    RootAccepted {
        /// Its version.
        version: u64,
    },
    /// What the coordinator gave as the next trust root is none.
    RootRefused {
        /// Why.
        reason: String,
    },
    /// Nothing new is begun, since nobody says well enough what is the newest.
    HeldBack {
        /// Why.
        reason: String,
    },
    /// An order at or below a generation that was seen.
    Stale {
        /// The order's generation.
        generation: u64,
        /// The agent's.
        accepted: u64,
    },
    /// Records were given up for want of space.
    Dropped {
        /// Where.
        lane: Lane,
        /// All that this lane ever gave up.
        total: Dropped,
    },
    /// The coordinator refused a request.
    Denied {
        /// What it said.
        reason: String,
    },
    /// A run has ended.
    Ended {
        /// Which run.
        run: RunId,
        /// How.
        end: RunEnd,
    },
    /// The agent will go to a release.
    UpdateAccepted {
        /// Its version.
        version: Version,
    },
    /// The agent does not go to a release.
    UpdateRefused {
        /// Its version.
        version: Version,
        /// Why.
        reason: String,
    },
    /// This agent's disk is older than what the coordinator has of it, as after a restored snapshot.
    StateWentBack {
        /// In which lane it showed.
        lane: Lane,
    },
}

/// A request to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// The first on a connection.
    Hello(Hello),
    /// For work.
    Poll(Poll),
    /// Records that are on the disk under these numbers; the driver reads their content.
    Report {
        /// The lane.
        lane: Lane,
        /// What it ever gave up.
        dropped: Dropped,
        /// The numbers, rising.
        seqs: Vec<u64>,
    },
    /// For a certificate on a new key. The driver makes the key, and answers with [`Event::Renewed`] when the new
    /// identity is stored.
    Renew,
}

/// What a worker needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The job.
    pub job: Job,
    /// Tasks that have ended; they are not run again.
    pub ended: Vec<TaskEnd>,
    /// Attempts that were begun and cut off, of tasks that shall run again.
    pub attempts: BTreeMap<TaskName, u32>,
}

/// What a machine answers to an event.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// To be committed in one transaction before any effect.
    pub writes: Vec<Write>,
    /// To be carried out in this order.
    pub effects: Vec<Effect>,
    /// When to send [`Event::Wake`], whatever was said before.
    pub wake_at: Option<Millis>,
}
