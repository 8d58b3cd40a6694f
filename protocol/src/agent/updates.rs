//! Updates of the agent itself: from an order to what became of it.
//!
//! ```text
//! order ──verify──▶ accepted ──fetch and try──▶ switched ──▶ confirmed
//!             │                   │                 │
//!             └─▶ held, refused ◀─┘                 └─▶ rolled back
//! ```
//!
//! What happens after the switch is the supervisor's: it says what came of it to the version that runs then, and the
//! record of it is made here, once.

use sloth_core::{Millis, RunId, backoff::full_jitter, error::Chain};
use sloth_trust::{
    Channel, Envelope, Inclusion, Refusal, ReleaseHost, Seen, TargetBinary, Triple, UpdateAssignment, Version,
};

use super::{
    Effect, FETCH_RETRY_BASE, FETCH_RETRY_CAP, FetchError, Note, Update, UpdateOutcome, UpdateRules, UpdateStage,
    Updates, Write, machine::Agent,
};
use crate::wire::{RecordBody, UpdateOrder, UpdateReport, UpdateVerdict};

/// What of an update is not durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LiveUpdate {
    /// Nothing was done for it since the start.
    New,
    /// Its binary is being brought in and tried.
    Fetching { attempts: u32 },
    /// Its binary will be asked for again.
    FetchLater { at: Millis, attempts: u32 },
    /// The supervisor is asked to start it: this process ends soon.
    HandingOver,
    /// The supervisor was asked to start it before this process began, and says what came of it.
    Waiting,
    /// It could not connect, and the supervisor will start it once more.
    PutOff,
}

/// What was checked of an update.
struct Accepted {
    update: Update,
    channel: Channel,
    seen: Seen,
}

/// Why an update is not begun.
struct Against {
    verdict: UpdateVerdict,
    reason: String,
}

impl Agent {
    /// The host's own word on updates from now on.
    pub fn hear_update_rules(&mut self, rules: UpdateRules) {
        self.config.updates.rules = rules;
    }

    /// Takes on the order to go to a release.
    ///
    /// # Errors
    ///
    /// Why it is left as if it had not come: nobody who may assign work said so.
    pub(super) fn take_update(&mut self, generation: u64, order: &UpdateOrder) -> Result<(), String> {
        let assigned = self.assigned_update(generation, order)?;
        match self.verify_update(&assigned, order) {
            Ok(accepted) => self.accept_update(accepted),
            Err(Against { verdict, reason }) => {
                self.note(Note::UpdateRefused { version: assigned.version.clone(), reason: reason.clone() });
                self.report_update(Some(assigned.counter), &assigned.version, verdict, reason);
            }
        }
        Ok(())
    }

    /// The binary is staged, or cannot be.
    pub(super) fn update_ready(&mut self, counter: u64, result: Result<(), FetchError>) {
        let Some(LiveUpdate::Fetching { attempts }) = self.live_update else { return };
        let Some(update) = self.state.update.clone().filter(|update| update.counter == counter) else { return };
        match result {
            // The host's window has closed meanwhile. What is staged is found again when it opens.
            Ok(()) if self.config.updates.rules.waits.is_some() => {
                self.live_update = Some(LiveUpdate::FetchLater { at: self.now, attempts });
            }
            Ok(()) => {
                let Update { version, .. } = update.clone();
                self.report_update(Some(counter), &version, UpdateVerdict::Staged, String::new());
                self.report_update(Some(counter), &version, UpdateVerdict::Switched, String::new());
                self.write(Write::PutUpdate(Update { stage: UpdateStage::Switched, ..update }));
                self.live_update = Some(LiveUpdate::HandingOver);
                // This process may end before it hears of anything that comes of it.
                self.effect(Effect::Switch { counter, version });
            }
            Err(FetchError::Later(_)) => {
                let wait = full_jitter(attempts, FETCH_RETRY_BASE, FETCH_RETRY_CAP, self.random.next_u64());
                self.live_update = Some(LiveUpdate::FetchLater { at: self.now + wait, attempts: attempts + 1 });
            }
            Err(FetchError::Never(reason)) => self.end_update(UpdateVerdict::Refused, reason),
        }
    }

    /// The supervisor does not hand over: the order ends.
    pub(super) fn update_failed(&mut self, counter: u64, verdict: UpdateVerdict, reason: String) {
        if self.state.update.as_ref().is_some_and(|update| update.counter == counter) {
            self.end_update(verdict, reason);
        }
    }

    /// The supervisor said what came of an update. It says so until it is told that this is on the disk.
    pub(super) fn update_outcome(&mut self, outcome: UpdateOutcome) {
        let number = outcome.number;
        self.effect(Effect::UpdateNoted { number });
        if number <= self.state.outcome {
            return;
        }
        self.write(Write::OutcomeTaken(number));
        let UpdateOutcome { from, to, verdict, reason, log_tail, .. } = outcome;
        let ordered = self.state.update.as_ref().filter(|update| update.version.to_string() == to);
        let counter = ordered.map(|update| update.counter);
        if counter.is_some() {
            self.forget_update();
        }
        let report = UpdateReport { counter, from, to, verdict, reason, log_tail };
        self.record(RunId::NIL, RecordBody::Update(report));
    }

