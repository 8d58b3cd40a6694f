//! A test of the tests: planners with a planted bug break a rule.

use sloth_protocol::{
    rollout::{Contact, Host, Plan, Progress, Situation, Spec, Standing, Verdict, plan},
    wire::{RolloutStatus, Share},
};

use super::{
    ALL, SILENT_AFTER,
    fleet::{Planner, roll_out},
};

/// A bug must be found within so many rollouts.
const SEEDS_MAX: u64 = 80;
/// Rollouts that are run to an end that never comes.
const FEW: u64 = 5;

/// The bug is found, by an error that speaks of it.
#[track_caller]
fn is_found(planner: Planner, words: &[&str]) {
    let found = (0..SEEDS_MAX).find_map(|seed| roll_out(seed, 60, 200, planner).err());
    let found = found.unwrap_or_else(|| panic!("not found within {SEEDS_MAX} rollouts"));
    assert!(words.iter().any(|word| found.contains(word)), "found by something else: {found}");
}

/// The verdict on another situation than there is.
fn on(situation: &Situation<'_>, progress: Progress, spec: &Spec, change: impl Fn(Host) -> Host) -> Plan {
    let hosts: Vec<Host> = situation.hosts.iter().map(|host| change(*host)).collect();
    plan(&Situation { now: situation.now, spec, progress, hosts: &hosts })
}

fn with_spec(situation: &Situation<'_>, change: impl Fn(&mut Spec)) -> Plan {
    let mut spec = situation.spec.clone();
    change(&mut spec);
    on(situation, situation.progress, &spec, |host| host)
}

#[test]
fn passing_without_evidence_is_found() {
    fn bug(situation: &Situation<'_>) -> Plan {
        let progress = Progress { passed: usize::MAX, ..situation.progress };
        on(situation, progress, situation.spec, |host| host)
    }
    is_found(bug, &["nothing shows that the one before is well"]);
}

#[test]
fn time_that_counts_as_evidence_is_found() {
    fn bug(situation: &Situation<'_>) -> Plan {
        let heard = |host: Host| Host { contact: Contact { heard: Some(situation.now), ..host.contact }, ..host };
        on(situation, situation.progress, situation.spec, heard)
    }
    is_found(bug, &["while it was away", "begins after", "are changed and unproven"]);
}

#[test]
fn silence_that_does_not_count_is_found() {
    fn bug(situation: &Situation<'_>) -> Plan {
        let proven = |host: Host| {
            let is_silent = matches!(host.standing, Standing::Silent { .. });
            if is_silent { Host { standing: Standing::Proven, ..host } } else { host }
        };
        on(situation, situation.progress, situation.spec, proven)
    }
    is_found(bug, &["begins after", "nothing shows", "are changed and unproven"]);
}

#[test]
fn failures_that_do_not_count_are_found() {
    fn bug(situation: &Situation<'_>) -> Plan {
        with_spec(situation, |spec| (spec.errors_per_wave, spec.errors_in_all) = (ALL, ALL))
    }
    is_found(bug, &["begins after", "are changed and unproven"]);
}

#[test]
fn a_forgotten_bound_is_found() {
    fn bug(situation: &Situation<'_>) -> Plan {
        with_spec(situation, |spec| spec.unproven_max = ALL)
    }
    is_found(bug, &["are changed and unproven"]);
}

#[test]
fn a_bound_that_is_off_by_one_is_found() {
    fn bug(situation: &Situation<'_>) -> Plan {
        with_spec(situation, |spec| {
            if let Share::Count(most) = spec.unproven_max {
                spec.unproven_max = Share::Count(most + 1);
            }
        })
    }
    is_found(bug, &["are changed and unproven"]);
}

#[test]
fn a_soak_that_is_forgotten_is_found() {
    fn bug(situation: &Situation<'_>) -> Plan {
        with_spec(situation, |spec| spec.waves.iter_mut().for_each(|wave| wave.soak = sloth_core::Millis::ZERO))
    }
    is_found(bug, &["nothing shows that the one before is well", "are changed and unproven"]);
}

#[test]
fn waves_that_all_begin_at_once_are_found() {
    fn bug(situation: &Situation<'_>) -> Plan {
        let progress = Progress { open: situation.spec.waves.len(), ..situation.progress };
        on(situation, progress, situation.spec, |host| host)
    }
    is_found(bug, &["assigned before its wave began"]);
}

#[test]
fn going_on_after_a_halt_is_found() {
    fn bug(situation: &Situation<'_>) -> Plan {
        let halted = situation.progress.status == RolloutStatus::Halted;
        let status = if halted { RolloutStatus::Running } else { situation.progress.status };
        let mut spec = situation.spec.clone();
        if halted {
            (spec.errors_per_wave, spec.errors_in_all) = (ALL, ALL);
        }
        on(situation, Progress { status, ..situation.progress }, &spec, |host| host)
    }
    is_found(bug, &["assigned after a halt"]);
}

#[test]
fn patience_without_end_is_found() {
    fn bug(situation: &Situation<'_>) -> Plan {
        with_spec(situation, |spec| {
            (spec.silent_after, spec.timeout) = (SILENT_AFTER * 10_000, sloth_core::Millis::MAX);
        })
    }
    // A rollout that waits for ever breaks no rule: it is found by that it never halts.
    let halts = |planner: Planner| {
        let statuses = (0..FEW).filter_map(|seed| roll_out(seed, 20, 1000, planner).ok());
        statuses.filter(|outcome| outcome.status == RolloutStatus::Halted).count()
    };
    assert!(halts(bug) < halts(plan));
}

#[test]
fn assigning_somebody_again_is_found() {
    fn bug(situation: &Situation<'_>) -> Plan {
        let mut plan = plan(situation);
        if let Verdict::Assign(hosts) = &mut plan.verdict {
            hosts.extend(hosts.first().copied());
        }
        plan
    }
    is_found(bug, &["assigned twice"]);
}
