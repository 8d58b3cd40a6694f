//! The task that owns the machine: it takes in what happened, commits, and then answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use quinn::Connection;
use sloth_core::{Chain, Clock, Millis, backoff::full_jitter};
use sloth_protocol::{
    coordinator::{Answer, Ask, CloseReason, ConnId, Coordinator, Event, Output, Settings, Ticket, Write},
    random::Random,
    wire::{JobState, Lane, Record, Refusal},
};
use sloth_transport::CloseCode;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{
    core_handle::{Inlets, Message, Replier, going_down},
    follow::Followers,
};
use crate::{
    events::{self, CopyFound, Counted, ReceiptsRejected, Recovered, RolloutMoved, Standing},
    store::{CommitError, StoreHandle},
};

/// Most events that one commit carries.
const BATCH_EVENTS_MAX: usize = 512;
/// Most of them that are operators', so that agents get their turn.
const BATCH_COMMANDS_MAX: usize = 64;
/// Bytes of records that were reported after which a batch takes no further event.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest sleep: the wall clock may be set in the meantime.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// A clock that is set back by more was wrong before; by less, it is waited for.
const SET_BACK_MAX: Millis = Millis::from_secs(60);
/// How often in a row the disk may refuse before the coordinator gives up.
const COMMIT_FAILURES_MAX: u32 = 12;
/// How long after the first refusal the disk is tried again.
const RECOVERY_BASE: Millis = Millis::from_secs(1);
/// And at most after the later ones.
const RECOVERY_CAP: Millis = Millis::from_secs(30);

/// The machine and whom its answers go to.
pub(super) struct Core {
    clock: Arc<Clock>,
    store: StoreHandle,
    followers: Arc<Followers>,
    inlets: Inlets,
    random: Random,
    settings: Settings,
    machine: Coordinator,
    wake_at: Option<Millis>,
    next_ticket: Ticket,
    waiting: BTreeMap<Ticket, Waiting>,
    connections: BTreeMap<ConnId, Link>,
    /// Operators' connections, by name. Those that are closed go when the next one comes.
    operators: Vec<(String, Connection)>,
    failures: u32,
}

/// Why the task ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// What is on the disk is not what a machine can be made of.
    #[error("cannot go on from the store: {refusal}")]
    Restore {
        /// Why.
        refusal: Refusal,
    },
    /// The disk cannot be read.
    #[error("cannot load the store")]
    Load {
        /// Why.
        source: CommitError,
    },
    /// The disk refuses to be written to.
    #[error("the store refused {failures} commits in a row: free space on its disk, or mend it, and start again")]
    Disk {
        /// How many.
        failures: u32,
        /// The last reason.
        source: CommitError,
    },
}

/// A request whose answer is to come.
struct Waiting {
    reply: Replier,
    conn: Option<ConnId>,
    /// Held until the answer, so that what waits for the disk is bounded.
    _room: Option<OwnedSemaphorePermit>,
}

struct Link {
    connection: Connection,
    tickets: BTreeSet<Ticket>,
}

/// What the events of one batch came to.
#[derive(Default)]
struct Batch {
    output: Output,
    events: usize,
    commands: usize,
    bytes: usize,
    standings: Vec<tokio::sync::oneshot::Sender<Standing>>,
}

impl Core {
    pub(super) async fn restore(
        clock: Arc<Clock>,
        store: StoreHandle,
        followers: Arc<Followers>,
        inlets: Inlets,
        settings: Settings,
        seed: u64,
    ) -> Result<Self, CoreError> {
        let mut random = Random::new(seed);
        let machine = load(&clock, &store, settings, &mut random).await?;
        Ok(Self {
            clock,
            store,
            followers,
            inlets,
            random,
            settings,
            machine,
            wake_at: Some(Millis::ZERO),
            next_ticket: 1,
            waiting: BTreeMap::new(),
            connections: BTreeMap::new(),
            operators: Vec::new(),
            failures: 0,
        })
    }

    /// What the machine was restored from.
    pub(super) const fn machine(&self) -> &Coordinator {
        &self.machine
    }

