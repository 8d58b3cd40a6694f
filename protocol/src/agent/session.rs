//! The connection: when it is made, what is asked on it, and what the answers change.

use sloth_core::{Chain, Millis, backoff::full_jitter};

use super::{
    ANSWER_PATIENCE, Ask, Config, DENIED_RETRY, Effect, LaneState, Note, Pacing, RECONNECT_BASE, RECONNECT_CAP,
    RENEW_RETRY, STALE_RETRY, TOLD_WAIT_MAX, Ticket, Write,
    machine::{Agent, difference},
};
use crate::{
    random::Random,
    wire::{
        Acked, AgentResponse, Hello, Lane, NUMBER_MAX, Order, PROTO_MAX, PROTO_MIN, Poll, ProtoVersion, Refusal,
        RefusalCode, Welcome, Work, WorkItem, negotiate,
    },
};

/// What of the connection outlives it, and the connection.
#[derive(Debug)]
pub(super) struct Session {
    link: Link,
    /// See [`Hello::instance`].
    instance: u64,
    /// Names the last connection that was asked for.
    links: u64,
    next_ticket: Ticket,
    /// Attempts to connect since a poll was last answered.
    attempts: u32,
    /// The highest record number that may have been sent, by lane: by this process, or before it was started.
    sent: [u64; 2],
    /// See [`Welcome::reconnect_within`].
    reconnect_within: Millis,
    /// When a new certificate is asked for.
    renew_at: Millis,
    certificate_from: Millis,
    certificate_until: Millis,
    /// Before then no other one is asked for, whatever the clocks say.
    renewed_until: Millis,
    /// By how many milliseconds the coordinator's clock is ahead of the machine's time, once it has told.
    ahead: Option<i64>,
    /// The version of the protocol that was settled last.
    proto: ProtoVersion,
}

#[derive(Debug)]
pub(super) enum Link {
    Down { retry_at: Millis },
    Connecting,
    Up(Box<Up>),
}

/// An open connection.
#[derive(Debug, Default)]
pub(super) struct Up {
    hello: Option<Asked>,
    welcome: bool,
    poll: Option<AskedPoll>,
    poll_at: Millis,
    /// The version up to which trust roots were refused on this connection: to be given them again at once would be
    /// no use.
    refused_root: u64,
    /// Whether a poll was answered on this connection.
    polled: bool,
    /// Why nothing new is begun, if so.
    held_back: Option<String>,
    reports: [Option<AskedReport>; 2],
    renew: Option<Asked>,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    ticket: Ticket,
    until: Millis,
}

#[derive(Debug, Clone, Copy)]
struct AskedPoll {
    asked: Asked,
    room: u32,
    /// The version after which trust roots are asked for.
    root: u64,
}

#[derive(Debug, Clone, Copy)]
struct AskedReport {
    asked: Asked,
    through: u64,
}

impl Session {
    pub(super) fn new(config: &Config, lanes: &[LaneState; 2], now: Millis, random: &mut Random) -> Self {
        Self {
            link: Link::Down { retry_at: now },
            instance: random.next_u64(),
            links: 0,
            next_ticket: 1,
            attempts: 0,
            sent: lanes.each_ref().map(|lane| lane.next_seq - 1),
            reconnect_within: RECONNECT_BASE,
            renew_at: renewal(config.certificate_from, config.certificate_until, random),
            certificate_from: config.certificate_from,
            certificate_until: config.certificate_until,
            renewed_until: Millis::ZERO,
            ahead: None,
            proto: PROTO_MIN,
        }
    }

    pub(super) const fn ahead(&self) -> Option<i64> {
        self.ahead
    }

    /// The version of the protocol that was settled last.
    pub(super) const fn proto(&self) -> ProtoVersion {
        self.proto
    }

    pub(super) fn is_welcome(&self) -> bool {
        self.up().is_some_and(|up| up.welcome)
    }

    /// The highest number of a lane's report that is under way.
    pub(super) fn in_flight(&self, lane: Lane) -> Option<u64> {
        self.up().and_then(|up| up.reports[lane.index()]).map(|report| report.through)
    }

