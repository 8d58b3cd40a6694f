//! What a coordinator keeps of an agent that tells without end, and what it orders.

#![allow(clippy::expect_used, reason = "helpers of tests may fail the test")]

mod common;

use std::collections::BTreeSet;

use sloth_core::{AgentId, Digest, Labels, Millis, RepositoryId, RunId, Secret, Selector, TokenId};
use sloth_protocol::{
    coordinator::{
        AGENTS_MAX, AgentRecord, Answer, Ask, CheckedReport, Command, Coordinator, Durable, Enroll, Event,
        JOB_RESULT_BYTES_MAX, Job, REVOKED_MAX, Release, Reply, Token, Write,
    },
    wire::{
        AgentResponse, Dropped, JobState, Lane, LogStream, OUTPUT_BYTES_MAX, Platform, Poll, Record, RecordBody,
        RefusalCode, Report, RunEnd, RunOutcome, StartRun, TaskEnd, TaskName, TaskStatus, VALUES_BYTES_MAX, encode,
    },
};
use sloth_trust::{BundleMetadata, Envelope, MachineKey, ManifestRef, PayloadKind, SPEC, Trigger};

use common::{NOW, agent_record, receipt_key, run, welcomed};

/// More than any part of a record takes.
const LONG_BYTES: usize = 100 * 1024;

fn agent() -> AgentId {
    AgentId::new(NOW, 1)
}

fn run_id() -> RunId {
    RunId::new(NOW, 2)
}

fn release() -> Release {
    let metadata = BundleMetadata {
        spec: SPEC,
        repository: RepositoryId::new(NOW, 1),
        name: "web".parse().expect("a name"),
        counter: 1,
        version: "1".to_owned(),
        manifest: ManifestRef { digest: Digest::of(b"manifest"), length: 9 },
        audience: Selector::everything(),
        capabilities: Vec::new(),
        triggers: vec![Trigger::Manual],
        parameters: None,
        expires: NOW + NOW,
        published: NOW,
    };
    let payload = serde_json::to_vec(&metadata).expect("JSON");
    let envelope = Envelope { kind: PayloadKind::Bundle, payload, signatures: Vec::new() }.encode();
    Release { envelope, metadata, size: 3, workflows: BTreeSet::new(), signers: Vec::new() }
}

/// A coordinator with one agent that said hello and has begun a run.
fn coordinator() -> Coordinator {
    let release = release();
    let state = Durable {
        agents: [(agent(), agent_record())].into(),
        bundles: [(release.metadata.name.clone(), [(1, release)].into())].into(),
        runs: [(run_id(), run())].into(),
        jobs: [(run_id(), [(agent(), Job { state: JobState::Running, generation: 1 })].into())].into(),
        ..Durable::default()
    };
    welcomed(state, agent())
}

fn report(machine: &mut Coordinator, seq: u64, body: RecordBody) -> Vec<Write> {
    let lane = body.lane();
    let records = vec![Record { seq, at: NOW, run: run_id(), body }];
    let report = Report { lane, dropped: Dropped::default(), records };
    let ask = Ask::Report(CheckedReport::new(report, agent(), Some(receipt_key().public())));
    machine.handle(NOW, Event::Asked { conn: 1, ticket: seq, ask }).writes
}

fn kept(writes: &[Write]) -> Option<&Record> {
    writes.iter().find_map(|write| if let Write::Append(_, record) = write { Some(record) } else { None })
}

fn long() -> String {
    "ä".repeat(LONG_BYTES / 2)
}

fn task() -> TaskName {
    TaskName { workflow: long(), task: long() }
}

fn run_end(outputs: String) -> RecordBody {
    RecordBody::RunEnded(RunEnd { outcome: RunOutcome::Succeeded, message: long(), outputs })
}

#[test]
fn no_record_is_kept_that_is_longer_than_a_record_may_be() {
    let mut machine = coordinator();
    let end = TaskEnd {
        task: task(),
        status: TaskStatus::Failed,
        attempts: 1,
        message: long(),
        outputs: long(),
        started: NOW,
        ended: NOW,
    };
    let log = RecordBody::Log { task: Some(task()), stream: LogStream::Info, text: long() };
    for (seq, body) in (1..).zip([
        RecordBody::TaskStarted { task: task(), attempt: 1 },
        RecordBody::TaskEnded(end),
        log,
        run_end(long()),
    ]) {
        let writes = report(&mut machine, seq, body);
        let weight = kept(&writes).expect("kept").weight();
        assert!(weight < 2 * OUTPUT_BYTES_MAX, "{seq}: {weight}");
    }
}