    /// A connection is there: a supervisor that has said nothing of an update by now has nothing to say.
    pub(super) fn settle_update(&mut self) {
        let Some(update) = self.state.update.as_ref().filter(|_| self.live_update == Some(LiveUpdate::Waiting)) else {
            return;
        };
        // While the new version runs, it is on trial.
        if self.own_version().is_ok_and(|own| own != update.version) {
            let put_off = self.config.updates.rules.put_off.clone();
            if let Some((version, reason)) = put_off.filter(|(version, _)| *version == update.version) {
                self.report_update(Some(update.counter), &version, UpdateVerdict::Switched, reason);
                self.live_update = Some(LiveUpdate::PutOff);
                return;
            }
            let reason = "another version runs, and the supervisor does not say why".to_owned();
            self.end_update(UpdateVerdict::RolledBack, reason);
        }
    }

    /// The coordinator takes an order back. What the supervisor was asked for is its own to end.
    pub(super) fn cancel_update(&mut self, counter: u64) {
        let taken_back = |update: &&Update| update.counter == counter && update.stage != UpdateStage::Switched;
        if self.state.update.as_ref().is_some_and(|update| taken_back(&update)) {
            self.end_update(UpdateVerdict::Withdrawn, "it was taken back".to_owned());
        }
    }

    pub(super) fn retry_update(&mut self) {
        if let Some(LiveUpdate::FetchLater { at, .. }) = &mut self.live_update {
            *at = self.now;
        }
    }

    /// Does what is due.
    pub(super) fn advance_update(&mut self) {
        let (Some(live), Some(update)) = (self.live_update.clone(), self.state.update.clone()) else { return };
        if update.stage != UpdateStage::Switched && update.deadline <= self.coordinators_time() {
            let waited = self.config.updates.rules.waits.as_ref().map_or(String::new(), |why| format!(": {why}"));
            return self.end_update(UpdateVerdict::Held, format!("its deadline, {}, passed{waited}", update.deadline));
        }
        if self.config.updates.rules.waits.is_some() && update.stage == UpdateStage::Accepted {
            return;
        }
        match (live, update.stage) {
            (LiveUpdate::New, UpdateStage::Accepted) => self.fetch_update(update, 0),
            (LiveUpdate::FetchLater { at, attempts }, _) if at <= self.now => self.fetch_update(update, attempts),
            (LiveUpdate::New, UpdateStage::Switched) => self.live_update = Some(LiveUpdate::Waiting),
            (
                LiveUpdate::Fetching { .. }
                | LiveUpdate::FetchLater { .. }
                | LiveUpdate::HandingOver
                | LiveUpdate::Waiting
                | LiveUpdate::PutOff,
                _,
            ) => {}
        }
    }

    pub(super) fn update_wake(&self) -> Option<Millis> {
        let (live, update) = (self.live_update.as_ref()?, self.state.update.as_ref()?);
        let deadline = self.now + update.deadline.since(self.coordinators_time());
        match live {
            LiveUpdate::FetchLater { at, .. } if self.config.updates.rules.waits.is_none() => Some(deadline.min(*at)),
            LiveUpdate::New | LiveUpdate::Fetching { .. } | LiveUpdate::FetchLater { .. } => Some(deadline),
            LiveUpdate::HandingOver | LiveUpdate::Waiting | LiveUpdate::PutOff => None,
        }
    }

    /// Whether the connection is needed to bring a binary in.
    pub(super) fn fetches_update(&self) -> bool {
        matches!(self.live_update, Some(LiveUpdate::Fetching { .. }))
    }

    fn assigned_update(&self, generation: u64, order: &UpdateOrder) -> Result<UpdateAssignment, String> {
        let against =
            |error: &dyn std::error::Error| format!("an update's assignment does not count: {}", Chain(error));
        let envelope = Envelope::decode(&order.assignment).map_err(|error| against(&error))?;
        self.trusted.assigned_update(&envelope, self.config.id, generation).map_err(|error| against(&error))
    }

