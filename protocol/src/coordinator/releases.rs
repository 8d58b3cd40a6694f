//! Releases of the agent: which there are, and who is to go to which.

use sloth_core::{AgentId, Millis, RolloutId, error::Chain};
use sloth_trust::{
    AgentRelease, Envelope, Inclusion, SPEC, Seen, Trusted, UpdateAssignment, Version, trusted::follows,
};

use super::{
    AGENT_RELEASES_MAX, AgentRecord, AgentReleaseRow, Instruction, Item, RUN_TTL_MAX, RUN_TTL_MIN, Reply, Unsigned,
    UpdateStanding, WORK_WAITING_MAX, Write,
    machine::{Coordinator, LeafKey},
    registry::invalid,
    rollouts::Evidence,
};
use crate::wire::{
    AssignRelease, PROTO_UPDATES, Published, Refusal, RefusalCode, ReleaseTarget, ReleaseView, RolloutSubject,
    UpdateReport, UpdateState, UpdateVerdict, UpdateView, negotiate,
};

/// What releases of the agent are called beside bundles.
const AGENT: &str = "sloth-agent";

impl Coordinator {
    /// Takes a release that its makers signed; the same one again changes nothing.
    pub(super) fn publish_release(&mut self, bytes: Vec<u8>) -> Result<Reply, Refusal> {
        let Some(trusted) = &self.trusted else {
            return Err(invalid(
                "there is no trust root yet: `sloth-coord publish` makes one of the key that it is given",
            ));
        };
        let envelope = Envelope::decode(&bytes).map_err(|error| invalid(&Chain(&error).to_string()))?;
        let release = trusted.verify_release(&envelope).map_err(|error| invalid(&Chain(&error).to_string()))?;
        if release.expires <= self.now {
            let reason = format!("the signature on {} expired on {}: sign it again", release.name(), release.expires);
            return Err(invalid(&reason));
        }
        if negotiate(release.protocol.min, release.protocol.max).is_none() {
            let reason = format!("{} speaks no version of the protocol that this coordinator speaks", release.name());
            return Err(invalid(&reason));
        }
        let newest = self.state.releases.values().next_back().map(seen);
        let new = Seen::of_release(&envelope, &release);
        let conflict = |error| Refusal::new(RefusalCode::Conflict, Chain(&error).to_string());
        follows(newest, new, || "the release of the agent".to_owned()).map_err(conflict)?;
        let (version, counter) = (release.version.to_string(), release.counter);
        let repeated = newest == Some(new);
        if !repeated {
            self.make_room_for_release();
            let signers = envelope.signatures.iter().map(|signature| signature.key.to_string()).collect();
            let subject = RolloutSubject::Agent(release.channel.clone());
            let row = AgentReleaseRow { envelope: bytes, release, signers };
            self.write(Write::PutAgentRelease(Box::new(row)));
            self.issue_head();
            self.rollouts_look_at(&subject);
        }
        Ok(Reply::Published(Published { name: AGENT.to_owned(), version, counter, repeated }))
    }

    /// Every release, newest first.
    pub(super) fn agent_releases(&self) -> Vec<ReleaseView> {
        self.state.releases.values().rev().map(release_view).collect()
    }

    /// Takes a release back: no agent is told of it any more.
    pub(super) fn withdraw_release(&mut self, counter: u64) -> Result<Reply, Refusal> {
        if !self.state.releases.contains_key(&counter) {
            return Err(no_release(counter));
        }
        self.drop_release(counter, "the release was withdrawn");
        self.issue_head();
        Ok(Reply::Done)
    }

    /// Orders one agent to go to a release.
    pub(super) fn assign_release(&mut self, assign: &AssignRelease) -> Result<Reply, Refusal> {
        if assign.ttl < RUN_TTL_MIN || RUN_TTL_MAX < assign.ttl {
            return Err(invalid("an update is given between a second and 90 days"));
        }
        let agent = self.find_agent(&assign.agent)?;
        self.queue_update(agent, assign.counter, self.now + assign.ttl, None)?;
        Ok(Reply::Agent(Box::new(self.agent_view(agent)?)))
    }

