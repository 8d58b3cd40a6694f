//! An agent whose clock is wrong, jumps, or is right beside a coordinator's that is not: nothing spins, what runs goes on,
//! and certificates are renewed when the coordinator's clock says so.

#![allow(clippy::expect_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "these are tests")]

#[path = "common/agent_config.rs"]
mod agent_config;

use agent_config::agent_config;
use std::collections::BTreeMap;

use sloth_core::{Digest, Millis, RepositoryId, RunId};
use sloth_protocol::{
    agent::{Agent, Ask, Basis, Config, Durable, Effect, Event, Job, Output, RENEW_RETRY, Stage, Ticket},
    wire::{AgentResponse, Welcome, Work},
};
use sloth_trust::{
    Envelope, RoleKeys, Roles, Root, SPEC,
    sign::{generate, open, public_key, sign},
};

const NOW: Millis = Millis::from_secs(1_700_000_000);
const DAY: Millis = Millis::from_secs(86_400);
const YEAR: Millis = Millis::from_secs(365 * 86_400);
/// A clock that nobody set.
const EPOCH: Millis = Millis::from_secs(5);
const IN_2040: Millis = Millis::from_secs(2_208_988_800);

fn root() -> Envelope {
    let key = open(&generate(None).expect("a key").secret, None).expect("opens");
    let role = RoleKeys::new(vec![public_key(&key).expect("a key")], 1).expect("a role");
    let roles = Roles { root: role, releases: None, bundles: BTreeMap::new(), head: None, assignment: None };
    let repository = RepositoryId::new(NOW, 1);
    let root = Root { spec: SPEC, repository, version: 1, issued: NOW, expires: NOW + YEAR, roles };
    sign(&root, &root.domain(), &[&key]).expect("signed")
}

/// An agent with a certificate of a day from [`NOW`] and a run that it has accepted, which ends an hour later.
fn agent(now: Millis) -> Agent {
    let root = root();
    let config = Config { outbox_bytes_max: [20_000, 10_000], ..agent_config(NOW, &root) };
    let job = Job {
        run: run(),
        bundle: "web".parse().expect("a name"),
        version: "1".to_owned(),
        manifest: Digest::of(b"manifest"),
        manifest_bytes: 8,
        capabilities: Vec::new(),
        workflow: None,
        values: "{}".to_owned(),
        basis: Basis { order: 1, counter: 1, root: 1, head: 0 },
        begun: None,
        deadline: NOW + Millis::from_secs(3600),
        cancelled: false,
        stage: Stage::Accepted,
    };
    let state = Durable { jobs: [(run(), job)].into(), ..Durable::default() };
    Agent::restore(config, state, now, 1).expect("restored")
}

fn run() -> RunId {
    RunId::new(NOW, 1)
}

fn asked(output: &Output, wanted: fn(&Ask) -> bool) -> Option<Ticket> {
    output.effects.iter().find_map(|effect| match effect {
        Effect::Ask { ticket, ask } if wanted(ask) => Some(*ticket),
        _ => None,
    })
}

fn polls(output: &Output) -> Option<Ticket> {
    asked(output, |ask| matches!(ask, Ask::Poll(_)))
}

fn renews(output: &Output) -> Option<Ticket> {
    asked(output, |ask| matches!(ask, Ask::Renew))
}

/// Connects, and is welcomed by a coordinator whose clock says `time`.
fn welcomed(agent: &mut Agent, now: Millis, link: u64, time: Millis) -> Output {
    let _ = agent.handle(now, Event::Wake);
    let hello = agent.handle(now, Event::Connected { link });
    let ticket = asked(&hello, |ask| matches!(ask, Ask::Hello(_))).expect("a hello");
    let welcome = Welcome { proto: 1, features: 0, time, acked: [0, 0], reconnect_within: Millis::ZERO };
    agent.handle(now, Event::Answered { ticket, response: AgentResponse::Welcome(welcome) })
}

