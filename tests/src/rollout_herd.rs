//! A rollout over a large fleet: the coordinator's machine as it is, and hosts that poll, do well, fail, break, are cut off
//! and come back, while the coordinator itself restarts.

use std::collections::{BTreeMap, BTreeSet};

use sloth_core::{AgentId, Digest, Labels, Millis, RunId};
use sloth_protocol::{
    coordinator::{
        AgentRecord, AgentReleaseRow, Answer, Ask, CheckedReport, Command, Coordinator, Durable, Event, Instruction,
        Release, Reply, RolloutOrder, Settings,
    },
    random::Random,
    rollout::EVERYTHING,
    wire::{
        Approval, Dropped, Hello, Lane, OnHalt, PROTO_MAX, PROTO_MIN, Platform, Poll, Record, RecordBody, Report,
        RolloutAgent, RolloutBundle, RolloutRequest, RolloutResponse, RolloutSpec, RolloutStatus, RolloutView,
        RolloutWhat, RunEnd, RunOutcome, Share, UpdateReport, UpdateVerdict, WaveMembers, WaveSpec,
    },
};
use sloth_trust::Triple;

use crate::sim::{
    publisher::{START, publisher},
    rollouts::a_rollout_keeps_its_budget,
};

const HOLD: Millis = Millis::from_secs(300);
const SOAK: Millis = Millis::from_secs(60);
/// Longest that a host takes for the release.
const WORK_MS: u64 = 20_000;
/// Longest that a host is cut off: less than what makes it silent.
const CUT_MS: u64 = 300_000;
/// How often something happens to the fleet as a whole.
const WEATHER: Millis = Millis::from_secs(20);
/// The rollout is over by then, or it never is.
const LIMIT: Millis = Millis::from_secs(12 * 3600);
const NAME: &str = "herd";
/// The version that hosts run at first, and the one of the release.
const BEFORE: &str = "0.1.0";
const AFTER: &str = "0.2.0";

/// What a release does to hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// All is well, but for one host in a thousand.
    Good,
    /// A third of the hosts fail, a third fall silent, and a third fall silent after they succeeded.
    Bad,
}

/// What is rolled out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A release of a bundle.
    Bundle,
    /// A release of the agent: hosts fail by going back to the version before.
    Agent,
}

/// What became of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rolled {
    /// How it stood in the end.
    pub status: RolloutStatus,
    /// How many hosts the release reached.
    pub reached: usize,
    /// How many hosts are in the first wave.
    pub first_wave: usize,
    /// How many were proven.
    pub proven: usize,
    /// How often the coordinator was started again.
    pub restarts: u32,
    /// How often hosts were cut off.
    pub cuts: u32,
}

enum Happening {
    Weather,
    CoordinatorWakes(Millis),
    /// The host asks again, if this is still the last that it asked.
    HoldIsOver(usize, u64),
    Done(usize, Order),
    Back(usize),
}

struct Herd {
    now: Millis,
    random: Random,
    quality: Quality,
    machine: Coordinator,
    state: Durable,
    queue: BTreeMap<(Millis, u64), Happening>,
    planned: u64,
    hosts: Vec<Host>,
    wakes: Option<Millis>,
    tickets: u64,
    askers: BTreeMap<u64, usize>,
    replies: BTreeMap<u64, Answer>,
    succeeded: BTreeSet<(AgentId, Order)>,
    reached: BTreeSet<AgentId>,
    violation: Option<String>,
    rolled: (u32, u32),
}

/// What a host was told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Run(RunId),
    Update(u64),
}

#[derive(Debug, Clone)]
struct Host {
    id: AgentId,
    connected: bool,
    /// It is never heard of again.
    broken: bool,
    accepted: u64,
    seq: u64,
    /// The ticket of its last poll: one that it stands in for is answered too, and means nothing.
    polled: u64,
    /// What it runs.
    version: &'static str,
}

