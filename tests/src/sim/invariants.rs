//! What must always be true. Each invariant is a function of its name; a simulation ends at the first that fails.

mod healed;

use std::collections::{BTreeMap, BTreeSet};

pub(super) use healed::{
    every_agent_comes_back, every_agent_has_the_newest_head, every_agent_has_the_newest_root, every_host_gets_in,
    every_outbox_is_empty, every_run_ends, the_coordinator_knows_how_runs_ended,
};
use sloth_core::{AgentId, Digest, Millis, RunId, labels::Subject};
use sloth_protocol::{
    agent::{Ask, Effect, JOBS_MAX, Job, Stage, Start, TaskState, Update},
    coordinator::{self, Answer, Instruction, Item, RUNS_ACTIVE_MAX, ReceiptRow, Reply, Unsigned, WORK_WAITING_MAX},
    wire::{AgentResponse, Class, JobState, Lane, OnInterrupt, RecordBody, RunOutcome, TaskName, UpdateState},
};
use sloth_trust::{
    BundleName, Envelope, MachineKey, Receipt, ReceiptOutcome, RoleKeys, receipt_envelope, verify_receipt,
    verify_threshold,
};

use super::{
    disk::{AgentDisk, CenterDisk, Counted, RecordName, Removed},
    host::Host,
    publisher::publisher,
};

/// An invariant that did not hold.
#[derive(Debug)]
pub(crate) struct Violation {
    pub invariant: &'static str,
    pub detail: String,
}

pub(crate) type Check = Result<(), Violation>;

/// What was true of a host's disk at its last commit, and what its driver was told to do.
#[derive(Debug, Clone, Default)]
pub(super) struct HostWitness {
    accepted: u64,
    root: u64,
    /// The newest head, and its version.
    head: Option<(u64, Vec<u8>)>,
    next_seq: [u64; 2],
    counters: BTreeMap<BundleName, u64>,
    ended_tasks: BTreeMap<RunId, BTreeSet<TaskName>>,
    /// How each run ended here, by the record that was committed.
    pub ended_runs: BTreeMap<RunId, RunOutcome>,
    /// Runs whose end was given up for want of space.
    pub lost_ends: BTreeSet<RunId>,
    /// Whether an end of a run was given up before it got a number.
    pub lost_unnamed: bool,
    /// The last attempt that was begun, and what becomes of it when it is cut off.
    begun: BTreeMap<(RunId, TaskName), (u32, OnInterrupt)>,
}

/// What was true of the coordinator's disk at its last commit.
#[derive(Debug, Default)]
pub(super) struct CenterWitness {
    head: u64,
    through: BTreeMap<AgentId, [u64; 2]>,
    next_generation: BTreeMap<AgentId, u64>,
    counters: BTreeMap<BundleName, u64>,
    /// What each agent was ever given under each generation.
    given: BTreeMap<(AgentId, u64), Item>,
    /// The releases of the agent that each was ordered to go to.
    pub(super) updates: BTreeSet<(AgentId, u64)>,
    /// Runs that an agent was ever assigned.
    assigned: BTreeSet<(AgentId, RunId)>,
}

impl CenterWitness {
    /// Whether an agent was given this under a generation above `after`.
    pub(super) fn was_given(&self, agent: AgentId, after: u64, item: Item) -> bool {
        self.given.range((agent, after + 1)..=(agent, u64::MAX)).any(|(_, given)| *given == item)
    }
}

/// Fails in the name of an invariant unless `holds`.
pub(super) fn hold(invariant: &'static str, holds: bool, detail: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(Violation { invariant, detail: detail() }) }
}

