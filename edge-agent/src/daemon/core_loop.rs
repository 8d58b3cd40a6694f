//! The loop: event, machine, commit, effects.

use std::{pin::pin, sync::Arc};

use sloth_core::{Chain, Millis, RunId, backoff::full_jitter};
use sloth_protocol::{
    agent::{Agent, Effect, Event, Output, StopReason, Write},
    update::FromDaemon,
    wire::AgentResponse,
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    DaemonError, Shared, Status,
    fetch::Fetcher,
    link::Link,
    local_socket::Question,
    notes, updates,
    workers::{Told, Workers},
};
use crate::{enrolment, store::StoreError, trim::trim, worker::random};

/// Most events that wait for the loop; who has more waits too.
const EVENTS_MAX: usize = 256;
/// Most events whose writes are committed together.
const EVENTS_MERGED_MAX: usize = 128;
/// Longest sleep: a host that was suspended wakes with timers that did not run.
const SLEEP_MAX: Millis = Millis::from_secs(60);
/// The span from which the first wait after a failed commit is drawn.
const COMMIT_RETRY_BASE: Millis = Millis::from_secs(1);
/// Longest wait after a failed commit.
const COMMIT_RETRY_CAP: Millis = Millis::from_secs(60);
/// How often it is looked what the supervisor has to say, at most.
const OUTCOME_STEP: Millis = Millis::from_secs(1);
/// How often a supervisor hears that all is well, at most.
const ALIVE_STEP: Millis = Millis::from_secs(10);
/// How long after something happened what was needed for it is let go of.
const TRIM_WAIT: Millis = Millis::from_secs(5);
/// A machine that lived so long starts the waits anew.
const HEALTHY: Millis = Millis::from_secs(300);

/// Works until `stop` resolves.
///
/// # Errors
///
/// When the machine cannot be restored at all.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut questions: mpsc::Receiver<Question>,
    stop: impl Future<Output = ()>,
) -> Result<(), DaemonError> {
    let mut stop = pin!(stop);
    let supervisor = Arc::clone(&shared);
    let mut to_end = pin!(supervisor.is_to_end());
    let mut is_ending = false;
    let mut attempts = 0;
    loop {
        let born = shared.clock.steady();
        let error = match Life::begin(&shared).await {
            Ok(mut life) => {
                shared.say(FromDaemon::Ready);
                let lived = life.live(&mut questions, &mut stop, &mut to_end, &mut is_ending).await;
                life.end().await;
                match lived {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                }
            }
            Err(DaemonError::Store(error)) => error,
            Err(error) => return Err(error),
        };
        if HEALTHY <= shared.clock.steady().since(born) {
            attempts = 0;
        }
        let problem = Chain(&error).to_string();
        tracing::error!(error = %problem, "the disk cannot be written: no work is taken on until it can");
        let wait = full_jitter(attempts, COMMIT_RETRY_BASE, COMMIT_RETRY_CAP, seed()).max(COMMIT_RETRY_BASE);
        attempts = attempts.saturating_add(1);
        let until = Instant::now() + wait.as_duration();
        loop {
            tokio::select! {
                () = &mut stop => return Ok(()),
                () = tokio::time::sleep_until(until) => break,
                () = &mut to_end, if !is_ending => return Ok(()),
                Some(question) = questions.recv() => {
                    // Who asked may have gone.
                    let _ = question.send(Status::without_machine(&shared, problem.clone()));
                }
            }
        }
    }
}

/// Writes a trust root that was taken on where commands of this host find it.
fn keep_newest_root(shared: &Shared, envelope: &[u8]) {
    if let Err(error) = enrolment::store_newest_root(&shared.paths, envelope) {
        tracing::warn!(error = %Chain(&error), "`self-update` goes on with the trust root before");
    }
}

fn seed() -> u64 {
    let [_, _, _, _, _, _, _, _, low @ ..] = random().to_be_bytes();
    u64::from_be_bytes(low)
}

/// The life of one machine.
struct Life {
    shared: Arc<Shared>,
    machine: Agent,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    link: Link,
    fetcher: Fetcher,
    workers: Workers,
    wake_at: Option<Millis>,
    /// Why the connection was lost, or could not be made, last.
    disconnected: String,
    /// When the supervisor heard last that all is well.
    said_at: Option<Millis>,
    /// When it was last looked what the supervisor has to say.
    heard_at: Option<Millis>,
    /// When memory that is not needed is let go of.
    trim_at: Option<Millis>,
}

