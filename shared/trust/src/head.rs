//! What the coordinator says of itself now and then: which root and which releases are the newest that it has.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use sloth_core::{Digest, Millis, RepositoryId};

use crate::{AgentRelease, BundleMetadata, Domain, Envelope, RootPin, TreeHead, domain::Subject};

/// The newest things of a repository, and when that was so. Its own size does not depend on how many there are.
///
/// An agent begins nothing new without a head that has not expired: who only repeats what was once true, or keeps
/// back what is, holds it up for no longer than a head lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The version of this format: [`SPEC`](crate::SPEC).
    pub spec: u32,
    /// Whose it is.
    pub repository: RepositoryId,
    /// Above every head before, also of earlier lives of this coordinator: it is at least the time in milliseconds at
    /// which it was issued, so that a coordinator whose store was set back does not repeat a number.
    pub version: u64,
    /// The head before it; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<HeadRef>,
    /// The newest root.
    pub root: RootRef,
    /// Every release that may be assigned, as leaves: those of bundles by name and counter, then those of the agent by
    /// counter. See [`leaf`] and [`release_leaf`].
    pub releases: TreeHead,
    /// When it was issued.
    pub issued: Millis,
    /// Until when it is fresh enough for new work.
    pub expires: Millis,
}

/// Names a head by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadRef {
    /// Its version.
    pub version: u64,
    /// The digest of its payload.
    pub payload: Digest,
}

/// Names a root by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootRef {
    /// Its version.
    pub version: u64,
    /// The SHA-256 of its payload.
    pub sha256: RootPin,
    /// How many bytes its payload has.
    pub length: u64,
}

impl Head {
    /// What a signature of this head is for.
    #[must_use]
    pub const fn domain(&self) -> Domain {
        Domain { subject: Subject::Head, repository: self.repository, version: self.version }
    }

    /// What names it, when its payload is this.
    #[must_use]
    pub fn reference(&self, payload: &[u8]) -> HeadRef {
        HeadRef { version: self.version, payload: Digest::of(payload) }
    }
}

impl RootRef {
    /// Names the root of this version with this payload.
    #[must_use]
    pub fn of(version: u64, payload: &[u8]) -> Self {
        Self { version, sha256: RootPin::of(payload), length: payload.len() as u64 }
    }
}

/// What a head's tree holds of a release: its name, its counter, and the digest and length of its metadata.
#[must_use]
pub fn leaf(metadata: &BundleMetadata, envelope: &Envelope) -> Vec<u8> {
    let digest = Digest::of(&envelope.payload);
    let numbers = [metadata.counter, envelope.payload.len() as u64].map(u64::to_be_bytes);
    // No name has a zero byte.
    [metadata.name.as_str().as_bytes(), &[0], numbers.as_flattened(), digest.as_bytes()].concat()
}

/// What a head's tree holds of a release of the agent: its counter, and the digest and length of its payload. No bundle's
/// leaf is the same, since none begins with a zero byte.
#[must_use]
pub fn release_leaf(release: &AgentRelease, envelope: &Envelope) -> Vec<u8> {
    let digest = Digest::of(&envelope.payload);
    let numbers = [release.counter, envelope.payload.len() as u64].map(u64::to_be_bytes);
    [&[0], numbers.as_flattened(), digest.as_bytes()].concat()
}

/// The two ends of what is kept of the chain of heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeadEnds {
    /// The last head that is kept no more; none while all are.
    pub dropped: Option<HeadRef>,
    /// The newest head; none while there is none.
    pub newest: Option<HeadRef>,
}

/// Follows the heads that a coordinator issued, each of which names the one before it.
#[derive(Debug, Default)]
pub struct HeadWalk {
    last: Option<HeadRef>,
    heads: u64,
}

/// The first place at which the heads do not hold together.
#[derive(Debug, thiserror::Error)]
#[error("the chain of heads breaks at head {version}: {what}")]
pub struct BrokenHeads {
    /// The head that is not what it was.
    pub version: u64,
    /// What is wrong, for people.
    pub what: &'static str,
}

impl HeadWalk {
    /// A walk over what follows `dropped`.
    #[must_use]
    pub const fn after(dropped: Option<HeadRef>) -> Self {
        Self { last: dropped, heads: 0 }
    }

    /// Takes the head after the one before, and what it says. Their signatures are not kept: what holds them together is
    /// that each names the one before.
    ///
    /// # Errors
    ///
    /// The head at which the chain breaks: this one, or the one before it.
    pub fn take(&mut self, version: u64, payload: &[u8]) -> Result<Head, BrokenHeads> {
        let broken = |version, what| BrokenHeads { version, what };
        let head: Head =
            serde_json::from_slice(payload).map_err(|_| broken(version, "it cannot be read, so it was changed"))?;
        if head.version != version {
            return Err(broken(version, "it says that it is another one, so it was changed"));
        }
        match (self.last, head.previous) {
            (None, None) => {}
            (Some(last), Some(previous)) if last == previous => {}
            (Some(last), Some(previous)) if last.version == previous.version => {
                return Err(broken(last.version, "the head after it names another digest: it was changed"));
            }
            (None | Some(_), Some(previous)) => {
                return Err(broken(previous.version, "it is missing: the head after it names it"));
            }
            (Some(_), None) => return Err(broken(version, "it names none before it, so it was changed")),
        }
        self.last = Some(head.reference(payload));
        self.heads += 1;
        Ok(head)
    }

    /// Whether the chain ends where it should.
    ///
    /// # Errors
    ///
    /// When heads are missing at the end or follow it, or the last one is not what it was.
    pub fn end(&self, newest: Option<HeadRef>) -> Result<(), BrokenHeads> {
        if newest == self.last {
            return Ok(());
        }
        let version_of = |head: Option<HeadRef>| head.map_or(0, |head| head.version);
        let (last, named) = (version_of(self.last), version_of(newest));
        Err(match last.cmp(&named) {
            Ordering::Less => BrokenHeads { version: named, what: "it is missing: heads were taken off the end" },
            Ordering::Equal => BrokenHeads { version: last, what: "the end of the chain names another digest" },
            Ordering::Greater => BrokenHeads { version: last, what: "the chain is said to end before it" },
        })
    }

    /// The newest head that was taken.
    #[must_use]
    pub const fn newest(&self) -> Option<HeadRef> {
        self.last
    }

    /// How many were taken.
    #[must_use]
    pub const fn heads(&self) -> u64 {
        self.heads
    }
}
