//! Carries out what the planner says, and tells it what became of hosts.

use std::collections::BTreeMap;

use sloth_core::{AgentId, Millis, RolloutId, RunId};
use sloth_trust::{BundleMetadata, BundleName, Trigger};

use super::{ReleaseName, RolloutHost, RolloutNote, RolloutOrder, RolloutRecord, agents::Way};
use crate::{
    coordinator::{
        EXPIRY_GRACE, RUNS_ACTIVE_MAX, Run, WORK_WAITING_MAX, Write,
        machine::{Coordinator, Timer},
        views::matches,
    },
    rollout::{Cuts, Halt, Host, Plan, Presence, Progress, Reason, Situation, Spec, Standing, Verdict, plan},
    wire::{JobState, OnHalt, RolloutStatus, RolloutSubject, RolloutWhat},
};

/// Shortest pause between two plannings of a rollout, but after a failure.
const PLAN_PAUSE: Millis = Millis::from_u64(200);
/// So many agents make that pause a millisecond longer.
const AGENTS_PER_PAUSE_MS: u64 = 100;
/// Most hosts that one planning assigns; the others follow with the next.
pub(super) const ASSIGNED_AT_ONCE_MAX: usize = 2_000;
/// Verdicts that one planning follows; more are left to the next.
const VERDICTS_MAX: usize = 64;
/// Beside the time that hosts are given, a run takes on further hosts for this long.
const RUN_OPEN: Millis = Millis::from_secs(24 * 3600);

/// When a rollout is planned again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::coordinator) enum Haste {
    /// Before anything else is said to anybody.
    AtOnce,
    /// When the pause is over.
    Soon,
}

impl Coordinator {
    /// Plans a rollout again.
    pub(in crate::coordinator) fn stir(&mut self, id: RolloutId, haste: Haste) {
        let Some(live) = self.rollouts.live.get(&id) else { return };
        let agents = u64::try_from(self.state.agents.len()).unwrap_or(u64::MAX);
        let pause = PLAN_PAUSE + Millis::from_u64(agents / AGENTS_PER_PAUSE_MS);
        let at = match haste {
            Haste::AtOnce => self.now,
            Haste::Soon => live.planned.map_or(self.now, |planned| self.now.max(planned + pause)),
        };
        self.plan_at(id, at);
    }

    /// Plans every rollout again.
    pub(in crate::coordinator) fn stir_all(&mut self) {
        let live: Vec<RolloutId> = self.rollouts.live.keys().copied().collect();
        live.into_iter().for_each(|id| self.stir(id, Haste::Soon));
    }

    fn plan_at(&mut self, id: RolloutId, at: Millis) {
        let Some(live) = self.rollouts.live.get_mut(&id) else { return };
        if let Some(due) = live.due {
            if due <= at {
                return;
            }
            self.clear_timer(due, Timer::Rollout(id));
        }
        if let Some(live) = self.rollouts.live.get_mut(&id) {
            live.due = Some(at);
        }
        self.set_timer(at, Timer::Rollout(id));
    }

    /// Follows the planner until it has nothing more to say at this moment.
    pub(in crate::coordinator) fn drive(&mut self, id: RolloutId) {
        let Some(live) = self.rollouts.live.get_mut(&id) else { return };
        (live.planned, live.due) = (Some(self.now), None);
        let spec = live.spec.clone();
        let mut hosts = self.rollout_hosts(id);
        for _ in 0..VERDICTS_MAX {
            let Some(progress) = self.state.rollouts.get(&id).map(progress) else { return };
            let situation = Situation { now: self.now, spec: &spec, progress, hosts: &hosts };
            let Plan { verdict, wake_at } = plan(&situation);
            match verdict {
                Verdict::Settle(changes) => self.settle_hosts(id, &changes, &mut hosts),
                Verdict::Open { wave } => self.open_wave(id, wave),
                Verdict::Assign(chosen) => {
                    if !self.assign(id, &chosen, &mut hosts) {
                        return;
                    }
                }
                Verdict::RollBack(chosen) => {
                    if !self.send_back(id, &chosen, &mut hosts) {
                        return;
                    }
                }
                Verdict::Halt(halt) => {
                    self.halt(id, &halt);
                    hosts = self.rollout_hosts(id);
                }
                Verdict::Complete => self.complete(id),
                Verdict::Wait(reasons) => {
                    if let Some(at) = wake_at {
                        self.plan_at(id, at);
                    }
                    return self.waits(id, reasons);
                }
            }
        }
        self.stir(id, Haste::Soon);
    }

