//! Rollouts of releases of the agent, by the coordinator's machine: agents are ordered, say how it went, and come back
//! with another version.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::collections::{BTreeMap, BTreeSet};

use sloth_core::{AgentId, Digest, Labels, Millis, RepositoryId, Secret};
use sloth_protocol::{
    coordinator::{
        AgentRecord, Answer, Ask, CheckedReport, Command, Coordinator, Durable, Event, Instruction, Output, Reply,
        Settings,
    },
    rollout::{EVERYTHING, HELD_RETRY},
    wire::{
        Approval, AssignRelease, Dropped, Hello, Lane, OnHalt, PROTO_MAX, Platform, Poll, ProtoVersion, Record,
        RecordBody, Refusal, Report, Resume, RolloutAction, RolloutAgent, RolloutRequest, RolloutResponse, RolloutSpec,
        RolloutView, RolloutWhat, Share, UpdateReport, UpdateVerdict, WaveMembers, WaveSpec,
    },
};
use sloth_trust::{
    AgentRelease, Channel, Domain, MachineKey, ManifestRef, ProtocolRange, Reach, RoleKeys, Roles, Root, SPEC, Sha256,
    TargetBinary, Targets, Triple,
};

const NOW: Millis = Millis::from_secs(1_700_000_000);
const LATER: Millis = Millis::from_secs(1_800_000_000);
const SOAK: Millis = Millis::from_secs(60);
const HOLD: Millis = Millis::from_secs(60);
const SECOND: Millis = Millis::from_secs(1);
const HOSTS: u64 = 8;
const OLD: &str = "0.1.0";
const NAME: &str = "agents";

struct Fleet {
    machine: Coordinator,
    now: Millis,
    state: Durable,
    runs: BTreeMap<AgentId, String>,
    accepted: BTreeMap<AgentId, u64>,
    seqs: BTreeMap<AgentId, u64>,
    /// The releases that hosts were told to go to and were not told not to.
    told: BTreeMap<AgentId, u64>,
    answers: BTreeMap<u64, Answer>,
    askers: BTreeMap<u64, AgentId>,
    tickets: u64,
}

fn key(seed: u8) -> MachineKey {
    MachineKey::from_seed(&Secret::new([seed; 32]), [seed; 8]).expect("a key")
}

fn seal(payload: &impl serde::Serialize, domain: &Domain) -> Vec<u8> {
    key(1).seal(serde_json::to_vec(payload).expect("JSON"), domain).encode()
}

fn root() -> Vec<u8> {
    let role = || RoleKeys::new(vec![key(1).public().clone()], 1).expect("a role");
    let roles = Roles {
        root: role(),
        releases: Some(role()),
        bundles: BTreeMap::new(),
        head: Some(role()),
        assignment: Some(role()),
    };
    let root =
        Root { spec: SPEC, repository: RepositoryId::new(NOW, 1), version: 1, issued: NOW, expires: LATER, roles };
    seal(&root, &root.domain())
}

fn release(version: &str, counter: u64) -> Vec<u8> {
    let target = TargetBinary {
        target: Triple::own(),
        manifest: ManifestRef { digest: Digest::of(version.as_bytes()), length: 300 },
        digest: Sha256::of(version.as_bytes()),
        length: 9_000_000,
        deltas: Vec::new(),
    };
    let release = AgentRelease {
        spec: SPEC,
        repository: RepositoryId::new(NOW, 1),
        version: version.parse().expect("a version"),
        counter,
        channel: Channel::default(),
        targets: Targets::new(vec![target]).expect("binaries"),
        from: Reach { oldest: OLD.parse().expect("a version"), also: BTreeSet::new() },
        protocol: ProtocolRange { min: 1, max: PROTO_MAX },
        published: NOW,
        expires: LATER,
    };
    seal(&release, &release.domain())
}

fn host(number: u64) -> AgentId {
    AgentId::new(NOW, u128::from(number))
}

fn conn(id: AgentId) -> u64 {
    u64::from_be_bytes(id.to_bytes()[8..].try_into().expect("eight bytes")) + 1
}