    /// Checks the host's rules, the makers' signatures, the head and the assignment.
    fn verify_update(&self, assigned: &UpdateAssignment, order: &UpdateOrder) -> Result<Accepted, Against> {
        let rules = &self.config.updates.rules;
        if let Some(reason) = rules.against(&assigned.version) {
            return Err(Against { verdict: UpdateVerdict::Held, reason });
        }
        if self.state.update.as_ref().is_some_and(|update| update.stage == UpdateStage::Switched) {
            let reason = "another update is under way here".to_owned();
            return Err(Against { verdict: UpdateVerdict::Held, reason });
        }
        let refused = |reason: String| Against { verdict: UpdateVerdict::Refused, reason };
        let envelope = Envelope::decode(&order.metadata).map_err(|error| refused(Chain(&error).to_string()))?;
        let inclusion = Inclusion { index: order.index, path: order.path.clone() };
        let own = self.own_version().map_err(refused)?;
        let accepted = self.verify_release(assigned, &envelope, &inclusion, &own).map_err(|error| {
            let held = matches!(&error, Refusal::OtherChannel { .. });
            let verdict = if held { UpdateVerdict::Held } else { UpdateVerdict::Refused };
            Against { verdict, reason: Chain(&error).to_string() }
        })?;
        // Numbers keep a host from going back, and this one knows none yet: only its own version tells what is old.
        let to = &accepted.update.version;
        if *to < own && !self.state.releases.contains_key(&accepted.channel) {
            let reason = format!(
                "version {to} is older than {own}, which runs here, and this host has taken no release by order yet: install the older one by hand or by package"
            );
            return Err(refused(reason));
        }
        Ok(accepted)
    }

    fn verify_release(
        &self,
        assigned: &UpdateAssignment,
        envelope: &Envelope,
        inclusion: &Inclusion,
        own: &Version,
    ) -> Result<Accepted, Refusal> {
        let head = self.fresh_head()?;
        let (now, channel) = (head.time(self.wall()), self.config.updates.rules.channel.clone());
        let known = self.state.releases.get(&channel).copied();
        let release = self.trusted.accept_release(envelope, now, known, &channel)?;
        head.offers_release(&release, envelope, inclusion)?;
        let (target, protocol) = (&self.config.updates.target, self.session.proto());
        let binary = release.binary_for(ReleaseHost { target, version: own, protocol })?;
        assigned.fits(&release, binary, now)?;
        let TargetBinary { manifest, digest, length, deltas, .. } = binary.clone();
        let update = Update {
            counter: release.counter,
            version: release.version.clone(),
            manifest: manifest.digest,
            manifest_bytes: manifest.length,
            digest,
            length,
            deltas,
            deadline: assigned.deadline,
            stage: UpdateStage::Accepted,
        };
        Ok(Accepted { update, channel, seen: Seen::of_release(envelope, &release) })
    }

    fn accept_update(&mut self, accepted: Accepted) {
        let Accepted { update, channel, seen } = accepted;
        if self.state.releases.get(&channel) != Some(&seen) {
            self.write(Write::ReleaseSeen { channel, seen });
        }
        if let Some(before) = self.state.update.clone() {
            if before.counter == update.counter {
                return self.write(Write::PutUpdate(Update { deadline: update.deadline, ..before }));
            }
            self.end_update(UpdateVerdict::Refused, format!("the update to {} was ordered instead", update.version));
        }
        if self.own_version().is_ok_and(|own| own == update.version) {
            let reason = "it runs already".to_owned();
            return self.report_update(Some(update.counter), &update.version, UpdateVerdict::Confirmed, reason);
        }
        self.note(Note::UpdateAccepted { version: update.version.clone() });
        self.write(Write::PutUpdate(update));
        self.live_update = Some(LiveUpdate::New);
    }

    fn fetch_update(&mut self, update: Update, attempts: u32) {
        self.effect(Effect::Stage(Box::new(update)));
        self.live_update = Some(LiveUpdate::Fetching { attempts });
    }

    /// Ends the update that there is from this side.
    fn end_update(&mut self, verdict: UpdateVerdict, reason: String) {
        let Some(Update { counter, version, .. }) = self.state.update.clone() else { return };
        self.note(Note::UpdateRefused { version: version.clone(), reason: reason.clone() });
        self.report_update(Some(counter), &version, verdict, reason);
        self.effect(Effect::ForgetUpdate { counter });
        self.forget_update();
    }

    fn forget_update(&mut self) {
        self.write(Write::DropUpdate);
        self.live_update = None;
    }

    fn report_update(&mut self, counter: Option<u64>, to: &Version, verdict: UpdateVerdict, reason: String) {
        let (from, to) = (self.config.version.clone(), to.to_string());
        let report = UpdateReport { counter, from, to, verdict, reason, log_tail: String::new() };
        self.record(RunId::NIL, RecordBody::Update(report));
    }

    fn own_version(&self) -> Result<Version, String> {
        let own = &self.config.version;
        own.parse().map_err(|error| format!("this agent's own version, `{own}`, cannot be compared: {error}"))
    }
}

impl Default for Updates {
    /// What an agent of this platform does on a host that has nothing to say to updates.
    fn default() -> Self {
        Self { target: Triple::own(), rules: UpdateRules::default() }
    }
}

impl UpdateRules {
    /// Why the host does not want this version, if so.
    #[must_use]
    pub fn against(&self, version: &Version) -> Option<String> {
        if let Some(reason) = &self.held {
            return Some(reason.clone());
        }
        if let Some(pin) = self.pin.as_ref().filter(|pin| *pin != version) {
            return Some(format!("this host is pinned to version {pin}"));
        }
        let bad = || {
            format!("version {version} failed here before: `sloth-agent update forget-bad {version}` lets it try again")
        };
        self.bad.contains(version).then(bad)
    }
}
