//! A whole fleet that loses its coordinator at one instant: how hard it knocks, and how soon it is back.
//!
//! The machines are the real ones, the network takes no time, and a coordinator that is away refuses at once, which
//! is the worst for whoever counts the attempts.

use std::collections::{BTreeMap, BTreeSet};

use sloth_core::{AgentId, Digest, Labels, Millis};
use sloth_protocol::{
    agent::{self, Agent, Ask, Config, Effect, Pacing, Updates},
    coordinator::{self, AgentRecord, Answer, Coordinator, Settings},
    random::Random,
    wire::{AgentResponse, PROTO_MAX, Platform},
};

use crate::sim::publisher::{START, Sealer, publisher};

/// The fleet is connected and quiet before the coordinator goes.
const QUIET: Millis = Millis::from_secs(600);
/// How long the fleet is watched after the coordinator is back.
const WATCHED: Millis = Millis::from_secs(600);
const HOLD: Millis = Millis::from_secs(300);

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Most attempts to connect in one second, from the moment that the coordinator went.
    pub attempts_per_second_max: u64,
    /// How many agents were back in the end.
    pub back: usize,
    /// When the last of them was back, after the coordinator was.
    pub all_back_after: Option<Millis>,
    /// Most connections that the coordinator took in one second after its return.
    pub returns_per_second_max: u64,
}

enum Happening {
    Wake(usize, Millis),
    Tell(usize, agent::Event),
    Ask(usize, agent::Ticket, Ask),
    CoordinatorWakes(Millis),
}

struct Herd {
    now: Millis,
    random: Random,
    queue: BTreeMap<(Millis, u64), Happening>,
    planned: u64,
    agents: Vec<Agent>,
    ids: Vec<AgentId>,
    links: Vec<u64>,
    wakes: Vec<Option<Millis>>,
    coordinator_wakes: Option<Millis>,
    coordinator: Option<Coordinator>,
    state: coordinator::Durable,
    attempts: BTreeMap<u64, u64>,
    returns: BTreeMap<u64, u64>,
    away: BTreeSet<usize>,
    away_since: Option<Millis>,
    all_back_at: Option<Millis>,
    sealer: Sealer,
    failed: usize,
}

/// Lets a fleet of `count` agents lose its coordinator for `outage`.
#[must_use]
pub fn outage(count: usize, outage: Millis, seed: u64) -> Seen {
    let mut herd = Herd::new(count, seed);
    herd.start_coordinator();
    for index in 0..count {
        herd.give(index, agent::Event::Wake);
    }
    herd.run_until(START + QUIET);
    herd.lose_coordinator();
    let back = herd.now + outage;
    herd.run_until(back);
    herd.start_coordinator();
    herd.run_until(back + WATCHED);
    Seen {
        attempts_per_second_max: herd.attempts.values().copied().max().unwrap_or(0),
        back: count - herd.away.len(),
        all_back_after: herd.all_back_at.map(|at| at.since(back)),
        returns_per_second_max: herd.returns.values().copied().max().unwrap_or(0),
    }
}

/// What was seen of a change of the trust root.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rooted {
    /// How many agents trust the new root in the end.
    pub agents: usize,
    /// Requests that were refused, and connections that ended.
    pub failed: usize,
}

/// Gives the coordinator of a quiet fleet of `count` agents the next trust root.
#[must_use]
pub fn new_root(count: usize, seed: u64) -> Rooted {
    let mut herd = Herd::new(count, seed);
    herd.start_coordinator();
    for index in 0..count {
        herd.give(index, agent::Event::Wake);
    }
    herd.run_until(START + QUIET);
    let command = coordinator::Command::PutRoot(publisher().roots[1].clone());
    herd.tell_coordinator(coordinator::Event::Command { ticket: 0, operator: "root".to_owned(), command });
    herd.run_until(START + QUIET + HOLD);
    let agents = herd.agents.iter().filter(|agent| agent.root().version == 2 && agent.is_connected()).count();
    Rooted { agents, failed: herd.failed }
}