fn record(number: u64) -> AgentRecord {
    // One host is of no group.
    let group = (number != 0).then(|| ("group".to_owned(), "web".to_owned()));
    AgentRecord {
        name: format!("host-{number}"),
        host_labels: group.into_iter().collect(),
        enrolled_labels: Labels::new(),
        version: OLD.to_owned(),
        platform: Platform { arch: Triple::own().to_string(), ..Platform::default() },
        key: Digest::of(b"key"),
        receipt_key: key(7).public().clone(),
        proto: PROTO_MAX,
        update: None,
        copied: None,
        enrolled: NOW,
        last_seen: NOW,
        revoked: false,
        next_generation: 1,
    }
}

fn spec(waves: &[u32]) -> RolloutSpec {
    let shares = waves.iter().map(|count| Share::Count(*count)).chain([Share::Hundredths(EVERYTHING)]);
    let wave = |share| WaveSpec { members: WaveMembers::UpTo(share), soak: SOAK, approval: Approval::NotNeeded };
    RolloutSpec {
        name: NAME.to_owned(),
        what: RolloutWhat::Agent(RolloutAgent { version: "0.2.0".to_owned(), channel: None }),
        selector: "group".to_owned(),
        waves: shares.map(wave).collect(),
        errors_per_wave: Share::Count(0),
        errors_in_all: Share::Hundredths(EVERYTHING),
        unproven_max: Share::Hundredths(EVERYTHING),
        proven_min: Share::Count(1),
        windows: Vec::new(),
        silent_after: 3,
        timeout: Millis::from_secs(3600),
        on_halt: OnHalt::Stop,
    }
}

impl Fleet {
    fn new() -> Self {
        let agents = (0..=HOSTS).map(|number| (host(number), record(number))).collect();
        let state = Durable { agents, roots: [(1, root())].into(), ..Durable::default() };
        let machine = Coordinator::restore(state.clone(), Settings::default(), NOW, 1).expect("restored");
        let mut fleet = Self {
            machine,
            now: NOW,
            state,
            runs: (0..=HOSTS).map(|number| (host(number), OLD.to_owned())).collect(),
            accepted: BTreeMap::new(),
            seqs: BTreeMap::new(),
            told: BTreeMap::new(),
            answers: BTreeMap::new(),
            askers: BTreeMap::new(),
            tickets: 0,
        };
        fleet.tell(Event::Wake);
        fleet.publish("0.2.0", 2);
        (0..=HOSTS).for_each(|number| fleet.connect(host(number)));
        fleet
    }

    fn publish(&mut self, version: &str, counter: u64) {
        let answer = self.command(Command::PublishRelease(release(version, counter)));
        assert!(matches!(answer, Answer::Operator(Reply::Published(_))), "{answer:?}");
    }

    /// The machine ends, and another one begins with what was written.
    fn restart(&mut self) {
        self.machine = Coordinator::restore(self.state.clone(), Settings::default(), self.now, 2).expect("restored");
        self.tell(Event::Wake);
        (0..=HOSTS).for_each(|number| self.connect(host(number)));
    }

    fn tell(&mut self, event: Event) -> Output {
        let output = self.machine.handle(self.now, event);
        output.writes.iter().for_each(|write| self.state.apply(write));
        self.answers.extend(output.answers.iter().cloned());
        output
    }

    fn command(&mut self, command: Command) -> Answer {
        self.tickets += 1;
        let ticket = self.tickets;
        self.tell(Event::Command { ticket, operator: "ann".to_owned(), command });
        self.answers.remove(&ticket).expect("an answer")
    }

    fn ask(&mut self, id: AgentId, ask: Ask) {
        self.tickets += 1;
        let (conn, ticket) = (conn(id), self.tickets);
        self.askers.insert(ticket, id);
        self.tell(Event::Asked { conn, ticket, ask });
    }

    fn connect(&mut self, id: AgentId) {
        self.greet(id, PROTO_MAX);
        self.poll(id);
    }

