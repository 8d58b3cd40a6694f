//! A coordinator and an agent whose clocks do not agree: what one orders, the other does, for as long as the coordinator
//! says.

#![allow(clippy::expect_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "these are tests")]

#[path = "common/agent_config.rs"]
mod agent_config;

use agent_config::agent_config;
use sloth_core::{AgentId, Digest, Labels, Millis, RepositoryId, RunId, Secret, Selector};
use sloth_protocol::{
    agent::{self, Agent, Config, Effect, Pacing},
    coordinator::{
        self, AgentRecord, Answer, Command, Coordinator, Durable, Event, ManifestFacts, Reply, Settings, Unsigned,
    },
    wire::{AgentResponse, Platform, RecordBody, RunOutcome, StartRun},
};
use sloth_trust::{
    BundleMetadata, Envelope, MachineKey, ManifestRef, RoleKeys, Roles, Root, SPEC, Trigger,
    sign::{generate, open, public_key, sign},
};

const NOW: Millis = Millis::from_secs(1_700_000_000);
const MINUTE: Millis = Millis::from_secs(60);
const HOUR: Millis = Millis::from_secs(3600);
const YEAR: Millis = Millis::from_secs(365 * 86_400);
const ID: &str = "01JD5Z3V9QK7T2M4X8R6WBCY0N";
/// How long a run is given.
const TTL: Millis = Millis::from_secs(600);

fn machine_key(seed: u8) -> MachineKey {
    MachineKey::from_seed(&Secret::new([seed; 32]), [seed; 8]).expect("a key")
}

fn id() -> AgentId {
    ID.parse().expect("an id")
}

fn run() -> RunId {
    RunId::new(NOW, 1)
}

/// One of each, and the wire between them.
struct Pair {
    coordinator: Coordinator,
    agent: Agent,
    /// By the coordinator's clock.
    now: Millis,
    /// What the host's clock says then.
    wall: Millis,
    /// What the agent has written of the run.
    ends: Vec<RunOutcome>,
    accepted: bool,
    /// The machine's own time, which goes on steadily.
    steady: Millis,
    /// The newest connection; zero before there is one.
    conn: u64,
}

impl Pair {
    /// The coordinator has a release and a run of it; the agent has not heard of either.
    fn new(wall: Millis) -> Self {
        let publisher = open(&generate(None).expect("a key").secret, None).expect("opens");
        let own = RoleKeys::new(vec![public_key(&publisher).expect("a key")], 1).expect("a role");
        let online = RoleKeys::new(vec![machine_key(1).public().clone()], 1).expect("a role");
        let bundles = [("*".parse().expect("a pattern"), own.clone())].into();
        let (head, assignment) = (Some(online.clone()), Some(online));
        let roles = Roles { root: own, releases: None, bundles, head, assignment };
        let repository = RepositoryId::new(NOW, 1);
        let expires = NOW + YEAR;
        let root = Root { spec: SPEC, repository, version: 1, issued: NOW - YEAR, expires, roles };
        let root = sign(&root, &root.domain(), &[&publisher]).expect("signed");
        let metadata = BundleMetadata {
            spec: SPEC,
            repository,
            name: "web".parse().expect("a name"),
            counter: 1,
            version: "1".to_owned(),
            manifest: ManifestRef { digest: Digest::of(b"manifest"), length: 9 },
            audience: Selector::everything(),
            capabilities: Vec::new(),
            triggers: vec![Trigger::Manual],
            parameters: None,
            expires,
            published: NOW - YEAR,
        };
        let metadata = sign(&metadata, &metadata.domain(), &[&publisher]).expect("signed").encode();
        let state =
            Durable { roots: [(1, root.encode())].into(), agents: [(id(), record())].into(), ..Durable::default() };
        let mut pair = Self {
            coordinator: Coordinator::restore(state, Settings::default(), NOW, 1).expect("restored"),
            agent: Agent::restore(config(&root), agent::Durable::default(), NOW, 1).expect("restored"),
            now: NOW,
            wall,
            ends: Vec::new(),
            accepted: false,
            steady: NOW,
            conn: 0,
        };
        let manifest = ManifestFacts { size: 3, workflows: ["main".to_owned()].into() };
        pair.command(Command::Publish { metadata, manifest });
        pair
    }

