//! Machines among liars: whatever comes, in whatever order, they go on, and a wait they are told has an end.

#![allow(clippy::expect_used, reason = "helpers of tests may fail the test")]

#[path = "common/agent_config.rs"]
mod agent_config;

use agent_config::agent_config;
use std::collections::BTreeMap;

use proptest::prelude::*;
use sloth_core::{AgentId, Digest, Labels, Millis, RepositoryId, RunId, Secret, TokenId};
use sloth_protocol::{
    agent::{self, Agent, Config, DENIED_RETRY, Effect, Pacing, TOLD_WAIT_MAX},
    coordinator::{self, AgentRecord, Coordinator},
    random::Random,
    wire::{
        Acked, AgentResponse, BlobHead, CreateToken, Dropped, Hello, Lane, LogStream, OnInterrupt, Order, PROTO_MAX,
        Platform, Poll, Record, RecordBody, Refusal, RefusalCode, Renew, Report, RunEnd, RunOrder, RunOutcome,
        StartRun, TaskEnd, TaskName, TaskStatus, Welcome, Work, WorkItem,
    },
};
use sloth_trust::{
    Envelope, MachineKey, RoleKeys, Roles, Root, SPEC,
    sign::{generate, open, public_key, sign},
};

const NOW: Millis = Millis::from_secs(1_700_000_000);
/// Events of one case.
const EVENTS: u64 = 200;
/// Time between two of them, at most.
const STEP_MS: u64 = 100_000;

struct Fixture {
    root: Envelope,
}

fn fixture() -> &'static Fixture {
    static FIXTURE: std::sync::OnceLock<Fixture> = std::sync::OnceLock::new();
    FIXTURE.get_or_init(|| {
        let key = open(&generate(None).expect("a key").secret, None).expect("opens");
        let role = RoleKeys::new(vec![public_key(&key).expect("a key")], 1).expect("a role");
        let roles = Roles { root: role, releases: None, bundles: BTreeMap::new(), head: None, assignment: None };
        let root = Root {
            spec: SPEC,
            repository: RepositoryId::new(NOW, 1),
            version: 1,
            issued: NOW,
            expires: NOW + NOW,
            roles,
        };
        let envelope = sign(&root, &root.domain(), &[&key]).expect("signed");
        Fixture { root: envelope }
    })
}

fn id() -> AgentId {
    AgentId::new(NOW, 1)
}

fn agent(pacing: Pacing, seed: u64) -> Agent {
    let config = Config { pacing, ..agent_config(NOW, &fixture().root) };
    Agent::restore(config, agent::Durable::default(), NOW, seed).expect("a root that fits its pin")
}

/// A number such as a liar would choose.
fn number(random: &mut Random) -> u64 {
    match random.below(6) {
        0 => 0,
        1 => u64::MAX,
        2 => u64::MAX - random.below(4),
        3 => random.next_u64(),
        _ => random.below(5),
    }
}

fn millis(random: &mut Random) -> Millis {
    Millis::from_u64(number(random))
}

fn roots(random: &mut Random) -> Vec<Vec<u8>> {
    match random.below(8) {
        0 => vec![fixture().root.encode()],
        1 => vec![vec![1, 2, 3]],
        _ => Vec::new(),
    }
}

fn run_id(random: &mut Random) -> RunId {
    RunId::new(NOW, u128::from(random.below(3)))
}

fn lane(random: &mut Random) -> Lane {
    if random.below(2) == 0 { Lane::Results } else { Lane::Logs }
}

fn task(random: &mut Random) -> TaskName {
    TaskName { workflow: "w".to_owned(), task: format!("t{}", random.below(3)) }
}

fn task_end(random: &mut Random) -> TaskEnd {
    TaskEnd {
        task: task(random),
        status: TaskStatus::Succeeded,
        attempts: 1,
        message: "m".repeat(usize::try_from(random.below(3000)).unwrap_or(0)),
        outputs: "{}".to_owned(),
        started: millis(random),
        ended: millis(random),
    }
}

fn run_end() -> RunEnd {
    RunEnd { outcome: RunOutcome::Failed, message: String::new(), outputs: "{}".to_owned() }
}

fn body(random: &mut Random) -> RecordBody {
    match random.below(6) {
        0 => RecordBody::RunStarted,
        1 => RecordBody::TaskStarted { task: task(random), attempt: 1 },
        2 => RecordBody::TaskEnded(task_end(random)),
        3 => RecordBody::RunEnded(run_end()),
        4 => RecordBody::Receipt { payload: vec![7; 40], signature: "untrusted".to_owned() },
        _ => RecordBody::Log { task: None, stream: LogStream::Info, text: "text".to_owned() },
    }
}

