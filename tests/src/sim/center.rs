//! The coordinator: the driver of its machine, which commits in groups and answers only after that.

use std::collections::BTreeMap;

use sloth_core::{AgentId, Millis};
use sloth_protocol::{
    agent,
    coordinator::{Answer, Coordinator, Durable, Event, Item, Output, RolloutOrder, Settings, Ticket, Write},
    wire::{AgentResponse, Renewed, RunOutcome, Work},
};

use super::{
    Bug, Happening, Sim,
    disk::{CenterDisk, Counted, RecordName},
    forgery,
    host::CrashPoint,
    invariants::{self, CenterWitness, Check},
    publisher::Sealer,
    rollouts,
};

/// How long after a failed commit the driver restores its machine, and how long a crash of its own lasts at most.
const RESTORE_MS: u64 = 1_000;
const RESTART_MS: u64 = 30_000;
/// How long a head counts.
const HEAD_LIFE: Millis = Millis::from_secs(4 * 3600);
/// How long the certificates of agents count.
pub(super) const CERTIFICATE_LIFE: Millis = Millis::from_secs(24 * 3600);

/// The coordinator's process and its disk.
#[derive(Debug)]
pub(super) struct Center {
    machine: Option<Coordinator>,
    pub disk: CenterDisk,
    /// Rises with every start and stop.
    pub life: u64,
    pub wake_at: Option<Millis>,
    /// What was handled and is not on the disk.
    pending: Vec<Handled>,
    tickets: BTreeMap<Ticket, Waiting>,
    last_ticket: Ticket,
    pub disk_full_until: Millis,
    spins: u32,
    pub witness: CenterWitness,
    sealer: Sealer,
}

/// An output that waits for its commit.
#[derive(Debug)]
struct Handled {
    output: Output,
    /// The names of the records in the report that it answers, by number.
    names: BTreeMap<u64, RecordName>,
}

/// Who waits for an answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Waiting {
    /// An agent, on a connection.
    Agent { conn: u64, host: usize, life: u64, ticket: agent::Ticket },
    /// A host that would be an agent.
    Host { host: usize, life: u64 },
    /// An operator: the number of what it does, and of its try.
    Operator { number: usize, attempt: u64 },
}

