//! Updates of agents: what stands for the driver, and for the supervisor, which outlives every process of its agent.

use std::collections::BTreeSet;

use sloth_core::AgentId;
use sloth_protocol::{
    agent::{Event, FetchError, UpdateOutcome},
    wire::UpdateVerdict,
};

use super::{
    Bug, Happening, Sim,
    invariants::{self, Check},
    publisher::publisher,
};

/// The version that hosts are installed with.
pub(super) const INSTALLED: &str = "0.1.0";
/// Longest that a binary takes.
const FETCH_MS: u64 = 20_000;
/// Longest that a trial takes.
const TRIAL_MS: u64 = 30_000;
/// Longest that one takes of a version that hangs.
const HANG_MS: u64 = 30 * 60_000;
/// Longest that a version works that is given up.
const WORKS_MS: u64 = 5 * 60_000;

/// A host's supervisor.
#[derive(Debug)]
pub(super) struct Supervisor {
    /// The version that runs.
    pub runs: String,
    /// What it has to say until it hears that this is stored.
    pub outcomes: Vec<UpdateOutcome>,
    /// The number of its last outcome.
    last: u64,
    /// The versions that were ever confirmed here, the one that was installed among them.
    confirmed: BTreeSet<String>,
}

impl Default for Supervisor {
    fn default() -> Self {
        let confirmed = [INSTALLED.to_owned()].into();
        Self { runs: INSTALLED.to_owned(), outcomes: Vec::new(), last: 0, confirmed }
    }
}

impl Supervisor {
    /// Whether the release with this number ever proved itself here.
    pub(super) fn has_confirmed(&self, counter: u64) -> bool {
        let release = publisher().agent_releases.iter().find(|(_, release)| release.counter == counter);
        release.is_some_and(|(_, release)| self.confirmed.contains(&release.version.to_string()))
    }
}

impl Sim {
    /// A binary is brought in, or its download fails.
    pub(super) fn stage_update(&mut self, index: usize, counter: u64) {
        let connected = self.hosts[index].link.is_some_and(|(_, conn)| self.is_alive(conn));
        let lucky = connected && !self.chance(self.faults().loss);
        let result = if lucky { Ok(()) } else { Err(FetchError::Later("no connection".to_owned())) };
        self.tell_later(index, FETCH_MS, Event::UpdateReady { counter, result });
    }

    /// The supervisor ends this process, tries the version, and goes on with it or with the one before.
    pub(super) fn switch_update(&mut self, index: usize, counter: u64, to: &str) -> Check {
        let host = &self.hosts[index];
        let update = host.disk.state.update.as_ref();
        invariants::updates_only_to_what_was_signed_and_assigned(host.id, counter, update, &self.center.witness)?;
        let fate = self.random.below(12);
        if fate == 0 {
            let (verdict, reason) = (UpdateVerdict::Held, "updates are held".to_owned());
            self.tell_later(index, 10, Event::UpdateFailed { counter, verdict, reason });
            return Ok(());
        }
        let to = if self.bug == Some(Bug::StartAnother) { "0.9.0" } else { to };
        let works = 4 < fate;
        let supervisor = &mut self.hosts[index].supervisor;
        let from = supervisor.runs.clone();
        if works {
            to.clone_into(&mut supervisor.runs);
            supervisor.confirmed.insert(to.to_owned());
        }
        let lies = self.bug == Some(Bug::ConfirmWhatFailed);
        let verdict = if works || lies { UpdateVerdict::Confirmed } else { UpdateVerdict::RolledBack };
        self.decide(index, &from, to, verdict, "it did not connect");
        self.tally.updates += u64::from(works);
        self.tally.rolled_back_updates += u64::from(!works);
        // One that hangs is silent for long before it is given up.
        let trial = if fate == 4 { HANG_MS } else { TRIAL_MS };
        let down = 1 + self.random.below(trial);
        self.crash_host(index, down);
        if fate == 11 {
            let wait = down + self.random.below(WORKS_MS);
            self.after(wait, Happening::GiveUp { host: index, from, version: to.to_owned() });
        }
        Ok(())
    }

    /// A version that worked for a while does not work any more: the supervisor goes back.
    pub(super) fn give_up_version(&mut self, index: usize, from: String, version: &str) {
        if self.hosts[index].supervisor.runs != version || from == *version {
            return;
        }
        self.tally.given_up_updates += 1;
        self.decide(index, &from, version, UpdateVerdict::RolledBack, "it ended again and again");
        self.hosts[index].supervisor.runs = from;
        let down = 1 + self.random.below(TRIAL_MS);
        self.crash_host(index, down);
    }

    fn decide(&mut self, index: usize, from: &str, to: &str, verdict: UpdateVerdict, why: &str) {
        let supervisor = &mut self.hosts[index].supervisor;
        supervisor.last += 1;
        let reason = if verdict == UpdateVerdict::Confirmed { String::new() } else { why.to_owned() };
        let (from, to, log_tail) = (from.to_owned(), to.to_owned(), String::new());
        supervisor.outcomes.push(UpdateOutcome { number: supervisor.last, from, to, verdict, reason, log_tail });
    }

    /// What the supervisor has to say to a process that has just begun.
    pub(super) fn tell_outcomes(&mut self, index: usize) {
        for outcome in self.hosts[index].supervisor.outcomes.clone() {
            self.tell_later(index, 2_000, Event::UpdateOutcome(outcome));
        }
    }

    fn tell_later(&mut self, host: usize, within: u64, event: Event) {
        let (life, wait) = (self.hosts[host].life, 1 + self.random.below(within));
        self.after(wait, Happening::Local { host, life, event: Box::new(event) });
    }

    /// In the end no host runs a version that it was not ordered to, unless it was installed with it.
    pub(super) fn check_versions(&self) -> Check {
        for host in &self.hosts {
            let ordered = |agent: AgentId| {
                let releases = publisher()
                    .agent_releases
                    .iter()
                    .filter(|(_, release)| release.version.to_string() == host.supervisor.runs);
                let mut counters = releases.map(|(_, release)| release.counter);
                counters.any(|counter| self.center.witness.updates.contains(&(agent, counter)))
            };
            let known = host.supervisor.runs == INSTALLED || host.id.is_some_and(ordered);
            invariants::runs_a_version_that_was_ordered(known, &host.supervisor.runs)?;
        }
        Ok(())
    }
}
