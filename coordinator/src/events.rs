//! What is worth counting: each event is a struct that logs and counts itself.

use metrics::{counter, gauge, histogram};
use sloth_core::{AgentId, Millis, RunId};
use sloth_protocol::{
    coordinator::{CopyNote, RejectedReceipts, RolloutNote},
    wire::{JobState, Lane, Refusal, RefusalCode, RolloutStatus, RolloutSummary},
};

/// How long commits take, in seconds.
pub const COMMIT_SECONDS: &str = "sloth_commit_seconds";
/// The bounds of the histogram of [`COMMIT_SECONDS`].
pub const COMMIT_SECONDS_BUCKETS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Every status that a rollout may have.
const ROLLOUT_STATUSES: [RolloutStatus; 8] = [
    RolloutStatus::Running,
    RolloutStatus::Paused,
    RolloutStatus::Halted,
    RolloutStatus::RollingBack,
    RolloutStatus::RolledBack,
    RolloutStatus::Complete,
    RolloutStatus::Aborted,
    RolloutStatus::Superseded,
];

/// Changes are on the disk, or were refused by it.
#[derive(Debug)]
pub struct Committed {
    /// How many.
    pub writes: usize,
    /// How long it took.
    pub seconds: f64,
}

/// The disk refused a commit.
#[derive(Debug)]
pub struct CommitFailed<'a> {
    /// The error with its causes.
    pub error: &'a str,
    /// How often in a row.
    pub failures: u32,
}

/// The disk takes commits again.
#[derive(Debug)]
pub struct Recovered {
    /// How often it had refused in a row.
    pub failures: u32,
}

/// Records of agents were counted.
#[derive(Debug)]
pub struct Counted {
    /// Their lane.
    pub lane: Lane,
    /// How many.
    pub records: u64,
}

/// Receipts were put into the chain.
#[derive(Debug)]
pub struct ReceiptsKept {
    /// How many.
    pub receipts: u64,
}

/// Receipts of an agent do not count.
#[derive(Debug)]
pub struct ReceiptsRejected<'a> {
    /// Whose, and why.
    pub rejected: &'a RejectedReceipts,
}

/// A request was refused.
#[derive(Debug)]
pub struct Refused<'a> {
    /// What was said.
    pub refusal: &'a Refusal,
}

/// A peer broke the protocol and lost its connection.
#[derive(Debug)]
pub struct Misbehaved<'a> {
    /// From where.
    pub address: std::net::SocketAddr,
    /// Who it is: an agent's id, an operator's name, or nobody.
    pub peer: &'a str,
    /// What it did.
    pub error: &'a str,
}

/// A host has become an agent, or was told again that it is one.
#[derive(Debug)]
pub struct Enrolled<'a> {
    /// Who it is.
    pub agent: AgentId,
    /// What it is called.
    pub name: &'a str,
    /// From where.
    pub address: std::net::SocketAddr,
}

/// An agent has a new certificate.
#[derive(Debug)]
pub struct Renewed {
    /// Who.
    pub agent: AgentId,
    /// When it stops to count.
    pub not_after: Millis,
}

/// An agent connected.
#[derive(Debug)]
pub struct Connected {
    /// Who.
    pub agent: AgentId,
    /// From where.
    pub address: std::net::SocketAddr,
}

/// An operator, whom the span names, did something that changes the fleet.
#[derive(Debug)]
pub struct Ordered<'a> {
    /// What, like `publish`.
    pub what: &'static str,
    /// With what.
    pub on: &'a str,
}

/// A run has begun.
#[derive(Debug)]
pub struct RunStarted<'a> {
    /// Which.
    pub run: RunId,
    /// Of which bundle.
    pub bundle: &'a str,
    /// On how many agents.
    pub agents: u32,
    /// Who started it.
    pub operator: &'a str,
}

/// A rollout did something, by itself or because it was told to.
#[derive(Debug)]
pub struct RolloutMoved<'a> {
    /// What.
    pub note: &'a RolloutNote,
}

/// A host came with the identity of an agent that another host is.
#[derive(Debug)]
pub struct CopyFound<'a> {
    /// Whose, and which host.
    pub note: &'a CopyNote,
}