/// A job is taken on only for a release that publishers signed for this host, that had not expired, that is no
/// older than any accepted before, and that the coordinator assigned.
pub(super) fn runs_only_what_was_signed_and_assigned(
    host: &Host,
    job: &Job,
    now: Millis,
    center: &CenterWitness,
) -> Check {
    let name = "runs_only_what_was_signed_and_assigned";
    let release = publisher().find(&job.bundle, job.manifest);
    hold(name, release.is_some(), || format!("{} was never signed: {job:?}", job.manifest))?;
    let Some((release, id)) = release.zip(host.id) else { return Ok(()) };
    let metadata = &release.metadata;
    let text = id.to_string();
    let labels = [&host.token_labels, &host.plan.labels];
    let subject = Subject { id: &text, name: &host.plan.name, labels: &labels };
    hold(name, metadata.audience.matches(subject), || format!("{job:?} is for others"))?;
    hold(name, now < metadata.expires, || format!("{job:?} had expired"))?;
    hold(name, metadata.capabilities == job.capabilities, || format!("{job:?} may not use that"))?;
    let values = serde_json::from_str(&job.values).unwrap_or_default();
    hold(name, metadata.takes(&values).is_ok(), || format!("{job:?} has values that nobody signed"))?;
    let newest = host.witness.counters.get(&job.bundle).copied().unwrap_or(0);
    hold(name, newest <= metadata.counter, || format!("{job:?} is older than release {newest}"))?;
    hold(name, center.assigned.contains(&(id, job.run)), || format!("{job:?} was never assigned"))
}

/// An agent hands over only to a binary that the makers of the agent signed, and that the coordinator ordered it to go to.
pub(super) fn updates_only_to_what_was_signed_and_assigned(
    id: Option<AgentId>,
    counter: u64,
    update: Option<&Update>,
    center: &CenterWitness,
) -> Check {
    let name = "updates_only_to_what_was_signed_and_assigned";
    let signed = publisher().agent_releases.iter().map(|(_, release)| release).find(|r| r.counter == counter);
    let same = signed.zip(update).is_some_and(|(release, update)| {
        let binary = release.targets.iter().next();
        update.version == release.version && binary.is_some_and(|binary| binary.digest == update.digest)
    });
    hold(name, same, || format!("release {counter} was not signed so: {update:?}"))?;
    let ordered = id.is_some_and(|id| center.updates.contains(&(id, counter)));
    hold(name, ordered, || format!("release {counter} was not ordered"))
}

/// In the end the coordinator knows how the newest update of an agent ended, unless the agent lost what it had to say.
pub(super) fn the_coordinator_knows_how_updates_ended(host: &Host, center: &CenterDisk) -> Check {
    let state = &host.disk.state;
    let forgot = host.rolled_back || 0 < state.lanes[Lane::Results.index()].dropped.runs;
    let standing = host.id.and_then(|id| center.state.agents.get(&id)?.update.as_deref());
    // One that is queued may not have been asked for yet.
    let told = |state: UpdateState| !state.is_final() && state != UpdateState::Queued;
    let open = standing.is_some_and(|standing| told(standing.state));
    hold("the_coordinator_knows_how_updates_ended", forgot || !open || state.update.is_some(), || {
        format!("{} goes to nothing, the coordinator says {standing:?}", host.plan.name)
    })
}

/// What runs was ordered, or installed.
pub(super) fn runs_a_version_that_was_ordered(known: bool, version: &str) -> Check {
    hold("updates_only_to_what_was_signed_and_assigned", known, || format!("version {version} was never ordered"))
}

/// An agent's numbers only rise: the accepted generation, the lanes' numbers and the bundles' counters.
pub(super) fn numbers_never_fall(witness: &mut HostWitness, disk: &AgentDisk, removed: &Removed) -> Check {
    let name = "numbers_never_fall";
    let misnumbered = removed.misnumbered;
    hold(name, misnumbered.is_none(), || format!("a record's number, and the lane's next: {misnumbered:?}"))?;
    let state = &disk.state;
    hold(name, witness.accepted <= state.accepted, || {
        format!("accepted generation {} after {}", state.accepted, witness.accepted)
    })?;
    witness.accepted = state.accepted;
    if let Some(root) = &state.root {
        let version = publisher().version_of(root);
        // Several may come at once, but none is passed over: each was held against the one before.
        hold(name, 0 < version && witness.root <= version, || format!("root {version} after {}", witness.root))?;
        witness.root = version;
    }
    // A root that names another online key lets a head begin anew.
    if witness.head.as_ref().map(|(_, head)| head) != state.head.as_ref() {
        let before = witness.head.take().map_or(0, |(version, _)| version);
        if let Some(head) = &state.head {
            let version = head_version(head);
            hold("only_the_coordinators_heads_count", 0 < version, || format!("{head:?}"))?;
            hold(name, before <= version, || format!("head {version} after {before}"))?;
            witness.head = Some((version, head.clone()));
        }
    }
    for lane in Lane::ALL {
        let (before, after) = (&mut witness.next_seq[lane.index()], state.lanes[lane.index()].next_seq);
        hold(name, *before <= after, || format!("{lane:?} goes on at {after} after {before}"))?;
        *before = after;
    }
    for (bundle, seen) in &state.seen {
        let before = witness.counters.entry(bundle.clone()).or_default();
        hold(name, *before <= seen.counter, || format!("{bundle} {} after {before}", seen.counter))?;
        *before = seen.counter;
    }
    Ok(())
}

