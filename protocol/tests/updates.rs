//! Updates of the agent, as its machine and the coordinator's decide about them: what is ordered, what is taken, and what
//! is reported, each once.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

#[path = "common/agent_config.rs"]
mod agent_config;
mod common;

use agent_config::agent_config;
use std::collections::{BTreeMap, BTreeSet};

use common::{NOW, agent_record, welcomed};
use sloth_core::{AgentId, Digest, Labels, Millis, RepositoryId, Secret};
use sloth_protocol::{
    agent::{self, Agent, Config, Effect, FetchError, UpdateOutcome, UpdateRules, UpdateStage, Updates, Write},
    coordinator::{AgentRecord, Answer, Ask, Command, Coordinator, Durable, Event, Orders, Reply},
    rollout::EVERYTHING,
    wire::{
        AgentResponse, Approval, AssignRelease, Hello, Lane, OnHalt, PROTO_MAX, Platform, Poll, RecordBody, Refusal,
        Report, RolloutAction, RolloutAgent, RolloutRequest, RolloutSpec, RolloutWhat, Share, UpdateReport,
        UpdateState, UpdateVerdict, WaveMembers, WaveSpec,
    },
};
use sloth_trust::{
    AgentRelease, Channel, Domain, Envelope, MachineKey, ManifestRef, ProtocolRange, Reach, RoleKeys, Roles, Root,
    SPEC, Sha256, TargetBinary, Targets, Triple, Version,
};

const LATER: Millis = Millis::from_secs(1_800_000_000);

fn key(seed: u8) -> MachineKey {
    MachineKey::from_seed(&Secret::new([seed; 32]), [seed; 8]).expect("a key")
}

fn seal(key: &MachineKey, payload: &impl serde::Serialize, domain: &Domain) -> Vec<u8> {
    key.seal(serde_json::to_vec(payload).expect("JSON"), domain).encode()
}

fn version(text: &str) -> Version {
    text.parse().expect("a version")
}

/// A coordinator and one agent, and what goes between them.
struct Fleet {
    root: Vec<u8>,
    center: Coordinator,
    host: Agent,
    /// What the host's disk holds of records, by number.
    records: BTreeMap<u64, sloth_protocol::wire::Record>,
    /// What the driver of the host was told of updates.
    effects: Vec<Effect>,
    tickets: u64,
    /// What the host says to updates from its next start.
    rules: UpdateRules,
}

fn root(release_key: &MachineKey) -> Vec<u8> {
    let role = |key: &MachineKey| RoleKeys::new(vec![key.public().clone()], 1).expect("a role");
    let roles = Roles {
        root: role(&key(1)),
        releases: Some(role(release_key)),
        bundles: BTreeMap::new(),
        head: Some(role(&key(2))),
        assignment: Some(role(&key(2))),
    };
    let root =
        Root { spec: SPEC, repository: RepositoryId::new(NOW, 1), version: 1, issued: NOW, expires: LATER, roles };
    seal(&key(1), &root, &root.domain())
}

fn release(text: &str, counter: u64, change: impl FnOnce(&mut AgentRelease)) -> Vec<u8> {
    let target = TargetBinary {
        target: Triple::own(),
        manifest: ManifestRef { digest: Digest::of(text.as_bytes()), length: 300 },
        digest: Sha256::of(text.as_bytes()),
        length: 9_000_000,
        deltas: Vec::new(),
    };
    let mut release = AgentRelease {
        spec: SPEC,
        repository: RepositoryId::new(NOW, 1),
        version: version(text),
        counter,
        channel: Channel::default(),
        targets: Targets::new(vec![target]).expect("binaries"),
        from: Reach { oldest: version("0.1.0"), also: BTreeSet::new() },
        protocol: ProtocolRange { min: 1, max: 2 },
        published: NOW,
        expires: LATER,
    };
    change(&mut release);
    seal(&key(3), &release, &release.domain())
}

fn id() -> AgentId {
    AgentId::new(NOW, 1)
}

fn config(root: &[u8], runs: &str) -> Config {
    let root = Envelope::decode(root).expect("an envelope");
    Config {
        version: runs.to_owned(),
        certificate_until: LATER,
        outbox_bytes_max: [200_000, 10_000],
        ..agent_config(NOW, &root)
    }
}

