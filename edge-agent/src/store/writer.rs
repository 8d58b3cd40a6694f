//! The thread that has the database.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt, path::Path, path::PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use sloth_core::{
    Millis, RunId,
    fs::{Action, FsError},
};
use sloth_protocol::{
    agent::{Durable, Entry, Job, TaskState, Write},
    wire::{Lane, Record, TaskName},
};
use sloth_trust::Seen;
use tokio::sync::{mpsc, oneshot};

use super::{
    CACHE_BYTES, Opener, SCHEMA, StoreError,
    codec::decode_plain,
    error::Fault,
    state,
    tables::{self, JOBS, LaneMeta, META, RELEASES, SEEN, STATE, StoredRecord, TASKS, keys},
};

/// Most commands that are committed together.
const GROUP_MAX: usize = 64;
/// The store holds what only its owner may read.
const FILE_MODE: u32 = 0o600;
const RUN_BYTES: usize = 16;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the thread is asked.
#[derive(Debug)]
pub(super) enum Command {
    Load { done: Reply<Durable> },
    Commit { writes: Vec<Write>, done: Reply<()> },
    Records { lane: Lane, seqs: Vec<u64>, done: Reply<Vec<Record>> },
    State { request: state::Request, done: Reply<state::Answer> },
    Close { done: Reply<()> },
}

/// A command that changes something.
enum Change {
    Commit { writes: Vec<Write>, done: Reply<()> },
    State { request: state::Request, done: Reply<state::Answer> },
}

/// A command that changes nothing.
enum Question {
    Load(Reply<Durable>),
    Records(Lane, Vec<u64>, Reply<Vec<Record>>),
    State(state::Request, Reply<state::Answer>),
    /// Nothing more will be asked.
    Close(Reply<()>),
}

pub(super) struct Writer {
    path: PathBuf,
    opener: Opener,
    /// None after a failure, until the next command.
    database: Option<Database>,
    state_bytes_max: u64,
}

impl Writer {
    pub(super) fn new(path: PathBuf, opener: Opener, state_bytes_max: u64) -> Self {
        Self { path, opener, database: None, state_bytes_max }
    }

    /// Opens the file, checks whose it is, and removes from it what has expired.
    pub(super) fn open(&mut self, now: Millis) -> Result<(), StoreError> {
        let prepared = self.database().and_then(|database| prepare(database, now));
        prepared.map_err(|fault| self.failed(fault))
    }

    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        while let Some(first) = queue.blocking_recv() {
            let (mut changes, mut questions) = (Vec::new(), Vec::new());
            let mut next = Some(first);
            while let Some(command) = next {
                command.sort(&mut changes, &mut questions);
                let count = changes.len() + questions.len();
                next = if count < GROUP_MAX { queue.try_recv().ok() } else { None };
            }
            self.change(changes);
            for question in questions {
                if let Question::Close(done) = question {
                    drop(self);
                    drop(done.send(Ok(())));
                    return;
                }
                self.answer(question);
            }
        }
    }

    /// Commits everything in one transaction, or nothing of it.
    fn change(&mut self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let bytes_max = self.state_bytes_max;
        match self.database().and_then(|database| change_all(database, &changes, bytes_max)) {
            Ok(answers) => {
                for (change, answer) in changes.into_iter().zip(answers) {
                    change.done(answer);
                }
            }
            Err(fault) => {
                let error = self.failed(fault);
                for change in changes {
                    change.failed(error.clone());
                }
            }
        }
    }

    fn answer(&mut self, question: Question) {
        // Who asked may have gone; then nobody waits for the answer.
        match question {
            Question::Close(done) => drop(done.send(Ok(()))),
            Question::Load(done) => drop(done.send(self.ask(load))),
            Question::Records(lane, seqs, done) => {
                drop(done.send(self.ask(|database| records(database, lane, &seqs))));
            }
            Question::State(request, done) => drop(done.send(self.ask(|database| {
                let table = database.begin_read()?.open_table(STATE)?;
                request.read(&table)
            }))),
        }
    }

    fn ask<T>(&mut self, read: impl FnOnce(&Database) -> Result<T, Fault>) -> Result<T, StoreError> {
        let answer = self.database().and_then(read);
        answer.map_err(|fault| self.failed(fault))
    }

    fn database(&mut self) -> Result<&Database, Fault> {
        match &mut self.database {
            Some(database) => Ok(database),
            none => Ok(none.insert((self.opener)()?)),
        }
    }

    /// After an error nothing is known of what the database has in memory: it is read anew.
    fn failed(&mut self, fault: Fault) -> StoreError {
        self.database = None;
        fault.at(&self.path)
    }
}

impl Command {
    fn sort(self, changes: &mut Vec<Change>, questions: &mut Vec<Question>) {
        match self {
            Self::Commit { writes, done } => changes.push(Change::Commit { writes, done }),
            Self::State { request, done } if request.is_read() => questions.push(Question::State(request, done)),
            Self::State { request, done } => changes.push(Change::State { request, done }),
            Self::Close { done } => questions.push(Question::Close(done)),
            Self::Load { done } => questions.push(Question::Load(done)),
            Self::Records { lane, seqs, done } => questions.push(Question::Records(lane, seqs, done)),
        }
    }
}

