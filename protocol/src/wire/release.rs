//! Releases of the agent, and updates to them, as operators see them.

use serde::{Deserialize, Serialize};
use sloth_core::{Digest, Millis, RolloutId};

use super::{ProtoVersion, UpdateVerdict};

/// Which agent is to go to which release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignRelease {
    /// The agent's name or id.
    pub agent: String,
    /// The release's number.
    pub counter: u64,
    /// How long from now it may still begin.
    pub ttl: Millis,
}

/// A release of the agent as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseView {
    /// The release for people.
    pub version: String,
    /// The release for machines.
    pub counter: u64,
    /// Which hosts take it, by their own settings.
    pub channel: String,
    /// Its binaries.
    pub targets: Vec<ReleaseTarget>,
    /// The oldest version that it may be reached from.
    pub oldest: String,
    /// Older ones from which it may be reached all the same.
    pub also: Vec<String>,
    /// The oldest version of the protocol that it speaks.
    pub proto_min: ProtoVersion,
    /// The newest.
    pub proto_max: ProtoVersion,
    /// When it was signed.
    pub published: Millis,
    /// After this, no agent is told of it.
    pub expires: Millis,
    /// SHA-256 of each key that signed it, in hexadecimal.
    pub signers: Vec<String>,
}

/// A binary of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseTarget {
    /// The platform that it was built for.
    pub target: String,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
    /// How many bytes it has.
    pub length: u64,
    /// The digest of the manifest by which it is fetched.
    pub manifest: Digest,
}

/// How the newest update stands that an agent was ordered to make, or made by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateView {
    /// The release's number; none when nobody ordered it.
    pub counter: Option<u64>,
    /// The rollout that it belongs to.
    pub rollout: Option<RolloutId>,
    /// The version that ran before; empty while the agent has not said.
    pub from: String,
    /// The version that it is to go to.
    pub to: String,
    /// How it stands.
    pub state: UpdateState,
    /// Since when, by this coordinator's clock.
    pub at: Millis,
    /// Why, when it is not plain success.
    pub reason: String,
    /// What a version that failed logged last.
    pub log_tail: String,
}

/// How an update stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum UpdateState {
    /// The agent has not been told, or has not confirmed that it was.
    Queued,
    /// The agent has the order on its disk.
    Accepted,
    /// See [`UpdateVerdict::Staged`].
    Staged,
    /// See [`UpdateVerdict::Switched`].
    Switched,
    /// See [`UpdateVerdict::Confirmed`].
    Confirmed,
    /// See [`UpdateVerdict::RolledBack`].
    RolledBack,
    /// See [`UpdateVerdict::Refused`]; also when the coordinator found that the order cannot count.
    Refused,
    /// See [`UpdateVerdict::Held`].
    Held,
    /// It was taken back before the agent was told, or before it started the new version.
    Withdrawn,
}

impl UpdateState {
    /// Whether nothing more is expected.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Accepted | Self::Staged | Self::Switched => false,
            Self::Confirmed | Self::RolledBack | Self::Refused | Self::Held | Self::Withdrawn => true,
        }
    }
}

impl From<UpdateVerdict> for UpdateState {
    fn from(verdict: UpdateVerdict) -> Self {
        match verdict {
            UpdateVerdict::Staged => Self::Staged,
            UpdateVerdict::Switched => Self::Switched,
            UpdateVerdict::Confirmed => Self::Confirmed,
            UpdateVerdict::RolledBack => Self::RolledBack,
            UpdateVerdict::Refused => Self::Refused,
            UpdateVerdict::Held => Self::Held,
            UpdateVerdict::Withdrawn => Self::Withdrawn,
        }
    }
}
