//! What an agent says of a run that ended on it, signed with a key of its own.

use serde::{Deserialize, Serialize};
use sloth_core::{AgentId, Digest, Millis, RepositoryId, RunId};

use crate::{
    BundleName, Domain, Envelope, PayloadKind, PublicKey, Refusal, RoleKeys, Signature,
    domain::Subject,
    trusted::{agrees, bounded, claimed_kind, parse, signed_by},
};

/// How a run ended on one agent, and on what that was done.
///
/// It names what it speaks of by digests, so that its own size does not depend on that. Whoever keeps the run's end and
/// the ends of its tasks can show that they are those the agent signed for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The version of this format: [`SPEC`](crate::SPEC).
    pub spec: u32,
    /// Whose root the agent trusted.
    pub repository: RepositoryId,
    /// Who ran it.
    pub agent: AgentId,
    /// Which run.
    pub run: RunId,
    /// The generation of the order that it was taken on with.
    pub order: u64,
    /// The bundle that was assigned.
    pub bundle: BundleName,
    /// Which release of it.
    pub counter: u64,
    /// The digest of that release's manifest.
    pub manifest: Digest,
    /// One workflow of the bundle, or none for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// The version of the trust root that the agent held when it took the order on.
    pub root: u64,
    /// The version of the head that it held then; zero when it held none.
    pub head: u64,
    /// How the run ended.
    pub outcome: ReceiptOutcome,
    /// The digest of what the agent said of the end, a text.
    pub message: Digest,
    /// The digest of what the workflows exported, a JSON object as it was reported.
    pub outputs: Digest,
    /// How its tasks ended.
    pub tasks: TaskSummary,
    /// When the first worker was started, by the agent's clock; none when none ever was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Millis>,
    /// When the run ended, by the agent's clock.
    pub ended: Millis,
    /// The agent's release.
    pub version: String,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReceiptOutcome {
    /// Every task succeeded or was rightly skipped.
    Succeeded,
    /// A task failed, or the workflow could not be loaded.
    Failed,
    /// An operator cancelled it.
    Cancelled,
    /// The agent would not run it.
    Refused,
    /// Its deadline passed first.
    Expired,
}

/// How many tasks ended how, and which ends those were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSummary {
    /// Did what they should.
    pub succeeded: u64,
    /// Had nothing to change.
    pub unchanged: u64,
    /// Failed.
    pub failed: u64,
    /// Took longer than they may.
    pub timed_out: u64,
    /// Were not begun.
    pub skipped: u64,
    /// Were cut off by a cancellation.
    pub cancelled: u64,
    /// Were cut off by a stop of the agent.
    pub interrupted: u64,
    /// The digest of the digests of the tasks' ends, one after the other in the order of the tasks' names.
    pub digest: Digest,
}

impl ReceiptOutcome {
    /// The outcome in one word, as it is signed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
            Self::Expired => "expired",
        }
    }
}

impl Receipt {
    /// What a signature of this receipt is for.
    #[must_use]
    pub const fn domain(&self) -> Domain {
        Domain { subject: Subject::Receipt, repository: self.repository, version: self.order }
    }
}

/// A receipt's envelope: `minisig` over `payload`, said to be by `key`.
#[must_use]
pub fn receipt_envelope(payload: Vec<u8>, minisig: String, key: &PublicKey) -> Envelope {
    let signatures = vec![Signature { key: key.id(), minisig }];
    Envelope { kind: PayloadKind::Receipt, payload, signatures }
}

/// What the receipt in `envelope` says, once `key` vouches for it. No role is asked: an agent's key speaks for the agent
/// alone, and who that is, is for whoever knows whose key it is to compare.
///
/// # Errors
///
/// When it is over its bounds, something else, not signed by `key`, or not what it was signed as.
pub fn verify_receipt(envelope: &Envelope, key: &PublicKey) -> Result<Receipt, Refusal> {
    bounded(envelope, PayloadKind::Receipt)?;
    let domain = claimed_kind(envelope, PayloadKind::Receipt)?;
    // A role of one key, which is always one.
    let role = RoleKeys::new(vec![key.clone()], 1).map_err(|source| Refusal::Role { source })?;
    signed_by(&role, envelope, &domain)?;
    let receipt: Receipt = parse(&envelope.payload, "the receipt")?;
    agrees(&domain, &receipt.domain())?;
    Ok(receipt)
}
