//! What must be true in the end, once faults have healed.

use sloth_core::Millis;
use sloth_protocol::wire::JobState;
use sloth_trust::Head;

use super::{
    super::{disk::CenterDisk, host::Host, publisher::publisher},
    Check, hold,
};

/// A host that repeats its enrolment gets in.
pub(in crate::sim) fn every_host_gets_in(host: &str, refused: &str) -> Check {
    hold("every_host_gets_in", false, || format!("{host}: {refused}"))
}

/// Once faults have healed, runs end.
pub(in crate::sim) fn every_run_ends(disk: &CenterDisk) -> Check {
    // What a rollout keeps open for hosts to come has nothing left to do.
    let open = disk.state.jobs.iter().find(|(_, jobs)| jobs.values().any(|job| !job.state.is_final()));
    hold("every_run_ends", open.is_none(), || format!("{open:?}"))
}

/// Once faults have healed, agents are connected again.
pub(in crate::sim) fn every_agent_comes_back(host: &Host) -> Check {
    hold("every_agent_comes_back", host.keeps_in_touch(), || host.plan.name.clone())
}

/// Once faults have healed, agents trust the coordinator's newest root.
pub(in crate::sim) fn every_agent_has_the_newest_root(host: &Host, disk: &CenterDisk) -> Check {
    let newest = disk.state.root().map(|root| publisher().version_of(root));
    let trusted = host.root_version();
    hold("every_agent_has_the_newest_root", trusted == newest, || {
        format!("{} trusts {trusted:?}, the coordinator has {newest:?}", host.plan.name)
    })
}

/// Once faults have healed, agents know what the coordinator says is the newest, and that it is fresh. A head that was
/// renewed and says the same may not have come to all of them.
pub(in crate::sim) fn every_agent_has_the_newest_head(host: &Host, disk: &CenterDisk, now: Millis) -> Check {
    let newest = disk.state.head.as_ref().and_then(|head| serde_json::from_slice::<Head>(&head.payload).ok());
    let head = host.machine.as_ref().and_then(|agent| agent.head());
    let fresh = head.is_some_and(|head| head.fresh(head.time(now)).is_ok());
    let named = |head: &Head| (head.root, head.releases);
    let same = head.map(|head| named(head.head())) == newest.as_ref().map(named);
    hold("every_agent_has_the_newest_head", same && fresh, || {
        format!("{} has {head:?}, fresh: {fresh}; the coordinator has {newest:?}", host.plan.name)
    })
}

/// Once faults have healed, agents get rid of what they have to report, and have nothing left to do.
pub(in crate::sim) fn every_outbox_is_empty(host: &Host) -> Check {
    let name = "every_outbox_is_empty";
    let state = &host.disk.state;
    let waiting: Vec<_> = state.lanes.iter().map(|lane| lane.entries.len()).collect();
    hold(name, waiting == [0, 0], || format!("{}: {waiting:?} records wait", host.plan.name))?;
    hold(name, state.jobs.is_empty(), || format!("{}: {:?}", host.plan.name, state.jobs))
}

/// In the end the coordinator knows how each run ended on each agent that could tell.
pub(in crate::sim) fn the_coordinator_knows_how_runs_ended(host: &Host, disk: &CenterDisk) -> Check {
    let Some(id) = host.id else { return Ok(()) };
    for (run, outcome) in host.witness.ended_runs.iter().filter(|(run, _)| !host.witness.lost_ends.contains(run)) {
        let known = disk.jobs.get(run).and_then(|jobs| jobs.get(&id)).map(|update| update.job.state);
        hold("the_coordinator_knows_how_runs_ended", known == Some(JobState::from(*outcome)), || {
            format!("run {run} on {} ended as {outcome:?}, the coordinator says {known:?}", host.plan.name)
        })?;
    }
    Ok(())
}
