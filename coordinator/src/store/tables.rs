//! The tables, their keys and their rows.

use std::{collections::BTreeSet, ops::RangeInclusive};

use serde::{Deserialize, Serialize};
use sloth_core::{AgentId, RolloutId, RunId, TokenId};
use sloth_protocol::{
    coordinator::{Job, JobEnd},
    wire::{JobState, Lane, Record},
};
use sloth_trust::BundleName;

use super::RowError;

/// A table of keys and values that are bytes, so that their types are no part of the file's format.
pub(super) type Definition = redb::TableDefinition<'static, &'static [u8], &'static [u8]>;

/// One of a kind, by name.
pub(super) const META: Definition = Definition::new("meta");
/// Version → the envelope of a trust root.
pub(super) const ROOTS: Definition = Definition::new("roots");
/// Version → what a head says.
pub(super) const HEADS: Definition = Definition::new("heads");
/// Agent → `AgentRecord`.
pub(super) const AGENTS: Definition = Definition::new("agents");
/// Agent, lane → `Inbox`.
pub(super) const INBOXES: Definition = Definition::new("inboxes");
/// Agent, generation → `Item`.
pub(super) const WORK: Definition = Definition::new("work");
/// Token → `Token`.
pub(super) const TOKENS: Definition = Definition::new("tokens");
/// Operator's name → `OperatorRecord`.
pub(super) const OPERATORS: Definition = Definition::new("operators");
/// Bundle, counter → [`ReleaseRow`].
pub(super) const RELEASES: Definition = Definition::new("releases");
/// Counter → [`AgentReleaseRow`], of releases of the agent.
pub(super) const AGENT_RELEASES: Definition = Definition::new("agent_releases");
/// Run → `Run` without its values.
pub(super) const RUNS: Definition = Definition::new("runs");
/// Run → its values, a JSON object.
pub(super) const VALUES: Definition = Definition::new("values");
/// Run → [`Tally`].
pub(super) const TALLIES: Definition = Definition::new("tallies");
/// Run → nothing, for every run that has ended.
pub(super) const ENDED: Definition = Definition::new("ended");
/// Run, agent → [`JobRow`].
pub(super) const JOBS: Definition = Definition::new("jobs");
/// Run, number → [`EventRow`].
pub(super) const EVENTS: Definition = Definition::new("events");
/// Run, agent, number → nothing, for every event that is a task's end.
pub(super) const TASK_ENDS: Definition = Definition::new("task_ends");
/// Number → a line of the chain of receipts.
pub(super) const RECEIPTS: Definition = Definition::new("receipts");
/// Run, agent → the number of its receipt.
pub(super) const RECEIPT_OF: Definition = Definition::new("receipt_of");

/// Rollout → `RolloutRecord`.
pub(super) const ROLLOUTS: Definition = Definition::new("rollouts");
/// Rollout, agent → `RolloutHost`.
pub(super) const ROLLOUT_HOSTS: Definition = Definition::new("rollout_hosts");

/// Every table.
pub(super) const ALL: [Definition; 21] = [
    META,
    ROOTS,
    HEADS,
    AGENTS,
    INBOXES,
    WORK,
    TOKENS,
    OPERATORS,
    RELEASES,
    AGENT_RELEASES,
    RUNS,
    VALUES,
    TALLIES,
    ENDED,
    JOBS,
    EVENTS,
    TASK_ENDS,
    RECEIPTS,
    RECEIPT_OF,
    ROLLOUTS,
    ROLLOUT_HOSTS,
];

/// Most heads that are kept, which is about 68 years of those that only renew; the oldest goes first.
pub const HEADS_MAX: u64 = 100_000;

/// The version of this layout, a big-endian `u32`.
pub(super) const META_SCHEMA: &[u8] = b"schema";
/// Where the chain of receipts begins and ends: `ChainEnds`.
pub(super) const META_RECEIPTS: &[u8] = b"receipts";
/// Where the chain of heads begins and ends: `HeadEnds`.
pub(super) const META_HEADS: &[u8] = b"heads";
/// Changes with every commit that changes nothing else.
pub(super) const META_PROBE: &[u8] = b"probe";

