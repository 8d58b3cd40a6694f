//! What an enrolled agent asks and is answered.

use serde::{Deserialize, Serialize};
use sloth_core::{Digest, Labels, Millis, RunId};

use super::{Dropped, Lane, ProtoVersion, Record, Refusal};

/// Longest that a poll is held open.
pub const HOLD_MAX: Millis = Millis::from_secs(300);
/// Most items of one answer to a poll.
pub const WORK_ITEMS_MAX: usize = 16;
/// Most trust roots of one answer to a poll.
pub const WORK_ROOTS_MAX: usize = 8;

/// One request of an agent. Tags only grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentRequest {
    /// The first request on a connection.
    Hello(Hello),
    /// Is there work? Answered at once or when the hold is over.
    Poll(Poll),
    /// Here is what happened. Answered when it is on the coordinator's disk.
    Report(Report),
    /// A blob from a place on. The answer's frame is followed by the bytes, to the end of the stream.
    Fetch(Fetch),
    /// A new certificate for a new key.
    Renew(Renew),
}

/// One answer to an agent. Tags only grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentResponse {
    /// To [`AgentRequest::Hello`].
    Welcome(Welcome),
    /// To [`AgentRequest::Poll`].
    Work(Work),
    /// To [`AgentRequest::Report`].
    Acked(Acked),
    /// To [`AgentRequest::Fetch`].
    Blob(BlobHead),
    /// To [`AgentRequest::Renew`].
    Renewed(Renewed),
    /// To any of them.
    Refused(Refusal),
}

/// Who is calling, and what it speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The oldest version of the protocol it speaks.
    pub proto_min: ProtoVersion,
    /// The newest.
    pub proto_max: ProtoVersion,
    /// Optional abilities, one a bit; none is defined in version 1.
    pub features: u64,
    /// The agent's release, like `0.1.0`.
    pub version: String,
    /// What it runs on.
    pub platform: Platform,
    /// Labels from the host's own configuration.
    pub labels: Labels,
    /// Names this life of the agent: drawn at random when its process starts, and said on each of its connections. Two
    /// lives that take turns are two hosts with one identity.
    pub instance: u64,
}

/// What an agent runs on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Platform {
    /// The operating system and its version, like `debian 12`.
    pub os: String,
    /// What the agent was built for, like `x86_64-unknown-linux-gnu`; before version 2 of the protocol the processor alone.
    pub arch: String,
    /// The host's own name.
    pub hostname: String,
}

/// The coordinator's answer to a hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version both will speak.
    pub proto: ProtoVersion,
    /// The abilities both have.
    pub features: u64,
    /// The coordinator's time.
    pub time: Millis,
    /// The highest record number on the coordinator's disk, by lane in the order of [`Lane::ALL`].
    pub acked: [u64; 2],
    /// An agent that loses this connection draws its first attempt to come back from a span this long, so that the
    /// fleet's return is spread as widely as the fleet is large.
    pub reconnect_within: Millis,
}

/// Is there work above what the agent has?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poll {
    /// The highest generation on the agent's disk; the coordinator forgets items up to it.
    pub accepted: u64,
    /// How long the answer may wait for work; capped at [`HOLD_MAX`], zero for at once.
    pub hold: Millis,
    /// How many more runs the agent would take.
    pub room: u32,
    /// The version of the trust root on the agent's disk, or of a later one that it refused on this connection.
    pub root: u64,
    /// The version of the head on the agent's disk; zero when there is none.
    pub head: u64,
}

/// Work, or when to come back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// At most [`WORK_ITEMS_MAX`], generations rising.
    pub items: Vec<WorkItem>,
    /// Wait this long before polling again; zero for at once.
    pub next_poll: Millis,
    /// The trust roots after the one that the agent has, one version after the other: at most [`WORK_ROOTS_MAX`], each
    /// the bytes of an envelope of `sloth-trust`. They count before the items.
    pub roots: Vec<Vec<u8>>,
    /// The coordinator's newest head, when its version is not the one that the agent has: the bytes of an envelope of
    /// `sloth-trust`. It counts after the roots and before the items.
    pub head: Option<Vec<u8>>,
}

/// One order under its generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkItem {
    /// Above every generation that this agent was ever given. The same generation always has the same content.
    pub generation: u64,
    /// What to do.
    pub order: Order,
}

/// What to do. Tags only grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Run a bundle.
    Run(RunOrder),
    /// Stop a run, or never begin it.
    Cancel {
        /// Which one.
        run: RunId,
    },
    /// Go to a release of the agent. Told from version 2 of the protocol on.
    Update(UpdateOrder),
    /// Not to go to a release of the agent, unless it was switched to already. Told as [`Order::Update`] is.
    CancelUpdate {
        /// The release's number.
        counter: u64,
    },
}

/// A release of the agent and the proofs for it: each the bytes of an envelope of `sloth-trust`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateOrder {
    /// That this host shall go to it now.
    pub assignment: Vec<u8>,
    /// That those who make the agent signed it.
    pub metadata: Vec<u8>,
    /// Where among the releases of the newest head it is.
    pub index: u64,
    /// The digests that show it, at most [`sloth_trust::tree::PATH_MAX`].
    pub path: Vec<Digest>,
}

/// A run and the proofs for it: each the bytes of an envelope of `sloth-trust`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOrder {
    /// Which run.
    pub run: RunId,
    /// That this host shall run it now.
    pub assignment: Vec<u8>,
    /// That publishers signed it for hosts like this one.
    pub metadata: Vec<u8>,
    /// Where among the releases of the newest head it is.
    pub index: u64,
    /// The digests that show it, at most [`sloth_trust::tree::PATH_MAX`].
    pub path: Vec<Digest>,
}

/// A batch of records of one lane, numbers rising.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The lane.
    pub lane: Lane,
    /// What was ever given up in this lane for want of space.
    pub dropped: Dropped,
    /// At most [`super::REPORT_RECORDS_MAX`] records of together at most [`super::REPORT_BYTES_MAX`].
    pub records: Vec<Record>,
}

/// What is on the coordinator's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acked {
    /// The lane.
    pub lane: Lane,
    /// Every record up to this number was counted, or counted before.
    pub through: u64,
}

/// Asks for a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// The digest of its plain bytes.
    pub digest: Digest,
    /// How many bytes of its stored form the asker has already.
    pub offset: u64,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobHead {
    /// The length of the whole stored form, of which the bytes from the offset on follow.
    pub length: u64,
}

/// Asks for a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    /// A PKCS#10 request in DER, at most [`super::CSR_BYTES_MAX`] bytes. Only its key is used.
    pub csr: Vec<u8>,
}

/// A new certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    /// In DER.
    pub certificate: Vec<u8>,
    /// When it begins to count.
    pub not_before: Millis,
    /// When it stops.
    pub not_after: Millis,
}
