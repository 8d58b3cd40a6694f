//! Rollouts of the coordinator's machine: agents poll, run and report, and the machine goes through restarts.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::collections::{BTreeMap, BTreeSet};

use sloth_core::{AgentId, Digest, Labels, Millis, RepositoryId, RunId, Secret};
use sloth_protocol::{
    coordinator::{
        AgentRecord, Answer, Ask, CheckedReport, Command, Coordinator, Durable, Event, Instruction, Output,
        ROLLOUTS_LIVE_MAX, Release, Reply, Settings,
    },
    rollout::EVERYTHING,
    wire::{
        Approval, Dropped, Hello, JobState, Lane, OnHalt, PROTO_MAX, PROTO_MIN, Passing, Platform, Poll, Record,
        RecordBody, Refusal, Report, Resume, RolloutAction, RolloutBundle, RolloutRequest, RolloutResponse,
        RolloutSpec, RolloutStatus, RolloutView, RolloutWhat, RunEnd, RunOutcome, Share, WaveMembers, WaveSpec,
    },
};
use sloth_trust::{BundleMetadata, Envelope, MachineKey, ManifestRef, PayloadKind, PublicKey, SPEC, Trigger};

const NOW: Millis = Millis::from_secs(1_700_000_000);
const HOSTS: u64 = 8;
const SOAK: Millis = Millis::from_secs(60);
const HOLD: Millis = Millis::from_secs(60);
const SILENT_AFTER: u32 = 3;

struct Fleet {
    machine: Coordinator,
    now: Millis,
    state: Durable,
    accepted: BTreeMap<AgentId, u64>,
    seqs: BTreeMap<AgentId, u64>,
    connected: BTreeSet<AgentId>,
    answers: BTreeMap<u64, Answer>,
    askers: BTreeMap<u64, AgentId>,
    tickets: u64,
}

fn host(number: u64) -> AgentId {
    AgentId::new(NOW, u128::from(number))
}

fn release(counter: u64, content: &str, triggers: &[Trigger]) -> Release {
    let metadata = BundleMetadata {
        spec: SPEC,
        repository: RepositoryId::new(NOW, 1),
        name: "web".parse().expect("a name"),
        counter,
        version: format!("1.{counter}"),
        manifest: ManifestRef { digest: Digest::of(content.as_bytes()), length: 9 },
        audience: "*".parse().expect("a selector"),
        capabilities: Vec::new(),
        triggers: triggers.to_vec(),
        parameters: None,
        expires: NOW + NOW,
        published: NOW,
    };
    let payload = serde_json::to_vec(&metadata).expect("JSON");
    let envelope = Envelope { kind: PayloadKind::Bundle, payload, signatures: Vec::new() }.encode();
    Release { envelope, metadata, size: 3, workflows: ["main".to_owned()].into(), signers: Vec::new() }
}

fn receipt_key() -> PublicKey {
    MachineKey::from_seed(&Secret::new([7; 32]), [0; 8]).expect("a key").public().clone()
}

