//! A fleet in one thread and in virtual time, determined by a seed.
//!
//! The machines of `sloth-protocol` run as they are. Around them the drivers do what the real ones must (event,
//! machine, commit, then effects), and the world does what it does: messages are late or lost, processes and power
//! go at any moment, disks fill up, workers die, operators change their minds, and a coordinator may be in the wrong
//! hands. Every invariant is checked where it could break; faults end after a while, and then the fleet must
//! converge.

mod center;
mod disk;
mod forgery;
mod host;
mod invariants;
mod labour;
mod network;
mod operators;
pub(crate) mod publisher;
pub(crate) mod rollouts;
mod scenario;
mod tally;
mod updates;
mod worker;

use std::collections::{BTreeMap, BTreeSet};

use sloth_core::{AgentId, Digest, Labels, Millis, RunId, TokenId};
use sloth_protocol::{
    agent,
    coordinator::{ConnId, EXPIRY_GRACE, Event},
    random::Random,
};

use center::Center;
use disk::RecordName;
use host::Host;
use invariants::{Check, HostWitness};
use network::{Conn, Request};
use operators::Errand;
use publisher::{START, publisher};
use scenario::{Action, Faults, HostClock, Scenario};
pub use tally::Tally;
use worker::Step;

/// After faults end, everything is done within this time.
pub const CONVERGENCE: Millis = Millis::from_secs(3 * 3600);
/// Most events of one simulation.
const EVENTS_MAX: u64 = 3_000_000;
/// How many events pass between two looks at whether everything is done.
const SETTLED_EVERY: u64 = 64;
/// Most lines of a trace that are kept: the last ones.
const TRACE_LINES_MAX: usize = 20_000;
const _: () = assert!(EVENTS_MAX > SETTLED_EVERY);

/// One simulation.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// What determines it.
    pub seed: u64,
    /// A bug to plant in the drivers, which the invariants must find.
    pub bug: Option<Bug>,
    /// Whether to keep a trace.
    pub trace: bool,
}

/// Bugs that a driver could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The agent's driver does what the machine says before it commits.
    SendBeforeCommit,
    /// The agent's driver forgets the numbers that it gave to records that are gone.
    ForgetSequence,
    /// The agent's driver forgets the generation that it accepted.
    AcceptLowerGeneration,
    /// The agent's driver forgets which tasks have ended.
    RunAgainWhatEnded,
    /// The agent's driver forgets which attempts were begun.
    ForgetWhatBegan,
    /// The agent trusts the root of somebody else.
    TrustAnotherRoot,
    /// The coordinator's driver answers before it commits.
    AcknowledgeBeforeCommit,
    /// The coordinator's driver forgets how far it has counted.
    CountAgain,
    /// The coordinator's driver forgets the generations that it gave.
    ReuseGenerations,
    /// The agent's driver signs receipts with a key that it was not enrolled with.
    SignWithAnotherKey,
    /// The coordinator's driver does not keep receipts.
    ForgetReceipts,
    /// The coordinator's driver forgets which hosts rollouts have changed.
    ForgetRolloutHosts,
    /// The coordinator's driver takes every host that a rollout has changed for proven.
    BelieveInRollouts,
    /// The coordinator's driver forgets that rollouts have halted.
    ForgetHalts,
    /// The coordinator's driver does not keep that updates are taken back.
    ForgetCancels,
    /// The agent's supervisor says of every update that it works.
    ConfirmWhatFailed,
    /// The agent's supervisor starts another version than the one that was staged.
    StartAnother,
}

/// An invariant that did not hold, and how to see it again.
#[derive(Debug, thiserror::Error)]
#[error("seed {seed}: `{invariant}` does not hold after {after_ms} ms: {detail}")]
pub struct Failure {
    /// Of which simulation.
    pub seed: u64,
    /// The name of the invariant.
    pub invariant: &'static str,
    /// When, in virtual time from the start.
    pub after_ms: u64,
    /// What was seen.
    pub detail: String,
    /// The last lines of the trace, if one was kept.
    pub trace: Vec<String>,
}