    /// Everybody that a rollout is for, as they stand.
    pub(in crate::coordinator) fn rollout_hosts(&self, id: RolloutId) -> Vec<Host> {
        let Some(live) = self.rollouts.live.get(&id) else { return Vec::new() };
        let rows = self.state.rollout_hosts.get(&id);
        let mut hosts = self.hosts_of(&live.spec, &live.cuts, rows);
        let subject = self.state.rollouts.get(&id).map(|record| &record.subject);
        if matches!(subject, Some(RolloutSubject::Agent(_))) {
            self.leave_updating_hosts(id, &mut hosts);
        }
        hosts
    }

    /// Everybody that a rollout like this is for. Those in `rows` stand as it says, the others wait.
    pub(super) fn hosts_of(
        &self,
        spec: &Spec,
        cuts: &Cuts,
        rows: Option<&BTreeMap<AgentId, RolloutHost>>,
    ) -> Vec<Host> {
        let agents = self.state.agents.iter().filter(|(_, record)| !record.revoked);
        let host = |(agent, record): (&AgentId, &_)| {
            let row = rows.and_then(|rows| rows.get(agent));
            if row.is_none() && !matches(&spec.selector, *agent, record) {
                return None;
            }
            let wave = row.map_or_else(
                || cuts.wave_of(spec, *agent, |selector| matches(selector, *agent, record)),
                |row| usize::try_from(row.wave).unwrap_or(0),
            );
            let contact = self.contact(*agent, row.map(|row| row.rhythm));
            let standing = row.map_or(Standing::Waiting, |row| row.standing);
            Some(Host { id: *agent, wave, place: cuts.place(*agent), standing, contact })
        };
        agents.filter_map(host).collect()
    }

    /// What is known of an agent's coming and going. One whose queue is full is out of reach.
    pub(super) fn contact(&self, agent: AgentId, noted: Option<Millis>) -> crate::rollout::Contact {
        let connected = self.present.get(&agent).is_some_and(|presence| presence.welcome);
        let presence = if connected { Presence::Connected } else { Presence::Gone };
        let mut contact = self.rollouts.contacts.of(agent, self.now, presence, noted);
        let full = self.state.work.get(&agent).is_some_and(|work| WORK_WAITING_MAX <= work.len());
        if full && noted.is_none() {
            (contact.presence, contact.heard) = (Presence::Gone, None);
        }
        contact
    }

    /// Whether a run takes on further hosts, so that it does not end though all of its jobs have.
    pub(in crate::coordinator) fn is_kept_open(&self, run: RunId) -> bool {
        let rollout = self.rollouts.runs.get(&run).and_then(|id| self.state.rollouts.get(id));
        let is_current = rollout.is_some_and(|rollout| rollout.run == Some(run));
        is_current && self.state.runs.get(&run).is_some_and(|run| !run.cancelled && self.now < run.deadline)
    }

    /// Puts how a rollout stands on the disk. A run that it names no longer may end.
    pub(super) fn put_rollout(&mut self, id: RolloutId, record: RolloutRecord) {
        let before = self.state.rollouts.get(&id).and_then(|before| before.run);
        let after = record.run;
        if let Some(run) = after {
            self.rollouts.runs.insert(run, id);
        }
        self.write(Write::PutRollout(id, Box::new(record)));
        if let Some(run) = before.filter(|run| Some(*run) != after) {
            self.settle_run(run);
        }
    }

    /// Stops assigning: what agents were not told is withdrawn, what they have not begun is cancelled. What runs goes
    /// on to its end, which is evidence.
    pub(super) fn withdraw_rollout(&mut self, id: RolloutId) {
        let rows = self.state.rollout_hosts.get(&id).into_iter().flatten();
        // One that is silent or late may begin when it is back.
        let may_begin = |standing| {
            matches!(standing, Standing::Assigned { .. } | Standing::Silent { succeeded: None, .. } | Standing::Failed)
        };
        let assigned = rows.filter(|(_, row)| may_begin(row.standing));
        let assigned: Vec<(AgentId, RolloutOrder)> = assigned.map(|(agent, row)| (*agent, row.order.clone())).collect();
        for (agent, order) in assigned {
            let run = match order {
                RolloutOrder::Run(run) => run,
                RolloutOrder::Update { counter, generation, .. } => {
                    self.withdraw_order(agent, counter, generation);
                    continue;
                }
            };
            let job = self.state.jobs.get(&run).and_then(|jobs| jobs.get(&agent)).copied();
            let Some(job) = job.filter(|job| job.state == JobState::Pending) else { continue };
            if self.told.get(&agent).copied().unwrap_or(0) < job.generation {
                self.write(Write::DropRolloutHosts(id, vec![agent]));
            }
            self.cancel_job(run, agent, job);
        }
    }

