//! What operators look at: runs, their jobs and tasks, and what happened in them.

use std::{collections::BTreeMap, ops::RangeInclusive};

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable as _};
use serde::de::DeserializeOwned;
use sloth_core::{AgentId, Digest, RunId};
use sloth_protocol::{
    coordinator::{AgentRecord, Run},
    receipts::task_summary,
    wire::{
        EVENTS_IN_FRAME_MAX, JobResult, JobView, PAGE_ROWS_MAX, RecordBody, ResultsPage, RunEvent, RunSummary, RunView,
        RunsPage, TaskEnd, TaskView,
    },
};

use super::{
    EventsRead, RowError, codec,
    database::Fault,
    tables::{self, EventRow, JobRow, Tally, beginning_with, job_key, number_of, numbered_key, run_of, split_id},
};

/// Bytes of one answer's rows, well under a frame's.
pub(super) const ANSWER_BYTES_MAX: usize = 768 * 1024;
/// Most events that one look passes over in search of one agent's.
const EVENTS_SCANNED_MAX: usize = 16 * EVENTS_IN_FRAME_MAX;
/// What a row takes besides its texts.
const ROW_BYTES: usize = 128;

/// Every table of one moment, open for reading.
pub(super) struct Reader {
    pub(super) meta: Rows,
    pub(super) roots: Rows,
    pub(super) heads: Rows,
    pub(super) agents: Rows,
    pub(super) inboxes: Rows,
    pub(super) work: Rows,
    pub(super) tokens: Rows,
    pub(super) operators: Rows,
    pub(super) releases: Rows,
    pub(super) agent_releases: Rows,
    pub(super) runs: Rows,
    pub(super) values: Rows,
    pub(super) tallies: Rows,
    pub(super) ended: Rows,
    pub(super) jobs: Rows,
    pub(super) events: Rows,
    pub(super) task_ends: Rows,
    pub(super) receipts: Rows,
    pub(super) receipt_of: Rows,
    pub(super) rollouts: Rows,
    pub(super) rollout_hosts: Rows,
}

/// A table, open for reading.
pub(super) struct Rows(ReadOnlyTable<&'static [u8], &'static [u8]>);

impl Reader {
    pub(super) fn open(transaction: &ReadTransaction) -> Result<Self, Fault> {
        let open = |table| transaction.open_table(table).map(Rows).map_err(Fault::of);
        Ok(Self {
            meta: open(tables::META)?,
            roots: open(tables::ROOTS)?,
            heads: open(tables::HEADS)?,
            agents: open(tables::AGENTS)?,
            inboxes: open(tables::INBOXES)?,
            work: open(tables::WORK)?,
            tokens: open(tables::TOKENS)?,
            operators: open(tables::OPERATORS)?,
            releases: open(tables::RELEASES)?,
            agent_releases: open(tables::AGENT_RELEASES)?,
            runs: open(tables::RUNS)?,
            values: open(tables::VALUES)?,
            tallies: open(tables::TALLIES)?,
            ended: open(tables::ENDED)?,
            jobs: open(tables::JOBS)?,
            events: open(tables::EVENTS)?,
            task_ends: open(tables::TASK_ENDS)?,
            receipts: open(tables::RECEIPTS)?,
            receipt_of: open(tables::RECEIPT_OF)?,
            rollouts: open(tables::ROLLOUTS)?,
            rollout_hosts: open(tables::ROLLOUT_HOSTS)?,
        })
    }
}