    /// Orders an agent to go to a release until `deadline`, and gives the order's generation: the one way by which an
    /// update begins. What came of it stands in the agent's [`UpdateStanding`].
    ///
    /// An order for an earlier release of which the agent was not told is taken back.
    ///
    /// # Errors
    ///
    /// When there is no such release, the agent cannot take it, or too much waits for it.
    pub(super) fn queue_update(
        &mut self,
        agent: AgentId,
        counter: u64,
        deadline: Millis,
        rollout: Option<RolloutId>,
    ) -> Result<u64, Refusal> {
        let row = self.state.releases.get(&counter).ok_or_else(|| no_release(counter))?;
        let release = row.release.clone();
        let Some(record) = self.state.agents.get(&agent).filter(|record| !record.revoked) else {
            return Err(invalid("the agent's identity was withdrawn"));
        };
        against(record, &release, self.now)?;
        if self.state.work.get(&agent).is_some_and(|work| WORK_WAITING_MAX <= work.len()) {
            let reason =
                format!("{WORK_WAITING_MAX} orders wait for agent `{agent}` already: cancel runs that it will not do");
            return Err(Refusal::new(RefusalCode::TooLarge, reason));
        }
        self.replace_update(agent);
        let generation = self.queue_first(agent, Item::Update { counter, deadline, rollout });
        let standing = UpdateStanding {
            counter: Some(counter),
            rollout,
            generation,
            from: String::new(),
            to: release.version.to_string(),
            state: UpdateState::Queued,
            at: self.now,
            reason: String::new(),
            log_tail: String::new(),
        };
        self.put_standing(agent, standing);
        self.offer(agent);
        Ok(generation)
    }

    /// Takes back the order of which the agent was not told. `evidence` is what that is to its rollout.
    pub(super) fn withdraw_update(&mut self, agent: AgentId, evidence: Evidence) {
        let Some(generation) = self.untold_update(agent) else { return };
        self.write(Write::DropWork(agent, vec![generation]));
        let reason = "it was taken back before the agent was told";
        self.end_update_as(agent, generation, UpdateState::Withdrawn, reason, evidence);
    }

    /// Ends whatever update of an agent is under way, since nothing more will be heard of it.
    pub(super) fn end_any_update(&mut self, agent: AgentId, reason: &str) {
        if let Some(generation) = self.standing(agent).map(|standing| standing.generation) {
            self.end_update(agent, generation, UpdateState::Withdrawn, reason);
        }
    }

    /// Why an agent cannot be told of a release, if so.
    pub(super) fn cannot_take(&self, record: &AgentRecord, counter: u64) -> Option<Refusal> {
        let Some(row) = self.state.releases.get(&counter) else { return Some(no_release(counter)) };
        against(record, &row.release, self.now).err()
    }

    /// The agent has an order on its disk.
    pub(super) fn update_accepted(&mut self, agent: AgentId, generation: u64) {
        let standing = self
            .standing(agent)
            .filter(|standing| standing.generation == generation && standing.state == UpdateState::Queued);
        if let Some(standing) = standing.cloned() {
            self.put_standing(agent, UpdateStanding { state: UpdateState::Accepted, at: self.now, ..standing });
        }
    }

    /// What an agent reports of an update. What it says of an earlier one than the newest ordered is of no account.
    pub(super) fn count_update(&mut self, agent: AgentId, report: UpdateReport) {
        let before = self.standing(agent).cloned();
        // One that worked for a while is reported without a number when it is given up.
        let undone = before.as_ref().is_some_and(|before| {
            let (given_up, same) = (report.verdict == UpdateVerdict::RolledBack, before.to == report.to);
            before.state == UpdateState::Confirmed && report.counter.is_none() && given_up && same
        });
        let is_ordered = undone || before.as_ref().is_some_and(|before| before.counter == report.counter);
        if before.as_ref().is_some_and(|before| !before.state.is_final()) && !is_ordered {
            return;
        }
        let UpdateReport { counter, from, to, verdict, reason, log_tail } = report;
        let ordered = before.filter(|_| is_ordered);
        let (counter, rollout, generation) =
            ordered.map_or((counter, None, 0), |before| (before.counter, before.rollout, before.generation));
        let (state, at) = (verdict.into(), self.now);
        let standing = UpdateStanding { counter, rollout, generation, from, to, state, at, reason, log_tail };
        self.put_standing(agent, standing.clone());
        let evidence = if undone { Some(Evidence::Undone) } else { Evidence::of_update(state) };
        self.note_update(agent, &standing, evidence);
        if state.is_final() {
            // It can be told of another one.
            self.stir_all();
        }
    }

