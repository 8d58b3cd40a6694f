//! The tables of the store, and how the machine's writes change them.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | see [`keys`] |
//! | `seen` | bundle's name | newest accepted release |
//! | `jobs` | run | job |
//! | `tasks` | run, then the task's name in postcard | how far it got |
//! | `results`, `logs` | record's number, big endian | record without its number |
//! | `state` | namespace, zero, key | see `state.rs` |
//! | `locks` | namespace, zero, name | see `state/locks.rs`; made when it is first needed |

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};
use sloth_core::{Millis, RunId};
use sloth_protocol::{
    agent::Write,
    wire::{Class, Dropped, Lane, Record, RecordBody, TaskName},
};

use super::{
    codec::{decode, encode},
    error::Fault,
};

pub(super) type Bytes = TableDefinition<'static, &'static [u8], &'static [u8]>;
pub(super) type Open<'txn> = Table<'txn, &'static [u8], &'static [u8]>;

pub(super) const META: Bytes = TableDefinition::new("meta");
pub(super) const SEEN: Bytes = TableDefinition::new("seen");
/// Channel → the newest accepted release of the agent.
pub(super) const RELEASES: Bytes = TableDefinition::new("releases");
pub(super) const JOBS: Bytes = TableDefinition::new("jobs");
pub(super) const TASKS: Bytes = TableDefinition::new("tasks");
pub(super) const STATE: Bytes = TableDefinition::new("state");
pub(super) const LOCKS: Bytes = TableDefinition::new("locks");
const RESULTS: Bytes = TableDefinition::new("results");
const LOGS: Bytes = TableDefinition::new("logs");

/// What is in `meta`.
pub(super) mod keys {
    use sloth_protocol::wire::Lane;

    /// The version of the whole file, as a `u32`.
    pub(in crate::store) const SCHEMA: &[u8] = b"schema";
    /// The envelope of the newest trust root, if one came after the enrolment's.
    pub(in crate::store) const ROOT: &[u8] = b"root";
    /// The envelope of the newest head.
    pub(in crate::store) const HEAD: &[u8] = b"head";
    /// The release of the agent that it is going to, if any.
    pub(in crate::store) const UPDATE: &[u8] = b"update";
    /// The number of the outcome of an update that was taken in last, as a `u64`.
    pub(in crate::store) const OUTCOME: &[u8] = b"outcome";
    /// The highest generation that was dealt with, as a `u64`.
    pub(in crate::store) const ACCEPTED: &[u8] = b"accepted";
    /// Bytes of all keys and values in `state`, as a `u64`.
    pub(in crate::store) const STATE_BYTES: &[u8] = b"state-bytes";
    /// Before a namespace: when anything of it was changed last, as [`sloth_core::Millis`].
    pub(in crate::store) const STATE_MODIFIED: &[u8] = b"state-modified/";

    /// A lane's [`super::LaneMeta`].
    pub(in crate::store) const fn lane(lane: Lane) -> &'static [u8] {
        match lane {
            Lane::Results => b"lane-results",
            Lane::Logs => b"lane-logs",
        }
    }
}

/// What is kept of a lane besides its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LaneMeta {
    pub(super) next_seq: u64,
    pub(super) dropped: Dropped,
}

/// A record without its number, which is its key.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredRecord {
    at: Millis,
    run: RunId,
    body: RecordBody,
}

impl Default for LaneMeta {
    fn default() -> Self {
        Self { next_seq: 1, dropped: Dropped::default() }
    }
}

impl StoredRecord {
    pub(super) fn numbered(self, seq: u64) -> Record {
        Record { seq, at: self.at, run: self.run, body: self.body }
    }
}

pub(super) const fn lane_table(lane: Lane) -> Bytes {
    match lane {
        Lane::Results => RESULTS,
        Lane::Logs => LOGS,
    }
}

pub(super) fn task_key(run: RunId, task: &TaskName) -> Result<Vec<u8>, Fault> {
    Ok(postcard::to_extend(task, run.to_bytes().to_vec()).map_err(super::codec::CodecError::from)?)
}

/// The first key after those of `run`, or none when `run` is the last there can be.
pub(super) fn after_run(run: RunId) -> Option<[u8; 16]> {
    u128::from_be_bytes(run.to_bytes()).checked_add(1).map(u128::to_be_bytes)
}

/// Makes every table, so that readers find them.
pub(super) fn create_all(txn: &WriteTransaction) -> Result<(), redb::Error> {
    for table in [META, SEEN, RELEASES, JOBS, TASKS, STATE, RESULTS, LOGS] {
        txn.open_table(table)?;
    }
    Ok(())
}

/// Applies the machine's writes, in their order, to what `txn` changes.
pub(super) fn apply(txn: &WriteTransaction, writes: &[Write]) -> Result<(), Fault> {
    let mut open = Tables {
        meta: txn.open_table(META)?,
        seen: txn.open_table(SEEN)?,
        releases: txn.open_table(RELEASES)?,
        jobs: txn.open_table(JOBS)?,
        tasks: txn.open_table(TASKS)?,
        lanes: [txn.open_table(RESULTS)?, txn.open_table(LOGS)?],
        lane_meta: [None, None],
    };
    for write in writes {
        open.apply(write)?;
    }
    open.finish()
}