impl Center {
    pub(super) fn new() -> Self {
        Self {
            machine: None,
            disk: CenterDisk::default(),
            life: 0,
            wake_at: None,
            pending: Vec::new(),
            tickets: BTreeMap::new(),
            last_ticket: 0,
            disk_full_until: Millis::ZERO,
            spins: 0,
            witness: CenterWitness::default(),
            sealer: Sealer::default(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.machine.is_some()
    }

    /// A new name for a request, whose answer `waiting` is for.
    pub(super) fn wait_for(&mut self, waiting: Waiting) -> Ticket {
        self.last_ticket += 1;
        self.tickets.insert(self.last_ticket, waiting);
        self.last_ticket
    }
}

impl Sim {
    /// Starts the coordinator's process: it goes on from its disk.
    pub(super) fn start_center(&mut self) -> Check {
        self.trace(|| "the coordinator starts".to_owned());
        let seed = self.random.next_u64();
        let state = forgetful(self.center.disk.state.clone(), self.bug);
        let machine = Coordinator::restore(state, Settings { head_life: HEAD_LIFE }, self.now, seed)
            .expect("the root that it accepted before");
        self.center.machine = Some(machine);
        self.center_event(Event::Wake, BTreeMap::new())
    }

    /// Ends the coordinator's process; it starts again after `down` milliseconds.
    pub(super) fn crash_center(&mut self, down: u64) {
        self.trace(|| format!("the coordinator stops for {down} ms"));
        self.tally.center_crashes += 1;
        let center = &mut self.center;
        center.life += 1;
        center.machine = None;
        center.wake_at = None;
        center.spins = 0;
        center.pending.clear();
        center.tickets.clear();
        let life = center.life;
        let conns: Vec<u64> = self.conns.keys().copied().collect();
        conns.into_iter().for_each(|conn| self.sever(conn));
        self.after(down, Happening::CenterStart { life });
    }

    /// Gives an event to the coordinator's machine; what it answers waits for the next commit.
    pub(super) fn center_event(&mut self, event: Event, names: BTreeMap<u64, RecordName>) -> Check {
        let woken = matches!(event, Event::Wake);
        self.trace(|| format!("coordinator {event:?}"));
        let Some(machine) = self.center.machine.as_mut() else { return Ok(()) };
        let mut output = machine.handle(self.now, event);
        self.note_center_wake(woken, output.wake_at)?;
        if self.bug == Some(Bug::AcknowledgeBeforeCommit) {
            let answers = std::mem::take(&mut output.answers);
            self.answer_all(answers)?;
        }
        let first = self.center.pending.is_empty();
        self.center.pending.push(Handled { output, names });
        if self.crash_point(self.faults().center_crash, 0) == CrashPoint::BeforeCommit {
            self.crash_of_the_center();
        } else if first {
            let wait = self.random.below(self.scenario.commit_max);
            self.after(wait, Happening::CenterCommit { life: self.center.life });
        }
        Ok(())
    }

    /// Commits what was handled in one transaction, then answers.
    pub(super) fn center_commit(&mut self) -> Check {
        let handled = std::mem::take(&mut self.center.pending);
        let writes = handled.iter().any(|handled| !handled.output.writes.is_empty());
        if writes && self.now < self.center.disk_full_until {
            self.tally.failed_commits += 1;
            self.crash_center(RESTORE_MS);
            return Ok(());
        }
        for Handled { output, names } in &handled {
            self.commit_center(&output.writes, names)?;
        }
        invariants::queues_stay_under_their_bounds_at_the_coordinator(&self.center.disk)?;
        let answers: usize = handled.iter().map(|handled| handled.output.answers.len()).sum();
        let crash = self.crash_point(self.faults().center_crash, answers);
        let mut left = match crash {
            CrashPoint::Nowhere => usize::MAX,
            CrashPoint::BeforeCommit | CrashPoint::AfterCommit => 0,
            CrashPoint::Amid(answers) => answers,
        };
        for Handled { mut output, .. } in handled {
            output.answers.truncate(left);
            left -= output.answers.len();
            self.answer_all(output.answers)?;
            output.closes.into_iter().for_each(|(conn, _)| self.close(conn));
        }
        if crash != CrashPoint::Nowhere {
            self.crash_of_the_center();
        }
        Ok(())
    }

    fn commit_center(&mut self, writes: &[Write], names: &BTreeMap<u64, RecordName>) -> Check {
        let went_back = self.hosts.iter().filter(|host| host.rolled_back).filter_map(|host| host.id).collect();
        for write in writes {
            if let Write::PutAgent(id, record) = write
                && record.revoked
            {
                self.revoked.insert(*id);
            }
            let name = if let Write::Append(_, record) = write { names.get(&record.seq).copied() } else { None };
            if is_forgotten(self.bug, write) {
                continue;
            }
            invariants::a_final_state_stays_final(&self.center.disk, write, &went_back)?;
            self.check_rollouts(write)?;
            let counted = self.center.disk.commit(write, name);
            self.tally.counted += u64::from(name.is_some() && counted == Counted::NotAgain);
            invariants::each_result_is_counted_once(counted, write, &went_back)?;
        }
        let center = &mut self.center;
        let kept: Vec<Write> = writes.iter().filter(|write| !is_forgotten(self.bug, write)).cloned().collect();
        invariants::numbers_never_fall_at_the_coordinator(&mut center.witness, &center.disk, &kept)?;
        rollouts::a_halt_takes_back_what_was_not_begun(&center.disk.state, |agent, after, item| {
            center.witness.was_given(agent, after, item)
        })
    }

    fn check_rollouts(&mut self, write: &Write) -> Check {
        if let Write::PutRollout(_, record) = write {
            self.tally.note_rollout(record.status);
        }
        if let Write::PutRolloutHost(_, _, row) = write {
            self.tally.note_rollout_host(row);
        }
        let succeeded = |agent, order: &RolloutOrder| {
            let host = self.hosts.iter().find(|host| host.id == Some(agent));
            host.is_some_and(|host| {
                host.rolled_back
                    || match order {
                        RolloutOrder::Run(run) => host.witness.ended_runs.get(run) == Some(&RunOutcome::Succeeded),
                        RolloutOrder::Update { counter, .. } => host.supervisor.has_confirmed(*counter),
                    }
            })
        };
        let resumed = |name: &str| self.errands.iter().any(|errand| errand.resumes(name));
        rollouts::a_rollout_keeps_its_budget(&self.center.disk.state, write, succeeded, resumed)
    }

    fn answer_all(&mut self, answers: Vec<(Ticket, Answer)>) -> Check {
        for (ticket, answer) in answers {
            let Some(waiting) = self.center.tickets.remove(&ticket) else { continue };
            let asker = match waiting {
                Waiting::Agent { host, .. } => self.hosts[host].id,
                Waiting::Host { .. } | Waiting::Operator { .. } => None,
            };
            invariants::commit_before_send_of_the_coordinator(&self.center.disk, asker, &answer)?;
            self.answer(waiting, answer);
        }
        Ok(())
    }

    fn answer(&mut self, waiting: Waiting, answer: Answer) {
        match (waiting, answer) {
            (Waiting::Agent { conn, host, life, ticket }, answer) => {
                let Some(response) = self.response(host, answer) else { return };
                self.answer_agent(conn, host, life, ticket, &response);
            }
            (Waiting::Host { host, life }, answer) => self.answer_host(host, life, answer),
            (Waiting::Operator { number, attempt }, answer) => self.answer_operator(number, attempt, answer),
        }
    }

    /// What an agent is sent, certificates made and orders forged.
    fn response(&mut self, host: usize, answer: Answer) -> Option<AgentResponse> {
        let id = self.hosts[host].id?;
        match answer {
            Answer::Work(orders) => {
                let work = orders.signed(|said| self.center.sealer.seal(said));
                Some(AgentResponse::Work(self.forge(host, id, work)))
            }
            Answer::Agent(response) => Some(response),
            Answer::Welcome { welcome, .. } => Some(AgentResponse::Welcome(welcome)),
            Answer::Refused(refusal) => Some(AgentResponse::Refused(refusal)),
            Answer::Certify { .. } => {
                let (not_before, not_after) = (self.now, self.now + CERTIFICATE_LIFE);
                Some(AgentResponse::Renewed(Renewed { certificate: vec![2; 300], not_before, not_after }))
            }
            Answer::Enrolled { .. } | Answer::Operator(_) => None,
        }
    }

    fn forge(&mut self, host: usize, agent: AgentId, mut work: Work) -> Work {
        // An old generation with another content, before what the agent is to be told.
        let old = work.items.first().filter(|_| self.scenario.faults.forgery != 0).cloned();
        for item in &mut work.items {
            if self.chance(self.faults().forgery) {
                self.tally.forgeries += 1;
                forgery::forge(agent, item, &mut self.random);
            }
        }
        if let Some(mut old) = old.filter(|_| self.chance(self.faults().forgery)) {
            old.generation = self.random.below(self.hosts[host].disk.state.accepted + 1);
            forgery::forge(agent, &mut old, &mut self.random);
            work.items.insert(0, old);
        }
        if self.scenario.faults.forgery != 0 && self.chance(self.faults().forgery) {
            self.tally.forgeries += 1;
            forgery::forge_head(&mut work, &mut self.random);
        }
        work
    }

    fn note_center_wake(&mut self, woken: bool, wake_at: Option<Millis>) -> Check {
        self.center.wake_at = wake_at;
        let at_once = woken && wake_at.is_some_and(|at| at <= self.now);
        invariants::nobody_spins(&mut self.center.spins, at_once)?;
        if let Some(at) = wake_at {
            let wait = at.since(self.now).as_u64();
            self.after(wait, Happening::CenterWake { life: self.center.life, at });
        }
        Ok(())
    }

    fn crash_of_the_center(&mut self) {
        let down = 1 + self.random.below(RESTART_MS);
        self.crash_center(down);
    }
}

/// Whether a driver with a planted bug does not keep a write.
fn is_forgotten(bug: Option<Bug>, write: &Write) -> bool {
    match bug {
        Some(Bug::ForgetReceipts) => matches!(write, Write::PutReceipt(_)),
        Some(Bug::ForgetCancels) => matches!(write, Write::PutWork(_, _, Item::CancelUpdate { .. })),
        Some(_) | None => false,
    }
}

/// What a driver with a planted bug reads from its disk.
fn forgetful(mut state: Durable, bug: Option<Bug>) -> Durable {
    match bug {
        Some(Bug::ReuseGenerations) => {
            for agent in state.agents.values_mut() {
                agent.next_generation = 1;
            }
        }
        Some(Bug::CountAgain) => state.inboxes.clear(),
        Some(bug @ (Bug::ForgetRolloutHosts | Bug::BelieveInRollouts | Bug::ForgetHalts)) => {
            rollouts::forgetful(&mut state, bug);
        }
        Some(
            Bug::SendBeforeCommit
            | Bug::ForgetSequence
            | Bug::AcceptLowerGeneration
            | Bug::RunAgainWhatEnded
            | Bug::ForgetWhatBegan
            | Bug::TrustAnotherRoot
            | Bug::AcknowledgeBeforeCommit
            | Bug::SignWithAnotherKey
            | Bug::ForgetCancels
            | Bug::ConfirmWhatFailed
            | Bug::StartAnother
            | Bug::ForgetReceipts,
        )
        | None => {}
    }
    state
}