    fn up(&self) -> Option<&Up> {
        match &self.link {
            Link::Up(up) => Some(up),
            Link::Down { .. } | Link::Connecting => None,
        }
    }

    fn up_mut(&mut self) -> Option<&mut Up> {
        match &mut self.link {
            Link::Up(up) => Some(up),
            Link::Down { .. } | Link::Connecting => None,
        }
    }
}

impl Agent {
    pub(super) fn connected(&mut self, link: u64) {
        if link == self.session.links && matches!(self.session.link, Link::Connecting) {
            self.session.link = Link::Up(Box::default());
        }
    }

    pub(super) fn disconnected(&mut self, link: u64) {
        if link == self.session.links && !matches!(self.session.link, Link::Down { .. }) {
            self.come_back_later();
        }
    }

    /// The coordinator may have been set back or mend its list: now and then it is asked again.
    pub(super) fn revoked(&mut self, link: u64) {
        if link == self.session.links && !matches!(self.session.link, Link::Down { .. }) {
            let reason = "the agent's identity was withdrawn: enrol it again with a new join token".to_owned();
            self.note(Note::Denied { reason });
            let wait = self.around(DENIED_RETRY);
            self.stay_away(wait);
        }
    }

    fn come_back_later(&mut self) {
        let span = self.session.reconnect_within.max(RECONNECT_BASE);
        let cap = span.max(RECONNECT_CAP);
        let wait = full_jitter(self.session.attempts, span, cap, self.random.next_u64());
        self.session.attempts = self.session.attempts.saturating_add(1);
        self.session.link = Link::Down { retry_at: self.now + wait };
    }

    pub(super) fn answered(&mut self, ticket: Ticket, response: AgentResponse) {
        match response {
            AgentResponse::Welcome(welcome) => self.welcomed(ticket, &welcome),
            AgentResponse::Work(work) => self.take_work(ticket, work),
            AgentResponse::Acked(acked) => self.acked(ticket, acked),
            AgentResponse::Refused(refusal) => self.refused(ticket, refusal),
            // The driver keeps these to itself and says `Fetched` and `Renewed`.
            AgentResponse::Blob(_) | AgentResponse::Renewed(_) => {}
        }
    }

    pub(super) fn renewed(&mut self, ticket: Ticket, from: Millis, until: Millis) {
        if let Some(up) = self.session.up_mut()
            && up.renew.is_some_and(|asked| asked.ticket == ticket)
        {
            up.renew = None;
            self.session.renew_at = renewal(from, until, &mut self.random);
            (self.session.certificate_from, self.session.certificate_until) = (from, until);
            self.session.renewed_until = self.now + RENEW_RETRY;
        }
    }

    /// Connects, asks and leaves as is due.
    pub(super) fn advance_session(&mut self) {
        match &self.session.link {
            Link::Down { retry_at } if *retry_at <= self.now => {
                self.session.link = Link::Connecting;
                self.session.links += 1;
                self.effect(Effect::Connect { link: self.session.links });
            }
            Link::Down { .. } | Link::Connecting => {}
            Link::Up(up) if up.overdue(self.now) => {
                self.effect(Effect::Disconnect);
                self.come_back_later();
            }
            Link::Up(_) => self.advance_up(),
        }
    }

    pub(super) fn session_wake(&self) -> Option<Millis> {
        match &self.session.link {
            Link::Down { retry_at } => Some(*retry_at),
            Link::Connecting => None,
            Link::Up(up) => {
                let renew = (up.welcome && up.renew.is_none()).then(|| self.renewal_due());
                [self.poll_due(up), renew, up.patience()].into_iter().flatten().min()
            }
        }
    }

