//! An agent's host: the driver of its machine, which commits before it does anything, and what can happen to it.

use std::collections::{BTreeMap, BTreeSet};

use sloth_core::{AgentId, Digest, Labels, Millis, RunId, Secret};
use sloth_protocol::{
    agent::{Agent, Ask, Config, Durable, Effect, Event, FetchError, Note, Output, Pacing, Updates, Write},
    coordinator::ConnId,
    wire::{AgentRequest, Platform, Record, RecordBody, Renew, Report},
};
use sloth_trust::{MachineKey, Receipt, RootPin, Triple};

use super::{
    Bug, Happening, Sim,
    disk::{AgentDisk, RecordName},
    invariants::{self, Check, HostWitness},
    publisher::publisher,
    scenario::{HostClock, HostPlan},
    updates::Supervisor,
    worker::Worker,
};

/// How long after a failed commit the driver restores its machine.
const RESTORE_MS: u64 = 2_000;
/// Longest that a host takes to start again after a crash of its own.
const RESTART_MS: u64 = 60_000;
/// Longest that a bundle takes.
const FETCH_MS: u64 = 5_000;

/// A host.
#[derive(Debug)]
pub(super) struct Host {
    pub plan: HostPlan,
    /// Who it is, once it is enrolled.
    pub id: Option<AgentId>,
    /// Labels that its token gave.
    pub token_labels: Labels,
    /// The trust root that it was enrolled with, and its pin.
    pub root: Option<(Vec<u8>, RootPin)>,
    pub disk: AgentDisk,
    pub snapshot: Option<(AgentDisk, HostWitness)>,
    pub machine: Option<Agent>,
    /// Rises with every start and stop, so that what was under way for an earlier process is known.
    pub life: u64,
    pub wake_at: Option<Millis>,
    /// The machine's name for the connection, and the network's.
    pub link: Option<(u64, ConnId)>,
    pub workers: BTreeMap<RunId, Worker>,
    /// Bundles that are unpacked.
    pub bundles: BTreeSet<Digest>,
    pub supervisor: Supervisor,
    pub clock: HostClock,
    pub partitioned_until: Millis,
    pub disk_full_until: Millis,
    pub spins: u32,
    pub witness: HostWitness,
    pub rolled_back: bool,
    /// After its disk became an older one and until the coordinator has told its numbers: the last record before.
    pub unsettled_since: Option<RecordName>,
}

/// Where in the handling of an event a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CrashPoint {
    Nowhere,
    BeforeCommit,
    AfterCommit,
    /// After so many of the effects.
    Amid(usize),
}

impl Host {
    pub(super) fn new(plan: HostPlan) -> Self {
        Self {
            plan,
            id: None,
            token_labels: Labels::new(),
            root: None,
            disk: AgentDisk::default(),
            snapshot: None,
            machine: None,
            life: 0,
            wake_at: None,
            link: None,
            workers: BTreeMap::new(),
            bundles: BTreeSet::new(),
            supervisor: Supervisor::default(),
            clock: HostClock::Right,
            partitioned_until: Millis::ZERO,
            disk_full_until: Millis::ZERO,
            spins: 0,
            witness: HostWitness::default(),
            rolled_back: false,
            unsettled_since: None,
        }
    }

    /// The time by which what it takes on must not have expired: its own, and with a wrong clock no earlier than what it
    /// has heard.
    fn judges_by(&self, now: Millis) -> Millis {
        let heard = self.machine.as_ref().map_or(Millis::ZERO, Agent::not_before);
        self.clock.wall(now).max(heard)
    }

    /// Whether it is connected, or of those that come and go.
    pub(super) fn keeps_in_touch(&self) -> bool {
        match self.plan.pacing {
            Pacing::Hold(_) => self.machine.as_ref().is_some_and(Agent::is_connected),
            Pacing::Interval(_) => self.machine.is_some(),
        }
    }

    /// The version of the root that it trusts.
    pub(super) fn root_version(&self) -> Option<u64> {
        self.machine.as_ref().map(|machine| machine.root().version)
    }

    /// The key that it was enrolled with for receipts.
    pub(super) fn receipt_key(&self) -> MachineKey {
        receipt_key(&self.plan.name)
    }

    fn signs_with(&self, bug: Option<Bug>) -> MachineKey {
        if bug == Some(Bug::SignWithAnotherKey) { receipt_key("another") } else { self.receipt_key() }
    }

