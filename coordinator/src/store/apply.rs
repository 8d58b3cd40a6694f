//! Changes, one transaction of them.

use redb::{ReadableTable as _, ReadableTableMetadata as _, Table, WriteTransaction};
use serde::Serialize;
use sloth_core::{AgentId, RunId};
use sloth_protocol::{
    coordinator::{HeadRow, JobUpdate, Release, Run, Write},
    wire::{Record, RecordBody},
};
use sloth_trust::HeadEnds;

use super::{
    Committed,
    chain::ChainTables,
    codec,
    database::Fault,
    tables::{
        self, AgentReleaseRow, EventRow, JobRow, ReleaseRow, Tally, beginning_with, inbox_key, job_key, number_of,
        numbered_key, release_key, rollout_host_key, split_id, task_key,
    },
};

pub(super) type Bytes<'t> = Table<'t, &'static [u8], &'static [u8]>;

/// Every table of one transaction, open for writing.
pub(super) struct Changes<'t> {
    meta: Bytes<'t>,
    roots: Bytes<'t>,
    heads: Bytes<'t>,
    agents: Bytes<'t>,
    inboxes: Bytes<'t>,
    work: Bytes<'t>,
    tokens: Bytes<'t>,
    operators: Bytes<'t>,
    releases: Bytes<'t>,
    agent_releases: Bytes<'t>,
    runs: Bytes<'t>,
    values: Bytes<'t>,
    tallies: Bytes<'t>,
    ended: Bytes<'t>,
    jobs: Bytes<'t>,
    events: Bytes<'t>,
    task_ends: Bytes<'t>,
    receipts: Bytes<'t>,
    receipt_of: Bytes<'t>,
    /// Most receipts that are kept.
    receipts_max: u64,
    rollouts: Bytes<'t>,
    rollout_hosts: Bytes<'t>,
    /// What became of the changes so far.
    pub(super) committed: Committed,
}