    fn greet(&mut self, id: AgentId, proto_max: ProtoVersion) {
        // The daemon before it has ended, if there was one.
        self.tell(Event::Closed { conn: conn(id) });
        self.tell(Event::Connected { conn: conn(id), agent: id });
        let AgentRecord { host_labels: labels, platform, .. } = self.state.agents[&id].clone();
        let version = self.runs[&id].clone();
        self.ask(
            id,
            Ask::Hello(Hello { proto_min: 1, proto_max, features: 0, version, platform, labels, instance: 1 }),
        );
    }

    fn poll(&mut self, id: AgentId) {
        let accepted = self.accepted.get(&id).copied().unwrap_or(0);
        self.ask(id, Ask::Poll(Poll { accepted, hold: HOLD, room: 5, root: 1, head: 0 }));
    }

    /// The hosts that were told to go to a release, and were not told not to.
    fn told(&mut self) -> BTreeMap<AgentId, u64> {
        for (ticket, answer) in std::mem::take(&mut self.answers) {
            let Answer::Work(orders) = answer else { continue };
            let id = self.askers[&ticket];
            for (generation, order) in orders.items {
                if generation <= self.accepted.get(&id).copied().unwrap_or(0) {
                    continue;
                }
                self.accepted.insert(id, generation);
                match order {
                    Instruction::Update { assignment, .. } => {
                        let said: serde_json::Value = serde_json::from_slice(&assignment.payload).expect("JSON");
                        self.told.insert(id, said["counter"].as_u64().expect("a number"));
                    }
                    Instruction::CancelUpdate { counter } => {
                        self.told.retain(|other, told| (*other, *told) != (id, counter));
                    }
                    Instruction::Run { .. } | Instruction::Cancel { .. } => panic!("{order:?}"),
                }
            }
        }
        self.told.clone()
    }

    fn report(&mut self, id: AgentId, counter: Option<u64>, to: &str, verdict: UpdateVerdict, reason: &str) {
        let seq = self.seqs.entry(id).or_default();
        *seq += 1;
        let (from, to, reason) = (OLD.to_owned(), to.to_owned(), reason.to_owned());
        let body = RecordBody::Update(UpdateReport { counter, from, to, verdict, reason, log_tail: String::new() });
        let record = Record { seq: *seq, run: sloth_core::RunId::NIL, at: self.now, body };
        let report = Report { lane: Lane::Results, dropped: Dropped::default(), records: vec![record] };
        self.ask(id, Ask::Report(CheckedReport::new(report, id, None)));
    }

    /// A host that was told goes to a version, or does not.
    fn ends(&mut self, id: AgentId, to: &str, verdict: UpdateVerdict) {
        let counter = self.told().remove(&id).expect("it was told");
        self.told.remove(&id);
        if verdict == UpdateVerdict::Confirmed {
            self.runs.insert(id, to.to_owned());
        }
        if matches!(verdict, UpdateVerdict::Confirmed | UpdateVerdict::RolledBack) {
            self.connect(id);
        }
        self.report(id, Some(counter), to, verdict, "so it went");
    }

    /// Everybody who was told ends so; the time goes on by a second.
    fn end_all(&mut self, to: &str, verdict: UpdateVerdict) -> usize {
        let told = self.told();
        told.keys().for_each(|id| self.ends(*id, to, verdict));
        self.pass(SECOND);
        told.len()
    }

    /// Time passes; the machine is woken when it asked to be.
    fn pass(&mut self, span: Millis) {
        let until = self.now + span;
        while let Some(at) = self.tell(Event::Wake).wake_at.filter(|at| *at <= until) {
            self.now = at.max(self.now);
        }
        self.now = until;
        self.tell(Event::Wake);
        let _ = self.told();
        (0..=HOSTS).for_each(|number| self.poll(host(number)));
    }

    fn request(&mut self, request: RolloutRequest) -> Result<RolloutResponse, Refusal> {
        let answer = self.command(Command::Rollout(request));
        if let Answer::Refused(refusal) = answer {
            return Err(refusal);
        }
        let Answer::Operator(Reply::Rollout(response)) = answer else { panic!("{answer:?}") };
        Ok(*response)
    }

