//! What a coordinator has on its disk and in memory, and the only ways to change it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sloth_core::{AgentId, Digest, Labels, Millis, RolloutId, RunId, TokenId};
use sloth_trust::{AgentRelease, BundleMetadata, BundleName, HeadRef, PublicKey};

use super::rollouts::{RolloutHost, RolloutRecord};
use crate::wire::{Copied, Dropped, JobState, Lane, Platform, ProtoVersion, Record, UpdateState, Withdrawn};

/// Everything a machine is restored from.
#[derive(Debug, Clone, Default)]
pub struct Durable {
    /// The envelope of every trust root there was, by version: each vouches for the next.
    pub roots: BTreeMap<u64, Vec<u8>>,
    /// The newest head.
    pub head: Option<HeadRow>,
    /// Every agent that was ever enrolled.
    pub agents: BTreeMap<AgentId, AgentRecord>,
    /// What each agent has reported, by agent, in the order of [`Lane::ALL`].
    pub inboxes: BTreeMap<AgentId, [Inbox; 2]>,
    /// What each agent has still to be told, by generation.
    pub work: BTreeMap<AgentId, BTreeMap<u64, Item>>,
    /// Join tokens that have not expired.
    pub tokens: BTreeMap<TokenId, Token>,
    /// Operators that have connected or were withdrawn, by name.
    pub operators: BTreeMap<String, OperatorRecord>,
    /// Every release of every bundle, by counter.
    pub bundles: BTreeMap<BundleName, BTreeMap<u64, Release>>,
    /// Every release of the agent, by counter.
    pub releases: BTreeMap<u64, AgentReleaseRow>,
    /// Runs that have not ended.
    pub runs: BTreeMap<RunId, Run>,
    /// How they stand on each agent.
    pub jobs: BTreeMap<RunId, BTreeMap<AgentId, Job>>,
    /// Runs that have ended and can be looked at.
    pub ended: BTreeSet<RunId>,
    /// Rollouts that can be looked at.
    pub rollouts: BTreeMap<RolloutId, RolloutRecord>,
    /// How hosts stand in those that are not over.
    pub rollout_hosts: BTreeMap<RolloutId, BTreeMap<AgentId, RolloutHost>>,
}

/// A head without its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadRow {
    /// Its version.
    pub version: u64,
    /// What it says.
    pub payload: Vec<u8>,
}

impl HeadRow {
    /// What names it.
    #[must_use]
    pub fn reference(&self) -> HeadRef {
        HeadRef { version: self.version, payload: Digest::of(&self.payload) }
    }
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRecord {
    /// Unique among the agents that are not revoked.
    pub name: String,
    /// Labels from the host's configuration.
    pub host_labels: Labels,
    /// Labels from its join token.
    pub enrolled_labels: Labels,
    /// Its release.
    pub version: String,
    /// What it runs on.
    pub platform: Platform,
    /// The digest of the key it enrolled with.
    pub key: Digest,
    /// What verifies its receipts: it stays the same for as long as the agent is this agent.
    pub receipt_key: PublicKey,
    /// When it was enrolled.
    pub enrolled: Millis,
    /// When it was last heard of; up to [`super::LAST_SEEN_STEP`] late on the disk.
    pub last_seen: Millis,
    /// Whether its identity was withdrawn.
    pub revoked: bool,
    /// Invariant: above every generation that this agent was ever given.
    pub next_generation: u64,
    /// The version of the protocol that it speaks; zero before its first hello.
    pub proto: ProtoVersion,
    /// How the newest update of it stands.
    pub update: Option<Box<UpdateStanding>>,
    /// Another host that came with this identity.
    pub copied: Option<Box<Copied>>,
}

/// An operator: one that has connected, or whose credentials count no more.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OperatorRecord {
    /// When a credential of this name was first used; none when none ever was.
    pub first_seen: Option<Millis>,
    /// When one was last used; up to [`super::LAST_SEEN_STEP`] late.
    pub last_seen: Option<Millis>,
    /// When the one that was used last ends.
    pub until: Option<Millis>,
    /// Set for good when they are withdrawn.
    pub withdrawn: Option<Withdrawn>,
}

/// How the newest update of an agent stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateStanding {
    /// The release's number; none when nobody here ordered it.
    pub counter: Option<u64>,
    /// The rollout that it belongs to.
    pub rollout: Option<RolloutId>,
    /// The order's generation; zero without an order.
    pub generation: u64,
    /// The version that ran before; empty while the agent has not said.
    pub from: String,
    /// The version that it is to go to.
    pub to: String,
    /// How it stands.
    pub state: UpdateState,
    /// Since when.
    pub at: Millis,
    /// Why, when it is not plain success.
    pub reason: String,
    /// What a version that failed logged last.
    pub log_tail: String,
}

