//! Jobs: from an order to its end.

use std::collections::BTreeMap;

use sloth_core::{Millis, RunId, backoff::full_jitter, error::Chain, labels::Subject};
use sloth_trust::{Assignment, BundleMetadata, Envelope, Inclusion, Refusal, Seen, Trigger};

use super::{
    Effect, FETCH_RETRY_BASE, FETCH_RETRY_CAP, FetchError, GENERATION_STEP_MAX, JOBS_MAX, Job, Note, STOP_PATIENCE,
    Stage, Start, StopReason, TaskState, WORKER_STARTS_MAX, Write, machine::Agent, receipts::About,
};
use crate::wire::{
    LogStream, NUMBER_MAX, OnInterrupt, Order, RecordBody, RunEnd, RunOrder, RunOutcome, TaskEnd, TaskName, TaskStatus,
    WorkItem,
};

/// What of a job is not durable: where its bundle and its worker are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Live {
    /// Nothing was done for it since the start.
    New,
    /// Its bundle is being brought in.
    Fetching { attempts: u32 },
    /// Its bundle will be asked for again.
    FetchLater { at: Millis, attempts: u32 },
    /// Its bundle is there; it waits for its turn.
    Ready,
    /// Its worker runs.
    Running,
    /// Its worker was told to stop; it counts as stopped at `until`, whatever it says.
    Stopping { why: StopReason, until: Millis },
}

/// What was checked of the bundle of an order.
struct Accepted {
    metadata: BundleMetadata,
    seen: Seen,
}

impl Agent {
    /// Takes on an order unless it was dealt with before.
    ///
    /// # Errors
    ///
    /// Why it is left as if it had not come: nobody who may assign work said so. It will be given again, and what
    /// anybody else says changes nothing.
    pub(super) fn take_order(&mut self, item: WorkItem) -> Result<(), String> {
        let (generation, accepted) = (item.generation, self.state.accepted);
        if generation <= accepted || NUMBER_MAX < generation {
            self.note(Note::Stale { generation, accepted });
            return Ok(());
        }
        if accepted.saturating_add(GENERATION_STEP_MAX) < generation {
            return Err(format!("order {generation} came after order {accepted}, which is too far ahead"));
        }
        match item.order {
            Order::Run(order) => self.take_run(generation, &order)?,
            Order::Update(order) => self.take_update(generation, &order)?,
            Order::Cancel { run } => self.cancel(run),
            Order::CancelUpdate { counter } => self.cancel_update(counter),
        }
        self.write(Write::Accepted(generation));
        Ok(())
    }

    /// How many more jobs the agent would take.
    pub(super) fn room(&self) -> u32 {
        u32::try_from(JOBS_MAX.saturating_sub(self.state.jobs.len())).unwrap_or(0)
    }

    pub(super) fn fetched(&mut self, run: RunId, result: Result<(), FetchError>) {
        let Some(Live::Fetching { attempts }) = self.live.get(&run) else { return };
        let attempts = *attempts;
        match result {
            Ok(()) => self.set_live(run, Live::Ready),
            Err(FetchError::Later(_)) => {
                let wait = full_jitter(attempts, FETCH_RETRY_BASE, FETCH_RETRY_CAP, self.random.next_u64());
                self.set_live(run, Live::FetchLater { at: self.now + wait, attempts: attempts + 1 });
            }
            Err(FetchError::Never(reason)) => self.end_job(run, ended(RunOutcome::Refused, reason)),
        }
    }

    /// A connection is there: what waits for bundles may go on.
    pub(super) fn retry_fetches(&mut self) {
        for live in self.live.values_mut() {
            if let Live::FetchLater { at, .. } = live {
                *at = self.now;
            }
        }
    }

    pub(super) fn task_starting(&mut self, run: RunId, task: TaskName, attempt: u32, on_interrupt: OnInterrupt) {
        if !self.is_running(run) {
            return;
        }
        if let Some(TaskState::Ended(_)) = self.task(run, &task) {
            self.stop(run, StopReason::Misbehaved);
            return;
        }
        let state = TaskState::Started { attempt, on_interrupt, at: self.wall() };
        self.write(Write::PutTask { run, task: task.clone(), state });
        self.record(run, RecordBody::TaskStarted { task: task.clone(), attempt });
        self.effect(Effect::Go { run, task });
    }

    pub(super) fn task_ended(&mut self, run: RunId, end: TaskEnd) {
        let running = self.is_running(run) || matches!(self.live.get(&run), Some(Live::Stopping { .. }));
        if !running || matches!(self.task(run, &end.task), Some(TaskState::Ended(_))) {
            return;
        }
        let task = end.task.clone();
        self.end_task(run, end);
        if let Some(job) = self.state.jobs.get(&run)
            && job.stage != (Stage::Running { starts: 1 })
        {
            let job = Job { stage: Stage::Running { starts: 1 }, ..job.clone() };
            self.write(Write::PutJob(job));
        }
        self.effect(Effect::Noted { run, task });
    }

