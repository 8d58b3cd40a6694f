//! `kill -9` at random moments: of the coordinator, of the agent, of both, of a worker.
//!
//! `SLOTH_KILLS` says how many of each, `SLOTH_SEED` when.

use std::{thread, time::Duration};

use serde_json::Value;
use sloth_e2e::{AgentHost, Fleet, Process, RUN_LIMIT, Random, RunView, Witness, until};

use crate::scripts::marking_bundle;

/// Two chains beside each other, and in each a task that must not be repeated.
const PLAN: &str = "a1\n a2 after a1 retries\n a3 after a2 once\n a4 after a3\n a5 after a4\n\
                    b1 once\n b2 after b1 retries\n b3 after b2\n b4 after b3 once\n b5 after b4\n";
const CHAINS: [[&str; 5]; 2] = [["a1", "a2", "a3", "a4", "a5"], ["b1", "b2", "b3", "b4", "b5"]];
const ONCE: [&str; 3] = ["a3", "b1", "b4"];
const PAUSE_SECONDS: &str = "0.08";
/// About how long a run takes that nothing happens to, from the order to its end.
const RUN_SPAN: Duration = Duration::from_millis(750);
/// Longest that something is left dead.
const DEAD_SPAN: Duration = Duration::from_millis(300);
const ROUNDS_DEFAULT: u32 = 3;
/// From this many rounds on, some must have hit a task.
const ROUNDS_TELLING: u32 = 20;
/// Every how many rounds somebody follows the run. Who follows sends nothing, and so learns of a killed coordinator only
/// when it next says that it is there.
const FOLLOWED_EVERY: u32 = 5;

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Coordinator,
    Agent,
    Both,
    Worker,
}

#[test]
fn a_killed_coordinator_loses_nothing() {
    kill_at_random(Victim::Coordinator, |_fleet, run, view, witness| {
        // The agent was never touched, so that everything ran exactly once.
        let job = view.only();
        assert_eq!(job.state, "succeeded", "{run}: {job:?}");
        for task in CHAINS.concat() {
            assert_eq!((witness.begun(task), witness.ended(task)), (1, 1), "{run}: `{task}`\n{witness}");
            assert_eq!(job.task(task).attempts, 1, "{run}: {job:?}");
        }
    });
}

#[test]
fn a_killed_agent_goes_on_where_it_was() {
    kill_at_random(Victim::Agent, |_, _, _, _| {});
}

#[test]
fn both_killed_at_once_go_on_where_they_were() {
    kill_at_random(Victim::Both, |_, _, _, _| {});
}

#[test]
fn a_killed_worker_is_replaced() {
    kill_at_random(Victim::Worker, |_, _, _, _| {});
}

