//! The planner.

use sloth_core::{AgentId, Millis};

use super::{
    HELD_RETRY, Halt, Host, Presence, Reason, Situation, Standing, picture,
    window::{any_open, next_opening},
};
use crate::wire::{Approval, RolloutStatus, WaveCounts};

/// What is to be done next, and when to look again if nothing happens before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What is to be done.
    pub verdict: Verdict,
    /// When time alone may change the verdict; after now.
    pub wake_at: Option<Millis>,
}

/// What is to be done next. Whoever carries it out asks again, but after [`Verdict::Wait`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Hosts stand otherwise than was noted, by what was heard of them or was not.
    Settle(Vec<(AgentId, Standing)>),
    /// This wave begins.
    Open {
        /// The wave, from 0.
        wave: usize,
    },
    /// These hosts get the release.
    Assign(Vec<AgentId>),
    /// Nothing, for these reasons.
    Wait(Vec<Reason>),
    /// Nothing more, until an operator says otherwise.
    Halt(Halt),
    /// Every host in reach has the release, or is back where it was.
    Complete,
    /// These hosts go back to the release before.
    RollBack(Vec<AgentId>),
}

/// What is to be done next.
#[must_use]
pub fn plan(situation: &Situation<'_>) -> Plan {
    let settled = settle(situation);
    if !settled.is_empty() {
        return Plan { verdict: Verdict::Settle(settled), wake_at: None };
    }
    let verdict = match situation.progress.status {
        RolloutStatus::Running | RolloutStatus::Complete => advance(situation),
        RolloutStatus::Paused => Verdict::Wait(vec![Reason::Paused]),
        RolloutStatus::RollingBack | RolloutStatus::RolledBack => roll_back(situation),
        RolloutStatus::Halted | RolloutStatus::Aborted | RolloutStatus::Superseded => Verdict::Wait(Vec::new()),
    };
    let wake_at = match &verdict {
        Verdict::Wait(reasons) => next_change(situation, reasons),
        Verdict::Settle(_)
        | Verdict::Open { .. }
        | Verdict::Assign(_)
        | Verdict::Halt(_)
        | Verdict::Complete
        | Verdict::RollBack(_) => None,
    };
    Plan { verdict, wake_at }
}

/// The hosts that stand otherwise than was noted.
fn settle(situation: &Situation<'_>) -> Vec<(AgentId, Standing)> {
    let changed = |host: &Host| {
        let standing = settled(situation, host);
        (standing != host.standing).then_some((host.id, standing))
    };
    situation.hosts.iter().filter_map(changed).collect()
}

fn settled(situation: &Situation<'_>, host: &Host) -> Standing {
    let (now, spec) = (situation.now, situation.spec);
    let contact = &host.contact;
    let is_silent = |from: Millis| contact.silent_at(from, spec.silent_after).is_some_and(|at| at <= now);
    let heard_since = |at: Millis| contact.heard.is_some_and(|heard| at < heard);
    match host.standing {
        Standing::Assigned { at } if at + spec.timeout <= now => Standing::Failed,
        Standing::Assigned { at } if is_silent(at) => Standing::Silent { at: now, succeeded: None },
        Standing::Succeeded { at } if is_well(situation, host, at) => Standing::Proven,
        Standing::Succeeded { at } if is_silent(at) => Standing::Silent { at: now, succeeded: Some(at) },
        Standing::Silent { at, succeeded } if heard_since(at) => match succeeded {
            Some(at) => Standing::Succeeded { at },
            None => Standing::Assigned { at: now },
        },
        Standing::Returning { at } if at + spec.timeout <= now => Standing::NotReturned,
        Standing::Waiting
        | Standing::Assigned { .. }
        | Standing::Succeeded { .. }
        | Standing::Proven
        | Standing::Failed
        | Standing::Held { .. }
        | Standing::Silent { .. }
        | Standing::Returning { .. }
        | Standing::Returned
        | Standing::NotReturned => host.standing,
    }
}

/// Whether a host that succeeded at `at` was heard of after its soak. Without one, its success is the proof.
fn is_well(situation: &Situation<'_>, host: &Host, at: Millis) -> bool {
    let soak = soak_of(situation, host);
    soak == Millis::ZERO || host.contact.heard.is_some_and(|heard| at + soak <= heard)
}

fn soak_of(situation: &Situation<'_>, host: &Host) -> Millis {
    situation.spec.waves.get(host.wave).map_or(Millis::ZERO, |wave| wave.soak)
}