impl Herd {
    fn new(count: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let ids: Vec<AgentId> = (0..count).map(|_| AgentId::new(START, random.next_u128())).collect();
        let record = |index: usize, id: &AgentId| (*id, record(index));
        let agents = ids.iter().enumerate().map(|(index, id)| record(index, id)).collect();
        let state =
            coordinator::Durable { roots: [(1, publisher().roots[0].clone())].into(), agents, ..Default::default() };
        Self {
            now: START,
            queue: BTreeMap::new(),
            planned: 0,
            agents: ids.iter().enumerate().map(|(index, id)| agent(index, *id, random.next_u64())).collect(),
            links: vec![0; count],
            wakes: vec![None; count],
            coordinator_wakes: None,
            coordinator: None,
            state,
            attempts: BTreeMap::new(),
            returns: BTreeMap::new(),
            away: (0..count).collect(),
            away_since: None,
            all_back_at: None,
            ids,
            sealer: Sealer::default(),
            failed: 0,
            random,
        }
    }

    fn start_coordinator(&mut self) {
        let seed = self.random.next_u64();
        let coordinator =
            Coordinator::restore(self.state.clone(), Settings::default(), self.now, seed).expect("its own root");
        self.coordinator = Some(coordinator);
        self.coordinator_wakes = None;
        self.tell_coordinator(coordinator::Event::Wake);
    }

    fn lose_coordinator(&mut self) {
        assert!(self.away.is_empty(), "the fleet is whole before the coordinator goes");
        self.coordinator = None;
        self.away_since = Some(self.now);
        self.all_back_at = None;
        for index in 0..self.agents.len() {
            self.away.insert(index);
            let link = self.links[index];
            self.give(index, agent::Event::Disconnected { link, reason: "reset".to_owned() });
        }
    }

    fn run_until(&mut self, end: Millis) {
        while let Some(((at, planned), happening)) = self.queue.pop_first() {
            if end < at {
                self.queue.insert((at, planned), happening);
                break;
            }
            self.now = at;
            match happening {
                Happening::Wake(index, at) if self.wakes[index] == Some(at) => {
                    self.wakes[index] = None;
                    self.give(index, agent::Event::Wake);
                }
                Happening::CoordinatorWakes(at) if self.coordinator_wakes == Some(at) => {
                    self.coordinator_wakes = None;
                    self.tell_coordinator(coordinator::Event::Wake);
                }
                // Another time was asked for since.
                Happening::Wake(..) | Happening::CoordinatorWakes(_) => {}
                Happening::Tell(index, event) => self.give(index, event),
                Happening::Ask(index, ticket, ask) => self.asked(index, ticket, ask),
            }
        }
        self.now = end;
    }

    fn plan(&mut self, at: Millis, happening: Happening) {
        self.planned += 1;
        self.queue.insert((at, self.planned), happening);
    }

    fn give(&mut self, index: usize, event: agent::Event) {
        let output = self.agents[index].handle(self.now, event);
        if let Some(at) = output.wake_at.filter(|at| self.wakes[index] != Some(*at)) {
            self.plan(at.max(self.now), Happening::Wake(index, at));
        }
        self.wakes[index] = output.wake_at;
        for effect in output.effects {
            match effect {
                Effect::Connect { link } => self.connect(index, link),
                Effect::Ask { ticket, ask } => self.plan(self.now, Happening::Ask(index, ticket, ask)),
                Effect::Disconnect => self.failed += 1,
                Effect::Fetch { .. }
                | Effect::Start(_)
                | Effect::Go { .. }
                | Effect::Noted { .. }
                | Effect::Stop { .. }
                | Effect::Forget { .. }
                | Effect::Stage(_)
                | Effect::Switch { .. }
                | Effect::ForgetUpdate { .. }
                | Effect::UpdateNoted { .. }
                | Effect::Note(_) => {}
            }
        }
        if self.agents[index].is_connected() && self.away.remove(&index) && self.away.is_empty() {
            self.all_back_at = Some(self.now);
        }
    }