    fn command(&mut self, command: Command) {
        let event = Event::Command { ticket: 1, operator: "admin".to_owned(), command };
        let answers = self.coordinator.handle(self.now, event).answers;
        let refused = answers.iter().find(|(_, answer)| matches!(answer, Answer::Refused(_)));
        assert!(refused.is_none(), "{refused:?}");
    }

    fn start(&mut self) {
        let start = StartRun {
            run: run(),
            bundle: "web".to_owned(),
            version: None,
            workflow: None,
            selector: "*".to_owned(),
            values: "{}".to_owned(),
            ttl: TTL,
        };
        self.command(Command::StartRun(start));
    }

    /// Time passes on both sides.
    fn pass(&mut self, span: Millis) {
        (self.now, self.wall, self.steady) = (self.now + span, self.wall + span, self.steady + span);
        self.tell(agent::Event::Wake);
    }

    /// Gives the agent an event, and does what it says: every question reaches the coordinator.
    fn tell(&mut self, event: agent::Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            self.agent.hear_clock(self.steady, self.wall);
            let output = self.agent.handle(self.steady, event);
            for write in output.writes {
                match write {
                    agent::Write::PutRecord { record, .. } => {
                        if let RecordBody::RunEnded(end) = record.body {
                            self.ends.push(end.outcome);
                        }
                    }
                    agent::Write::PutJob(job) => self.accepted |= job.run == run(),
                    _ => {}
                }
            }
            for effect in output.effects {
                events.extend(self.carry_out(effect));
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<agent::Event> {
        match effect {
            Effect::Connect { link } => {
                let _ = self.coordinator.handle(self.now, Event::Connected { conn: link, agent: id() });
                self.conn = link;
                Some(agent::Event::Connected { link })
            }
            Effect::Ask { ticket, ask } => {
                let ask = match ask {
                    agent::Ask::Hello(hello) => coordinator::Ask::Hello(hello),
                    agent::Ask::Poll(poll) => coordinator::Ask::Poll(poll),
                    agent::Ask::Report { .. } | agent::Ask::Renew => return None,
                };
                let answers = self.coordinator.handle(self.now, Event::Asked { conn: self.conn, ticket, ask }).answers;
                let (_, answer) = answers.into_iter().find(|(answered, _)| *answered == ticket)?;
                let response = match answer {
                    Answer::Welcome { welcome, .. } => AgentResponse::Welcome(welcome),
                    Answer::Work(orders) => AgentResponse::Work(orders.signed(seal)),
                    answer => panic!("{answer:?}"),
                };
                Some(agent::Event::Answered { ticket, response })
            }
            Effect::Stop { run, .. } => Some(agent::Event::WorkerDied { run, how: "it was stopped".to_owned() }),
            Effect::Fetch { run, .. } => Some(agent::Event::Fetched { run, result: Ok(()) }),
            _ => None,
        }
    }
}

fn seal(said: &Unsigned) -> Vec<u8> {
    machine_key(1).seal(said.payload.clone(), &said.domain).encode()
}

fn record() -> AgentRecord {
    AgentRecord {
        name: "web-1".to_owned(),
        host_labels: Labels::new(),
        enrolled_labels: Labels::new(),
        version: "0.1.0".to_owned(),
        platform: Platform::default(),
        key: Digest::of(b"key"),
        receipt_key: machine_key(7).public().clone(),
        enrolled: NOW,
        last_seen: NOW,
        revoked: false,
        next_generation: 1,
        proto: sloth_protocol::wire::PROTO_MAX,
        update: None,
        copied: None,
    }
}

fn config(root: &Envelope) -> Config {
    Config {
        id: id(),
        // Each poll is answered at once.
        pacing: Pacing::Interval(MINUTE),
        certificate_from: NOW - YEAR - YEAR,
        certificate_until: NOW + YEAR + YEAR,
        outbox_bytes_max: [1 << 20; 2],
        ..agent_config(NOW, root)
    }
}

#[test]
fn a_run_is_begun_whatever_the_hosts_clock_says_of_its_deadline() {
    for (name, wall) in [
        ("right", NOW),
        // More than the run is given, and less than a head lives: the head counts.
        ("an hour ahead", NOW + HOUR),
        ("twenty hours ahead", NOW + Millis::from_secs(20 * 3600)),
        ("an hour behind", NOW - HOUR),
        ("a year behind", NOW - YEAR),
        ("in 1970", Millis::ZERO),
    ] {
        let mut pair = Pair::new(wall);
        pair.start();
        pair.tell(agent::Event::Wake);
        assert!(pair.accepted && pair.ends.is_empty(), "{name}: {:?}", pair.ends);
        assert!(pair.agent.durable().jobs.contains_key(&run()), "{name}: it goes on");
        assert!(NOW <= pair.agent.not_before(), "{name}: the next connection is made by the head's time");
        // It ends when the coordinator's clock says so.
        pair.pass(TTL - MINUTE);
        assert!(pair.agent.durable().jobs.contains_key(&run()), "{name}: before the deadline");
        pair.pass(MINUTE);
        assert_eq!(pair.ends, [RunOutcome::Expired], "{name}: at the deadline");
    }
}

#[test]
fn an_order_that_comes_after_its_deadline_is_not_begun() {
    for (name, wall) in [("right", NOW), ("an hour behind", NOW - HOUR), ("in 1970", Millis::ZERO)] {
        let mut pair = Pair::new(wall);
        // The order is made and is on its way for longer than the run is given: the agent hears the time first.
        pair.tell(agent::Event::Wake);
        pair.start();
        let poll = coordinator::Ask::Poll(sloth_protocol::wire::Poll {
            accepted: 0,
            hold: Millis::ZERO,
            room: 8,
            root: 1,
            head: 0,
        });
        let mut output = pair.coordinator.handle(pair.now, Event::Asked { conn: pair.conn, ticket: 900, ask: poll });
        let Some((_, Answer::Work(late))) = output.answers.pop() else { panic!("{output:?}") };
        assert_eq!(late.items.len(), 1, "{name}");
        let late = late.signed(seal);
        (pair.now, pair.wall, pair.steady) = (pair.now + TTL, pair.wall + TTL, pair.steady + TTL);
        pair.agent.hear_clock(pair.steady, pair.wall);
        let output = pair.agent.handle(pair.steady, agent::Event::Wake);
        let ticket = output.effects.iter().find_map(|effect| match effect {
            Effect::Connect { link } => Some(*link),
            _ => None,
        });
        let link = ticket.expect("it comes back");
        let hello = pair.agent.handle(pair.steady, agent::Event::Connected { link });
        let ticket = |output: &agent::Output| {
            output.effects.iter().find_map(|effect| match effect {
                Effect::Ask { ticket, .. } => Some(*ticket),
                _ => None,
            })
        };
        let welcome = sloth_protocol::wire::Welcome {
            proto: 1,
            features: 0,
            time: pair.now,
            acked: [0, 0],
            reconnect_within: Millis::ZERO,
        };
        let asked = ticket(&hello).expect("a hello");
        let response = AgentResponse::Welcome(welcome);
        let polls = pair.agent.handle(pair.steady, agent::Event::Answered { ticket: asked, response });
        let asked = ticket(&polls).expect("a poll");
        pair.tell(agent::Event::Answered { ticket: asked, response: AgentResponse::Work(late) });
        assert_eq!((pair.ends.as_slice(), pair.accepted), (&[RunOutcome::Expired][..], false), "{name}");
    }
}

#[test]
fn a_coordinator_that_was_set_back_is_followed() {
    let mut pair = Pair::new(NOW);
    pair.tell(agent::Event::Wake);
    let heard = pair.agent.not_before();
    // The store of an hour ago, on a machine whose clock is an hour behind, too.
    let state = pair.coordinator.durable().clone();
    pair.now = NOW - HOUR;
    pair.coordinator = Coordinator::restore(state, Settings::default(), pair.now, 2).expect("restored");
    let _ = pair.coordinator.handle(pair.now, Event::Wake);
    pair.start();
    pair.tell(agent::Event::Disconnected { link: 1, reason: "it was restarted".to_owned() });
    for _ in 0..10 {
        pair.pass(MINUTE);
    }
    assert!(pair.agent.not_before() <= heard, "its newest head is of before");
    assert!(pair.accepted, "what it orders is done: {:?}", pair.ends);
    let reply = Command::Bundles;
    let event = Event::Command { ticket: 2, operator: "admin".to_owned(), command: reply };
    let answers = pair.coordinator.handle(pair.now, event).answers;
    assert!(matches!(&answers[0].1, Answer::Operator(Reply::Bundles(bundles)) if bundles.len() == 1));
}