/// What was counted of one lane of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Inbox {
    /// Every record up to this number was counted.
    pub through: u64,
    /// What the agent gave up in this lane, ever.
    pub dropped: Dropped,
}

/// One thing that an agent has to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// To do this run.
    Run(RunId),
    /// To stop this run.
    Cancel(RunId),
    /// To go to a release of the agent.
    Update {
        /// The release's number.
        counter: u64,
        /// It is not begun after this.
        deadline: Millis,
        /// The rollout that it belongs to.
        rollout: Option<RolloutId>,
    },
    /// Not to go to a release of the agent.
    CancelUpdate {
        /// The release's number.
        counter: u64,
    },
}

impl Item {
    /// The run that it tells to do.
    #[must_use]
    pub const fn run(self) -> Option<RunId> {
        match self {
            Self::Run(run) => Some(run),
            Self::Cancel(_) | Self::Update { .. } | Self::CancelUpdate { .. } => None,
        }
    }
}

/// A join token without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The digest of its secret half.
    pub secret: Digest,
    /// How many further hosts may enrol with it.
    pub uses: u32,
    /// When it stops to count.
    pub expires: Millis,
    /// The labels it gives.
    pub labels: Labels,
    /// Who made it.
    pub operator: String,
    /// The version of the trust root that it names.
    pub root: u64,
}

/// A release of a bundle.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// The metadata's envelope, as it was signed.
    pub envelope: Vec<u8>,
    /// What it says.
    pub metadata: BundleMetadata,
    /// Bytes of its files.
    pub size: u64,
    /// The names of its workflows.
    pub workflows: BTreeSet<String>,
    /// SHA-256 of each key that signed it, in hexadecimal.
    pub signers: Vec<String>,
}

/// A release of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentReleaseRow {
    /// Its envelope, as it was signed.
    pub envelope: Vec<u8>,
    /// What it says.
    pub release: AgentRelease,
    /// SHA-256 of each key that signed it, in hexadecimal.
    pub signers: Vec<String>,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The bundle.
    pub bundle: BundleName,
    /// Its release for people.
    pub version: String,
    /// Its release for machines.
    pub counter: u64,
    /// One workflow, or all.
    pub workflow: Option<String>,
    /// The selector it was started with.
    pub selector: String,
    /// A JSON object.
    pub values: String,
    /// Who started it.
    pub operator: String,
    /// When.
    pub created: Millis,
    /// Agents neither begin it nor go on with it after this.
    pub deadline: Millis,
    /// Whether an operator cancelled it.
    pub cancelled: bool,
    /// When it ended everywhere.
    pub ended: Option<Millis>,
}

/// How a run stands on one agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// How.
    pub state: JobState,
    /// The generation under which the agent is told to do it.
    pub generation: u64,
}

/// What a job's end brought.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobEnd {
    /// Why, when it is not plain success.
    pub message: String,
    /// What the workflows exported, a JSON object or nothing.
    pub outputs: String,
}

/// A change of a job: where it stands, and what its end brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobUpdate {
    /// Where it stands.
    pub job: Job,
    /// What its end brought; empty before.
    pub end: JobEnd,
}

/// A receipt that its agent signed, before it has its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptRow {
    /// Whose it is.
    pub agent: AgentId,
    /// Of which run.
    pub run: RunId,
    /// What verifies it.
    pub key: PublicKey,
    /// When it came in.
    pub received: Millis,
    /// What it says.
    pub payload: String,
    /// The four lines of its `.minisig` file.
    pub signature: String,
}

/// One change of what is on the disk.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// A trust root, by its version.
    PutRoot(u64, Vec<u8>),
    /// The head after the one before, which is kept.
    PutHead(HeadRow),
    /// An agent, new or changed.
    PutAgent(AgentId, Box<AgentRecord>),
    /// An agent goes with what was counted of it and what it had to be told.
    ForgetAgent(AgentId),
    /// What was counted of a lane.
    PutInbox(AgentId, Lane, Inbox),
    /// Something that an agent has to be told.
    PutWork(AgentId, u64, Item),
    /// Things that need not be told any more.
    DropWork(AgentId, Vec<u64>),
    /// A join token, new or changed.
    PutToken(TokenId, Token),
    /// A join token goes.
    DropToken(TokenId),
    /// An operator, new or changed.
    PutOperator(String, Box<OperatorRecord>),
    /// An operator is forgotten who has only been seen.
    DropOperator(String),
    /// A release, new.
    PutRelease(Box<Release>),
    /// A release goes.
    DropRelease(BundleName, u64),
    /// A release of the agent, new.
    PutAgentRelease(Box<AgentReleaseRow>),
    /// A release of the agent goes.
    DropAgentRelease(u64),
    /// A run, new or changed; one with an end leaves the memory with its jobs.
    PutRun(RunId, Box<Run>),
    /// A job, new or changed. When the run has ended already, it counts only for a job that is on the disk.
    PutJob(RunId, AgentId, JobUpdate),
    /// A record, to be kept under the next number of its run's events. It counts only for a job that is on the disk.
    Append(AgentId, Record),
    /// A run goes with its jobs and events.
    ForgetRun(RunId),
    /// A receipt, to be put at the end of the chain. It counts only for a job that is on the disk and has none.
    PutReceipt(Box<ReceiptRow>),
    /// A rollout, new or changed.
    PutRollout(RolloutId, Box<RolloutRecord>),
    /// How a host stands in a rollout.
    PutRolloutHost(RolloutId, AgentId, RolloutHost),
    /// Hosts stand in a rollout as if it had never reached them.
    DropRolloutHosts(RolloutId, Vec<AgentId>),
    /// A rollout that is over goes.
    DropRollout(RolloutId),
}

