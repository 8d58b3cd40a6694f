//! Runs: who is to do them, who was told, and when they are over.

use std::ops::Bound;

use sloth_core::{AgentId, Chain, Millis, RunId, Selector};
use sloth_trust::{Assignment, BundleMetadata, BundleName, SPEC, Trigger};

use super::{
    AgentRecord, Answer, EXPIRY_GRACE, Instruction, Item, Job, JobEnd, JobUpdate, LAST_SEEN_STEP, Orders,
    POLL_PAUSE_MAX, POLLS_PER_SECOND, RUN_TTL_MAX, RUN_TTL_MIN, RUNS_ACTIVE_MAX, RUNS_ENDED_MAX, Reply, Run, Ticket,
    Unsigned, WORK_WAITING_MAX, Write,
    catalog::check_workflow,
    machine::{Coordinator, Held, LeafKey, Presence, Timer},
    registry::invalid,
    rollouts::Left,
    views::matches,
};
use crate::wire::{
    HOLD_MAX, JobState, NUMBER_MAX, Poll, Refusal, RefusalCode, StartRun, Started, UpdateState, VALUES_BYTES_MAX,
    WORK_ITEMS_MAX, WORK_ROOTS_MAX,
};

/// Bytes of orders after which an answer takes no further one; one order may be up to its own bounds over it.
const WORK_BYTES_MAX: usize = 384 * 1024;

impl Coordinator {
    /// Starts a run on every agent that the selector matches; asked twice, it starts one.
    pub(super) fn start_run(&mut self, operator: &str, start: &StartRun) -> Result<Reply, Refusal> {
        if let Some(agents) = self.state.jobs.get(&start.run).map(|jobs| jobs.len()) {
            return Ok(started(start.run, agents));
        }
        if self.state.ended.contains(&start.run) {
            return Ok(Reply::Ended(start.run));
        }
        let selector = start.selector.parse::<Selector>().map_err(|error| invalid(&error.to_string()))?;
        let run = self.plan_run(operator, start, &selector)?;
        let chosen = self.state.agents.iter().filter(|(id, agent)| !agent.revoked && matches(&selector, **id, agent));
        let chosen: Vec<AgentId> = chosen.map(|(id, _)| *id).collect();
        let full = |id: &AgentId| self.state.work.get(id).is_some_and(|work| WORK_WAITING_MAX <= work.len());
        if let Some(agent) = chosen.iter().find(|id| full(id)) {
            let reason =
                format!("{WORK_WAITING_MAX} orders wait for agent `{agent}` already: cancel runs that it will not do");
            return Err(Refusal::new(RefusalCode::TooLarge, reason));
        }
        if chosen.is_empty() {
            return Ok(started(start.run, 0));
        }
        self.set_timer(run.deadline + EXPIRY_GRACE, Timer::Deadline(start.run));
        self.write(Write::PutRun(start.run, Box::new(run)));
        for agent in &chosen {
            self.queue_job(start.run, *agent);
        }
        for agent in &chosen {
            self.offer(*agent);
        }
        self.out.touched.insert(start.run);
        Ok(started(start.run, chosen.len()))
    }

    /// Cancels a run: agents that may know of it are told, the others never are.
    pub(super) fn cancel_run(&mut self, id: RunId) -> Result<Reply, Refusal> {
        let Some(run) = self.state.runs.get(&id) else {
            if self.state.ended.contains(&id) {
                return Ok(Reply::Cancelling(id));
            }
            return Err(Refusal::new(
                RefusalCode::NotFound,
                format!("there is no run `{id}`: `sloth-coord runs list` shows them"),
            ));
        };
        if !run.cancelled {
            let run = Run { cancelled: true, ..run.clone() };
            self.write(Write::PutRun(id, Box::new(run)));
            for (agent, job) in self.open_jobs(id) {
                self.cancel_job(id, agent, job);
            }
        }
        Ok(Reply::Cancelling(id))
    }

