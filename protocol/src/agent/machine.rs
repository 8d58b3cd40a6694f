//! The machine itself: one entry for events, one way to change what is durable.

use std::collections::BTreeMap;

use sloth_core::{Millis, RunId};
use sloth_trust::{Envelope, EnvelopeError, Refusal, Root, RootPin, Trusted, TrustedHead};

use super::{
    Config, Durable, Effect, Event, Note, Output, Pacing, Write, jobs::Live, outbox::RunEndHold, session::Session,
    updates::LiveUpdate,
};
use crate::random::Random;

/// An agent's machine.
#[derive(Debug)]
pub struct Agent {
    pub(super) config: Config,
    pub(super) trusted: Trusted,
    /// The newest head that was accepted. Invariant: it is what `state` has.
    pub(super) head: Option<TrustedHead>,
    /// Invariant: what the disk holds once the writes handed out so far are committed.
    pub(super) state: Durable,
    pub(super) random: Random,
    /// Goes on steadily: what is waited for is told by it.
    pub(super) now: Millis,
    /// By how many milliseconds the host's clock is ahead of `now`.
    ahead: i64,
    pub(super) session: Session,
    /// Invariant: has a key for every job of `state`, and no other.
    pub(super) live: BTreeMap<RunId, Live>,
    /// Invariant: there is one when `state` has an update.
    pub(super) live_update: Option<LiveUpdate>,
    /// By the number of the record.
    pub(super) run_ends: BTreeMap<u64, RunEndHold>,
    pub(super) out: Output,
}

/// An agent cannot be restored: the trust root it is given is not the one it is pinned to.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It is not even an envelope.
    #[error("this agent's trust root cannot be read: enrol it again with a new join token")]
    Unreadable {
        /// Why.
        source: EnvelopeError,
    },
    /// It is another one, or not signed by those whom it names.
    #[error("this agent's trust root cannot be used: enrol it again with a new join token")]
    Refused {
        /// Why.
        source: Refusal,
    },
}

impl Agent {
    /// The machine that goes on from what is on the disk. `seed` determines its random choices.
    ///
    /// Send [`Event::Wake`] next.
    ///
    /// # Errors
    ///
    /// When the trust root is not the one that the agent is pinned to.
    pub fn restore(config: Config, state: Durable, now: Millis, seed: u64) -> Result<Self, RestoreError> {
        let root = Envelope::decode(&config.root).map_err(|source| RestoreError::Unreadable { source })?;
        let trusted = Trusted::new(&root, config.root_pin).map_err(|source| RestoreError::Refused { source })?;
        let trusted = newest_root(trusted, state.root.as_deref())?;
        let head = state.head.as_deref().and_then(|bytes| stored_head(&trusted, bytes));
        let live = state.jobs.keys().map(|run| (*run, Live::New)).collect();
        let live_update = state.update.as_ref().map(|_| LiveUpdate::New);
        let mut random = Random::new(seed);
        let session = Session::new(&config, &state.lanes, now, &mut random);
        Ok(Self {
            config,
            trusted,
            head,
            state,
            random,
            now,
            ahead: 0,
            session,
            live,
            live_update,
            run_ends: BTreeMap::new(),
            out: Output::default(),
        })
    }

    /// The host's clock says `wall` at `now`; until this is told, they are the same. What has expired is judged by it, and
    /// it may jump to and fro: no wait is the longer or shorter for it.
    pub fn hear_clock(&mut self, now: Millis, wall: Millis) {
        self.ahead = difference(wall, now);
    }

    /// Takes in what happened at `now`, which must not lie before the last event's.
    pub fn handle(&mut self, now: Millis, event: Event) -> Output {
        self.now = self.now.max(now);
        self.take(event);
        self.advance_update();
        self.advance_jobs();
        self.advance_session();
        self.out.wake_at = self.next_wake();
        std::mem::take(&mut self.out)
    }

    /// The time by the host's clock.
    pub(super) fn wall(&self) -> Millis {
        shifted(self.now, self.ahead)
    }

    /// The time by the coordinator's clock, as far as it is known: certificates and deadlines are its own, and no business
    /// of a host's clock that jumps.
    pub(super) fn coordinators_time(&self) -> Millis {
        self.session.ahead().map_or_else(|| self.wall(), |ahead| shifted(self.now, ahead))
    }

