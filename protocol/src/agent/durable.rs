//! What an agent has on its disk, and the only ways to change it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sloth_core::{Digest, Millis, RunId};
use sloth_trust::{BundleName, Channel, Delta, Seen, Sha256, Version};

use crate::wire::{Class, Dropped, Lane, OnInterrupt, Record, TaskEnd, TaskName};

/// Everything a machine is restored from. The content of records is on the disk alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Durable {
    /// The highest generation whose order was taken on or refused for good.
    pub accepted: u64,
    /// The envelope of the newest trust root that was accepted; `None` while it is the one of the enrolment.
    pub root: Option<Vec<u8>>,
    /// The envelope of the newest head that was accepted under the keys that count today.
    pub head: Option<Vec<u8>>,
    /// The newest release of each bundle that was ever accepted under the keys that count today.
    pub seen: BTreeMap<BundleName, Seen>,
    /// The newest release of the agent of each channel that was ever accepted under the keys that count today.
    pub releases: BTreeMap<Channel, Seen>,
    /// The release that it is going to.
    pub update: Option<Update>,
    /// Outcomes of updates up to this number were taken in.
    pub outcome: u64,
    /// Jobs that have not ended.
    pub jobs: BTreeMap<RunId, Job>,
    /// Their tasks that have begun.
    pub tasks: BTreeMap<RunId, BTreeMap<TaskName, TaskState>>,
    /// The outbox, in the order of [`Lane::ALL`].
    pub lanes: [LaneState; 2],
}

/// A run that this agent was ordered to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Which run.
    pub run: RunId,
    /// The bundle.
    pub bundle: BundleName,
    /// Its release for people.
    pub version: String,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The manifest's length.
    pub manifest_bytes: u64,
    /// What its workflows may use.
    pub capabilities: Vec<String>,
    /// One workflow, or all.
    pub workflow: Option<String>,
    /// A JSON object.
    pub values: String,
    /// On what it was taken on.
    pub basis: Basis,
    /// When its first worker was started, by this host's clock.
    pub begun: Option<Millis>,
    /// The run is not begun, and not gone on with, after this.
    pub deadline: Millis,
    /// Whether an operator cancelled it.
    pub cancelled: bool,
    /// How far it got.
    pub stage: Stage,
}

/// On what a run was taken on: what its receipt will say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// The order's generation.
    pub order: u64,
    /// The release's counter.
    pub counter: u64,
    /// The version of the trust root that counted.
    pub root: u64,
    /// The version of the newest head; zero when there was none.
    pub head: u64,
}

/// A release that this agent was ordered to go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// Its number.
    pub counter: u64,
    /// Its version.
    pub version: Version,
    /// The digest of the manifest of its binary.
    pub manifest: Digest,
    /// The manifest's length.
    pub manifest_bytes: u64,
    /// The binary's SHA-256.
    pub digest: Sha256,
    /// How many bytes the binary has.
    pub length: u64,
    /// How it is made of older ones.
    pub deltas: Vec<Delta>,
    /// It is not begun after this.
    pub deadline: Millis,
    /// How far it got.
    pub stage: UpdateStage,
}

/// How far an update got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateStage {
    /// It was verified.
    Accepted,
    /// The supervisor was asked to start it.
    Switched,
}

/// How far a job got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// No worker was ever started.
    Accepted,
    /// A worker was started.
    Running {
        /// How often, since a task last ended.
        starts: u32,
    },
}

/// How far a task got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskState {
    /// An attempt was begun and its end is not known.
    Started {
        /// The attempt, from 1.
        attempt: u32,
        /// What becomes of it after an interruption.
        on_interrupt: OnInterrupt,
        /// When the attempt began.
        at: Millis,
    },
    /// It will not run again.
    Ended(TaskEnd),
}

/// One lane of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneState {
    /// Invariant: above every number that this agent ever gave in this lane.
    pub next_seq: u64,
    /// What waits, by its number.
    pub entries: BTreeMap<u64, Entry>,
    /// Bytes that wait: the sum over the entries.
    pub bytes: usize,
    /// What was ever given up.
    pub dropped: Dropped,
}

/// A waiting record without its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// How dear it is.
    pub class: Class,
    /// About how many bytes it takes.
    pub bytes: usize,
}

