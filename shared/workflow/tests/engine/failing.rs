//! Failures, retries, timeouts and cancellation.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use sloth_workflow::{Host, Outcome, RunEnd, TaskStatus, cancel_pair, process::KILL_GRACE_MS, run};

use crate::harness::{Case, Memory, check};

#[test]
fn a_failure_skips_what_depends_on_it_and_nothing_else() {
    check(
        r#"task("a"):command(function() return false, "broken" end)
           task("b"):depends_on("a"):command(function() return true end)
           task("c"):depends_on("b"):command(function() return true end)
           task("d"):command(function() return true end)"#,
        &[
            "a failed: broken",
            "b skipped: `a`, which it depends on, did not end well",
            "c skipped: `b`, which it depends on, did not end well",
            "d succeeded",
        ],
    );
    check(
        r#"local t = {}
           t[1] = task("a"):command(function() return false, "broken" end)
           t[2] = task("b"):command(function() return true end)
           workflow.define("w"):tasks(t):config({ on_task_failure = "stop", max_parallel_tasks = 1 })"#,
        &["a failed: broken", "b cancelled: a task failed, and `on_task_failure` is `stop`"],
    );
}

#[test]
fn raised_errors_name_their_line() {
    let ended = Case::new(
        "task('t'):command(function()\n  local function inner()\n    local x = nil\n    return x.y\n  end\n  inner()\n  return true\nend)\n\
         task('m'):command(function()\n  exec.run(nil)\n  return true\nend)\n\
         task('e'):command(function() error({ code = 1 }) end)",
    )
    .run();
    let lines = ended.lines();
    assert!(
        lines[0].starts_with("t failed: main.sloth:4: attempt to index nil with 'y': `x` is nil\n  at main.sloth:4"),
        "{lines:?}"
    );
    assert!(lines[0].contains("\n  at main.sloth:6"), "{lines:?}");
    assert!(lines[1].starts_with("m failed: main.sloth:10: exec.run"), "{lines:?}");
    assert!(lines[2].starts_with("e failed: "), "{lines:?}");
}

#[test]
fn failed_attempts_are_tried_again() {
    let ended = Case::new(
        r#"local n = 0
           task("t"):retries(3, "fixed")
               :on_failure(function(this, params, failure) print("failed", this.attempt, failure.error, failure.task_name) end)
               :command(function(this) n = n + 1 if n < 3 then error("not yet", 0) end return true, "at " .. this.attempt end)
           task("never"):retries(1):command(function() return false, "no" end)"#,
    )
    .run();
    assert_eq!(ended.lines(), ["t succeeded: at 3", "never failed: no"]);
    assert_eq!((ended.end.tasks[0].attempts, ended.end.tasks[1].attempts), (3, 2));
    let log = ended.log();
    assert!(log.contains(&"t: failed\t2\tnot yet\tt".to_owned()), "{log:?}");
    assert!(log.iter().any(|line| line.starts_with("never: attempt 1 of 2 failed, next in 0.0 s: no")), "{log:?}");
    assert!(ended.told().contains("+t/1") && ended.told().contains("+t/3 -t"), "{}", ended.told());
}

#[test]
fn a_timeout_ends_the_task_and_its_processes() {
    let began = Instant::now();
    let ended = Case::new(
        r#"task("sleep"):timeout("80ms"):command(function() goroutine.sleep(60000) return true end)
           task("shell"):timeout(0.08):command("sleep 60; echo never")
           task("retry"):timeout("20ms"):retries(1):on_timeout(function(this) print("late", this.attempt) end)
               :command(function() goroutine.sleep(60000) end)
           task("after"):depends_on("sleep"):command("true")"#,
    )
    .run();
    assert_eq!(
        ended.lines(),
        [
            "sleep timed_out: it was stopped after its timeout of 0.08 s",
            "shell timed_out: it was stopped after its timeout of 0.08 s",
            "retry timed_out: it was stopped after its timeout of 0.02 s",
            "after skipped: `sleep`, which it depends on, did not end well",
        ]
    );
    assert!(ended.log().contains(&"retry: late\t2".to_owned()), "{:?}", ended.log());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_workflow_has_a_time_of_its_own() {
    let ended = Case::new(
        r#"workflow.define("short"):config({ timeout = "60ms" }):tasks({
               task("long"):command(function() goroutine.sleep(60000) return true end),
               task("next"):depends_on("long"):command("true"),
           })
           workflow.define("other"):tasks({ task("fine"):command("true") })"#,
    )
    .run();
    assert_eq!(
        ended.lines(),
        [
            "long timed_out: the workflow's timeout of 0.06 s is over",
            "next cancelled: the workflow's timeout of 0.06 s is over",
            "fine succeeded",
        ]
    );
    assert_eq!(ended.end.outcome, Outcome::Failed);
}

#[test]
fn cancelling_ends_everything_at_once() {
    for text in [
        r#"task("a"):command(function() print("up") exec.run("sleep 60") return true end)
           task("b"):depends_on("a"):command("true")"#,
        r#"task("a"):command("echo up; sleep 60")
           task("b"):depends_on("a"):command("true")"#,
        r#"task("a"):command("echo up; sleep 60")
           task("b"):command("sleep 60")"#,
    ] {
        let began = Instant::now();
        let end = cancelled(text);
        assert_eq!(end.outcome, Outcome::Cancelled, "{text}");
        assert!(end.tasks.iter().all(|task| task.status == TaskStatus::Cancelled), "{:?}", end.tasks);
        // A command that obeys is not waited for: the grace is for those that do not.
        assert!(began.elapsed() < Duration::from_millis(KILL_GRACE_MS), "{text} took {:?}", began.elapsed());
    }
}

/// The end of a run that is cancelled when it first prints something.
fn cancelled(text: &str) -> RunEnd {
    let (canceller, signal) = cancel_pair();
    let mut case = Case::new(text);
    case.cancel = signal;
    let host = Rc::clone(&case.host);
    case.load().expect("a plan");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let hosted = Rc::clone(&host) as Rc<dyn Host>;
        let running = run(case.input, hosted, case.cancel);
        let cancelling = async {
            host.heard.notified().await;
            canceller.cancel();
        };
        tokio::join!(running, cancelling).0.expect("a run")
    })
}

#[test]
fn a_host_that_cannot_go_on_stops_the_run() {
    let mut case = Case::new(
        r#"task("a"):command("true")
           task("b"):depends_on("a"):command("true")
           task("c"):depends_on("b"):command("true")"#,
    );
    case.host = Rc::new(Memory::stopping_at("b"));
    let ended = case.run();
    assert_eq!((ended.end.outcome, ended.end.message.as_str()), (Outcome::Cancelled, "the journal is gone"));
    assert_eq!(ended.lines(), ["a succeeded", "b cancelled: the journal is gone", "c cancelled: the journal is gone"]);
    assert_eq!(ended.told(), "+a/1 -a +b/1");
}

#[test]
fn outputs_have_a_bound() {
    let ended = Case::new(r#"task("t"):command(function() return true, "", { s = ("x"):rep(40000) } end)"#).run();
    assert!(
        ended.lines()[0].starts_with("t failed: the outputs take 40008 bytes, and 32768 is the most"),
        "{:?}",
        ended.lines()
    );
}
