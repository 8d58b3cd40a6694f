use proptest::prelude::*;

use super::*;
use crate::plan::{TaskSpec, WorkflowSpec};

fn plan(edges: &[(usize, usize)], tasks: usize, on_task_failure: OnTaskFailure) -> Plan {
    let tasks = (0..tasks).map(|n| TaskSpec {
        name: n.to_string(),
        depends_on: edges.iter().filter(|(a, b)| a.max(b) == &n && a != b).map(|(a, b)| a.min(b).to_string()).collect(),
        ..TaskSpec::default()
    });
    let spec = WorkflowSpec { name: "w".into(), on_task_failure, tasks: tasks.collect(), ..WorkflowSpec::default() };
    Plan::new(spec, 1000).expect("a plan")
}

/// Plays a plan: `script` says how tasks end; what happened is told in order, `+` start, `-` end, `~` skip, `x` drop.
fn play(
    edges: &[(usize, usize)],
    tasks: usize,
    parallel: usize,
    policy: OnTaskFailure,
    script: &[(usize, Ended)],
) -> String {
    let plan = plan(edges, tasks, policy);
    let mut scheduler = Scheduler::new(&plan, parallel);
    let mut told = Vec::new();
    let mut running = Vec::new();
    loop {
        match scheduler.step() {
            Step::Start(task) => {
                told.push(format!("+{task}"));
                running.push(task);
            }
            Step::Skip { task, because } => told.push(format!("~{task}<{because}")),
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
    assert_eq!(play(&diamond, 5, 1, Stop, &[(0, Ended::Fails)]), "+0 -0 x1 x2 x3 x4");
    assert_eq!(play(&diamond, 4, 8, Stop, &[(1, Ended::Fails)]), "+0 -0 +1 +2 -1 x3 -2");
    assert_eq!(play(&[], 0, 8, Stop, &[]), "");
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
        parallel in 1_usize..6,
        stop in any::<bool>(),
        ends in prop::collection::vec(0_u8..8, 30),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 30),
    ) {
        let plan = plan(&edges, 30, if stop { OnTaskFailure::Stop } else { OnTaskFailure::Continue });
        let mut scheduler = Scheduler::new(&plan, parallel);
        let mut ended = [None; 30];
        let mut running: Vec<usize> = Vec::new();
        let mut picks = picks.into_iter();
        loop {
            match scheduler.step() {
                Step::Start(task) => {
                    prop_assert!(plan.dependencies(task).all(|d| ended[d] == Some(Ended::Opens)));
                    running.push(task);
                    prop_assert!(running.len() <= parallel);
                }
                Step::Skip { task, because } => {
                    prop_assert_eq!(ended[task], None);
                    prop_assert!(plan.dependencies(task).any(|d| d == because));
                    ended[task] = Some(Ended::Blocks);
                }
                Step::Drop(task) => {
                    prop_assert!(stop && ended[task].is_none());
                    ended[task] = Some(Ended::Blocks);
                }
                Step::Wait => {
                    prop_assert!(!running.is_empty(), "it waits for nothing");
                    let task = running.remove(picks.next().expect("one for each").index(running.len()));
                    let how = match ends[task] { 0 => Ended::Fails, 1 => Ended::Blocks, 2.. => Ended::Opens };
                    prop_assert_eq!(ended[task].replace(how), None);
                    scheduler.end(task, how);
                }
                Step::Done => break,
            }
        }
        prop_assert!(running.is_empty() && ended.iter().all(Option::is_some));
    }
}
