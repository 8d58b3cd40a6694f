use proptest::prelude::*;

use super::*;
use crate::plan::{OnTaskFailure, TaskSpec, WorkflowSpec};

fn plan(edges: &[(usize, usize)], tasks: usize, on_task_failure: OnTaskFailure) -> Plan {
    plan_with(edges, &[], tasks, on_task_failure)
}

/// As [`plan`]; in `failures` the higher number waits for the lower one to fail.
fn plan_with(
    edges: &[(usize, usize)],
    failures: &[(usize, usize)],
    tasks: usize,
    on_task_failure: OnTaskFailure,
) -> Plan {
    let below = |n: usize, edges: &[(usize, usize)]| -> Vec<usize> {
        edges.iter().filter(|(a, b)| *a.max(b) == n && a != b).map(|(a, b)| *a.min(b)).collect()
    };
    let tasks = (0..tasks).map(|n| {
        let if_failed = below(n, failures);
        let depends_on = below(n, edges).into_iter().filter(|other| !if_failed.contains(other));
        TaskSpec {
            name: n.to_string(),
            depends_on: depends_on.map(|n| n.to_string()).collect(),
            if_failed: if_failed.iter().map(ToString::to_string).collect(),
            ..TaskSpec::default()
        }
    });
    let spec = WorkflowSpec { name: "w".into(), on_task_failure, tasks: tasks.collect(), ..WorkflowSpec::default() };
    Plan::new(spec, 1000).expect("a plan")
}

/// Plays a plan: `script` says how tasks end; what happened is told in order, `+` start, `-` end, `~` skip, `o` spare,
/// `x` drop.
fn play(
    edges: &[(usize, usize)],
    tasks: usize,
    parallel: usize,
    policy: OnTaskFailure,
    script: &[(usize, Ended)],
) -> String {
    play_plan(&plan(edges, tasks, policy), parallel, script)
}

fn play_plan(plan: &Plan, parallel: usize, script: &[(usize, Ended)]) -> String {
    let mut scheduler = Scheduler::new(plan, parallel);
    let mut told = Vec::new();
    let mut running = Vec::new();
    loop {
        match scheduler.step() {
            Step::Start(task) => {
                told.push(format!("+{task}"));
                running.push(task);
            }
            Step::Skip { task, because } => told.push(format!("~{task}<{because}")),
            Step::Spare(task) => told.push(format!("o{task}")),
            Step::Drop(task) => told.push(format!("x{task}")),
            Step::Wait => {
                let task = running.remove(0);
                let ended = script.iter().find(|(which, _)| *which == task).map_or(Ended::Opens, |(_, ended)| *ended);
                told.push(format!("-{task}"));
                scheduler.end(task, ended);
            }
            Step::Done => return told.join(" "),
        }
    }
}

#[test]
fn tasks_start_when_what_they_wait_for_has_ended() {
    use OnTaskFailure::{Continue, Stop};
    let diamond = [(1, 0), (2, 0), (3, 1), (3, 2)];
    assert_eq!(play(&diamond, 4, 8, Continue, &[]), "+0 -0 +1 +2 -1 -2 +3 -3");
    assert_eq!(play(&diamond, 4, 1, Continue, &[]), "+0 -0 +1 -1 +2 -2 +3 -3");
    assert_eq!(play(&diamond, 4, 8, Continue, &[(1, Ended::Fails)]), "+0 -0 +1 +2 -1 ~3<1 -2");
    assert_eq!(play(&diamond, 5, 8, Continue, &[(0, Ended::Fails)]), "+0 +4 -0 ~1<0 ~2<0 ~3<1 -4");
    assert_eq!(play(&diamond, 5, 1, Stop, &[(0, Ended::Fails)]), "+0 -0 ~1<0 ~2<0 ~3<1 x4");
    assert_eq!(play(&diamond, 4, 8, Stop, &[(1, Ended::Fails)]), "+0 -0 +1 +2 -1 ~3<1 -2");
    assert_eq!(play(&[], 0, 8, Stop, &[]), "");
}