    fn settle_hosts(&mut self, id: RolloutId, changes: &[(AgentId, Standing)], hosts: &mut [Host]) {
        for (agent, standing) in changes {
            let row = self.state.rollout_hosts.get(&id).and_then(|rows| rows.get(agent)).cloned();
            if let Some(row) = row {
                self.write(Write::PutRolloutHost(id, *agent, RolloutHost { standing: *standing, ..row }));
            }
            if let Some(host) = place_of(hosts, *agent) {
                host.standing = *standing;
            }
        }
    }

    fn open_wave(&mut self, id: RolloutId, wave: usize) {
        let Some(record) = self.state.rollouts.get(&id) else { return };
        let open = u32::try_from(wave + 1).unwrap_or(u32::MAX);
        let record = RolloutRecord { open, run: None, ..record.clone() };
        self.note_rollout(&record, RolloutNote::WAVE, format!("wave {open} of {} begins", record.spec.waves.len()));
        self.put_rollout(id, record);
    }

    /// Gives hosts the release. False when the planning is to end here.
    fn assign(&mut self, id: RolloutId, chosen: &[AgentId], hosts: &mut [Host]) -> bool {
        let Some(record) = self.state.rollouts.get(&id).cloned() else { return false };
        if let Err(why) = self.check_release(&record, &record.release) {
            self.halt(id, &Halt::Release(why));
            return true;
        }
        match record.subject.clone() {
            RolloutSubject::Agent(_) => self.give_updates(id, &record, chosen, hosts, Way::Forward),
            RolloutSubject::Bundle(name) => {
                let release = record.release.clone();
                self.give_runs(id, record, (&name, &release), chosen, hosts, Standing::Assigned { at: self.now })
            }
        }
    }

    /// Gives hosts the release before. False when the planning is to end here.
    fn send_back(&mut self, id: RolloutId, chosen: &[AgentId], hosts: &mut [Host]) -> bool {
        let Some(record) = self.state.rollouts.get(&id).cloned() else { return false };
        let name = match &record.subject {
            RolloutSubject::Agent(_) => {
                if let Err(why) = self.way_back(id, &record) {
                    self.halt(id, &Halt::Release(why));
                    return true;
                }
                return self.give_updates(id, &record, chosen, hosts, Way::Back);
            }
            RolloutSubject::Bundle(name) => name.clone(),
        };
        let back = record.back.clone().ok_or_else(|| "there is no release to go back to".to_owned());
        match back.and_then(|back| self.check_release(&record, &back).map(|()| back)) {
            Ok(back) => self.give_runs(id, record, (&name, &back), chosen, hosts, Standing::Returning { at: self.now }),
            Err(why) => {
                self.halt(id, &Halt::Release(why));
                true
            }
        }
    }

    fn give_runs(
        &mut self,
        id: RolloutId,
        record: RolloutRecord,
        release: (&BundleName, &ReleaseName),
        chosen: &[AgentId],
        hosts: &mut [Host],
        standing: Standing,
    ) -> bool {
        let Some(run) = self.run_for(id, record, release) else {
            self.waits(id, vec![Reason::Busy]);
            self.plan_at(id, self.now + RUN_OPEN.min(EXPIRY_GRACE));
            return false;
        };
        let now_chosen: Vec<AgentId> = chosen.iter().copied().take(ASSIGNED_AT_ONCE_MAX).collect();
        for agent in &now_chosen {
            let Some(host) = place_of(hosts, *agent) else { continue };
            host.standing = standing;
            let wave = u32::try_from(host.wave).unwrap_or(u32::MAX);
            let row = RolloutHost { wave, standing, order: RolloutOrder::Run(run), rhythm: host.contact.rhythm };
            self.queue_job(run, *agent);
            self.write(Write::PutRolloutHost(id, *agent, row));
        }
        now_chosen.iter().for_each(|agent| self.offer(*agent));
        self.out.touched.insert(run);
        if let Some(record) = self.state.rollouts.get(&id).cloned() {
            let what = if matches!(standing, Standing::Returning { .. }) { "sent back" } else { "assigned" };
            self.note_rollout(&record, RolloutNote::HOSTS, format!("{what}: {} hosts, run {run}", now_chosen.len()));
        }
        if now_chosen.len() < chosen.len() {
            self.stir(id, Haste::Soon);
            return false;
        }
        true
    }