    /// Ends the update of this generation, if it is the newest and has not ended.
    pub(super) fn end_update(&mut self, agent: AgentId, generation: u64, state: UpdateState, reason: &str) {
        // What ends on this side changed no host.
        let evidence = if state == UpdateState::Withdrawn { Evidence::Withdrawn } else { Evidence::Held };
        self.end_update_as(agent, generation, state, reason, evidence);
    }

    /// The order to go to a release: the same bytes whenever it is made for the same generation. In place of it, why it
    /// cannot be given.
    pub(super) fn update_order(&self, agent: AgentId, generation: u64, item: Item) -> Result<Instruction, String> {
        let Item::Update { counter, deadline, rollout } = item else { return Err("it is no update".to_owned()) };
        let row = self.state.releases.get(&counter).ok_or("the release was withdrawn")?;
        let record = self.state.agents.get(&agent).ok_or("the agent is not known")?;
        against(record, &row.release, self.now).map_err(|refusal| refusal.reason)?;
        if deadline <= self.now {
            return Err("its deadline passed before the agent asked for work".to_owned());
        }
        let release = &row.release;
        let target = platform_binary(release, record).ok_or("there is no binary for the agent's platform")?;
        let assignment = UpdateAssignment {
            spec: SPEC,
            agent,
            version: release.version.clone(),
            counter,
            manifest: target.manifest.digest,
            rollout,
            not_before: Millis::ZERO,
            deadline,
            nonce: generation,
        };
        // None of its parts refuses to be written.
        let payload = serde_json::to_vec(&assignment).unwrap_or_default();
        let domain = assignment.domain(release.repository);
        let inclusion = self.release_inclusion(counter).ok_or("the head does not name the release")?;
        Ok(Instruction::Update { assignment: Unsigned { domain, payload }, metadata: row.envelope.clone(), inclusion })
    }

    /// Drops the releases whose signatures count no more.
    pub(super) fn drop_unsigned_releases(&mut self, before: Option<&Trusted>) {
        let Some(trusted) = &self.trusted else { return };
        let signers = |trusted: &Trusted| trusted.root().roles.releases.clone();
        if before.map(signers) == Some(signers(trusted)) {
            return;
        }
        let counts = |row: &AgentReleaseRow| {
            Envelope::decode(&row.envelope).is_ok_and(|envelope| trusted.verify_release(&envelope).is_ok())
        };
        let unsigned = self.state.releases.values().filter(|row| !counts(row));
        let unsigned: Vec<u64> = unsigned.map(|row| row.release.counter).collect();
        for counter in unsigned {
            self.drop_release(counter, "the keys that signed the release count no more: publish it again");
        }
    }

    pub(super) fn update_view(record: &AgentRecord) -> Option<Box<UpdateView>> {
        let UpdateStanding { counter, rollout, from, to, state, at, reason, log_tail, .. } =
            record.update.as_deref()?.clone();
        Some(Box::new(UpdateView { counter, rollout, from, to, state, at, reason, log_tail }))
    }

    /// Takes back what no agent was told of a release, and the release.
    fn drop_release(&mut self, counter: u64, reason: &str) {
        let of_it = |item: &Item| matches!(item, Item::Update { counter: other, .. } if *other == counter);
        let waiting = self.state.work.iter().filter(|(_, work)| work.values().any(of_it));
        let agents: Vec<AgentId> = waiting.map(|(agent, _)| *agent).collect();
        for agent in agents {
            if let Some(generation) = self.untold_update(agent) {
                self.write(Write::DropWork(agent, vec![generation]));
                self.end_update(agent, generation, UpdateState::Withdrawn, reason);
            }
        }
        self.write(Write::DropAgentRelease(counter));
    }

    /// The generation of an update that waits and of which the agent was not told.
    fn untold_update(&self, agent: AgentId) -> Option<u64> {
        let told = self.told.get(&agent).copied().unwrap_or(0);
        let waiting = self.state.work.get(&agent).into_iter().flat_map(|work| work.range(told + 1..));
        let is_update = |item: &Item| matches!(item, Item::Update { .. });
        waiting.filter(|(_, item)| is_update(item)).map(|(generation, _)| *generation).next_back()
    }

    /// Ends what is under way for another order: one that the agent was not told is taken back, of the other nothing more
    /// is heard.
    fn replace_update(&mut self, agent: AgentId) {
        self.withdraw_update(agent, Evidence::Held);
        let under_way = self.standing(agent).filter(|standing| !standing.state.is_final());
        if let Some(standing) = under_way.cloned() {
            self.note_update(agent, &standing, Some(Evidence::Held));
        }
    }

