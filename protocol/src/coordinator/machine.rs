//! The machine itself: one entry for events, one way to change what is durable, and its timers.

use std::collections::{BTreeMap, BTreeSet};

use sloth_core::{AgentId, Millis, RolloutId, RunId, TokenId};
use sloth_trust::{BundleName, Envelope, Root, RootPin, Tree, Trusted};

use super::{
    Answer, Ask, CloseReason, Command, ConnId, Durable, EXPIRY_GRACE, Event, Output, Reply, Settings, Ticket, Write,
    copies::Lives, rollouts::Rollouts,
};
use crate::{
    random::Random,
    wire::{Refusal, RefusalCode},
};

/// A coordinator's machine.
#[derive(Debug)]
pub struct Coordinator {
    /// Invariant: what the disk holds once the writes handed out so far are committed.
    pub(super) state: Durable,
    pub(super) settings: Settings,
    pub(super) trusted: Option<Trusted>,
    /// What the newest head's tree is over, in its order.
    pub(super) leaves: Vec<Leaf>,
    pub(super) tree: Tree,
    /// When the next head is issued if nothing changes before.
    pub(super) head_due: Millis,
    pub(super) random: Random,
    pub(super) now: Millis,
    /// Agents that are connected.
    pub(super) present: BTreeMap<AgentId, Presence>,
    pub(super) connections: BTreeMap<ConnId, AgentId>,
    /// The agents that are not revoked, by name.
    pub(super) names: BTreeMap<String, AgentId>,
    /// The highest generation that may be on its way to an agent or there already.
    pub(super) told: BTreeMap<AgentId, u64>,
    /// The versions of the trust root and of the head that each agent had at its last poll since the start.
    pub(super) knows: BTreeMap<AgentId, (u64, u64)>,
    /// The lives of each agent since the start, by which a copied host is told from the one that it is a copy of.
    pub(super) lives: BTreeMap<AgentId, Lives>,
    /// Bytes of logs that each run brought since the start.
    pub(super) log_bytes: BTreeMap<RunId, usize>,
    /// Bytes of results that each agent brought to each run since the start.
    pub(super) result_bytes: BTreeMap<RunId, BTreeMap<AgentId, usize>>,
    pub(super) rollouts: Rollouts,
    timers: BTreeSet<(Millis, Timer)>,
    pub(super) out: Output,
}

/// A release, and what the head's tree holds of it.
pub(super) type Leaf = (LeafKey, Vec<u8>);

/// Names a release, in the order of the head's tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LeafKey {
    /// That of a bundle, by name and counter.
    Bundle(BundleName, u64),
    /// That of the agent, by counter.
    Agent(u64),
}

/// An agent's connection.
#[derive(Debug, Clone)]
pub(super) struct Presence {
    pub(super) conn: ConnId,
    pub(super) welcome: bool,
    /// A later connection with the same identity: it takes the place of this one when its hello is welcome.
    pub(super) arriving: Option<ConnId>,
    /// A poll that waits for work.
    pub(super) held: Option<Held>,
}

impl Presence {
    const fn new(conn: ConnId) -> Self {
        Self { conn, welcome: false, arriving: None, held: None }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) ticket: Ticket,
    pub(super) until: Millis,
    pub(super) room: usize,
    /// The version of the trust root that the agent has.
    pub(super) root: u64,
    /// The version of the head that it has.
    pub(super) head: u64,
}

/// What may be due. A timer that is no longer true when it fires changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Hold(AgentId),
    Deadline(RunId),
    Token(TokenId),
    Rollout(RolloutId),
    Head,
}

