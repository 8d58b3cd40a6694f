//! Rollouts of releases of the agent: which release, who is ordered to go to it, and how hosts go back.

use std::collections::BTreeSet;

use sloth_core::{AgentId, RolloutId};
use sloth_trust::{AgentRelease, Channel};

use super::{Evidence, Haste, ReleaseName, RolloutHost, RolloutNote, RolloutOrder, RolloutRecord, drive};
use crate::{
    coordinator::{AgentRecord, Item, Write, machine::Coordinator},
    rollout::{Host, Presence, Standing, UPDATE_ENDS},
    wire::{RolloutAgent, RolloutSubject, UpdateState},
};

/// What the words in refusals call it.
const PUBLISH: &str = "`sloth-coord release publish --file PROGRAM";

impl Coordinator {
    /// The release that an operator names: of those of one version the newest.
    pub(super) fn agent_release(&self, wanted: &RolloutAgent) -> Option<&AgentRelease> {
        let of_channel = |release: &AgentRelease| {
            wanted.channel.as_ref().is_none_or(|channel| release.channel.as_str() == channel.as_str())
        };
        let releases = self.state.releases.values().rev().map(|row| &row.release);
        releases.filter(|release| of_channel(release)).find(|release| release.version.to_string() == wanted.version)
    }

    /// The newest release of a channel.
    pub(super) fn newest_agent_release(&self, channel: &Channel) -> Option<ReleaseName> {
        let releases = self.state.releases.values().rev().map(|row| &row.release);
        releases.into_iter().find(|release| release.channel == *channel).map(named)
    }

    /// Whether agents can be told of a release, and in time.
    pub(super) fn check_agent_release(&self, release: &ReleaseName) -> Result<(), String> {
        let Some(row) = self.state.releases.get(&release.counter) else {
            let version = &release.version;
            return Err(format!(
                "release {version} of the agent counts no more: publish it again, and `rollout resume --newest`"
            ));
        };
        if row.release.expires <= self.now {
            let (name, expires) = (row.release.name(), row.release.expires);
            return Err(format!(
                "the signature on {name} expired on {expires}: publish it again, and `rollout resume --newest`"
            ));
        }
        Ok(())
    }

    /// The release by which hosts that ran `version` go back to it: agents take no lower number, so it is a later one.
    pub(super) fn agent_way_back(&self, record: &RolloutRecord, version: &str) -> Option<ReleaseName> {
        let later = self.state.releases.range(record.release.counter + 1..).rev().map(|(_, row)| &row.release);
        let of_channel = |release: &&AgentRelease| matches!(&record.subject, RolloutSubject::Agent(channel) if *channel == release.channel);
        later.filter(of_channel).find(|release| release.version.to_string() == version).map(named)
    }

    /// The release with which most would go back; nothing when nobody runs another version than before. Else what has to
    /// be done for there to be one.
    pub(super) fn agents_way_back(&self, id: RolloutId, record: &RolloutRecord) -> Result<Option<ReleaseName>, String> {
        let rows = self.state.rollout_hosts.get(&id).into_iter().flatten();
        let away: BTreeSet<&str> = rows.filter_map(|(agent, row)| self.would_leave(*agent, row)).collect();
        let mut back = None;
        for version in away {
            let Some(release) = self.agent_way_back(record, version) else {
                let channel = match &record.subject {
                    RolloutSubject::Agent(channel) if *channel != Channel::default() => format!(" --channel {channel}"),
                    RolloutSubject::Agent(_) | RolloutSubject::Bundle(_) => String::new(),
                };
                return Err(format!(
                    "agents take no lower number: publish the program of version {version} again with {PUBLISH} --version {version}{channel} --key FILE`, then `sloth-coord rollout rollback {}`",
                    record.spec.name
                ));
            };
            self.check_agent_release(&release)?;
            back = Some(release);
        }
        Ok(back)
    }

    /// Marks as back who runs the version before: an update that failed was rolled back on its host.
    pub(super) fn settle_returned(&mut self, id: RolloutId) {
        let rows = self.state.rollout_hosts.get(&id).into_iter().flatten();
        let stayed = |(agent, row): &(&AgentId, &RolloutHost)| {
            matches!(row.standing, Standing::Failed) && self.runs_as_before(**agent, row)
        };
        let stayed: Vec<(AgentId, RolloutHost)> =
            rows.filter(stayed).map(|(agent, row)| (*agent, row.clone())).collect();
        for (agent, row) in stayed {
            self.write(Write::PutRolloutHost(id, agent, RolloutHost { standing: Standing::Returned, ..row }));
        }
    }

    /// Orders hosts to go to the rollout's release, or back to what each of them ran before. False when the planning is
    /// to end here.
    pub(super) fn give_updates(
        &mut self,
        id: RolloutId,
        record: &RolloutRecord,
        chosen: &[AgentId],
        hosts: &mut [Host],
        way: Way,
    ) -> bool {
        let now_chosen: Vec<AgentId> = chosen.iter().copied().take(drive::ASSIGNED_AT_ONCE_MAX).collect();
        for agent in &now_chosen {
            let Some(host) = drive::place_of(hosts, *agent) else { continue };
            let row = match way {
                Way::Forward => self.send_forward(id, record, host),
                Way::Back => self.send_home(id, record, host),
            };
            let Some(row) = row else { continue };
            host.standing = row.standing;
            self.write(Write::PutRolloutHost(id, *agent, row));
        }
        let what = match way {
            Way::Forward => "ordered to go to the release",
            Way::Back => "sent back",
        };
        self.note_rollout(record, RolloutNote::HOSTS, format!("{what}: {} hosts", now_chosen.len()));
        if now_chosen.len() < chosen.len() {
            self.stir(id, Haste::Soon);
            return false;
        }
        true
    }

