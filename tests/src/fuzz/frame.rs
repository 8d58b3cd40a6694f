//! Frames: a header that claims a length, and a body that is to be a message.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};
use sloth_core::{AgentId, Digest, Labels, Millis, RunId, TokenId};
use sloth_protocol::wire::{
    Acked, AgentRequest, AgentResponse, AgentView, AgentsPage, BlobHead, CreateToken, Dropped, Enroll, EnrollRequest,
    EnrollResponse, Enrolled, Events, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FRAME_UNAUTHENTICATED_BYTES_MAX, Fetch,
    Hello, Lane, LogStream, OperatorRequest, OperatorResponse, Order, Platform, Poll, ReceiptsAsked, Record,
    RecordBody, Refusal, RefusalCode, Renew, Report, RunEnd, RunEvent, RunOrder, RunOutcome, StartRun, TaskEnd,
    TaskName, TaskStatus, TokenSecret, Welcome, Work, WorkItem, decode, encode, frame_length,
};

use sloth_trust::PublicKey;

use super::{Seed, Verdict, told};

/// Reads what follows the first byte of `bytes` as a message of the kind that this byte chooses.
///
/// # Panics
///
/// When a header over the limit passes, or a message that was read is written otherwise.
pub fn run(bytes: &[u8]) -> Verdict {
    let Some((kind, body)) = bytes.split_first() else { return Verdict::Refused };
    if let Some(header) = body.first_chunk::<FRAME_HEADER_BYTES>() {
        check_header(*header);
    }
    match kind % 6 {
        0 => check::<EnrollRequest>(body, FRAME_UNAUTHENTICATED_BYTES_MAX),
        1 => check::<EnrollResponse>(body, FRAME_BYTES_MAX),
        2 => check::<AgentRequest>(body, FRAME_BYTES_MAX),
        3 => check::<AgentResponse>(body, FRAME_BYTES_MAX),
        4 => check::<OperatorRequest>(body, FRAME_BYTES_MAX),
        _ => check::<OperatorResponse>(body, FRAME_BYTES_MAX),
    }
}

fn check_header(header: [u8; FRAME_HEADER_BYTES]) {
    for max in [0, FRAME_UNAUTHENTICATED_BYTES_MAX, FRAME_BYTES_MAX] {
        match frame_length(header, max) {
            Ok(length) => assert!(length <= max),
            Err(error) => {
                assert!(max < error.length);
                told(&error);
            }
        }
    }
}

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8], bytes_max: usize) -> Verdict {
    if bytes_max < body.len() {
        return Verdict::Refused;
    }
    let message = match decode::<T>(body) {
        Ok(message) => message,
        Err(error) => {
            told(&error);
            return Verdict::Refused;
        }
    };
    let frame = encode(&message).expect("what fitted into a frame fits again");
    let (header, again) = frame.split_first_chunk::<FRAME_HEADER_BYTES>().expect("a header");
    assert!(again.len() <= body.len(), "the canonical form is the shortest");
    assert_eq!(frame_length(*header, bytes_max).ok(), Some(again.len()));
    let message_again = decode::<T>(again).expect("what was written can be read");
    assert_eq!(message_again, message);
    assert_eq!(encode(&message_again).expect("fits"), frame, "one message has one form");
    Verdict::Accepted
}

const TIME: Millis = Millis::from_secs(1_700_000_000);

pub(super) fn seeds() -> Vec<Seed> {
    let mut seeds = vec![
        seed("enroll", 0, &EnrollRequest::Enroll(enroll())),
        seed("enrolled", 1, &EnrollResponse::Enrolled(enrolled())),
        seed("enroll-refused", 1, &EnrollResponse::Refused(refusal())),
    ];
    seeds.extend(agent_requests().into_iter().map(|(name, message)| seed(name, 2, &message)));
    seeds.extend(agent_responses().into_iter().map(|(name, message)| seed(name, 3, &message)));
    seeds.extend(operator_requests().into_iter().map(|(name, message)| seed(name, 4, &message)));
    seeds.extend(operator_responses().into_iter().map(|(name, message)| seed(name, 5, &message)));
    seeds.push(Seed::refused("unknown-tag", [4, 200, 1]));
    seeds.push(Seed::refused("trailing", [4, 1, 0]));
    seeds.push(Seed::refused("endless-list", [4, 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]));
    seeds
}

fn seed<T: Serialize>(name: &'static str, kind: u8, message: &T) -> Seed {
    let frame = encode(message).expect("short");
    Seed::accepted(name, [&[kind], &frame[FRAME_HEADER_BYTES..]].concat())
}

fn agent_requests() -> Vec<(&'static str, AgentRequest)> {
    let hello = Hello {
        proto_min: 1,
        proto_max: 2,
        features: 0,
        version: "0.1.0".to_owned(),
        platform: platform(),
        labels: labels(),
        instance: 300,
    };
    let report =
        Report { lane: Lane::Results, dropped: Dropped { logs: 300, ..Dropped::default() }, records: records() };
    vec![
        ("hello", AgentRequest::Hello(hello)),
        ("poll", AgentRequest::Poll(Poll { accepted: 300, hold: Millis::from_secs(30), room: 4, root: 2, head: 7 })),
        ("report", AgentRequest::Report(report)),
        ("fetch", AgentRequest::Fetch(Fetch { digest: Digest::of(b"x"), offset: 65_536 })),
        ("renew", AgentRequest::Renew(Renew { csr: vec![0x30, 0x82] })),
    ]
}