impl Fleet {
    fn new() -> Self {
        let root = root(&key(3));
        let platform = Platform { arch: Triple::own().to_string(), ..Platform::default() };
        let record = AgentRecord { version: "0.1.0".to_owned(), platform, ..agent_record() };
        let state =
            Durable { agents: [(id(), record)].into(), roots: [(1, root.clone())].into(), ..Durable::default() };
        let center = Coordinator::restore(state, Default::default(), NOW, 1).expect("restored");
        let host = Agent::restore(config(&root, "0.1.0"), agent::Durable::default(), NOW, 1).expect("restored");
        let (records, effects, rules) = (BTreeMap::new(), Vec::new(), UpdateRules::default());
        let mut fleet = Self { root, center, host, records, effects, tickets: 100, rules };
        let _ = fleet.center.handle(NOW, Event::Wake);
        let _ = fleet.center.handle(NOW, Event::Connected { conn: 1, agent: id() });
        fleet.tell(agent::Event::Wake);
        fleet
    }

    /// What an operator orders, answered.
    fn command(&mut self, command: Command) -> Result<Reply, Refusal> {
        self.tickets += 1;
        let event = Event::Command { ticket: self.tickets, operator: "admin".to_owned(), command };
        let output = self.center.handle(NOW, event);
        let answers = output.answers.into_iter();
        let (mine, others): (Vec<_>, Vec<_>) = answers.partition(|(ticket, _)| *ticket == self.tickets);
        for (ticket, answer) in others {
            self.answered(ticket, answer);
        }
        match mine.into_iter().next() {
            Some((_, Answer::Operator(reply))) => Ok(reply),
            Some((_, Answer::Refused(refusal))) => Err(refusal),
            other => panic!("an answer to an operator: {other:?}"),
        }
    }

    fn publish(&mut self, release: Vec<u8>) {
        self.command(Command::PublishRelease(release)).expect("published");
    }

    fn assign(&mut self, counter: u64) -> Result<Reply, Refusal> {
        let assign = AssignRelease { agent: "web-1".to_owned(), counter, ttl: Millis::from_secs(3600) };
        self.command(Command::AssignRelease(assign))
    }

    /// Gives the host an event, and goes on until both have nothing to say.
    fn tell(&mut self, event: agent::Event) {
        let output = self.host.handle(NOW, event);
        for write in output.writes {
            if let Write::PutRecord { lane: Lane::Results, record } = write {
                self.records.insert(record.seq, record);
            }
        }
        for effect in output.effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        if let Effect::Connect { link } = effect {
            return self.tell(agent::Event::Connected { link });
        }
        let Effect::Ask { ticket, ask } = effect else { return self.effects.push(effect) };
        let ask = match ask {
            agent::Ask::Hello(hello) => {
                let platform = Platform { arch: Triple::own().to_string(), ..Platform::default() };
                Ask::Hello(Hello { platform, ..hello })
            }
            agent::Ask::Poll(poll) => Ask::Poll(poll),
            agent::Ask::Report { lane, dropped, seqs } => {
                let records = seqs.iter().map(|seq| self.records[seq].clone()).collect();
                let report = Report { lane, dropped, records };
                Ask::Report(sloth_protocol::coordinator::CheckedReport::new(report, id(), None))
            }
            agent::Ask::Renew => return,
        };
        let output = self.center.handle(NOW, Event::Asked { conn: 1, ticket, ask });
        for (ticket, answer) in output.answers {
            self.answered(ticket, answer);
        }
    }

    fn answered(&mut self, ticket: u64, answer: Answer) {
        let response = match answer {
            Answer::Agent(response) => response,
            Answer::Work(orders) => AgentResponse::Work(signed(*orders)),
            Answer::Welcome { welcome, .. } => AgentResponse::Welcome(welcome),
            Answer::Refused(refusal) => AgentResponse::Refused(refusal),
            Answer::Certify { .. } | Answer::Enrolled { .. } | Answer::Operator(_) => panic!("an answer to an agent"),
        };
        self.tell(agent::Event::Answered { ticket, response });
    }

    fn standing(&self) -> (UpdateState, Option<u64>, String) {
        let update = self.center.durable().agents[&id()].update.as_deref().expect("an update");
        (update.state, update.counter, update.reason.clone())
    }

