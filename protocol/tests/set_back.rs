//! A coordinator whose store was set back, as by restoring a backup.

#![allow(clippy::expect_used, reason = "helpers of tests may fail the test")]

mod common;

use common::{NOW, agent_record, welcomed};
use sloth_core::{AgentId, Millis, RunId};
use sloth_protocol::{
    coordinator::{Answer, Ask, Coordinator, Durable, Event, Item, Job, Write},
    wire::{JobState, Poll},
};

fn durable(agent: AgentId, run: RunId) -> Durable {
    Durable {
        agents: [(agent, agent_record())].into(),
        work: [(agent, [(1, Item::Run(run))].into())].into(),
        runs: [(run, common::run())].into(),
        jobs: [(run, [(agent, Job { state: JobState::Pending, generation: 1 })].into())].into(),
        ..Durable::default()
    }
}

fn poll(machine: &mut Coordinator, accepted: u64) -> (Vec<Write>, Vec<Answer>) {
    let poll = Poll { accepted, hold: Millis::ZERO, room: 8, root: 1, head: 0 };
    let output = machine.handle(NOW, Event::Asked { conn: 1, ticket: accepted, ask: Ask::Poll(poll) });
    (output.writes, output.answers.into_iter().map(|(_, answer)| answer).collect())
}

#[test]
fn what_waits_is_not_given_twice_and_new_orders_go_above_what_the_agent_has() {
    let (agent, run) = (AgentId::new(NOW, 1), RunId::new(NOW, 2));
    let mut machine = welcomed(durable(agent, run), agent);
    let (writes, answers) = poll(&mut machine, 9);
    assert!(matches!(&answers[..], [Answer::Work(orders)] if orders.items.is_empty()), "{answers:?}");
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
    let mut machine = welcomed(durable(agent, run), agent);
    let (writes, answers) = poll(&mut machine, u64::MAX);
    assert!(matches!(&answers[..], [Answer::Refused(_)]), "{answers:?}");
    assert!(writes.is_empty(), "{writes:?}");
}
