//! The machine itself: what it knows, what happens to its daemon, and what it waits for.

use semver::Version;
use sloth_core::{Millis, backoff::full_jitter};

use super::{
    Action, Event, Exit, FAILURES_MAX, Fault, FromDaemon, Marker, Moment, Note, OPERATORS_FAULTS, Output,
    PACKAGE_FINISH_MIN, Policy, Proof, RESTART_CAP, SILENCE_MAX, Slot, Tail, WRITE_RETRY, deeds::Fallback,
};
use crate::random::Random;

/// The supervisor of one host.
#[derive(Debug)]
pub struct Supervisor {
    pub(super) policy: Policy,
    pub(super) marker: Marker,
    pub(super) child: Child,
    pub(super) awaiting: Awaiting,
    pub(super) tail: Tail,
    /// Whose lines these are.
    tail_of: Option<Slot>,
    /// How often in a row a version that is not on trial has ended too soon.
    pub(super) failures: u32,
    /// How often in a row the system has refused to start a process. That says nothing of a version.
    refusals: u32,
    /// Whether any daemon was ready in this supervisor's life.
    was_ready: bool,
    pub(super) stopping: bool,
    has_quit: bool,
    pub(super) handover: Handover,
    /// Until when the current version must have connected, to tell something of the one that was put off.
    pub(super) compare_until: Option<Millis>,
    /// Until when what was put off is not asked for again.
    pub(super) retry_at: Millis,
    /// Until when the version on trial must have begun its soak. The time begins with its first start in this
    /// supervisor's life; how often there can be one more is on the disk.
    pub(super) trial_until: Option<Millis>,
    /// Whether the disk has `marker`.
    written: bool,
    write_at: Millis,
    pub(super) to_write: bool,
    pub(super) to_keep: bool,
    random: Random,
    pub(super) now: Moment,
    pub(super) out: Output,
}

/// What waits for the disk's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Awaiting {
    Nothing,
    /// The start of the version on trial.
    Start(Slot),
    /// The answer to whoever asked for a switch.
    Switch,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Child {
    None { start_at: Millis },
    Running(Life),
    Ending(Ending),
}

/// How far this supervisor is on its way to the package's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handover {
    No,
    /// It waits for the daemon's end.
    Asked,
    /// It is being replaced.
    Begun,
}

/// A daemon that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) slot: Slot,
    born: Millis,
    ready: Option<Millis>,
    pub(super) online: Option<Millis>,
    losses: u32,
    alive: Option<Millis>,
}

/// A daemon that was asked to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    slot: Slot,
    stage: Stage,
    /// When it is asked harder.
    next_at: Millis,
    then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Asked,
    Terminated,
    Killed,
}

/// What its end means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing: it was wanted.
    Next,
    /// It failed.
    Failed(String),
}

impl Supervisor {
    /// The supervisor that goes on from what is on the disk, in a package of version `packaged`. `tail` is what was kept
    /// of the lines of a version on trial; `seed` determines its random choices.
    ///
    /// Send [`Event::Wake`] next.
    #[must_use]
    pub fn restore(
        policy: Policy,
        packaged: &Version,
        marker: Option<Marker>,
        tail: Tail,
        now: Moment,
        seed: u64,
    ) -> Self {
        let written = marker.as_ref().is_some_and(|marker| marker.packaged == *packaged);
        let marker = marker.unwrap_or_else(|| Marker::new(packaged.clone()));
        let tail_of = marker.trial.as_ref().map(|trial| trial.to.clone());
        let mut own = Self {
            policy,
            marker,
            child: Child::None { start_at: Millis::ZERO },
            awaiting: Awaiting::Nothing,
            tail,
            tail_of,
            failures: 0,
            refusals: 0,
            was_ready: false,
            stopping: false,
            has_quit: false,
            handover: Handover::No,
            compare_until: None,
            retry_at: Millis::ZERO,
            trial_until: None,
            written,
            write_at: Millis::ZERO,
            to_write: false,
            to_keep: true,
            random: Random::new(seed),
            now,
            out: Output::default(),
        };
        own.see_package(packaged);
        own
    }

    /// What the disk holds, or will once it can be written.
    #[must_use]
    pub const fn marker(&self) -> &Marker {
        &self.marker
    }