impl Rows {
    /// What `read` makes of the row with the greatest key.
    pub(super) fn last<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&[u8], &[u8]) -> Result<T, RowError>,
    ) -> Result<Option<T>, Fault> {
        let last = self.0.last().map_err(Fault::of)?;
        last.map(|(key, value)| read(key.value(), value.value())).transpose().map_err(Fault::row(name))
    }

    /// Shows every row to `look`, in the order of the keys.
    pub(super) fn each(
        &self,
        name: &'static str,
        mut look: impl FnMut(&[u8], &[u8]) -> Result<(), RowError>,
    ) -> Result<(), Fault> {
        for row in self.0.iter().map_err(Fault::of)? {
            let (key, value) = row.map_err(Fault::of)?;
            look(key.value(), value.value()).map_err(Fault::row(name))?;
        }
        Ok(())
    }

    /// Shows the rows of a range of keys to `look`, in their order.
    pub(super) fn each_in<const N: usize>(
        &self,
        name: &'static str,
        range: RangeInclusive<[u8; N]>,
        mut look: impl FnMut(&[u8], &[u8]) -> Result<(), RowError>,
    ) -> Result<(), Fault> {
        self.until(name, range, |key, value| look(key, value).map(|()| Go::On))
    }

    /// Shows the rows of a range of keys to `look`, in their order, until it has seen enough.
    pub(super) fn until<const N: usize>(
        &self,
        name: &'static str,
        range: RangeInclusive<[u8; N]>,
        look: impl FnMut(&[u8], &[u8]) -> Result<Go, RowError>,
    ) -> Result<(), Fault> {
        show(self.0.range(range.start().as_slice()..=range.end().as_slice()).map_err(Fault::of)?, name, look)
    }

    /// As [`Rows::until`], from the last row to the first.
    pub(super) fn until_back<const N: usize>(
        &self,
        name: &'static str,
        range: RangeInclusive<[u8; N]>,
        look: impl FnMut(&[u8], &[u8]) -> Result<Go, RowError>,
    ) -> Result<(), Fault> {
        show(self.0.range(range.start().as_slice()..=range.end().as_slice()).map_err(Fault::of)?.rev(), name, look)
    }
}

/// A row as the database gives it.
type Found = Result<(Guard, Guard), redb::StorageError>;
type Guard = redb::AccessGuard<'static, &'static [u8]>;

fn show(
    rows: impl Iterator<Item = Found>,
    name: &'static str,
    mut look: impl FnMut(&[u8], &[u8]) -> Result<Go, RowError>,
) -> Result<(), Fault> {
    for row in rows {
        let (key, value) = row.map_err(Fault::of)?;
        match look(key.value(), value.value()).map_err(Fault::row(name))? {
            Go::On => {}
            Go::Stop => break,
        }
    }
    Ok(())
}

/// Whether to look at the next row.
pub(super) enum Go {
    On,
    Stop,
}

pub(super) fn row<T>(
    table: &Rows,
    key: &[u8],
    read: impl FnOnce(&[u8]) -> Result<T, RowError>,
    name: &'static str,
) -> Result<Option<T>, Fault> {
    let found = table.0.get(key).map_err(Fault::of)?;
    found.map(|value| read(value.value())).transpose().map_err(Fault::row(name))
}

pub(super) fn runs(reader: &Reader, before: Option<RunId>, rows: usize) -> Result<RunsPage, Fault> {
    let rows = rows.min(usize::try_from(PAGE_ROWS_MAX).unwrap_or(usize::MAX));
    let before = before.map_or([0xff; 16], RunId::to_bytes);
    let range = reader.runs.0.range::<&[u8]>(..before.as_slice()).map_err(Fault::of)?;
    let mut page = RunsPage { runs: Vec::new(), more: false };
    let mut bytes = 0;
    for found in range.rev() {
        let (key, value) = found.map_err(Fault::of)?;
        if rows <= page.runs.len() || ANSWER_BYTES_MAX <= bytes {
            page.more = true;
            break;
        }
        let run = codec::decode(value.value()).map_err(Fault::row("runs"))?;
        let summary = summary(reader, run_of(key.value()).map_err(Fault::row("runs"))?, run)?;
        bytes += ROW_BYTES + summary.selector.len() + summary.version.len() + summary.operator.len();
        page.runs.push(summary);
    }
    Ok(page)
}