impl Coordinator {
    /// The machine that goes on from what is on the disk. `seed` determines its random choices.
    ///
    /// Send [`Event::Wake`] next.
    ///
    /// # Errors
    ///
    /// When the trust root on the disk cannot be read: the store was damaged.
    pub fn restore(state: Durable, settings: Settings, now: Millis, seed: u64) -> Result<Self, Refusal> {
        let trusted = state.root().map(read_root).transpose()?;
        let names = state.agents.iter().filter(|(_, agent)| !agent.revoked);
        let names = names.map(|(id, agent)| (agent.name.clone(), *id)).collect();
        // Before a crash, everything that waited may have been on its way.
        let told = state.agents.iter().map(|(id, agent)| (*id, agent.next_generation.saturating_sub(1))).collect();
        let deadlines = state.runs.iter().map(|(id, run)| (run.deadline + EXPIRY_GRACE, Timer::Deadline(*id)));
        let expiries = state.tokens.iter().map(|(id, token)| (token.expires, Timer::Token(*id)));
        // The first thing that it says is what is the newest now: agents may have heard of later heads than are here.
        let timers = deadlines.chain(expiries).chain([(now, Timer::Head)]).collect();
        let rollouts = Rollouts::restore(&state, now)?;
        let mut machine = Self {
            settings,
            trusted,
            leaves: Vec::new(),
            tree: Tree::new::<[u8; 0]>([]),
            head_due: now,
            random: Random::new(seed),
            now,
            present: BTreeMap::new(),
            connections: BTreeMap::new(),
            names,
            told,
            knows: BTreeMap::new(),
            lives: BTreeMap::new(),
            log_bytes: BTreeMap::new(),
            result_bytes: BTreeMap::new(),
            timers,
            rollouts,
            out: Output::default(),
            state,
        };
        machine.stir_all();
        Ok(machine)
    }

    /// Takes in what happened at `now`, which must not lie before the last event's.
    pub fn handle(&mut self, now: Millis, event: Event) -> Output {
        self.now = self.now.max(now);
        self.take(event);
        self.fire_timers();
        self.out.wake_at = self.timers.first().map(|(at, _)| *at);
        std::mem::take(&mut self.out)
    }

    /// What the disk holds once every write handed out is committed.
    #[must_use]
    pub const fn durable(&self) -> &Durable {
        &self.state
    }

    /// The trust root that counts.
    #[must_use]
    pub fn root(&self) -> Option<&Root> {
        self.trusted.as_ref().map(Trusted::root)
    }

