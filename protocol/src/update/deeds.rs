//! What becomes of versions: how the marker changes.

use semver::Version;

use super::{
    Action, Marker, Note, Proof, Request, Slot, Supervisor, Trial, UpdateOutcome, Verdict,
    machine::{Awaiting, Child, Then, span},
};

/// To what the host may fall back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fallback {
    /// Only to a version that is not marked bad.
    Good,
    /// As the last resort also to the package's, whatever it is: what runs now cannot even be started.
    Any,
}

impl Supervisor {
    /// Takes note of the package's version. One that was changed is what a person wanted: whatever was said against it
    /// is forgotten, and a newer one than what runs, or an older one than the last package, is tried where there is
    /// something to go back to.
    pub(super) fn see_package(&mut self, packaged: &Version) {
        let before = std::mem::replace(&mut self.marker.packaged, packaged.clone());
        if before == *packaged {
            return;
        }
        self.marker.forget(packaged);
        let wins = |slot: &Slot| match slot {
            Slot::Packaged => true,
            Slot::Installed(version) => *packaged < before || version <= packaged,
        };
        self.marker.trial.take_if(|trial| wins(&trial.to));
        self.marker.put_off.take_if(|put_off| wins(&put_off.to));
        if !wins(&self.marker.current) {
            return;
        }
        if self.marker.current == Slot::Packaged {
            // The package that worked is gone.
            let Some(Slot::Installed(previous)) = &self.marker.previous else { return };
            if self.marker.bad(previous).is_some() {
                return;
            }
            self.marker.current = Slot::Installed(previous.clone());
            self.marker.previous = None;
        }
        let since = self.now.wall;
        self.marker.trial = Some(Trial { to: Slot::Packaged, proof: Proof::Ready, starts: 0, since });
    }

    /// Somebody asks for something.
    pub(super) fn asked(&mut self, request: Request, allowed: Result<(), String>) {
        let answer = match request {
            Request::Switch { version, proof } => match self.may_switch(&version, allowed) {
                Ok(()) => {
                    self.drop_put_off(&version);
                    let to = if version == self.marker.packaged { Slot::Packaged } else { Slot::Installed(version) };
                    self.marker.trial = Some(Trial { to, proof, starts: 0, since: self.now.wall });
                    self.awaiting = Awaiting::Switch;
                    self.to_write = true;
                    return;
                }
                Err(why) => Err(why),
            },
            Request::RollBack => self.roll_back_by_hand(),
            Request::Package if self.stopping => Err("the supervisor is about to end".to_owned()),
            Request::Package => {
                self.hand_over();
                Ok("the package's version is taken when what runs has ended".to_owned())
            }
            Request::Forget(version) => {
                let known = self.marker.forget(&version);
                self.to_write |= known;
                if known {
                    Ok(format!("version {version} may be tried again"))
                } else {
                    Err(format!("version {version} is not marked bad"))
                }
            }
            Request::Acknowledge(number) => {
                let last = self.marker.outcomes.last().map_or(0, |last| last.number);
                self.marker.acknowledged = self.marker.acknowledged.max(number.min(last));
                self.to_write = true;
                Ok("noted".to_owned())
            }
        };
        self.out.actions.push(Action::Answer(answer));
    }

    fn may_switch(&self, version: &Version, allowed: Result<(), String>) -> Result<(), String> {
        if self.stopping {
            return Err("the supervisor is about to end".to_owned());
        }
        if let Some(trial) = &self.marker.trial {
            let on_trial = self.marker.version(&trial.to);
            return Err(format!(
                "version {on_trial} is on trial: wait until that is over, or end it with `sloth-agent update rollback`"
            ));
        }
        if *version == self.marker.version(&self.marker.current) {
            return Err(format!("version {version} is the one that runs"));
        }
        if let Some(bad) = self.marker.bad(version) {
            return Err(format!(
                "version {version} is marked bad, since {}: `sloth-agent update forget-bad {version}` lets it be tried again",
                bad.reason
            ));
        }
        allowed
    }

    /// The switch is on the disk.
    pub(super) fn switch(&mut self) {
        let Some(trial) = &self.marker.trial else { return };
        let to = trial.to.clone();
        let within = span(self.policy.trial);
        let answer = format!("version {} is tried: it has {within} to prove itself", self.marker.version(&to));
        self.out.actions.push(Action::Answer(Ok(answer)));
        self.out.actions.push(Action::Note(Note::Switching { to }));
        self.trial_until = None;
        match &mut self.child {
            Child::None { start_at } => *start_at = self.now.awake,
            Child::Running(_) => self.end(),
            Child::Ending(_) => {}
        }
    }

    /// The switch is not on the disk, so it is none.
    pub(super) fn refuse_switch(&mut self, why: &str) {
        self.marker.trial = None;
        self.out
            .actions
            .push(Action::Answer(Err(format!("nothing was changed, for the marker cannot be written: {why}"))));
    }