    pub(super) fn poll(&mut self, agent: AgentId, ticket: Ticket, poll: Poll) {
        self.seen(agent, LAST_SEEN_STEP);
        if NUMBER_MAX < poll.accepted {
            let refusal = invalid("a poll names a generation that nobody ever gave");
            return self.answer(ticket, Answer::Refused(refusal));
        }
        self.knows.insert(agent, (poll.root, poll.head));
        self.rollouts.contacts.polled(agent, self.now, poll.hold);
        if poll.hold == Millis::ZERO {
            self.stir_all();
        }
        // A newer poll stands in for the one before.
        self.end_hold(agent);
        self.catch_up(agent, poll.accepted);
        self.confirm(agent, poll.accepted);
        let room = usize::try_from(poll.room).unwrap_or(usize::MAX);
        let items = self.next_items(agent, poll.accepted, room);
        let roots = self.roots_after(poll.root);
        if !items.is_empty() || !roots.is_empty() || poll.hold == Millis::ZERO {
            let is_idle = items.is_empty() && roots.is_empty();
            let next_poll = if is_idle { self.poll_pause() } else { Millis::ZERO };
            self.rollouts.contacts.answered(agent, self.now, if is_idle { Left::Idle } else { Left::Busy });
            let orders = Orders { items, next_poll, roots, head: self.head_for(poll.head) };
            return self.answer(ticket, Answer::Work(Box::new(orders)));
        }
        let until = self.now + poll.hold.min(HOLD_MAX);
        if let Some(presence) = self.present.get_mut(&agent) {
            presence.held = Some(Held { ticket, until, room, root: poll.root, head: poll.head });
            self.set_timer(until, Timer::Hold(agent));
        }
    }

    /// Answers a held poll with nothing, and says to ask again at once.
    pub(super) fn end_hold(&mut self, agent: AgentId) {
        if let Some(held) = self.take_held(agent) {
            self.answer_held(held, Vec::new());
        }
    }

    /// Ends what is left of a run whose deadline, and the grace after it, have passed.
    pub(super) fn expire_run(&mut self, id: RunId) {
        for (agent, job) in self.open_jobs(id) {
            self.write(Write::DropWork(agent, vec![job.generation]));
            self.end_job(id, agent, JobState::Expired, "the agent did not say in time what became of it");
        }
        // A rollout may have kept it open for hosts that never came.
        self.settle_run(id);
    }

    /// Ends a job from this side.
    pub(super) fn end_job(&mut self, run: RunId, agent: AgentId, state: JobState, message: &str) {
        let Some(job) = self.job(run, agent) else { return };
        let end = JobEnd { message: message.to_owned(), outputs: String::new() };
        self.write(Write::PutJob(run, agent, JobUpdate { job: Job { state, ..job }, end }));
        self.out.touched.insert(run);
        self.note_evidence(run, agent, state);
        self.settle_run(run);
    }

    /// Ends a run when nothing more is expected of it.
    pub(super) fn settle_run(&mut self, id: RunId) {
        let Some(run) = self.state.runs.get(&id) else { return };
        let open = self.state.jobs.get(&id).is_some_and(|jobs| jobs.values().any(|job| !job.state.is_final()));
        if open || self.is_kept_open(id) {
            return;
        }
        let run = Run { ended: Some(self.now), ..run.clone() };
        self.clear_timer(run.deadline + EXPIRY_GRACE, Timer::Deadline(id));
        self.write(Write::PutRun(id, Box::new(run)));
        self.result_bytes.remove(&id);
        self.out.touched.insert(id);
        if RUNS_ENDED_MAX < self.state.ended.len()
            && let Some(oldest) = self.state.ended.first().copied()
        {
            self.log_bytes.remove(&oldest);
            self.result_bytes.remove(&oldest);
            self.write(Write::ForgetRun(oldest));
        }
    }

    fn plan_run(&self, operator: &str, start: &StartRun, selector: &Selector) -> Result<Run, Refusal> {
        let (name, release) = self.newest_as_meant(&start.bundle, start.version.as_deref())?;
        let metadata = &release.metadata;
        if !metadata.triggers.contains(&Trigger::Manual) {
            return Err(invalid(&format!(
                "the signature on `{name}` does not let operators start it: sign it with the trigger `manual`"
            )));
        }
        if metadata.expires <= self.now {
            return Err(invalid(&format!(
                "the signature on `{name}` expired on {}: publish it again",
                metadata.expires
            )));
        }
        check_workflow(release, start.workflow.as_deref())?;
        if start.ttl < RUN_TTL_MIN || RUN_TTL_MAX < start.ttl {
            return Err(invalid("a run is given between a second and 90 days"));
        }
        let values = plain_values(metadata, &start.values)?;
        if RUNS_ACTIVE_MAX <= self.state.runs.len() {
            return Err(Refusal::new(RefusalCode::Busy, format!("{RUNS_ACTIVE_MAX} runs have not ended yet")));
        }
        Ok(Run {
            bundle: name,
            version: metadata.version.clone(),
            counter: metadata.counter,
            workflow: start.workflow.clone(),
            selector: selector.to_string(),
            values,
            operator: operator.to_owned(),
            created: self.now,
            deadline: self.now + start.ttl,
            cancelled: false,
            ended: None,
        })
    }

