//! Rollouts: how operators begin and steer them. What happens next is the planner's to say, in [`crate::rollout`].

mod agents;
mod contacts;
mod drive;
mod evidence;
mod record;
mod view;

use std::collections::BTreeMap;

pub(super) use contacts::{Contacts, Left};
pub(super) use drive::Haste;
pub(super) use evidence::Evidence;
pub use record::{Before, ReleaseName, RolloutHost, RolloutOrder, RolloutRecord};
use sloth_core::{AgentId, Millis, RolloutId, RunId, Selector, excerpt};
use sloth_trust::BundleName;

use super::{
    Durable, Reply, Write,
    catalog::{check_workflow, no_bundle},
    dispatch::plain_values,
    machine::Coordinator,
    registry::invalid,
    views::matches,
};
use crate::{
    rollout::{Cuts, Reason, Spec, Standing},
    wire::{
        OnHalt, Passing, Refusal, RefusalCode, Resume, RolloutAction, RolloutAgent, RolloutBundle, RolloutRequest,
        RolloutResponse, RolloutSpec, RolloutStatus, RolloutSubject, RolloutWhat,
    },
};

/// Most rollouts that are not over.
pub const ROLLOUTS_LIVE_MAX: usize = 64;
/// Most rollouts that can be looked at; of those that are over, the oldest goes first.
pub const ROLLOUTS_MAX: usize = 512;

/// Something that a rollout did by itself or was made to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutNote {
    /// What it is called.
    pub rollout: String,
    /// What, as one word for programs.
    pub what: &'static str,
    /// What, for people.
    pub text: String,
}

impl RolloutNote {
    /// An operator began it or changed how it stands.
    pub const ORDERED: &'static str = "ordered";
    /// A wave begins.
    pub const WAVE: &'static str = "wave";
    /// Hosts were assigned, or sent back.
    pub const HOSTS: &'static str = "hosts";
    /// It halted.
    pub const HALTED: &'static str = "halted";
    /// It is done, or has gone back.
    pub const DONE: &'static str = "done";
}

/// What is known of rollouts beside what is on the disk, and found again from it.
#[derive(Debug)]
pub(super) struct Rollouts {
    /// Those that are not over.
    live: BTreeMap<RolloutId, Live>,
    /// Whose each run is.
    runs: BTreeMap<RunId, RolloutId>,
    pub(super) contacts: Contacts,
}

#[derive(Debug)]
struct Live {
    spec: Spec,
    cuts: Cuts,
    /// When it was planned last.
    planned: Option<Millis>,
    /// When it is planned next.
    due: Option<Millis>,
    /// Why it waits, as of then.
    reasons: Vec<Reason>,
}

/// A specification that can be carried out.
struct Checked {
    spec: Spec,
    cuts: Cuts,
    what: What,
}

/// What a rollout would bring.
struct What {
    subject: RolloutSubject,
    release: ReleaseName,
    before: Option<Before>,
    /// The values of a bundle, as they are kept.
    values: Option<String>,
}

impl Rollouts {
    /// What is on the disk, read.
    ///
    /// # Errors
    ///
    /// When a specification there makes no sense: the store was damaged.
    pub(super) fn restore(state: &Durable, now: Millis) -> Result<Self, Refusal> {
        let mut rollouts = Self { live: BTreeMap::new(), runs: BTreeMap::new(), contacts: Contacts::new(now) };
        for (id, record) in state.rollouts.iter().filter(|(_, record)| record.is_live()) {
            let spec = Spec::new(&record.spec).map_err(|error| invalid(&error.to_string()))?;
            let cuts = Cuts::settled(record.salt, record.cuts.clone());
            rollouts.live.insert(*id, Live::new(spec, cuts));
            let rows = state.rollout_hosts.get(id).into_iter().flat_map(BTreeMap::values);
            rollouts.runs.extend(rows.filter_map(|row| row.order.run()).chain(record.run).map(|run| (run, *id)));
        }
        Ok(rollouts)
    }
}

impl Live {
    const fn new(spec: Spec, cuts: Cuts) -> Self {
        Self { spec, cuts, planned: None, due: None, reasons: Vec::new() }
    }
}