/// The coordinator's numbers only rise: what it counted, the generations it gives and the bundles' counters; and a
/// generation never gets another content.
pub(super) fn numbers_never_fall_at_the_coordinator(
    witness: &mut CenterWitness,
    disk: &CenterDisk,
    writes: &[coordinator::Write],
) -> Check {
    let name = "numbers_never_fall";
    for write in writes {
        match write {
            coordinator::Write::PutInbox(agent, lane, inbox) => {
                let through = &mut witness.through.entry(*agent).or_default()[lane.index()];
                hold(name, *through <= inbox.through, || format!("counted {} after {through}", inbox.through))?;
                *through = inbox.through;
            }
            coordinator::Write::PutAgent(id, _) => {
                let next = disk.state.agents.get(id).map_or(0, |agent| agent.next_generation);
                let before = witness.next_generation.entry(*id).or_default();
                hold(name, *before <= next, || format!("next generation {next} after {before}"))?;
                *before = next;
            }
            coordinator::Write::PutWork(agent, generation, item) => {
                let given = witness.given.insert((*agent, *generation), *item);
                let same = given.is_none_or(|before| before == *item);
                hold(name, same, || format!("generation {generation} of {agent} was {given:?}, is {item:?}"))?;
                match item {
                    Item::Run(run) => drop(witness.assigned.insert((*agent, *run))),
                    Item::Update { counter, .. } => drop(witness.updates.insert((*agent, *counter))),
                    Item::Cancel(_) | Item::CancelUpdate { .. } => {}
                }
            }
            coordinator::Write::PutRelease(release) => {
                let (bundle, counter) = (&release.metadata.name, release.metadata.counter);
                let before = witness.counters.entry(bundle.clone()).or_default();
                hold(name, *before < counter, || format!("{bundle} {counter} after {before}"))?;
                *before = counter;
            }
            coordinator::Write::PutHead(head) => {
                let before = std::mem::replace(&mut witness.head, head.version);
                hold(name, before < head.version, || format!("head {} after {before}", head.version))?;
            }
            coordinator::Write::PutRoot(..)
            | coordinator::Write::DropWork(..)
            | coordinator::Write::PutToken(..)
            | coordinator::Write::DropToken(_)
            | coordinator::Write::DropRelease(..)
            | coordinator::Write::PutAgentRelease(_)
            | coordinator::Write::DropAgentRelease(_)
            | coordinator::Write::PutRun(..)
            | coordinator::Write::PutJob(..)
            | coordinator::Write::Append(..)
            | coordinator::Write::PutReceipt(_)
            | coordinator::Write::ForgetAgent(_)
            | coordinator::Write::PutRollout(..)
            | coordinator::Write::PutRolloutHost(..)
            | coordinator::Write::PutOperator(..)
            | coordinator::Write::DropOperator(_)
            | coordinator::Write::DropRolloutHosts(..)
            | coordinator::Write::DropRollout(_)
            | coordinator::Write::ForgetRun(_) => {}
        }
    }
    Ok(())
}