fn record(number: u64) -> AgentRecord {
    AgentRecord {
        name: format!("host-{number}"),
        host_labels: Labels::new(),
        enrolled_labels: Labels::new(),
        version: String::new(),
        platform: Platform::default(),
        key: Digest::of(b"key"),
        receipt_key: receipt_key(),
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
    let bundle = RolloutBundle { name: "web".to_owned(), version: None, workflow: None, values: "{}".to_owned() };
    RolloutSpec {
        name: "web-2".to_owned(),
        what: RolloutWhat::Bundle(bundle),
        selector: "*".to_owned(),
        waves: shares.map(wave).collect(),
        errors_per_wave: Share::Count(0),
        errors_in_all: Share::Hundredths(EVERYTHING),
        unproven_max: Share::Hundredths(EVERYTHING),
        proven_min: Share::Count(1),
        windows: Vec::new(),
        silent_after: SILENT_AFTER,
        timeout: Millis::from_secs(3600),
        on_halt: OnHalt::Stop,
    }
}

impl Fleet {
    fn new() -> Self {
        let mut state = Durable::default();
        for number in 0..HOSTS {
            state.agents.insert(host(number), record(number));
        }
        let releases = [release(1, "old", &[Trigger::Rollout]), release(2, "new", &[Trigger::Rollout])];
        let releases = releases.map(|release| (release.metadata.counter, release)).into();
        state.bundles.insert("web".parse().expect("a name"), releases);
        let machine = Coordinator::restore(state.clone(), Settings::default(), NOW, 1).expect("restored");
        let mut fleet = Self {
            machine,
            now: NOW,
            state,
            accepted: BTreeMap::new(),
            seqs: BTreeMap::new(),
            connected: BTreeSet::new(),
            answers: BTreeMap::new(),
            askers: BTreeMap::new(),
            tickets: 0,
        };
        fleet.tell(Event::Wake);
        (0..HOSTS).for_each(|number| fleet.connect(host(number)));
        fleet
    }

    /// The machine ends, and another one begins with what was written.
    fn restart(&mut self) {
        assert_eq!(format!("{:?}", self.state.rollouts), format!("{:?}", self.machine.durable().rollouts));
        let connected = std::mem::take(&mut self.connected);
        self.machine = Coordinator::restore(self.state.clone(), Settings::default(), self.now, 2).expect("restored");
        self.tell(Event::Wake);
        connected.into_iter().for_each(|id| self.connect(id));
    }

    fn publish(&mut self, counter: u64, content: &str) {
        let release = release(counter, content, &[Trigger::Rollout]);
        self.state.apply(&sloth_protocol::coordinator::Write::PutRelease(Box::new(release)));
        self.machine = Coordinator::restore(self.state.clone(), Settings::default(), self.now, 2).expect("restored");
        self.tell(Event::Wake);
        std::mem::take(&mut self.connected).into_iter().for_each(|id| self.connect(id));
    }

    fn tell(&mut self, event: Event) -> Output {
        let output = self.machine.handle(self.now, event);
        output.writes.iter().for_each(|write| self.state.apply(write));
        self.answers.extend(output.answers.iter().cloned());
        output
    }

    fn ask(&mut self, id: AgentId, ask: Ask) {
        self.tickets += 1;
        let (conn, ticket) = (conn(id), self.tickets);
        self.askers.insert(ticket, id);
        self.tell(Event::Asked { conn, ticket, ask });
    }

    fn connect(&mut self, id: AgentId) {
        self.greet(id);
        self.poll(id);
    }

    fn greet(&mut self, id: AgentId) {
        self.tell(Event::Connected { conn: conn(id), agent: id });
        let (version, platform, labels) = (String::new(), Platform::default(), Labels::new());
        let (proto_min, proto_max, features) = (PROTO_MIN, PROTO_MAX, 0);
        self.ask(id, Ask::Hello(Hello { proto_min, proto_max, features, version, platform, labels, instance: 1 }));
        self.connected.insert(id);
    }

    fn disconnect(&mut self, id: AgentId) {
        self.connected.remove(&id);
        self.tell(Event::Closed { conn: conn(id) });
    }

    fn poll(&mut self, id: AgentId) {
        let accepted = self.accepted.get(&id).copied().unwrap_or(0);
        self.ask(id, Ask::Poll(Poll { accepted, hold: HOLD, room: 5, root: 0, head: 0 }));
    }

    /// How many agents were told of runs since; they have the orders on their disks.
    fn told(&mut self) -> usize {
        let mut told = BTreeSet::new();
        for (ticket, answer) in std::mem::take(&mut self.answers) {
            let Answer::Work(orders) = answer else { continue };
            let id = self.askers[&ticket];
            for (generation, order) in orders.items {
                self.accepted.insert(id, generation);
                if matches!(order, Instruction::Run { .. }) {
                    told.insert(id);
                }
            }
        }
        told.len()
    }

    /// The orders to run that wait for agents and that nothing follows.
    fn standing_orders(&self) -> usize {
        let last = self.state.work.values().filter_map(|work| work.values().next_back());
        last.filter(|item| item.run().is_some()).count()
    }

    /// The hosts whose runs are under way.
    fn at_work(&self) -> BTreeMap<AgentId, RunId> {
        let open = |(run, jobs): (&RunId, &BTreeMap<AgentId, sloth_protocol::coordinator::Job>)| {
            let open = jobs.iter().filter(|(_, job)| !job.state.is_final());
            open.map(|(id, _)| (*id, *run)).collect::<Vec<_>>()
        };
        self.state.jobs.iter().flat_map(open).collect()
    }

    fn end(&mut self, id: AgentId, run: RunId, outcome: RunOutcome) {
        let seq = self.seqs.entry(id).or_default();
        *seq += 1;
        let end = RunEnd { outcome, message: String::new(), outputs: String::new() };
        let record = Record { seq: *seq, run, at: self.now, body: RecordBody::RunEnded(end) };
        let report = Report { lane: Lane::Results, dropped: Dropped::default(), records: vec![record] };
        self.ask(id, Ask::Report(CheckedReport::new(report, id, None)));
    }

    /// Every host at work ends so; the time goes on by a second.
    fn end_all(&mut self, outcome: RunOutcome) -> usize {
        let at_work = self.at_work();
        for (id, run) in &at_work {
            self.end(*id, *run, outcome);
        }
        self.pass(Millis::from_secs(1));
        at_work.len()
    }

    /// Time passes; the machine is woken when it asked to be.
    fn pass(&mut self, span: Millis) {
        let until = self.now + span;
        loop {
            let output = self.tell(Event::Wake);
            match output.wake_at.filter(|at| *at <= until) {
                Some(at) => self.now = at.max(self.now),
                None => break,
            }
        }
        self.now = until;
        self.tell(Event::Wake);
        // Nobody who is connected keeps silent for longer than it is held.
        for id in self.connected.clone() {
            self.poll(id);
        }
    }

    fn request(&mut self, request: RolloutRequest) -> Result<RolloutResponse, Refusal> {
        self.tickets += 1;
        let ticket = self.tickets;
        let command = Command::Rollout(request);
        self.tell(Event::Command { ticket, operator: "ann".to_owned(), command });
        let answer = self.answers.remove(&ticket).expect("an answer");
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
        view(self.request(RolloutRequest::Act { name: "web-2".to_owned(), action }).expect("it can"))
    }

    fn refused(&mut self, action: RolloutAction) -> String {
        let refusal = self.request(RolloutRequest::Act { name: "web-2".to_owned(), action });
        refusal.expect_err("refused").reason
    }

    fn show(&mut self) -> RolloutView {
        view(self.request(RolloutRequest::Show("web-2".to_owned())).expect("it is there"))
    }

    /// The statuses of the rollout and the reasons, in a line.
    #[track_caller]
    fn stands(&mut self, expected: &str) {
        let view = self.show();
        let codes: Vec<&str> = view.reasons.iter().map(|reason| reason.code.as_str()).collect();
        let said = format!("{} {} {}", view.summary.status.name(), view.summary.open, codes.join(" "));
        assert_eq!(said.trim_end(), expected, "{view:#?}");
    }
}

fn view(response: RolloutResponse) -> RolloutView {
    let RolloutResponse::Rollout(view) = response else { panic!("{response:?}") };
    *view
}

fn conn(id: AgentId) -> u64 {
    u64::from_be_bytes(id.to_bytes()[8..].try_into().expect("eight bytes")) + 1
}

#[test]
fn a_good_release_goes_from_wave_to_wave() {
    let mut fleet = Fleet::new();
    let begun = fleet.create(spec(&[1, 3]));
    assert_eq!((begun.summary.open, begun.summary.hosts.under_way), (1, 1));
    fleet.stands("running 1 under_way");
    for (wave, hosts) in [(1, 1), (2, 2), (3, 5)] {
        assert_eq!(fleet.end_all(RunOutcome::Succeeded), hosts, "wave {wave}");
        fleet.stands(&format!("running {wave} under_way"));
        fleet.pass(SOAK - Millis::from_secs(2));
        fleet.stands(&format!("running {wave} under_way"));
        fleet.pass(Millis::from_secs(2));
    }
    fleet.stands("complete 3");
    assert_eq!(fleet.show().summary.hosts.proven, 8);
    // Each wave had one run, and each of them has ended.
    assert_eq!((fleet.state.runs.len(), fleet.state.ended.len()), (0, 3));
}

#[test]
fn a_failure_halts_and_nothing_is_told_after_it() {
    let mut fleet = Fleet::new();
    fleet.told();
    fleet.create(spec(&[1, 4]));
    assert_eq!(fleet.told(), 1);
    fleet.end_all(RunOutcome::Succeeded);
    fleet.pass(SOAK);
    fleet.stands("running 2 under_way");
    assert_eq!(fleet.told(), 3);
    let (first, run) = fleet.at_work().into_iter().next().expect("somebody at work");
    fleet.end(first, run, RunOutcome::Failed);
    fleet.stands("halted 2 wave_budget way_out");
    assert_eq!(fleet.standing_orders(), 1, "but for the one that has failed, all are to stop");
    fleet.pass(Millis::from_secs(7200));
    assert_eq!(fleet.told(), 0);
    fleet.restart();
    fleet.stands("halted 2 wave_budget way_out");
    assert!(fleet.refused(RolloutAction::Approve(Passing::Proven)).contains("is halted, and cannot be approved"));
}

#[test]
fn what_was_not_told_is_withdrawn_by_a_halt() {
    let mut fleet = Fleet::new();
    // Connected, and told nothing before they ask.
    for number in 0..HOSTS {
        fleet.disconnect(host(number));
        fleet.greet(host(number));
    }
    fleet.create(spec(&[3]));
    let at_work: Vec<(AgentId, RunId)> = fleet.at_work().into_iter().collect();
    assert_eq!((at_work.len(), fleet.standing_orders()), (3, 3));
    let (failing, run) = at_work[0];
    fleet.poll(failing);
    fleet.end(failing, run, RunOutcome::Failed);
    let view = fleet.show();
    assert_eq!(
        (view.summary.status, view.summary.hosts.failed, view.summary.hosts.under_way),
        (RolloutStatus::Halted, 1, 0)
    );
    assert!(fleet.at_work().is_empty());
    fleet.told();
    for number in 0..HOSTS {
        fleet.accepted.insert(host(number), u64::from(host(number) == failing));
        fleet.poll(host(number));
    }
    assert_eq!((fleet.told(), fleet.standing_orders()), (0, 0));
}

#[test]
fn silence_halts_by_the_hosts_own_rhythm_and_not_by_the_coordinators_absence() {
    let mut fleet = Fleet::new();
    fleet.create(spec(&[1]));
    let (id, _) = fleet.at_work().into_iter().next().expect("one");
    fleet.disconnect(id);
    fleet.pass(Millis::from_secs(150));
    fleet.stands("running 1 under_way");
    // While the coordinator was away nobody could be heard of.
    fleet.now = fleet.now + Millis::from_secs(7200 / 4);
    fleet.restart();
    fleet.pass(Millis::from_secs(150));
    fleet.stands("running 1 under_way");
    fleet.pass(Millis::from_secs(120));
    fleet.stands("halted 1 wave_budget way_out");
    assert_eq!(fleet.show().summary.hosts.silent, 1);
    // It comes back and does well: what it did counts, and the rollout goes on when it is told to.
    fleet.connect(id);
    fleet.end_all(RunOutcome::Succeeded);
    assert_eq!(fleet.show().summary.hosts.silent, 0);
    fleet.act(RolloutAction::Resume(Resume::Same));
    fleet.pass(SOAK + SOAK);
    fleet.stands("running 2 under_way");
}

#[test]
fn a_host_that_is_away_gets_it_when_it_returns() {
    let mut fleet = Fleet::new();
    let late = host(3);
    fleet.disconnect(late);
    fleet.pass(Millis::from_secs(600));
    fleet.create(spec(&[]));
    assert_eq!(fleet.end_all(RunOutcome::Succeeded), 7);
    fleet.pass(SOAK);
    fleet.stands("complete 1 away");
    fleet.pass(Millis::from_secs(14 * 24 * 3600));
    fleet.restart();
    fleet.connect(late);
    fleet.pass(Millis::from_secs(2));
    assert_eq!(fleet.at_work().keys().copied().collect::<Vec<_>>(), [late]);
    fleet.end_all(RunOutcome::Succeeded);
    fleet.pass(SOAK);
    assert_eq!(fleet.show().summary.hosts.proven, 8);
}

#[test]
fn resuming_tries_failed_hosts_again_or_begins_anew_with_a_mended_release() {
    let mut fleet = Fleet::new();
    fleet.create(spec(&[2]));
    fleet.end_all(RunOutcome::Failed);
    fleet.stands("halted 1 wave_budget way_out");
    fleet.act(RolloutAction::Resume(Resume::Same));
    assert_eq!(fleet.end_all(RunOutcome::Failed), 2);
    fleet.stands("halted 1 wave_budget way_out");
    assert!(fleet.refused(RolloutAction::Resume(Resume::Newest)).contains("no release of `web` after 1.2"));
    fleet.publish(3, "mended");
    let anew = fleet.act(RolloutAction::Resume(Resume::Newest));
    assert_eq!((anew.attempt, anew.summary.version.as_str(), anew.summary.hosts.under_way), (2, "1.3", 2));
    fleet.end_all(RunOutcome::Succeeded);
    fleet.pass(SOAK);
    assert_eq!(fleet.end_all(RunOutcome::Succeeded), 6);
    fleet.pass(SOAK);
    fleet.stands("complete 2");
}

#[test]
fn going_back_needs_the_old_content_under_a_higher_number() {
    let mut fleet = Fleet::new();
    fleet.create(RolloutSpec { on_halt: OnHalt::RollBack, ..spec(&[2]) });
    fleet.end_all(RunOutcome::Failed);
    fleet.stands("halted 1 wave_budget way_out");
    let reason = fleet.refused(RolloutAction::RollBack);
    assert!(reason.contains("publish release 1.1 of `web` again"), "{reason}");
    fleet.publish(3, "old");
    let back = fleet.act(RolloutAction::RollBack);
    assert_eq!((back.summary.status, back.summary.hosts.returning), (RolloutStatus::RollingBack, 2));
    let run = fleet.at_work().into_values().next().expect("a run");
    assert_eq!(fleet.state.runs[&run].counter, 3);
    fleet.restart();
    fleet.end_all(RunOutcome::Succeeded);
    fleet.stands("rolled_back 1");
    assert_eq!(fleet.show().summary.hosts.returned, 2);
}

#[test]
fn operators_approve_pause_and_abort() {
    let mut fleet = Fleet::new();
    let mut careful = spec(&[1]);
    careful.waves[1].approval = Approval::Needed;
    fleet.create(careful.clone());
    fleet.end_all(RunOutcome::Succeeded);
    fleet.pass(SOAK);
    fleet.stands("running 1 approval");
    fleet.act(RolloutAction::Pause);
    fleet.stands("paused 1 paused");
    assert!(fleet.refused(RolloutAction::Approve(Passing::Proven)).contains("is paused"));
    fleet.act(RolloutAction::Resume(Resume::Same));
    let open = fleet.act(RolloutAction::Approve(Passing::Proven));
    assert_eq!((open.summary.open, open.summary.hosts.under_way), (2, 7));
    let aborted = fleet.act(RolloutAction::Abort);
    assert_eq!(aborted.summary.status, RolloutStatus::Aborted);
    assert!(fleet.refused(RolloutAction::Resume(Resume::Same)).contains("is aborted, and cannot be resumed"));
    let states: BTreeSet<JobState> =
        fleet.state.jobs.values().flat_map(BTreeMap::values).map(|job| job.state).collect();
    assert!(fleet.state.rollout_hosts.is_empty(), "{states:?}");
    // Its name stays taken while it can be looked at.
    let again = fleet.request(RolloutRequest::Create(careful)).expect_err("the name is taken");
    assert!(again.reason.contains("there is a rollout `web-2` already"), "{again}");
}

#[test]
fn a_wave_without_anybody_in_reach_waits_for_evidence_or_an_operator() {
    let mut fleet = Fleet::new();
    let first = {
        let plan = fleet.request(RolloutRequest::Plan { spec: spec(&[1]), after: None }).expect("a plan");
        let RolloutResponse::Plan(plan) = plan else { panic!("{plan:?}") };
        assert_eq!(plan.waves.iter().map(|wave| wave.counts.members).collect::<Vec<_>>(), [1, 7]);
        plan.page.hosts.iter().find(|host| host.wave == 1).expect("the first").agent
    };
    fleet.disconnect(first);
    fleet.pass(Millis::from_secs(600));
    fleet.create(spec(&[1]));
    fleet.stands("running 1 no_evidence away");
    fleet.pass(Millis::from_secs(24 * 3600));
    fleet.stands("running 1 no_evidence away");
    fleet.act(RolloutAction::Approve(Passing::Unproven));
    fleet.stands("running 2 under_way");
}

#[test]
fn one_rollout_of_a_bundle_at_a_time_and_only_what_may_be_rolled_out() {
    let mut fleet = Fleet::new();
    let named = |name: &str| RolloutSpec { name: name.to_owned(), ..spec(&[]) };
    fleet.create(spec(&[]));
    let other = fleet.request(RolloutRequest::Create(named("other"))).expect_err("one is under way");
    assert!(other.reason.contains("rollout `web-2` of `web` has not ended"), "{other}");
    fleet.end_all(RunOutcome::Succeeded);
    fleet.pass(SOAK);
    fleet.create(named("other"));
    assert_eq!(fleet.show().summary.status, RolloutStatus::Superseded);
    assert_eq!(fleet.show().summary.hosts.proven, 8);
    let mut fleet = Fleet::new();
    fleet.state.apply(&sloth_protocol::coordinator::Write::PutRelease(Box::new(release(9, "x", &[Trigger::Manual]))));
    fleet.restart_plain();
    for (spec, wanted) in [
        (named("a"), "with the trigger `rollout`"),
        (RolloutSpec { selector: "role=none".to_owned(), ..named("a") }, "with the trigger `rollout`"),
        (RolloutSpec { selector: "((".to_owned(), ..named("a") }, "cannot read the selector"),
        (RolloutSpec { waves: Vec::new(), ..named("a") }, "waves"),
    ] {
        let refusal = fleet.request(RolloutRequest::Create(spec)).expect_err(wanted);
        assert!(refusal.reason.contains(wanted), "{refusal}");
    }
}

#[test]
fn as_many_rollouts_are_not_over_as_are_said_and_no_more() {
    let mut fleet = Fleet::new();
    let bundles: Vec<String> = (0..=ROLLOUTS_LIVE_MAX).map(|number| format!("b{number}")).collect();
    for bundle in &bundles {
        let mut first = release(1, "a", &[Trigger::Rollout]);
        first.metadata.name = bundle.parse().expect("a name");
        fleet.state.apply(&sloth_protocol::coordinator::Write::PutRelease(Box::new(first)));
    }
    fleet.restart_plain();
    let of = |bundle: &String, name: String| {
        let what = RolloutBundle { name: bundle.clone(), version: None, workflow: None, values: "{}".to_owned() };
        RolloutSpec { name, what: RolloutWhat::Bundle(what), ..spec(&[]) }
    };
    for bundle in &bundles[..ROLLOUTS_LIVE_MAX] {
        fleet.create(of(bundle, format!("{bundle}-1")));
    }
    let last = &bundles[ROLLOUTS_LIVE_MAX];
    let refusal = fleet.request(RolloutRequest::Create(of(last, "last".to_owned()))).expect_err("one too many");
    assert!(refusal.reason.contains("64 rollouts are not over"), "{refusal}");
    let ended = RolloutRequest::Act { name: "b0-1".to_owned(), action: RolloutAction::Abort };
    fleet.request(ended).expect("it ends");
    fleet.create(of(last, "last".to_owned()));
}

impl Fleet {
    /// As [`Self::restart`], of what a test has written itself.
    fn restart_plain(&mut self) {
        self.machine = Coordinator::restore(self.state.clone(), Settings::default(), self.now, 2).expect("restored");
        self.tell(Event::Wake);
    }
}