/// One change of what is on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Orders up to this generation are dealt with.
    Accepted(u64),
    /// The trust root after the one before.
    PutRoot(Vec<u8>),
    /// The newest head.
    PutHead(Vec<u8>),
    /// What was accepted as head counts no more: its signer was replaced.
    ForgetHead,
    /// What was accepted of a bundle counts no more: its signers were replaced.
    ForgetSeen(BundleName),
    /// A bundle's newest accepted release.
    Seen {
        /// The bundle.
        bundle: BundleName,
        /// The release.
        seen: Seen,
    },
    /// A channel's newest accepted release of the agent.
    ReleaseSeen {
        /// The channel.
        channel: Channel,
        /// The release.
        seen: Seen,
    },
    /// What was accepted as releases of the agent counts no more: their signers were replaced.
    ForgetReleases,
    /// The release that the agent is going to, new or changed.
    PutUpdate(Update),
    /// It is going to none any more.
    DropUpdate,
    /// The outcomes of updates up to this number were taken in.
    OutcomeTaken(u64),
    /// A job, new or changed.
    PutJob(Job),
    /// A task of a job, new or changed.
    PutTask {
        /// The job.
        run: RunId,
        /// The task.
        task: TaskName,
        /// How far it got.
        state: TaskState,
    },
    /// A job and its tasks go.
    EndJob(RunId),
    /// A record waits to be sent.
    PutRecord {
        /// In which lane.
        lane: Lane,
        /// The record, its number the lane's next.
        record: Record,
    },
    /// Records of a class are given up for want of space. A number of zero is a record that never got one.
    DropRecords {
        /// In which lane.
        lane: Lane,
        /// Their class.
        class: Class,
        /// Their numbers.
        seqs: Vec<u64>,
    },
    /// Records up to this number were counted by the coordinator and go.
    Acked {
        /// In which lane.
        lane: Lane,
        /// The number.
        through: u64,
    },
    /// Every waiting record's number and the next one rise by this much.
    Renumber {
        /// In which lane.
        lane: Lane,
        /// How much.
        by: u64,
    },
}

impl Default for LaneState {
    fn default() -> Self {
        Self { next_seq: 1, entries: BTreeMap::new(), bytes: 0, dropped: Dropped::default() }
    }
}

impl LaneState {
    /// Takes in a waiting record that [`Write::PutRecord`] put on the disk.
    pub fn insert(&mut self, seq: u64, entry: Entry) {
        self.next_seq = self.next_seq.max(seq.saturating_add(1));
        self.bytes += entry.bytes;
        if let Some(before) = self.entries.insert(seq, entry) {
            self.bytes -= before.bytes;
        }
    }

    fn remove(&mut self, seq: u64) {
        if let Some(entry) = self.entries.remove(&seq) {
            self.bytes -= entry.bytes;
        }
    }
}

impl Durable {
    /// Applies one change.
    pub fn apply(&mut self, write: &Write) {
        match write {
            Write::Accepted(generation) => self.accepted = *generation,
            Write::PutRoot(envelope) => self.root = Some(envelope.clone()),
            Write::PutHead(envelope) => self.head = Some(envelope.clone()),
            Write::ForgetHead => self.head = None,
            Write::ForgetSeen(bundle) => {
                self.seen.remove(bundle);
            }
            Write::Seen { bundle, seen } => {
                self.seen.insert(bundle.clone(), *seen);
            }
            Write::ReleaseSeen { channel, seen } => {
                self.releases.insert(channel.clone(), *seen);
            }
            Write::ForgetReleases => self.releases.clear(),
            Write::PutUpdate(update) => self.update = Some(update.clone()),
            Write::DropUpdate => self.update = None,
            Write::OutcomeTaken(outcome) => self.outcome = *outcome,
            Write::PutJob(job) => {
                self.jobs.insert(job.run, job.clone());
            }
            Write::PutTask { run, task, state } => {
                self.tasks.entry(*run).or_default().insert(task.clone(), state.clone());
            }
            Write::EndJob(run) => {
                self.jobs.remove(run);
                self.tasks.remove(run);
            }
            Write::PutRecord { lane, record } => {
                let entry = Entry { class: record.body.class(), bytes: record.weight() };
                self.lanes[lane.index()].insert(record.seq, entry);
            }
            Write::DropRecords { lane, class, seqs } => {
                let lane = &mut self.lanes[lane.index()];
                for seq in seqs {
                    lane.remove(*seq);
                    lane.dropped.add(*class);
                }
            }
            Write::Acked { lane, through } => {
                let lane = &mut self.lanes[lane.index()];
                while let Some((&seq, _)) = lane.entries.first_key_value().filter(|(seq, _)| *seq <= through) {
                    lane.remove(seq);
                }
            }
            Write::Renumber { lane, by } => {
                let lane = &mut self.lanes[lane.index()];
                lane.next_seq = lane.next_seq.saturating_add(*by);
                lane.entries = lane.entries.iter().map(|(seq, entry)| (seq.saturating_add(*by), *entry)).collect();
            }
        }
    }
}
