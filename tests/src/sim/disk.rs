//! Disks: they hold what was committed, and nothing else survives a crash.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use sloth_core::{AgentId, Millis, RunId};
use sloth_protocol::{
    agent,
    coordinator::{self, JobUpdate, ReceiptRow},
    wire::Record,
};

/// Names a record through renumbering and transport: given when it is first committed.
pub(super) type RecordName = u64;

/// An agent's disk.
#[derive(Debug, Clone, Default)]
pub(super) struct AgentDisk {
    pub state: agent::Durable,
    /// The content of what waits in each lane, by number.
    pub records: [BTreeMap<u64, (RecordName, Record)>; 2],
    /// From when to when its certificate counts.
    pub certificate: (Millis, Millis),
}

/// What a commit took off an agent's disk, and what was wrong with what it put there.
#[derive(Debug, Default)]
pub(super) struct Removed {
    /// Because the coordinator said that it has them.
    pub acked: Vec<(RecordName, Record)>,
    /// For want of space.
    pub shed: Vec<(RecordName, Record)>,
    /// A new record's number that is not the lane's next, and the next.
    pub misnumbered: Option<(u64, u64)>,
}

impl AgentDisk {
    /// Takes in one transaction. `names` gives names to new records.
    pub(super) fn commit(&mut self, writes: &[agent::Write], names: &mut RecordName) -> Removed {
        let mut removed = Removed::default();
        for write in writes {
            self.keep_records(write, names, &mut removed);
            self.state.apply(write);
        }
        removed
    }

    fn keep_records(&mut self, write: &agent::Write, names: &mut RecordName, removed: &mut Removed) {
        match write {
            agent::Write::PutRecord { lane, record } => {
                *names += 1;
                let next = self.state.lanes[lane.index()].next_seq;
                if record.seq != next {
                    removed.misnumbered = Some((record.seq, next));
                }
                self.records[lane.index()].insert(record.seq, (*names, record.clone()));
            }
            agent::Write::DropRecords { lane, seqs, .. } => {
                let lane = &mut self.records[lane.index()];
                removed.shed.extend(seqs.iter().filter_map(|seq| lane.remove(seq)));
            }
            agent::Write::Acked { lane, through } => {
                let lane = &mut self.records[lane.index()];
                let kept = lane.split_off(&(through + 1));
                removed.acked.extend(std::mem::replace(lane, kept).into_values());
            }
            agent::Write::Renumber { lane, by } => {
                let lane = &mut self.records[lane.index()];
                let moved = std::mem::take(lane).into_iter();
                *lane =
                    moved.map(|(seq, (name, record))| (seq + by, (name, Record { seq: seq + by, ..record }))).collect();
            }
            agent::Write::Accepted(_)
            | agent::Write::PutRoot(_)
            | agent::Write::PutHead(_)
            | agent::Write::ForgetHead
            | agent::Write::ForgetSeen(_)
            | agent::Write::Seen { .. }
            | agent::Write::PutJob(_)
            | agent::Write::PutTask { .. }
            | agent::Write::EndJob(_)
            | agent::Write::ReleaseSeen { .. }
            | agent::Write::ForgetReleases
            | agent::Write::PutUpdate(_)
            | agent::Write::DropUpdate
            | agent::Write::OutcomeTaken(_) => {}
        }
    }
}

/// A coordinator's disk.
#[derive(Debug, Clone, Default)]
pub(super) struct CenterDisk {
    pub state: coordinator::Durable,
    /// Every job of every run that was not forgotten, ended or not.
    pub jobs: BTreeMap<RunId, BTreeMap<AgentId, JobUpdate>>,
    /// The names of the records that were kept, in their order, by run.
    pub events: BTreeMap<RunId, Vec<(AgentId, RecordName)>>,
    pub counted: BTreeSet<RecordName>,
    /// The one receipt of each job, as the store keeps them.
    pub receipts: BTreeMap<(RunId, AgentId), ReceiptRow>,
    /// Every head that there was, by version.
    pub heads: BTreeMap<u64, Vec<u8>>,
}

impl CenterDisk {
    /// Takes in one change. `name` is that of the record, if the change keeps one. Says whether a record that
    /// was counted before was counted again.
    pub(super) fn commit(&mut self, write: &coordinator::Write, name: Option<RecordName>) -> Counted {
        let mut counted = Counted::NotAgain;
        match write {
            coordinator::Write::PutJob(run, agent, update) => {
                let open = self.state.runs.contains_key(run);
                let jobs = self.jobs.entry(*run).or_default();
                if open || jobs.contains_key(agent) {
                    jobs.insert(*agent, update.clone());
                }
            }
            coordinator::Write::Append(agent, record) => {
                let known = self.jobs.get(&record.run).is_some_and(|jobs| jobs.contains_key(agent));
                if let Some(name) = name.filter(|_| known) {
                    self.events.entry(record.run).or_default().push((*agent, name));
                    if !self.counted.insert(name) {
                        counted = Counted::Again(name);
                    }
                }
            }
            coordinator::Write::ForgetRun(run) => {
                self.jobs.remove(run);
                self.events.remove(run);
            }
            coordinator::Write::PutReceipt(receipt) => {
                let (run, agent) = (receipt.run, receipt.agent);
                let known = self.jobs.get(&run).is_some_and(|jobs| jobs.contains_key(&agent));
                match self.receipts.entry((run, agent)) {
                    Entry::Occupied(_) => counted = Counted::ReceiptAgain(agent),
                    Entry::Vacant(vacant) if known => {
                        vacant.insert(receipt.as_ref().clone());
                    }
                    Entry::Vacant(_) => {}
                }
            }
            coordinator::Write::PutHead(head) => {
                self.heads.insert(head.version, head.payload.clone());
            }
            coordinator::Write::PutRoot(..)
            | coordinator::Write::PutAgent(..)
            | coordinator::Write::ForgetAgent(_)
            | coordinator::Write::PutInbox(..)
            | coordinator::Write::PutWork(..)
            | coordinator::Write::DropWork(..)
            | coordinator::Write::PutToken(..)
            | coordinator::Write::DropToken(_)
            | coordinator::Write::PutRelease(_)
            | coordinator::Write::DropRelease(..)
            | coordinator::Write::PutAgentRelease(_)
            | coordinator::Write::DropAgentRelease(_)
            | coordinator::Write::PutRollout(..)
            | coordinator::Write::PutRolloutHost(..)
            | coordinator::Write::PutOperator(..)
            | coordinator::Write::DropOperator(_)
            | coordinator::Write::DropRolloutHosts(..)
            | coordinator::Write::DropRollout(_)
            | coordinator::Write::PutRun(..) => {}
        }
        self.state.apply(write);
        counted
    }
}

/// Whether a record was on the coordinator's disk before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    NotAgain,
    Again(RecordName),
    /// A second receipt of a job, by the agent.
    ReceiptAgain(AgentId),
}