fn kill_at_random(victim: Victim, check: impl Fn(&Fleet, &str, &RunView, &Witness)) {
    let rounds = std::env::var("SLOTH_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS_DEFAULT);
    let mut random = Random::from_environment(victim as u64);
    let mut fleet = Fleet::start();
    fleet.publish(&marking_bundle("chains", PLAN, PAUSE_SECONDS));
    fleet.agents(&["web-1"], &[]);
    let (mut repeated, mut interrupted) = (0, 0);
    for round in 0..rounds {
        let following = (round % FOLLOWED_EVERY == 0)
            .then(|| fleet.spawn(&["run", "chains", "--on", "*", "--follow", "-o", "json"]));
        let run = following.as_ref().map_or_else(|| fleet.run("chains", "*", &[]), begun);
        // Not to wait for anything: the moment of the accident is what is drawn here.
        let moment = random.span(RUN_SPAN);
        thread::sleep(moment);
        let how = accident(&mut fleet, victim, &mut random);
        let view = fleet.wait_ended(&run);
        let told = format!("round {round}, {how} after {moment:?}, run {run}");
        let witness = Witness::of(&home(&fleet).home, &run);
        check_run(&told, &view, &witness);
        repeated += view.only().tasks.iter().filter(|task| 1 < task.attempts).count();
        interrupted += view.only().tasks.iter().filter(|task| task.status == "interrupted").count();
        if let Some(following) = following {
            check_followed(&told, &view, following);
        }
        check(&fleet, &run, &view, &witness);
        fleet.wait_idle("web-1");
        fleet.wait_connected(&["web-1"]);
    }
    println!("{victim:?}: {rounds} kills cut off {repeated} tasks that ran again and {interrupted} that must not");
    if ROUNDS_TELLING <= rounds && victim != Victim::Coordinator {
        assert!(0 < repeated && 0 < interrupted, "{rounds} kills hit no task: their moments are wrong");
    }
}

/// Kills, waits a while or not, and starts again what was killed.
fn accident(fleet: &mut Fleet, victim: Victim, random: &mut Random) -> String {
    if victim == Victim::Worker {
        fleet.kill_workers("web-1");
        return "the worker killed".to_owned();
    }
    let with_workers = random.below(2) == 1;
    let dead = if random.below(2) == 1 { random.span(DEAD_SPAN) } else { Duration::ZERO };
    if victim != Victim::Agent {
        fleet.kill_coordinator();
    }
    if victim != Victim::Coordinator {
        if with_workers {
            fleet.kill_agent_and_workers("web-1");
        } else {
            fleet.kill_agent("web-1");
        }
    }
    thread::sleep(dead);
    let agent_first = random.below(2) == 1;
    for agents_turn in [agent_first, !agent_first] {
        if agents_turn && victim != Victim::Coordinator {
            fleet.start_agent("web-1");
        }
        if !agents_turn && victim != Victim::Agent {
            fleet.start_coordinator();
        }
    }
    format!("{victim:?}{} killed for {dead:?}", if with_workers { " with workers" } else { "" })
}

/// The run that a follower has started, as soon as it tells.
fn begun(following: &Process) -> String {
    until("a run that has begun", RUN_LIMIT, || {
        let stdout = following.stdout();
        let (first, _) = stdout.split_once('\n')?;
        let started: Value = serde_json::from_str(first).expect("JSON");
        Some(started["run"].as_str().expect("a run").to_owned())
    })
}

/// Who follows sees each end once, whatever went away in the meantime.
fn check_followed(told: &str, view: &RunView, following: Process) {
    let code = if view.only().state == "succeeded" { 0 } else { 1 };
    let ran = following.finish(RUN_LIMIT).expect(code);
    let events: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let mut ended: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "task_ended")
        .filter_map(|event| event["task"].as_str()?.rsplit('/').next())
        .collect();
    ended.sort_unstable();
    assert_eq!(ended, CHAINS.concat(), "{told}: each end told once\n{ran}");
    let over = events.iter().filter(|event| event["event"] == "run_ended").count();
    assert_eq!(over, 1, "{told}\n{ran}");
    let numbers: Vec<_> = events.iter().filter_map(|event| event["number"].as_u64()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{told}: {numbers:?}\n{ran}");
}

fn home(fleet: &Fleet) -> &AgentHost {
    fleet.agent("web-1")
}

/// What holds of every run, whatever was killed.
fn check_run(told: &str, view: &RunView, witness: &Witness) {
    let job = view.only();
    assert_eq!(job.names(), CHAINS.concat(), "{told}: each result once: {job:?}");
    witness.assert_never_twice_at_once();
    for chain in CHAINS {
        for pair in chain.windows(2) {
            witness.assert_over_before(pair[0], pair[1]);
        }
        let mut broken = false;
        for task in chain {
            let end = job.task(task);
            let context = format!("{told}: `{task}`: {end:?}\n{witness}");
            match end.status.as_str() {
                "succeeded" => {
                    assert!(!broken, "{context}");
                    assert!(1 <= witness.ended(task), "{context}");
                }
                "interrupted" => {
                    assert!(!broken && ONCE.contains(&task), "{context}");
                    broken = true;
                }
                "skipped" => {
                    assert!(broken, "{context}");
                    assert_eq!(witness.begun(task), 0, "{context}");
                }
                other => panic!("`{other}` cannot be: {context}"),
            }
            if ONCE.contains(&task) {
                assert!(witness.begun(task) <= 1, "{context}");
            }
        }
    }
    let interrupted = job.tasks.iter().any(|task| task.status == "interrupted");
    assert_eq!(job.state, if interrupted { "failed" } else { "succeeded" }, "{told}: {job:?}");
}