    fn job(&self, run: RunId, agent: AgentId) -> Option<Job> {
        self.state.jobs.get(&run)?.get(&agent).copied()
    }

    fn open_jobs(&self, run: RunId) -> Vec<(AgentId, Job)> {
        let jobs = self.state.jobs.get(&run).into_iter().flatten();
        jobs.filter(|(_, job)| !job.state.is_final()).map(|(agent, job)| (*agent, *job)).collect()
    }

    pub(super) fn cancel_job(&mut self, run: RunId, agent: AgentId, job: Job) {
        let told = self.told.get(&agent).copied().unwrap_or(0);
        if told < job.generation {
            self.write(Write::DropWork(agent, vec![job.generation]));
            self.end_job(run, agent, JobState::Cancelled, "cancelled before the agent was told of it");
            return;
        }
        self.queue_first(agent, Item::Cancel(run));
        self.offer(agent);
    }

    /// Queues something before the runs that the agent was not told of, and gives its generation.
    pub(super) fn queue_first(&mut self, agent: AgentId, item: Item) -> u64 {
        let told = self.told.get(&agent).copied().unwrap_or(0);
        let put_off = self.take_untold(agent, told);
        let generation = self.queue(agent, item);
        for run in put_off {
            if self.job(run, agent).is_some_and(|job| !job.state.is_final()) {
                self.queue_job(run, agent);
            }
        }
        generation
    }

    /// Takes back the runs that an agent was not told of. One that holds as many runs as it may is told of no other,
    /// and whatever is queued behind that would wait with it.
    fn take_untold(&mut self, agent: AgentId, told: u64) -> Vec<RunId> {
        let waiting = self.state.work.get(&agent).into_iter().flat_map(|work| work.range(told + 1..));
        let waiting: Vec<(u64, RunId)> =
            waiting.filter_map(|(generation, item)| Some((*generation, item.run()?))).collect();
        if !waiting.is_empty() {
            self.write(Write::DropWork(agent, waiting.iter().map(|(generation, _)| *generation).collect()));
        }
        waiting.into_iter().map(|(_, run)| run).collect()
    }

    /// Queues the order to do a run, and notes with the job which one it is.
    pub(super) fn queue_job(&mut self, run: RunId, agent: AgentId) {
        let generation = self.queue(agent, Item::Run(run));
        let job = Job { state: JobState::Pending, generation };
        self.write(Write::PutJob(run, agent, JobUpdate { job, end: JobEnd::default() }));
    }

    /// Notices that an agent was given generations that this disk knows nothing of, as after a restored backup. New
    /// orders go above them; of those that wait below, nobody knows whether the agent did them, and they are not given
    /// twice.
    fn catch_up(&mut self, agent: AgentId, accepted: u64) {
        let Some(record) = self.state.agents.get(&agent).filter(|record| record.next_generation <= accepted) else {
            return;
        };
        let record = AgentRecord { next_generation: accepted + 1, ..record.clone() };
        self.write(Write::PutAgent(agent, Box::new(record)));
        let waiting = self.state.work.get(&agent).cloned().unwrap_or_default();
        self.write(Write::DropWork(agent, waiting.keys().copied().collect()));
        let message =
            "this coordinator's store was set back, and the agent may have done it already: look, and start it again";
        for (generation, item) in waiting {
            match item {
                Item::Run(run) => self.end_job(run, agent, JobState::Failed, message),
                Item::Update { .. } => self.end_update(agent, generation, UpdateState::Withdrawn, message),
                Item::Cancel(_) | Item::CancelUpdate { .. } => {}
            }
        }
    }