    /// Runs until `stop` says so.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), CoreError> {
        loop {
            if SET_BACK_MAX < self.clock.ahead() {
                self.follow_back().await?;
            }
            let mut batch = Batch::default();
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                Some(message) = self.inlets.operators.recv() => self.take(message, &mut batch),
                Some(message) = self.inlets.agents.recv() => self.take(message, &mut batch),
                () = sleep(self.wake_at, self.clock.now()) => self.handle(Event::Wake, &mut batch),
            }
            while let Some(message) = self.next_waiting(&batch) {
                self.take(message, &mut batch);
            }
            self.finish(batch).await?;
        }
    }

    /// A message that waits already, if this batch still takes one.
    fn next_waiting(&mut self, batch: &Batch) -> Option<Message> {
        if BATCH_EVENTS_MAX <= batch.events || BATCH_BYTES_MAX <= batch.bytes {
            return None;
        }
        if batch.commands < BATCH_COMMANDS_MAX
            && let Ok(message) = self.inlets.operators.try_recv()
        {
            return Some(message);
        }
        self.inlets.agents.try_recv().ok()
    }

    fn take(&mut self, message: Message, batch: &mut Batch) {
        match message {
            Message::Connected { conn, agent, connection } => {
                self.connections.insert(conn, Link { connection, tickets: BTreeSet::new() });
                self.handle(Event::Connected { conn, agent }, batch);
            }
            Message::Closed { conn } => {
                let link = self.connections.remove(&conn);
                for ticket in link.into_iter().flat_map(|link| link.tickets) {
                    self.waiting.remove(&ticket);
                }
                self.handle(Event::Closed { conn }, batch);
            }
            Message::Asked { conn, ask, reply, room } => {
                let ticket = self.wait(reply, Some(conn), room);
                self.handle(Event::Asked { conn, ticket, ask }, batch);
            }
            Message::Enroll { enroll, reply } => {
                let ticket = self.wait(reply, None, None);
                self.handle(Event::Enroll { ticket, enroll }, batch);
            }
            Message::Command { operator, command, reply } => {
                batch.commands += 1;
                let ticket = self.wait(reply, None, None);
                self.handle(Event::Command { ticket, operator, command }, batch);
            }
            Message::Operator { name, connection } => {
                self.operators.retain(|(_, connection)| connection.close_reason().is_none());
                self.operators.push((name, connection));
            }
            Message::Standing { reply } => batch.standings.push(reply),
        }
    }

    fn handle(&mut self, event: Event, batch: &mut Batch) {
        batch.events += 1;
        batch.bytes = batch.bytes.saturating_add(reported(&event));
        let mut output = self.machine.handle(self.clock.now(), event);
        batch.output.writes.append(&mut output.writes);
        batch.output.answers.append(&mut output.answers);
        batch.output.closes.append(&mut output.closes);
        batch.output.withdrawn.append(&mut output.withdrawn);
        batch.output.rejected.append(&mut output.rejected);
        batch.output.touched.append(&mut output.touched);
        batch.output.notes.append(&mut output.notes);
        batch.output.copies.append(&mut output.copies);
        self.wake_at = output.wake_at;
    }

    /// Commits what a batch changed, and only then tells anybody of it.
    async fn finish(&mut self, batch: Batch) -> Result<(), CoreError> {
        let Output { writes, answers, closes, withdrawn, rejected, touched, notes, copies, wake_at: _ } = batch.output;
        if !writes.is_empty() {
            let counted = Lane::ALL.map(|lane| Counted { lane, records: count(&writes, lane) });
            if let Err(error) = self.store.commit(writes).await {
                return self.recover(error).await;
            }
            self.failures = 0;
            counted.iter().filter(|counted| 0 < counted.records).for_each(Counted::emit);
        }
        for (ticket, answer) in answers {
            self.answer(ticket, answer);
        }
        for (conn, reason) in closes {
            if let Some(link) = self.connections.get(&conn) {
                close_code(reason).close(&link.connection);
            }
        }
        if !withdrawn.is_empty() {
            for (_, connection) in self.operators.iter().filter(|(name, _)| withdrawn.contains(name)) {
                CloseCode::Revoked.close(connection);
            }
        }
        rejected.iter().for_each(|rejected| ReceiptsRejected { rejected }.emit());
        self.followers.wake(&touched);
        notes.iter().for_each(|note| RolloutMoved { note }.emit());
        copies.iter().for_each(|note| CopyFound { note }.emit());
        for reply in batch.standings {
            let _ = reply.send(self.standing());
        }
        Ok(())
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        let Some(waiting) = self.waiting.remove(&ticket) else { return };
        if let Some(link) = waiting.conn.and_then(|conn| self.connections.get_mut(&conn)) {
            link.tickets.remove(&ticket);
        }
        // Who asked may be gone; whatever was changed, asking again finds it so.
        let _ = waiting.reply.send(answer);
    }

    fn wait(&mut self, reply: Replier, conn: Option<ConnId>, room: Option<OwnedSemaphorePermit>) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        if let Some(link) = conn.and_then(|conn| self.connections.get_mut(&conn)) {
            link.tickets.insert(ticket);
        }
        self.waiting.insert(ticket, Waiting { reply, conn, _room: room });
        ticket
    }

    /// The clock was ahead and is right again. The machine, whose time never goes back, is made anew of what the disk
    /// holds: what it said in the future ends with its next head, and agents come back by themselves.
    async fn follow_back(&mut self) -> Result<(), CoreError> {
        let by_seconds = self.clock.ahead().as_u64() / 1000;
        tracing::warn!(by_seconds, "the clock was set back: the coordinator goes on from what is on its disk");
        self.let_go();
        self.clock.follow_back();
        self.machine = load(&self.clock, &self.store, self.settings, &mut self.random).await?;
        self.wake_at = Some(Millis::ZERO);
        Ok(())
    }

    /// Whether the changes of a failed commit are on the disk cannot be known, so the machine that believes in them
    /// goes, and another one is made of what the disk holds. Agents and operators come back by themselves.
    async fn recover(&mut self, error: CommitError) -> Result<(), CoreError> {
        let mut error = error;
        loop {
            self.failures += 1;
            let failures = self.failures;
            events::CommitFailed { error: &Chain(&error).to_string(), failures }.emit();
            self.let_go();
            if COMMIT_FAILURES_MAX <= failures {
                return Err(CoreError::Disk { failures, source: error });
            }
            let wait = full_jitter(failures - 1, RECOVERY_BASE, RECOVERY_CAP, self.random.next_u64());
            self.refuse_for(wait.max(RECOVERY_BASE)).await;
            error = match self.reopen().await {
                Ok(machine) => {
                    self.machine = machine;
                    self.wake_at = Some(Millis::ZERO);
                    Recovered { failures }.emit();
                    return Ok(());
                }
                Err(CoreError::Load { source } | CoreError::Disk { source, .. }) => source,
                Err(error @ CoreError::Restore { .. }) => return Err(error),
            };
        }
    }

    async fn reopen(&mut self) -> Result<Coordinator, CoreError> {
        let of_store = |source| CoreError::Load { source };
        self.store.with(|store| store.reopen()).await.map_err(of_store)?;
        self.store.probe().await.map_err(of_store)?;
        load(&self.clock, &self.store, self.settings, &mut self.random).await
    }

    /// Tells everybody who waits to ask again, and every agent to connect again.
    fn let_go(&mut self) {
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            let _ = waiting.reply.send(Answer::Refused(going_down()));
        }
        for (_, link) in std::mem::take(&mut self.connections) {
            CloseCode::Shutdown.close(&link.connection);
        }
    }

    /// Refuses everything for a while.
    async fn refuse_for(&mut self, wait: Millis) {
        let until = tokio::time::Instant::now() + wait.as_duration();
        loop {
            let message = tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                Some(message) = self.inlets.operators.recv() => message,
                Some(message) = self.inlets.agents.recv() => message,
            };
            match message {
                Message::Connected { connection, .. } => CloseCode::Shutdown.close(&connection),
                Message::Asked { reply, .. } | Message::Enroll { reply, .. } | Message::Command { reply, .. } => {
                    let _ = reply.send(Answer::Refused(going_down()));
                }
                // It is to be found when it is withdrawn, whatever the disk does meanwhile.
                Message::Operator { name, connection } => self.operators.push((name, connection)),
                Message::Closed { .. } | Message::Standing { .. } => {}
            }
        }
    }

    fn standing(&self) -> Standing {
        let state = self.machine.durable();
        let now = self.clock.now();
        // Every state is told, so that one that nobody is in any more goes down to zero.
        let mut jobs: BTreeMap<JobState, usize> = JobState::ALL.map(|state| (state, 0)).into();
        for job in state.jobs.values().flat_map(BTreeMap::values) {
            *jobs.entry(job.state).or_default() += 1;
        }
        let newest = state.bundles.iter().filter_map(|(name, releases)| Some((name, releases.values().next_back()?)));
        Standing {
            agents_enrolled: state.agents.values().filter(|agent| !agent.revoked).count(),
            agents_connected: self.machine.connected(),
            polls_held: self.waiting.len(),
            runs_active: state.runs.len(),
            jobs: jobs.into_iter().collect(),
            rollouts: self.machine.rollout_summaries(),
            root: self.machine.root().map(|root| left(root.expires, now)),
            head: self.machine.head_expires().map(|expires| left(expires, now)),
            bundles: newest.map(|(name, release)| (name.to_string(), left(release.metadata.expires, now))).collect(),
        }
    }
}