/// What happens next somewhere.
#[derive(Debug)]
enum Happening {
    Act(Action),
    HostStart { host: usize, life: u64 },
    HostWake { host: usize, life: u64, at: Millis },
    Local { host: usize, life: u64, event: Box<agent::Event> },
    FetchDone { host: usize, life: u64, run: RunId, manifest: Digest },
    Worker { host: usize, run: RunId, id: u64, step: Step },
    Accept { host: usize, life: u64, link: u64, center_life: u64 },
    HostConnected { host: usize, life: u64, link: u64, conn: ConnId },
    HostDisconnected { host: usize, life: u64, link: u64 },
    Request(Request),
    Answer { host: usize, life: u64, conn: ConnId, ticket: agent::Ticket, frame: Vec<u8> },
    Enroll { host: usize, life: u64 },
    Enrolled { host: usize, life: u64, agent: AgentId, labels: Labels, root: Vec<u8> },
    NotEnrolled { host: usize, reason: String },
    CenterStart { life: u64 },
    CenterWake { life: u64, at: Millis },
    CenterClosed { life: u64, conn: ConnId },
    CenterCommit { life: u64 },
    Errand { number: usize, attempt: u64 },
    GiveUp { host: usize, from: String, version: String },
}

/// The fleet and its world.
struct Sim {
    now: Millis,
    random: Random,
    scenario: Scenario,
    bug: Option<Bug>,
    healed: bool,
    /// In order of time, then of planning.
    queue: BTreeMap<(Millis, u64), Happening>,
    planned: u64,
    hosts: Vec<Host>,
    center: Center,
    conns: BTreeMap<ConnId, Conn>,
    conn_ids: ConnId,
    worker_ids: u64,
    record_names: RecordName,
    errands: Vec<Errand>,
    /// Tokens that were handed out, with the labels they give.
    tokens: BTreeMap<usize, (TokenId, Labels)>,
    revoked: BTreeSet<AgentId>,
    /// Records that may go uncounted: given up in a history that a disk forgot, or made in one whose numbers no
    /// longer tell it from that history.
    excused: BTreeSet<RecordName>,
    tally: Tally,
    trace: Option<Vec<String>>,
}

/// Runs one simulation to its end.
///
/// # Errors
///
/// The first invariant that does not hold.
pub fn run(options: Options) -> Result<Tally, Box<Failure>> {
    let mut sim = Sim::new(options);
    match sim.run() {
        Ok(()) => Ok(sim.tally),
        Err(violation) => Err(Box::new(Failure {
            seed: options.seed,
            invariant: violation.invariant,
            after_ms: sim.now.since(START).as_u64(),
            detail: violation.detail,
            trace: sim.trace.unwrap_or_default(),
        })),
    }
}

impl Sim {
    fn new(options: Options) -> Self {
        let mut random = Random::new(options.seed);
        let scenario = Scenario::draw(&mut random);
        Self {
            now: START,
            random,
            bug: options.bug,
            healed: false,
            queue: BTreeMap::new(),
            planned: 0,
            hosts: scenario.hosts.iter().cloned().map(Host::new).collect(),
            center: Center::new(),
            conns: BTreeMap::new(),
            conn_ids: 0,
            worker_ids: 0,
            record_names: 0,
            errands: Vec::new(),
            tokens: BTreeMap::new(),
            revoked: BTreeSet::new(),
            excused: BTreeSet::new(),
            tally: Tally::default(),
            trace: options.trace.then(Vec::new),
            scenario,
        }
    }

    fn run(&mut self) -> Check {
        self.start_center()?;
        for (at, action) in std::mem::take(&mut self.scenario.actions) {
            self.after(at.since(START).as_u64(), Happening::Act(action));
        }
        while let Some(((at, _), happening)) = self.queue.pop_first() {
            self.now = at;
            if !self.healed && self.scenario.horizon < at.since(START) {
                self.heal();
            }
            self.tally.events += 1;
            self.happen(happening)?;
            let look = self.tally.events.is_multiple_of(SETTLED_EVERY);
            if self.healed && look && (self.is_settled() || self.give_up_at() < self.now) {
                break;
            }
            if EVENTS_MAX < self.tally.events {
                break;
            }
        }
        self.check_convergence()
    }

    /// Faults end: what is broken works again.
    fn heal(&mut self) {
        self.trace(|| "faults end".to_owned());
        self.healed = true;
        self.center.disk_full_until = Millis::ZERO;
        for index in 0..self.hosts.len() {
            let host = &mut self.hosts[index];
            (host.partitioned_until, host.disk_full_until) = (Millis::ZERO, Millis::ZERO);
            host.clock = HostClock::Right;
            let life = host.life;
            self.after(1, Happening::HostStart { host: index, life });
        }
        self.after(1, Happening::CenterStart { life: self.center.life });
    }