#[test]
fn a_clock_that_jumps_to_and_fro_changes_nothing_for_what_runs() {
    let mut agent = agent(NOW);
    let output = welcomed(&mut agent, NOW, 1, NOW);
    let mut ticket = polls(&output).expect("a poll");
    for (minute, wall) in [(1, IN_2040), (2, NOW), (3, EPOCH), (4, NOW - YEAR), (5, IN_2040), (6, NOW)] {
        let now = NOW + Millis::from_secs(60 * minute);
        agent.hear_clock(now, wall);
        let output = agent.handle(now, Event::Wake);
        assert!(renews(&output).is_none(), "at {wall} the certificate is as good as before: {output:?}");
        assert!(agent.durable().jobs.contains_key(&run()), "at {wall} the run goes on");
        assert!(output.wake_at.is_some_and(|at| now < at && at <= now + DAY), "at {wall}: {:?}", output.wake_at);
        let work = Work { items: Vec::new(), next_poll: Millis::from_secs(60), roots: Vec::new(), head: None };
        let output = agent.handle(now, Event::Answered { ticket, response: AgentResponse::Work(work) });
        let at = output.wake_at.expect("a next poll");
        assert!(now < at && at <= now + Millis::from_secs(60), "at {wall}: {at}");
        let output = agent.handle(now + Millis::from_secs(60), Event::Wake);
        ticket = polls(&output).expect("a poll, a minute later");
    }
    // The deadline is the coordinator's, and comes by its clock.
    let end = NOW + Millis::from_secs(3600);
    agent.hear_clock(end, NOW - YEAR);
    let _ = agent.handle(end, Event::Wake);
    assert!(!agent.durable().jobs.contains_key(&run()));
}

#[test]
fn a_certificate_is_renewed_when_the_coordinators_clock_says_so() {
    for (name, host, coordinator, due) in [
        ("both are right", NOW, NOW, false),
        ("the host has no clock", EPOCH, NOW, false),
        ("the host is in 2040", IN_2040, NOW, false),
        ("the host has no clock, and slept too long", EPOCH, NOW + DAY + DAY, true),
        ("both are right, and the host slept too long", NOW + DAY + DAY, NOW + DAY + DAY, true),
        ("the coordinator is in 2040", NOW, IN_2040, true),
        ("the coordinator was in the future when it made the certificate", NOW, NOW - YEAR, true),
    ] {
        let mut agent = agent(host);
        let output = welcomed(&mut agent, host, 1, coordinator);
        assert_eq!((renews(&output).is_some(), polls(&output).is_some()), (due, !due), "{name}");
        let Some(ticket) = renews(&output) else { continue };
        let (from, until) = (coordinator - Millis::from_secs(300), coordinator + DAY);
        let output = agent.handle(host, Event::Renewed { ticket, from, until });
        assert!(polls(&output).is_some(), "{name}: what was renewed counts");
    }
}

#[test]
fn certificates_that_never_count_are_asked_for_once_a_minute() {
    for (from, until) in
        [(IN_2040, IN_2040 + DAY), (Millis::ZERO, Millis::ZERO), (NOW, NOW), (Millis::MAX, Millis::MAX)]
    {
        let mut agent = agent(NOW);
        let late = NOW + DAY;
        let mut output = welcomed(&mut agent, NOW, 1, late);
        let (mut now, mut renewals) = (NOW, 0);
        while now < NOW + Millis::from_secs(600) {
            if let Some(ticket) = renews(&output) {
                renewals += 1;
                output = agent.handle(now, Event::Renewed { ticket, from, until });
                assert!(renews(&output).is_none(), "it is asked for again at once");
                continue;
            }
            let at = output.wake_at.expect("it is tried again");
            assert!(now < at, "it spins at {now}");
            now = at;
            output = agent.handle(now, Event::Wake);
        }
        assert!((2..=600_000 / RENEW_RETRY.as_u64() + 1).contains(&renewals), "{renewals} renewals in ten minutes");
    }
}