    /// The process ends and another version of it starts, from the same disk.
    fn restart(&mut self, runs: &str) {
        let state = self.host.durable().clone();
        let config = config(&self.root, runs);
        let updates = Updates { rules: self.rules.clone(), ..config.updates };
        self.host = Agent::restore(Config { updates, ..config }, state, NOW, 2).expect("restored");
        let _ = self.center.handle(NOW, Event::Closed { conn: 1 });
        let _ = self.center.handle(NOW, Event::Connected { conn: 1, agent: id() });
    }

    fn staged(&mut self) -> Option<u64> {
        let found = std::mem::take(&mut self.effects);
        found.iter().find_map(|effect| if let Effect::Stage(update) = effect { Some(update.counter) } else { None })
    }

    /// As far as the supervisor takes over.
    fn hand_over(&mut self, counter: u64) {
        self.tell(agent::Event::UpdateReady { counter, result: Ok(()) });
        let asked = std::mem::take(&mut self.effects);
        assert!(asked.iter().any(|effect| matches!(effect, Effect::Switch { .. })), "{asked:?}");
    }
}

fn signed(orders: Orders) -> sloth_protocol::wire::Work {
    orders.signed(|said| key(2).seal(said.payload.clone(), &said.domain).encode())
}

fn outcome(number: u64, verdict: UpdateVerdict) -> agent::Event {
    let (reason, log_tail) = ("it did not connect".to_owned(), "a last line".to_owned());
    let (from, to) = ("0.1.0".to_owned(), "0.2.0".to_owned());
    agent::Event::UpdateOutcome(UpdateOutcome { number, from, to, verdict, reason, log_tail })
}

#[test]
fn an_update_goes_from_an_order_to_its_confirmation() {
    let mut fleet = Fleet::new();
    fleet.publish(release("0.2.0", 7, |_| {}));
    fleet.assign(7).expect("assigned");
    assert_eq!(fleet.staged(), Some(7));
    assert_eq!(fleet.standing().0, UpdateState::Accepted);
    fleet.tell(agent::Event::UpdateReady { counter: 7, result: Err(FetchError::Later("no connection".to_owned())) });
    assert_eq!(fleet.host.durable().update.as_ref().map(|update| update.stage), Some(UpdateStage::Accepted));
    fleet.restart("0.1.0");
    fleet.tell(agent::Event::Wake);
    assert_eq!(fleet.staged(), Some(7), "tried again");
    fleet.hand_over(7);
    assert_eq!(fleet.standing().0, UpdateState::Switched);

    fleet.restart("0.2.0");
    fleet.tell(agent::Event::Wake);
    assert_eq!(fleet.standing().0, UpdateState::Switched, "it is on trial");
    fleet.tell(outcome(1, UpdateVerdict::Confirmed));
    assert_eq!((fleet.standing().0, fleet.standing().1), (UpdateState::Confirmed, Some(7)));
    assert_eq!((fleet.host.durable().update.clone(), fleet.host.durable().outcome), (None, 1));
    // What the supervisor repeats is acknowledged and not reported again.
    let sent = fleet.host.durable().lanes[0].next_seq;
    fleet.tell(outcome(1, UpdateVerdict::Confirmed));
    assert_eq!(fleet.host.durable().lanes[0].next_seq, sent);
    assert!(fleet.effects.contains(&Effect::UpdateNoted { number: 1 }));

    // An order to go where it is already is confirmed at once.
    fleet.assign(7).expect("assigned");
    assert_eq!(fleet.standing(), (UpdateState::Confirmed, Some(7), "it runs already".to_owned()));
}

