//! Hosts with one identity: a disk that was copied with an enrolled agent on it.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod common;

use common::{NOW, agent_record, welcomed};
use sloth_core::{AgentId, Labels, Millis};
use sloth_protocol::{
    coordinator::{Answer, Ask, CloseReason, Coordinator, Durable, Event, Output, Settings},
    wire::{Copied, Hello, PROTO_MAX, PROTO_MIN, Platform, Poll, RefusalCode},
};

/// Hosts that come with the identity of one agent: a connection and a life each.
struct Hosts {
    machine: Coordinator,
    now: Millis,
    next_conn: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Met {
    Welcome,
    Copy,
    Wait,
}

impl Hosts {
    fn new() -> Self {
        let durable = Durable { agents: [(id(), agent_record())].into(), ..Durable::default() };
        let mut hosts = Self { machine: welcomed(durable, id()), now: NOW, next_conn: 2 };
        hosts.close(1);
        hosts
    }

    fn restored(state: Durable, now: Millis) -> Self {
        let machine = Coordinator::restore(state, Settings::default(), now, 7).expect("no root is damaged");
        Self { machine, now, next_conn: 1 }
    }

    fn tell(&mut self, event: Event) -> Output {
        self.now = self.now + Millis::from_secs(1);
        self.machine.handle(self.now, event)
    }

    fn connect(&mut self) -> u64 {
        let conn = self.next_conn;
        self.next_conn += 1;
        let output = self.tell(Event::Connected { conn, agent: id() });
        assert!(output.closes.is_empty() || self.machine.connected() == 1, "{:?}", output.closes);
        conn
    }

    /// A host connects and says which life of an agent it is.
    fn come(&mut self, life: u64) -> (u64, Met, Output) {
        let conn = self.connect();
        let (met, output) = self.hello(conn, life);
        (conn, met, output)
    }

    fn hello(&mut self, conn: u64, life: u64) -> (Met, Output) {
        let hello = Hello {
            proto_min: PROTO_MIN,
            proto_max: PROTO_MAX,
            features: 0,
            version: String::new(),
            platform: Platform { hostname: format!("host-{life}"), ..Platform::default() },
            labels: Labels::new(),
            instance: life,
        };
        let output = self.tell(Event::Asked { conn, ticket: conn, ask: Ask::Hello(hello) });
        let met = match &output.answers[..] {
            [(_, Answer::Welcome { .. })] => Met::Welcome,
            [(_, Answer::Refused(refusal))] if refusal.code == RefusalCode::Denied => {
                assert!(refusal.reason.contains("sloth-agent enroll --again"), "{refusal}");
                Met::Copy
            }
            [(_, Answer::Refused(refusal))] if refusal.code == RefusalCode::Busy => {
                assert!(Millis::ZERO < refusal.retry_after, "{refusal}");
                Met::Wait
            }
            other => panic!("{other:?}"),
        };
        (met, output)
    }

    fn close(&mut self, conn: u64) {
        let _ = self.tell(Event::Closed { conn });
    }

    fn polls(&mut self, conn: u64) -> bool {
        let poll = Poll { accepted: 0, hold: Millis::ZERO, room: 8, root: 1, head: 0 };
        let output = self.tell(Event::Asked { conn, ticket: 99, ask: Ask::Poll(poll) });
        matches!(&output.answers[..], [(99, Answer::Work(_))])
    }