    /// The agent has everything up to `accepted` on its disk.
    fn confirm(&mut self, agent: AgentId, accepted: u64) {
        let confirmed: Vec<(u64, Item)> = self.state.work.get(&agent).map_or_else(Vec::new, |work| {
            work.range(..=accepted).map(|(generation, item)| (*generation, *item)).collect()
        });
        if confirmed.is_empty() {
            return;
        }
        self.write(Write::DropWork(agent, confirmed.iter().map(|(generation, _)| *generation).collect()));
        for (generation, item) in confirmed {
            let run = match item {
                Item::Run(run) => run,
                Item::Update { .. } => {
                    self.update_accepted(agent, generation);
                    continue;
                }
                Item::Cancel(_) | Item::CancelUpdate { .. } => continue,
            };
            if let Some(job) = self.job(run, agent).filter(|job| job.state == JobState::Pending) {
                let job = Job { state: JobState::Accepted, ..job };
                self.write(Write::PutJob(run, agent, JobUpdate { job, end: JobEnd::default() }));
                self.out.touched.insert(run);
            }
        }
    }

    /// Answers an agent's held poll if there is something to tell.
    pub(super) fn offer(&mut self, agent: AgentId) {
        let Some(held) = self.present.get(&agent).and_then(|presence| presence.held) else { return };
        let items = self.next_items(agent, 0, held.room);
        if !items.is_empty() && self.take_held(agent).is_some() {
            self.answer_held(held, items);
        }
    }

    /// Answers every held poll of an agent that has an older trust root than the newest.
    pub(super) fn offer_roots(&mut self) {
        let newest = self.trusted.as_ref().map_or(0, |trusted| trusted.root().version);
        let behind = |presence: &Presence| presence.held.is_some_and(|held| held.root < newest);
        let agents: Vec<AgentId> =
            self.present.iter().filter(|(_, presence)| behind(presence)).map(|(agent, _)| *agent).collect();
        for agent in agents {
            if let Some(held) = self.take_held(agent) {
                self.answer_held(held, Vec::new());
            }
        }
    }

    /// The trust roots after this version that fit into one answer.
    fn roots_after(&self, version: u64) -> Vec<Vec<u8>> {
        let after = self.state.roots.range((Bound::Excluded(version), Bound::Unbounded)).map(|(_, envelope)| envelope);
        let mut bytes = 0;
        let fits = |envelope: &&Vec<u8>| {
            bytes += envelope.len();
            bytes <= WORK_BYTES_MAX
        };
        after.take(WORK_ROOTS_MAX).take_while(fits).cloned().collect()
    }

    /// Ends what waits for a release that counts no more.
    pub(super) fn withdraw(&mut self, name: &BundleName, counter: u64) {
        let of_it = |run: &&Run| run.bundle == *name && run.counter == counter;
        let runs: Vec<RunId> = self.state.runs.iter().filter(|(_, run)| of_it(run)).map(|(id, _)| *id).collect();
        for run in runs {
            for (agent, job) in self.open_jobs(run) {
                let told = self.told.get(&agent).copied().unwrap_or(0);
                if told < job.generation {
                    self.write(Write::DropWork(agent, vec![job.generation]));
                    self.refuse_unsigned(run, agent);
                }
            }
        }
    }

    /// Ends a job, if it has not ended, whose bundle nobody vouches for any more.
    fn refuse_unsigned(&mut self, run: RunId, agent: AgentId) {
        if self.job(run, agent).is_some_and(|job| !job.state.is_final()) {
            let message = "the keys that signed the bundle count no more: publish it again";
            self.end_job(run, agent, JobState::Refused, message);
        }
    }

    fn answer_held(&mut self, held: Held, items: Vec<(u64, Instruction)>) {
        let (roots, head) = (self.roots_after(held.root), self.head_for(held.head));
        let orders = Orders { items, next_poll: Millis::ZERO, roots, head };
        self.answer(held.ticket, Answer::Work(Box::new(orders)));
    }

    fn take_held(&mut self, agent: AgentId) -> Option<Held> {
        let held = self.present.get_mut(&agent)?.held.take()?;
        self.clear_timer(held.until, Timer::Hold(agent));
        Some(held)
    }

