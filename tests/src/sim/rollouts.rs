//! Rollouts in a simulation: what operators ask for, and what must hold of them.

use sloth_core::{AgentId, Millis, RolloutId};
use sloth_protocol::{
    coordinator::{Durable, Item, RolloutHost, RolloutOrder, RolloutRecord, Write},
    random::Random,
    rollout::{EVERYTHING, Standing},
    wire::{
        Approval, OnHalt, Passing, Resume, RolloutAction, RolloutAgent, RolloutBundle, RolloutRequest, RolloutSpec,
        RolloutStatus, RolloutWhat, Share, UpdateState, WaveMembers, WaveSpec,
    },
};

use super::{
    Bug,
    invariants::{Check, hold},
};

const ALL: Share = Share::Hundredths(EVERYTHING);
const NAME: &str = "a_rollout_keeps_its_budget";

/// A rollout that an operator asks for.
pub(super) fn create(number: u64, random: &mut Random) -> RolloutRequest {
    let mut pick = |from: &[u32]| from[usize::try_from(random.below(from.len() as u64)).unwrap_or(0)];
    let soak = Millis::from_secs(u64::from(pick(&[0, 5, 60])));
    let wave = |share| WaveSpec { members: WaveMembers::UpTo(share), soak, approval: Approval::NotNeeded };
    let first = pick(&[1, 2, 3]);
    let bundle = ["app", "web"][usize::from(pick(&[0, 1, 1]) == 0)];
    let what = match pick(&[0, 1, 2, 3]) {
        version @ (0 | 1) => RolloutWhat::Agent(RolloutAgent {
            version: ["0.2.0", "0.3.0"][usize::from(version == 0)].to_owned(),
            channel: None,
        }),
        _ => RolloutWhat::Bundle(RolloutBundle {
            name: bundle.to_owned(),
            version: None,
            workflow: None,
            values: r#"{"colour":"green"}"#.to_owned(),
        }),
    };
    RolloutRequest::Create(RolloutSpec {
        name: name(number),
        what,
        selector: "*".to_owned(),
        waves: vec![wave(Share::Count(first)), wave(Share::Count(first + pick(&[1, 2]))), wave(ALL)],
        errors_per_wave: Share::Count(pick(&[0, 1, 2])),
        errors_in_all: ALL,
        unproven_max: Share::Count(pick(&[1, 2, 3, 100])),
        proven_min: Share::Count(1),
        windows: Vec::new(),
        silent_after: 2,
        timeout: Millis::from_secs(600),
        on_halt: if pick(&[0, 1]) == 0 { OnHalt::Stop } else { OnHalt::RollBack },
    })
}

/// Something that an operator does to one.
pub(super) fn act(number: u64, random: &mut Random) -> RolloutRequest {
    let action = match random.below(8) {
        0 => RolloutAction::Pause,
        1 => RolloutAction::Approve(Passing::Unproven),
        2 => RolloutAction::Abort,
        3 => RolloutAction::RollBack,
        4 => RolloutAction::Resume(Resume::Newest),
        _ => RolloutAction::Resume(Resume::Same),
    };
    RolloutRequest::Act { name: name(number), action }
}

fn name(number: u64) -> String {
    format!("roll-{number}")
}

/// Never more agents than its budget are changed and unproven, failed and silent ones among them; nobody is proven who
/// did not succeed; no wave begins without proof of the one before; and after a halt nothing new is assigned.
///
/// `state` is the disk before the write, `succeeded` says how what it was told truly ended on an agent, and `resumed` whether an
/// operator ever let a rollout of this name go on.
pub(crate) fn a_rollout_keeps_its_budget(
    state: &Durable,
    write: &Write,
    succeeded: impl Fn(AgentId, &RolloutOrder) -> bool,
    resumed: impl Fn(&str) -> bool,
) -> Check {
    if let Write::PutRolloutHost(id, agent, row) = write {
        return host_changes(state, *id, *agent, row, succeeded);
    }
    if let Write::PutRollout(id, record) = write {
        return rollout_changes(state, *id, record, resumed);
    }
    Ok(())
}

fn host_changes(
    state: &Durable,
    id: RolloutId,
    agent: AgentId,
    row: &RolloutHost,
    succeeded: impl Fn(AgentId, &RolloutOrder) -> bool,
) -> Check {
    let Some(record) = state.rollouts.get(&id) else { return hold(NAME, false, || format!("there is no {id}")) };
    let rows = state.rollout_hosts.get(&id);
    let before = rows.and_then(|rows| rows.get(&agent));
    let is_new = before.is_none_or(|before| before.order != row.order);
    match row.standing {
        Standing::Assigned { .. } if is_new => {
            let again = before.is_some_and(|before| !matches!(before.standing, Standing::Held { .. }));
            hold(NAME, !again, || format!("{agent} is assigned again: {before:?}, {row:?}"))?;
            let status = record.status;
            let goes_on = matches!(status, RolloutStatus::Running | RolloutStatus::Complete);
            hold(NAME, goes_on, || format!("{agent} is assigned while {} is {}", record.spec.name, status.name()))?;
            hold(NAME, row.wave < record.open, || format!("{agent} is assigned before its wave"))?;
            let unproven = rows.into_iter().flatten().filter(|(_, row)| row.standing.is_unproven()).count() + 1;
            let most = record.spec.unproven_max.at_most(state.agents.len());
            hold(NAME, unproven <= most, || format!("{unproven} agents are changed and unproven, {most} may be"))
        }
        Standing::Proven => {
            hold(NAME, succeeded(agent, &row.order), || format!("{agent} is proven, and did not succeed: {row:?}"))
        }
        Standing::Waiting
        | Standing::Assigned { .. }
        | Standing::Succeeded { .. }
        | Standing::Failed
        | Standing::Held { .. }
        | Standing::Silent { .. }
        | Standing::Returning { .. }
        | Standing::Returned
        | Standing::NotReturned => Ok(()),
    }
}