impl<'t> Changes<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction, receipts_max: u64) -> Result<Self, Fault> {
        let open = |table| transaction.open_table(table).map_err(Fault::of);
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
            receipts_max,
            rollouts: open(tables::ROLLOUTS)?,
            rollout_hosts: open(tables::ROLLOUT_HOSTS)?,
            committed: Committed::default(),
        })
    }

    /// Changes something that means nothing, so that the commit has to reach the disk.
    pub(super) fn probe(&mut self) -> Result<(), Fault> {
        let last = self.meta.get(tables::META_PROBE).map_err(Fault::of)?;
        let last = last.and_then(|value| value.value().try_into().ok().map(u64::from_be_bytes)).unwrap_or(0);
        put_bytes(&mut self.meta, tables::META_PROBE, &last.wrapping_add(1).to_be_bytes())
    }

    pub(super) fn apply(&mut self, write: &Write) -> Result<(), Fault> {
        match write {
            Write::PutRoot(version, envelope) => put_bytes(&mut self.roots, &version.to_be_bytes(), envelope),
            Write::PutHead(head) => self.put_head(head),
            Write::PutAgent(id, agent) => put(&mut self.agents, "agents", &id.to_bytes(), agent.as_ref()),
            Write::ForgetAgent(id) => self.forget_agent(*id),
            Write::PutInbox(id, lane, inbox) => put(&mut self.inboxes, "inboxes", &inbox_key(*id, *lane), inbox),
            Write::PutWork(id, generation, item) => {
                put(&mut self.work, "work", &numbered_key(id.to_bytes(), *generation), item)
            }
            Write::DropWork(id, generations) => generations
                .iter()
                .try_for_each(|generation| drop_row(&mut self.work, &numbered_key(id.to_bytes(), *generation))),
            Write::PutToken(id, token) => put(&mut self.tokens, "tokens", &id.to_bytes(), token),
            Write::DropToken(id) => drop_row(&mut self.tokens, &id.to_bytes()),
            Write::PutOperator(name, operator) => {
                put(&mut self.operators, "operators", name.as_bytes(), operator.as_ref())
            }
            Write::DropOperator(name) => drop_row(&mut self.operators, name.as_bytes()),
            Write::PutRelease(release) => self.put_release(release),
            Write::DropRelease(name, counter) => drop_row(&mut self.releases, &release_key(name, *counter)),
            Write::PutAgentRelease(row) => {
                let stored = AgentReleaseRow { envelope: row.envelope.clone(), signers: row.signers.clone() };
                put(&mut self.agent_releases, "agent_releases", &row.release.counter.to_be_bytes(), &stored)
            }
            Write::DropAgentRelease(counter) => drop_row(&mut self.agent_releases, &counter.to_be_bytes()),
            Write::PutRun(id, run) => self.put_run(*id, run),
            Write::PutJob(run, agent, update) => self.put_job(*run, *agent, update),
            Write::Append(agent, record) => self.append(*agent, record),
            Write::ForgetRun(run) => self.forget(*run),
            Write::PutReceipt(receipt) => {
                self.committed.receipts += u64::from(self.chain().put(receipt)?);
                Ok(())
            }
            Write::PutRollout(id, rollout) => put(&mut self.rollouts, "rollouts", &id.to_bytes(), rollout),
            Write::PutRolloutHost(id, agent, host) => {
                put(&mut self.rollout_hosts, "rollout_hosts", &rollout_host_key(*id, *agent), host)
            }
            Write::DropRolloutHosts(id, agents) => {
                agents.iter().try_for_each(|agent| drop_row(&mut self.rollout_hosts, &rollout_host_key(*id, *agent)))
            }
            Write::DropRollout(id) => {
                drop_row(&mut self.rollouts, &id.to_bytes())?;
                drop_all::<32>(&mut self.rollout_hosts, &id.to_bytes())
            }
        }
    }

    const fn chain(&mut self) -> ChainTables<'_, 't> {
        ChainTables {
            meta: &mut self.meta,
            jobs: &mut self.jobs,
            receipts: &mut self.receipts,
            receipt_of: &mut self.receipt_of,
            max: self.receipts_max,
        }
    }

    fn put_head(&mut self, head: &HeadRow) -> Result<(), Fault> {
        put_bytes(&mut self.heads, &head.version.to_be_bytes(), &head.payload)?;
        let before = self.meta.get(tables::META_HEADS).map_err(Fault::of)?;
        let before =
            before.map(|row| codec::decode::<HeadEnds>(row.value())).transpose().map_err(Fault::row("meta"))?;
        let mut ends = HeadEnds { newest: Some(head.reference()), ..before.unwrap_or_default() };
        if tables::HEADS_MAX < self.heads.len().map_err(Fault::of)?
            && let Some((key, payload)) = self.heads.pop_first().map_err(Fault::of)?
        {
            let version = number_of(key.value()).map_err(Fault::row("heads"))?;
            ends.dropped = Some(HeadRow { version, payload: payload.value().to_vec() }.reference());
        }
        put(&mut self.meta, "meta", tables::META_HEADS, &ends)
    }

    fn put_release(&mut self, release: &Release) -> Result<(), Fault> {
        let row = ReleaseRow {
            envelope: release.envelope.clone(),
            size: release.size,
            workflows: release.workflows.clone(),
            signers: release.signers.clone(),
        };
        let key = release_key(&release.metadata.name, release.metadata.counter);
        put(&mut self.releases, "releases", &key, &row)
    }

    fn put_run(&mut self, id: RunId, run: &Run) -> Result<(), Fault> {
        let key = id.to_bytes();
        let row = Run { values: String::new(), ..run.clone() };
        put(&mut self.runs, "runs", &key, &row)?;
        put(&mut self.values, "values", &key, &run.values)?;
        if run.ended.is_some() {
            put_bytes(&mut self.ended, &key, &[])?;
        }
        if self.tallies.get(key.as_slice()).map_err(Fault::of)?.is_none() {
            put(&mut self.tallies, "tallies", &key, &Tally::default())?;
        }
        Ok(())
    }

    fn put_job(&mut self, run: RunId, agent: AgentId, update: &JobUpdate) -> Result<(), Fault> {
        // A run that was forgotten has no tally.
        let Some(tally) = self.tally(run)? else { return Ok(()) };
        let key = job_key(run, agent);
        let before = self.jobs.get(key.as_slice()).map_err(Fault::of)?;
        let before = before.map(|row| codec::decode::<JobRow>(row.value())).transpose().map_err(Fault::row("jobs"))?;
        let before = before.map(|row| row.job.state);
        if self.ended.get(run.to_bytes().as_slice()).map_err(Fault::of)?.is_some() {
            // Who was never given the run has nothing to say of it, and what has ended does not begin again.
            let counts = before.is_some_and(|before| !before.is_final() || update.job.state.is_final());
            if !counts {
                return Ok(());
            }
        }
        let row = JobRow { job: update.job, end: update.end.clone() };
        put(&mut self.jobs, "jobs", &key, &row)?;
        put(&mut self.tallies, "tallies", &run.to_bytes(), &tally.moved(before, update.job.state))
    }

    fn append(&mut self, agent: AgentId, record: &Record) -> Result<(), Fault> {
        let run = record.run;
        if self.jobs.get(job_key(run, agent).as_slice()).map_err(Fault::of)?.is_none() {
            return Ok(());
        }
        let number = self.last_event(run)? + 1;
        if matches!(record.body, RecordBody::TaskEnded(_)) {
            put_bytes(&mut self.task_ends, &task_key(run, agent, number), &[])?;
        }
        let row = EventRow { agent, record: record.clone() };
        put(&mut self.events, "events", &numbered_key(run.to_bytes(), number), &row)
    }

    fn forget_agent(&mut self, id: AgentId) -> Result<(), Fault> {
        drop_row(&mut self.agents, &id.to_bytes())?;
        drop_all::<17>(&mut self.inboxes, &id.to_bytes())?;
        drop_all::<24>(&mut self.work, &id.to_bytes())
    }

    fn forget(&mut self, run: RunId) -> Result<(), Fault> {
        let id = run.to_bytes();
        for table in [&mut self.runs, &mut self.values, &mut self.tallies, &mut self.ended] {
            drop_row(table, &id)?;
        }
        drop_all::<32>(&mut self.jobs, &id)?;
        drop_all::<24>(&mut self.events, &id)?;
        drop_all::<40>(&mut self.task_ends, &id)
    }

    fn tally(&self, run: RunId) -> Result<Option<Tally>, Fault> {
        let row = self.tallies.get(run.to_bytes().as_slice()).map_err(Fault::of)?;
        row.map(|row| codec::decode(row.value())).transpose().map_err(Fault::row("tallies"))
    }

    fn last_event(&self, run: RunId) -> Result<u64, Fault> {
        let range = beginning_with::<24>(&run.to_bytes());
        let mut range = self.events.range(range.start().as_slice()..=range.end().as_slice()).map_err(Fault::of)?;
        let Some(last) = range.next_back() else { return Ok(0) };
        let (key, _) = last.map_err(Fault::of)?;
        split_id(key.value()).and_then(|(_, number)| number_of(number)).map_err(Fault::row("events"))
    }
}

pub(super) fn put<T: Serialize>(table: &mut Bytes<'_>, name: &'static str, key: &[u8], value: &T) -> Result<(), Fault> {
    let bytes = codec::encode(value).map_err(Fault::row(name))?;
    put_bytes(table, key, &bytes)
}

pub(super) fn put_bytes(table: &mut Bytes<'_>, key: &[u8], value: &[u8]) -> Result<(), Fault> {
    table.insert(key, value).map_err(Fault::of)?;
    Ok(())
}

pub(super) fn drop_row(table: &mut Bytes<'_>, key: &[u8]) -> Result<(), Fault> {
    table.remove(key).map_err(Fault::of)?;
    Ok(())
}

fn drop_all<const N: usize>(table: &mut Bytes<'_>, prefix: &[u8]) -> Result<(), Fault> {
    let range = beginning_with::<N>(prefix);
    table.retain_in(range.start().as_slice()..=range.end().as_slice(), |_, _| false).map_err(Fault::of)
}