/// What has ended is not begun again: neither a task, nor a run.
pub(super) fn finished_tasks_are_not_run_again(witness: &HostWitness, effect: &Effect) -> Check {
    let name = "finished_tasks_are_not_run_again";
    match effect {
        Effect::Start(start) => {
            let run = start.job.run;
            hold(name, !witness.ended_runs.contains_key(&run), || format!("run {run} has ended"))?;
            let known: BTreeSet<&TaskName> = start.ended.iter().map(|end| &end.task).collect();
            let ended = witness.ended_tasks.get(&run).into_iter().flatten();
            let forgotten = ended.filter(|task| !known.contains(task)).collect::<Vec<_>>();
            hold(name, forgotten.is_empty(), || format!("the worker of {run} is not told of {forgotten:?}"))
        }
        Effect::Go { run, task } => {
            let ended = witness.ended_tasks.get(run).is_some_and(|tasks| tasks.contains(task));
            hold(name, !ended, || format!("{task} of {run} has ended"))
        }
        Effect::Connect { .. }
        | Effect::Disconnect
        | Effect::Ask { .. }
        | Effect::Fetch { .. }
        | Effect::Noted { .. }
        | Effect::Stop { .. }
        | Effect::Forget { .. }
        | Effect::Stage(_)
        | Effect::Switch { .. }
        | Effect::ForgetUpdate { .. }
        | Effect::UpdateNoted { .. }
        | Effect::Note(_) => Ok(()),
    }
}

/// Attempts are numbered upwards, and after one that must not be repeated there is no other.
pub(super) fn an_attempt_without_retry_is_begun_at_most_once(
    witness: &mut HostWitness,
    disk: &AgentDisk,
    effect: &Effect,
) -> Check {
    let name = "an_attempt_without_retry_is_begun_at_most_once";
    let Effect::Go { run, task } = effect else { return Ok(()) };
    let state = disk.state.tasks.get(run).and_then(|tasks| tasks.get(task));
    let Some(TaskState::Started { attempt, on_interrupt, .. }) = state else { return Ok(()) };
    if let Some((last, kind)) = witness.begun.insert((*run, task.clone()), (*attempt, *on_interrupt)) {
        hold(name, kind == OnInterrupt::Retry, || format!("{task} of {run}: attempt {last} is not to be repeated"))?;
        hold(name, last < *attempt, || format!("{task} of {run}: attempt {attempt} after {last}"))?;
    }
    Ok(())
}

/// No record is counted twice, and no job has two receipts unless its agent's disk went back.
pub(super) fn each_result_is_counted_once(
    counted: Counted,
    write: &coordinator::Write,
    went_back: &BTreeSet<AgentId>,
) -> Check {
    let once = match counted {
        Counted::NotAgain => true,
        Counted::Again(_) => false,
        Counted::ReceiptAgain(agent) => went_back.contains(&agent),
    };
    hold("each_result_is_counted_once", once, || format!("{counted:?}: {write:?}"))
}

/// A receipt that an agent forgets because it was acknowledged is in the chain, byte for byte, and its agent's key vouches
/// for it.
pub(super) fn acknowledged_receipts_are_kept(host: &Host, removed: &Removed, disk: &CenterDisk) -> Check {
    let Some(id) = host.id.filter(|_| !host.rolled_back) else { return Ok(()) };
    for (_, record) in &removed.acked {
        let RecordBody::Receipt { payload, .. } = &record.body else { continue };
        let kept = disk.receipts.get(&(record.run, id));
        let same = kept.is_some_and(|kept| kept.payload.as_bytes() == payload && vouches(host, kept));
        hold("acknowledged_receipts_are_kept", same, || format!("{record:?}, kept is {kept:?}"))?;
    }
    Ok(())
}

fn vouches(host: &Host, kept: &ReceiptRow) -> bool {
    let key = host.receipt_key();
    let envelope = receipt_envelope(kept.payload.clone().into_bytes(), kept.signature.clone(), key.public());
    verify_receipt(&envelope, key.public()).is_ok_and(|receipt| (receipt.agent, receipt.run) == (kept.agent, kept.run))
}