    pub(super) fn run_ended(&mut self, run: RunId, end: RunEnd) {
        match self.live.get(&run) {
            Some(Live::Running) => self.end_job(run, end),
            Some(Live::Stopping { why, .. }) => {
                let why = *why;
                self.end_job(run, stopped(why));
            }
            Some(Live::New | Live::Fetching { .. } | Live::FetchLater { .. } | Live::Ready) | None => {}
        }
    }

    pub(super) fn worker_died(&mut self, run: RunId, how: &str) {
        match self.live.get(&run) {
            Some(Live::Running) => {
                self.set_live(run, Live::Ready);
                if let Some(Stage::Running { starts: WORKER_STARTS_MAX.. }) = self.state.jobs.get(&run).map(|j| j.stage)
                {
                    let message = format!("its worker died {WORKER_STARTS_MAX} times without ending a task: {how}");
                    self.end_job(run, ended(RunOutcome::Failed, message));
                }
            }
            Some(Live::Stopping { why, .. }) => {
                let why = *why;
                self.end_job(run, stopped(why));
            }
            Some(Live::New | Live::Fetching { .. } | Live::FetchLater { .. } | Live::Ready) | None => {}
        }
    }

    pub(super) fn logged(&mut self, run: RunId, task: Option<TaskName>, stream: LogStream, text: String) {
        if self.state.jobs.contains_key(&run) {
            self.record(run, RecordBody::Log { task, stream, text });
        }
    }

    /// Does what is due: fetches, starts, expires, gives up on workers that do not stop.
    pub(super) fn advance_jobs(&mut self) {
        let runs: Vec<RunId> = self.live.keys().copied().collect();
        for run in runs {
            self.advance_job(run);
        }
    }

    pub(super) fn jobs_wake(&self) -> Option<Millis> {
        let time = self.deadlines_time();
        let due = self.live.iter().flat_map(|(run, live)| {
            let own = match live {
                Live::FetchLater { at, .. } => Some(*at),
                Live::Stopping { until, .. } => Some(*until),
                Live::New | Live::Fetching { .. } | Live::Ready | Live::Running => None,
            };
            let stopping = matches!(live, Live::Stopping { .. });
            let deadline =
                self.state.jobs.get(run).filter(|_| !stopping).map(|job| self.now + job.deadline.since(time));
            [own, deadline]
        });
        due.flatten().min()
    }

    fn take_run(&mut self, generation: u64, order: &RunOrder) -> Result<(), String> {
        let assigned = self.assigned(generation, order)?;
        if assigned.run != order.run {
            return Err(format!("the assignment of run `{}` came for run `{}`", assigned.run, order.run));
        }
        if self.state.jobs.contains_key(&order.run) {
            return Ok(());
        }
        match self.verify(&assigned, order) {
            Ok(accepted) => self.accept(generation, assigned, accepted),
            Err((outcome, reason)) => self.refuse(generation, &assigned, outcome, reason),
        }
        Ok(())
    }

    /// What was assigned to this agent under this number.
    fn assigned(&self, generation: u64, order: &RunOrder) -> Result<Assignment, String> {
        let against = |error: &dyn std::error::Error| format!("an assignment does not count: {}", Chain(error));
        let envelope = Envelope::decode(&order.assignment).map_err(|error| against(&error))?;
        self.trusted.assigned(&envelope, self.config.id, generation).map_err(|error| against(&error))
    }

    /// Checks the publisher's signatures, the head and the assignment; how the run ends, and why, when one is against it.
    fn verify(&self, assigned: &Assignment, order: &RunOrder) -> Result<Accepted, (RunOutcome, String)> {
        if assigned.deadline <= self.deadlines_time() {
            let reason = format!("the agent was told of it after its deadline, {}", assigned.deadline);
            return Err((RunOutcome::Expired, reason));
        }
        self.verify_order(assigned, order).map_err(|reason| (RunOutcome::Refused, reason))
    }

    fn verify_order(&self, assigned: &Assignment, order: &RunOrder) -> Result<Accepted, String> {
        if JOBS_MAX <= self.state.jobs.len() {
            return Err(format!("this agent holds {JOBS_MAX} runs already"));
        }
        let metadata = Envelope::decode(&order.metadata).map_err(|error| Chain(&error).to_string())?;
        let inclusion = Inclusion { index: order.index, path: order.path.clone() };
        let accepted = self.verify_envelope(assigned, &metadata, &inclusion);
        let accepted = accepted.map_err(|error| Chain(&error).to_string())?;
        if !accepted.metadata.triggers.contains(&Trigger::Manual) {
            return Err(format!("the signature on `{}` does not let operators start it", accepted.metadata.name));
        }
        Ok(accepted)
    }