#[test]
fn a_version_that_failed_is_told_by_the_one_before() {
    let mut fleet = Fleet::new();
    fleet.publish(release("0.2.0", 7, |_| {}));
    fleet.assign(7).expect("assigned");
    fleet.hand_over(7);
    fleet.restart("0.1.0");
    fleet.tell(outcome(3, UpdateVerdict::RolledBack));
    fleet.tell(agent::Event::Wake);
    assert_eq!(fleet.standing(), (UpdateState::RolledBack, Some(7), "it did not connect".to_owned()));
    let update = fleet.center.durable().agents[&id()].update.clone().expect("an update");
    assert_eq!((update.log_tail.as_str(), update.from.as_str()), ("a last line", "0.1.0"));

    // A supervisor that does not hand over says why.
    fleet.assign(7).expect("assigned");
    fleet.hand_over(7);
    let (verdict, reason) = (UpdateVerdict::Held, "updates are held".to_owned());
    fleet.tell(agent::Event::UpdateFailed { counter: 7, verdict, reason });
    assert_eq!(fleet.standing(), (UpdateState::Held, Some(7), "updates are held".to_owned()));

    // One of which it has nothing to say ends all the same.
    fleet.assign(7).expect("assigned");
    fleet.hand_over(7);
    fleet.restart("0.1.0");
    fleet.tell(agent::Event::Wake);
    assert_eq!(fleet.standing().0, UpdateState::RolledBack);
    assert!(fleet.standing().2.contains("the supervisor does not say why"), "{:?}", fleet.standing());
}

/// What could not connect is under way until its supervisor says what came of it, and this is said of it.
#[test]
fn an_update_that_is_put_off_is_no_failure() {
    let mut fleet = Fleet::new();
    fleet.publish(release("0.2.0", 7, |_| {}));
    fleet.assign(7).expect("assigned");
    fleet.hand_over(7);
    let why = "it did not connect within 15m, and is tried again".to_owned();
    fleet.rules = UpdateRules { put_off: Some((version("0.2.0"), why.clone())), ..UpdateRules::default() };
    fleet.restart("0.1.0");
    fleet.tell(agent::Event::Wake);
    assert_eq!(fleet.standing(), (UpdateState::Switched, Some(7), why.clone()));
    fleet.restart("0.2.0");
    fleet.tell(agent::Event::Wake);
    assert_eq!(fleet.standing(), (UpdateState::Switched, Some(7), why));
    let (from, to) = ("0.1.0".to_owned(), "0.2.0".to_owned());
    let (verdict, reason, log_tail) = (UpdateVerdict::Confirmed, String::new(), String::new());
    fleet.tell(agent::Event::UpdateOutcome(UpdateOutcome { number: 1, from, to, verdict, reason, log_tail }));
    assert_eq!(fleet.standing().0, UpdateState::Confirmed);
}

/// The host's word counts above everybody's.
#[test]
fn the_hosts_rules_win() {
    let held = |reason: &str| UpdateRules { held: Some(reason.to_owned()), ..UpdateRules::default() };
    let pinned = UpdateRules { pin: Some(version("0.1.0")), ..UpdateRules::default() };
    let bad = UpdateRules { bad: [version("0.2.0")].into(), ..UpdateRules::default() };
    let beta = UpdateRules { channel: "beta".parse().expect("a channel"), ..UpdateRules::default() };
    for (rules, expected) in [
        (held("updates are held here"), "updates are held here"),
        (pinned, "pinned to version 0.1.0"),
        (bad, "version 0.2.0 failed here before"),
        (beta, "is of channel `stable`, this host takes `beta`"),
    ] {
        let mut fleet = Fleet::new();
        fleet.host.hear_update_rules(rules);
        fleet.publish(release("0.2.0", 7, |_| {}));
        fleet.assign(7).expect("assigned");
        let (state, counter, reason) = fleet.standing();
        assert_eq!((state, counter), (UpdateState::Held, Some(7)), "{expected}");
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(fleet.staged(), None);
    }
}

/// An order that waits for the host's window must not be carried out at night, when its rollout halted by day.
#[test]
fn what_was_not_begun_is_taken_back_with_its_rollout() {
    let mut fleet = Fleet::new();
    let waits = Some("the window opens at night".to_owned());
    fleet.host.hear_update_rules(UpdateRules { waits, ..UpdateRules::default() });
    fleet.publish(release("0.2.0", 7, |_| {}));
    fleet.command(Command::Rollout(RolloutRequest::Create(rollout()))).expect("it begins");
    assert_eq!(fleet.standing().0, UpdateState::Accepted);
    let abort = RolloutRequest::Act { name: "agents".to_owned(), action: RolloutAction::Abort };
    fleet.command(Command::Rollout(abort)).expect("aborted");
    assert_eq!(fleet.standing(), (UpdateState::Withdrawn, Some(7), "it was taken back".to_owned()));
    fleet.host.hear_update_rules(UpdateRules::default());
    fleet.tell(agent::Event::Wake);
    assert_eq!((fleet.staged(), fleet.host.durable().update.clone()), (None, None));

    // What the supervisor was asked for is its own to end.
    let again = RolloutSpec { name: "again".to_owned(), ..rollout() };
    fleet.command(Command::Rollout(RolloutRequest::Create(again))).expect("it begins");
    fleet.hand_over(7);
    let abort = RolloutRequest::Act { name: "again".to_owned(), action: RolloutAction::Abort };
    fleet.command(Command::Rollout(abort)).expect("aborted");
    fleet.restart("0.2.0");
    fleet.tell(outcome(1, UpdateVerdict::Confirmed));
    fleet.tell(agent::Event::Wake);
    assert_eq!(fleet.standing().0, UpdateState::Confirmed);
}