impl Change {
    /// Gives an answer: what was asked of the state has one, a commit has none.
    fn done(self, answer: Option<state::Answer>) {
        match (self, answer) {
            (Self::Commit { done, .. }, _) => drop(done.send(Ok(()))),
            (Self::State { done, .. }, Some(answer)) => drop(done.send(Ok(answer))),
            (Self::State { done, .. }, None) => drop(done.send(Err(StoreError::Closed))),
        }
    }

    fn failed(self, error: StoreError) {
        match self {
            Self::Commit { done, .. } => drop(done.send(Err(error))),
            Self::State { done, .. } => drop(done.send(Err(error))),
        }
    }
}

/// Opens the file at `path`, which nobody but its owner may read.
pub(super) fn open_file(path: &Path) -> Result<Database, Fault> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(FILE_MODE)
        .open(path)
        .map_err(|error| Fault::Fs(FsError::of(Action::Create, path)(error)))?;
    Ok(Database::builder().set_cache_size(CACHE_BYTES).create(path)?)
}

fn prepare(database: &Database, now: Millis) -> Result<(), Fault> {
    let txn = database.begin_write()?;
    let found = tables::get::<u32>(&txn.open_table(META)?, keys::SCHEMA)?;
    match found {
        Some(SCHEMA) => {}
        Some(found) => return Err(Fault::Newer(found)),
        None => {
            tables::create_all(&txn)?;
            tables::put(&mut txn.open_table(META)?, keys::SCHEMA, &SCHEMA)?;
        }
    }
    state::sweep(&txn, now)?;
    Ok(txn.commit()?)
}

fn change_all(database: &Database, changes: &[Change], bytes_max: u64) -> Result<Vec<Option<state::Answer>>, Fault> {
    let txn: WriteTransaction = database.begin_write()?;
    let mut answers = Vec::with_capacity(changes.len());
    for change in changes {
        answers.push(match change {
            Change::Commit { writes, .. } => {
                tables::apply(&txn, writes)?;
                None
            }
            Change::State { request, .. } => Some(request.write(&txn, bytes_max)?),
        });
    }
    txn.commit()?;
    Ok(answers)
}

fn load(database: &Database) -> Result<Durable, Fault> {
    let txn = database.begin_read()?;
    let meta = txn.open_table(META)?;
    let mut durable = Durable {
        accepted: tables::get(&meta, keys::ACCEPTED)?.unwrap_or(0),
        root: tables::get(&meta, keys::ROOT)?,
        head: tables::get(&meta, keys::HEAD)?,
        update: tables::get(&meta, keys::UPDATE)?,
        outcome: tables::get(&meta, keys::OUTCOME)?.unwrap_or(0),
        ..Durable::default()
    };
    each(&txn.open_table(SEEN)?, |key, seen: Seen| {
        let name = std::str::from_utf8(key).ok().and_then(|name| name.parse().ok()).ok_or(Fault::Key)?;
        durable.seen.insert(name, seen);
        Ok(())
    })?;
    each(&txn.open_table(RELEASES)?, |key, seen: Seen| {
        let channel = std::str::from_utf8(key).ok().and_then(|name| name.parse().ok()).ok_or(Fault::Key)?;
        durable.releases.insert(channel, seen);
        Ok(())
    })?;
    each(&txn.open_table(JOBS)?, |_, job: Job| {
        durable.jobs.insert(job.run, job);
        Ok(())
    })?;
    each(&txn.open_table(TASKS)?, |key, state: TaskState| {
        let (run, task) = key.split_first_chunk::<RUN_BYTES>().ok_or(Fault::Key)?;
        let task: TaskName = decode_plain(task)?;
        durable.tasks.entry(RunId::from_bytes(*run)).or_default().insert(task, state);
        Ok(())
    })?;
    for lane in Lane::ALL {
        let state = &mut durable.lanes[lane.index()];
        let stored: LaneMeta = tables::get(&meta, keys::lane(lane))?.unwrap_or_default();
        each(&txn.open_table(tables::lane_table(lane))?, |key, record: StoredRecord| {
            let record = record.numbered(tables::seq_of(key)?);
            state.insert(record.seq, Entry { class: record.body.class(), bytes: record.weight() });
            Ok(())
        })?;
        state.next_seq = stored.next_seq;
        state.dropped = stored.dropped;
    }
    Ok(durable)
}

fn records(database: &Database, lane: Lane, seqs: &[u64]) -> Result<Vec<Record>, Fault> {
    let definition: TableDefinition<'_, &'static [u8], &'static [u8]> = tables::lane_table(lane);
    let table = database.begin_read()?.open_table(definition)?;
    let mut records = Vec::with_capacity(seqs.len());
    for seq in seqs {
        if let Some(stored) = tables::get::<StoredRecord>(&table, &seq.to_be_bytes())? {
            records.push(stored.numbered(*seq));
        }
    }
    Ok(records)
}

fn each<T: serde::de::DeserializeOwned>(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    mut take: impl FnMut(&[u8], T) -> Result<(), Fault>,
) -> Result<(), Fault> {
    for entry in table.iter()? {
        let (key, value) = entry?;
        take(key.value(), super::codec::decode(value.value())?)?;
    }
    Ok(())
}
