//! Agents as operators see them.

use std::{collections::BTreeMap, ops::Bound};

use sloth_core::{AgentId, Selector, labels::Subject};

use super::{AgentRecord, Job, Reply, machine::Coordinator, registry::invalid};
use crate::wire::{AgentView, AgentsPage, Dropped, PAGE_ROWS_MAX, Refusal};

impl Coordinator {
    pub(super) fn agents(&self, selector: &str, after: Option<AgentId>) -> Result<Reply, Refusal> {
        let selector = selector.parse::<Selector>().map_err(|error| invalid(&error.to_string()))?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let limit = usize::try_from(PAGE_ROWS_MAX).unwrap_or(usize::MAX);
        let range = self.state.agents.range((from, Bound::Unbounded));
        let matching = range.filter(|(id, agent)| matches(&selector, **id, agent));
        let mut agents = matching.take(limit + 1).map(|(id, _)| self.agent_view(*id)).collect::<Result<Vec<_>, _>>()?;
        let more = limit < agents.len();
        agents.truncate(limit);
        Ok(Reply::Agents(AgentsPage { agents, more }))
    }

    pub(super) fn agent_view(&self, id: AgentId) -> Result<AgentView, Refusal> {
        let record = self.state.agents.get(&id).ok_or_else(|| invalid("the agent is not known"))?;
        let mut labels = record.enrolled_labels.clone();
        labels.extend(record.host_labels.clone());
        let inbox = self.state.inboxes.get(&id).copied().unwrap_or_default();
        let [results, logs] = inbox.map(|lane| lane.dropped);
        let connected = self.present.contains_key(&id);
        let open = |jobs: &BTreeMap<AgentId, Job>| jobs.get(&id).is_some_and(|job| !job.state.is_final());
        let jobs = self.state.jobs.values().filter(|jobs| open(jobs)).count();
        let (root, head) = self.knows.get(&id).copied().unwrap_or_default();
        Ok(AgentView {
            id,
            name: record.name.clone(),
            labels,
            version: record.version.clone(),
            platform: record.platform.clone(),
            connected,
            last_seen: if connected { self.now } else { record.last_seen },
            enrolled: record.enrolled,
            revoked: record.revoked,
            dropped: Dropped { logs: logs.logs, ..results },
            jobs: u32::try_from(jobs).unwrap_or(u32::MAX),
            root,
            head,
            receipt_key: record.receipt_key.clone(),
            proto: record.proto,
            update: Self::update_view(record),
            copied: record.copied.clone(),
        })
    }
}

/// Whether a selector matches an agent, by the labels of its host over those of its join token.
pub(super) fn matches(selector: &Selector, id: AgentId, agent: &AgentRecord) -> bool {
    let id = id.to_string();
    let labels = [&agent.enrolled_labels, &agent.host_labels];
    selector.matches(Subject { id: &id, name: &agent.name, labels: &labels })
}