fn rollout() -> RolloutSpec {
    let members = WaveMembers::UpTo(Share::Hundredths(EVERYTHING));
    RolloutSpec {
        name: "agents".to_owned(),
        what: RolloutWhat::Agent(RolloutAgent { version: "0.2.0".to_owned(), channel: None }),
        selector: "*".to_owned(),
        waves: vec![WaveSpec { members, soak: Millis::ZERO, approval: Approval::NotNeeded }],
        errors_per_wave: Share::Count(0),
        errors_in_all: Share::Count(0),
        unproven_max: Share::Count(1),
        proven_min: Share::Count(1),
        windows: Vec::new(),
        silent_after: 3,
        timeout: Millis::from_secs(3600),
        on_halt: OnHalt::Stop,
    }
}

#[test]
fn an_order_waits_for_the_hosts_window() {
    let mut fleet = Fleet::new();
    let waits = Some("the window opens at night".to_owned());
    fleet.host.hear_update_rules(UpdateRules { waits, ..UpdateRules::default() });
    fleet.publish(release("0.2.0", 7, |_| {}));
    fleet.assign(7).expect("assigned");
    assert_eq!((fleet.staged(), fleet.standing().0), (None, UpdateState::Accepted));
    fleet.host.hear_update_rules(UpdateRules::default());
    fleet.tell(agent::Event::Wake);
    assert_eq!(fleet.staged(), Some(7), "it is open");
}

#[test]
fn what_was_fetched_while_the_window_closed_waits_for_the_next() {
    let mut fleet = Fleet::new();
    fleet.publish(release("0.2.0", 7, |_| {}));
    fleet.assign(7).expect("assigned");
    assert_eq!(fleet.staged(), Some(7));
    let waits = Some("the window opens at night".to_owned());
    fleet.host.hear_update_rules(UpdateRules { waits, ..UpdateRules::default() });
    fleet.effects.clear();
    fleet.tell(agent::Event::UpdateReady { counter: 7, result: Ok(()) });
    assert!(!fleet.effects.iter().any(|effect| matches!(effect, Effect::Switch { .. })), "{:?}", fleet.effects);
    assert_eq!(fleet.host.durable().update.as_ref().map(|update| update.stage), Some(UpdateStage::Accepted));
    fleet.host.hear_update_rules(UpdateRules::default());
    fleet.tell(agent::Event::Wake);
    assert_eq!(fleet.staged(), Some(7), "it is looked for again, and is there");
    fleet.tell(agent::Event::UpdateReady { counter: 7, result: Ok(()) });
    assert!(fleet.effects.iter().any(|effect| matches!(effect, Effect::Switch { counter: 7, .. })));
}

/// A coordinator that was taken over has every release that was ever signed.
#[test]
fn the_first_order_does_not_lead_back() {
    let mut fleet = Fleet::new();
    fleet.restart("0.5.0");
    fleet.tell(agent::Event::Wake);
    fleet.publish(release("0.2.0", 7, |_| {}));
    fleet.publish(release("0.6.0", 8, |_| {}));
    fleet.assign(7).expect("assigned");
    assert_eq!((fleet.staged(), fleet.standing().0), (None, UpdateState::Refused));
    assert!(fleet.standing().2.contains("0.2.0 is older than 0.5.0, which runs here"), "{:?}", fleet.standing());
    fleet.assign(8).expect("assigned");
    assert_eq!(fleet.staged(), Some(8));
}

