//! Receipts: what an agent has to sign of each run, and which ones a coordinator takes.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

#[path = "common/agent_config.rs"]
mod agent_config;
mod common;

use agent_config::agent_config;
use std::collections::BTreeMap;

use sloth_core::{AgentId, Digest, Labels, Millis, RepositoryId, RunId, Secret, TokenId};
use sloth_protocol::{
    agent::{self, Agent, Basis, Config, Stage},
    coordinator::{
        AgentRecord, Answer, Ask, CheckedReport, Coordinator, Durable, Enroll, Event, Job, Output, Settings, Token,
        Write,
    },
    receipts::task_summary,
    wire::{
        Class, Dropped, JobState, Lane, Record, RecordBody, Report, RunEnd, RunOutcome, TaskEnd, TaskName, TaskStatus,
    },
};
use sloth_trust::{
    MachineKey, Receipt, ReceiptOutcome, RoleKeys, Roles, Root, SPEC,
    sign::{generate, open, public_key, sign},
};

use common::{NOW, agent_record, receipt_key, run, welcomed};

fn id() -> AgentId {
    AgentId::new(NOW, 1)
}

fn run_id() -> RunId {
    RunId::new(NOW, 2)
}

fn repository() -> RepositoryId {
    RepositoryId::new(NOW, 1)
}

/// An agent with a run whose worker it is to start.
fn agent() -> Agent {
    let key = open(&generate(None).expect("a key").secret, None).expect("opens");
    let role = RoleKeys::new(vec![public_key(&key).expect("a key")], 1).expect("a role");
    let roles = Roles { root: role, releases: None, bundles: BTreeMap::new(), head: None, assignment: None };
    let root = Root { spec: SPEC, repository: repository(), version: 1, issued: NOW, expires: NOW + NOW, roles };
    let root = sign(&root, &root.domain(), &[&key]).expect("signed");
    let config =
        Config { certificate_until: NOW + NOW, outbox_bytes_max: [200_000, 10_000], ..agent_config(NOW, &root) };
    let job = agent::Job {
        run: run_id(),
        bundle: "web".parse().expect("a name"),
        version: "1".to_owned(),
        manifest: Digest::of(b"manifest"),
        manifest_bytes: 8,
        capabilities: Vec::new(),
        workflow: Some("site".to_owned()),
        values: "{}".to_owned(),
        basis: Basis { order: 9, counter: 5, root: 1, head: 77 },
        begun: None,
        deadline: NOW + Millis::from_secs(3600),
        cancelled: false,
        stage: Stage::Accepted,
    };
    let state = agent::Durable { jobs: [(run_id(), job)].into(), ..agent::Durable::default() };
    let mut agent = Agent::restore(config, state, NOW, 1).expect("restored");
    let _ = agent.handle(NOW, agent::Event::Wake);
    agent
}

fn task_end(task: &str, message: &str) -> TaskEnd {
    TaskEnd {
        task: TaskName { workflow: "site".to_owned(), task: task.to_owned() },
        status: TaskStatus::Succeeded,
        attempts: 1,
        message: message.to_owned(),
        outputs: "{}".to_owned(),
        started: NOW,
        ended: NOW,
    }
}

fn records(writes: &[agent::Write]) -> Vec<&RecordBody> {
    let mut records = Vec::new();
    for write in writes {
        if let agent::Write::PutRecord { record, .. } = write {
            records.push(&record.body);
        }
    }
    records
}

#[test]
fn an_agent_has_a_receipt_to_sign_behind_each_runs_end() {
    let mut agent = agent();
    let later = NOW + Millis::from_secs(5);
    let _ = agent.handle(later, agent::Event::Fetched { run: run_id(), result: Ok(()) });
    // The first comes last by name, and says more than fits a record.
    let ends = [task_end("b", &"ä".repeat(100_000)), task_end("a", "done")];
    let mut reported = BTreeMap::new();
    for end in ends {
        let output = agent.handle(later, agent::Event::TaskEnded { run: run_id(), end });
        for body in records(&output.writes) {
            let RecordBody::TaskEnded(end) = body else { panic!("only an end: {body:?}") };
            reported.insert(end.task.clone(), end.clone());
        }
    }
    let end = RunEnd {
        outcome: RunOutcome::Succeeded,
        message: "x".repeat(100_000),
        outputs: format!("{{\"a\":\"{}\"}}", "x".repeat(100_000)),
    };
    let output = agent.handle(later + later, agent::Event::RunEnded { run: run_id(), end });
    let records = records(&output.writes);
    let [RecordBody::RunEnded(end), body @ RecordBody::Receipt { payload, signature }] = &records[..] else {
        panic!("the end, and then its receipt: {records:?}")
    };
    assert_eq!((signature.as_str(), body.class(), body.lane()), ("", Class::Run, Lane::Results));
    assert_eq!(&(*body).clone().fitted(), *body);
    let receipt: Receipt = serde_json::from_slice(payload).expect("a receipt");
    let expected = Receipt {
        spec: SPEC,
        repository: repository(),
        agent: id(),
        run: run_id(),
        order: 9,
        bundle: "web".parse().expect("a name"),
        counter: 5,
        manifest: Digest::of(b"manifest"),
        workflow: Some("site".to_owned()),
        root: 1,
        head: 77,
        outcome: ReceiptOutcome::Succeeded,
        // Of what is reported, which is all that whoever holds it against the receipt can have.
        message: Digest::of(end.message.as_bytes()),
        outputs: Digest::of(end.outputs.as_bytes()),
        tasks: task_summary(reported.values()),
        started: Some(later),
        ended: later + later,
        version: "0.1.0".to_owned(),
    };
    assert_eq!(receipt, expected);
    assert_eq!(receipt.tasks.succeeded, 2);
}