fn rollout_changes(state: &Durable, id: RolloutId, record: &RolloutRecord, resumed: impl Fn(&str) -> bool) -> Check {
    let Some(before) = state.rollouts.get(&id) else { return Ok(()) };
    let name = &record.spec.name;
    let goes_on = before.status == RolloutStatus::Halted && record.status == RolloutStatus::Running;
    hold(NAME, !goes_on || resumed(name), || format!("{name} goes on after its halt, and nobody said so"))?;
    if before.attempt != record.attempt || record.open <= before.open {
        return Ok(());
    }
    let Some(wave) = before.open.checked_sub(1).filter(|wave| record.passed <= *wave) else { return Ok(()) };
    let rows = state.rollout_hosts.get(&id).into_iter().flat_map(|rows| rows.values());
    let mut of_it = rows.filter(|row| row.wave == wave).peekable();
    let proven = of_it.peek().is_none() || of_it.any(|row| row.standing == Standing::Proven);
    hold(NAME, proven, || format!("{name} passes wave {wave}, and nobody in it is proven"))
}

/// Whoever was ordered by a rollout that has halted or goes back, and has not begun, was told not to; `was_given` says
/// whether an agent was told something after a generation.
pub(super) fn a_halt_takes_back_what_was_not_begun(
    state: &Durable,
    was_given: impl Fn(AgentId, u64, Item) -> bool,
) -> Check {
    let is_over = |status: RolloutStatus| {
        matches!(status, RolloutStatus::Halted | RolloutStatus::RollingBack | RolloutStatus::RolledBack)
    };
    for (id, record) in state.rollouts.iter().filter(|(_, record)| is_over(record.status)) {
        for (agent, row) in state.rollout_hosts.get(id).into_iter().flatten() {
            let RolloutOrder::Update { counter, generation, .. } = &row.order else { continue };
            let update = state.agents.get(agent).and_then(|record| record.update.as_deref());
            let waits = update.is_some_and(|update| {
                let begun = !matches!(update.state, UpdateState::Queued | UpdateState::Accepted | UpdateState::Staged);
                update.generation == *generation && !begun
            });
            let forward = *counter == record.release.counter;
            let told = was_given(*agent, *generation, Item::CancelUpdate { counter: *counter });
            hold("a_halt_takes_back_what_was_not_begun", !forward || !waits || told, || {
                format!("{agent} still goes to release {counter}, and {} is {:?}", record.spec.name, record.status)
            })?;
        }
    }
    Ok(())
}

/// What a driver with a planted bug makes of the rollouts that it reads.
pub(super) fn forgetful(state: &mut Durable, bug: Bug) {
    match bug {
        Bug::ForgetRolloutHosts => state.rollout_hosts.clear(),
        Bug::BelieveInRollouts => {
            for row in state.rollout_hosts.values_mut().flat_map(|rows| rows.values_mut()) {
                if row.standing.is_unproven() {
                    row.standing = Standing::Proven;
                }
            }
        }
        Bug::ForgetHalts => {
            for record in state.rollouts.values_mut().filter(|record| record.status == RolloutStatus::Halted) {
                record.status = RolloutStatus::Running;
                record.spec.errors_per_wave = ALL;
                record.spec.unproven_max = ALL;
            }
        }
        Bug::SendBeforeCommit
        | Bug::ForgetSequence
        | Bug::AcceptLowerGeneration
        | Bug::RunAgainWhatEnded
        | Bug::ForgetWhatBegan
        | Bug::TrustAnotherRoot
        | Bug::AcknowledgeBeforeCommit
        | Bug::CountAgain
        | Bug::SignWithAnotherKey
        | Bug::ForgetReceipts
        | Bug::ForgetCancels
        | Bug::ConfirmWhatFailed
        | Bug::StartAnother
        | Bug::ReuseGenerations => {}
    }
}

/// Whether nothing is under way that a rollout began.
pub(super) fn rest(state: &Durable) -> bool {
    let moves = |standing: Standing| {
        matches!(standing, Standing::Assigned { .. } | Standing::Succeeded { .. } | Standing::Returning { .. })
    };
    let running = |id: &RolloutId| state.rollouts.get(id).is_some_and(|record| record.status == RolloutStatus::Running);
    let of_running = state.rollout_hosts.iter().filter(|(id, _)| running(id));
    !of_running.flat_map(|(_, rows)| rows.values()).any(|row| moves(row.standing))
}