pub(super) fn run(reader: &Reader, id: RunId) -> Result<Option<RunView>, Fault> {
    let Some(run) = decoded(&reader.runs, &id.to_bytes(), "runs")? else { return Ok(None) };
    let summary = summary(reader, id, run)?;
    let mut found: Vec<(AgentId, JobRow)> = Vec::new();
    reader.jobs.until("jobs", beginning_with::<32>(&id.to_bytes()), |key, value| {
        let (_, agent) = split_id(key)?;
        let (agent, _) = split_id(agent)?;
        found.push((AgentId::from_bytes(agent), codec::decode(value)?));
        let full = usize::try_from(PAGE_ROWS_MAX).is_ok_and(|rows| rows <= found.len());
        Ok(if full { Go::Stop } else { Go::On })
    })?;
    let mut share = Share { rows: Room(ANSWER_BYTES_MAX / 2), outputs: Room(ANSWER_BYTES_MAX / 2) };
    let mut jobs = Vec::new();
    for (agent, row) in found {
        jobs.push(job(reader, id, agent, row, &mut share)?);
    }
    Ok(Some(RunView { summary, jobs }))
}

/// The ends of a run, summed up as receipts do it.
pub(super) fn results(reader: &Reader, run: RunId, after: Option<AgentId>) -> Result<ResultsPage, Fault> {
    let mut range = beginning_with::<32>(&run.to_bytes());
    if let Some(after) = after {
        range = job_key(run, after)..=*range.end();
    }
    let limit = usize::try_from(PAGE_ROWS_MAX).unwrap_or(usize::MAX);
    let mut page = ResultsPage { results: Vec::new(), more: false };
    let mut found: Vec<(AgentId, JobRow)> = Vec::new();
    reader.jobs.until("jobs", range, |key, value| {
        let (_, agent) = split_id(key)?;
        let (agent, _) = split_id(agent)?;
        let agent = AgentId::from_bytes(agent);
        if after == Some(agent) {
            return Ok(Go::On);
        }
        if limit <= found.len() {
            page.more = true;
            return Ok(Go::Stop);
        }
        found.push((agent, codec::decode(value)?));
        Ok(Go::On)
    })?;
    for (agent, JobRow { job, end }) in found {
        // As an agent does it: by the tasks' names, and of each the end that counts.
        let mut ends = BTreeMap::new();
        for number in task_numbers(reader, run, agent)? {
            if let Some(end) = task_end(reader, run, number)? {
                ends.insert(end.task.clone(), end);
            }
        }
        let (message, outputs) = (Digest::of(end.message.as_bytes()), Digest::of(end.outputs.as_bytes()));
        let tasks = task_summary(ends.values());
        page.results.push(JobResult { agent, state: job.state, message, outputs, tasks });
    }
    Ok(page)
}

pub(super) fn events(
    reader: &Reader,
    id: RunId,
    after: u64,
    agent: Option<AgentId>,
) -> Result<Option<EventsRead>, Fault> {
    if row(&reader.tallies, &id.to_bytes(), |_| Ok(()), "tallies")?.is_none() {
        return Ok(None);
    }
    let ended = row(&reader.ended, &id.to_bytes(), |_| Ok(()), "ended")?.is_some();
    let mut read = EventsRead { events: Vec::new(), through: after, more: false, ended };
    let (mut room, mut scanned) = (Room(ANSWER_BYTES_MAX), 0);
    let range = numbered_key(id.to_bytes(), after.saturating_add(1))..=numbered_key(id.to_bytes(), u64::MAX);
    reader.events.until("events", range, |key, value| {
        if EVENTS_IN_FRAME_MAX <= read.events.len() || EVENTS_SCANNED_MAX <= scanned || room.is_empty() {
            read.more = true;
            return Ok(Go::Stop);
        }
        scanned += 1;
        let (_, number) = split_id(key)?;
        let number = number_of(number)?;
        let event = codec::decode::<EventRow>(value)?;
        if agent.is_none_or(|agent| agent == event.agent) {
            // A frame holds any one record, but not one more on top of all that fits.
            if !read.events.is_empty() && !room.fits(event.record.weight()) {
                read.more = true;
                return Ok(Go::Stop);
            }
            room.take(event.record.weight());
            read.events.push(RunEvent { number, agent: event.agent, record: event.record });
        }
        read.through = number;
        Ok(Go::On)
    })?;
    Ok(Some(read))
}

