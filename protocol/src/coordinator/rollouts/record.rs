//! What of rollouts is on the disk.

use serde::{Deserialize, Serialize};
use sloth_core::{Digest, Millis, RunId};

use crate::{
    rollout::{Halt, Place, Standing},
    wire::{RolloutSpec, RolloutStatus, RolloutSubject, WaveCounts},
};

/// A rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// What was asked for.
    pub spec: RolloutSpec,
    /// What it brings releases of.
    pub subject: RolloutSubject,
    /// The release that hosts get.
    pub release: ReleaseName,
    /// The release of the bundle before, when there was one.
    pub before: Option<Before>,
    /// The release with which hosts go back; of the agent there may be more, by what each host ran.
    pub back: Option<ReleaseName>,
    /// What hosts' places come from.
    pub salt: Digest,
    /// The last place in each wave by share.
    pub cuts: Vec<Option<Place>>,
    /// Who began it.
    pub operator: String,
    /// When.
    pub created: Millis,
    /// How it stands.
    pub status: RolloutStatus,
    /// Since when.
    pub since: Millis,
    /// Why it halted last.
    pub halt: Option<Halt>,
    /// How many waves have begun. It goes back only with another release.
    pub open: u32,
    /// How many waves operators have let begin.
    pub approved: u32,
    /// How many waves may be passed over without proof.
    pub passed: u32,
    /// How often it began, from 1.
    pub attempt: u32,
    /// The run that hosts are added to. It does not end while it is named here.
    pub run: Option<RunId>,
    /// How hosts stood when it was over; their rows are gone then.
    pub closing: Option<Vec<WaveCounts>>,
}

/// A release of what the rollout brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseName {
    /// For machines.
    pub counter: u64,
    /// For people.
    pub version: String,
}

/// The release that was the newest before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// For people.
    pub version: String,
    /// What it was made of: whatever is signed later with the same manifest is the same.
    pub manifest: Digest,
}

/// How one host stands in a rollout. Hosts that were not assigned have none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutHost {
    /// Its wave when it was assigned.
    pub wave: u32,
    /// How it stands.
    pub standing: Standing,
    /// What it was told to do, the end of which is the evidence.
    pub order: RolloutOrder,
    /// Its rhythm when it was assigned, which a restart forgets.
    pub rhythm: Millis,
}

/// What a host was told to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutOrder {
    /// To do a run.
    Run(RunId),
    /// To go to a release of the agent.
    Update {
        /// The release's number.
        counter: u64,
        /// The order's generation; zero when it could not be given.
        generation: u64,
        /// The version that the host ran when it was told to go forward.
        from: String,
    },
}

impl RolloutOrder {
    /// The run, if it is one.
    #[must_use]
    pub const fn run(&self) -> Option<RunId> {
        match self {
            Self::Run(run) => Some(*run),
            Self::Update { .. } => None,
        }
    }
}

impl RolloutRecord {
    /// Whether it may still change hosts.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        match self.status {
            RolloutStatus::Running
            | RolloutStatus::Paused
            | RolloutStatus::Halted
            | RolloutStatus::RollingBack
            | RolloutStatus::RolledBack
            | RolloutStatus::Complete => true,
            RolloutStatus::Aborted | RolloutStatus::Superseded => false,
        }
    }
}