impl Coordinator {
    /// Answers a question or an order about rollouts.
    pub(super) fn rollout(&mut self, operator: &str, request: RolloutRequest) -> Result<Reply, Refusal> {
        let response = match request {
            RolloutRequest::Create(spec) => self.create_rollout(operator, spec)?,
            RolloutRequest::Plan { spec, after } => RolloutResponse::Plan(self.foresee(&spec, after)?),
            RolloutRequest::List => RolloutResponse::Rollouts(self.rollout_summaries()),
            RolloutRequest::Show(name) => self.shown(self.find_rollout(&name)?)?,
            RolloutRequest::Hosts { name, after } => {
                RolloutResponse::Hosts(self.rollout_page(self.find_rollout(&name)?, after))
            }
            RolloutRequest::Act { name, action } => {
                let id = self.find_rollout(&name)?;
                self.act(id, action)?;
                self.drive(id);
                self.shown(id)?
            }
        };
        Ok(Reply::Rollout(Box::new(response)))
    }

    /// A release was published: a rollout that halted may have waited for it to go back.
    pub(super) fn rollouts_look_at(&mut self, subject: &RolloutSubject) {
        let waits = |record: &RolloutRecord| {
            record.subject == *subject
                && record.status == RolloutStatus::Halted
                && record.spec.on_halt == OnHalt::RollBack
        };
        let waiting = self.state.rollouts.iter().filter(|(_, record)| waits(record));
        let waiting: Vec<RolloutId> = waiting.map(|(id, _)| *id).collect();
        for id in waiting {
            if self.begin_return(id).is_ok() {
                self.stir(id, Haste::AtOnce);
            }
        }
    }

    /// Whether a rollout that is not over brings a release to hosts.
    pub(super) fn is_rolled_out(&self, is_of: impl Fn(&RolloutSubject) -> bool, counter: u64) -> bool {
        let live = self.state.rollouts.values().filter(|record| record.is_live() && is_of(&record.subject));
        let brings = |record: &RolloutRecord| {
            record.release.counter == counter || record.back.as_ref().is_some_and(|back| back.counter == counter)
        };
        live.into_iter().any(brings)
    }

    /// Takes hosts back, if there is a release to take them back to.
    pub(super) fn begin_return(&mut self, id: RolloutId) -> Result<(), String> {
        let Some(record) = self.state.rollouts.get(&id) else { return Ok(()) };
        let back = self.way_back(id, record)?;
        let (status, since) = (RolloutStatus::RollingBack, self.now);
        let text = goes_back(back.as_ref());
        let record = RolloutRecord { status, since, run: None, back, ..record.clone() };
        self.note_rollout(&record, RolloutNote::ORDERED, text);
        self.put_rollout(id, record);
        self.settle_returned(id);
        Ok(())
    }

    /// The release with which hosts would go back; nothing when all of them are back. Else what has to be done for there
    /// to be one.
    pub(super) fn way_back(&self, id: RolloutId, record: &RolloutRecord) -> Result<Option<ReleaseName>, String> {
        match &record.subject {
            RolloutSubject::Bundle(name) => self.bundles_way_back(name, record).map(Some),
            RolloutSubject::Agent(_) => self.agents_way_back(id, record),
        }
    }

    fn bundles_way_back(&self, name: &BundleName, record: &RolloutRecord) -> Result<ReleaseName, String> {
        let Some(before) = &record.before else {
            return Err(format!("nothing was released of `{name}` before this, so there is nothing to go back to"));
        };
        let releases = self.state.bundles.get(name).into_iter().flatten();
        let mut later = releases.filter(|(counter, _)| record.release.counter < **counter);
        let same = later.rfind(|(_, release)| release.metadata.manifest.digest == before.manifest);
        let Some((counter, release)) = same else {
            return Err(format!(
                "agents take no lower number: publish release {} of `{name}` again from its own files with `sloth-coord publish DIR --key FILE`, then `sloth-coord rollout rollback {}`",
                before.version, record.spec.name
            ));
        };
        let back = ReleaseName { counter: *counter, version: release.metadata.version.clone() };
        self.check_release(record, &back).map(|()| back)
    }

    fn shown(&self, id: RolloutId) -> Result<RolloutResponse, Refusal> {
        let view = self.rollout_view(id).ok_or_else(|| no_rollout(&id.to_string()))?;
        Ok(RolloutResponse::Rollout(Box::new(view)))
    }

    fn find_rollout(&self, name: &str) -> Result<RolloutId, Refusal> {
        let named = self
            .state
            .rollouts
            .iter()
            .rev()
            .find(|(id, record)| record.spec.name == name || id.to_string().eq_ignore_ascii_case(name));
        named.map(|(id, _)| *id).ok_or_else(|| no_rollout(name))
    }