/// In the end each run that ended on an agent, and whose end was not given up, has a receipt that says what the
/// coordinator's own records of it say.
pub(super) fn every_end_has_its_receipt(host: &Host, disk: &CenterDisk) -> Check {
    let name = "every_end_has_its_receipt";
    let witness = &host.witness;
    let Some(id) = host.id.filter(|_| !host.rolled_back && !witness.lost_unnamed) else { return Ok(()) };
    for (run, outcome) in witness.ended_runs.iter().filter(|(run, _)| !witness.lost_ends.contains(run)) {
        let kept = disk.receipts.get(&(*run, id));
        let receipt = kept.and_then(|kept| serde_json::from_str::<Receipt>(&kept.payload).ok());
        let job = disk.jobs.get(run).and_then(|jobs| jobs.get(&id));
        let agrees = receipt.as_ref().zip(job).is_some_and(|(receipt, job)| {
            receipt.outcome == ReceiptOutcome::from(*outcome)
                && JobState::from(*outcome) == job.job.state
                && receipt.message == Digest::of(job.end.message.as_bytes())
                && receipt.outputs == Digest::of(job.end.outputs.as_bytes())
        });
        hold(name, agrees, || format!("run {run} on {}: {receipt:?}, and {job:?}", host.plan.name))?;
    }
    Ok(())
}

/// What an agent forgets because it was acknowledged is on the coordinator's disk.
pub(super) fn none_acknowledged_is_lost(
    removed: &Removed,
    center: &CenterDisk,
    excused: &BTreeSet<RecordName>,
) -> Check {
    // Receipts and updates have places of their own.
    let elsewhere = |body: &RecordBody| matches!(body, RecordBody::Receipt { .. } | RecordBody::Update(_));
    let mut records = removed.acked.iter().filter(|(_, record)| !elsewhere(&record.body));
    let lost = records.find(|(name, _)| !center.counted.contains(name) && !excused.contains(name));
    hold("none_acknowledged_is_lost", lost.is_none(), || format!("{lost:?}"))
}

/// An agent holds no more than it may.
pub(super) fn queues_stay_under_their_bounds(host: &Host) -> Check {
    let name = "queues_stay_under_their_bounds";
    for lane in Lane::ALL {
        let state = &host.disk.state.lanes[lane.index()];
        let cap = host.plan.outbox[lane.index()];
        hold(name, state.bytes <= cap, || format!("{lane:?}: {} bytes, {cap} allowed", state.bytes))?;
        let sum: usize = state.entries.values().map(|entry| entry.bytes).sum();
        hold(name, sum == state.bytes, || format!("{lane:?}: {sum} bytes wait, {} are counted", state.bytes))?;
        let kept = host.disk.records[lane.index()].keys().eq(state.entries.keys());
        hold(name, kept, || format!("{lane:?}: the numbers in memory and on the disk differ"))?;
    }
    hold(name, host.disk.state.jobs.len() <= JOBS_MAX, || "too many jobs".to_owned())?;
    hold(name, host.workers.len() <= host.plan.runs_max, || format!("{} workers", host.workers.len()))
}

/// The coordinator holds no more than it may.
pub(super) fn queues_stay_under_their_bounds_at_the_coordinator(disk: &CenterDisk) -> Check {
    let name = "queues_stay_under_their_bounds";
    // An order to cancel may wait behind each order to run.
    let most = 2 * WORK_WAITING_MAX;
    let full = disk.state.work.iter().find(|(_, work)| most < work.len());
    hold(name, full.is_none(), || format!("{full:?}"))?;
    hold(name, disk.state.runs.len() <= RUNS_ACTIVE_MAX, || "too many runs".to_owned())
}

/// What an agent's driver is told to do would be true after a crash, too.
pub(super) fn commit_before_send(disk: &AgentDisk, effect: &Effect) -> Check {
    let state = &disk.state;
    let task = |run: &RunId, task: &TaskName| state.tasks.get(run).and_then(|tasks| tasks.get(task));
    let true_on_disk = match effect {
        Effect::Ask { ask: Ask::Report { lane, seqs, .. }, .. } => {
            seqs.iter().all(|seq| disk.records[lane.index()].contains_key(seq))
        }
        Effect::Ask { ask: Ask::Poll(poll), .. } => poll.accepted == state.accepted,
        Effect::Start(start) => starts_from_the_disk(start, disk),
        Effect::Go { run, task: name } => matches!(task(run, name), Some(TaskState::Started { .. })),
        Effect::Noted { run, task: name } => matches!(task(run, name), Some(TaskState::Ended(_))),
        Effect::Forget { run } => !state.jobs.contains_key(run),
        Effect::Stage(update) => state.update.as_ref() == Some(update.as_ref()),
        Effect::Switch { counter, .. } => state.update.as_ref().is_some_and(|update| update.counter == *counter),
        Effect::ForgetUpdate { counter } => state.update.as_ref().is_none_or(|update| update.counter != *counter),
        Effect::UpdateNoted { number } => *number <= state.outcome,
        Effect::Ask { ask: Ask::Hello(_) | Ask::Renew, .. }
        | Effect::Connect { .. }
        | Effect::Disconnect
        | Effect::Fetch { .. }
        | Effect::Stop { .. }
        | Effect::Note(_) => true,
    };
    hold("commit_before_send", true_on_disk, || format!("{effect:?}"))
}