    fn advance_up(&mut self) {
        let Some(up) = self.session.up() else { return };
        if up.hello.is_none() && !up.welcome {
            return self.say_hello();
        }
        if !up.welcome {
            return;
        }
        if up.renew.is_none() && self.renewal_due() <= self.now {
            self.ask_renewal();
        }
        if self.certificate_ran_out() {
            return;
        }
        for lane in Lane::ALL {
            self.ask_report(lane);
        }
        self.ask_poll();
        self.leave_if_done();
    }

    fn say_hello(&mut self) {
        let hello = Hello {
            proto_min: PROTO_MIN,
            proto_max: PROTO_MAX,
            features: 0,
            version: self.config.version.clone(),
            platform: self.config.platform.clone(),
            labels: self.config.host_labels.clone(),
            instance: self.session.instance,
        };
        let asked = self.ask(Ask::Hello(hello), Millis::ZERO);
        if let Some(up) = self.session.up_mut() {
            up.hello = Some(asked);
        }
    }

    fn ask_renewal(&mut self) {
        let asked = self.ask(Ask::Renew, Millis::ZERO);
        if let Some(up) = self.session.up_mut() {
            up.renew = Some(asked);
        }
    }

    fn ask_report(&mut self, lane: Lane) {
        if self.session.in_flight(lane).is_some() {
            return;
        }
        let seqs = self.next_batch(lane);
        let Some(&through) = seqs.last() else { return };
        let dropped = self.state.lanes[lane.index()].dropped;
        self.session.sent[lane.index()] = self.session.sent[lane.index()].max(through);
        let asked = self.ask(Ask::Report { lane, dropped, seqs }, Millis::ZERO);
        if let Some(up) = self.session.up_mut() {
            up.reports[lane.index()] = Some(AskedReport { asked, through });
        }
    }

    fn ask_poll(&mut self) {
        let Some(up) = self.session.up() else { return };
        if self.poll_due(up).is_none_or(|at| self.now < at) {
            return;
        }
        let room = self.room();
        let hold = match self.config.pacing {
            Pacing::Hold(hold) => hold,
            Pacing::Interval(_) => Millis::ZERO,
        };
        let root = self.trusted.root().version.max(up.refused_root);
        let head = self.head.as_ref().map_or(0, |head| head.reference().version);
        let asked = self.ask(Ask::Poll(Poll { accepted: self.state.accepted, hold, room, root, head }), hold);
        if let Some(up) = self.session.up_mut() {
            up.poll = Some(AskedPoll { asked, room, root });
        }
    }

    /// When the next poll is due on this connection, if at all.
    fn poll_due(&self, up: &Up) -> Option<Millis> {
        if !up.welcome || self.certificate_ran_out() {
            return None;
        }
        match up.poll {
            None => (!(self.leaves() && up.polled)).then_some(up.poll_at),
            // A poll that said «no room» is asked anew once there is room; the coordinator answers the newer one.
            Some(open) => (open.room == 0 && 0 < self.room()).then_some(self.now),
        }
    }

    /// A certificate that has run out opens the door for its renewal alone, as does one that was made by a coordinator
    /// whose clock was ahead.
    fn certificate_ran_out(&self) -> bool {
        let time = self.coordinators_time();
        self.session.certificate_until <= time || time < self.session.certificate_from
    }

    /// When a new certificate is to be asked for, in the machine's time.
    fn renewal_due(&self) -> Millis {
        let time = self.coordinators_time();
        let wait = if time < self.session.certificate_from { Millis::ZERO } else { self.session.renew_at.since(time) };
        (self.now + wait).max(self.session.renewed_until)
    }

    fn leave_if_done(&mut self) {
        let leaves = self.leaves();
        let empty = self.state.lanes.iter().all(|lane| lane.entries.is_empty());
        let fetching = self.live.values().any(|live| matches!(live, super::jobs::Live::Fetching { .. }));
        let fetching = fetching || self.fetches_update();
        let Some(up) = self.session.up() else { return };
        let quiet = up.polled && up.poll.is_none() && up.renew.is_none() && up.reports.iter().all(Option::is_none);
        if !(leaves && quiet && empty && !fetching) {
            return;
        }
        let retry_at = up.poll_at;
        self.effect(Effect::Disconnect);
        self.session.link = Link::Down { retry_at };
    }