    fn create_rollout(&mut self, operator: &str, spec: RolloutSpec) -> Result<RolloutResponse, Refusal> {
        if let Some((id, record)) = self.state.rollouts.iter().find(|(_, record)| record.spec.name == spec.name) {
            // Asked again because the answer was lost.
            if record.spec == spec && record.operator == operator && record.is_live() {
                return self.shown(*id);
            }
            let reason = format!("there is a rollout `{}` already: choose another `--name`", spec.name);
            return Err(Refusal::new(RefusalCode::Conflict, reason));
        }
        let checked = self.check_rollout(&spec)?;
        let Checked { spec: read, cuts, what: What { subject, release, before, values } } = checked;
        self.make_way(&subject)?;
        let mut spec = spec;
        if let (RolloutWhat::Bundle(bundle), Some(values)) = (&mut spec.what, values) {
            bundle.values = values;
        }
        let id = RolloutId::new(self.now, self.random.next_u128());
        let salt = Cuts::salt(&spec.name, &subject.to_string(), release.counter);
        let record = RolloutRecord {
            subject,
            release,
            before,
            back: None,
            salt,
            cuts: cuts.last().to_vec(),
            operator: operator.to_owned(),
            created: self.now,
            status: RolloutStatus::Running,
            since: self.now,
            halt: None,
            open: 0,
            approved: 0,
            passed: 0,
            attempt: 1,
            run: None,
            closing: None,
            spec,
        };
        self.note_rollout(&record, RolloutNote::ORDERED, format!("release {} begins", record.release.version));
        self.rollouts.live.insert(id, Live::new(read, cuts));
        self.put_rollout(id, record);
        self.drive(id);
        self.shown(id)
    }

    /// Whether a rollout could begin, and how.
    fn check_rollout(&self, spec: &RolloutSpec) -> Result<Checked, Refusal> {
        let read = Spec::new(spec).map_err(|error| invalid(&error.to_string()))?;
        let what = match &spec.what {
            RolloutWhat::Bundle(bundle) => self.check_bundle(bundle)?,
            RolloutWhat::Agent(agent) => self.check_agent(agent)?,
        };
        let cuts = self.settle_cuts(&read, &spec.name, &what)?;
        Ok(Checked { spec: read, cuts, what })
    }

    fn check_agent(&self, wanted: &RolloutAgent) -> Result<What, Refusal> {
        let Some(release) = self.agent_release(wanted) else {
            let (version, channel) = (excerpt(&wanted.version), wanted.channel.as_deref());
            let of = channel.map_or_else(String::new, |channel| format!(" in the channel `{}`", excerpt(channel)));
            let reason =
                format!("there is no release {version} of the agent{of}: `sloth-coord release list` shows them");
            return Err(Refusal::new(RefusalCode::NotFound, reason));
        };
        let subject = RolloutSubject::Agent(release.channel.clone());
        let release = ReleaseName { counter: release.counter, version: release.version.to_string() };
        self.check_agent_release(&release).map_err(|why| invalid(&why))?;
        Ok(What { subject, release, before: None, values: None })
    }

    fn check_bundle(&self, wanted: &RolloutBundle) -> Result<What, Refusal> {
        let RolloutBundle { name, version, workflow, values } = wanted;
        let (bundle, release) = self.newest_as_meant(name, version.as_deref())?;
        let metadata = &release.metadata;
        drive::check_metadata(metadata, self.now).map_err(|why| invalid(&why))?;
        check_workflow(release, workflow.as_deref())?;
        let values = plain_values(metadata, values)?;
        let releases = self.state.bundles.get(&bundle).into_iter().flatten();
        let before = releases.map(|(_, before)| &before.metadata).rfind(|before| before.counter < metadata.counter);
        let before = before.map(|before| Before { version: before.version.clone(), manifest: before.manifest.digest });
        let release = ReleaseName { counter: metadata.counter, version: metadata.version.clone() };
        Ok(What { subject: RolloutSubject::Bundle(bundle), release, before, values: Some(values) })
    }

    fn settle_cuts(&self, spec: &Spec, name: &str, what: &What) -> Result<Cuts, Refusal> {
        let is_matched = |selector: &Selector, id: AgentId| {
            self.state.agents.get(&id).is_some_and(|record| !record.revoked && matches(selector, id, record))
        };
        let hosts: Vec<AgentId> =
            self.state.agents.keys().copied().filter(|id| is_matched(&spec.selector, *id)).collect();
        if hosts.is_empty() {
            let selector = &spec.selector;
            let reason = format!("no agent matches `{selector}`: see `sloth-coord agents list`");
            return Err(Refusal::new(RefusalCode::NotFound, reason));
        }
        let salt = Cuts::salt(name, &what.subject.to_string(), what.release.counter);
        Ok(Cuts::settle(spec, salt, hosts.into_iter(), is_matched))
    }