#[test]
fn releases_never_go_back_unless_they_are_published_anew() {
    let mut fleet = Fleet::new();
    fleet.publish(release("0.2.0", 7, |_| {}));
    fleet.publish(release("0.3.0", 8, |_| {}));
    fleet.assign(8).expect("assigned");
    assert_eq!(fleet.staged(), Some(8));
    // An older one is refused, and the update that is under way goes on.
    fleet.assign(7).expect("assigned");
    assert_eq!(fleet.standing().0, UpdateState::Refused);
    assert!(fleet.standing().2.contains("8 was accepted before"), "{:?}", fleet.standing());
    assert_eq!(fleet.host.durable().update.as_ref().map(|update| update.counter), Some(8));
    // The same version under a new number takes its place.
    fleet.publish(release("0.2.0", 9, |_| {}));
    fleet.assign(9).expect("assigned");
    assert_eq!(fleet.staged(), Some(9));
    assert!(matches!(fleet.assign(6), Err(refusal) if refusal.reason.contains("there is no release")));
}

#[test]
fn what_cannot_be_ordered_is_refused_before_the_agent_hears_of_it() {
    type Change = fn(&mut AgentRelease);
    let cases: [(&str, Change); 3] = [
        ("may be reached from 0.2.0 and later", |r| r.from.oldest = "0.2.0".parse().expect("a version")),
        ("is for riscv64gc-unknown-linux-gnu", |r| {
            let target = r.targets.iter().next().expect("a binary").clone();
            let target = TargetBinary { target: "riscv64gc-unknown-linux-gnu".parse().expect("a platform"), ..target };
            r.targets = Targets::new(vec![target]).expect("binaries");
        }),
        ("expired", |r| r.expires = NOW + Millis::from_secs(1)),
    ];
    for (expected, change) in cases {
        let mut fleet = Fleet::new();
        fleet.publish(release("0.3.0", 7, change));
        if expected == "expired" {
            let _ = fleet.center.handle(NOW + Millis::from_secs(2), Event::Wake);
        }
        let refusal = fleet.assign(7).expect_err(expected);
        assert!(refusal.reason.contains(expected), "{}", refusal.reason);
        assert!(fleet.center.durable().agents[&id()].update.is_none());
    }
    let mut fleet = Fleet::new();
    let newer = release("0.3.0", 7, |r| r.protocol = ProtocolRange { min: 9, max: 9 });
    let refusal = fleet.command(Command::PublishRelease(newer)).expect_err("speaks another protocol");
    assert!(refusal.reason.contains("speaks no version of the protocol"), "{}", refusal.reason);
    let strange = seal(
        &key(9),
        &serde_json::json!({}),
        &Domain { subject: sloth_trust::DomainSubject::Release, repository: RepositoryId::new(NOW, 1), version: 7 },
    );
    assert!(fleet.command(Command::PublishRelease(strange)).is_err());
}

/// An agent of the version before knows no updates: it is told of runs as ever, and of nothing that it cannot read.
#[test]
fn an_agent_of_the_protocol_before_is_told_of_no_update() {
    let root = root(&key(3));
    let platform = Platform { arch: Triple::own().to_string(), ..Platform::default() };
    let record = AgentRecord { version: "0.1.0".to_owned(), platform: platform.clone(), ..agent_record() };
    let state = Durable { agents: [(id(), record)].into(), roots: [(1, root)].into(), ..Durable::default() };
    let mut center = Coordinator::restore(state, Default::default(), NOW, 1).expect("restored");
    let _ = center.handle(NOW, Event::Wake);
    let publish = Event::Command {
        ticket: 1,
        operator: "admin".to_owned(),
        command: Command::PublishRelease(release("0.2.0", 7, |_| {})),
    };
    let _ = center.handle(NOW, publish);
    let assign = |ticket| {
        let assign = AssignRelease { agent: "web-1".to_owned(), counter: 7, ttl: Millis::from_secs(3600) };
        Event::Command { ticket, operator: "admin".to_owned(), command: Command::AssignRelease(assign) }
    };
    // Ordered while it spoke the newest version, and then its package was set back.
    let _ = center.handle(NOW, assign(2));
    let _ = center.handle(NOW, Event::Connected { conn: 1, agent: id() });
    let hello = Hello {
        proto_min: 1,
        proto_max: 1,
        features: 0,
        version: "0.1.0".to_owned(),
        platform,
        labels: Labels::new(),
        instance: 1,
    };
    let output = center.handle(NOW, Event::Asked { conn: 1, ticket: 3, ask: Ask::Hello(hello) });
    let welcome = output
        .answers
        .iter()
        .find_map(|(_, answer)| if let Answer::Welcome { welcome, .. } = answer { Some(welcome) } else { None });
    assert_eq!(welcome.map(|welcome| welcome.proto), Some(1));
    let poll = Poll { accepted: 0, hold: Millis::ZERO, room: 4, root: 1, head: 0 };
    let output = center.handle(NOW, Event::Asked { conn: 1, ticket: 4, ask: Ask::Poll(poll) });
    let told = output
        .answers
        .iter()
        .find_map(|(_, answer)| if let Answer::Work(orders) = answer { Some(orders) } else { None });
    assert!(told.expect("an answer").items.is_empty(), "{told:?}");
    let update = center.durable().agents[&id()].update.clone().expect("an update");
    assert_eq!(update.state, UpdateState::Refused);
    assert!(update.reason.contains("speaks version 1 of the protocol, which knows no updates"), "{}", update.reason);
    let output = center.handle(NOW, assign(5));
    assert!(output.answers.iter().any(|(_, answer)| matches!(answer, Answer::Refused(_))), "{:?}", output.answers);
    assert!(center.durable().work.is_empty() && 1 < PROTO_MAX);
}