    fn verify_envelope(
        &self,
        assigned: &Assignment,
        metadata: &Envelope,
        inclusion: &Inclusion,
    ) -> Result<Accepted, Refusal> {
        let head = self.fresh_head()?;
        let now = head.time(self.wall());
        let id = self.config.id.to_string();
        // The host's own word on its labels counts above its join token's.
        let labels = [&self.config.enrolled_labels, &self.config.host_labels];
        let subject = Subject { id: &id, name: &self.config.name, labels: &labels };
        let known = self.state.seen.get(&assigned.bundle).copied();
        let accepted = self.trusted.accept_bundle(metadata, now, known, subject)?;
        head.offers(&accepted, metadata, inclusion)?;
        assigned.fits(&accepted, self.deadlines_time())?;
        let seen = Seen::of(metadata, &accepted);
        Ok(Accepted { metadata: accepted, seen })
    }

    fn refuse(&mut self, generation: u64, assigned: &Assignment, outcome: RunOutcome, reason: String) {
        self.note(Note::Refused { run: assigned.run, reason: reason.clone() });
        let end = ended(outcome, reason).fitted();
        let basis = self.basis(generation, assigned.counter);
        let receipt = self.receipt(&About::refused(assigned, basis), &end);
        self.record(assigned.run, RecordBody::RunEnded(end));
        self.record_receipt(&receipt);
    }

    fn accept(&mut self, generation: u64, assignment: Assignment, accepted: Accepted) {
        let Accepted { metadata, seen } = accepted;
        let run = assignment.run;
        if self.state.seen.get(&metadata.name) != Some(&seen) {
            self.write(Write::Seen { bundle: metadata.name.clone(), seen });
        }
        self.note(Note::Accepted { run, bundle: metadata.name.clone() });
        self.write(Write::PutJob(Job {
            run,
            bundle: metadata.name,
            version: metadata.version,
            manifest: metadata.manifest.digest,
            manifest_bytes: metadata.manifest.length,
            capabilities: metadata.capabilities,
            workflow: assignment.workflow,
            values: serde_json::Value::Object(assignment.values).to_string(),
            basis: self.basis(generation, metadata.counter),
            begun: None,
            deadline: assignment.deadline,
            cancelled: false,
            stage: Stage::Accepted,
        }));
        self.set_live(run, Live::New);
    }

    pub(super) fn cancel(&mut self, run: RunId) {
        let Some(job) = self.state.jobs.get(&run).filter(|job| !job.cancelled) else { return };
        let job = Job { cancelled: true, ..job.clone() };
        self.write(Write::PutJob(job));
    }

    fn advance_job(&mut self, run: RunId) {
        let (Some(job), Some(live)) = (self.state.jobs.get(&run), self.live.get(&run)) else { return };
        let against = if job.cancelled {
            Some(StopReason::Cancelled)
        } else {
            (job.deadline <= self.deadlines_time()).then_some(StopReason::Expired)
        };
        match (live, against) {
            (Live::Running, Some(why)) => self.stop(run, why),
            (Live::Stopping { why, until }, _) if *until <= self.now => self.end_job(run, stopped(*why)),
            (Live::Running | Live::Stopping { .. }, _) => {}
            (Live::New | Live::Fetching { .. } | Live::FetchLater { .. } | Live::Ready, Some(why)) => {
                self.end_job(run, stopped(why));
            }
            (Live::New, None) => self.fetch(run, 0),
            (Live::FetchLater { at, attempts }, None) if *at <= self.now => self.fetch(run, *attempts),
            (Live::Ready, None) if self.running() < self.config.runs_max => self.begin(run),
            (Live::Fetching { .. } | Live::FetchLater { .. } | Live::Ready, None) => {}
        }
    }

    fn fetch(&mut self, run: RunId, attempts: u32) {
        let Some(job) = self.state.jobs.get(&run) else { return };
        let effect = Effect::Fetch { run, manifest: job.manifest, manifest_bytes: job.manifest_bytes };
        self.effect(effect);
        self.set_live(run, Live::Fetching { attempts });
    }