    /// Makes way for a new rollout of something: those of it that are done give their place to it.
    fn make_way(&mut self, subject: &RolloutSubject) -> Result<(), Refusal> {
        let same = self.state.rollouts.iter().filter(|(_, record)| record.subject == *subject && record.is_live());
        let same: Vec<(RolloutId, RolloutStatus, String)> =
            same.map(|(id, record)| (*id, record.status, record.spec.name.clone())).collect();
        let is_done = |status| matches!(status, RolloutStatus::Complete | RolloutStatus::RolledBack);
        if let Some((_, _, name)) = same.iter().find(|(_, status, _)| !is_done(*status)) {
            let reason = format!(
                "rollout `{name}` of `{subject}` has not ended: `sloth-coord rollout show {name}`, or end it with `sloth-coord rollout abort {name}`"
            );
            return Err(Refusal::new(RefusalCode::Conflict, reason));
        }
        if ROLLOUTS_LIVE_MAX <= self.rollouts.live.len().saturating_sub(same.len()) {
            let reason =
                format!("{ROLLOUTS_LIVE_MAX} rollouts are not over: end some with `sloth-coord rollout abort`");
            return Err(Refusal::new(RefusalCode::TooLarge, reason));
        }
        for (id, _, _) in same {
            self.close(id, RolloutStatus::Superseded);
        }
        if ROLLOUTS_MAX <= self.state.rollouts.len()
            && let Some(oldest) = self.state.rollouts.iter().find(|(_, record)| !record.is_live()).map(|(id, _)| *id)
        {
            self.write(Write::DropRollout(oldest));
        }
        Ok(())
    }

    fn act(&mut self, id: RolloutId, action: RolloutAction) -> Result<(), Refusal> {
        let Some(record) = self.state.rollouts.get(&id).cloned() else { return Err(no_rollout(&id.to_string())) };
        let name = record.spec.name.clone();
        let status = record.status;
        let say = |what: &str| {
            let reason = format!("rollout `{name}` is {}, and cannot be {what}", status.name());
            Refusal::new(RefusalCode::Conflict, reason)
        };
        match (action, status) {
            (RolloutAction::Approve(passing), RolloutStatus::Running) => self.approve(id, record, passing),
            (RolloutAction::Pause, RolloutStatus::Running) => self.turn(id, record, RolloutStatus::Paused),
            (RolloutAction::Resume(Resume::Same), RolloutStatus::Paused) => {
                self.turn(id, record, RolloutStatus::Running);
            }
            (RolloutAction::Resume(Resume::Same), RolloutStatus::Halted) => {
                self.forgive(id, |standing| {
                    matches!(standing, Standing::Failed | Standing::Silent { .. } | Standing::Held { .. })
                });
                self.turn(id, record, RolloutStatus::Running);
            }
            (
                RolloutAction::Resume(Resume::Newest),
                RolloutStatus::Paused | RolloutStatus::Halted | RolloutStatus::RolledBack,
            ) => self.begin_anew(id, record)?,
            (RolloutAction::RollBack, RolloutStatus::RollingBack | RolloutStatus::RolledBack) => {}
            (
                RolloutAction::RollBack,
                RolloutStatus::Running | RolloutStatus::Paused | RolloutStatus::Halted | RolloutStatus::Complete,
            ) => {
                self.way_back(id, &record).map_err(|why| Refusal::new(RefusalCode::Conflict, why))?;
                self.withdraw_rollout(id);
                self.begin_return(id).map_err(|why| Refusal::new(RefusalCode::Conflict, why))?;
            }
            (RolloutAction::Abort, RolloutStatus::Aborted | RolloutStatus::Superseded) => {}
            (RolloutAction::Abort, _) => {
                self.withdraw_rollout(id);
                self.close(id, RolloutStatus::Aborted);
            }
            (RolloutAction::Approve(_), _) => return Err(say("approved")),
            (RolloutAction::Pause, _) => return Err(say("paused")),
            (RolloutAction::Resume(_), _) => return Err(say("resumed")),
            (RolloutAction::RollBack, _) => return Err(say("rolled back")),
        }
        Ok(())
    }

    fn approve(&mut self, id: RolloutId, record: RolloutRecord, passing: Passing) {
        let passed = match passing {
            Passing::Proven => record.passed,
            Passing::Unproven => record.open,
        };
        let record = RolloutRecord { approved: record.open + 1, passed, ..record };
        self.note_rollout(&record, RolloutNote::ORDERED, format!("wave {} may begin", record.open + 1));
        self.put_rollout(id, record);
    }