    fn create(&mut self, spec: RolloutSpec) -> RolloutView {
        view(self.request(RolloutRequest::Create(spec)).expect("it begins"))
    }

    fn act(&mut self, action: RolloutAction) -> RolloutView {
        view(self.request(RolloutRequest::Act { name: NAME.to_owned(), action }).expect("it can"))
    }

    fn refused(&mut self, action: RolloutAction) -> String {
        self.request(RolloutRequest::Act { name: NAME.to_owned(), action }).expect_err("refused").reason
    }

    fn show(&mut self) -> RolloutView {
        view(self.request(RolloutRequest::Show(NAME.to_owned())).expect("it is there"))
    }

    /// How the rollout and its hosts stand and why, in a line.
    #[track_caller]
    fn stands(&mut self, expected: &str) {
        let view = self.show();
        let codes: Vec<&str> = view.reasons.iter().map(|reason| reason.code.as_str()).collect();
        let said = format!("{} {} {}", view.summary.status.name(), view.summary.open, codes.join(" "));
        assert_eq!(said.trim_end(), expected, "{view:#?}");
    }

    /// The hosts that stand so, and why they do.
    fn standing(&mut self, standing: &str) -> Vec<(AgentId, String)> {
        let page = self.request(RolloutRequest::Hosts { name: NAME.to_owned(), after: None }).expect("a page");
        let RolloutResponse::Hosts(page) = page else { panic!("{page:?}") };
        let hosts = page.hosts.into_iter().filter(|host| host.standing == standing);
        hosts.map(|host| (host.agent, host.reason)).collect()
    }
}

fn view(response: RolloutResponse) -> RolloutView {
    let RolloutResponse::Rollout(view) = response else { panic!("{response:?}") };
    *view
}

#[test]
fn a_good_release_goes_from_wave_to_wave_and_to_nobody_else() {
    let mut fleet = Fleet::new();
    fleet.create(spec(&[1, 3]));
    for (wave, hosts) in [(1, 1), (2, 2), (3, 5)] {
        fleet.stands(&format!("running {wave} under_way"));
        assert_eq!(fleet.end_all("0.2.0", UpdateVerdict::Confirmed), hosts, "wave {wave}");
        fleet.stands(&format!("running {wave} under_way"));
        fleet.restart();
        fleet.pass(SOAK);
    }
    fleet.stands("complete 3");
    assert_eq!(fleet.show().summary.hosts.proven, 8);
    let alone = &fleet.state.agents[&host(0)];
    assert_eq!((alone.update.clone(), alone.version.as_str()), (None, OLD), "no rollout names it");
}

#[test]
fn a_failure_halts_and_what_was_not_begun_is_taken_back() {
    let mut fleet = Fleet::new();
    // Somebody was told, somebody else was not.
    let _ = fleet.told();
    let later = host(5);
    fleet.greet(later, PROTO_MAX);
    fleet.create(spec(&[]));
    assert_eq!(fleet.told().len(), 7);
    let bad = host(1);
    fleet.ends(bad, "0.2.0", UpdateVerdict::RolledBack);
    fleet.stands("halted 1 wave_budget way_out");
    assert!(fleet.standing("failed").contains(&(bad, "so it went".to_owned())));
    fleet.restart();
    fleet.pass(SECOND);
    assert_eq!(fleet.told(), BTreeMap::new(), "who was told was told not to, and nobody else was told");
    let withdrawn: Vec<AgentId> = fleet.standing("under_way").into_iter().map(|(id, _)| id).collect();
    assert_eq!(withdrawn.len(), 6, "until they say that they have not begun");
    for id in withdrawn {
        fleet.report(id, Some(2), "0.2.0", UpdateVerdict::Withdrawn, "it was taken back");
    }
    fleet.pass(HELD_RETRY);
    assert_eq!((fleet.told().len(), fleet.standing("waiting").len()), (0, 7));
    fleet.act(RolloutAction::Resume(Resume::Same));
    fleet.pass(SECOND);
    assert_eq!(fleet.end_all("0.2.0", UpdateVerdict::Confirmed), 8);
    fleet.pass(SOAK);
    fleet.stands("complete 1");
}