fn starts_from_the_disk(start: &Start, disk: &AgentDisk) -> bool {
    let running = |job: &Job| matches!(job.stage, Stage::Running { .. });
    let tasks = disk.state.tasks.get(&start.job.run);
    disk.state.jobs.get(&start.job.run).is_some_and(running)
        && start.ended.iter().all(|end| {
            tasks.and_then(|tasks| tasks.get(&end.task)).is_some_and(|state| *state == TaskState::Ended(end.clone()))
        })
}

/// What the coordinator tells would be true after a crash, too. `agent` is who is answered, if it is an agent.
pub(super) fn commit_before_send_of_the_coordinator(
    disk: &CenterDisk,
    agent: Option<AgentId>,
    answer: &Answer,
) -> Check {
    let state = &disk.state;
    let through =
        |lane: Lane| agent.and_then(|agent| state.inboxes.get(&agent)).map_or(0, |inbox| inbox[lane.index()].through);
    let true_on_disk = match answer {
        Answer::Welcome { welcome, .. } => Lane::ALL.iter().all(|lane| welcome.acked[lane.index()] <= through(*lane)),
        Answer::Agent(AgentResponse::Acked(acked)) => acked.through <= through(acked.lane),
        Answer::Work(orders) => {
            // Another one may have followed in the same commit.
            let is_kept = |head: &Unsigned| disk.heads.get(&head.domain.version) == Some(&head.payload);
            let head_is_kept = orders.head.as_ref().is_none_or(is_kept);
            head_is_kept
                && orders.items.iter().all(|(generation, instruction)| {
                    let agent = agent.and_then(|agent| Some((agent, state.agents.get(&agent)?)));
                    agent.is_some_and(|(id, record)| {
                        let known = match instruction {
                            Instruction::Run { run, .. } => {
                                disk.jobs.get(run).is_some_and(|jobs| jobs.contains_key(&id))
                            }
                            Instruction::Cancel { .. }
                            | Instruction::Update { .. }
                            | Instruction::CancelUpdate { .. } => true,
                        };
                        known && *generation < record.next_generation
                    })
                })
        }
        Answer::Enrolled { agent, .. } => state.agents.contains_key(agent),
        Answer::Operator(Reply::Started(started)) => started.agents == 0 || disk.jobs.contains_key(&started.run),
        Answer::Operator(Reply::Ended(run)) => state.ended.contains(run),
        Answer::Operator(Reply::Cancelling(run)) => state.runs.get(run).is_none_or(|run| run.cancelled),
        Answer::Operator(Reply::Published(published)) if published.name == "sloth-agent" => {
            state.releases.contains_key(&published.counter)
        }
        Answer::Operator(Reply::Published(published)) => state.bundles.values().flatten().any(|(counter, release)| {
            *counter == published.counter && release.metadata.name.as_str() == published.name
        }),
        Answer::Operator(Reply::Operator(operator)) => {
            let kept = state.operators.get(&operator.name).and_then(|kept| kept.withdrawn.as_ref());
            kept == operator.withdrawn.as_ref()
        }
        Answer::Operator(Reply::Root(root)) => root.as_deref() == state.root(),
        // What the driver alone makes.
        Answer::Agent(AgentResponse::Work(_) | AgentResponse::Welcome(_)) => false,
        Answer::Agent(AgentResponse::Blob(_) | AgentResponse::Renewed(_) | AgentResponse::Refused(_))
        | Answer::Operator(
            Reply::Done
            | Reply::Token { .. }
            | Reply::Tokens(_)
            | Reply::Operators(_)
            | Reply::Agents(_)
            | Reply::Agent(_)
            | Reply::Bundles(_)
            | Reply::Releases(_)
            | Reply::Rollout(_),
        )
        | Answer::Certify { .. }
        | Answer::Refused(_) => true,
    };
    hold("commit_before_send", true_on_disk, || format!("{answer:?}"))
}