    fn welcomed(&mut self, ticket: Ticket, welcome: &Welcome) {
        let Some(up) = self.session.up_mut() else { return };
        if up.hello.is_none_or(|asked| asked.ticket != ticket) {
            return;
        }
        up.hello = None;
        if negotiate(welcome.proto, welcome.proto).is_none() {
            self.note(Note::Denied { reason: "the coordinator speaks no version of this agent's protocol".to_owned() });
            self.effect(Effect::Disconnect);
            return self.stay_away(DENIED_RETRY);
        }
        up.welcome = true;
        self.session.proto = welcome.proto;
        let Some(up) = self.session.up_mut() else { return };
        up.poll_at = self.now;
        self.session.ahead = Some(difference(welcome.time, self.now));
        self.session.reconnect_within = welcome.reconnect_within.min(TOLD_WAIT_MAX);
        for lane in Lane::ALL {
            self.settle_lane(lane, welcome.acked[lane.index()]);
        }
        self.retry_fetches();
        self.retry_update();
        self.settle_update();
    }

    /// Compares a lane with what the coordinator has of it.
    fn settle_lane(&mut self, lane: Lane, acked: u64) {
        let sent = self.session.sent[lane.index()];
        if self.first_waiting(lane).is_some_and(|first| first <= acked.min(sent)) {
            self.write(Write::Acked { lane, through: acked.min(sent) });
            self.forget_run_ends();
        }
        // A number that nobody ever gave is not believed.
        if acked <= sent || NUMBER_MAX < acked {
            return;
        }
        // The disk forgot numbers that it had given. What it has under the others was counted under them; what
        // came after would be taken for repetitions of what was forgotten.
        self.note(Note::StateWentBack { lane });
        let first = self.first_waiting(lane).unwrap_or(self.state.lanes[lane.index()].next_seq);
        if first <= acked {
            self.write(Write::Renumber { lane, by: acked.saturating_add(1) - first });
        }
        self.session.sent[lane.index()] = acked;
    }

    fn first_waiting(&self, lane: Lane) -> Option<u64> {
        self.state.lanes[lane.index()].entries.first_key_value().map(|(seq, _)| *seq)
    }

    fn take_work(&mut self, ticket: Ticket, work: Work) {
        let Some(up) = self.session.up_mut() else { return };
        let Some(open) = up.poll.filter(|open| open.asked.ticket == ticket) else { return };
        up.poll = None;
        up.polled = true;
        self.session.attempts = 0;
        let next = match self.config.pacing {
            Pacing::Hold(_) => work.next_poll.min(TOLD_WAIT_MAX),
            Pacing::Interval(every) => self.around(every.max(work.next_poll.min(TOLD_WAIT_MAX))),
        };
        if let Some(up) = self.session.up_mut() {
            up.poll_at = self.now + next;
        }
        if !self.take_roots(&work.roots)
            && let Some(up) = self.session.up_mut()
        {
            let given = u64::try_from(work.roots.len()).unwrap_or(u64::MAX);
            up.refused_root = open.root.saturating_add(given);
        }
        let head = self.take_head(work.head.as_deref());
        let fresh = head.and_then(|()| self.fresh_head().map(|_| ()).map_err(|error| Chain(&error).to_string()));
        let held_back = self.take_items(work.items, fresh.err());
        self.note_held_back(held_back.as_ref());
    }

    /// Takes on orders, as far as nothing is against it, which is returned.
    fn take_items(&mut self, items: Vec<WorkItem>, mut against: Option<String>) -> Option<String> {
        let mut waiting = false;
        for item in items {
            match item.order {
                // What is to be stopped stops at once; its number counts when its turn has come.
                Order::Cancel { run } if waiting => self.cancel(run),
                Order::CancelUpdate { counter } if waiting => self.cancel_update(counter),
                Order::Run(_) | Order::Update(_) if against.is_some() => waiting = true,
                Order::Run(_) | Order::Update(_) | Order::Cancel { .. } | Order::CancelUpdate { .. } => {
                    if let Err(reason) = self.take_order(item) {
                        against.get_or_insert(reason);
                        waiting = true;
                    }
                }
            }
        }
        if waiting {
            // The same orders would be given again at once.
            let wait = self.around(STALE_RETRY);
            if let Some(up) = self.session.up_mut() {
                up.poll_at = up.poll_at.max(self.now + wait);
            }
        }
        against
    }