    /// What an agent is told next, in order: orders to run only as far as it has room.
    fn next_items(&mut self, agent: AgentId, accepted: u64, mut room: usize) -> Vec<(u64, Instruction)> {
        let mut items = Vec::new();
        let mut bytes = 0;
        let (mut withdrawn, mut refused) = (Vec::new(), Vec::new());
        let waiting = self
            .state
            .work
            .get(&agent)
            .into_iter()
            .flat_map(|work| work.range((Bound::Excluded(accepted), Bound::Unbounded)));
        for (&generation, item) in waiting {
            let order = match item {
                Item::Run(_) if room == 0 => break,
                Item::Run(run) => match self.order(agent, generation, *run) {
                    Some(order) => order,
                    // The run has ended in the meantime, or its release was withdrawn: its place is kept by something
                    // harmless.
                    None => {
                        withdrawn.push(*run);
                        Instruction::Cancel { run: *run }
                    }
                },
                Item::Cancel(run) => Instruction::Cancel { run: *run },
                Item::CancelUpdate { counter } => Instruction::CancelUpdate { counter: *counter },
                Item::Update { .. } => match self.update_order(agent, generation, *item) {
                    Ok(order) => order,
                    // It cannot be given any more, and its place stays empty.
                    Err(reason) => {
                        refused.push((generation, reason));
                        continue;
                    }
                },
            };
            match &order {
                Instruction::Run { assignment, metadata, .. } => {
                    room -= 1;
                    bytes += assignment.payload.len() + metadata.len();
                }
                Instruction::Update { assignment, metadata, .. } => bytes += assignment.payload.len() + metadata.len(),
                Instruction::Cancel { .. } | Instruction::CancelUpdate { .. } => {}
            }
            items.push((generation, order));
            if WORK_ITEMS_MAX <= items.len() || WORK_BYTES_MAX <= bytes {
                break;
            }
        }
        for run in withdrawn {
            self.refuse_unsigned(run, agent);
        }
        for (generation, reason) in refused {
            self.write(Write::DropWork(agent, vec![generation]));
            self.end_update(agent, generation, UpdateState::Refused, &reason);
        }
        if let Some((last, _)) = items.last() {
            let told = self.told.entry(agent).or_default();
            *told = (*told).max(*last);
        }
        items
    }

    /// The order to do a run: the same bytes whenever it is made for the same generation.
    fn order(&self, agent: AgentId, generation: u64, id: RunId) -> Option<Instruction> {
        let run = self.state.runs.get(&id)?;
        let release = self.state.bundles.get(&run.bundle)?.get(&run.counter)?;
        let assignment = Assignment {
            spec: SPEC,
            agent,
            run: id,
            bundle: run.bundle.clone(),
            counter: run.counter,
            manifest: release.metadata.manifest.digest,
            workflow: run.workflow.clone(),
            values: serde_json::from_str(&run.values).ok()?,
            not_before: Millis::ZERO,
            deadline: run.deadline,
            nonce: generation,
        };
        let payload = serde_json::to_vec(&assignment).ok()?;
        let domain = assignment.domain(release.metadata.repository);
        Some(Instruction::Run {
            run: id,
            assignment: Unsigned { domain, payload },
            metadata: release.envelope.clone(),
            inclusion: self.inclusion(&LeafKey::Bundle(run.bundle.clone(), run.counter))?,
        })
    }

    fn poll_pause(&self) -> Millis {
        let fleet = u64::try_from(self.names.len()).unwrap_or(u64::MAX);
        Millis::from_secs(1 + fleet / POLLS_PER_SECOND).min(POLL_PAUSE_MAX)
    }
}

/// The values as orders carry them. A number such as `1e15` grows when it is written anew, and an order that is too
/// long for its frame would keep its agent from every other one.
/// The values as they are kept, once the publishers' schema takes them. Each agent compares them again for itself.
pub(super) fn plain_values(metadata: &BundleMetadata, text: &str) -> Result<String, Refusal> {
    let fits = |bytes: usize| {
        let reason = format!("a run's values take {VALUES_BYTES_MAX} bytes at most");
        if bytes <= VALUES_BYTES_MAX { Ok(()) } else { Err(Refusal::new(RefusalCode::TooLarge, reason)) }
    };
    fits(text.len())?;
    let values = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text);
    let values = values.map_err(|_| invalid("a run's values are a JSON object"))?;
    let taken = metadata.takes(&values);
    taken.map_err(|refusal| Refusal::new(RefusalCode::Values, Chain(&refusal).to_string()))?;
    let plain = serde_json::Value::Object(values).to_string();
    fits(plain.len())?;
    Ok(plain)
}

fn started(run: RunId, agents: usize) -> Reply {
    Reply::Started(Started { run, agents: u32::try_from(agents).unwrap_or(u32::MAX) })
}
