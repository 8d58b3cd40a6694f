//! An agent that is given trust roots after its own.

#![allow(clippy::expect_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "these are tests")]

#[path = "common/agent_config.rs"]
mod agent_config;

use agent_config::agent_config;
use sloth_core::{Digest, Millis, RepositoryId};
use sloth_protocol::{
    agent::{Agent, Ask, Durable, Effect, Event, Note, Output, Ticket, Write},
    wire::{AgentResponse, Welcome, Work},
};
use sloth_trust::{
    Envelope, RoleKeys, Roles, Root, SPEC, Seen,
    sign::{SecretKey, generate, open, public_key, sign},
};

const NOW: Millis = Millis::from_secs(1_700_000_000);

fn key() -> SecretKey {
    open(&generate(None).expect("a key").secret, None).expect("opens")
}

fn role(keys: &[&SecretKey]) -> RoleKeys {
    RoleKeys::new(keys.iter().map(|key| public_key(key).expect("a key")).collect(), 1).expect("a role")
}

/// A root of these keys, `web-*` signed by others than the rest.
fn root(version: u64, holder: &SecretKey, web: &[&SecretKey], signers: &[&SecretKey]) -> Envelope {
    let pattern = |text: &str| text.parse().expect("a pattern");
    let bundles = [(pattern("*"), role(&[holder])), (pattern("web-*"), role(web))].into();
    let roles = Roles { root: role(&[holder]), releases: None, bundles, head: None, assignment: None };
    let root =
        Root { spec: SPEC, repository: RepositoryId::new(NOW, 1), version, issued: NOW, expires: NOW + NOW, roles };
    sign(&root, &root.domain(), signers).expect("signed")
}

fn seen() -> Durable {
    let seen = |counter| Seen { counter, payload: Digest::of(b"payload") };
    let names = [("web-shop", u64::MAX), ("db", 7)];
    let seen = names.map(|(name, counter)| (name.parse().expect("a name"), seen(counter)));
    Durable { seen: seen.into(), ..Durable::default() }
}

/// Connects at a time, and polls: the poll's ticket, and the root that it says the agent has.
fn connect(agent: &mut Agent, now: Millis, link: u64) -> (Ticket, u64) {
    let asked = |output: &Output, wanted: fn(&Ask) -> bool| {
        output.effects.iter().find_map(|effect| match effect {
            Effect::Ask { ticket, ask } if wanted(ask) => Some((*ticket, ask.clone())),
            _ => None,
        })
    };
    let _ = agent.handle(now, Event::Wake);
    let hello = agent.handle(now, Event::Connected { link });
    let (ticket, _) = asked(&hello, |ask| matches!(ask, Ask::Hello(_))).expect("a hello");
    let welcome = Welcome { proto: 1, features: 0, time: now, acked: [0, 0], reconnect_within: Millis::ZERO };
    let polled = agent.handle(now, Event::Answered { ticket, response: AgentResponse::Welcome(welcome) });
    let (ticket, ask) = asked(&polled, |ask| matches!(ask, Ask::Poll(_))).expect("a poll");
    let Ask::Poll(poll) = ask else { panic!("{ask:?}") };
    (ticket, poll.root)
}

/// What the agent makes of an answer to its poll that brings these roots.
fn poll(agent: &mut Agent, roots: &[&Envelope]) -> (Output, u64) {
    let (ticket, root) = connect(agent, NOW, 1);
    let roots = roots.iter().map(|root| root.encode()).collect();
    let work = Work { items: Vec::new(), next_poll: Millis::ZERO, roots, head: None };
    (agent.handle(NOW, Event::Answered { ticket, response: AgentResponse::Work(work) }), root)
}

fn notes(output: &Output) -> Vec<String> {
    let note = |effect: &Effect| match effect {
        Effect::Note(Note::RootAccepted { version }) => Some(format!("accepted {version}")),
        Effect::Note(Note::RootRefused { reason }) => Some(format!("refused: {reason}")),
        _ => None,
    };
    output.effects.iter().filter_map(note).collect()
}