    fn config(&self, id: AgentId, bug: Option<Bug>) -> Config {
        let publisher = publisher();
        let (root, root_pin) = match bug {
            Some(Bug::TrustAnotherRoot) => publisher.foreign_root.clone(),
            Some(_) | None => self.root.clone().unwrap_or_else(|| (publisher.roots[0].clone(), publisher.pin)),
        };
        Config {
            id,
            name: self.plan.name.clone(),
            host_labels: self.plan.labels.clone(),
            enrolled_labels: self.token_labels.clone(),
            version: self.supervisor.runs.clone(),
            platform: platform(),
            root,
            root_pin,
            certificate_from: self.disk.certificate.0,
            certificate_until: self.disk.certificate.1,
            pacing: self.plan.pacing,
            runs_max: self.plan.runs_max,
            outbox_bytes_max: self.plan.outbox,
            updates: Updates { rules: self.plan.rules.clone(), ..Updates::default() },
        }
    }
}

impl Sim {
    /// The time by a host's own clock.
    pub(super) fn host_now(&self, host: usize) -> Millis {
        self.now + Millis::from_u64(self.hosts[host].plan.ahead)
    }

    /// Starts a host's process: it goes on from its disk, or tries to become an agent.
    pub(super) fn start_host(&mut self, index: usize) -> Check {
        let now = self.host_now(index);
        let host = &self.hosts[index];
        let Some(id) = host.id else {
            self.after(1, Happening::Enroll { host: index, life: host.life });
            return Ok(());
        };
        let state = forgetful(host.disk.state.clone(), self.bug);
        let config = host.config(id, self.bug);
        let machine = Agent::restore(config, state, now, self.random.next_u64()).expect("a root that fits its pin");
        self.trace(|| format!("host {index} starts"));
        self.hosts[index].machine = Some(machine);
        self.tell_outcomes(index);
        self.host_event(index, Event::Wake)
    }

    /// Ends a host's process and all of its workers; it starts again after `down` milliseconds.
    pub(super) fn crash_host(&mut self, index: usize, down: u64) {
        self.trace(|| format!("host {index} stops for {down} ms"));
        self.tally.host_crashes += 1;
        let host = &mut self.hosts[index];
        host.life += 1;
        host.machine = None;
        host.wake_at = None;
        host.spins = 0;
        host.workers.clear();
        if let Some(since) = host.unsettled_since {
            // A second start without a welcome in between takes these for records from before the first.
            let records = host.disk.records.iter().flat_map(|lane| lane.values());
            self.excused.extend(records.map(|(name, _)| *name).filter(|name| since < *name));
        }
        let life = host.life;
        if let Some((_, conn)) = host.link.take() {
            self.sever(conn);
        }
        self.after(down, Happening::HostStart { host: index, life });
    }

    /// Puts an older copy of its disk into a host.
    pub(super) fn roll_back(&mut self, index: usize) {
        let Some((disk, witness)) = self.hosts[index].snapshot.take() else { return };
        self.tally.rollbacks += 1;
        self.crash_host(index, 1000);
        let host = &mut self.hosts[index];
        (host.disk, host.witness, host.rolled_back) = (disk, witness, true);
        host.unsettled_since = Some(self.record_names);
    }

    /// Gives an event to a host's machine, commits what it writes, then does what it says.
    pub(super) fn host_event(&mut self, index: usize, event: Event) -> Check {
        let now = self.host_now(index);
        let woken = matches!(event, Event::Wake);
        self.trace(|| format!("host {index} {event:?}"));
        let clock = self.hosts[index].clock;
        let Some(machine) = self.hosts[index].machine.as_mut() else { return Ok(()) };
        machine.hear_clock(now, clock.wall(now));
        let output = machine.handle(now, event);
        self.note_wake(index, now, woken, output.wake_at)?;
        let crash = self.crash_point(self.faults().host_crash, output.effects.len());
        if self.bug == Some(Bug::SendBeforeCommit) {
            return self.send_before_commit(index, output, crash);
        }
        if crash == CrashPoint::BeforeCommit {
            return self.crash_of_its_own(index);
        }
        if !self.commit_host(index, &output.writes)? {
            self.crash_host(index, RESTORE_MS);
            return Ok(());
        }
        self.carry_out(index, output.effects, crash)
    }

    fn send_before_commit(&mut self, index: usize, output: Output, crash: CrashPoint) -> Check {
        let life = self.hosts[index].life;
        self.carry_out(index, output.effects, crash)?;
        if self.hosts[index].life == life && !self.commit_host(index, &output.writes)? {
            self.crash_host(index, RESTORE_MS);
        }
        Ok(())
    }

