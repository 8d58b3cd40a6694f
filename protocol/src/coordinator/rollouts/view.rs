//! Rollouts as operators see them.

use sloth_core::{AgentId, RolloutId};

use super::{RolloutRecord, What, goes_back};
use crate::{
    coordinator::machine::Coordinator,
    rollout::{Host, picture},
    wire::{
        HostView, HostsPage, OnHalt, PAGE_ROWS_MAX, ReasonView, Refusal, RolloutPlan, RolloutSpec, RolloutStatus,
        RolloutSubject, RolloutSummary, RolloutView, WaveCounts, WaveView,
    },
};

impl Coordinator {
    /// How the hosts of a rollout stand, by wave.
    pub(in crate::coordinator) fn rollout_counts(&self, id: RolloutId) -> Vec<WaveCounts> {
        let Some(record) = self.state.rollouts.get(&id) else { return Vec::new() };
        let counted = || picture(self.now, record.spec.waves.len(), &self.rollout_hosts(id));
        record.closing.clone().unwrap_or_else(counted)
    }

    /// Every rollout in a line, newest first.
    #[must_use]
    pub fn rollout_summaries(&self) -> Vec<RolloutSummary> {
        let newest_first = self.state.rollouts.iter().rev();
        newest_first.map(|(id, record)| summary(*id, record, &self.rollout_counts(*id))).collect()
    }

    pub(super) fn rollout_view(&self, id: RolloutId) -> Option<RolloutView> {
        let record = self.state.rollouts.get(&id)?;
        let counts = self.rollout_counts(id);
        let summary = summary(id, record, &counts);
        let waves = waves(&record.spec, counts);
        let reasons = self.reasons(id, record);
        Some(RolloutView { summary, waves, reasons, spec: record.spec.clone(), attempt: record.attempt })
    }

    fn reasons(&self, id: RolloutId, record: &RolloutRecord) -> Vec<ReasonView> {
        let said = |code: &str, text: String| ReasonView { code: code.to_owned(), text };
        let live = self.rollouts.live.get(&id).into_iter().flat_map(|live| &live.reasons);
        let waits = live.map(|reason| said(reason.code(), reason.to_string()));
        if record.status != RolloutStatus::Halted {
            return waits.collect();
        }
        let halt = record.halt.iter().map(|halt| said(halt.code(), halt.to_string()));
        let way_out = match (record.spec.on_halt, self.way_back(id, record)) {
            (OnHalt::Stop, _) => {
                "`rollout resume` tries failed hosts again, `--newest` begins anew with the newest release, `rollout rollback` goes back, `rollout abort` ends it".to_owned()
            }
            (OnHalt::RollBack, Err(why)) => why,
            (OnHalt::RollBack, Ok(back)) => goes_back(back.as_ref()),
        };
        halt.chain([said("way_out", way_out)]).collect()
    }

    pub(super) fn rollout_page(&self, id: RolloutId, after: Option<AgentId>) -> HostsPage {
        let rows = self.state.rollout_hosts.get(&id);
        self.page(&self.rollout_hosts(id), after, |agent| {
            let Some(row) = rows.and_then(|rows| rows.get(&agent)) else { return <(String, String)>::default() };
            let run = row.order.run().map(|run| run.to_string()).unwrap_or_default();
            (run, self.update_reason(agent, row))
        })
    }

    /// Who would fall into which wave.
    pub(super) fn foresee(&self, spec: &RolloutSpec, after: Option<AgentId>) -> Result<RolloutPlan, Refusal> {
        let checked = self.check_rollout(spec)?;
        let hosts = self.hosts_of(&checked.spec, &checked.cuts, None);
        let counts = picture(self.now, spec.waves.len(), &hosts);
        let page = self.page(&hosts, after, |agent| (String::new(), self.foreseen(agent, &checked.what)));
        Ok(RolloutPlan { version: checked.what.release.version, waves: waves(spec, counts), page })
    }

    /// Why a host would be left as it is, if so.
    fn foreseen(&self, agent: AgentId, what: &What) -> String {
        let record = self.state.agents.get(&agent).filter(|_| matches!(what.subject, RolloutSubject::Agent(_)));
        let refusal = record.and_then(|record| self.cannot_take(record, what.release.counter));
        refusal.map_or_else(String::new, |refusal| refusal.reason)
    }

    /// Some of the hosts, with the run and the reason that `said` gives of each.
    fn page(&self, hosts: &[Host], after: Option<AgentId>, said: impl Fn(AgentId) -> (String, String)) -> HostsPage {
        let limit = usize::try_from(PAGE_ROWS_MAX).unwrap_or(usize::MAX);
        let is_after = |host: &&Host| after.is_none_or(|after| after < host.id);
        let name = |id: &AgentId| self.state.agents.get(id).map(|record| record.name.clone()).unwrap_or_default();
        let view = |host: &Host| {
            let (run, reason) = said(host.id);
            HostView {
                agent: host.id,
                name: name(&host.id),
                wave: u32::try_from(host.wave + 1).unwrap_or(u32::MAX),
                standing: host.standing.name().to_owned(),
                in_reach: host.contact.in_reach(self.now),
                run,
                reason,
            }
        };
        let mut hosts: Vec<HostView> = hosts.iter().filter(is_after).take(limit + 1).map(view).collect();
        let more = limit < hosts.len();
        hosts.truncate(limit);
        HostsPage { hosts, more }
    }
}

fn waves(spec: &RolloutSpec, counts: Vec<WaveCounts>) -> Vec<WaveView> {
    let waves = spec.waves.iter().zip(counts);
    waves.map(|(spec, counts)| WaveView { spec: spec.clone(), counts }).collect()
}

fn summary(id: RolloutId, record: &RolloutRecord, counts: &[WaveCounts]) -> RolloutSummary {
    let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    RolloutSummary {
        id,
        name: record.spec.name.clone(),
        subject: record.subject.clone(),
        version: record.release.version.clone(),
        counter: record.release.counter,
        selector: record.spec.selector.clone(),
        operator: record.operator.clone(),
        created: record.created,
        status: record.status,
        since: record.since,
        waves: small(record.spec.waves.len()),
        open: record.open,
        hosts: counts.iter().fold(WaveCounts::default(), WaveCounts::plus),
    }
}

impl WaveCounts {
    /// These hosts and those.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        Self {
            members: self.members + other.members,
            waiting: self.waiting + other.waiting,
            away: self.away + other.away,
            under_way: self.under_way + other.under_way,
            soaking: self.soaking + other.soaking,
            proven: self.proven + other.proven,
            failed: self.failed + other.failed,
            silent: self.silent + other.silent,
            returning: self.returning + other.returning,
            returned: self.returned + other.returned,
            not_returned: self.not_returned + other.not_returned,
            held: self.held + other.held,
        }
    }
}