    /// The run that hosts are added to: the rollout's own while it has the time that hosts are given, else another.
    fn run_for(
        &mut self,
        id: RolloutId,
        record: RolloutRecord,
        (name, release): (&BundleName, &ReleaseName),
    ) -> Option<RunId> {
        let timeout = record.spec.timeout;
        let fits = |run: &Run| run.counter == release.counter && !run.cancelled && self.now + timeout <= run.deadline;
        if let Some(run) = record.run.filter(|run| self.state.runs.get(run).is_some_and(fits)) {
            return Some(run);
        }
        if RUNS_ACTIVE_MAX <= self.state.runs.len() {
            return None;
        }
        let RolloutWhat::Bundle(bundle) = &record.spec.what else { return None };
        let run = Run {
            bundle: name.clone(),
            version: release.version.clone(),
            counter: release.counter,
            workflow: bundle.workflow.clone(),
            selector: record.spec.selector.clone(),
            values: bundle.values.clone(),
            operator: format!("{} (rollout {})", record.operator, record.spec.name),
            created: self.now,
            deadline: self.now + timeout + RUN_OPEN,
            cancelled: false,
            ended: None,
        };
        let run_id = RunId::new(self.now, self.random.next_u128());
        self.set_timer(run.deadline + EXPIRY_GRACE, Timer::Deadline(run_id));
        self.write(Write::PutRun(run_id, Box::new(run)));
        self.put_rollout(id, RolloutRecord { run: Some(run_id), ..record });
        Some(run_id)
    }

    /// Whether publishers let rollouts assign a release, and in time.
    pub(super) fn check_release(&self, record: &RolloutRecord, release: &ReleaseName) -> Result<(), String> {
        let (RolloutWhat::Bundle(bundle), RolloutSubject::Bundle(name)) = (&record.spec.what, &record.subject) else {
            return self.check_agent_release(release);
        };
        let version = &release.version;
        let found = self.state.bundles.get(name).and_then(|releases| releases.get(&release.counter));
        let Some(found) = found else {
            return Err(format!(
                "release {version} of `{name}` counts no more: publish it again, and `rollout resume --newest`"
            ));
        };
        check_metadata(&found.metadata, self.now)?;
        if let Some(workflow) = bundle.workflow.as_ref().filter(|workflow| !found.workflows.contains(*workflow)) {
            return Err(format!("release {version} of `{name}` has no workflow `{workflow}`"));
        }
        let values = serde_json::from_str(&bundle.values).unwrap_or_default();
        let takes = found.metadata.takes(&values);
        takes.map_err(|refusal| format!("release {version}: {}", sloth_core::Chain(&refusal)))
    }

    /// Stops a rollout for a reason of its own.
    fn halt(&mut self, id: RolloutId, halt: &Halt) {
        let Some(record) = self.state.rollouts.get(&id) else { return };
        let record = RolloutRecord {
            status: RolloutStatus::Halted,
            since: self.now,
            run: None,
            halt: Some(halt.clone()),
            ..record.clone()
        };
        let goes_back = record.spec.on_halt == OnHalt::RollBack;
        self.note_rollout(&record, RolloutNote::HALTED, halt.to_string());
        self.put_rollout(id, record);
        self.withdraw_rollout(id);
        if goes_back {
            // What it takes may be published later.
            let _ = self.begin_return(id);
        }
    }

    fn complete(&mut self, id: RolloutId) {
        let Some(record) = self.state.rollouts.get(&id) else { return };
        let (status, text) = if record.status == RolloutStatus::RollingBack {
            (RolloutStatus::RolledBack, "every host in reach is back at the release before")
        } else {
            (RolloutStatus::Complete, "every host in reach has the release")
        };
        let record = RolloutRecord { status, since: self.now, run: None, ..record.clone() };
        self.note_rollout(&record, RolloutNote::DONE, text.to_owned());
        self.put_rollout(id, record);
    }

    fn waits(&mut self, id: RolloutId, reasons: Vec<Reason>) {
        if let Some(live) = self.rollouts.live.get_mut(&id) {
            live.reasons = reasons;
        }
    }

    pub(super) fn note_rollout(&mut self, record: &RolloutRecord, what: &'static str, text: String) {
        self.out.notes.push(RolloutNote { rollout: record.spec.name.clone(), what, text });
    }
}

/// Whether publishers let rollouts assign a release, and in time.
pub(super) fn check_metadata(metadata: &BundleMetadata, now: Millis) -> Result<(), String> {
    let (name, version) = (&metadata.name, &metadata.version);
    if !metadata.triggers.contains(&Trigger::Rollout) {
        return Err(format!(
            "the signature on release {version} of `{name}` does not let rollouts start it: publish it with the trigger `rollout`"
        ));
    }
    if metadata.expires <= now {
        return Err(format!(
            "the signature on release {version} of `{name}` expired on {}: publish it again, and `rollout resume --newest`",
            metadata.expires
        ));
    }
    Ok(())
}

const fn progress(record: &RolloutRecord) -> Progress {
    let RolloutRecord { status, open, approved, passed, .. } = record;
    Progress { status: *status, open: *open as usize, approved: *approved as usize, passed: *passed as usize }
}

/// Hosts are in the order of their ids.
pub(super) fn place_of(hosts: &mut [Host], agent: AgentId) -> Option<&mut Host> {
    let place = hosts.binary_search_by_key(&agent, |host| host.id).ok()?;
    hosts.get_mut(place)
}