    /// Takes back an order to go to the rollout's release, as far as the agent has not carried it out. One that it was
    /// not told is as if it had not been.
    pub(super) fn withdraw_order(&mut self, agent: AgentId, counter: u64, generation: u64) {
        let update = self.state.agents.get(&agent).and_then(|record| record.update.as_deref());
        let Some(state) = update.filter(|update| update.generation == generation).map(|update| update.state) else {
            return;
        };
        if self.told.get(&agent).copied().unwrap_or(0) < generation {
            return self.withdraw_update(agent, Evidence::Withdrawn);
        }
        let may = matches!(state, UpdateState::Queued | UpdateState::Accepted | UpdateState::Staged);
        let stop = Item::CancelUpdate { counter };
        let waiting = self.state.work.get(&agent).into_iter().flat_map(|work| work.range(generation..));
        if may && !waiting.into_iter().any(|(_, item)| *item == stop) {
            self.queue_first(agent, stop);
            self.offer(agent);
        }
    }

    /// Takes for out of reach who is in the midst of another update.
    pub(super) fn leave_updating_hosts(&self, id: RolloutId, hosts: &mut [Host]) {
        for host in hosts.iter_mut().filter(|host| !host.standing.is_changed()) {
            if self.state.agents.get(&host.id).is_some_and(|record| self.updates_otherwise(id, record)) {
                (host.contact.presence, host.contact.heard) = (Presence::Gone, None);
            }
        }
    }

    /// Whether an agent is in the midst of an update that is not this rollout's, so that it is told of no other.
    fn updates_otherwise(&self, id: RolloutId, record: &AgentRecord) -> bool {
        let Some(update) = record.update.as_deref().filter(|update| !update.state.is_final()) else { return false };
        let live =
            |other: &RolloutId| *other != id && self.state.rollouts.get(other).is_some_and(RolloutRecord::is_live);
        let is_others = update.state == UpdateState::Switched || update.rollout.as_ref().is_some_and(live);
        // What is never heard of again holds it for no longer than an update takes.
        is_others && self.now < update.at + UPDATE_ENDS
    }

    /// Why a host stands as it does, as far as its update says.
    pub(super) fn update_reason(&self, agent: AgentId, row: &RolloutHost) -> String {
        let RolloutOrder::Update { counter, generation, .. } = &row.order else { return String::new() };
        let Some(record) = self.state.agents.get(&agent) else { return String::new() };
        if *generation == 0 {
            let refused = self.cannot_take(record, *counter);
            return refused.map_or_else(String::new, |refusal| refusal.reason);
        }
        let update = record.update.as_deref().filter(|update| update.generation == *generation);
        update.map_or_else(String::new, |update| update.reason.clone())
    }

    fn send_forward(&mut self, id: RolloutId, record: &RolloutRecord, host: &Host) -> Option<RolloutHost> {
        let from = self.state.agents.get(&host.id)?.version.clone();
        let counter = record.release.counter;
        let queued = self.queue_update(host.id, counter, self.now + record.spec.timeout, Some(id));
        let (standing, generation) = match queued {
            Ok(generation) => (Standing::Assigned { at: self.now }, generation),
            Err(_) => (Standing::Held { at: self.now }, 0),
        };
        let wave = u32::try_from(host.wave).unwrap_or(u32::MAX);
        let order = RolloutOrder::Update { counter, generation, from };
        Some(RolloutHost { wave, standing, order, rhythm: host.contact.rhythm })
    }

    fn send_home(&mut self, id: RolloutId, record: &RolloutRecord, host: &Host) -> Option<RolloutHost> {
        let row = self.state.rollout_hosts.get(&id)?.get(&host.id)?.clone();
        if self.runs_as_before(host.id, &row) {
            return Some(RolloutHost { standing: Standing::Returned, ..row });
        }
        let RolloutOrder::Update { from, .. } = &row.order else { return None };
        let back = self.agent_way_back(record, from);
        let queued = back.and_then(|back| {
            let deadline = self.now + record.spec.timeout;
            let generation = self.queue_update(host.id, back.counter, deadline, Some(id)).ok()?;
            Some((back.counter, generation))
        });
        let Some((counter, generation)) = queued else {
            return Some(RolloutHost { standing: Standing::NotReturned, ..row });
        };
        let order = RolloutOrder::Update { counter, generation, from: from.clone() };
        Some(RolloutHost { standing: Standing::Returning { at: self.now }, order, ..row })
    }

    /// The version that a host would leave if it went back now, if it would.
    fn would_leave<'a>(&self, agent: AgentId, row: &'a RolloutHost) -> Option<&'a str> {
        let goes = match row.standing {
            Standing::Assigned { .. }
            | Standing::Succeeded { .. }
            | Standing::Proven
            | Standing::Failed
            | Standing::Silent { .. } => true,
            Standing::Waiting
            | Standing::Held { .. }
            | Standing::Returning { .. }
            | Standing::Returned
            | Standing::NotReturned => false,
        };
        let RolloutOrder::Update { from, .. } = &row.order else { return None };
        (goes && !self.runs_as_before(agent, row)).then_some(from)
    }

    fn runs_as_before(&self, agent: AgentId, row: &RolloutHost) -> bool {
        let RolloutOrder::Update { from, .. } = &row.order else { return false };
        self.state.agents.get(&agent).is_none_or(|record| record.version == *from)
    }
}

/// Which way hosts go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// To the rollout's release.
    Forward,
    /// To what they ran before.
    Back,
}

fn named(release: &AgentRelease) -> ReleaseName {
    ReleaseName { counter: release.counter, version: release.version.to_string() }
}
