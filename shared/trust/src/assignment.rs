//! Work for one host.

use serde::{Deserialize, Serialize};
use sloth_core::{AgentId, Digest, Millis, RepositoryId, RunId};

use crate::{BundleMetadata, BundleName, Domain, Refusal, domain::Subject, trusted::unexpired};

/// One run of one bundle, for one agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// The version of this format: [`SPEC`](crate::SPEC).
    pub spec: u32,
    /// Who is to run it.
    pub agent: AgentId,
    /// The run it belongs to.
    pub run: RunId,
    /// The bundle.
    pub bundle: BundleName,
    /// Which release of the bundle.
    pub counter: u64,
    /// The digest of that release's manifest.
    pub manifest: Digest,
    /// Which workflow of the bundle; the bundle's only one where it is not named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// The values that the workflow is given: a JSON object.
    pub values: serde_json::Map<String, serde_json::Value>,
    /// Not to be started before this.
    pub not_before: Millis,
    /// Not to be started from this on.
    pub deadline: Millis,
    /// Chosen by the coordinator, another for each assignment; an agent takes one only once.
    pub nonce: u64,
}

impl Assignment {
    /// Whether this work may begin now, and `metadata` is of the release that it names and takes its values.
    ///
    /// # Errors
    ///
    /// When it names another release, it is too early or too late, or its values are not what publishers signed.
    pub fn fits(&self, metadata: &BundleMetadata, now: Millis) -> Result<(), Refusal> {
        let named = (&self.bundle, self.counter, self.manifest);
        if named != (&metadata.name, metadata.counter, metadata.manifest.digest) {
            return Err(Refusal::OtherBundle { name: self.bundle.clone(), counter: self.counter });
        }
        if now < self.not_before {
            let what = format!("run `{}`", self.run);
            return Err(Refusal::NotYet { what, not_before: self.not_before });
        }
        unexpired(now, self.deadline, || format!("the assignment of run `{}`", self.run))?;
        metadata.takes(&self.values)
    }

    /// What a signature of this assignment is for.
    #[must_use]
    pub const fn domain(&self, repository: RepositoryId) -> Domain {
        Domain { subject: Subject::Assignment, repository, version: self.nonce }
    }
}