fn response(random: &mut Random) -> AgentResponse {
    let order = |random: &mut Random| match random.below(2) {
        0 => Order::Cancel { run: run_id(random) },
        _ => Order::Run(RunOrder {
            run: run_id(random),
            assignment: vec![1; 9],
            metadata: fixture().root.encode(),
            index: random.below(9),
            path: Vec::new(),
        }),
    };
    let code = [RefusalCode::Busy, RefusalCode::Denied, RefusalCode::Internal, RefusalCode::Version];
    match random.below(8) {
        0 | 1 => AgentResponse::Welcome(Welcome {
            proto: u16::try_from(random.below(3)).unwrap_or(0),
            features: random.next_u64(),
            time: millis(random),
            acked: [number(random), number(random)],
            reconnect_within: millis(random),
        }),
        2 | 3 => {
            let items =
                (0..random.below(3)).map(|_| WorkItem { generation: number(random), order: order(random) }).collect();
            AgentResponse::Work(Work {
                items,
                next_poll: millis(random),
                roots: roots(random),
                head: roots(random).pop(),
            })
        }
        4 | 5 => AgentResponse::Acked(Acked { lane: lane(random), through: number(random) }),
        6 => AgentResponse::Blob(BlobHead { length: number(random) }),
        _ => {
            let code = code[usize::try_from(random.below(4)).unwrap_or(0)];
            AgentResponse::Refused(Refusal { code, reason: "no".to_owned(), retry_after: millis(random) })
        }
    }
}

/// Something that happens to an agent, likely about what it last asked.
fn agent_event(last: (u64, u64), random: &mut Random) -> agent::Event {
    use agent::Event;

    let (link, ticket) = last;
    let ticket = ticket - random.below(2).min(ticket);
    let run = run_id(random);
    match random.below(16) {
        0 => Event::Wake,
        1 | 2 => Event::Connected { link },
        3 if random.below(4) == 0 => Event::Revoked { link: link + random.below(2) },
        3 => Event::Disconnected { link: link + random.below(2), reason: "reset".to_owned() },
        4..=10 => Event::Answered { ticket, response: response(random) },
        11 => Event::Renewed { ticket, from: millis(random), until: millis(random) },
        12 => Event::TaskStarting {
            run,
            task: task(random),
            attempt: u32::try_from(random.below(9)).unwrap_or(0),
            on_interrupt: OnInterrupt::Retry,
        },
        13 => Event::TaskEnded { run, end: task_end(random) },
        14 => Event::RunEnded { run, end: run_end() },
        _ => Event::Fetched { run, result: Ok(()) },
    }
}

fn ask(random: &mut Random) -> coordinator::Ask {
    let hello = Hello {
        proto_min: 1,
        proto_max: u16::try_from(random.below(3)).unwrap_or(0),
        features: 0,
        version: "v".repeat(usize::try_from(random.below(300)).unwrap_or(0)),
        platform: Platform { hostname: "é".repeat(200), ..Platform::default() },
        labels: [("role".to_owned(), "we b".repeat(usize::try_from(random.below(2)).unwrap_or(0)))].into(),
        instance: random.below(4),
    };
    match random.below(6) {
        0 | 1 => coordinator::Ask::Hello(Hello { labels: Labels::new(), ..hello }),
        2 => coordinator::Ask::Hello(hello),
        3 => coordinator::Ask::Poll(Poll {
            accepted: number(random),
            hold: millis(random),
            room: u32::MAX,
            root: number(random),
            head: number(random),
        }),
        4 => coordinator::Ask::Renew(Renew { csr: Vec::new() }),
        _ => {
            let records = (0..random.below(4))
                .map(|_| Record { seq: number(random), at: millis(random), run: run_id(random), body: body(random) })
                .collect();
            let dropped = Dropped { logs: number(random), ..Dropped::default() };
            let report = Report { lane: lane(random), dropped, records };
            let key = receipt_key();
            let key = Some(key.public()).filter(|_| random.below(2) == 0);
            coordinator::Ask::Report(coordinator::CheckedReport::new(report, id(), key))
        }
    }
}

fn command(random: &mut Random) -> coordinator::Command {
    use coordinator::Command;

    match random.below(6) {
        0 => Command::PutRoot(fixture().root.encode()),
        1 => Command::CreateToken {
            create: CreateToken { uses: 1, ttl: millis(random), labels: Labels::new() },
            id: TokenId::new(NOW, u128::from(random.below(3))),
            secret: Digest::of(b"secret"),
        },
        2 => Command::StartRun(StartRun {
            run: run_id(random),
            bundle: "shop".to_owned(),
            version: None,
            workflow: None,
            selector: "*".to_owned(),
            values: "[]".to_owned(),
            ttl: millis(random),
        }),
        3 => Command::CancelRun(run_id(random)),
        4 => Command::Publish {
            metadata: fixture().root.encode(),
            manifest: coordinator::ManifestFacts { size: 0, workflows: std::collections::BTreeSet::new() },
        },
        _ => Command::Agents { selector: "role=".to_owned(), after: None },
    }
}

