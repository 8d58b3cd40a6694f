//! An agent that holds as many runs as it may.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod common;

use common::{NOW, agent_record, welcomed};
use sloth_core::{AgentId, Millis, RunId};
use sloth_protocol::{
    coordinator::{Answer, Ask, Command, Durable, Event, Instruction, Item, Job},
    wire::{JobState, Poll},
};

#[test]
fn a_cancel_passes_the_runs_that_wait_for_room() {
    let agent = AgentId::new(NOW, 1);
    let (held, waiting) = (RunId::new(NOW, 2), RunId::new(NOW, 3));
    let job = |generation| [(agent, Job { state: JobState::Pending, generation })].into();
    // It was told of the first order; the second waits.
    let state = Durable {
        agents: [(agent, agent_record())].into(),
        work: [(agent, [(1, Item::Run(held)), (2, Item::Run(waiting))].into())].into(),
        runs: [(held, common::run()), (waiting, common::run())].into(),
        jobs: [(held, job(1)), (waiting, job(2))].into(),
        ..Durable::default()
    };
    let mut machine = welcomed(state, agent);
    let poll = Poll { accepted: 1, hold: Millis::from_secs(60), room: 0, root: 1, head: 0 };
    let output = machine.handle(NOW, Event::Asked { conn: 1, ticket: 1, ask: Ask::Poll(poll) });
    assert!(output.answers.is_empty(), "{:?}", output.answers);
    let command = Command::CancelRun(held);
    let output = machine.handle(NOW, Event::Command { ticket: 2, operator: "admin".into(), command });
    let told = output.answers.iter().find(|(ticket, _)| *ticket == 1);
    let Some((_, Answer::Work(orders))) = told else { panic!("the held poll is answered: {told:?}") };
    let [(_, order)] = &orders.items[..] else { panic!("one order: {orders:?}") };
    assert_eq!(*order, Instruction::Cancel { run: held });
    let generations: Vec<_> = machine.durable().work[&agent].iter().map(|(at, item)| (*at, *item)).collect();
    assert_eq!(generations, [(2, Item::Cancel(held)), (3, Item::Run(waiting))]);
    assert_eq!(machine.durable().jobs[&waiting][&agent].generation, 3);
}