    /// Says once a connection, or when it changes, why nothing new is begun.
    fn note_held_back(&mut self, reason: Option<&String>) {
        let Some(up) = self.session.up_mut() else { return };
        if up.held_back.as_ref() == reason {
            return;
        }
        up.held_back = reason.cloned();
        if let Some(reason) = reason {
            self.note(Note::HeldBack { reason: reason.clone() });
        }
    }

    fn acked(&mut self, ticket: Ticket, acked: Acked) {
        let Some(up) = self.session.up_mut() else { return };
        let report = &mut up.reports[acked.lane.index()];
        if report.is_some_and(|open| open.asked.ticket == ticket) {
            *report = None;
            self.write(Write::Acked { lane: acked.lane, through: acked.through });
            self.forget_run_ends();
        }
    }

    fn refused(&mut self, ticket: Ticket, refusal: Refusal) {
        // What an earlier connection was refused says nothing about this one.
        if !self.session.up().is_some_and(|up| up.waits_for(ticket)) {
            return;
        }
        self.effect(Effect::Disconnect);
        match refusal.code {
            RefusalCode::Busy => {
                let told = refusal.retry_after.min(TOLD_WAIT_MAX);
                let wait = self.random.below(told.max(RECONNECT_BASE).as_u64());
                self.stay_away(told + Millis::from_u64(wait));
            }
            RefusalCode::Denied | RefusalCode::Version => {
                let wait = self.around(DENIED_RETRY);
                self.stay_away(wait);
            }
            RefusalCode::Invalid
            | RefusalCode::NotFound
            | RefusalCode::Conflict
            | RefusalCode::TooLarge
            | RefusalCode::Internal
            | RefusalCode::Values => self.come_back_later(),
        }
        self.note(Note::Denied { reason: refusal.reason });
    }

    fn stay_away(&mut self, wait: Millis) {
        self.session.link = Link::Down { retry_at: self.now + wait };
    }

    /// A span drawn from a tenth below to a tenth above `span`, so that a fleet's beats drift apart.
    fn around(&mut self, span: Millis) -> Millis {
        let tenth = span.as_u64() / 10;
        span - Millis::from_u64(tenth) + Millis::from_u64(self.random.below(2 * tenth + 1))
    }

    fn ask(&mut self, ask: Ask, hold: Millis) -> Asked {
        let ticket = self.session.next_ticket;
        self.session.next_ticket += 1;
        self.effect(Effect::Ask { ticket, ask });
        Asked { ticket, until: self.now + hold + ANSWER_PATIENCE }
    }
}

impl Up {
    /// What was asked and not answered.
    fn open(&self) -> impl Iterator<Item = Asked> {
        let reports = self.reports.iter().flatten().map(|report| report.asked);
        let single = [self.hello, self.poll.map(|poll| poll.asked), self.renew];
        reports.chain(single.into_iter().flatten())
    }

    fn waits_for(&self, ticket: Ticket) -> bool {
        self.open().any(|asked| asked.ticket == ticket)
    }

    fn patience(&self) -> Option<Millis> {
        self.open().map(|asked| asked.until).min()
    }

    fn overdue(&self, now: Millis) -> bool {
        self.patience().is_some_and(|until| until <= now)
    }
}

/// When a certificate is renewed: after two thirds of its life, give or take a tenth of it.
fn renewal(from: Millis, until: Millis, random: &mut Random) -> Millis {
    let life = until.since(from).as_u64();
    from + Millis::from_u64(life / 3 * 2 - life / 20 + random.below(life / 10 + 1))
}
