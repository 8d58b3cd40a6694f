//! What became of what hosts were told to do, and how they stand by it.

use std::cmp::Ordering;

use sloth_core::{AgentId, Millis, RolloutId, RunId};
use sloth_trust::Version;

use super::{Haste, RolloutHost, RolloutOrder};
use crate::{
    coordinator::{UpdateStanding, Write, machine::Coordinator},
    rollout::Standing,
    wire::{JobState, RolloutSubject, UpdateState},
};

/// What became of what a host was told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::coordinator) enum Evidence {
    /// It succeeded.
    Good,
    /// It failed, was refused or ended.
    Bad,
    /// It had succeeded, and then it failed after all.
    Undone,
    /// The host's own rules, or somebody's on it, kept it as it was.
    Held,
    /// It was taken back before it began.
    Withdrawn,
}

impl Evidence {
    /// What an update shows by how it stands; nothing while it is under way.
    pub(in crate::coordinator) const fn of_update(state: UpdateState) -> Option<Self> {
        match state {
            UpdateState::Confirmed => Some(Self::Good),
            UpdateState::RolledBack | UpdateState::Refused => Some(Self::Bad),
            UpdateState::Held => Some(Self::Held),
            UpdateState::Withdrawn => Some(Self::Withdrawn),
            UpdateState::Queued | UpdateState::Accepted | UpdateState::Staged | UpdateState::Switched => None,
        }
    }
}

impl Coordinator {
    /// A job has ended, or was ended from this side: evidence, if it is a rollout's.
    pub(in crate::coordinator) fn note_evidence(&mut self, run: RunId, agent: AgentId, state: JobState) {
        let Some(id) = self.rollouts.runs.get(&run).copied().filter(|_| state.is_final()) else { return };
        let evidence = if matches!(state, JobState::Succeeded) { Evidence::Good } else { Evidence::Bad };
        self.judge(id, agent, evidence, |order| *order == RolloutOrder::Run(run));
    }

    /// An update has ended, or was ended from this side: evidence, if it is a rollout's.
    pub(in crate::coordinator) fn note_update(
        &mut self,
        agent: AgentId,
        standing: &UpdateStanding,
        evidence: Option<Evidence>,
    ) {
        let (Some(id), Some(evidence)) = (standing.rollout, evidence) else { return };
        let ordered = standing.generation;
        self.judge(
            id,
            agent,
            evidence,
            |order| matches!(order, RolloutOrder::Update { generation, .. } if *generation == ordered),
        );
    }

    /// An agent says what it runs. One that went to a release and now runs an older one did not keep it, whatever it has
    /// yet to say of that.
    pub(in crate::coordinator) fn note_version(&mut self, agent: AgentId) {
        let Some(record) = self.state.agents.get(&agent) else { return };
        let Some(standing) = record.update.as_deref().filter(|update| update.state == UpdateState::Confirmed) else {
            return;
        };
        let (runs, to): (Option<Version>, Option<Version>) = (record.version.parse().ok(), standing.to.parse().ok());
        let is_older = runs.zip(to).is_some_and(|(runs, to)| runs.cmp_precedence(&to) == Ordering::Less);
        if is_older && self.row_of(standing.rollout, agent).is_some_and(|row| is_watched(row.standing)) {
            let standing = standing.clone();
            self.note_update(agent, &standing, Some(Evidence::Undone));
        }
    }

    fn row_of(&self, id: Option<RolloutId>, agent: AgentId) -> Option<&RolloutHost> {
        self.state.rollout_hosts.get(&id?)?.get(&agent)
    }

    fn judge(
        &mut self,
        id: RolloutId,
        agent: AgentId,
        evidence: Evidence,
        is_of_it: impl FnOnce(&RolloutOrder) -> bool,
    ) {
        let Some(row) = self.row_of(Some(id), agent).filter(|row| is_of_it(&row.order)).cloned() else { return };
        if self.state.agents.get(&agent).is_none_or(|record| record.revoked) {
            self.write(Write::DropRolloutHosts(id, vec![agent]));
            return self.stir(id, Haste::Soon);
        }
        let Some(standing) = became(row.standing, evidence, self.direction(id, &row.order), self.now) else {
            self.write(Write::DropRolloutHosts(id, vec![agent]));
            return self.stir(id, Haste::Soon);
        };
        if standing == row.standing {
            return;
        }
        self.write(Write::PutRolloutHost(id, agent, RolloutHost { standing, ..row }));
        let is_bad = matches!(standing, Standing::Failed | Standing::NotReturned);
        self.stir(id, if is_bad { Haste::AtOnce } else { Haste::Soon });
    }

    /// Where an order leads.
    fn direction(&self, id: RolloutId, order: &RolloutOrder) -> Direction {
        let is_forward = |counter: u64| {
            let record = self.state.rollouts.get(&id);
            record.is_some_and(|record| {
                matches!(record.subject, RolloutSubject::Agent(_)) && record.release.counter == counter
            })
        };
        match order {
            RolloutOrder::Update { counter, .. } if is_forward(*counter) => Direction::Forward,
            RolloutOrder::Update { .. } => Direction::Back,
            RolloutOrder::Run(_) => Direction::AsItStands,
        }
    }
}

/// Where an order leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// To the rollout's release.
    Forward,
    /// To the release before.
    Back,
    /// Where the host's standing says.
    AsItStands,
}

/// How a host stands after the end of what it was told to do; nothing when it is as if it had not been told.
const fn became(standing: Standing, evidence: Evidence, direction: Direction, now: Millis) -> Option<Standing> {
    Some(match (standing, evidence) {
        (Standing::Assigned { .. } | Standing::Failed | Standing::Silent { succeeded: None, .. }, Evidence::Good) => {
            Standing::Succeeded { at: now }
        }
        // It was taken for one that never went, and went all the same.
        (Standing::Returned | Standing::Held { .. }, Evidence::Good) if matches!(direction, Direction::Forward) => {
            Standing::Succeeded { at: now }
        }
        (Standing::Assigned { .. } | Standing::Silent { succeeded: None, .. }, evidence) => match evidence {
            Evidence::Held => Standing::Held { at: now },
            Evidence::Withdrawn => return None,
            Evidence::Good | Evidence::Bad | Evidence::Undone => Standing::Failed,
        },
        (Standing::Succeeded { .. } | Standing::Proven | Standing::Silent { .. }, Evidence::Undone) => Standing::Failed,
        (Standing::Returning { .. } | Standing::NotReturned, Evidence::Good) => Standing::Returned,
        (Standing::Returning { .. }, _) => Standing::NotReturned,
        (
            Standing::Waiting
            | Standing::Succeeded { .. }
            | Standing::Silent { .. }
            | Standing::Proven
            | Standing::Failed
            | Standing::Held { .. }
            | Standing::Returned
            | Standing::NotReturned,
            _,
        ) => standing,
    })
}

const fn is_watched(standing: Standing) -> bool {
    matches!(standing, Standing::Succeeded { .. } | Standing::Silent { succeeded: Some(_), .. })
}