impl Life {
    async fn begin(shared: &Arc<Shared>) -> Result<Self, DaemonError> {
        let durable = shared.store.load().await?;
        let now = shared.clock.steady();
        if let Some(root) = &durable.root {
            keep_newest_root(shared, root);
        }
        let machine = Agent::restore(shared.machine_config(), durable, now, seed())?;
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let link = Link::new(Arc::clone(shared), sender.clone());
        let fetcher = Fetcher::new(Arc::clone(shared), link.clone(), sender.clone());
        let workers = Workers::new(Arc::clone(shared), sender.clone());
        let shared = Arc::clone(shared);
        let disconnected = "not connected yet".to_owned();
        Ok(Self {
            shared,
            machine,
            events,
            sender,
            link,
            fetcher,
            workers,
            wake_at: Some(now),
            disconnected,
            said_at: None,
            heard_at: None,
            trim_at: Some(now + TRIM_WAIT),
        })
    }

    /// Works until `stop` resolves, or all work is done after `to_end` has, or the disk fails. `is_ending` says whether
    /// `to_end` has resolved.
    async fn live(
        &mut self,
        questions: &mut mpsc::Receiver<Question>,
        mut stop: impl Future<Output = ()> + Unpin,
        mut to_end: impl Future<Output = ()> + Unpin,
        is_ending: &mut bool,
    ) -> Result<(), StoreError> {
        if *is_ending {
            self.machine.begin_nothing();
        }
        self.take(Event::Wake).await?;
        loop {
            if *is_ending && self.machine.is_idle() {
                return Ok(());
            }
            self.say_alive();
            self.hear_supervisor().await?;
            let sleep = tokio::time::sleep(self.sleep().as_duration());
            tokio::select! {
                () = &mut stop => return Ok(()),
                () = &mut to_end, if !*is_ending => {
                    tracing::info!("asked to end: what runs is waited for, and nothing is begun");
                    *is_ending = true;
                    self.machine.begin_nothing();
                }
                Some(event) = self.events.recv() => {
                    self.take(event).await?;
                    self.trim_later();
                }
                () = sleep => {
                    self.trim();
                    if self.wake_at.is_some_and(|at| at <= self.shared.clock.steady()) {
                        self.take(Event::Wake).await?;
                        self.trim_later();
                    }
                }
                Some(question) = questions.recv() => {
                    // Who asked may have gone.
                    let _ = question.send(self.status());
                }
            }
        }
    }

    /// Ends all that was begun for the machine.
    async fn end(self) {
        let Self { link, workers, fetcher, events, sender, .. } = self;
        drop(sender);
        // Nobody hears them any more; who waits for room must not wait for ever.
        drop(events);
        fetcher.end();
        tokio::join!(workers.end(), link.end());
    }

    /// Tells the supervisor now and then that this loop still turns.
    fn say_alive(&mut self) {
        let now = self.shared.clock.steady();
        if self.said_at.is_none_or(|at| ALIVE_STEP <= now.since(at)) {
            self.said_at = Some(now);
            self.shared.say(FromDaemon::Alive);
        }
    }

    /// Takes in what the supervisor has to say of updates, now and then.
    async fn hear_supervisor(&mut self) -> Result<(), StoreError> {
        let now = self.shared.clock.steady();
        if self.shared.supervised.is_none() || self.heard_at.is_some_and(|at| now.since(at) < OUTCOME_STEP) {
            return Ok(());
        }
        self.heard_at = Some(now);
        match updates::outcome(&self.shared) {
            Some(outcome) => self.take(outcome).await,
            None => Ok(()),
        }
    }

    fn sleep(&self) -> Millis {
        let next = self.wake_at.into_iter().chain(self.trim_at).min();
        next.map_or(SLEEP_MAX, |at| at.since(self.shared.clock.steady()).min(SLEEP_MAX))
    }

    fn trim_later(&mut self) {
        self.trim_at.get_or_insert(self.shared.clock.steady() + TRIM_WAIT);
    }

    /// Lets go of what is not needed while nothing happens, if it is time.
    fn trim(&mut self) {
        let now = self.shared.clock.steady();
        if self.trim_at.take_if(|at| *at <= now).is_some() && self.machine.is_idle() {
            trim();
        }
    }