async fn load(
    clock: &Clock,
    store: &StoreHandle,
    settings: Settings,
    random: &mut Random,
) -> Result<Coordinator, CoreError> {
    let state = store.with(|store| store.load()).await.map_err(|source| CoreError::Load { source })?;
    Coordinator::restore(state, settings, clock.now(), random.next_u64())
        .map_err(|refusal| CoreError::Restore { refusal })
}

async fn sleep(until: Option<Millis>, now: Millis) {
    let wait = until.map_or(SLEEP_MAX, |until| until.since(now).as_duration());
    tokio::time::sleep(wait.min(SLEEP_MAX)).await;
}

const fn close_code(reason: CloseReason) -> CloseCode {
    match reason {
        CloseReason::Revoked => CloseCode::Revoked,
        CloseReason::Superseded => CloseCode::Superseded,
    }
}

fn count(writes: &[Write], lane: Lane) -> u64 {
    let records = writes.iter().filter_map(appended).filter(|record| record.body.lane() == lane).count();
    u64::try_from(records).unwrap_or(u64::MAX)
}

/// Bytes of the records that an event brings, whatever is made of them: events, ends of jobs, receipts.
pub(super) fn reported(event: &Event) -> usize {
    let Event::Asked { ask: Ask::Report(report), .. } = event else { return 0 };
    report.records().iter().map(Record::weight).sum()
}

fn appended(write: &Write) -> Option<&Record> {
    if let Write::Append(_, record) = write { Some(record) } else { None }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a century are far below 2^52")]
fn left(expires: Millis, now: Millis) -> f64 {
    (expires.as_u64() as f64 - now.as_u64() as f64) / 1000.0
}