    /// When everything must be done: runs whose end nobody can tell take until their deadline.
    fn give_up_at(&self) -> Millis {
        let healed = START + self.scenario.horizon;
        let lost = |witness: &HostWitness| witness.lost_unnamed || !witness.lost_ends.is_empty();
        let damaged = |host: &Host| host.rolled_back || lost(&host.witness);
        let deadlines = self.center.disk.state.runs.values().map(|run| run.deadline + EXPIRY_GRACE);
        let latest = deadlines.max().filter(|_| self.hosts.iter().any(damaged)).unwrap_or(healed);
        healed.max(latest) + CONVERGENCE
    }

    fn is_settled(&self) -> bool {
        let root = self.center.disk.state.root().map(|root| publisher().version_of(root));
        let idle = |host: &Host| {
            let state = &host.disk.state;
            let newest_root = host.root_version() == root || self.bug == Some(Bug::TrustAnotherRoot);
            newest_root
                && self.has_newest_head(host)
                && state.jobs.is_empty()
                && state.lanes.iter().all(|lane| lane.entries.is_empty())
                && host.keeps_in_touch()
        };
        invariants::every_run_ends(&self.center.disk).is_ok()
            && rollouts::rest(&self.center.disk.state)
            && self.errands.iter().all(|errand| errand.done)
            && self.hosts.iter().all(|host| self.is_revoked(host) || idle(host))
    }

    fn has_newest_head(&self, host: &Host) -> bool {
        let foreign = self.bug == Some(Bug::TrustAnotherRoot);
        foreign || invariants::every_agent_has_the_newest_head(host, &self.center.disk, self.now).is_ok()
    }

    fn check_convergence(&self) -> Check {
        // Who trusts somebody else does nothing that is ordered; it is to be found by what it does.
        if self.bug == Some(Bug::TrustAnotherRoot) {
            return Ok(());
        }
        self.check_versions()?;
        invariants::every_run_ends(&self.center.disk)?;
        for host in self.hosts.iter().filter(|host| !self.is_revoked(host)) {
            if host.id.is_none() {
                return invariants::every_host_gets_in(&host.plan.name, "still outside in the end");
            }
            invariants::every_agent_comes_back(host)?;
            invariants::every_outbox_is_empty(host)?;
            invariants::the_coordinator_knows_how_updates_ended(host, &self.center.disk)?;
            invariants::every_end_has_its_receipt(host, &self.center.disk)?;
            invariants::every_agent_has_the_newest_root(host, &self.center.disk)?;
            invariants::every_agent_has_the_newest_head(host, &self.center.disk, self.now)?;
            if !host.rolled_back {
                invariants::the_coordinator_knows_how_runs_ended(host, &self.center.disk)?;
            }
        }
        Ok(())
    }

    /// Whether the identity that a host has, or would have, was withdrawn.
    fn is_revoked(&self, host: &Host) -> bool {
        let agents = &self.center.disk.state.agents;
        match host.id {
            Some(id) => self.revoked.contains(&id),
            None => agents.values().any(|agent| agent.name == host.plan.name && agent.revoked),
        }
    }