/// A job that has ended stays as it ended; only one that was given up for lack of news may still learn how it did,
/// and an agent whose disk went back may end what it has forgotten to have ended.
pub(super) fn a_final_state_stays_final(
    disk: &CenterDisk,
    write: &coordinator::Write,
    went_back: &BTreeSet<AgentId>,
) -> Check {
    let coordinator::Write::PutJob(run, agent, update) = write else { return Ok(()) };
    let before = disk.jobs.get(run).and_then(|jobs| jobs.get(agent)).map(|update| update.job.state);
    let after = update.job.state;
    let fits = match before {
        None => true,
        Some(JobState::Expired) => after.is_final(),
        Some(before) if before.is_final() && went_back.contains(agent) => after.is_final(),
        Some(before) => !before.is_final() || before == after,
    };
    hold("a_final_state_stays_final", fits, || format!("{run} on {agent}: {before:?}, then {after:?}"))
}

/// Whoever asks to be woken at once, twice in a row, is busy with nothing.
pub(super) fn nobody_spins(spins: &mut u32, asked_at_once: bool) -> Check {
    const SPINS_MAX: u32 = 2;
    *spins = if asked_at_once { *spins + 1 } else { 0 };
    hold("nobody_spins", *spins < SPINS_MAX, || format!("{spins} times"))
}

impl HostWitness {
    /// Notes what a commit changed. To be called after the checks.
    pub(super) fn note(&mut self, writes: &[sloth_protocol::agent::Write], removed: &Removed) {
        use sloth_protocol::agent::Write;
        for write in writes {
            match write {
                Write::PutTask { run, task, state: TaskState::Ended(_) } => {
                    self.ended_tasks.entry(*run).or_default().insert(task.clone());
                }
                Write::PutRecord { record, .. } => {
                    if let RecordBody::RunEnded(end) = &record.body {
                        self.ended_runs.insert(record.run, end.outcome);
                    }
                }
                Write::DropRecords { class: Class::Run, seqs, .. } if seqs.contains(&0) => self.lost_unnamed = true,
                Write::PutJob(_)
                | Write::EndJob(_)
                | Write::DropRecords { .. }
                | Write::PutTask { .. }
                | Write::Accepted(_)
                | Write::PutRoot(_)
                | Write::PutHead(_)
                | Write::ForgetHead
                | Write::ForgetSeen(_)
                | Write::Seen { .. }
                | Write::Acked { .. }
                | Write::Renumber { .. }
                | Write::ReleaseSeen { .. }
                | Write::ForgetReleases
                | Write::PutUpdate(_)
                | Write::DropUpdate
                | Write::OutcomeTaken(_) => {}
            }
        }
        for (_, record) in &removed.shed {
            if let RecordBody::RunEnded(_) | RecordBody::Receipt { .. } = record.body {
                self.lost_ends.insert(record.run);
            }
        }
    }
}

/// The version of a head; zero for one that is not signed by an online key.
fn head_version(envelope: &[u8]) -> u64 {
    let envelope = Envelope::decode(envelope).ok();
    let domain = envelope.as_ref().and_then(|envelope| envelope.claimed_domain().ok());
    let Some((envelope, domain)) = envelope.zip(domain) else { return 0 };
    let signed_by = |key: &MachineKey| {
        let role = RoleKeys::new(vec![key.public().clone()], 1).expect("a role");
        verify_threshold(&role, &envelope, &domain).is_ok()
    };
    if publisher().online.iter().any(signed_by) { domain.version } else { 0 }
}

/// The manifest whose bundle is not signed by anybody.
pub(super) fn unsigned_manifest() -> Digest {
    Digest::of(b"nobody signed this")
}