    /// The start of the version on trial cannot be counted, so it is not started.
    pub(super) fn give_up(&mut self, why: &str) {
        let Some(trial) = self.marker.trial.take() else { return };
        let reason = format!("its start cannot be noted: {why}");
        self.decide(&self.marker.current.clone(), &trial.to, Verdict::RolledBack, &reason);
        self.launch(self.marker.current.clone());
    }

    /// The version on trial works.
    pub(super) fn confirm(&mut self) {
        let Some(trial) = self.marker.trial.take() else { return };
        let before = std::mem::replace(&mut self.marker.current, trial.to.clone());
        let reason = match trial.proof {
            Proof::Polled => format!("it was connected for {}", span(self.policy.soak)),
            Proof::Ready => format!("it was ready for {}", span(self.policy.soak)),
        };
        self.decide(&before, &trial.to, Verdict::Confirmed, &reason);
        self.marker.previous = Some(before);
    }

    /// The version on trial does not work. Whoever calls sees to it that it ends.
    pub(super) fn roll_back(&mut self, reason: &str) {
        let Some(trial) = self.marker.trial.take() else { return };
        let to = self.marker.version(&trial.to);
        // The same version from elsewhere is not at fault.
        if to != self.marker.version(&self.marker.current) {
            self.marker.mark_bad(to, reason, self.now.wall);
        }
        self.decide(&self.marker.current.clone(), &trial.to, Verdict::RolledBack, reason);
    }

    /// What runs does not work any more: the version before it takes its place, if there is one.
    pub(super) fn fall_back(&mut self, reason: &str, to: Fallback) -> bool {
        let failed = self.marker.current.clone();
        let version = self.marker.version(&failed);
        let candidates = [self.marker.previous.clone(), Some(Slot::Packaged)].into_iter().flatten();
        let good = |slot: &Slot| {
            let other = self.marker.version(slot);
            *slot != failed && self.marker.bad(&other).is_none() && (other != version || to == Fallback::Any)
        };
        let last = (to == Fallback::Any && failed != Slot::Packaged).then_some(Slot::Packaged);
        let Some(next) = candidates.into_iter().find(good).or(last) else { return false };
        // The same version from elsewhere is not at fault.
        if self.marker.version(&next) != version {
            self.marker.mark_bad(version, reason, self.now.wall);
        }
        self.decide(&next, &failed, Verdict::RolledBack, reason);
        self.marker.current = next;
        self.marker.previous = None;
        true
    }

    /// A start that ended as it was asked to says nothing about the version.
    pub(super) fn uncount(&mut self) {
        if let Some(trial) = &mut self.marker.trial {
            trial.starts = trial.starts.saturating_sub(1);
            self.to_write = true;
        }
    }

    /// Says which files are needed still.
    pub(super) fn keep(&mut self) {
        let Marker { current, previous, trial, put_off, .. } = &self.marker;
        let put_off = put_off.as_ref().map(|put_off| &put_off.to);
        let slots = [Some(current), previous.as_ref(), trial.as_ref().map(|trial| &trial.to), put_off];
        let installed = slots.into_iter().flatten().filter_map(|slot| match slot {
            Slot::Packaged => None,
            Slot::Installed(version) => Some(version.clone()),
        });
        let keep = installed.collect();
        self.out.actions.push(Action::Keep(keep));
    }

    fn roll_back_by_hand(&mut self) -> Result<String, String> {
        let reason = "it was rolled back by hand";
        if self.marker.trial.is_some() {
            self.roll_back(reason);
        } else if self.marker.put_off.is_some() {
            self.condemn(reason);
            let current = self.marker.version(&self.marker.current);
            return Ok(format!("version {current} runs"));
        } else if !self.fall_back(reason, Fallback::Good) {
            return Err("there is no other good version to go back to".to_owned());
        }
        let current = self.marker.version(&self.marker.current);
        if matches!(self.child, Child::Running(_)) {
            self.terminate(Then::Next);
        }
        Ok(format!("version {current} runs again"))
    }

    fn decide(&mut self, from: &Slot, to: &Slot, verdict: Verdict, reason: &str) {
        let log_tail = match verdict {
            Verdict::Confirmed => String::new(),
            Verdict::RolledBack => self.tail.text(),
        };
        self.marker.put_off.take_if(|put_off| put_off.to == *to);
        self.decide_with(log_tail, from, to, verdict, reason);
    }

    pub(super) fn decide_with(&mut self, log_tail: String, from: &Slot, to: &Slot, verdict: Verdict, reason: &str) {
        let (from, to) = (self.marker.version(from), self.marker.version(to));
        let note = Note::Decided { verdict, to: to.clone(), reason: reason.to_owned() };
        self.out.actions.push(Action::Note(note));
        let reason = reason.to_owned();
        self.marker.decide(UpdateOutcome { number: 0, from, to, verdict, reason, log_tail, at: self.now.wall });
        (self.failures, self.trial_until) = (0, None);
        (self.to_write, self.to_keep) = (true, true);
    }
}
