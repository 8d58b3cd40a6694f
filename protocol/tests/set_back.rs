//! A coordinator whose store was set back, as by restoring a backup.

#![allow(clippy::expect_used, reason = "helpers of tests may fail the test")]

use sloth_core::{AgentId, Digest, Labels, Millis, RunId};
use sloth_protocol::{
    coordinator::{AgentRecord, Answer, Ask, Coordinator, Durable, Event, Item, Job, Run, Write},
    wire::{AgentResponse, Hello, JobState, PROTO_MAX, PROTO_MIN, Platform, Poll},
};

const NOW: Millis = Millis::from_secs(1_700_000_000);

fn durable(agent: AgentId, run: RunId) -> Durable {
    let record = AgentRecord {
        name: "web-1".to_owned(),
        host_labels: Labels::new(),
        enrolled_labels: Labels::new(),
        version: String::new(),
        platform: Platform::default(),
        key: Digest::of(b"key"),
        enrolled: NOW,
        last_seen: NOW,
        revoked: false,
        next_generation: 2,
    };
    let told = Run {
        bundle: "web".parse().expect("a name"),
        version: "1".to_owned(),
        counter: 1,
        workflow: None,
        selector: "*".to_owned(),
        values: "{}".to_owned(),
        operator: "admin".to_owned(),
        created: NOW,
        deadline: NOW + Millis::from_secs(3600),
        cancelled: false,
        ended: None,
    };
    Durable {
        agents: [(agent, record)].into(),
        work: [(agent, [(1, Item::Run(run))].into())].into(),
        runs: [(run, told)].into(),
        jobs: [(run, [(agent, Job { state: JobState::Pending, generation: 1 })].into())].into(),
        ..Durable::default()
    }
}

fn welcomed(agent: AgentId, run: RunId) -> Coordinator {
    let mut machine = Coordinator::restore(durable(agent, run), NOW, 1).expect("restored");
    let _ = machine.handle(NOW, Event::Connected { conn: 1, agent });
    let hello = Hello {
        proto_min: PROTO_MIN,
        proto_max: PROTO_MAX,
        features: 0,
        version: String::new(),
        platform: Platform::default(),
        labels: Labels::new(),
    };
    let _ = machine.handle(NOW, Event::Asked { conn: 1, ticket: 0, ask: Ask::Hello(hello) });
    machine
}

fn poll(machine: &mut Coordinator, accepted: u64) -> (Vec<Write>, Vec<Answer>) {
    let poll = Poll { accepted, hold: Millis::ZERO, room: 8 };
    let output = machine.handle(NOW, Event::Asked { conn: 1, ticket: accepted, ask: Ask::Poll(poll) });
    (output.writes, output.answers.into_iter().map(|(_, answer)| answer).collect())
}

#[test]
fn what_waits_is_not_given_twice_and_new_orders_go_above_what_the_agent_has() {
    let (agent, run) = (AgentId::new(NOW, 1), RunId::new(NOW, 2));
    let mut machine = welcomed(agent, run);
    let (writes, answers) = poll(&mut machine, 9);
    assert!(matches!(&answers[..], [Answer::Agent(AgentResponse::Work(work))] if work.items.is_empty()), "{answers:?}");
    assert_eq!(machine.durable().agents[&agent].next_generation, 10);
    let ended = writes.iter().find_map(|write| {
        if let Write::PutJob(_, _, update) = write {
            Some((update.job.state, update.end.message.clone()))
        } else {
            None
        }
    });
    let (state, message) = ended.expect("the job ended");
    assert_eq!(state, JobState::Failed);
    assert!(message.contains("set back"), "{message}");
    assert!(machine.durable().runs.is_empty() && machine.durable().work.is_empty());
    let (writes, _) = poll(&mut machine, 9);
    assert!(writes.is_empty(), "{writes:?}");
}

#[test]
fn a_generation_that_nobody_gave_is_refused() {
    let (agent, run) = (AgentId::new(NOW, 1), RunId::new(NOW, 2));
    let mut machine = welcomed(agent, run);
    let (writes, answers) = poll(&mut machine, u64::MAX);
    assert!(matches!(&answers[..], [Answer::Refused(_)]), "{answers:?}");
    assert!(writes.is_empty(), "{writes:?}");
}