    /// The time by which deadlines are judged, before a run is begun and while it goes on: the coordinator's, which set
    /// them, and not before its newest head, which is signed.
    pub(super) fn deadlines_time(&self) -> Millis {
        self.coordinators_time().max(self.not_before())
    }

    /// The time before which it is not: that of the newest head. For hosts that have no clock.
    #[must_use]
    pub fn not_before(&self) -> Millis {
        self.head.as_ref().map_or(Millis::ZERO, |head| head.head().issued)
    }

    /// What the disk holds once every write handed out is committed.
    #[must_use]
    pub fn durable(&self) -> &Durable {
        &self.state
    }

    /// Whether a welcome was received on the connection that is open.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.session.is_welcome()
    }

    /// From now on no run is begun, until the machine is restored: the agent is about to end. What runs goes on.
    pub fn begin_nothing(&mut self) {
        self.config.runs_max = 0;
    }

    /// Whether nothing runs.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.running() == 0
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Wake => {}
            Event::Connected { link } => self.connected(link),
            Event::Disconnected { link, .. } => self.disconnected(link),
            Event::Revoked { link } => self.revoked(link),
            Event::Answered { ticket, response } => self.answered(ticket, response),
            Event::Renewed { ticket, from, until } => self.renewed(ticket, from, until),
            Event::Fetched { run, result } => self.fetched(run, result),
            Event::TaskStarting { run, task, attempt, on_interrupt } => {
                self.task_starting(run, task, attempt, on_interrupt);
            }
            Event::TaskEnded { run, end } => self.task_ended(run, end),
            Event::RunEnded { run, end } => self.run_ended(run, end),
            Event::WorkerDied { run, how } => self.worker_died(run, &how),
            Event::Logged { run, task, stream, text } => self.logged(run, task, stream, text),
            Event::UpdateReady { counter, result } => self.update_ready(counter, result),
            Event::UpdateFailed { counter, verdict, reason } => self.update_failed(counter, verdict, reason),
            Event::UpdateOutcome(outcome) => self.update_outcome(outcome),
        }
    }

    /// Changes what is durable: the one place that does.
    pub(super) fn write(&mut self, write: Write) {
        self.state.apply(&write);
        self.out.writes.push(write);
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.out.effects.push(effect);
    }

    pub(super) fn note(&mut self, note: Note) {
        self.effect(Effect::Note(note));
    }

    fn next_wake(&self) -> Option<Millis> {
        [self.jobs_wake(), self.update_wake(), self.outbox_wake(), self.session_wake()].into_iter().flatten().min()
    }

    /// The trust root that counts.
    #[must_use]
    pub const fn root(&self) -> &Root {
        self.trusted.root()
    }

    /// The newest head that was accepted.
    #[must_use]
    pub const fn head(&self) -> Option<&TrustedHead> {
        self.head.as_ref()
    }

    /// Whether the agent leaves after each exchange.
    pub(super) fn leaves(&self) -> bool {
        match self.config.pacing {
            Pacing::Hold(_) => false,
            Pacing::Interval(_) => true,
        }
    }
}

/// The root that was accepted last, which the one of the enrolment vouches for: it was checked before it was stored.
fn newest_root(first: Trusted, stored: Option<&[u8]>) -> Result<Trusted, RestoreError> {
    let Some(bytes) = stored else { return Ok(first) };
    let envelope = Envelope::decode(bytes).map_err(|source| RestoreError::Unreadable { source })?;
    let pin = RootPin::of(&envelope.payload);
    Trusted::new(&envelope, pin).map_err(|source| RestoreError::Refused { source })
}

/// The head that was accepted last. One of a root before this one counts no less: only its signer has to be the same.
fn stored_head(trusted: &Trusted, bytes: &[u8]) -> Option<TrustedHead> {
    Envelope::decode(bytes).ok().and_then(|envelope| trusted.verify_head(&envelope).ok())
}

/// By how many milliseconds `time` is ahead of `now`.
pub(super) fn difference(time: Millis, now: Millis) -> i64 {
    let span = |span: Millis| i64::try_from(span.as_u64()).unwrap_or(i64::MAX);
    span(time.since(now)) - span(now.since(time))
}

fn shifted(time: Millis, by: i64) -> Millis {
    Millis::from_u64(time.as_u64().saturating_add_signed(by))
}