#[test]
fn hosts_with_rules_of_their_own_hold_nobody_up() {
    let mut fleet = Fleet::new();
    // It speaks the version of the protocol before, which knows no updates.
    let old = host(3);
    fleet.greet(old, 1);
    fleet.create(RolloutSpec { proven_min: Share::Hundredths(EVERYTHING), ..spec(&[]) });
    let _ = fleet.told();
    let pinned = host(4);
    fleet.ends(pinned, "0.2.0", UpdateVerdict::Held);
    fleet.end_all("0.2.0", UpdateVerdict::Confirmed);
    fleet.pass(SOAK);
    fleet.stands("complete 1 held");
    let held = fleet.standing("held");
    assert_eq!(held.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [old, pinned]);
    assert!(held[0].1.contains("speaks version 1 of the protocol"), "{held:?}");
    assert_eq!(held[1].1, "so it went");
    // What their rules say later is another thing.
    fleet.greet(old, PROTO_MAX);
    fleet.pass(HELD_RETRY);
    fleet.pass(SECOND);
    assert_eq!(fleet.end_all("0.2.0", UpdateVerdict::Confirmed), 2);
    fleet.pass(SOAK);
    assert_eq!(fleet.show().summary.hosts.proven, 8);
}

#[test]
fn a_wave_of_held_hosts_alone_proves_nothing() {
    let mut fleet = Fleet::new();
    fleet.create(spec(&[2]));
    assert_eq!(fleet.end_all("0.2.0", UpdateVerdict::Held), 2);
    fleet.stands("running 1 no_evidence held");
}

#[test]
fn hosts_go_back_to_what_each_of_them_ran_once_that_is_published_again() {
    let mut fleet = Fleet::new();
    fleet.create(RolloutSpec { on_halt: OnHalt::RollBack, ..spec(&[2]) });
    let first: Vec<AgentId> = fleet.told().into_keys().collect();
    fleet.end_all("0.2.0", UpdateVerdict::Confirmed);
    fleet.pass(SOAK);
    let bad = *fleet.told().keys().next().expect("the second wave");
    fleet.ends(bad, "0.2.0", UpdateVerdict::RolledBack);
    fleet.stands("halted 2 wave_budget way_out");
    let way_out = fleet.show().reasons[1].text.clone();
    assert!(way_out.contains("--version 0.1.0") && way_out.contains("rollout rollback agents"), "{way_out}");
    let refused = fleet.refused(RolloutAction::RollBack);
    assert!(refused.contains("publish the program of version 0.1.0 again"), "{refused}");
    fleet.publish(OLD, 3);
    fleet.restart();
    fleet.pass(SECOND);
    // The one that failed runs the old version already.
    let told = fleet.told();
    assert_eq!(told, first.iter().map(|id| (*id, 3)).collect());
    assert_eq!(fleet.standing("returned").into_iter().map(|(id, _)| id).collect::<Vec<_>>(), [bad]);
    fleet.standing("under_way").into_iter().for_each(|(id, _)| {
        fleet.report(id, Some(2), "0.2.0", UpdateVerdict::Withdrawn, "it was taken back");
    });
    fleet.end_all(OLD, UpdateVerdict::Confirmed);
    fleet.stands("rolled_back 2");
    let hosts = fleet.show().summary.hosts;
    assert_eq!((hosts.returned, hosts.waiting), (3, 5));
    assert!(fleet.state.agents.values().all(|agent| agent.version == OLD));
}

#[test]
fn a_failure_that_undid_itself_needs_no_release_to_go_back() {
    let mut fleet = Fleet::new();
    fleet.create(RolloutSpec { on_halt: OnHalt::RollBack, ..spec(&[2]) });
    fleet.end_all("0.2.0", UpdateVerdict::RolledBack);
    fleet.stands("rolled_back 1");
    assert_eq!((fleet.show().summary.hosts.returned, fleet.told().len()), (2, 0));
}