/// Rolls a release out over `count` hosts: 1 %, 10 %, 50 %, 100 %, and `unproven_max` hosts at a time.
///
/// # Errors
///
/// The first rule that does not hold.
pub fn roll_out(count: usize, kind: Kind, quality: Quality, unproven_max: Share, seed: u64) -> Result<Rolled, String> {
    let mut herd = Herd::new(count, quality, seed);
    herd.tell(Event::Wake);
    (0..count).for_each(|place| herd.connect(place));
    herd.plan(WEATHER, Happening::Weather);
    let begun = herd.ask(RolloutRequest::Create(spec(kind, unproven_max)))?;
    let mut view = begun;
    while herd.now < START + LIMIT {
        herd.step();
        if let Some(violation) = herd.violation.take() {
            return Err(violation);
        }
        if herd.state.rollouts.values().all(|record| record.status != RolloutStatus::Running) {
            break;
        }
    }
    // Whatever was under way when it halted comes to its end.
    let over = herd.now + HOLD + HOLD;
    while herd.now < over {
        herd.step();
    }
    if let Some(violation) = herd.violation.take() {
        return Err(violation);
    }
    view = herd.ask(RolloutRequest::Show(view.summary.name))?;
    let (restarts, cuts) = herd.rolled;
    let size = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    Ok(Rolled {
        status: view.summary.status,
        reached: herd.reached.len(),
        first_wave: view.waves.first().map_or(0, |wave| size(wave.counts.members)),
        proven: size(view.summary.hosts.proven),
        restarts,
        cuts,
    })
}

impl Herd {
    fn new(count: usize, quality: Quality, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut hosts: Vec<Host> = (0..count).map(|_| Host::new(AgentId::new(START, random.next_u128()))).collect();
        hosts.sort_by_key(|host| host.id);
        let mut state = Durable { roots: [(1, publisher().roots[0].clone())].into(), ..Durable::default() };
        state.agents = hosts.iter().enumerate().map(|(place, host)| (host.id, record(place))).collect();
        let release = &publisher().releases[0];
        let (envelope, metadata) = (release.envelope.clone(), release.metadata.clone());
        let name = metadata.name.clone();
        let release =
            Release { envelope, metadata, size: 1000, workflows: ["main".to_owned()].into(), signers: Vec::new() };
        state.bundles.insert(name, [(release.metadata.counter, release)].into());
        let (envelope, release) = publisher().agent_releases[0].clone();
        state.releases.insert(release.counter, AgentReleaseRow { envelope, release, signers: Vec::new() });
        let machine = Coordinator::restore(state.clone(), Settings::default(), START, seed).expect("its own root");
        Self {
            now: START,
            random,
            quality,
            machine,
            state,
            queue: BTreeMap::new(),
            planned: 0,
            hosts,
            wakes: None,
            tickets: 0,
            askers: BTreeMap::new(),
            replies: BTreeMap::new(),
            succeeded: BTreeSet::new(),
            reached: BTreeSet::new(),
            violation: None,
            rolled: (0, 0),
        }
    }

    fn plan(&mut self, wait: Millis, happening: Happening) {
        self.planned += 1;
        self.queue.insert((self.now + wait, self.planned), happening);
    }

    fn step(&mut self) {
        let Some(((at, _), happening)) = self.queue.pop_first() else { return };
        self.now = at;
        match happening {
            Happening::CoordinatorWakes(at) if self.wakes == Some(at) => {
                self.wakes = None;
                self.tell(Event::Wake);
            }
            Happening::CoordinatorWakes(_) => {}
            Happening::HoldIsOver(place, ticket) => {
                let host = &self.hosts[place];
                if host.connected && host.polled == ticket {
                    self.poll(place);
                }
            }
            Happening::Done(place, order) => self.done(place, order),
            Happening::Back(place) if !self.hosts[place].broken => self.connect(place),
            Happening::Back(_) => {}
            Happening::Weather => self.weather(),
        }
    }

    /// Some hosts are cut off for a while; now and then the coordinator starts again.
    fn weather(&mut self) {
        for _ in 0..self.hosts.len() / 500 {
            let place = self.pick();
            if self.hosts[place].connected {
                self.rolled.1 += 1;
                self.disconnect(place);
                let away = Millis::from_u64(self.random.below(CUT_MS));
                self.plan(away, Happening::Back(place));
            }
        }
        if self.random.below(10) == 0 {
            self.restart();
        }
        self.plan(WEATHER, Happening::Weather);
    }

    fn restart(&mut self) {
        self.rolled.0 += 1;
        let seed = self.random.next_u64();
        self.machine =
            Coordinator::restore(self.state.clone(), Settings::default(), self.now, seed).expect("its own root");
        self.wakes = None;
        self.askers.clear();
        self.tell(Event::Wake);
        let connected: Vec<usize> = (0..self.hosts.len()).filter(|place| self.hosts[*place].connected).collect();
        connected.into_iter().for_each(|place| self.connect(place));
    }