/// How many more bytes fit into an answer.
pub(super) struct Room(usize);

/// What an answer's rows may take, and what their outputs may.
struct Share {
    rows: Room,
    outputs: Room,
}

impl Share {
    fn outputs(&mut self, outputs: String) -> String {
        if !self.outputs.fits(outputs.len()) {
            return String::new();
        }
        self.outputs.take(outputs.len());
        outputs
    }
}

impl Room {
    pub(super) const fn of(bytes: usize) -> Self {
        Self(bytes)
    }

    pub(super) const fn take(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub(bytes + ROW_BYTES);
    }

    const fn is_empty(&self) -> bool {
        self.0 == 0
    }

    pub(super) const fn fits(&self, bytes: usize) -> bool {
        bytes + ROW_BYTES <= self.0
    }
}

fn summary(reader: &Reader, id: RunId, run: Run) -> Result<RunSummary, Fault> {
    let tally = decoded::<Tally>(&reader.tallies, &id.to_bytes(), "tallies")?.unwrap_or_default();
    Ok(RunSummary {
        run: id,
        bundle: run.bundle.to_string(),
        version: run.version,
        workflow: run.workflow,
        selector: run.selector,
        operator: run.operator,
        created: run.created,
        ended: run.ended,
        deadline: run.deadline,
        cancelled: run.cancelled,
        jobs: tally.counts(),
    })
}

/// One job. What does not fit into the answer is left out: outputs, which have a share of their own so that they
/// leave room for rows, and then tasks.
fn job(reader: &Reader, run: RunId, agent: AgentId, row: JobRow, share: &mut Share) -> Result<JobView, Fault> {
    let record: Option<AgentRecord> = decoded(&reader.agents, &agent.to_bytes(), "agents")?;
    let name = record.map(|record| record.name).unwrap_or_default();
    let JobRow { job, end } = row;
    let message = if share.rows.fits(end.message.len()) { end.message } else { String::new() };
    share.rows.take(message.len());
    let outputs = share.outputs(end.outputs);
    let mut view = JobView { agent, name, state: job.state, message, outputs, tasks: Vec::new() };
    for number in task_numbers(reader, run, agent)? {
        let Some(mut end) = task_end(reader, run, number)? else { continue };
        let row = end.task.workflow.len() + end.task.task.len() + end.message.len();
        if !share.rows.fits(row) {
            break;
        }
        share.rows.take(row);
        end.outputs = share.outputs(end.outputs);
        view.tasks.push(TaskView { end });
    }
    Ok(view)
}

/// The numbers of the events that are tasks' ends, rising.
fn task_numbers(reader: &Reader, run: RunId, agent: AgentId) -> Result<Vec<u64>, Fault> {
    let mut numbers = Vec::new();
    reader.task_ends.each_in("task_ends", beginning_with::<40>(&job_key(run, agent)), |key, _| {
        let number = key.last_chunk::<8>().ok_or(RowError::Key { bytes: key.len() })?;
        numbers.push(u64::from_be_bytes(*number));
        Ok(())
    })?;
    Ok(numbers)
}

fn task_end(reader: &Reader, run: RunId, number: u64) -> Result<Option<TaskEnd>, Fault> {
    let event: Option<EventRow> = decoded(&reader.events, &numbered_key(run.to_bytes(), number), "events")?;
    Ok(event.and_then(|event| match event.record.body {
        RecordBody::TaskEnded(end) => Some(end),
        RecordBody::RunStarted
        | RecordBody::TaskStarted { .. }
        | RecordBody::RunEnded(_)
        | RecordBody::Log { .. }
        | RecordBody::Receipt { .. }
        | RecordBody::Update(_) => None,
    }))
}

fn decoded<T: DeserializeOwned>(table: &Rows, key: &[u8], name: &'static str) -> Result<Option<T>, Fault> {
    row(table, key, |value| Ok(codec::decode(value)?), name)
}