    /// Takes in `event` and what has queued up behind it, commits all that the machine writes, and then does all that
    /// it says, in order.
    async fn take(&mut self, event: Event) -> Result<(), StoreError> {
        let mut merged = Output::default();
        self.handle(event, &mut merged);
        for _ in 1..EVENTS_MERGED_MAX {
            match self.events.try_recv() {
                Ok(event) => self.handle(event, &mut merged),
                Err(_) => break,
            }
        }
        let newest_root = merged
            .writes
            .iter()
            .rev()
            .find_map(|write| if let Write::PutRoot(envelope) = write { Some(envelope.clone()) } else { None });
        if !merged.writes.is_empty() {
            self.shared.store.commit(merged.writes).await?;
        }
        if let Some(envelope) = newest_root {
            keep_newest_root(&self.shared, &envelope);
        }
        for effect in merged.effects {
            self.carry_out(effect);
        }
        Ok(())
    }

    fn handle(&mut self, event: Event, merged: &mut Output) {
        self.hear(&event);
        let now = self.shared.clock.steady();
        self.machine.hear_clock(now, self.shared.clock.wall());
        if matches!(event, Event::Answered { .. } | Event::UpdateReady { .. }) {
            self.machine.hear_update_rules(updates::rules(&self.shared));
        }
        let Output { writes, effects, wake_at } = self.machine.handle(now, event);
        merged.writes.extend(writes);
        merged.effects.extend(effects);
        self.wake_at = wake_at;
    }

    /// What the driver itself learns from an event.
    fn hear(&mut self, event: &Event) {
        match event {
            Event::Disconnected { link, reason } => {
                if self.machine.is_connected() {
                    self.shared.say(FromDaemon::Lost);
                }
                tracing::info!(link, %reason, "not connected");
                self.disconnected.clone_from(reason);
            }
            Event::Revoked { link } => {
                tracing::debug!(link, "the identity was withdrawn");
                "the agent's identity was withdrawn: enrol it again with a new join token"
                    .clone_into(&mut self.disconnected);
            }
            Event::Connected { link } => tracing::info!(link, "connected"),
            Event::WorkerDied { run, how } => {
                tracing::warn!(%run, %how, "the worker is gone before its run ended");
                self.workers.forget(*run);
            }
            Event::RunEnded { run, .. } => self.workers.forget(*run),
            Event::TaskStarting { run, task, attempt, .. } => tracing::debug!(%run, %task, attempt, "task begins"),
            Event::TaskEnded { run, end } => {
                tracing::debug!(%run, task = %end.task, status = ?end.status, "task ended");
            }
            Event::Fetched { run, result: Err(error) } => tracing::warn!(%run, ?error, "the bundle is not there"),
            Event::Fetched { run, result: Ok(()) } => tracing::debug!(%run, "the bundle is there"),
            Event::Answered { response: AgentResponse::Work(_), .. } => self.shared.say(FromDaemon::Polled),
            Event::UpdateReady { result: Err(error), .. } => tracing::warn!(?error, "the update is not there"),
            Event::UpdateReady { result: Ok(()), counter } => tracing::info!(counter, "the update is on the disk"),
            Event::Wake
            | Event::Answered { .. }
            | Event::Renewed { .. }
            | Event::Logged { .. }
            | Event::UpdateFailed { .. }
            | Event::UpdateOutcome(_) => {}
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Connect { link } => self.link.connect(link, self.machine.not_before()),
            Effect::Disconnect => self.link.disconnect(),
            Effect::Ask { ticket, ask } => self.link.ask(ticket, ask),
            Effect::Fetch { run, manifest, manifest_bytes } => self.fetcher.fetch(run, manifest, manifest_bytes),
            Effect::Start(start) => self.workers.start(*start),
            Effect::Go { run, task } => self.workers.tell(run, Told::Go(task)),
            Effect::Noted { run, task } => self.workers.tell(run, Told::Noted(task)),
            Effect::Stop { run, why } => self.stop(run, why),
            Effect::Forget { run } => {
                self.fetcher.forget(run);
                self.workers.remove(run);
            }
            Effect::Note(note) => notes::log(&note),
            Effect::Stage(update) => self.fetcher.stage(*update),
            Effect::Switch { counter, version } => updates::switch(&self.shared, &self.sender, counter, version),
            Effect::ForgetUpdate { counter } => self.fetcher.forget_update(counter),
            Effect::UpdateNoted { number } => updates::acknowledge(&self.shared, number),
        }
    }

    fn stop(&mut self, run: RunId, why: StopReason) {
        tracing::info!(%run, ?why, "stopping the run");
        self.workers.tell(run, Told::Stop);
    }

    fn status(&self) -> Status {
        let connected = self.machine.is_connected();
        let problem = if connected { String::new() } else { self.disconnected.clone() };
        Status { connected, ..Status::without_machine(&self.shared, problem).with(self.machine.durable()) }
    }
}