#[test]
fn who_tells_without_end_fills_no_disk_and_its_end_counts() {
    let mut machine = coordinator();
    let outputs = format!("{{\"a\":\"{}\"}}", "x".repeat(OUTPUT_BYTES_MAX - 8));
    let task = TaskName { workflow: "w".to_owned(), task: "t".to_owned() };
    let (status, message) = (TaskStatus::Succeeded, String::new());
    let end = TaskEnd { task, status, attempts: 1, message, outputs, started: NOW, ended: NOW };
    let (mut seq, mut bytes) = (0, 0);
    loop {
        seq += 1;
        let writes = report(&mut machine, seq, RecordBody::TaskEnded(end.clone()));
        let Some(record) = kept(&writes) else { break };
        bytes += record.weight();
        assert!(bytes <= JOB_RESULT_BYTES_MAX, "{seq} records have {bytes} bytes");
    }
    assert!(JOB_RESULT_BYTES_MAX - LONG_BYTES < bytes, "{bytes}");
    let writes = report(&mut machine, seq + 1, run_end("{}".to_owned()));
    let state = writes
        .iter()
        .find_map(|write| if let Write::PutJob(_, _, update) = write { Some(update.job.state) } else { None });
    assert_eq!((kept(&writes).is_some(), state), (false, Some(JobState::Succeeded)));
    assert!(machine.durable().runs.is_empty());
    let log = RecordBody::Log { task: None, stream: LogStream::Info, text: "late".to_owned() };
    assert_eq!(log.lane(), Lane::Logs);
    assert!(kept(&report(&mut machine, 1, log)).is_some());
}

/// A coordinator with so many agents whose identity was withdrawn, and the one of [`agent`].
fn with_revoked(count: usize) -> Coordinator {
    let revoked = (0..count).map(|number| {
        let number = u64::try_from(number).expect("small");
        let last_seen = NOW + Millis::from_u64(number);
        let record = AgentRecord { name: format!("old-{number}"), revoked: true, last_seen, ..agent_record() };
        (AgentId::new(NOW - Millis::from_u64(1 + number), u128::from(number)), record)
    });
    let agents = revoked.chain([(agent(), agent_record())]).collect();
    let token = Token {
        secret: Digest::of(b"secret"),
        uses: 1,
        expires: NOW + NOW,
        labels: Labels::new(),
        operator: "admin".to_owned(),
        root: 1,
    };
    let state = Durable { agents, tokens: [(TokenId::new(NOW, 1), token)].into(), ..Durable::default() };
    welcomed(state, agent())
}

#[test]
fn agents_that_are_revoked_take_nobodys_place_and_are_bounded() {
    let mut machine = with_revoked(REVOKED_MAX);
    let revoke = Command::RevokeAgent("web-1".to_owned());
    let event = Event::Command { ticket: 1, operator: "admin".to_owned(), command: revoke };
    let writes = machine.handle(NOW + NOW, event).writes;
    // The one that was last seen first.
    let forgotten: Vec<_> =
        writes.iter().filter_map(|write| if let Write::ForgetAgent(id) = write { Some(*id) } else { None }).collect();
    assert_eq!(forgotten, [AgentId::new(NOW - Millis::from_u64(1), 0)]);
    assert_eq!(machine.durable().agents.len(), REVOKED_MAX);
    assert!(machine.durable().agents.get(&agent()).is_some_and(|record| record.revoked));

    let mut machine = with_revoked(AGENTS_MAX);
    let enroll = Enroll {
        token: TokenId::new(NOW, 1),
        secret: Digest::of(b"secret"),
        key: Digest::of(b"another"),
        name: "web-2".to_owned(),
        version: String::new(),
        platform: Platform::default(),
        labels: Labels::new(),
        receipt_key: receipt_key().public().clone(),
    };
    let answer = machine.handle(NOW, Event::Enroll { ticket: 2, enroll }).answers.remove(0).1;
    assert!(matches!(answer, Answer::Enrolled { .. }), "{answer:?}");
}

fn start(machine: &mut Coordinator, values: String) -> Answer {
    let start = StartRun {
        run: RunId::new(NOW, 3),
        bundle: "web".to_owned(),
        version: None,
        workflow: None,
        selector: "*".to_owned(),
        values,
        ttl: Millis::from_secs(60),
    };
    let command = Command::StartRun(start);
    let event = Event::Command { ticket: 9, operator: "admin".to_owned(), command };
    machine.handle(NOW, event).answers.remove(0).1
}

#[test]
fn values_that_grow_when_they_are_written_anew_are_measured_as_they_are_sent() {
    let list = |number: &str, count: usize| format!("{{\"a\":[{}]}}", vec![number; count].join(","));
    let mut machine = coordinator();
    let grown = list("1e15", 40_000);
    assert!(grown.len() < VALUES_BYTES_MAX);
    let answer = start(&mut machine, grown);
    assert!(matches!(&answer, Answer::Refused(refusal) if refusal.code == RefusalCode::TooLarge), "{answer:?}");

    let answer = start(&mut machine, list("1e15", 13_000));
    assert!(matches!(&answer, Answer::Operator(Reply::Started(started)) if started.agents == 1), "{answer:?}");
    let poll = Ask::Poll(Poll { accepted: 0, hold: Millis::ZERO, room: 8, root: 1, head: 0 });
    let mut output = machine.handle(NOW, Event::Asked { conn: 1, ticket: 10, ask: poll });
    let (_, Answer::Work(orders)) = output.answers.remove(0) else { unreachable!("an agent is answered") };
    let key = MachineKey::from_seed(&Secret::new([1; 32]), [0; 8]).expect("a key");
    let work = orders.signed(|said| key.seal(said.payload.clone(), &said.domain).encode());
    assert_eq!(work.items.len(), 1, "{work:?}");
    assert!(encode(&AgentResponse::Work(work)).is_ok());
}