/// What was not told yet is taken back with the release, or by a newer order.
#[test]
fn untold_orders_are_taken_back() {
    let mut fleet = Fleet::new();
    fleet.publish(release("0.2.0", 7, |_| {}));
    fleet.publish(release("0.3.0", 8, |_| {}));
    let _ = fleet.center.handle(NOW, Event::Closed { conn: 1 });
    fleet.assign(7).expect("assigned");
    fleet.assign(8).expect("assigned");
    let waiting = |fleet: &Fleet| fleet.center.durable().work.get(&id()).map_or(0, BTreeMap::len);
    assert_eq!((waiting(&fleet), fleet.standing().1), (1, Some(8)));
    fleet.command(Command::WithdrawRelease(8)).expect("withdrawn");
    assert_eq!((waiting(&fleet), fleet.standing().0), (0, UpdateState::Withdrawn));
    assert_eq!(fleet.standing().2, "the release was withdrawn");
    assert!(fleet.assign(8).is_err());
}

/// The standing of an agent is not changed by what it says of another update than the newest ordered.
#[test]
fn reports_of_earlier_updates_are_of_no_account() {
    let mut center = welcomed(Durable { agents: [(id(), agent_record())].into(), ..Durable::default() }, id());
    let mut say_of = |seq, counter, verdict, to: &str| {
        let (from, to, none) = ("0.1.0".to_owned(), to.repeat(500), String::new());
        let log_tail = "é".repeat(5000);
        let update = UpdateReport { counter, from, to, verdict, reason: none, log_tail };
        let body = RecordBody::Update(update);
        let records = vec![sloth_protocol::wire::Record { seq, at: NOW, run: sloth_core::RunId::NIL, body }];
        let report = Report { lane: Lane::Results, dropped: Default::default(), records };
        let ask = Ask::Report(sloth_protocol::coordinator::CheckedReport::new(report, id(), None));
        let _ = center.handle(NOW, Event::Asked { conn: 1, ticket: seq, ask });
        center.durable().agents[&id()].update.clone().expect("an update")
    };
    let mut say = |seq, counter, verdict| say_of(seq, counter, verdict, "x");
    let first = say(1, Some(5), UpdateVerdict::Staged);
    assert_eq!((first.state, first.counter), (UpdateState::Staged, Some(5)));
    assert!(first.to.len() <= 64 && first.log_tail.len() <= 2048, "what is too long is cut");
    assert_eq!(say(2, Some(4), UpdateVerdict::Confirmed).state, UpdateState::Staged);
    assert_eq!(say(2, Some(5), UpdateVerdict::Confirmed).state, UpdateState::Staged, "counted once");
    assert_eq!(say(3, Some(5), UpdateVerdict::Confirmed).state, UpdateState::Confirmed);
    assert_eq!(say(4, None, UpdateVerdict::RolledBack).counter, Some(5), "it was given up later");
    assert_eq!(say_of(5, None, UpdateVerdict::RolledBack, "y").counter, None, "by a command on the host");
}