#[test]
fn roots_are_taken_on_one_after_the_other_as_far_as_each_vouches_for_the_next() {
    let (old, new, thief) = (key(), key(), key());
    let first = root(1, &old, &[&old], &[&old]);
    let second = root(2, &new, &[&old], &[&old, &new]);
    let third = root(3, &new, &[&old], &[&new]);
    for (name, given, version, told) in [
        ("in order", vec![&second, &third], 3, vec!["accepted 2", "accepted 3"]),
        ("again", vec![&first, &second, &second], 2, vec!["accepted 2"]),
        ("nothing", vec![], 1, vec![]),
        ("one passed over", vec![&third], 1, vec!["refused: "]),
        ("by its own keys alone", vec![&root(2, &new, &[&old], &[&new])], 1, vec!["refused: "]),
        ("by a thief", vec![&root(2, &thief, &[&thief], &[&thief]), &second], 1, vec!["refused: "]),
        (
            "another second one",
            vec![&second, &root(2, &thief, &[&old], &[&new, &thief])],
            2,
            vec!["accepted 2", "refused: "],
        ),
    ] {
        let mut agent = Agent::restore(agent_config(NOW, &first), Durable::default(), NOW, 1).expect("restored");
        let (output, said) = poll(&mut agent, &given);
        assert_eq!(said, 1, "{name}: it says which root it has");
        assert_eq!(agent.root().version, version, "{name}");
        let notes = notes(&output);
        assert_eq!(notes.len(), told.len(), "{name}: {notes:?}");
        assert!(notes.iter().zip(&told).all(|(note, start)| note.starts_with(start)), "{name}: {notes:?}");
        let again = Agent::restore(agent_config(NOW, &first), agent.durable().clone(), NOW, 1).expect("restored");
        assert_eq!(again.root().version, version, "{name}: after a restart");
    }
}

/// The coordinator answers at once whoever lacks a root: who is given it again and again would never rest.
#[test]
fn a_root_that_was_refused_is_not_asked_for_again_on_the_same_connection() {
    let (old, new) = (key(), key());
    let first = root(1, &old, &[&old], &[&old]);
    let second = root(2, &new, &[&old], &[&old, &new]);
    let stolen = root(3, &old, &[&old], &[&old]);
    for (given, asked_for) in
        [(vec![&second], 2), (vec![&second, &stolen], 3), (vec![&stolen, &second], 3), (vec![], 1)]
    {
        let mut agent = Agent::restore(agent_config(NOW, &first), Durable::default(), NOW, 1).expect("restored");
        let (output, _) = poll(&mut agent, &given);
        let next = output.effects.iter().find_map(|effect| match effect {
            Effect::Ask { ask: Ask::Poll(poll), .. } => Some(poll.root),
            _ => None,
        });
        assert_eq!(next, Some(asked_for));
        let version = agent.root().version;
        let _ = agent.handle(NOW, Event::Disconnected { link: 1, reason: String::new() });
        let (_, again) = connect(&mut agent, NOW + Millis::from_secs(3_600), 2);
        assert_eq!(again, version, "on a new connection it is tried again");
    }
}

#[test]
fn numbers_of_a_thief_are_forgotten_when_nothing_that_he_signed_counts_any_more() {
    let (holder, leaked, successor) = (key(), key(), key());
    let first = root(1, &holder, &[&leaked], &[&holder]);
    let names = |agent: &Agent| agent.durable().seen.keys().map(ToString::to_string).collect::<Vec<_>>();
    for (web, kept) in [
        (vec![&leaked, &successor], vec!["db", "web-shop"]),
        (vec![&successor], vec!["db"]),
        (vec![&leaked], vec!["db", "web-shop"]),
    ] {
        let mut agent = Agent::restore(agent_config(NOW, &first), seen(), NOW, 1).expect("restored");
        let (output, _) = poll(&mut agent, &[&root(2, &holder, &web, &[&holder])]);
        assert_eq!(names(&agent), kept);
        let forgotten = output.writes.iter().any(|write| matches!(write, Write::ForgetSeen(_)));
        assert_eq!(forgotten, kept.len() == 1);
    }
}