struct Tables<'txn> {
    meta: Open<'txn>,
    seen: Open<'txn>,
    releases: Open<'txn>,
    jobs: Open<'txn>,
    tasks: Open<'txn>,
    lanes: [Open<'txn>; 2],
    /// Read when first needed, written at the end: a batch of records changes it once.
    lane_meta: [Option<LaneMeta>; 2],
}

impl Tables<'_> {
    fn apply(&mut self, write: &Write) -> Result<(), Fault> {
        match write {
            Write::Accepted(generation) => put(&mut self.meta, keys::ACCEPTED, generation),
            Write::PutRoot(envelope) => put(&mut self.meta, keys::ROOT, envelope),
            Write::PutHead(envelope) => put(&mut self.meta, keys::HEAD, envelope),
            Write::ForgetHead => {
                self.meta.remove(keys::HEAD)?;
                Ok(())
            }
            Write::ForgetSeen(bundle) => {
                self.seen.remove(bundle.as_str().as_bytes())?;
                Ok(())
            }
            Write::Seen { bundle, seen } => put(&mut self.seen, bundle.as_str().as_bytes(), seen),
            Write::ReleaseSeen { channel, seen } => put(&mut self.releases, channel.as_str().as_bytes(), seen),
            Write::ForgetReleases => Ok(self.releases.retain(|_, _| false)?),
            Write::PutUpdate(update) => put(&mut self.meta, keys::UPDATE, update),
            Write::DropUpdate => {
                self.meta.remove(keys::UPDATE)?;
                Ok(())
            }
            Write::OutcomeTaken(outcome) => put(&mut self.meta, keys::OUTCOME, outcome),
            Write::PutJob(job) => put(&mut self.jobs, &job.run.to_bytes(), job),
            Write::PutTask { run, task, state } => put(&mut self.tasks, &task_key(*run, task)?, state),
            Write::EndJob(run) => self.end_job(*run),
            Write::PutRecord { lane, record } => self.put_record(*lane, record),
            Write::DropRecords { lane, class, seqs } => self.drop_records(*lane, *class, seqs),
            Write::Acked { lane, through } => {
                let last = through.to_be_bytes();
                Ok(self.lanes[lane.index()].retain_in(..=last.as_slice(), |_, _| false)?)
            }
            Write::Renumber { lane, by } => self.renumber(*lane, *by),
        }
    }

    fn finish(mut self) -> Result<(), Fault> {
        for lane in Lane::ALL {
            if let Some(meta) = self.lane_meta[lane.index()] {
                put(&mut self.meta, keys::lane(lane), &meta)?;
            }
        }
        Ok(())
    }

    fn end_job(&mut self, run: RunId) -> Result<(), Fault> {
        let first = run.to_bytes();
        self.jobs.remove(first.as_slice())?;
        match after_run(run) {
            Some(end) => self.tasks.retain_in(first.as_slice()..end.as_slice(), |_, _| false)?,
            None => self.tasks.retain_in(first.as_slice().., |_, _| false)?,
        }
        Ok(())
    }

    fn put_record(&mut self, lane: Lane, record: &Record) -> Result<(), Fault> {
        let meta = self.lane(lane)?;
        meta.next_seq = meta.next_seq.max(record.seq.saturating_add(1));
        let stored = StoredRecord { at: record.at, run: record.run, body: record.body.clone() };
        put(&mut self.lanes[lane.index()], &record.seq.to_be_bytes(), &stored)
    }

    fn drop_records(&mut self, lane: Lane, class: Class, seqs: &[u64]) -> Result<(), Fault> {
        for seq in seqs {
            self.lanes[lane.index()].remove(seq.to_be_bytes().as_slice())?;
            self.lane(lane)?.dropped.add(class);
        }
        Ok(())
    }

    fn renumber(&mut self, lane: Lane, by: u64) -> Result<(), Fault> {
        let meta = self.lane(lane)?;
        meta.next_seq = meta.next_seq.saturating_add(by);
        let table = &mut self.lanes[lane.index()];
        let mut moved = Vec::new();
        for entry in table.iter()? {
            let (key, value) = entry?;
            moved.push((seq_of(key.value())?.saturating_add(by), value.value().to_vec()));
        }
        table.retain(|_, _| false)?;
        for (seq, value) in moved {
            table.insert(seq.to_be_bytes().as_slice(), value.as_slice())?;
        }
        Ok(())
    }

    fn lane(&mut self, lane: Lane) -> Result<&mut LaneMeta, Fault> {
        let slot = &mut self.lane_meta[lane.index()];
        let meta = match slot.take() {
            Some(meta) => meta,
            None => get(&self.meta, keys::lane(lane))?.unwrap_or_default(),
        };
        Ok(slot.insert(meta))
    }
}

/// The record's number in a key.
pub(super) fn seq_of(key: &[u8]) -> Result<u64, Fault> {
    key.try_into().map(u64::from_be_bytes).map_err(|_| Fault::Key)
}

pub(super) fn put<T: Serialize>(table: &mut Open<'_>, key: &[u8], value: &T) -> Result<(), Fault> {
    table.insert(key, encode(value)?.as_slice())?;
    Ok(())
}

pub(super) fn get<T: serde::de::DeserializeOwned>(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
) -> Result<Option<T>, Fault> {
    table.get(key)?.map(|value| decode(value.value()).map_err(Fault::from)).transpose()
}