    fn copied(&self) -> Option<&Copied> {
        self.machine.durable().agents[&id()].copied.as_deref()
    }
}

fn id() -> AgentId {
    AgentId::new(NOW, 1)
}

#[test]
fn restarts_and_lost_connections_of_one_host_are_no_copies() {
    let mut hosts = Hosts::new();
    for life in 1..30 {
        for _ in 0..3 {
            let (conn, met, output) = hosts.come(life);
            assert_eq!(met, Met::Welcome);
            assert!(output.copies.is_empty() && hosts.polls(conn));
            if life % 2 == 0 {
                hosts.close(conn);
            }
        }
    }
    assert_eq!(hosts.copied(), None);
}

#[test]
fn who_comes_back_after_another_is_the_agent_and_the_other_is_turned_away() {
    let mut hosts = Hosts::new();
    let (first, ..) = hosts.come(1);
    let (second, met, output) = hosts.come(2);
    assert_eq!((met, &output.closes[..]), (Met::Welcome, &[(first, CloseReason::Superseded)][..]));
    let (first, met, output) = hosts.come(1);
    assert_eq!((met, &output.closes[..]), (Met::Welcome, &[(second, CloseReason::Superseded)][..]));
    let [note] = &output.copies[..] else { panic!("{:?}", output.copies) };
    assert!(note.first && note.hostname == "host-2" && note.name == agent_record().name, "{note:?}");
    assert_eq!(hosts.copied().map(|copied| copied.hostname.as_str()), Some("host-2"));
    for _ in 0..3 {
        let (second, met, output) = hosts.come(2);
        assert_eq!((met, output.closes.len()), (Met::Copy, 0), "the agent stays");
        assert!(!output.copies[0].first && !hosts.polls(second));
        assert!(hosts.polls(first), "the agent is not disturbed");
        hosts.close(second);
        assert!(hosts.polls(first));
    }
    hosts.close(first);
    let (_, met, _) = hosts.come(2);
    assert_eq!(met, Met::Copy, "also while the agent is away");
}

#[test]
fn all_that_came_while_the_agent_was_there_are_copies() {
    let mut hosts = Hosts::new();
    for life in [1, 2, 3] {
        assert_eq!(hosts.come(life).1, Met::Welcome);
    }
    assert_eq!(hosts.come(1).1, Met::Welcome);
    assert_eq!((hosts.come(2).1, hosts.come(3).1), (Met::Copy, Met::Copy));
}

#[test]
fn an_agent_with_copies_is_restarted_and_is_still_the_agent() {
    let mut hosts = Hosts::new();
    for life in [1, 2, 1] {
        let _ = hosts.come(life);
    }
    // Killed: its connection is there until it times out.
    let old = hosts.next_conn - 1;
    let (conn, met, _) = hosts.come(3);
    assert_eq!(met, Met::Wait);
    hosts.close(conn);
    hosts.close(old);
    let (conn, met, _) = hosts.come(3);
    assert_eq!((met, hosts.polls(conn)), (Met::Welcome, true));
    assert_eq!(hosts.come(2).1, Met::Copy);
}

#[test]
fn a_copy_that_was_restarted_takes_no_place_for_long() {
    let mut hosts = Hosts::new();
    for life in [1, 2, 1] {
        let _ = hosts.come(life);
    }
    let agent = hosts.next_conn - 1;
    assert_eq!(hosts.come(4).1, Met::Wait, "the agent is there");
    hosts.close(agent);
    assert_eq!(hosts.come(4).1, Met::Welcome, "it may be the agent");
    assert_eq!(hosts.come(1).1, Met::Welcome, "it was not");
    assert_eq!(hosts.come(4).1, Met::Copy);
}

#[test]
fn what_is_known_of_a_copy_outlives_the_coordinator() {
    let mut hosts = Hosts::new();
    for life in [1, 2, 1, 2] {
        let _ = hosts.come(life);
    }
    let copied = hosts.copied().cloned().expect("noticed");
    let mut hosts = Hosts::restored(hosts.machine.durable().clone(), hosts.now);
    assert_eq!(hosts.copied(), Some(&copied));
    let (agent, met, _) = hosts.come(1);
    assert_eq!(met, Met::Welcome);
    assert_eq!(hosts.come(2).1, Met::Wait, "it is not pushed out by a copy");
    assert!(hosts.polls(agent));
}

#[test]
fn connections_without_a_hello_do_not_pile_up() {
    let mut hosts = Hosts::new();
    let (agent, ..) = hosts.come(1);
    let mut last = None;
    for _ in 0..5 {
        let conn = hosts.next_conn;
        hosts.next_conn += 1;
        let output = hosts.tell(Event::Connected { conn, agent: id() });
        let closed: Vec<u64> = output.closes.iter().map(|(conn, _)| *conn).collect();
        assert_eq!(closed, last.into_iter().collect::<Vec<u64>>());
        last = Some(conn);
    }
    assert!(hosts.polls(agent), "it is the agent until another one is welcome");
    hosts.close(agent);
    let last = last.expect("one");
    assert_eq!(hosts.hello(last, 1).0, Met::Welcome);
    assert!(hosts.polls(last));
}