    /// Takes in what happened at `now`, whose [`Moment::awake`] must not lie before the last event's.
    pub fn handle(&mut self, now: Moment, event: Event) -> Output {
        self.now = now;
        // Lines are no news: what was said at the same time, and is told next, comes before any verdict.
        let is_news = !matches!(event, Event::Printed(_));
        self.take(event);
        if is_news {
            self.advance();
        }
        if std::mem::take(&mut self.to_write) {
            self.written = false;
            self.write_at = self.now.awake + WRITE_RETRY;
            self.out.write = Some(self.marker.clone());
        }
        self.out.wake_at = self.next_wake();
        std::mem::take(&mut self.out)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Wake => {}
            Event::Written => self.written(),
            Event::NotWritten { why } => self.not_written(why),
            Event::NotStarted { why, fault } => self.not_started(&why, fault),
            Event::Said(word) => self.hear(word),
            Event::Printed(line) => self.tail.push(&line),
            Event::Exited(exit) => self.exited(exit),
            Event::Asked { request, allowed } => self.asked(request, allowed),
            Event::Retry(allowed) => self.retry(allowed),
            Event::NotReplaced { why } => {
                self.handover = Handover::No;
                self.out.actions.push(Action::Note(Note::NotReplaced { why }));
            }
            Event::Stop => {
                self.stopping = true;
                match &self.child {
                    Child::Running(_) | Child::Ending(Ending { stage: Stage::Asked, .. }) => self.terminate(Then::Next),
                    Child::None { .. } | Child::Ending(_) => {}
                }
            }
        }
    }

    fn written(&mut self) {
        self.written = true;
        match std::mem::replace(&mut self.awaiting, Awaiting::Nothing) {
            Awaiting::Nothing => {}
            Awaiting::Start(slot) => self.launch(slot),
            Awaiting::Switch => self.switch(),
        }
    }

    fn not_written(&mut self, why: String) {
        match std::mem::replace(&mut self.awaiting, Awaiting::Nothing) {
            Awaiting::Nothing => {}
            // A start that was not counted could be had again and again.
            Awaiting::Start(_) => self.give_up(&why),
            Awaiting::Switch => self.refuse_switch(&why),
        }
        self.out.actions.push(Action::Note(Note::NotWritten { why }));
    }

    fn not_started(&mut self, why: &str, fault: Fault) {
        let Child::Running(life) = &self.child else { return };
        let slot = life.slot.clone();
        self.child = Child::None { start_at: self.now.awake };
        match fault {
            Fault::System => self.not_tried(slot, why),
            Fault::Program if self.is_on_trial(&slot) => self.roll_back(&format!("its program cannot be used: {why}")),
            Fault::Program => {
                if !self.fall_back(&format!("its program cannot be used: {why}"), Fallback::Any) {
                    self.failed(&slot, why, None);
                }
            }
        }
    }

    /// The system has no process to spare: the start is taken back, and tried again later.
    fn not_tried(&mut self, slot: Slot, why: &str) {
        if self.is_on_trial(&slot) {
            self.uncount();
            if self.marker.trial.as_ref().is_some_and(|trial| trial.starts == 0) {
                self.trial_until = None;
            }
        }
        let wait = full_jitter(self.refusals, self.policy.restart, RESTART_CAP, self.random.next_u64());
        self.refusals = self.refusals.saturating_add(1);
        // The jitter may be nothing, and asking at once is what exhausts a system.
        let again_in = wait.max(self.policy.restart);
        self.child = Child::None { start_at: self.now.awake + again_in };
        self.out.actions.push(Action::Note(Note::Ended {
            slot,
            how: format!("it cannot be started: {why}"),
            again_in,
        }));
    }

    fn hear(&mut self, word: FromDaemon) {
        let now = self.now.awake;
        self.refusals = 0;
        let losses_max = self.policy.losses_max;
        let Child::Running(life) = &mut self.child else { return };
        match word {
            FromDaemon::Ready | FromDaemon::Polled => {
                life.ready.get_or_insert(now);
                if word == FromDaemon::Polled {
                    life.online.get_or_insert(now);
                }
                if !std::mem::replace(&mut self.was_ready, true) {
                    self.out.actions.push(Action::Ready);
                }
                if word == FromDaemon::Polled {
                    self.compare();
                }
            }
            FromDaemon::Lost => {
                life.losses += u32::from(life.online.take().is_some());
                let (slot, losses) = (life.slot.clone(), life.losses);
                if losses_max < losses && self.is_on_trial(&slot) {
                    self.roll_back(&format!("it lost its connection {losses} times"));
                }
            }
            FromDaemon::Alive => life.alive = Some(now),
        }
    }

    fn exited(&mut self, exit: Exit) {
        let now = self.now.awake;
        self.refusals = 0;
        match std::mem::replace(&mut self.child, Child::None { start_at: now }) {
            Child::None { .. } => {}
            Child::Running(life) => {
                if life.ready.is_some() && self.policy.soak <= now.since(life.born) {
                    self.failures = 0;
                }
                self.failed(&life.slot, &exit.to_string(), Some(exit));
            }
            Child::Ending(Ending { slot, then: Then::Next, .. }) => {
                let is_wanted = self.stopping || self.handover != Handover::No;
                if is_wanted && exit == Exit::Code(0) && self.is_on_trial(&slot) {
                    self.uncount();
                }
            }
            Child::Ending(Ending { slot, then: Then::Failed(why), .. }) => self.failed(&slot, &why, None),
        }
    }

    /// The daemon of `slot` is gone, and should not be.
    fn failed(&mut self, slot: &Slot, how: &str, exit: Option<Exit>) {
        if self.stopping {
            return;
        }
        let faulty = matches!(exit, Some(Exit::Code(code)) if OPERATORS_FAULTS.contains(&code));
        let starts = self.marker.trial.as_ref().filter(|trial| trial.to == *slot).map(|trial| trial.starts);
        let wait = if let Some(starts) = starts {
            if self.policy.starts_max <= starts {
                return self.roll_back(&format!("it was started {starts} times, and the last time {how}"));
            }
            self.wait(starts)
        } else {
            self.failures = self.failures.saturating_add(1);
            if let Some(Exit::Code(code)) = exit.filter(|_| faulty && !self.was_ready && self.marker.trial.is_none()) {
                return self.quit(code);
            }
            if FAILURES_MAX <= self.failures && !faulty {
                let reason = format!("it ended {} times in a row, and the last time {how}", self.failures);
                if self.fall_back(&reason, Fallback::Good) {
                    return;
                }
            }
            self.wait(self.failures)
        };
        self.child = Child::None { start_at: self.now.awake + wait };
        let note = Note::Ended { slot: slot.clone(), how: how.to_owned(), again_in: wait };
        self.out.actions.push(Action::Note(note));
    }

    fn wait(&mut self, failures: u32) -> Millis {
        match failures {
            // Whatever ended it once, such as a person, hardly does it at once again.
            0 | 1 => Millis::ZERO,
            more => full_jitter(more - 2, self.policy.restart, RESTART_CAP, self.random.next_u64()),
        }
    }

    /// Does what time has come for.
    fn advance(&mut self) {
        if self.has_quit || self.awaiting != Awaiting::Nothing {
            return;
        }
        let now = self.now.awake;
        // Before a daemon is started, which may stage another version at once.
        if self.to_keep && self.written && !self.to_write {
            self.to_keep = false;
            self.keep();
        }
        match &self.child {
            Child::None { .. } if self.stopping => self.quit(0),
            Child::None { .. } if self.handover == Handover::Asked => {
                self.handover = Handover::Begun;
                self.out.actions.push(Action::Replace);
            }
            Child::None { .. } if self.handover == Handover::Begun => {}
            Child::None { start_at } if *start_at <= now => self.start(),
            Child::None { .. } => {}
            Child::Running(life) => self.judge(&life.clone()),
            Child::Ending(ending) if ending.next_at <= now => self.escalate(),
            Child::Ending(_) => {}
        }
        if !self.written && self.write_at <= now {
            self.to_write = true;
        }
    }

    fn start(&mut self) {
        let starts_max = self.policy.starts_max;
        let is_late = self.trial_until.is_some_and(|until| until <= self.now.awake);
        match &mut self.marker.trial {
            None => self.launch(self.marker.current.clone()),
            Some(trial) if is_late || starts_max <= trial.starts => {
                let starts = trial.starts;
                self.roll_back(&format!("it was started {starts} times and proved nothing"));
                self.launch(self.marker.current.clone());
            }
            Some(trial) => {
                trial.starts += 1;
                self.awaiting = Awaiting::Start(trial.to.clone());
                self.to_write = true;
            }
        }
    }

    pub(super) fn launch(&mut self, slot: Slot) {
        let now = self.now.awake;
        if self.tail_of.as_ref() != Some(&slot) {
            self.tail.clear();
            self.tail_of = Some(slot.clone());
        }
        let trial = self.marker.trial.as_ref().filter(|trial| trial.to == slot).map(|trial| trial.starts);
        if trial.is_some() {
            self.trial_until.get_or_insert(now + self.policy.trial);
        }
        self.out.actions.push(Action::Note(Note::Started { slot: slot.clone(), trial }));
        self.out.actions.push(Action::Start(slot.clone()));
        self.child = Child::Running(Life { slot, born: now, ready: None, online: None, losses: 0, alive: None });
    }

    /// Whether a daemon that runs is what it should be, and does what it should.
    fn judge(&mut self, life: &Life) {
        let now = self.now.awake;
        if self.wanted() != life.slot {
            return self.terminate(Then::Next);
        }
        if self.retry_due(life).is_some_and(|at| at <= now) {
            return self.ask_retry();
        }
        if self.deadline(life).is_none_or(|at| now < at) {
            return;
        }
        let silent = life.alive.is_some_and(|alive| alive + SILENCE_MAX <= now);
        match self.proof(life) {
            _ if silent => self.hung(life, "it says nothing any more"),
            Some(Some(_)) => self.confirm(),
            Some(None) => {
                let within = span(self.policy.trial);
                match (life.ready, life.losses) {
                    (None, _) => self.roll_back(&format!("it did not become ready within {within}")),
                    (Some(_), 0) => self.put_off(&format!("it did not connect within {within}")),
                    (Some(_), _) => self.put_off(&format!("it did not stay connected within {within}")),
                }
                self.terminate(Then::Next);
            }
            None => self.hung(life, "it does not become ready"),
        }
    }

    /// When something is to be decided about a daemon that runs.
    fn deadline(&self, life: &Life) -> Option<Millis> {
        let silent = life.alive.map(|alive| alive + SILENCE_MAX);
        let other = match self.proof(life) {
            Some(Some(since)) => Some(since + self.policy.soak),
            Some(None) => self.trial_until,
            None if life.ready.is_none() => Some(life.born + self.policy.trial),
            None => None,
        };
        silent.into_iter().chain(other).min()
    }

    /// Since when a version on trial has what proves it; none when it is not on trial.
    fn proof(&self, life: &Life) -> Option<Option<Millis>> {
        let trial = self.marker.trial.as_ref().filter(|trial| trial.to == life.slot)?;
        Some(match trial.proof {
            Proof::Polled => life.online,
            Proof::Ready => life.ready,
        })
    }

    /// What should run.
    fn wanted(&self) -> Slot {
        self.marker.trial.as_ref().map_or(&self.marker.current, |trial| &trial.to).clone()
    }

    fn hung(&mut self, life: &Life, why: &str) {
        self.out.actions.push(Action::Note(Note::Hung { slot: life.slot.clone(), why: why.to_owned() }));
        self.terminate(Then::Failed(why.to_owned()));
    }

    /// Asks the daemon to end when its work is done.
    pub(super) fn end(&mut self) {
        self.end_within(self.policy.finish);
    }

    /// The package's program was replaced: this supervisor follows it once the daemon has ended.
    pub(super) fn hand_over(&mut self) {
        self.handover = Handover::Asked;
        self.end_within(self.policy.finish.max(PACKAGE_FINISH_MIN));
    }

    fn end_within(&mut self, finish: Millis) {
        if finish == Millis::ZERO {
            return self.terminate(Then::Next);
        }
        if let Child::Running(life) = &self.child {
            let next_at = self.now.awake + finish;
            self.child =
                Child::Ending(Ending { slot: life.slot.clone(), stage: Stage::Asked, next_at, then: Then::Next });
            self.out.actions.push(Action::End);
        }
    }

    pub(super) fn terminate(&mut self, then: Then) {
        let slot = match &self.child {
            Child::None { .. } => return,
            Child::Running(life) => life.slot.clone(),
            Child::Ending(ending) => ending.slot.clone(),
        };
        let next_at = self.now.awake + self.policy.stop;
        self.child = Child::Ending(Ending { slot, stage: Stage::Terminated, next_at, then });
        self.out.actions.push(Action::Terminate);
    }

    fn escalate(&mut self) {
        let next_at = self.now.awake + self.policy.stop;
        let Child::Ending(ending) = &mut self.child else { return };
        ending.next_at = next_at;
        let (stage, action) = match ending.stage {
            Stage::Asked => (Stage::Terminated, Action::Terminate),
            Stage::Terminated | Stage::Killed => (Stage::Killed, Action::Kill),
        };
        ending.stage = stage;
        self.out.actions.push(action);
    }

    fn quit(&mut self, code: i32) {
        self.has_quit = true;
        self.out.actions.push(Action::Quit(code));
    }

    pub(super) fn is_on_trial(&self, slot: &Slot) -> bool {
        self.marker.trial.as_ref().is_some_and(|trial| trial.to == *slot)
    }

    fn next_wake(&self) -> Option<Millis> {
        let child = match &self.child {
            Child::None { .. } if self.handover == Handover::Begun => None,
            Child::None { start_at } => Some(*start_at),
            Child::Running(life) => self.deadline(life).into_iter().chain(self.retry_due(life)).min(),
            Child::Ending(ending) => Some(ending.next_at),
        };
        let write = (!self.written).then_some(self.write_at);
        child.into_iter().chain(write).min()
    }
}

/// A span as people read it.
pub(super) fn span(span: Millis) -> String {
    sloth_core::config::Span::new(span).to_string()
}