/// The next step of a rollout that goes on.
fn advance(situation: &Situation<'_>) -> Verdict {
    let Situation { now, spec, progress, hosts } = *situation;
    let counts = picture(now, spec.waves.len(), hosts);
    if let Some(halt) = over_budget(situation, &counts) {
        return Verdict::Halt(halt);
    }
    let mut reasons = Vec::new();
    let ready = ready(situation);
    if !ready.is_empty() {
        let unproven = hosts.iter().filter(|host| host.standing.is_unproven()).count();
        let most = spec.unproven_of(hosts.len());
        let waiting = ready.len();
        if !any_open(&spec.windows, now) {
            reasons.push(Reason::Closed { opens: next_opening(&spec.windows, now), waiting });
        } else if most <= unproven {
            reasons.push(Reason::Full { most, waiting });
        } else {
            return Verdict::Assign(ready.into_iter().take(most - unproven).collect());
        }
    }
    let waits = reasons.len();
    if let Some(wave) = progress.open.checked_sub(1) {
        let counts = counts.get(wave).copied().unwrap_or_default();
        look_at(situation, wave, counts, &mut reasons);
    }
    // Hosts that are merely out of reach hold nobody up, nor do those that keep themselves out.
    let holds = |reason: &Reason| !matches!(reason, Reason::Away { .. } | Reason::Held { .. });
    let held = reasons.iter().skip(waits).any(holds) || newest_waits(situation);
    if held {
        return Verdict::Wait(reasons);
    }
    next_wave(situation, &counts, reasons)
}

/// What keeps the newest wave from being passed, and who is out of reach in it.
fn look_at(situation: &Situation<'_>, wave: usize, counts: WaveCounts, reasons: &mut Vec<Reason>) {
    let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    let (under_way, soaking) = (count(counts.under_way), count(counts.soaking));
    let (members, proven) = (count(counts.members), count(counts.proven));
    if 0 < under_way + soaking {
        reasons.push(Reason::UnderWay { wave, under_way, soaking });
    } else if wave < situation.progress.passed || members == 0 || 0 < counts.waiting {
        // An operator, or the want of any member, lets it pass; who waits in reach is spoken of already.
    } else if proven == 0 && situation.progress.status == RolloutStatus::Running {
        reasons.push(Reason::NoEvidence { wave, members });
    } else {
        let wanted = situation.spec.proven_min.at_least(members - count(counts.held).min(members));
        if proven < wanted {
            reasons.push(Reason::TooFew { wave, proven, wanted });
        }
    }
    if 0 < counts.away {
        reasons.push(Reason::Away { wave, hosts: count(counts.away) });
    }
    if 0 < counts.held {
        reasons.push(Reason::Held { wave, hosts: count(counts.held) });
    }
}

/// Whether a member of the newest wave could be assigned, but for a bound or a window.
fn newest_waits(situation: &Situation<'_>) -> bool {
    let newest = situation.progress.open.checked_sub(1);
    situation.hosts.iter().any(|host| Some(host.wave) == newest && is_ready(situation, host))
}

fn next_wave(situation: &Situation<'_>, counts: &[WaveCounts], mut reasons: Vec<Reason>) -> Verdict {
    let Situation { spec, progress, .. } = *situation;
    let Some(next) = spec.waves.get(progress.open) else {
        let busy = |wave: &WaveCounts| 0 < wave.under_way + wave.soaking + wave.waiting;
        let done = !counts.iter().any(busy);
        return if done && progress.status == RolloutStatus::Running {
            Verdict::Complete
        } else {
            Verdict::Wait(reasons)
        };
    };
    if next.approval == Approval::Needed && progress.approved <= progress.open {
        reasons.push(Reason::Approval { wave: progress.open });
        return Verdict::Wait(reasons);
    }
    Verdict::Open { wave: progress.open }
}