/// How the coordinator stands at one moment.
#[derive(Debug, Default)]
pub struct Standing {
    /// Agents that are not revoked.
    pub agents_enrolled: usize,
    /// Agents that are connected.
    pub agents_connected: usize,
    /// Polls that wait for work.
    pub polls_held: usize,
    /// Runs that have not ended.
    pub runs_active: usize,
    /// Jobs of those runs by their state.
    pub jobs: Vec<(JobState, usize)>,
    /// Rollouts that can be looked at.
    pub rollouts: Vec<RolloutSummary>,
    /// Bundles and how many seconds their newest release is still good for, below zero when it is not.
    pub bundles: Vec<(String, f64)>,
    /// The same of the trust root and of the head, where there is one.
    pub root: Option<f64>,
    /// See [`Standing::root`].
    pub head: Option<f64>,
}

impl Committed {
    /// Counts it.
    pub fn emit(&self) {
        counter!("sloth_commits_total").increment(1);
        histogram!(COMMIT_SECONDS).record(self.seconds);
        tracing::trace!(writes = self.writes, seconds = self.seconds, "committed");
    }
}

impl CommitFailed<'_> {
    /// Logs and counts it.
    pub fn emit(&self) {
        counter!("sloth_commit_failures_total").increment(1);
        tracing::error!(error = self.error, failures = self.failures, "the store refuses commits: mend the disk");
    }
}

impl Recovered {
    /// Logs it.
    pub fn emit(&self) {
        tracing::info!(failures = self.failures, "the store takes commits again");
    }
}

impl Counted {
    /// Counts it.
    pub fn emit(&self) {
        counter!("sloth_records_total", "lane" => lane_name(self.lane)).increment(self.records);
    }
}

impl ReceiptsKept {
    /// Counts it.
    pub fn emit(&self) {
        if 0 < self.receipts {
            counter!("sloth_receipts_total").increment(self.receipts);
        }
    }
}

impl ReceiptsRejected<'_> {
    /// Logs and counts it.
    pub fn emit(&self) {
        let RejectedReceipts { agent, run, reason, count } = self.rejected;
        counter!("sloth_receipts_rejected_total").increment(*count);
        tracing::warn!(%agent, %run, %reason, count, "receipts do not count: look at that agent's host");
    }
}

impl Refused<'_> {
    /// Logs and counts it.
    pub fn emit(&self) {
        counter!("sloth_refusals_total", "code" => code_name(self.refusal.code)).increment(1);
        tracing::debug!(code = code_name(self.refusal.code), reason = %self.refusal.reason, "refused");
    }
}

impl Misbehaved<'_> {
    /// Logs and counts it.
    pub fn emit(&self) {
        counter!("sloth_misbehaving_peers_total").increment(1);
        tracing::warn!(address = %self.address, peer = self.peer, error = self.error, "a peer broke the protocol");
    }
}

impl Enrolled<'_> {
    /// Logs and counts it.
    pub fn emit(&self) {
        counter!("sloth_enrolments_total").increment(1);
        tracing::info!(agent = %self.agent, name = self.name, address = %self.address, "enrolled");
    }
}

impl Renewed {
    /// Logs and counts it.
    pub fn emit(&self) {
        counter!("sloth_certificates_renewed_total").increment(1);
        tracing::info!(agent = %self.agent, not_after = %self.not_after, "certificate renewed");
    }
}

impl Connected {
    /// Logs and counts it.
    pub fn emit(&self) {
        counter!("sloth_connections_total").increment(1);
        tracing::debug!(agent = %self.agent, address = %self.address, "connected");
    }
}

impl Ordered<'_> {
    /// Logs and counts it.
    pub fn emit(&self) {
        counter!("sloth_operator_orders_total", "what" => self.what).increment(1);
        tracing::info!(on = self.on, "{}", self.what);
    }
}

impl RunStarted<'_> {
    /// Logs and counts it.
    pub fn emit(&self) {
        counter!("sloth_runs_started_total").increment(1);
        tracing::info!(
            run = %self.run,
            bundle = self.bundle,
            agents = self.agents,
            operator = self.operator,
            "run started"
        );
    }
}

