//! No coordinator for a while.

use sloth_e2e::{Fleet, RUN_LIMIT, Ran, Witness, until_true};

use crate::scripts::marking_bundle;

const PLAN: &str = "a\n b after a\n c after b\n d after c\n";
const TASKS: [&str; 4] = ["a", "b", "c", "d"];
const PAUSE_SECONDS: &str = "0.3";

#[test]
fn agents_finish_what_they_have_and_deliver_it_later() {
    let mut fleet = Fleet::start();
    fleet.publish(&marking_bundle("job", PLAN, PAUSE_SECONDS));
    fleet.agents(&["web-1", "web-2"], &[]);
    let runs: Vec<_> = (0..3).map(|_| fleet.run("job", "*", &[])).collect();
    for run in &runs {
        until_true("runs that have begun everywhere", RUN_LIMIT, || {
            fleet.show(run).jobs.iter().all(|job| job.state == "running")
        });
    }
    fleet.kill_coordinator();
    wait_done(&fleet, &["web-1", "web-2"], &runs);
    for name in ["web-1", "web-2"] {
        let dir = fleet.agent(name).dir.display().to_string();
        until_true("an agent that knows it is alone", RUN_LIMIT, || {
            let status = Ran::of(fleet.agent_command(name, &["status", "--dir", &dir, "-o", "json"])).json();
            status["connected"] == false
        });
    }

    fleet.start_coordinator();
    for run in &runs {
        let view = fleet.wait_ended(run);
        assert_eq!(view.jobs.len(), 2);
        for job in &view.jobs {
            assert_eq!((job.state.as_str(), job.names()), ("succeeded", TASKS.to_vec()), "{job:?}");
            let witness = Witness::of(&fleet.agent(&job.agent).home, run);
            assert!(TASKS.iter().all(|task| witness.begun(task) == 1 && witness.ended(task) == 1), "{witness}");
        }
    }
}

#[test]
fn logs_of_an_outage_are_delivered_once_and_in_order() {
    let mut fleet = Fleet::start();
    let text = "task('count'):command(function()\n\
                  for i = 1, 200 do log.info('line ' .. i) if i % 20 == 0 then goroutine.sleep(100) end end\n\
                  exec.run('touch $HOME/counted', { shell = true })\n\
                  return true end)";
    fleet.publish(&sloth_e2e::Bundle::new("count", text));
    fleet.agents(&["web-1"], &[]);
    let run = fleet.run("count", "*", &[]);
    until_true("a run that has begun", RUN_LIMIT, || fleet.show(&run).only().state == "running");
    fleet.kill_coordinator();
    let counted = fleet.agent("web-1").home.join("counted");
    until_true("the end of the task", RUN_LIMIT, || counted.exists());
    fleet.start_coordinator();
    let _ = fleet.wait_ended(&run);
    // Results do not wait for logs longer than a moment.
    let expected: Vec<_> = (1..=200).map(|number| format!("line {number}")).collect();
    until_true("every line of the log, once and in order", RUN_LIMIT, || {
        let logs = fleet.coord(&["runs", "logs", &run]).done();
        let lines = logs.lines().filter_map(|line| line.rfind("line ").map(|at| line[at..].trim().to_owned()));
        lines.collect::<Vec<_>>() == expected
    });
}

#[test]
fn a_killed_agent_resumes_with_no_coordinator_at_all() {
    let mut fleet = Fleet::start();
    fleet.publish(&marking_bundle("job", PLAN, PAUSE_SECONDS));
    fleet.agents(&["web-1"], &[]);
    let run = fleet.run("job", "*", &[]);
    let home = fleet.agent("web-1").home.clone();
    until_true("a task in the middle", RUN_LIMIT, || Witness::of(&home, &run).begun("b") == 1);
    fleet.kill_coordinator();
    fleet.kill_agent_and_workers("web-1");
    fleet.start_agent("web-1");
    wait_done(&fleet, &["web-1"], std::slice::from_ref(&run));

    fleet.start_coordinator();
    let view = fleet.wait_ended(&run);
    assert_eq!((view.only().state.as_str(), view.only().names()), ("succeeded", TASKS.to_vec()), "{view:?}");
    let witness = Witness::of(&home, &run);
    witness.assert_never_twice_at_once();
    for pair in TASKS.windows(2) {
        witness.assert_over_before(pair[0], pair[1]);
    }
    assert_eq!((witness.begun("a"), witness.begun("b"), witness.ended("d")), (1, 2, 1), "{witness}");
    assert_eq!(view.only().task("b").attempts, 2, "{view:?}");
}

fn wait_done(fleet: &Fleet, names: &[&str], runs: &[String]) {
    for name in names {
        let home = &fleet.agent(name).home;
        for run in runs {
            until_true("the last task's end", RUN_LIMIT, || Witness::of(home, run).ended("d") == 1);
        }
    }
}