    fn pick(&mut self) -> usize {
        let bound = u64::try_from(self.hosts.len()).unwrap_or(u64::MAX);
        usize::try_from(self.random.below(bound)).unwrap_or(0)
    }

    fn connect(&mut self, place: usize) {
        self.hosts[place].connected = true;
        let (agent, conn) = (self.hosts[place].id, conn(place));
        self.tell(Event::Connected { conn, agent });
        let hello = Hello {
            proto_min: PROTO_MIN,
            proto_max: PROTO_MAX,
            features: 0,
            version: self.hosts[place].version.to_owned(),
            platform: platform(),
            labels: Labels::new(),
            instance: 1,
        };
        self.ask_as(place, Ask::Hello(hello));
        self.poll(place);
    }

    fn disconnect(&mut self, place: usize) {
        self.hosts[place].connected = false;
        self.tell(Event::Closed { conn: conn(place) });
    }

    fn poll(&mut self, place: usize) {
        let accepted = self.hosts[place].accepted;
        self.hosts[place].polled = self.tickets + 1;
        self.ask_as(place, Ask::Poll(Poll { accepted, hold: HOLD, room: 5, root: 1, head: 0 }));
    }

    fn ask_as(&mut self, place: usize, ask: Ask) {
        self.tickets += 1;
        let ticket = self.tickets;
        self.askers.insert(ticket, place);
        self.tell(Event::Asked { conn: conn(place), ticket, ask });
    }

    fn ask(&mut self, request: RolloutRequest) -> Result<RolloutView, String> {
        self.tickets += 1;
        let ticket = self.tickets;
        let command = Command::Rollout(request);
        self.tell(Event::Command { ticket, operator: "root".to_owned(), command });
        match self.replies.remove(&ticket) {
            Some(Answer::Operator(Reply::Rollout(response))) => match *response {
                RolloutResponse::Rollout(view) => Ok(*view),
                other @ (RolloutResponse::Plan(_) | RolloutResponse::Rollouts(_) | RolloutResponse::Hosts(_)) => {
                    Err(format!("{other:?}"))
                }
            },
            answer => Err(format!("{answer:?}")),
        }
    }

    fn tell(&mut self, event: Event) {
        let output = self.machine.handle(self.now, event);
        let succeeded = &self.succeeded;
        for write in &output.writes {
            let well = |agent, order: &RolloutOrder| succeeded.contains(&(agent, Order::of(order)));
            let check = a_rollout_keeps_its_budget(&self.state, write, well, |_| false);
            if let Err(violation) = check {
                self.violation.get_or_insert(violation.detail);
            }
            self.state.apply(write);
        }
        if let Some(at) = output.wake_at.filter(|at| self.wakes != Some(*at)) {
            self.wakes = Some(at);
            self.plan(at.since(self.now), Happening::CoordinatorWakes(at));
        }
        for (ticket, answer) in output.answers {
            let Some(place) = self.askers.remove(&ticket) else {
                self.replies.insert(ticket, answer);
                continue;
            };
            if let Answer::Work(orders) = answer {
                self.told(place, ticket, orders.items);
            }
        }
    }

    fn told(&mut self, place: usize, ticket: u64, items: Vec<(u64, Instruction)>) {
        for (generation, instruction) in items {
            if generation <= self.hosts[place].accepted {
                continue;
            }
            self.hosts[place].accepted = generation;
            let order = match instruction {
                Instruction::Run { run, .. } => Order::Run(run),
                Instruction::Update { .. } => Order::Update(publisher().agent_releases[0].1.counter),
                Instruction::Cancel { .. } | Instruction::CancelUpdate { .. } => continue,
            };
            self.reached.insert(self.hosts[place].id);
            let wait = Millis::from_u64(1 + self.random.below(WORK_MS));
            self.plan(wait, Happening::Done(place, order));
        }
        // The next question comes a moment later.
        self.plan(Millis::from_u64(1), Happening::HoldIsOver(place, ticket));
    }

