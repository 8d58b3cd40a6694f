//! A version on trial that is ready and does not connect: it is at fault, or the coordinator is out of reach.
//!
//! The version before tells which: it takes the place of the new one, and once it is connected for a soak the new one is
//! put on trial again. Only a version that failed twice so, with the one before it connected soon after, is marked bad.

use semver::Version;
use sloth_core::Millis;

use super::{
    AGAINST_MAX, Action, Note, Proof, PutOff, RETRY_HELD, ROUNDS_MAX, Supervisor, Trial, Verdict,
    machine::{Child, Handover, Life},
    marker::cut,
};

impl Supervisor {
    /// The version on trial did not connect in time. Whoever calls sees to it that it ends.
    pub(super) fn put_off(&mut self, reason: &str) {
        let Some(Trial { to, since, .. }) = self.marker.trial.take() else { return };
        let before = self.marker.put_off.take().filter(|before| before.to == to);
        let (rounds, against) = before.map_or((0, 0), |before| (before.rounds, before.against));
        self.out.actions.push(Action::Note(Note::PutOff { to: to.clone(), reason: reason.to_owned() }));
        let (rounds, log_tail) = (rounds.saturating_add(1), self.tail.text());
        self.marker.put_off = Some(PutOff { to, rounds, against, reason: cut(reason), log_tail, since });
        // Longer than that is not soon: the network may have come back meanwhile.
        let soon = Millis::from_u64(self.policy.trial.as_u64() / 2);
        self.compare_until = Some(self.now.awake + self.policy.stop + soon);
        (self.failures, self.trial_until) = (0, None);
        self.to_write = true;
    }

    /// A daemon is connected.
    pub(super) fn compare(&mut self) {
        let is_current = self.marker.trial.is_none();
        let Some(until) = self.compare_until.take_if(|_| is_current) else { return };
        let now = self.now.awake;
        let Some(put_off) = self.marker.put_off.as_mut().filter(|_| now <= until) else { return };
        put_off.against = put_off.against.saturating_add(1);
        self.to_write = true;
        if AGAINST_MAX <= put_off.against {
            let reason = format!("{}, {} times, and each time", put_off.reason, put_off.rounds);
            let current = self.marker.version(&self.marker.current);
            self.condemn(&format!("{reason} version {current} then did"));
        }
    }

    /// When it is time to ask for what was put off; none while the current version is not connected.
    pub(super) fn retry_due(&self, life: &Life) -> Option<Millis> {
        let is_quiet = self.marker.trial.is_none() && !self.stopping && self.handover == Handover::No;
        let online = life.online.filter(|_| is_quiet && self.marker.put_off.is_some())?;
        Some((online + self.policy.soak).max(self.retry_at))
    }

    /// The coordinator can be reached: what was put off is tried again, or given up.
    pub(super) fn ask_retry(&mut self) {
        let Some(put_off) = &self.marker.put_off else { return };
        if ROUNDS_MAX <= put_off.rounds {
            let reason = format!("{}, {} times, and the network may be at fault", put_off.reason, put_off.rounds);
            return self.give_up_put_off(&reason);
        }
        let version = self.marker.version(&put_off.to);
        self.retry_at = self.now.awake + RETRY_HELD;
        self.out.actions.push(Action::Retry(version));
    }

    /// What the host's rules say to that.
    pub(super) fn retry(&mut self, allowed: Result<(), String>) {
        let is_quiet = self.marker.trial.is_none() && !self.stopping && self.handover == Handover::No;
        let (Ok(()), true, Child::Running(_)) = (allowed, is_quiet, &self.child) else { return };
        let Some(to) = self.marker.put_off.as_ref().map(|put_off| put_off.to.clone()) else { return };
        self.marker.trial = Some(Trial { to: to.clone(), proof: Proof::Polled, starts: 0, since: self.now.wall });
        (self.trial_until, self.compare_until, self.retry_at) = (None, None, Millis::ZERO);
        self.to_write = true;
        self.out.actions.push(Action::Note(Note::Switching { to }));
        self.end();
    }

    /// What was put off does not work.
    pub(super) fn condemn(&mut self, reason: &str) {
        let Some(to) = self.marker.put_off.as_ref().map(|put_off| self.marker.version(&put_off.to)) else { return };
        // The same version from elsewhere is not at fault.
        if to != self.marker.version(&self.marker.current) {
            self.marker.mark_bad(to, reason, self.now.wall);
        }
        self.give_up_put_off(reason);
    }

    /// A person or the coordinator wants `version` to be tried.
    pub(super) fn drop_put_off(&mut self, version: &Version) {
        let Some(put_off) = &self.marker.put_off else { return };
        if self.marker.version(&put_off.to) == *version {
            // It begins anew.
            self.marker.put_off = None;
        } else {
            let reason = format!("{}, and version {version} was asked for instead", put_off.reason);
            self.give_up_put_off(&reason);
        }
    }

    fn give_up_put_off(&mut self, reason: &str) {
        let Some(PutOff { to, log_tail, .. }) = self.marker.put_off.take() else { return };
        self.compare_until = None;
        self.decide_with(log_tail, &self.marker.current.clone(), &to, Verdict::RolledBack, reason);
    }
}