    fn happen(&mut self, happening: Happening) -> Check {
        let alive = |sim: &Self, host: usize, life: u64| sim.hosts[host].life == life;
        match happening {
            Happening::Act(action) => self.act(action),
            Happening::HostStart { host, life } if alive(self, host, life) && self.hosts[host].machine.is_none() => {
                self.start_host(host)
            }
            Happening::HostWake { host, life, at } if alive(self, host, life) => {
                if self.hosts[host].wake_at == Some(at) { self.host_event(host, agent::Event::Wake) } else { Ok(()) }
            }
            Happening::Local { host, life, event } if alive(self, host, life) => self.host_event(host, *event),
            Happening::FetchDone { host, life, run, manifest } if alive(self, host, life) => {
                self.fetch_done(host, run, manifest)
            }
            Happening::Worker { host, run, id, step } => {
                self.worker_step(host, run, id, step);
                Ok(())
            }
            Happening::Accept { host, life, link, center_life } => self.accept(host, life, link, center_life),
            Happening::HostConnected { host, life, link, conn } if alive(self, host, life) => {
                self.connected(host, link, conn)
            }
            Happening::HostDisconnected { host, life, link } if alive(self, host, life) => {
                self.disconnected(host, link)
            }
            Happening::Answer { host, life, conn, ticket, frame } if alive(self, host, life) => {
                self.answered(host, conn, ticket, &frame)
            }
            Happening::Enroll { host, life } if alive(self, host, life) => self.enroll(host),
            Happening::Enrolled { host, life, agent, labels, root } if alive(self, host, life) => {
                self.enrolled(host, agent, labels, root)
            }
            Happening::NotEnrolled { host, reason } => self.not_enrolled(host, &reason),
            Happening::Errand { number, attempt } => self.try_errand(number, attempt),
            Happening::GiveUp { host, from, version } => {
                self.give_up_version(host, from, &version);
                Ok(())
            }
            Happening::Request(request) => self.requested(request),
            Happening::CenterStart { life } if self.center.life == life && !self.center.is_up() => self.start_center(),
            Happening::CenterWake { life, at } if self.center.life == life => {
                if self.center.wake_at == Some(at) {
                    self.center_event(Event::Wake, BTreeMap::new())
                } else {
                    Ok(())
                }
            }
            Happening::CenterClosed { life, conn } if self.center.life == life => {
                self.conns.remove(&conn);
                self.center_event(Event::Closed { conn }, BTreeMap::new())
            }
            Happening::CenterCommit { life } if self.center.life == life => self.center_commit(),
            // It was meant for a process that is no more.
            Happening::HostStart { .. }
            | Happening::HostWake { .. }
            | Happening::Local { .. }
            | Happening::FetchDone { .. }
            | Happening::HostConnected { .. }
            | Happening::HostDisconnected { .. }
            | Happening::Answer { .. }
            | Happening::Enroll { .. }
            | Happening::Enrolled { .. }
            | Happening::CenterStart { .. }
            | Happening::CenterWake { .. }
            | Happening::CenterClosed { .. }
            | Happening::CenterCommit { .. } => Ok(()),
        }
    }

    fn act(&mut self, action: Action) -> Check {
        self.trace(|| format!("{action:?}"));
        let until = |now: Millis, span: u64| now + Millis::from_u64(span);
        match action {
            Action::Operate(operation) => return self.operate(operation),
            Action::CrashHost(host, span) => self.crash_host(host, span),
            Action::CrashCenter(span) => self.crash_center(span),
            Action::Partition(host, span) => {
                self.tally.partitions += 1;
                self.hosts[host].partitioned_until = until(self.now, span);
                self.sever_host(host);
            }
            Action::HostDiskFull(host, span) => self.hosts[host].disk_full_until = until(self.now, span),
            Action::CenterDiskFull(span) => self.center.disk_full_until = until(self.now, span),
            Action::SetClock(host, clock) => {
                self.tally.clock_jumps += u64::from(clock != HostClock::Right);
                self.hosts[host].clock = clock;
                return self.host_event(host, agent::Event::Wake);
            }
            Action::Snapshot(host) => {
                let host = &mut self.hosts[host];
                host.snapshot = host.id.map(|_| (host.disk.clone(), host.witness.clone()));
            }
            Action::RollBack(host) => self.roll_back(host),
        }
        Ok(())
    }

    fn disconnected(&mut self, host: usize, link: u64) -> Check {
        if self.hosts[host].link.is_some_and(|(open, _)| open == link) {
            self.hosts[host].link = None;
        }
        self.host_event(host, agent::Event::Disconnected { link, reason: "timed out".to_owned() })
    }

    /// Plans something for `wait` milliseconds from now.
    fn after(&mut self, wait: u64, happening: Happening) {
        self.planned += 1;
        self.queue.insert((self.now + Millis::from_u64(wait), self.planned), happening);
    }

    fn faults(&self) -> Faults {
        if self.healed { Faults::default() } else { self.scenario.faults }
    }

    /// True so many times in a thousand.
    fn chance(&mut self, in_a_thousand: u64) -> bool {
        in_a_thousand != 0 && self.random.below(1000) < in_a_thousand
    }

    /// How long a message takes.
    fn delay(&mut self) -> u64 {
        1 + self.random.below(self.scenario.delay_max)
    }

    fn trace(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            if TRACE_LINES_MAX <= trace.len() {
                trace.drain(..TRACE_LINES_MAX / 2);
            }
            let after = self.now.since(START).as_u64();
            trace.push(format!("{:>9}.{:03} {}", after / 1000, after % 1000, tally::without_bytes(&line())));
        }
    }
}