    fn note_wake(&mut self, index: usize, now: Millis, woken: bool, wake_at: Option<Millis>) -> Check {
        let host = &mut self.hosts[index];
        host.wake_at = wake_at;
        let at_once = woken && wake_at.is_some_and(|at| at <= now);
        invariants::nobody_spins(&mut host.spins, at_once)?;
        if let Some(at) = wake_at {
            let (life, wait) = (host.life, at.since(now).as_u64());
            self.after(wait, Happening::HostWake { host: index, life, at });
        }
        Ok(())
    }

    fn crash_of_its_own(&mut self, index: usize) -> Check {
        let down = 1 + self.random.below(RESTART_MS);
        self.crash_host(index, down);
        Ok(())
    }

    /// Whether and where this event ends a process, of which `chance` in a thousand do.
    pub(super) fn crash_point(&mut self, chance: u64, effects: usize) -> CrashPoint {
        if chance == 0 || !self.chance(chance) {
            return CrashPoint::Nowhere;
        }
        let effects = u64::try_from(effects).unwrap_or(0);
        match self.random.below(3) {
            0 => CrashPoint::BeforeCommit,
            1 => CrashPoint::AfterCommit,
            _ => CrashPoint::Amid(usize::try_from(self.random.below(effects + 1)).unwrap_or(0)),
        }
    }

    /// Commits in one transaction; false when the disk does not take it.
    fn commit_host(&mut self, index: usize, writes: &[Write]) -> Result<bool, invariants::Violation> {
        let now = self.host_now(index);
        let host = &mut self.hosts[index];
        if writes.is_empty() {
            return Ok(true);
        }
        if self.now < host.disk_full_until {
            self.tally.failed_commits += 1;
            return Ok(false);
        }
        for write in writes {
            if let Write::PutJob(job) = write
                && !host.disk.state.jobs.contains_key(&job.run)
            {
                let now = host.judges_by(now);
                invariants::runs_only_what_was_signed_and_assigned(host, job, now, &self.center.witness)?;
            }
        }
        let removed = host.disk.commit(writes, &mut self.record_names);
        self.tally.note_agent_writes(writes);
        invariants::numbers_never_fall(&mut host.witness, &host.disk, &removed)?;
        self.excused.extend(removed.shed.iter().map(|(name, _)| *name));
        invariants::none_acknowledged_is_lost(&removed, &self.center.disk, &self.excused)?;
        invariants::acknowledged_receipts_are_kept(host, &removed, &self.center.disk)?;
        host.witness.note(writes, &removed);
        invariants::queues_stay_under_their_bounds(host)?;
        Ok(true)
    }

    fn carry_out(&mut self, index: usize, effects: Vec<Effect>, crash: CrashPoint) -> Check {
        let stop_after = match crash {
            CrashPoint::Nowhere => usize::MAX,
            CrashPoint::BeforeCommit | CrashPoint::AfterCommit => 0,
            CrashPoint::Amid(effects) => effects,
        };
        for effect in effects.into_iter().take(stop_after) {
            let host = &mut self.hosts[index];
            invariants::commit_before_send(&host.disk, &effect)?;
            invariants::finished_tasks_are_not_run_again(&host.witness, &effect)?;
            invariants::an_attempt_without_retry_is_begun_at_most_once(&mut host.witness, &host.disk, &effect)?;
            self.effect(index, effect)?;
        }
        if stop_after == usize::MAX { Ok(()) } else { self.crash_of_its_own(index) }
    }

    fn effect(&mut self, index: usize, effect: Effect) -> Check {
        match effect {
            Effect::Connect { link } => self.connect(index, link),
            Effect::Disconnect => self.hang_up(index),
            Effect::Ask { ticket, ask } => self.ask(index, ticket, ask),
            Effect::Fetch { run, manifest, .. } => {
                let (life, wait) = (self.hosts[index].life, 1 + self.random.below(FETCH_MS));
                self.after(wait, Happening::FetchDone { host: index, life, run, manifest });
            }
            Effect::Start(start) => return self.start_worker(index, &start),
            Effect::Go { run, task } => self.go(index, run, &task),
            Effect::Noted { run, task } => self.noted(index, run, &task),
            Effect::Stop { run, .. } => self.stop_worker(index, run),
            Effect::Forget { run } => {
                self.hosts[index].workers.remove(&run);
            }
            Effect::Stage(update) => self.stage_update(index, update.counter),
            Effect::Switch { counter, version } => return self.switch_update(index, counter, &version.to_string()),
            Effect::ForgetUpdate { .. } => {}
            Effect::UpdateNoted { number } => {
                self.hosts[index].supervisor.outcomes.retain(|outcome| number < outcome.number);
            }
            Effect::Note(note) => self.note_of_agent(index, &note),
        }
        Ok(())
    }