    fn done(&mut self, place: usize, order: Order) {
        let host = &self.hosts[place];
        let luck = u64::from_be_bytes(Digest::of(&host.id.to_bytes()).as_bytes()[..8].try_into().unwrap_or([0; 8]));
        let outcome = match (self.quality, luck % 3) {
            (Quality::Good, _) if luck.is_multiple_of(1000) => RunOutcome::Failed,
            (Quality::Good, _) => RunOutcome::Succeeded,
            (Quality::Bad, 0) => RunOutcome::Failed,
            (Quality::Bad, 1) => return self.breaks(place),
            (Quality::Bad, _) => RunOutcome::Succeeded,
        };
        if !host.connected {
            // It tells when it is back.
            return self.plan(Millis::from_secs(10), Happening::Done(place, order));
        }
        if outcome == RunOutcome::Succeeded {
            self.succeeded.insert((host.id, order));
            if matches!(order, Order::Update(_)) {
                self.hosts[place].version = AFTER;
            }
        }
        self.hosts[place].seq += 1;
        let seq = self.hosts[place].seq;
        let (run, body) = order.ended(outcome);
        let record = Record { seq, run, at: self.now, body };
        let report = Report { lane: Lane::Results, dropped: Dropped::default(), records: vec![record] };
        let agent = self.hosts[place].id;
        self.ask_as(place, Ask::Report(CheckedReport::new(report, agent, None)));
        if self.quality == Quality::Bad && outcome == RunOutcome::Succeeded {
            self.breaks(place);
        }
    }

    /// A host falls silent, for good.
    fn breaks(&mut self, place: usize) {
        self.hosts[place].broken = true;
        if self.hosts[place].connected {
            self.disconnect(place);
        }
    }
}

impl Order {
    fn of(order: &RolloutOrder) -> Self {
        match order {
            RolloutOrder::Run(run) => Self::Run(*run),
            RolloutOrder::Update { counter, .. } => Self::Update(*counter),
        }
    }

    /// What a host says when it is done.
    fn ended(self, outcome: RunOutcome) -> (RunId, RecordBody) {
        let (none, is_good) = (String::new(), outcome == RunOutcome::Succeeded);
        match self {
            Self::Run(run) => (run, RecordBody::RunEnded(RunEnd { outcome, message: none.clone(), outputs: none })),
            Self::Update(counter) => {
                let verdict = if is_good { UpdateVerdict::Confirmed } else { UpdateVerdict::RolledBack };
                let (from, to) = (BEFORE.to_owned(), AFTER.to_owned());
                let (counter, reason, log_tail) = (Some(counter), none.clone(), none);
                (RunId::NIL, RecordBody::Update(UpdateReport { counter, from, to, verdict, reason, log_tail }))
            }
        }
    }
}

impl Host {
    const fn new(id: AgentId) -> Self {
        Self { id, connected: false, broken: false, accepted: 0, seq: 0, polled: 0, version: BEFORE }
    }
}

fn conn(place: usize) -> u64 {
    u64::try_from(place).unwrap_or(u64::MAX) + 1
}

fn record(place: usize) -> AgentRecord {
    AgentRecord {
        name: format!("host-{place}"),
        host_labels: Labels::new(),
        enrolled_labels: Labels::new(),
        version: "0.1.0".to_owned(),
        platform: platform(),
        key: Digest::of(&place.to_be_bytes()),
        receipt_key: publisher().online[0].public().clone(),
        proto: PROTO_MAX,
        update: None,
        copied: None,
        enrolled: START,
        last_seen: START,
        revoked: false,
        next_generation: 1,
    }
}

fn platform() -> Platform {
    Platform { arch: Triple::own().to_string(), ..Platform::default() }
}

fn spec(kind: Kind, unproven_max: Share) -> RolloutSpec {
    let bundle = || RolloutBundle { name: "app".to_owned(), version: None, workflow: None, values: "{}".to_owned() };
    let what = match kind {
        Kind::Bundle => RolloutWhat::Bundle(bundle()),
        Kind::Agent => RolloutWhat::Agent(RolloutAgent { version: "0.2.0".to_owned(), channel: None }),
    };
    let share = |percent: u32| WaveMembers::UpTo(Share::Hundredths(percent * 100));
    let wave = |members| WaveSpec { members, soak: SOAK, approval: Approval::NotNeeded };
    RolloutSpec {
        name: NAME.to_owned(),
        what,
        selector: "*".to_owned(),
        waves: [1, 10, 50, 100].map(|percent| wave(share(percent))).to_vec(),
        errors_per_wave: Share::Hundredths(200),
        errors_in_all: Share::Hundredths(EVERYTHING),
        unproven_max,
        proven_min: Share::Count(1),
        windows: Vec::new(),
        silent_after: 3,
        timeout: Millis::from_secs(3600),
        on_halt: OnHalt::Stop,
    }
}