#[test]
fn a_task_that_waits_for_a_failure_starts_after_it_and_only_then() {
    use OnTaskFailure::{Continue, Rollback, Stop};
    // 1 handles the failure of 0; 2 depends on 0 and 3 on 1.
    let played =
        |policy, script: &[(usize, Ended)]| play_plan(&plan_with(&[(2, 0), (3, 1)], &[(1, 0)], 4, policy), 8, script);
    assert_eq!(played(Continue, &[]), "+0 -0 o1 +2 +3 -2 -3");
    assert_eq!(played(Continue, &[(0, Ended::Fails)]), "+0 -0 ~2<0 +1 -1 +3 -3");
    assert_eq!(played(Continue, &[(0, Ended::Blocks)]), "+0 -0 ~2<0 o1 +3 -3");
    for policy in [Stop, Rollback] {
        assert_eq!(played(policy, &[(0, Ended::Fails)]), "+0 -0 ~2<0 x3 +1 -1");
    }
    assert_eq!(played(Continue, &[(0, Ended::Aborts)]), "+0 -0 ~2<0 x3 +1 -1");
    // One of two failures is enough, and both are waited for.
    let plan = plan_with(&[], &[(2, 0), (2, 1)], 3, Continue);
    assert_eq!(play_plan(&plan, 8, &[(0, Ended::Fails)]), "+0 +1 -0 -1 +2 -2");
}

#[test]
fn what_ended_before_is_not_run_again() {
    let plan = plan(&[(1, 0), (2, 1)], 3, OnTaskFailure::Continue);
    let mut scheduler = Scheduler::new(&plan, 4);
    scheduler.end(0, Ended::Opens);
    assert!(scheduler.skipped_by_condition(1));
    assert_eq!(scheduler.step(), Step::Start(1));
    scheduler.end(1, Ended::Blocks);
    assert!(!scheduler.skipped_by_condition(2));
    assert_eq!(scheduler.step(), Step::Skip { task: 2, because: 1 });
    assert_eq!(scheduler.step(), Step::Done);
}

proptest! {
    #[test]
    fn every_task_ends_once_under_the_bound_and_after_its_dependencies(
        edges in prop::collection::vec((0_usize..30, 0_usize..30), 0..90),
        failures in prop::collection::vec((0_usize..30, 0_usize..30), 0..12),
        parallel in 1_usize..6,
        policy in prop::sample::select(vec![OnTaskFailure::Continue, OnTaskFailure::Stop, OnTaskFailure::Rollback]),
        ends in prop::collection::vec(0_u8..16, 30),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 30),
        halt_after in prop::option::of(0_usize..30),
    ) {
        let plan = plan_with(&edges, &failures, 30, policy);
        let mut scheduler = Scheduler::new(&plan, parallel);
        let mut ended = [None; 30];
        let mut running: Vec<usize> = Vec::new();
        let mut picks = picks.into_iter();
        let (mut failed, mut halted) = (false, false);
        loop {
            match scheduler.step() {
                Step::Start(task) => {
                    let awaits = |what| plan.awaited(task).filter(move |(_, a)| *a == what).map(|(other, _)| ended[other]);
                    let fails = |end| matches!(end, Some(Ended::Fails | Ended::Aborts));
                    prop_assert!(awaits(Awaited::Success).all(|end| end == Some(Ended::Opens)));
                    prop_assert!(awaits(Awaited::Failure).all(|end| end.is_some()));
                    let handler = !plan.tasks()[task].if_failed.is_empty();
                    prop_assert_eq!(handler, awaits(Awaited::Failure).any(fails));
                    prop_assert!(!halted && (handler || !failed), "it was stopped");
                    running.push(task);
                    prop_assert!(running.len() <= parallel);
                }
                Step::Skip { task, because } => {
                    prop_assert_eq!(ended[task], None);
                    prop_assert!(plan.awaited(task).any(|edge| edge == (because, Awaited::Success)));
                    prop_assert!(ended[because].is_some_and(|end| end != Ended::Opens));
                    ended[task] = Some(Ended::Blocks);
                }
                Step::Spare(task) => {
                    prop_assert!(ended[task].is_none() && !plan.tasks()[task].if_failed.is_empty());
                    ended[task] = Some(Ended::Opens);
                }
                Step::Drop(task) => {
                    prop_assert!((failed || halted) && ended[task].is_none());
                    ended[task] = Some(Ended::Blocks);
                }
                Step::Wait => {
                    prop_assert!(!running.is_empty(), "it waits for nothing");
                    let task = running.remove(picks.next().expect("one for each").index(running.len()));
                    let how = match ends[task] { 0 | 1 => Ended::Fails, 2 => Ended::Aborts, 3 => Ended::Blocks, 4.. => Ended::Opens };
                    failed |= how == Ended::Aborts || how == Ended::Fails && policy != OnTaskFailure::Continue;
                    prop_assert_eq!(ended[task].replace(how), None);
                    scheduler.end(task, how);
                    if halt_after == Some(task) {
                        halted = true;
                        scheduler.stop();
                    }
                }
                Step::Done => break,
            }
        }
        prop_assert!(running.is_empty() && ended.iter().all(Option::is_some));
    }
}
