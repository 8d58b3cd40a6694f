//! What a daemon tells of itself.

use serde::{Deserialize, Serialize};
use sloth_core::{AgentId, RunId};
use sloth_protocol::{
    agent::{Durable, Stage, TaskState},
    wire::{Dropped, Lane},
};

use super::Shared;
use crate::{
    VERSION,
    update::{self, UpdateStatus},
};

/// What a daemon tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Who it is.
    pub agent: AgentId,
    /// Its name in the fleet.
    pub name: String,
    /// Its release.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Where the coordinator listens.
    pub coordinator: Vec<String>,
    /// Whether it has a connection, and the coordinator has welcomed it.
    pub connected: bool,
    /// Why it is not connected, or cannot work; empty when all is well.
    pub problem: String,
    /// When its certificate stops counting.
    pub certificate_until: String,
    /// Whether a supervisor started it.
    #[serde(default)]
    pub supervised: bool,
    /// How updates stand; none on a host that never had a supervisor.
    #[serde(default)]
    pub update: Option<UpdateStatus>,
    /// The runs that it has.
    pub jobs: Vec<JobStatus>,
    /// Results that wait for the coordinator.
    pub results: LaneStatus,
    /// Output that waits for the coordinator.
    pub logs: LaneStatus,
}

/// A run that an agent has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Which run.
    pub run: RunId,
    /// Of which bundle.
    pub bundle: String,
    /// Which release of it.
    pub version: String,
    /// `waiting` or `running`.
    pub stage: String,
    /// How many of its tasks have ended.
    pub tasks_ended: usize,
}

/// A lane of the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LaneStatus {
    /// Records that wait.
    pub records: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Records that were ever given up for want of space.
    pub dropped: u64,
}

impl Status {
    /// What can be told without a machine.
    pub(super) fn without_machine(shared: &Shared, problem: String) -> Self {
        Self {
            agent: shared.enrolment.agent,
            name: shared.enrolment.name.clone(),
            version: VERSION.to_owned(),
            pid: std::process::id(),
            coordinator: shared.enrolment.addresses.clone(),
            connected: false,
            problem,
            certificate_until: shared.with_identity(|identity| identity.not_after().to_string()),
            supervised: shared.supervised.is_some(),
            update: update::status(&shared.paths),
            jobs: Vec::new(),
            results: LaneStatus::default(),
            logs: LaneStatus::default(),
        }
    }

    /// Adds what the machine knows.
    pub(super) fn with(self, durable: &Durable) -> Self {
        let ended = |run| {
            let tasks = durable.tasks.get(run).into_iter().flat_map(|tasks| tasks.values());
            tasks.filter(|task| matches!(task, TaskState::Ended(_))).count()
        };
        let jobs = durable.jobs.values().map(|job| JobStatus {
            run: job.run,
            bundle: job.bundle.to_string(),
            version: job.version.clone(),
            stage: match job.stage {
                Stage::Accepted => "waiting".to_owned(),
                Stage::Running { .. } => "running".to_owned(),
            },
            tasks_ended: ended(&job.run),
        });
        let lane = |lane: Lane| {
            let state = &durable.lanes[lane.index()];
            let Dropped { logs, progress, tasks, runs } = state.dropped;
            LaneStatus { records: state.entries.len(), bytes: state.bytes, dropped: logs + progress + tasks + runs }
        };
        Self { jobs: jobs.collect(), results: lane(Lane::Results), logs: lane(Lane::Logs), ..self }
    }
}
