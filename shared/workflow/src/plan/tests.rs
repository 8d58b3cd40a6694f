use proptest::prelude::*;

use super::*;

/// `"a; b after a; c after a, b"` as a workflow named `w`.
fn workflow(text: &str) -> WorkflowSpec {
    let tasks = text.split(';').map(|line| {
        let (name, after) = line.split_once(" after ").unwrap_or((line, ""));
        let depends_on = after.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        TaskSpec { name: name.trim().to_owned(), depends_on, ..TaskSpec::default() }
    });
    WorkflowSpec { name: "w".into(), tasks: tasks.collect(), ..WorkflowSpec::default() }
}

fn planned(text: &str) -> Result<String, String> {
    let plan = Plan::new(workflow(text), 8).map_err(|error| error.to_string())?;
    Ok(plan.order().iter().map(|&place| plan.tasks()[place].name.as_str()).collect::<Vec<_>>().join(" "))
}

#[test]
fn the_order_is_that_of_the_file_as_far_as_dependencies_allow() {
    for (text, order) in [
        ("a; b; c", "a b c"),
        ("a; b after a; c after a", "a b c"),
        ("c after b; b after a; a", "a b c"),
        ("d after c; a; c; b", "a c d b"),
        ("a; b after a, a, a", "a b"),
    ] {
        assert_eq!(planned(text), Ok(order.to_owned()), "{text}");
    }
}

#[test]
fn what_cannot_be_planned_is_named() {
    for (text, error) in [
        ("a; a", "workflow `w` has two tasks named `a`: give one of them another name"),
        (
            "build; test after biuld",
            "task `test` of workflow `w` depends on `biuld`, which is not one of its tasks; did you mean `build`?",
        ),
        ("build; test after zzz", "task `test` of workflow `w` depends on `zzz`, which is not one of its tasks"),
        ("a after a", "the tasks of workflow `w` wait for each other: `a → a`; remove one of these dependencies"),
        (
            "x after c; a after b; b after c; c after a",
            "the tasks of workflow `w` wait for each other: `a → b → c → a`; remove one of these dependencies",
        ),
        ("a; b; c; d; e; f; g; h; i", "workflow `w` has 9 tasks, and 8 is the most: split it"),
        ("a; ", "a task of workflow `w` has no name: write `task(\"name\")` or `name = \"…\"`"),
    ] {
        assert_eq!(planned(text), Err(error.to_owned()), "{text}");
    }
    let spec = WorkflowSpec { max_parallel_tasks: Some(0), ..workflow("a") };
    assert_eq!(Plan::new(spec, 8), Err(PlanError::NoneAtATime { workflow: "w".into() }));
    let mut spec = workflow("a; b after a");
    spec.tasks[1].if_failed = vec!["a".into()];
    let never = Plan::new(spec, 8).expect_err("it never runs").to_string();
    assert_eq!(never, "task `b` of workflow `w` waits for `a` to end well and to fail: write one of the two");
}

#[test]
fn every_problem_is_told_at_once() {
    let spec = WorkflowSpec { max_parallel_tasks: Some(0), ..workflow("a; a; b after x; ; c after d") };
    let told: Vec<_> = problems(&spec, 8).iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(
        told[1].contains("two tasks named `a`") && told[4].contains("`c` of workflow `w` depends on `d`"),
        "{told:?}"
    );
    assert_eq!(problems(&workflow("a after b; b after a"), 8).len(), 1);
    assert!(problems(&workflow("a; b after a"), 8).is_empty());
}

#[test]
fn a_long_cycle_is_shortened() {
    let text = (0..40).map(|n| format!("t{n} after t{}", (n + 1) % 40)).collect::<Vec<_>>().join(";");
    let error = Plan::new(workflow(&text), 100).expect_err("a cycle").to_string();
    assert!(error.contains("t0 → t1 → ") && error.contains("… 21 more … → t0"), "{error}");
}

#[test]
fn json_round_trips_and_is_checked() {
    let mut spec = workflow("a; b after a");
    spec.tasks[0].timeout_ms = Some(30_000);
    spec.tasks[1].delegate_to = vec!["web-1".into()];
    let plan = Plan::new(spec, 8).expect("a plan");
    let text = serde_json::to_string(&plan).expect("JSON");
    assert_eq!(serde_json::from_str::<Plan>(&text).expect("a plan"), plan);
    let broken = text.replace("\"depends_on\":[\"a\"]", "\"depends_on\":[\"b\"]");
    let error = serde_json::from_str::<Plan>(&broken).expect_err("a cycle").to_string();
    assert!(error.contains("b → b"), "{error}");
}

#[test]
fn waits_grow_as_their_strategy_says() {
    let first = Duration::from_secs(1);
    let waits = |backoff: Backoff| {
        [1, 2, 3, 4, 40].map(|failed| backoff.wait(first, failed, Duration::from_secs(60)).as_secs())
    };
    assert_eq!(waits(Backoff::Fixed), [1, 1, 1, 1, 1]);
    assert_eq!(waits(Backoff::Linear), [1, 2, 3, 4, 40]);
    assert_eq!(waits(Backoff::Exponential), [1, 2, 4, 8, 60]);
}

proptest! {
    #[test]
    fn an_order_respects_every_edge(edges in prop::collection::vec((0_usize..40, 0_usize..40), 0..200), shuffle in any::<u64>()) {
        // Edges lead from a higher number to a lower one, so there is no cycle; the file's order is shuffled.
        let mut names: Vec<usize> = (0..40).collect();
        names.sort_by_key(|n| (*n as u64 + 1).wrapping_mul(shuffle | 1) % 1009);
        let tasks = names.iter().map(|n| TaskSpec {
            name: n.to_string(),
            depends_on: edges.iter().filter(|(a, b)| a.max(b) == n && a != b).map(|(a, b)| a.min(b).to_string()).collect(),
            ..TaskSpec::default()
        });
        let spec = WorkflowSpec { name: "w".into(), tasks: tasks.collect(), ..WorkflowSpec::default() };
        let plan = Plan::new(spec, 40).expect("no cycle");
        let mut at = vec![0; 40];
        for (position, &place) in plan.order().iter().enumerate() {
            at[place] = position;
        }
        prop_assert_eq!(plan.order().len(), 40);
        for place in 0..40 {
            for dependency in plan.dependencies(place) {
                prop_assert!(at[dependency] < at[place]);
                prop_assert!(plan.dependents(dependency).any(|dependent| dependent == place));
            }
        }
    }
}