    /// Starts a worker, after settling what an earlier one left in the middle.
    fn begin(&mut self, run: RunId) {
        let Some(job) = self.state.jobs.get(&run).cloned() else { return };
        let starts = match job.stage {
            Stage::Accepted => {
                self.record(run, RecordBody::RunStarted);
                1
            }
            Stage::Running { starts } => starts + 1,
        };
        for (task, attempt, at) in self.begun_tasks(run, |on_interrupt| on_interrupt == OnInterrupt::Fail) {
            let message = "it was cut off while it ran, and it is neither idempotent nor to be retried";
            self.end_task(run, unfinished(task, attempt, at, self.wall(), TaskStatus::Interrupted, message));
        }
        let begun = job.begun.or_else(|| Some(self.wall()));
        let job = Job { stage: Stage::Running { starts }, begun, ..job };
        self.write(Write::PutJob(job.clone()));
        let mut start = Start { job, ended: Vec::new(), attempts: BTreeMap::new() };
        for (task, state) in self.state.tasks.get(&run).into_iter().flatten() {
            match state {
                TaskState::Ended(end) => start.ended.push(end.clone()),
                TaskState::Started { attempt, .. } => {
                    start.attempts.insert(task.clone(), *attempt);
                }
            }
        }
        self.effect(Effect::Start(Box::new(start)));
        self.set_live(run, Live::Running);
    }

    /// The tasks that were begun and have not ended, of those that `wanted` takes by what becomes of them after an
    /// interruption: each with its attempt, and when that began.
    fn begun_tasks(&self, run: RunId, wanted: impl Fn(OnInterrupt) -> bool) -> Vec<(TaskName, u32, Millis)> {
        let tasks = self.state.tasks.get(&run).into_iter().flatten();
        tasks
            .filter_map(|(task, state)| match state {
                TaskState::Started { attempt, on_interrupt, at } => {
                    wanted(*on_interrupt).then(|| (task.clone(), *attempt, *at))
                }
                TaskState::Ended(_) => None,
            })
            .collect()
    }

    fn stop(&mut self, run: RunId, why: StopReason) {
        self.effect(Effect::Stop { run, why });
        self.set_live(run, Live::Stopping { why, until: self.now + STOP_PATIENCE });
    }

    /// Ends a job: its open tasks, its record, and then everything it has.
    fn end_job(&mut self, run: RunId, end: RunEnd) {
        let status = match end.outcome {
            RunOutcome::Cancelled | RunOutcome::Expired => TaskStatus::Cancelled,
            RunOutcome::Succeeded | RunOutcome::Failed | RunOutcome::Refused => TaskStatus::Interrupted,
        };
        for (task, attempt, at) in self.begun_tasks(run, |_| true) {
            self.end_task(run, unfinished(task, attempt, at, self.wall(), status, "the run ended in the middle of it"));
        }
        let end = end.fitted();
        let receipt = self.state.jobs.get(&run).map(|job| self.receipt(&About::job(job), &end));
        self.note(Note::Ended { run, end: end.clone() });
        self.record(run, RecordBody::RunEnded(end));
        if let Some(receipt) = receipt {
            self.record_receipt(&receipt);
        }
        self.write(Write::EndJob(run));
        self.live.remove(&run);
        self.effect(Effect::Forget { run });
    }

    fn end_task(&mut self, run: RunId, end: TaskEnd) {
        // What is kept is what is reported, so that the receipt is of both.
        let end = end.fitted();
        let state = TaskState::Ended(end.clone());
        self.write(Write::PutTask { run, task: end.task.clone(), state });
        self.record(run, RecordBody::TaskEnded(end));
    }

    pub(super) fn running(&self) -> usize {
        self.live.values().filter(|live| matches!(live, Live::Running | Live::Stopping { .. })).count()
    }

    fn is_running(&self, run: RunId) -> bool {
        self.live.get(&run) == Some(&Live::Running)
    }

    fn task(&self, run: RunId, task: &TaskName) -> Option<&TaskState> {
        self.state.tasks.get(&run)?.get(task)
    }

    fn set_live(&mut self, run: RunId, live: Live) {
        self.live.insert(run, live);
    }
}

fn ended(outcome: RunOutcome, message: String) -> RunEnd {
    RunEnd { outcome, message, outputs: "{}".to_owned() }
}

fn stopped(why: StopReason) -> RunEnd {
    match why {
        StopReason::Cancelled => ended(RunOutcome::Cancelled, "cancelled by an operator".to_owned()),
        StopReason::Expired => ended(RunOutcome::Expired, "its deadline passed".to_owned()),
        StopReason::Misbehaved => {
            ended(RunOutcome::Failed, "its worker asked to run a finished task again and was stopped".to_owned())
        }
    }
}

fn unfinished(
    task: TaskName,
    attempts: u32,
    started: Millis,
    ended: Millis,
    status: TaskStatus,
    message: &str,
) -> TaskEnd {
    TaskEnd { task, status, attempts, message: message.to_owned(), outputs: "{}".to_owned(), started, ended }
}
