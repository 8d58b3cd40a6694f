//! Everything that a machine is restored from.

use sloth_core::{AgentId, RolloutId, RunId};
use sloth_protocol::coordinator::{
    AgentRecord, AgentReleaseRow, Durable, HeadRow, Inbox, Item, OperatorRecord, Release, RolloutHost, RolloutRecord,
    Run, Token,
};
use sloth_trust::{AgentRelease, BundleMetadata, Envelope};

use super::{
    RowError, codec,
    database::Fault,
    reads::{Reader, row},
    tables::{self, JobRow, ReleaseRow, beginning_with, number_of, run_of, split_id, token_of},
};

pub(super) fn durable(reader: &Reader) -> Result<Durable, Fault> {
    let mut state = Durable::default();
    reader.roots.each("roots", |key, value| {
        state.roots.insert(number_of(key)?, value.to_vec());
        Ok(())
    })?;
    // Of the heads only the newest is needed; the others are there to be looked at.
    state.head = reader.heads.last("heads", head)?;
    reader.agents.each("agents", |key, value| {
        let (id, _) = split_id(key)?;
        state.agents.insert(AgentId::from_bytes(id), codec::decode::<AgentRecord>(value)?);
        Ok(())
    })?;
    reader.inboxes.each("inboxes", |key, value| {
        let (id, lane) = split_id(key)?;
        let lanes = state.inboxes.entry(AgentId::from_bytes(id)).or_default();
        let lane = lane.first().and_then(|lane| lanes.get_mut(usize::from(*lane)));
        *lane.ok_or(RowError::Key { bytes: key.len() })? = codec::decode::<Inbox>(value)?;
        Ok(())
    })?;
    reader.work.each("work", |key, value| {
        let (id, generation) = split_id(key)?;
        let work = state.work.entry(AgentId::from_bytes(id)).or_default();
        work.insert(number_of(generation)?, codec::decode::<Item>(value)?);
        Ok(())
    })?;
    reader.tokens.each("tokens", |key, value| {
        state.tokens.insert(token_of(key)?, codec::decode::<Token>(value)?);
        Ok(())
    })?;
    reader.operators.each("operators", |key, value| {
        let name = std::str::from_utf8(key).map_err(|_| RowError::Key { bytes: key.len() })?;
        state.operators.insert(name.to_owned(), codec::decode::<OperatorRecord>(value)?);
        Ok(())
    })?;
    reader.releases.each("releases", |_, value| {
        let release = release(codec::decode(value)?)?;
        let releases = state.bundles.entry(release.metadata.name.clone()).or_default();
        releases.insert(release.metadata.counter, release);
        Ok(())
    })?;
    reader.agent_releases.each("agent_releases", |_, value| {
        let row = agent_release(codec::decode(value)?)?;
        state.releases.insert(row.release.counter, row);
        Ok(())
    })?;
    reader.ended.each("ended", |key, _| {
        state.ended.insert(run_of(key)?);
        Ok(())
    })?;
    load_runs(reader, &mut state)?;
    load_rollouts(reader, &mut state)?;
    Ok(state)
}

/// Runs that have ended stay on the disk; of them only the names are known.
fn load_runs(reader: &Reader, state: &mut Durable) -> Result<(), Fault> {
    let mut active = Vec::new();
    reader.runs.each("runs", |key, value| {
        let id = run_of(key)?;
        if !state.ended.contains(&id) {
            active.push((id, codec::decode::<Run>(value)?));
        }
        Ok(())
    })?;
    for (id, mut run) in active {
        run.values = values(reader, id)?;
        let range = beginning_with::<32>(&id.to_bytes());
        reader.jobs.each_in("jobs", range, |key, value| {
            let (_, agent) = split_id(key)?;
            let (agent, _) = split_id(agent)?;
            let row = codec::decode::<JobRow>(value)?;
            state.jobs.entry(id).or_default().insert(AgentId::from_bytes(agent), row.job);
            Ok(())
        })?;
        state.runs.insert(id, run);
    }
    Ok(())
}

fn load_rollouts(reader: &Reader, state: &mut Durable) -> Result<(), Fault> {
    reader.rollouts.each("rollouts", |key, value| {
        let (id, _) = split_id(key)?;
        state.rollouts.insert(RolloutId::from_bytes(id), codec::decode::<RolloutRecord>(value)?);
        Ok(())
    })?;
    reader.rollout_hosts.each("rollout_hosts", |key, value| {
        let (id, agent) = split_id(key)?;
        let (agent, _) = split_id(agent)?;
        let hosts = state.rollout_hosts.entry(RolloutId::from_bytes(id)).or_default();
        hosts.insert(AgentId::from_bytes(agent), codec::decode::<RolloutHost>(value)?);
        Ok(())
    })
}

fn values(reader: &Reader, run: RunId) -> Result<String, Fault> {
    let values = row(&reader.values, &run.to_bytes(), |value| Ok(codec::decode(value)?), "values")?;
    values.ok_or(RowError::Missing { table: "values" }).map_err(Fault::row("runs"))
}

fn head(key: &[u8], payload: &[u8]) -> Result<HeadRow, RowError> {
    Ok(HeadRow { version: number_of(key)?, payload: payload.to_vec() })
}

fn release(row: ReleaseRow) -> Result<Release, RowError> {
    let envelope = Envelope::decode(&row.envelope).map_err(|source| RowError::Envelope { source })?;
    // It was verified before it was stored; here it is only read again.
    let metadata: BundleMetadata =
        serde_json::from_slice(&envelope.payload).map_err(|source| RowError::Metadata { source })?;
    let ReleaseRow { envelope, size, workflows, signers } = row;
    Ok(Release { envelope, metadata, size, workflows, signers })
}

fn agent_release(row: tables::AgentReleaseRow) -> Result<AgentReleaseRow, RowError> {
    let envelope = Envelope::decode(&row.envelope).map_err(|source| RowError::Envelope { source })?;
    // It was verified before it was stored; here it is only read again.
    let release: AgentRelease =
        serde_json::from_slice(&envelope.payload).map_err(|source| RowError::Metadata { source })?;
    let tables::AgentReleaseRow { envelope, signers } = row;
    Ok(AgentReleaseRow { envelope, release, signers })
}