fn over_budget(situation: &Situation<'_>, counts: &[WaveCounts]) -> Option<Halt> {
    let spec = situation.spec;
    let size = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    for (wave, counts) in counts.iter().enumerate() {
        // A wave that fails whole is never within its budget: nobody would be left to prove it.
        let others = size(counts.members).saturating_sub(size(counts.held) + 1);
        let allowed = spec.errors_per_wave.at_most(size(counts.members)).min(others);
        if allowed < size(counts.failed + counts.silent) {
            let (failed, silent) = (counts.failed, counts.silent);
            return Some(Halt::WaveBudget { wave: small(wave), failed, silent, allowed: small(allowed) });
        }
    }
    let failed = counts.iter().map(|wave| wave.failed).sum();
    let silent = counts.iter().map(|wave| wave.silent).sum();
    let allowed = spec.errors_in_all.at_most(situation.hosts.len());
    if allowed < size(failed + silent) {
        return Some(Halt::WholeBudget { failed, silent, allowed: small(allowed) });
    }
    let most = spec.unproven_of(situation.hosts.len());
    let is_stuck = most <= size(failed + silent) && situation.hosts.iter().any(|host| is_ready(situation, host));
    is_stuck.then(|| Halt::NoRoom { failed, silent, most: small(most) })
}

/// Who could be assigned now, in the order in which they are.
fn ready(situation: &Situation<'_>) -> Vec<AgentId> {
    let ready = situation.hosts.iter().filter(|host| is_ready(situation, host));
    let mut ready: Vec<_> = ready.map(|host| (host.wave, host.place, host.id)).collect();
    ready.sort_unstable();
    ready.into_iter().map(|(_, _, id)| id).collect()
}

fn is_ready(situation: &Situation<'_>, host: &Host) -> bool {
    let may = match host.standing {
        Standing::Waiting => true,
        // What its rules say today may be another thing.
        Standing::Held { at } => at + HELD_RETRY <= situation.now,
        Standing::Assigned { .. }
        | Standing::Succeeded { .. }
        | Standing::Proven
        | Standing::Failed
        | Standing::Silent { .. }
        | Standing::Returning { .. }
        | Standing::Returned
        | Standing::NotReturned => false,
    };
    may && host.wave < situation.progress.open && host.contact.in_reach(situation.now)
}

/// The next step of a rollout that takes hosts back. No budget holds it up: where it leads, the fleet was before.
fn roll_back(situation: &Situation<'_>) -> Verdict {
    let mut back = Vec::new();
    let (mut returning, mut away, mut changing) = (0, 0, 0);
    for host in situation.hosts {
        match host.standing {
            Standing::Assigned { .. } => changing += 1,
            Standing::Succeeded { .. } | Standing::Proven | Standing::Failed | Standing::Silent { .. } => {
                if host.contact.in_reach(situation.now) {
                    back.push((host.place, host.id));
                } else {
                    away += 1;
                }
            }
            Standing::Returning { .. } => returning += 1,
            Standing::Waiting | Standing::Held { .. } | Standing::Returned | Standing::NotReturned => {}
        }
    }
    if !back.is_empty() {
        back.sort_unstable();
        return Verdict::RollBack(back.into_iter().map(|(_, id)| id).collect());
    }
    if returning + changing == 0 && situation.progress.status == RolloutStatus::RollingBack {
        return Verdict::Complete;
    }
    let mut reasons = Vec::new();
    let mut say = |count: usize, reason: Reason| {
        if 0 < count {
            reasons.push(reason);
        }
    };
    say(returning, Reason::Returning { hosts: returning });
    say(changing, Reason::StillChanging { hosts: changing });
    say(away, Reason::ReturningAway { hosts: away });
    Verdict::Wait(reasons)
}

/// When time alone may change the verdict.
fn next_change(situation: &Situation<'_>, reasons: &[Reason]) -> Option<Millis> {
    let opening =
        reasons.iter().find_map(|reason| if let Reason::Closed { opens, .. } = reason { *opens } else { None });
    let of_hosts = situation.hosts.iter().filter_map(|host| changes_at(situation, host));
    of_hosts.chain(opening).filter(|at| situation.now < *at).min()
}

fn changes_at(situation: &Situation<'_>, host: &Host) -> Option<Millis> {
    let silent_at = |from: Millis| host.contact.silent_at(from, situation.spec.silent_after);
    match host.standing {
        Standing::Assigned { at } => [Some(at + situation.spec.timeout), silent_at(at)].into_iter().flatten().min(),
        Standing::Succeeded { at } if host.contact.presence == Presence::Connected => {
            Some(at + soak_of(situation, host))
        }
        Standing::Succeeded { at } => silent_at(at),
        Standing::Returning { at } => Some(at + situation.spec.timeout),
        Standing::Held { at } => Some(at + HELD_RETRY),
        Standing::Waiting
        | Standing::Proven
        | Standing::Failed
        | Standing::Silent { .. }
        | Standing::Returned
        | Standing::NotReturned => None,
    }
}