impl RolloutMoved<'_> {
    /// Logs and counts it.
    pub fn emit(&self) {
        let RolloutNote { rollout, what, text } = self.note;
        counter!("sloth_rollout_events_total", "what" => *what).increment(1);
        if *what == RolloutNote::HALTED {
            tracing::warn!(rollout, "rollout halted: {text}");
        } else {
            tracing::info!(rollout, "rollout: {text}");
        }
    }
}

impl CopyFound<'_> {
    /// Logs and counts it.
    pub fn emit(&self) {
        let CopyNote { agent, name, hostname, first } = self.note;
        counter!("sloth_agent_copies_total").increment(1);
        if *first {
            tracing::error!(
                %agent,
                name,
                hostname,
                "two hosts have one identity: give the copy its own with `sloth-agent enroll --again`"
            );
        } else {
            tracing::info!(%agent, name, hostname, "a host with a copy of an agent's identity came");
        }
    }
}

impl Standing {
    /// Sets the gauges.
    pub fn emit(&self) {
        gauge!("sloth_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        gauge!("sloth_agents_enrolled").set(number(self.agents_enrolled));
        gauge!("sloth_agents_connected").set(number(self.agents_connected));
        gauge!("sloth_polls_held").set(number(self.polls_held));
        gauge!("sloth_runs_active").set(number(self.runs_active));
        for (state, count) in &self.jobs {
            gauge!("sloth_jobs", "state" => state_name(*state)).set(number(*count));
        }
        if let Some(seconds) = self.root {
            gauge!("sloth_root_expires_seconds").set(seconds);
        }
        if let Some(seconds) = self.head {
            gauge!("sloth_head_expires_seconds").set(seconds);
        }
        self.emit_rollouts();
        for (bundle, seconds) in &self.bundles {
            gauge!("sloth_bundle_expires_seconds", "bundle" => bundle.clone()).set(*seconds);
        }
    }
}

impl Standing {
    fn emit_rollouts(&self) {
        for status in ROLLOUT_STATUSES {
            let count = self.rollouts.iter().filter(|rollout| rollout.status == status).count();
            gauge!("sloth_rollouts", "status" => status.name()).set(number(count));
        }
        let over = |status| matches!(status, RolloutStatus::Aborted | RolloutStatus::Superseded);
        for rollout in self.rollouts.iter().filter(|rollout| !over(rollout.status)) {
            let hosts = rollout.hosts;
            for (standing, count) in [
                ("waiting", hosts.waiting),
                ("away", hosts.away),
                ("under_way", hosts.under_way),
                ("soaking", hosts.soaking),
                ("proven", hosts.proven),
                ("failed", hosts.failed),
                ("silent", hosts.silent),
                ("returning", hosts.returning),
                ("returned", hosts.returned),
                ("not_returned", hosts.not_returned),
                ("held", hosts.held),
            ] {
                let labels = [("rollout", rollout.name.clone()), ("standing", standing.to_owned())];
                gauge!("sloth_rollout_hosts", &labels).set(f64::from(count));
            }
            gauge!("sloth_rollout_waves_open", "rollout" => rollout.name.clone()).set(f64::from(rollout.open));
        }
    }
}

/// A state's name for programs.
#[must_use]
pub const fn state_name(state: JobState) -> &'static str {
    match state {
        JobState::Pending => "pending",
        JobState::Accepted => "accepted",
        JobState::Running => "running",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
        JobState::Cancelled => "cancelled",
        JobState::Refused => "refused",
        JobState::Expired => "expired",
    }
}

const fn lane_name(lane: Lane) -> &'static str {
    match lane {
        Lane::Results => "results",
        Lane::Logs => "logs",
    }
}

const fn code_name(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::Invalid => "invalid",
        RefusalCode::Denied => "denied",
        RefusalCode::NotFound => "not_found",
        RefusalCode::Conflict => "conflict",
        RefusalCode::TooLarge => "too_large",
        RefusalCode::Busy => "busy",
        RefusalCode::Version => "version",
        RefusalCode::Internal => "internal",
        RefusalCode::Values => "values",
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and no count here comes near 2^52")]
const fn number(count: usize) -> f64 {
    count as f64
}
