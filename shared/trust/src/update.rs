//! A release of the agent for one host.

use semver::Version;
use serde::{Deserialize, Serialize};
use sloth_core::{AgentId, Digest, Millis, RepositoryId, RolloutId};

use crate::{AgentRelease, Domain, Refusal, TargetBinary, domain::Subject, trusted::unexpired};

/// The order to go to one release of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateAssignment {
    /// The version of this format: [`SPEC`](crate::SPEC).
    pub spec: u32,
    /// Who is to go to it.
    pub agent: AgentId,
    /// The release's version.
    pub version: Version,
    /// Which release it is.
    pub counter: u64,
    /// The digest of the manifest of the binary for this agent's platform.
    pub manifest: Digest,
    /// The rollout that it belongs to, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutId>,
    /// Not to be begun before this.
    pub not_before: Millis,
    /// Not to be begun from this on.
    pub deadline: Millis,
    /// The order's number; an agent takes one only once.
    pub nonce: u64,
}

impl UpdateAssignment {
    /// Whether the update may begin now, and `release` with its `binary` is what it names.
    ///
    /// # Errors
    ///
    /// When it names another release or binary, or it is too early or too late.
    pub fn fits(&self, release: &AgentRelease, binary: &TargetBinary, now: Millis) -> Result<(), Refusal> {
        let named = (&self.version, self.counter, self.manifest);
        if named != (&release.version, release.counter, binary.manifest.digest) {
            return Err(Refusal::OtherRelease { version: self.version.to_string(), counter: self.counter });
        }
        let what = || format!("the update to {}", self.version);
        if now < self.not_before {
            return Err(Refusal::NotYet { what: what(), not_before: self.not_before });
        }
        unexpired(now, self.deadline, what)
    }

    /// What a signature of this assignment is for.
    #[must_use]
    pub const fn domain(&self, repository: RepositoryId) -> Domain {
        Domain { subject: Subject::Update, repository, version: self.nonce }
    }
}