#[test]
fn what_was_cut_off_is_in_the_receipt_as_it_is_reported() {
    let mut agent = agent();
    let _ = agent.handle(NOW, agent::Event::Fetched { run: run_id(), result: Ok(()) });
    let task = TaskName { workflow: "site".to_owned(), task: "a".to_owned() };
    let on_interrupt = sloth_protocol::wire::OnInterrupt::Fail;
    let _ = agent.handle(NOW, agent::Event::TaskStarting { run: run_id(), task, attempt: 1, on_interrupt });
    let end = RunEnd { outcome: RunOutcome::Failed, message: String::new(), outputs: "{}".to_owned() };
    let output = agent.handle(NOW, agent::Event::RunEnded { run: run_id(), end });
    let records = records(&output.writes);
    let [RecordBody::TaskEnded(end), RecordBody::RunEnded(_), RecordBody::Receipt { payload, .. }] = &records[..]
    else {
        panic!("the open task's end, the run's, and the receipt: {records:?}")
    };
    let receipt: Receipt = serde_json::from_slice(payload).expect("a receipt");
    assert_eq!(receipt.tasks, task_summary([end]));
    assert_eq!((receipt.tasks.interrupted, receipt.outcome), (1, ReceiptOutcome::Failed));
}

fn coordinator() -> Coordinator {
    let state = Durable {
        agents: [(id(), agent_record())].into(),
        runs: [(run_id(), run())].into(),
        jobs: [(run_id(), [(id(), Job { state: JobState::Running, generation: 1 })].into())].into(),
        ..Durable::default()
    };
    welcomed(state, id())
}

fn receipt(agent: AgentId, run: RunId) -> Receipt {
    Receipt {
        spec: SPEC,
        repository: repository(),
        agent,
        run,
        order: 1,
        bundle: "web".parse().expect("a name"),
        counter: 1,
        manifest: Digest::of(b"manifest"),
        workflow: None,
        root: 1,
        head: 1,
        outcome: ReceiptOutcome::Succeeded,
        message: Digest::of(b""),
        outputs: Digest::of(b"{}"),
        tasks: task_summary([]),
        started: None,
        ended: NOW,
        version: "0.1.0".to_owned(),
    }
}

fn signed(receipt: &Receipt, key: &MachineKey) -> RecordBody {
    let payload = serde_json::to_vec(receipt).expect("a receipt");
    let signature = key.sign(&payload, &receipt.domain()).minisig;
    RecordBody::Receipt { payload, signature }
}

/// Reports one record for a run, the receipts in it held against `key`.
fn report(machine: &mut Coordinator, seq: u64, run: RunId, body: RecordBody, key: Option<&MachineKey>) -> Output {
    let records = vec![Record { seq, at: NOW, run, body }];
    let report = Report { lane: Lane::Results, dropped: Dropped::default(), records };
    let ask = Ask::Report(CheckedReport::new(report, id(), key.map(MachineKey::public)));
    machine.handle(NOW, Event::Asked { conn: 1, ticket: seq, ask })
}

fn kept(output: &Output) -> usize {
    output.writes.iter().filter(|write| matches!(write, Write::PutReceipt(_))).count()
}