impl Durable {
    /// The envelope of the newest trust root.
    #[must_use]
    pub fn root(&self) -> Option<&[u8]> {
        self.roots.last_key_value().map(|(_, envelope)| envelope.as_slice())
    }

    /// Every release of every bundle, by name and counter.
    pub fn bundle_releases(&self) -> impl Iterator<Item = (&BundleName, u64, &Release)> {
        let bundles = self.bundles.iter();
        bundles.flat_map(|(name, all)| all.iter().map(move |(counter, release)| (name, *counter, release)))
    }

    /// Applies one change.
    pub fn apply(&mut self, write: &Write) {
        match write {
            Write::PutRoot(version, envelope) => {
                self.roots.insert(*version, envelope.clone());
            }
            Write::PutHead(head) => self.head = Some(head.clone()),
            Write::PutAgent(id, agent) => {
                self.agents.insert(*id, agent.as_ref().clone());
            }
            Write::ForgetAgent(id) => {
                self.agents.remove(id);
                self.inboxes.remove(id);
                self.work.remove(id);
            }
            Write::PutInbox(id, lane, inbox) => self.inboxes.entry(*id).or_default()[lane.index()] = *inbox,
            Write::PutWork(id, generation, item) => {
                self.work.entry(*id).or_default().insert(*generation, *item);
            }
            Write::DropWork(id, generations) => self.drop_work(*id, generations),
            Write::PutToken(id, token) => {
                self.tokens.insert(*id, token.clone());
            }
            Write::DropToken(id) => {
                self.tokens.remove(id);
            }
            Write::PutOperator(name, operator) => {
                self.operators.insert(name.clone(), operator.as_ref().clone());
            }
            Write::DropOperator(name) => {
                self.operators.remove(name);
            }
            Write::PutRelease(release) => {
                let releases = self.bundles.entry(release.metadata.name.clone()).or_default();
                releases.insert(release.metadata.counter, release.as_ref().clone());
            }
            Write::DropRelease(name, counter) => {
                if let Some(releases) = self.bundles.get_mut(name) {
                    releases.remove(counter);
                }
            }
            Write::PutAgentRelease(row) => {
                self.releases.insert(row.release.counter, row.as_ref().clone());
            }
            Write::DropAgentRelease(counter) => {
                self.releases.remove(counter);
            }
            Write::PutRun(id, run) => self.put_run(*id, run),
            Write::PutJob(run, agent, update) => {
                if self.runs.contains_key(run) {
                    self.jobs.entry(*run).or_default().insert(*agent, update.job);
                }
            }
            Write::Append(..) | Write::PutReceipt(_) => {}
            Write::ForgetRun(run) => {
                self.ended.remove(run);
            }
            Write::PutRollout(id, rollout) => {
                self.rollouts.insert(*id, rollout.as_ref().clone());
            }
            Write::PutRolloutHost(id, agent, host) => {
                self.rollout_hosts.entry(*id).or_default().insert(*agent, host.clone());
            }
            Write::DropRolloutHosts(id, agents) => self.drop_rollout_hosts(*id, agents),
            Write::DropRollout(id) => {
                self.rollouts.remove(id);
                self.rollout_hosts.remove(id);
            }
        }
    }

    fn put_run(&mut self, id: RunId, run: &Run) {
        if run.ended.is_some() {
            self.runs.remove(&id);
            self.jobs.remove(&id);
            self.ended.insert(id);
        } else {
            self.runs.insert(id, run.clone());
        }
    }

    fn drop_rollout_hosts(&mut self, id: RolloutId, agents: &[AgentId]) {
        let Some(hosts) = self.rollout_hosts.get_mut(&id) else { return };
        for agent in agents {
            hosts.remove(agent);
        }
        if hosts.is_empty() {
            self.rollout_hosts.remove(&id);
        }
    }

    fn drop_work(&mut self, id: AgentId, generations: &[u64]) {
        let Some(work) = self.work.get_mut(&id) else { return };
        for generation in generations {
            work.remove(generation);
        }
        if work.is_empty() {
            self.work.remove(&id);
        }
    }
}