fn agent_responses() -> Vec<(&'static str, AgentResponse)> {
    let welcome =
        Welcome { proto: 1, features: 0, time: TIME, acked: [7, 300], reconnect_within: Millis::from_secs(1) };
    let order = RunOrder {
        run: run_id(),
        assignment: vec![1, 2, 0],
        metadata: vec![1, 1, 0],
        index: 3,
        path: vec![Digest::of(b"neighbour")],
    };
    let items = vec![
        WorkItem { generation: 1, order: Order::Run(order) },
        WorkItem { generation: 2, order: Order::Cancel { run: run_id() } },
    ];
    vec![
        ("welcome", AgentResponse::Welcome(welcome)),
        (
            "work",
            AgentResponse::Work(Work {
                items,
                next_poll: Millis::ZERO,
                roots: vec![vec![7; 9]],
                head: Some(vec![8; 9]),
            }),
        ),
        ("acked", AgentResponse::Acked(Acked { lane: Lane::Logs, through: 300 })),
        ("blob", AgentResponse::Blob(BlobHead { length: 70_000 })),
        ("agent-refused", AgentResponse::Refused(refusal())),
    ]
}

fn operator_requests() -> Vec<(&'static str, OperatorRequest)> {
    let start = StartRun {
        run: run_id(),
        bundle: "web".to_owned(),
        version: Some("1.0".to_owned()),
        workflow: None,
        selector: "role=web".to_owned(),
        values: "{}".to_owned(),
        ttl: Millis::from_secs(600),
    };
    let token = CreateToken { uses: 1, ttl: Millis::from_secs(3600), labels: labels() };
    vec![
        ("root-wanted", OperatorRequest::Root),
        ("missing-blobs", OperatorRequest::MissingBlobs(vec![Digest::of(b"x"), Digest::of(b"y")])),
        ("put-blob", OperatorRequest::PutBlob { digest: Digest::of(b"x"), length: 1 }),
        ("create-token", OperatorRequest::CreateToken(token)),
        ("agents", OperatorRequest::Agents { selector: "*".to_owned(), after: Some(agent()) }),
        ("start-run", OperatorRequest::StartRun(start)),
        ("runs", OperatorRequest::Runs { before: None, rows: 50 }),
        ("receipts", OperatorRequest::Receipts(ReceiptsAsked { after: 300, agent: Some(agent()), run: None })),
    ]
}

fn operator_responses() -> Vec<(&'static str, OperatorResponse)> {
    let view = AgentView {
        id: agent(),
        name: "web-1".to_owned(),
        labels: labels(),
        version: "0.1.0".to_owned(),
        platform: platform(),
        connected: true,
        last_seen: TIME,
        enrolled: TIME,
        revoked: false,
        dropped: Dropped::default(),
        jobs: 2,
        root: 1,
        head: 0,
        receipt_key: receipt_key(),
        proto: 1,
        update: None,
        copied: None,
    };
    let events = records().into_iter().zip(1..).map(|(record, number)| RunEvent { number, agent: agent(), record });
    vec![
        ("done", OperatorResponse::Done),
        ("root", OperatorResponse::Root(Some(vec![1, 0, 0]))),
        ("missing", OperatorResponse::Missing(vec![Digest::of(b"x")])),
        ("agents-page", OperatorResponse::Agents(AgentsPage { agents: vec![view], more: false })),
        ("events", OperatorResponse::Events(Events { events: events.collect(), last: true })),
        ("operator-refused", OperatorResponse::Refused(refusal())),
    ]
}

fn enroll() -> Enroll {
    Enroll {
        proto_min: 1,
        proto_max: 1,
        token: TokenId::new(TIME, 5),
        secret: TokenSecret::from_bytes([3; 32]),
        csr: vec![0x30, 0x82],
        name: "web-1".to_owned(),
        version: "0.1.0".to_owned(),
        platform: platform(),
        labels: labels(),
        receipt_key: receipt_key(),
    }
}

fn receipt_key() -> PublicKey {
    "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3".parse().expect("a key")
}

fn enrolled() -> Enrolled {
    Enrolled {
        agent: agent(),
        certificate: vec![0x30, 0x82],
        not_before: TIME,
        not_after: TIME,
        labels: labels(),
        root: vec![1, 0, 0],
    }
}

fn records() -> Vec<Record> {
    let task = TaskName { workflow: "web".to_owned(), task: "render".to_owned() };
    let ended = TaskEnd {
        task: task.clone(),
        status: TaskStatus::Succeeded,
        attempts: 1,
        message: "written".to_owned(),
        outputs: "{}".to_owned(),
        started: TIME,
        ended: TIME,
    };
    let run_ended = RunEnd { outcome: RunOutcome::Succeeded, message: String::new(), outputs: "{}".to_owned() };
    let bodies = [
        RecordBody::RunStarted,
        RecordBody::TaskStarted { task: task.clone(), attempt: 1 },
        RecordBody::Log { task: Some(task), stream: LogStream::Stdout, text: "hello".to_owned() },
        RecordBody::TaskEnded(ended),
        RecordBody::RunEnded(run_ended),
        RecordBody::Receipt { payload: b"{}".to_vec(), signature: "four lines".to_owned() },
    ];
    bodies.into_iter().zip(1..).map(|(body, seq)| Record { seq, at: TIME, run: run_id(), body }).collect()
}

fn refusal() -> Refusal {
    Refusal { code: RefusalCode::Busy, reason: "too much is going on".to_owned(), retry_after: Millis::from_secs(5) }
}

fn platform() -> Platform {
    Platform { os: "debian 12".to_owned(), arch: "x86_64".to_owned(), hostname: "web-1".to_owned() }
}

fn labels() -> Labels {
    [("role", "web"), ("site", "eu")].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn agent() -> AgentId {
    AgentId::new(TIME, 2)
}

fn run_id() -> RunId {
    RunId::new(TIME, 3)
}