#[test]
fn a_coordinator_keeps_what_the_agent_signed_and_nothing_else() {
    let (own, other) = (receipt_key(), MachineKey::from_seed(&Secret::new([8; 32]), [0; 8]).expect("a key"));
    let good = receipt(id(), run_id());
    let stranger = AgentId::new(NOW, 99);
    let elsewhere = RunId::new(NOW, 98);
    let cases = [
        (signed(&good, &own), run_id(), Some(&own), None),
        (signed(&good, &own), run_id(), None, Some("has not said hello")),
        (signed(&good, &other), run_id(), Some(&own), Some("do not carry it")),
        (signed(&receipt(stranger, run_id()), &own), run_id(), Some(&own), Some("for agent")),
        (signed(&receipt(id(), elsewhere), &own), run_id(), Some(&own), Some("for run")),
        (signed(&receipt(id(), elsewhere), &own), elsewhere, Some(&own), Some("not known here")),
        (
            RecordBody::Receipt { payload: vec![0xff; 9], signature: String::new() },
            run_id(),
            Some(&own),
            Some("minisign"),
        ),
    ];
    for (body, run, key, against) in cases {
        let mut machine = coordinator();
        let output = report(&mut machine, 1, run, body, key);
        assert_eq!(kept(&output), usize::from(against.is_none()), "{against:?}");
        let reasons: Vec<&str> = output.rejected.iter().map(|rejected| rejected.reason.as_str()).collect();
        match against {
            None => assert!(reasons.is_empty(), "{reasons:?}"),
            Some(against) => {
                assert!(reasons.len() == 1 && reasons[0].contains(against), "{against}: {reasons:?}");
                assert_eq!((output.rejected[0].agent, output.rejected[0].run), (id(), run));
            }
        }
        // Whatever it is, it is counted, so that the agent need not send it for ever.
        assert!(output.writes.iter().any(|write| matches!(write, Write::PutInbox(_, _, inbox) if inbox.through == 1)));
    }
}

#[test]
fn a_receipt_that_comes_again_is_not_counted_again() {
    let key = receipt_key();
    let mut machine = coordinator();
    let body = signed(&receipt(id(), run_id()), &key);
    assert_eq!(kept(&report(&mut machine, 1, run_id(), body.clone(), Some(&key))), 1);
    let again = report(&mut machine, 1, run_id(), body, Some(&key));
    assert_eq!((kept(&again), again.rejected.len()), (0, 0));
}

#[test]
fn the_end_and_its_receipt_come_in_one_report_or_in_two() {
    let key = receipt_key();
    let end = RunEnd { outcome: RunOutcome::Succeeded, message: String::new(), outputs: "{}".to_owned() };
    let mut machine = coordinator();
    let ended = report(&mut machine, 1, run_id(), RecordBody::RunEnded(end), Some(&key));
    assert_eq!(kept(&ended), 0);
    assert!(machine.durable().ended.contains(&run_id()), "the run has ended everywhere, and is on the disk alone");
    let output = report(&mut machine, 2, run_id(), signed(&receipt(id(), run_id()), &key), Some(&key));
    assert_eq!((kept(&output), output.rejected.len()), (1, 0));
}

/// What a coordinator that knows the agent in its version of the protocol answers to it when it enrols again, with the key
/// of its certificate and another one for receipts.
fn enrolled_again(proto: u16, receipt_key: &MachineKey) -> Output {
    let (id_of_token, secret) = (TokenId::new(NOW, 5), Digest::of(b"secret"));
    let (expires, labels, operator) = (NOW + NOW, Labels::new(), "admin".to_owned());
    let token = Token { secret, uses: 0, expires, labels, operator, root: 1 };
    let record = AgentRecord { proto, ..agent_record() };
    let state =
        Durable { agents: [(id(), record)].into(), tokens: [(id_of_token, token)].into(), ..Durable::default() };
    let mut machine = Coordinator::restore(state, Settings::default(), NOW, 1).expect("restored");
    let AgentRecord { name, version, platform, key, .. } = agent_record();
    let (labels, receipt_key) = (Labels::new(), receipt_key.public().clone());
    let enroll = Enroll { token: id_of_token, secret, key, name, version, platform, labels, receipt_key };
    machine.handle(NOW, Event::Enroll { ticket: 1, enroll })
}

#[test]
fn an_agent_that_was_here_keeps_its_key_for_receipts() {
    let (own, other) = (receipt_key(), MachineKey::from_seed(&Secret::new([8; 32]), [0; 8]).expect("a key"));
    let keys = |output: &Output| -> Vec<_> {
        let put = |write: &Write| {
            if let Write::PutAgent(_, record) = write { Some(record.receipt_key.clone()) } else { None }
        };
        output.writes.iter().filter_map(put).collect()
    };
    // Its answer was lost, and its key with it: nothing was signed yet.
    let output = enrolled_again(0, &other);
    assert!(matches!(&output.answers[..], [(1, Answer::Enrolled { .. })]), "{output:?}");
    assert_eq!(keys(&output), [other.public().clone()]);
    // Entries by the first key would hold no more, and with them the chain of the whole fleet.
    let output = enrolled_again(1, &other);
    let [(1, Answer::Refused(refusal))] = &output.answers[..] else { panic!("refused: {output:?}") };
    assert!(refusal.reason.contains("receipt.key") && refusal.reason.contains("agents revoke web-1"), "{refusal}");
    assert!(keys(&output).is_empty());
    let output = enrolled_again(1, &own);
    assert!(matches!(&output.answers[..], [(1, Answer::Enrolled { .. })]), "{output:?}");
}