    fn note_of_agent(&mut self, index: usize, note: &Note) {
        self.trace(|| format!("host {index} notes {note:?}"));
        match note {
            Note::Refused { .. } => self.tally.refused_orders += 1,
            Note::Stale { .. } => self.tally.stale_orders += 1,
            Note::StateWentBack { .. } => self.tally.seen_rollbacks += 1,
            Note::Ended { .. } => self.tally.ended_jobs += 1,
            Note::RootAccepted { .. } => self.tally.new_roots += 1,
            Note::HeldBack { .. } => self.tally.held_back += 1,
            Note::UpdateAccepted { .. }
            | Note::UpdateRefused { .. }
            | Note::Accepted { .. }
            | Note::Dropped { .. }
            | Note::Denied { .. }
            | Note::RootRefused { .. } => {}
        }
    }

    /// Whether a bundle came: it needs a connection unless it is there.
    pub(super) fn fetch_done(&mut self, index: usize, run: RunId, manifest: Digest) -> Check {
        let connected = self.hosts[index].link.is_some_and(|(_, conn)| self.is_alive(conn));
        let lucky = !self.chance(self.faults().loss);
        let host = &mut self.hosts[index];
        let result = if host.bundles.contains(&manifest) || (connected && lucky) {
            host.bundles.insert(manifest);
            Ok(())
        } else {
            Err(FetchError::Later("no connection".to_owned()))
        };
        self.host_event(index, Event::Fetched { run, result })
    }

    /// What is sent for a question, and the names of the records in it.
    pub(super) fn request(&self, index: usize, ask: Ask) -> (AgentRequest, BTreeMap<u64, RecordName>) {
        match ask {
            Ask::Hello(hello) => (AgentRequest::Hello(hello), BTreeMap::new()),
            Ask::Poll(poll) => (AgentRequest::Poll(poll), BTreeMap::new()),
            Ask::Renew => (AgentRequest::Renew(Renew { csr: vec![1; 200] }), BTreeMap::new()),
            Ask::Report { lane, dropped, seqs } => {
                let kept = &self.hosts[index].disk.records[lane.index()];
                let found: Vec<&(RecordName, Record)> = seqs.iter().filter_map(|seq| kept.get(seq)).collect();
                let names = found.iter().map(|(name, record)| (record.seq, *name)).collect();
                let key = self.hosts[index].signs_with(self.bug);
                let records = found.into_iter().map(|(_, record)| signed(record, &key)).collect();
                (AgentRequest::Report(Report { lane, dropped, records }), names)
            }
        }
    }
}

fn receipt_key(name: &str) -> MachineKey {
    let seed = Digest::of(name.as_bytes());
    MachineKey::from_seed(&Secret::new(*seed.as_bytes()), [0; 8]).expect("a key")
}

/// The record as it is sent: a receipt with its signature.
fn signed(record: &Record, key: &MachineKey) -> Record {
    let mut record = record.clone();
    if let RecordBody::Receipt { payload, signature } = &mut record.body {
        let receipt: Receipt = serde_json::from_slice(payload).expect("a receipt");
        *signature = key.sign(payload, &receipt.domain()).minisig;
    }
    record
}

/// What every host is.
pub(super) fn platform() -> Platform {
    Platform { arch: Triple::own().to_string(), ..Platform::default() }
}

/// What a driver with a planted bug reads from its disk.
fn forgetful(mut state: Durable, bug: Option<Bug>) -> Durable {
    match bug {
        Some(Bug::ForgetSequence) => {
            for lane in &mut state.lanes {
                lane.next_seq = lane.entries.last_key_value().map_or(1, |(seq, _)| seq + 1);
            }
        }
        Some(Bug::AcceptLowerGeneration) => state.accepted = 0,
        Some(Bug::RunAgainWhatEnded) => {
            for tasks in state.tasks.values_mut() {
                tasks.retain(|_, task| matches!(task, sloth_protocol::agent::TaskState::Started { .. }));
            }
        }
        Some(Bug::ForgetWhatBegan) => {
            for tasks in state.tasks.values_mut() {
                tasks.retain(|_, task| matches!(task, sloth_protocol::agent::TaskState::Ended(_)));
            }
        }
        Some(
            Bug::SendBeforeCommit
            | Bug::AcknowledgeBeforeCommit
            | Bug::CountAgain
            | Bug::ReuseGenerations
            | Bug::SignWithAnotherKey
            | Bug::ForgetReceipts
            | Bug::ForgetRolloutHosts
            | Bug::BelieveInRollouts
            | Bug::ForgetHalts
            | Bug::ForgetCancels
            | Bug::ConfirmWhatFailed
            | Bug::StartAnother
            | Bug::TrustAnotherRoot,
        )
        | None => {}
    }
    state
}