    fn end_update_as(&mut self, agent: AgentId, generation: u64, state: UpdateState, reason: &str, evidence: Evidence) {
        let standing =
            self.standing(agent).filter(|standing| standing.generation == generation && !standing.state.is_final());
        if let Some(standing) = standing.cloned() {
            let reason = reason.to_owned();
            let standing = UpdateStanding { state, at: self.now, reason, ..standing };
            self.put_standing(agent, standing.clone());
            self.note_update(agent, &standing, Some(evidence));
        }
    }

    fn release_inclusion(&self, counter: u64) -> Option<Inclusion> {
        self.inclusion(&LeafKey::Agent(counter))
    }

    fn standing(&self, agent: AgentId) -> Option<&UpdateStanding> {
        self.state.agents.get(&agent)?.update.as_deref()
    }

    fn put_standing(&mut self, agent: AgentId, standing: UpdateStanding) {
        let Some(record) = self.state.agents.get(&agent) else { return };
        let record = AgentRecord { update: Some(Box::new(standing)), ..record.clone() };
        self.write(Write::PutAgent(agent, Box::new(record)));
    }

    fn make_room_for_release(&mut self) {
        if self.state.releases.len() < AGENT_RELEASES_MAX {
            return;
        }
        let of_agent = |subject: &RolloutSubject| matches!(subject, RolloutSubject::Agent(_));
        let mut unused = self.state.releases.keys().filter(|counter| !self.is_rolled_out(of_agent, **counter));
        if let Some(oldest) = unused.next().copied() {
            self.drop_release(oldest, "the release was dropped for newer ones");
        }
    }
}

/// Why an agent cannot be told of a release.
fn against(record: &AgentRecord, release: &AgentRelease, now: Millis) -> Result<(), Refusal> {
    let conflict = |reason: String| Err(Refusal::new(RefusalCode::Conflict, reason));
    if record.proto < PROTO_UPDATES {
        return conflict(format!(
            "agent `{}` speaks version {} of the protocol, which knows no updates: upgrade its package",
            record.name, record.proto
        ));
    }
    if release.expires <= now {
        return conflict(format!(
            "the signature on {} expired on {}: publish it again",
            release.name(),
            release.expires
        ));
    }
    if platform_binary(release, record).is_none() {
        let targets: Vec<&str> = release.targets.iter().map(|binary| binary.target.as_str()).collect();
        let (name, arch) = (&record.name, &record.platform.arch);
        return conflict(format!("{} is for {}, agent `{name}` is for `{arch}`", release.name(), targets.join(", ")));
    }
    let runs: Option<Version> = record.version.parse().ok();
    if runs.is_none_or(|runs| !release.from.allows(&runs)) {
        return conflict(format!(
            "{} may be reached from {} and later, agent `{}` runs {}: bring it to a version between first",
            release.name(),
            release.from.oldest,
            record.name,
            record.version
        ));
    }
    Ok(())
}

/// The binary for an agent's platform.
fn platform_binary<'r>(release: &'r AgentRelease, record: &AgentRecord) -> Option<&'r sloth_trust::TargetBinary> {
    release.targets.get(&record.platform.arch.parse().ok()?)
}

fn no_release(counter: u64) -> Refusal {
    let reason =
        format!("there is no release of the agent with number {counter}: `sloth-coord release list` shows them");
    Refusal::new(RefusalCode::NotFound, reason)
}

fn seen(row: &AgentReleaseRow) -> Seen {
    // The envelope was decoded when it was published.
    let payload = Envelope::decode(&row.envelope).map(|envelope| envelope.payload).unwrap_or_default();
    Seen { counter: row.release.counter, payload: sloth_core::Digest::of(&payload) }
}

fn release_view(row: &AgentReleaseRow) -> ReleaseView {
    let release = &row.release;
    let target = |binary: &sloth_trust::TargetBinary| ReleaseTarget {
        target: binary.target.to_string(),
        sha256: binary.digest.to_string(),
        length: binary.length,
        manifest: binary.manifest.digest,
    };
    ReleaseView {
        version: release.version.to_string(),
        counter: release.counter,
        channel: release.channel.to_string(),
        targets: release.targets.iter().map(target).collect(),
        oldest: release.from.oldest.to_string(),
        also: release.from.also.iter().map(ToString::to_string).collect(),
        proto_min: release.protocol.min,
        proto_max: release.protocol.max,
        published: release.published,
        expires: release.expires,
        signers: row.signers.clone(),
    }
}