    fn connect(&mut self, index: usize, link: u64) {
        let second = self.now.as_u64() / 1000;
        if self.away_since.is_some() {
            *self.attempts.entry(second).or_default() += 1;
        }
        self.links[index] = link;
        if self.coordinator.is_none() {
            let refused = agent::Event::Disconnected { link, reason: "refused".to_owned() };
            return self.plan(self.now, Happening::Tell(index, refused));
        }
        if self.away_since.is_some() {
            *self.returns.entry(second).or_default() += 1;
        }
        self.tell_coordinator(coordinator::Event::Connected { conn: name(index, link), agent: self.ids[index] });
        self.plan(self.now, Happening::Tell(index, agent::Event::Connected { link }));
    }

    fn asked(&mut self, index: usize, ticket: agent::Ticket, ask: Ask) {
        let ask = match ask {
            Ask::Hello(hello) => coordinator::Ask::Hello(hello),
            Ask::Poll(poll) => coordinator::Ask::Poll(poll),
            // A fleet that does nothing has nothing to report, and its certificates are good for the whole time.
            Ask::Report { .. } | Ask::Renew => return,
        };
        let (conn, ticket) = (name(index, self.links[index]), name(index, ticket));
        self.tell_coordinator(coordinator::Event::Asked { conn, ticket, ask });
    }

    fn tell_coordinator(&mut self, event: coordinator::Event) {
        let Some(coordinator) = &mut self.coordinator else { return };
        let output = coordinator.handle(self.now, event);
        for write in &output.writes {
            self.state.apply(write);
        }
        if let Some(at) = output.wake_at.filter(|at| self.coordinator_wakes != Some(*at)) {
            self.plan(at.max(self.now), Happening::CoordinatorWakes(at));
        }
        self.coordinator_wakes = output.wake_at;
        for (ticket, answer) in output.answers {
            match answer {
                Answer::Agent(response) => self.answer(ticket, response),
                Answer::Welcome { welcome, .. } => self.answer(ticket, AgentResponse::Welcome(welcome)),
                Answer::Work(orders) => {
                    let work = orders.signed(|said| self.sealer.seal(said));
                    self.answer(ticket, AgentResponse::Work(work));
                }
                Answer::Refused(_) => self.failed += 1,
                Answer::Certify { .. } | Answer::Enrolled { .. } | Answer::Operator(_) => {}
            }
        }
    }

    fn answer(&mut self, ticket: coordinator::Ticket, response: AgentResponse) {
        let (index, ticket) = parts(ticket);
        self.plan(self.now, Happening::Tell(index, agent::Event::Answered { ticket, response }));
    }
}

/// One number for an agent and one of its own numbers.
fn name(index: usize, number: u64) -> u64 {
    (u64::try_from(index).unwrap_or(u64::MAX) << 32) | number
}

fn parts(name: u64) -> (usize, u64) {
    (usize::try_from(name >> 32).unwrap_or(usize::MAX), name & 0xffff_ffff)
}

fn agent(index: usize, id: AgentId, seed: u64) -> Agent {
    let config = Config {
        id,
        name: format!("host-{index}"),
        host_labels: Labels::new(),
        enrolled_labels: Labels::new(),
        version: "0.1.0".to_owned(),
        platform: Platform::default(),
        root: publisher().roots[0].clone(),
        root_pin: publisher().pin,
        certificate_from: START,
        certificate_until: START + Millis::from_secs(30 * 24 * 3600),
        pacing: Pacing::Hold(HOLD),
        runs_max: 1,
        outbox_bytes_max: [1 << 20; 2],
        updates: Updates::default(),
    };
    Agent::restore(config, agent::Durable::default(), START, seed).expect("a root that fits its pin")
}

fn record(index: usize) -> AgentRecord {
    AgentRecord {
        name: format!("host-{index}"),
        host_labels: Labels::new(),
        enrolled_labels: Labels::new(),
        version: "0.1.0".to_owned(),
        platform: Platform::default(),
        key: Digest::of(&index.to_be_bytes()),
        receipt_key: publisher().online[0].public().clone(),
        enrolled: START,
        last_seen: START,
        revoked: false,
        next_generation: 1,
        proto: PROTO_MAX,
        update: None,
        copied: None,
    }
}
