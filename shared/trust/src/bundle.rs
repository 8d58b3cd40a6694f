//! What publishers say about a bundle.

use serde::{Deserialize, Serialize};
use sloth_core::{Digest, Millis, RepositoryId, Selector};

use crate::{AgentRelease, BundleName, Domain, Envelope, Refusal, Schema, domain::Subject};

/// The metadata of one release of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleMetadata {
    /// The version of this format: [`SPEC`](crate::SPEC).
    pub spec: u32,
    /// The repository it is published in.
    pub repository: RepositoryId,
    /// Its name.
    pub name: BundleName,
    /// Which release of that name it is. It only grows: rolling back is a new release with old content.
    pub counter: u64,
    /// What people call this release; it orders nothing.
    pub version: String,
    /// Its content.
    pub manifest: ManifestRef,
    /// Which hosts may run it.
    pub audience: Selector,
    /// What its workflows may use.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// What may start it.
    pub triggers: Vec<Trigger>,
    /// What values a run may be given; whatever its starter likes where this is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Schema>,
    /// When it stops being good for new work.
    pub expires: Millis,
    /// When it was signed.
    pub published: Millis,
}

/// Names a manifest by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestRef {
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many bytes it has.
    pub length: u64,
}

/// What starts a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// An operator.
    Manual,
    /// A schedule.
    Schedule,
    /// An event.
    Hook,
    /// The wave of a rollout.
    Rollout,
}

impl BundleMetadata {
    /// What a signature of this metadata is for.
    #[must_use]
    pub fn domain(&self) -> Domain {
        let subject = Subject::Bundle(self.name.clone());
        Domain { subject, repository: self.repository, version: self.counter }
    }

    /// Whether a run may be given these values.
    ///
    /// # Errors
    ///
    /// [`Refusal::Values`], when the publishers' schema does not take them.
    pub fn takes(&self, values: &serde_json::Map<String, serde_json::Value>) -> Result<(), Refusal> {
        let Some(schema) = &self.parameters else { return Ok(()) };
        schema.check(values).map_err(|source| Refusal::Values { name: self.name.clone(), source })
    }
}

/// The newest release of a bundle, or of the agent in one channel, that was accepted before. Keep it on disk: it is what
/// makes an older one known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its counter.
    pub counter: u64,
    /// The digest of its metadata's payload.
    pub payload: Digest,
}

impl Seen {
    /// What to remember of metadata that was accepted from `envelope`.
    #[must_use]
    pub fn of(envelope: &Envelope, metadata: &BundleMetadata) -> Self {
        Self { counter: metadata.counter, payload: Digest::of(&envelope.payload) }
    }

    /// What to remember of a release of the agent that was accepted from `envelope`.
    #[must_use]
    pub fn of_release(envelope: &Envelope, release: &AgentRelease) -> Self {
        Self { counter: release.counter, payload: Digest::of(&envelope.payload) }
    }
}