    fn turn(&mut self, id: RolloutId, record: RolloutRecord, status: RolloutStatus) {
        self.note_rollout(&record, RolloutNote::ORDERED, format!("{}, it was {}", status.name(), record.status.name()));
        self.put_rollout(id, RolloutRecord { status, since: self.now, ..record });
    }

    /// Forgets how some hosts stood, so that they are assigned again. What they were told before is withdrawn.
    fn forgive(&mut self, id: RolloutId, which: impl Fn(Standing) -> bool) {
        let rows = self.state.rollout_hosts.get(&id).into_iter().flatten();
        let chosen: Vec<(AgentId, RolloutOrder)> =
            rows.filter(|(_, row)| which(row.standing)).map(|(agent, row)| (*agent, row.order.clone())).collect();
        if chosen.is_empty() {
            return;
        }
        self.write(Write::DropRolloutHosts(id, chosen.iter().map(|(agent, _)| *agent).collect()));
        for (agent, order) in chosen {
            match order {
                RolloutOrder::Run(run) => {
                    let job = self.state.jobs.get(&run).and_then(|jobs| jobs.get(&agent)).copied();
                    if let Some(job) = job.filter(|job| !job.state.is_final()) {
                        self.cancel_job(run, agent, job);
                    }
                }
                RolloutOrder::Update { counter, generation, .. } => {
                    self.withdraw_order(agent, counter, generation);
                }
            }
        }
    }

    /// Begins again from the first wave, with the newest release.
    fn begin_anew(&mut self, id: RolloutId, record: RolloutRecord) -> Result<(), Refusal> {
        let release = match &record.subject {
            RolloutSubject::Bundle(name) => {
                let newest = self.newest(name).ok_or_else(|| no_bundle(name.as_str()))?;
                ReleaseName { counter: newest.metadata.counter, version: newest.metadata.version.clone() }
            }
            RolloutSubject::Agent(channel) => {
                self.newest_agent_release(channel).unwrap_or_else(|| record.release.clone())
            }
        };
        if release.counter <= record.release.counter {
            let (subject, version) = (&record.subject, &release.version);
            let reason = format!("there is no release of `{subject}` after {version}: publish the mended one first");
            return Err(Refusal::new(RefusalCode::Conflict, reason));
        }
        self.check_release(&record, &release).map_err(|why| invalid(&why))?;
        self.withdraw_rollout(id);
        self.forgive(id, |_| true);
        let text = format!("begins anew with release {}", release.version);
        let (status, since, attempt) = (RolloutStatus::Running, self.now, record.attempt + 1);
        let (open, approved, passed, run, halt, back) = (0, 0, 0, None, None, None);
        let record =
            RolloutRecord { status, since, attempt, open, approved, passed, run, halt, back, release, ..record };
        self.note_rollout(&record, RolloutNote::ORDERED, text);
        self.put_rollout(id, record);
        Ok(())
    }

    /// Ends a rollout. How its hosts stood is kept in numbers.
    fn close(&mut self, id: RolloutId, status: RolloutStatus) {
        let closing = Some(self.rollout_counts(id));
        let Some(record) = self.state.rollouts.get(&id) else { return };
        let record = RolloutRecord { status, since: self.now, run: None, closing, ..record.clone() };
        self.note_rollout(&record, RolloutNote::ORDERED, format!("{}, for good", status.name()));
        self.put_rollout(id, record);
        let hosts: Vec<AgentId> =
            self.state.rollout_hosts.get(&id).into_iter().flat_map(BTreeMap::keys).copied().collect();
        if !hosts.is_empty() {
            self.write(Write::DropRolloutHosts(id, hosts));
        }
        self.rollouts.live.remove(&id);
        self.rollouts.runs.retain(|_, rollout| *rollout != id);
    }
}

impl RolloutStatus {
    /// One word, or two.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Halted => "halted",
            Self::RollingBack => "rolling_back",
            Self::RolledBack => "rolled_back",
            Self::Complete => "complete",
            Self::Aborted => "aborted",
            Self::Superseded => "superseded",
        }
    }
}

/// Where a rollout goes back to.
pub(super) fn goes_back(back: Option<&ReleaseName>) -> String {
    back.map_or_else(
        || "every host that it changed runs its version before".to_owned(),
        |back| format!("goes back to release {}", back.version),
    )
}

fn no_rollout(name: &str) -> Refusal {
    let name = excerpt(name);
    let reason = format!("there is no rollout `{name}`: `sloth-coord rollout list` shows them all");
    Refusal::new(RefusalCode::NotFound, reason)
}