#[test]
fn what_worked_and_is_given_up_later_is_no_success() {
    let mut fleet = Fleet::new();
    fleet.create(spec(&[1]));
    let id = *fleet.told().keys().next().expect("one");
    fleet.ends(id, "0.2.0", UpdateVerdict::Confirmed);
    assert_eq!(fleet.standing("soaking").len(), 1);
    // It is back with the old version, before it says why.
    fleet.runs.insert(id, OLD.to_owned());
    fleet.connect(id);
    fleet.stands("halted 1 wave_budget way_out");
    fleet.report(id, None, "0.2.0", UpdateVerdict::RolledBack, "it ended 5 times in a row");
    assert_eq!(fleet.standing("failed"), [(id, "it ended 5 times in a row".to_owned())]);
    // One that was proven long ago counts as well.
    fleet.act(RolloutAction::Resume(Resume::Same));
    fleet.pass(SECOND);
    fleet.end_all("0.2.0", UpdateVerdict::Confirmed);
    fleet.pass(SOAK);
    fleet.report(id, None, "0.2.0", UpdateVerdict::RolledBack, "it ended 5 times in a row");
    fleet.stands("halted 2 wave_budget way_out");
}

#[test]
fn a_mended_release_begins_anew_and_an_operators_order_wins() {
    let mut fleet = Fleet::new();
    fleet.create(spec(&[2]));
    fleet.end_all("0.2.0", UpdateVerdict::RolledBack);
    assert!(fleet.refused(RolloutAction::Resume(Resume::Newest)).contains("no release of `agent` after 0.2.0"));
    fleet.publish("0.3.0", 3);
    let anew = fleet.act(RolloutAction::Resume(Resume::Newest));
    assert_eq!((anew.attempt, anew.summary.version.as_str()), (2, "0.3.0"));
    fleet.pass(SECOND);
    let told: Vec<AgentId> = fleet.told().into_keys().collect();
    fleet.publish("0.2.5", 4);
    let assign = AssignRelease { agent: told[0].to_string(), counter: 4, ttl: HELD_RETRY };
    let answer = fleet.command(Command::AssignRelease(assign));
    assert!(matches!(answer, Answer::Operator(Reply::Agent(_))), "{answer:?}");
    assert_eq!(fleet.standing("held").len(), 1);
    let _ = fleet.told();
    fleet.ends(told[1], "0.3.0", UpdateVerdict::Confirmed);
    fleet.pass(SOAK);
    fleet.stands("running 2 under_way");
}

#[test]
fn only_what_is_there_and_once_at_a_time() {
    let mut fleet = Fleet::new();
    let of = |version: &str, channel: Option<&str>| {
        let what = RolloutAgent { version: version.to_owned(), channel: channel.map(str::to_owned) };
        RolloutSpec { what: RolloutWhat::Agent(what), ..spec(&[]) }
    };
    for (spec, wanted) in [
        (of("9.9.9", None), "there is no release 9.9.9 of the agent: `sloth-coord release list`"),
        (of("0.2.0", Some("beta")), "in the channel `beta`"),
    ] {
        let refusal = fleet.request(RolloutRequest::Create(spec)).expect_err(wanted);
        assert!(refusal.reason.contains(wanted), "{refusal}");
    }
    fleet.create(of("0.2.0", Some("stable")));
    let other = RolloutSpec { name: "other".to_owned(), ..spec(&[]) };
    let refusal = fleet.request(RolloutRequest::Create(other)).expect_err("one is under way");
    assert!(refusal.reason.contains("rollout `agents` of `agent` has not ended"), "{refusal}");
    // A release that is withdrawn halts it.
    fleet.act(RolloutAction::Pause);
    fleet.command(Command::WithdrawRelease(2));
    fleet.act(RolloutAction::Resume(Resume::Same));
    fleet.end_all("0.2.0", UpdateVerdict::Held);
    fleet.pass(HELD_RETRY);
    fleet.stands("halted 1 release way_out");
}