fn receipt_key() -> MachineKey {
    MachineKey::from_seed(&Secret::new([7; 32]), [0; 8]).expect("a key")
}

fn coordinator(seed: u64) -> Coordinator {
    let record = AgentRecord {
        name: "web-1".to_owned(),
        host_labels: Labels::new(),
        enrolled_labels: Labels::new(),
        version: "0.1.0".to_owned(),
        platform: Platform::default(),
        key: Digest::of(b"key"),
        receipt_key: receipt_key().public().clone(),
        enrolled: NOW,
        last_seen: NOW,
        revoked: false,
        next_generation: 1,
        proto: PROTO_MAX,
        update: None,
        copied: None,
    };
    let state = coordinator::Durable { agents: [(id(), record)].into(), ..Default::default() };
    Coordinator::restore(state, coordinator::Settings::default(), NOW, seed).expect("no root yet")
}

proptest! {
    #[test]
    fn an_agent_goes_on_whatever_it_is_told(seed in any::<u64>()) {
        let random = &mut Random::new(seed);
        let pacing = [Pacing::Hold(Millis::from_secs(60)), Pacing::Interval(Millis::from_secs(60))];
        let mut agent = agent(pacing[usize::try_from(seed % 2).expect("small")], seed);
        let (mut now, mut last) = (NOW, (0, 0));
        for _ in 0..EVENTS {
            now = now + Millis::from_u64(random.below(STEP_MS));
            let output = agent.handle(now, agent_event(last, random));
            for effect in output.effects {
                if let Effect::Connect { link } = effect {
                    last.0 = link;
                }
                last.1 = ticket_of(&effect).unwrap_or(last.1);
            }
            // The longest wait that it can be told, and the jitter on it.
            let longest = now + TOLD_WAIT_MAX + TOLD_WAIT_MAX + DENIED_RETRY;
            prop_assert!(output.wake_at.is_none_or(|at| at <= longest), "{:?} at {now:?}", output.wake_at);
        }
        let restored = agent.durable().clone();
        prop_assert!(restored.lanes[0].bytes <= 2000 && restored.lanes[1].bytes <= 1000);
    }

    #[test]
    fn a_coordinator_goes_on_whatever_it_is_asked(seed in any::<u64>()) {
        let random = &mut Random::new(seed);
        let mut coordinator = coordinator(seed);
        let mut now = NOW;
        for ticket in 0..EVENTS {
            now = now + Millis::from_u64(random.below(STEP_MS));
            let conn = random.below(3);
            let event = match random.below(8) {
                0 => coordinator::Event::Wake,
                1 => coordinator::Event::Connected { conn, agent: id() },
                2 => coordinator::Event::Closed { conn },
                3 => coordinator::Event::Command { ticket, operator: "ops".to_owned(), command: command(random) },
                _ => coordinator::Event::Asked { conn, ticket, ask: ask(random) },
            };
            let output = coordinator.handle(now, event);
            prop_assert!(output.wake_at.is_none_or(|at| now < at), "{:?} at {now:?}", output.wake_at);
        }
        let record = &coordinator.durable().agents[&id()];
        prop_assert!(record.version.len() <= 128 && record.platform.hostname.len() <= 128);
    }
}

fn ticket_of(effect: &Effect) -> Option<u64> {
    if let Effect::Ask { ticket, .. } = effect { Some(*ticket) } else { None }
}

/// The agent's machine, welcomed on its second connection; and what it asked on the first.
fn reconnected() -> (Agent, u64) {
    let mut agent = agent(Pacing::Hold(Millis::from_secs(60)), 1);
    let mut hello = |event| agent.handle(NOW, event).effects.iter().find_map(ticket_of);
    hello(agent::Event::Wake);
    let first = hello(agent::Event::Connected { link: 1 }).expect("a hello");
    hello(agent::Event::Disconnected { link: 1, reason: "reset".to_owned() });
    let later = NOW + Millis::from_secs(5);
    agent.handle(later, agent::Event::Wake);
    let output = agent.handle(later, agent::Event::Connected { link: 2 });
    let ticket = output.effects.iter().find_map(ticket_of).expect("a hello");
    let welcome = Welcome { proto: 1, features: 0, time: NOW, acked: [0, 0], reconnect_within: Millis::ZERO };
    agent.handle(later, agent::Event::Answered { ticket, response: AgentResponse::Welcome(welcome) });
    (agent, first)
}

#[test]
fn what_an_earlier_connection_was_refused_is_of_no_account() {
    let (mut agent, first) = reconnected();
    assert!(agent.is_connected());
    let response = AgentResponse::Refused(Refusal::new(RefusalCode::Denied, "this connection was replaced"));
    let output = agent.handle(NOW, agent::Event::Answered { ticket: first, response });
    assert!(agent.is_connected() && output.effects.is_empty(), "{output:?}");
}
