//! What auditors look at: heads, receipts, and the results that receipts are of.

use serde::{Deserialize, Serialize};
use sloth_core::{AgentId, Digest, RunId};
use sloth_trust::{ChainEnds, HeadEnds, TaskSummary};

use super::JobState;

/// A head that was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadLine {
    /// Its version.
    pub version: u64,
    /// What it says: JSON.
    pub payload: Vec<u8>,
}

/// Some heads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadsPage {
    /// Where what is kept of the chain begins and ends.
    pub ends: HeadEnds,
    /// Versions rising.
    pub heads: Vec<HeadLine>,
    /// Whether there are more.
    pub more: bool,
}

/// Asks for receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptsAsked {
    /// Those after this number; zero for all.
    pub after: u64,
    /// Only those of this agent.
    pub agent: Option<AgentId>,
    /// Only those of this run.
    pub run: Option<RunId>,
}

/// Some receipts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptsPage {
    /// Where what is kept of the chain begins and ends.
    pub ends: ChainEnds,
    /// Each the line of a [`ChainEntry`](sloth_trust::ChainEntry), numbers rising, or falling where the newest were asked for.
    pub lines: Vec<Vec<u8>>,
    /// Every receipt up to this number, or down to it, was looked at.
    pub through: u64,
    /// Whether there are receipts beyond it.
    pub more: bool,
}

/// Asks for the newest receipts, the newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewestReceipts {
    /// Those below this number; none for all.
    pub before: Option<u64>,
    /// How many, at most [`PAGE_ROWS_MAX`](super::PAGE_ROWS_MAX).
    pub rows: u32,
    /// Only those of this agent.
    pub agent: Option<AgentId>,
    /// Only those of this run.
    pub run: Option<RunId>,
}

/// What is kept of how a run ended on one agent, summed up as a receipt does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobResult {
    /// The agent.
    pub agent: AgentId,
    /// How the run stands there.
    pub state: JobState,
    /// The digest of why.
    pub message: Digest,
    /// The digest of what the workflows exported.
    pub outputs: Digest,
    /// The ends of its tasks that are kept.
    pub tasks: TaskSummary,
}

/// Some results of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultsPage {
    /// At most [`PAGE_ROWS_MAX`](super::PAGE_ROWS_MAX) rows, in order of the agents' ids.
    pub results: Vec<JobResult>,
    /// Whether there are more.
    pub more: bool,
}