    /// How many agents are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.present.len()
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Wake => {}
            Event::Connected { conn, agent } => self.connect(conn, agent),
            Event::Closed { conn } => self.closed(conn),
            Event::Asked { conn, ticket, ask } => self.asked(conn, ticket, ask),
            Event::Enroll { ticket, enroll } => {
                let answer = self.enroll(&enroll).unwrap_or_else(Answer::Refused);
                self.answer(ticket, answer);
            }
            Event::Command { ticket, operator, command } => {
                let answer = self.command(&operator, command).map_or_else(Answer::Refused, Answer::Operator);
                self.answer(ticket, answer);
            }
        }
    }

    fn command(&mut self, operator: &str, command: Command) -> Result<Reply, Refusal> {
        self.check_operator(operator)?;
        match command {
            Command::Root => Ok(Reply::Root(self.state.root().map(<[u8]>::to_vec))),
            Command::PutRoot(envelope) => self.put_root(envelope),
            Command::Publish { metadata, manifest } => self.publish(metadata, manifest),
            Command::CreateToken { create, id, secret } => self.create_token(operator, create, id, secret),
            Command::Agents { selector, after } => self.agents(&selector, after),
            Command::Agent(key) => Ok(Reply::Agent(Box::new(self.agent_view(self.find_agent(&key)?)?))),
            Command::RevokeAgent(key) => self.revoke(&key),
            Command::ForgetAgent(key) => self.forget_agent(&key),
            Command::Tokens { after } => Ok(Reply::Tokens(self.tokens(after))),
            Command::RevokeToken(id) => self.revoke_token(id),
            Command::Greet { until } => self.greet(operator, until),
            Command::Operators { after } => Ok(Reply::Operators(self.operators(after))),
            Command::RevokeOperator(name) => self.revoke_operator(operator, &name),
            Command::Bundles => Ok(Reply::Bundles(self.newest_releases())),
            Command::Bundle(name) => self.releases(&name).map(Reply::Bundles),
            Command::StartRun(start) => self.start_run(operator, &start),
            Command::CancelRun(run) => self.cancel_run(run),
            Command::PublishRelease(envelope) => self.publish_release(envelope),
            Command::Releases => Ok(Reply::Releases(self.agent_releases())),
            Command::WithdrawRelease(counter) => self.withdraw_release(counter),
            Command::AssignRelease(assign) => self.assign_release(&assign),
            Command::Rollout(request) => self.rollout(operator, request),
        }
    }

    fn connect(&mut self, conn: ConnId, agent: AgentId) {
        if self.state.agents.get(&agent).is_none_or(|record| record.revoked) {
            self.out.closes.push((conn, CloseReason::Revoked));
            return;
        }
        self.connections.insert(conn, agent);
        let before = match self.present.get_mut(&agent) {
            None => {
                self.present.insert(agent, Presence::new(conn));
                None
            }
            Some(presence) if presence.welcome => presence.arriving.replace(conn),
            Some(presence) => Some(std::mem::replace(&mut presence.conn, conn)),
        };
        self.supersede(before);
    }

    /// The connection that was welcomed is the agent's from now on.
    pub(super) fn take_place(&mut self, agent: AgentId, conn: ConnId) {
        let Some(presence) = self.present.get_mut(&agent) else { return };
        if presence.conn == conn {
            presence.welcome = true;
            return;
        }
        let before = std::mem::replace(presence, Presence { welcome: true, ..Presence::new(conn) });
        self.supersede(Some(before.conn));
    }

    fn supersede(&mut self, before: Option<ConnId>) {
        if let Some(conn) = before {
            self.connections.remove(&conn);
            self.out.closes.push((conn, CloseReason::Superseded));
        }
    }

    fn closed(&mut self, conn: ConnId) {
        let Some(agent) = self.connections.remove(&conn) else { return };
        match self.present.get_mut(&agent) {
            Some(presence) if presence.conn != conn => {
                presence.arriving = None;
                return;
            }
            Some(Presence { arriving: Some(next), .. }) => {
                let next = *next;
                self.present.insert(agent, Presence::new(next));
            }
            Some(_) | None => {
                self.present.remove(&agent);
            }
        }
        self.seen(agent, Millis::ZERO);
    }

    fn asked(&mut self, conn: ConnId, ticket: Ticket, ask: Ask) {
        let Some(&agent) = self.connections.get(&conn) else {
            let reason = "this connection was replaced by a newer one of the same agent, or its identity was withdrawn";
            return self.answer(ticket, Answer::Refused(Refusal::new(RefusalCode::Denied, reason)));
        };
        let welcome = self.present.get(&agent).is_some_and(|presence| presence.conn == conn && presence.welcome);
        match ask {
            Ask::Hello(hello) => self.hello(agent, conn, ticket, hello),
            Ask::Renew(renew) => self.answer(ticket, Answer::Certify { agent, renew }),
            Ask::Poll(_) | Ask::Report(_) if !welcome => {
                let refusal = Refusal::new(RefusalCode::Invalid, "the first request on a connection is a hello");
                self.answer(ticket, Answer::Refused(refusal));
            }
            Ask::Poll(poll) => self.poll(agent, ticket, poll),
            Ask::Report(report) => self.report(agent, ticket, report),
        }
    }

    /// Changes what is durable: the one place that does.
    pub(super) fn write(&mut self, write: Write) {
        self.state.apply(&write);
        self.out.writes.push(write);
    }

    pub(super) fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.out.answers.push((ticket, answer));
    }

    pub(super) fn set_timer(&mut self, at: Millis, timer: Timer) {
        self.timers.insert((at, timer));
    }

    pub(super) fn clear_timer(&mut self, at: Millis, timer: Timer) {
        self.timers.remove(&(at, timer));
    }

    /// The pin of the trust root.
    pub(super) fn root_pin(&self) -> Option<RootPin> {
        self.trusted.as_ref().map(Trusted::pin)
    }

    /// Whether an agent's poll is held beyond now: a timer may be of a connection that is gone.
    fn holds_longer(&self, agent: AgentId) -> bool {
        let held = self.present.get(&agent).and_then(|presence| presence.held);
        held.is_some_and(|held| self.now < held.until)
    }

    fn fire_timers(&mut self) {
        while let Some(&(at, timer)) = self.timers.first().filter(|(at, _)| *at <= self.now) {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Hold(agent) if self.holds_longer(agent) => {}
                Timer::Hold(agent) => self.end_hold(agent),
                Timer::Deadline(run) => self.expire_run(run),
                Timer::Token(token) => self.expire_token(token),
                Timer::Rollout(rollout) => self.drive(rollout),
                Timer::Head => self.renew_head(),
            }
        }
    }
}

/// Reads a root that is pinned by being the one on the disk, or the first one.
pub(super) fn read_root(bytes: &[u8]) -> Result<Trusted, Refusal> {
    let refuse = |error: &dyn std::error::Error| {
        let reason = format!("the trust root cannot be used: {}", sloth_core::error::Chain(error));
        Refusal::new(RefusalCode::Invalid, reason)
    };
    let envelope = Envelope::decode(bytes).map_err(|error| refuse(&error))?;
    Trusted::new(&envelope, RootPin::of(&envelope.payload)).map_err(|error| refuse(&error))
}