/// A release; what its metadata says is read again from its envelope.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReleaseRow {
    pub(super) envelope: Vec<u8>,
    pub(super) size: u64,
    pub(super) workflows: BTreeSet<String>,
    pub(super) signers: Vec<String>,
}

/// A release of the agent; what it says is read again from its envelope.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AgentReleaseRow {
    pub(super) envelope: Vec<u8>,
    pub(super) signers: Vec<String>,
}

/// A job with what its end brought.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct JobRow {
    pub(super) job: Job,
    pub(super) end: JobEnd,
}

/// Something that happened in a run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EventRow {
    pub(super) agent: AgentId,
    pub(super) record: Record,
}

/// On how many agents a run stands how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Tally([u32; JobState::ALL.len()]);

impl Tally {
    pub(super) fn moved(mut self, from: Option<JobState>, to: JobState) -> Self {
        if let Some(count) = from.and_then(|from| self.0.get_mut(place(from))) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = self.0.get_mut(place(to)) {
            *count = count.saturating_add(1);
        }
        self
    }

    /// Those states that some agent is in.
    pub(super) fn counts(self) -> Vec<(JobState, u32)> {
        JobState::ALL.into_iter().zip(self.0).filter(|(_, count)| 0 < *count).collect()
    }
}

/// The state's place in [`JobState::ALL`].
const fn place(state: JobState) -> usize {
    match state {
        JobState::Pending => 0,
        JobState::Accepted => 1,
        JobState::Running => 2,
        JobState::Succeeded => 3,
        JobState::Failed => 4,
        JobState::Cancelled => 5,
        JobState::Refused => 6,
        JobState::Expired => 7,
    }
}

pub(super) fn inbox_key(agent: AgentId, lane: Lane) -> [u8; 17] {
    let mut key = [0; 17];
    key[..16].copy_from_slice(&agent.to_bytes());
    key[16] = match lane {
        Lane::Results => 0,
        Lane::Logs => 1,
    };
    key
}

/// An identifier and a number, as of an agent's work or a run's events.
pub(super) fn numbered_key(id: [u8; 16], number: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&id);
    key[16..].copy_from_slice(&number.to_be_bytes());
    key
}

pub(super) fn release_key(name: &BundleName, counter: u64) -> Vec<u8> {
    // No name has a zero byte.
    [name.as_str().as_bytes(), &[0], &counter.to_be_bytes()].concat()
}

pub(super) fn job_key(run: RunId, agent: AgentId) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&run.to_bytes());
    key[16..].copy_from_slice(&agent.to_bytes());
    key
}

pub(super) fn rollout_host_key(rollout: RolloutId, agent: AgentId) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&rollout.to_bytes());
    key[16..].copy_from_slice(&agent.to_bytes());
    key
}

pub(super) fn task_key(run: RunId, agent: AgentId, number: u64) -> [u8; 40] {
    let mut key = [0; 40];
    key[..32].copy_from_slice(&job_key(run, agent));
    key[32..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Every key that begins with `prefix` and has `N` bytes.
pub(super) fn beginning_with<const N: usize>(prefix: &[u8]) -> RangeInclusive<[u8; N]> {
    let (mut first, mut last) = ([0; N], [0xff; N]);
    for (index, byte) in prefix.iter().enumerate().take(N) {
        first[index] = *byte;
        last[index] = *byte;
    }
    first..=last
}

/// The first sixteen bytes of a key as an identifier, and the rest.
pub(super) fn split_id(key: &[u8]) -> Result<([u8; 16], &[u8]), RowError> {
    key.split_first_chunk::<16>().map(|(id, rest)| (*id, rest)).ok_or(RowError::Key { bytes: key.len() })
}

pub(super) fn number_of(bytes: &[u8]) -> Result<u64, RowError> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| RowError::Key { bytes: bytes.len() })
}

pub(super) fn run_of(key: &[u8]) -> Result<RunId, RowError> {
    split_id(key).map(|(id, _)| RunId::from_bytes(id))
}

pub(super) fn token_of(key: &[u8]) -> Result<TokenId, RowError> {
    split_id(key).map(|(id, _)| TokenId::from_bytes(id))
}
