//! Calls that nothing interrupts: they are ended at the timeout of the task that made them, and nothing else is.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests may fail the test")]

mod common;

use std::path::Path;

use common::{
    Running, agent,
    host::{Agent, until},
    is_alive, write,
};
use sloth_protocol::wire::RunOutcome;
use sloth_trust::ReceiptOutcome;

/// Reading it waits for what nobody will ever write.
const SILENT: &str = "/dev/ptmx";
/// Calls that never return.
const CALLS: [&str; 5] = [
    "fs.read(silent)",
    "io.open(silent):read('a')",
    "for _ in io.lines(silent) do end",
    "file_ops.replace(silent, 'a', 'b')",
    "for _ = 1, 99 do pcall(fs.read, silent) end",
];
/// A task with a process beside it, one that is stuck, one that depends on it and one that does not.
const TASKS: &str = "
local silent = '/dev/ptmx'
task('beside'):idempotent(true):command('echo pid=$$; exec sleep 60')
task('stuck'):timeout('500ms'):retries(3):command(function() sleep(0.2) CALL return true end)
task('after'):depends_on('stuck'):command('true')
task('apart'):depends_on('beside'):command('true')
workflow.define('w'):max_parallel_tasks(4)
";
const SENTENCE: &str = "it was stuck, past its timeout, in a call that nothing interrupts";

fn tasks(call: &str) -> String {
    TASKS.replace("CALL", call)
}

fn is_here() -> bool {
    let here = Path::new(SILENT).exists();
    if !here {
        println!("not tested here: there is no `{SILENT}`");
    }
    here
}

#[test]
fn a_run_ends_with_the_story_of_all_its_tasks() {
    if !is_here() {
        return;
    }
    for (at, call) in CALLS.iter().enumerate() {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path(), "w.sloth", &tasks(call));
        let json = if at == 0 { &["-o", "json"][..] } else { &[] };
        let mut command = agent(&["run", "w.sloth"]);
        command.args(json).current_dir(dir.path()).env("TMPDIR", dir.path());
        let mut running = Running::start(command);
        let line = running.line_with("pid=");
        let (_, pid) = line.rsplit_once("pid=").expect("a number");
        let (out, errors, code) = running.end();
        assert_eq!((errors.as_str(), code), ("", Some(1)), "{call}: {out}");
        let expected = if json.is_empty() {
            &["w/stuck timed_out in", "w/after cancelled", "1 timed out, 1 interrupted, 2 cancelled"][..]
        } else {
            &["\"status\":\"timed_out\"", "\"status\":\"cancelled\"", "\"outcome\":\"failed\""]
        };
        for text in expected.iter().chain([&SENTENCE]) {
            assert!(out.contains(text), "{call}: no `{text}` in {out}");
        }
        assert!(!is_alive(pid.trim_matches(|letter: char| !letter.is_ascii_digit())), "{call}");
        let left = std::fs::read_dir(dir.path()).expect("listed").count();
        assert_eq!(left, 1, "{call}: something is left behind");
    }
}

#[test]
fn tests_end_and_name_the_task() {
    if !is_here() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), "w.sloth", &tasks(CALLS[0]));
    write(dir.path(), "w_test.lua", "test('a', function() run('w.sloth', { only = 'stuck' }) end)");
    let mut command = agent(&["test"]);
    command.current_dir(dir.path()).env("TMPDIR", dir.path());
    let (_, errors, code) = Running::start(command).end();
    let expected = "error: w_test.lua: task `w/stuck` of a test was stuck, past its timeout, in a call that nothing interrupts; the tests were ended\n";
    assert_eq!((errors.as_str(), code), (expected, Some(1)));
    assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 2);
}

#[test]
fn a_worker_is_replaced_by_one_that_goes_on_behind_the_task() {
    if !is_here() {
        return;
    }
    let mut host = Agent::enrolled();
    host.start();
    host.coordinator.wait_for_agent();
    let other =
        host.run("task('t'):command('cd ' .. values.dir .. '; echo $$ > other; until [ -e go ]; do sleep 0.02; done')");
    let other_pid = host.lines("other", 1).remove(0);
    // The first time it is cut off, the second time it ends.
    let beside = "'cd ' .. values.dir .. '; echo $$ >> beside; test $(wc -l < beside) = 2 || exec sleep 60'";
    let text = tasks(CALLS[4]).replace("'echo pid=$$; exec sleep 60'", beside);
    let run = host.run(&text);
    let end = host.coordinator.wait_for_end(run);
    assert_eq!(end.outcome, RunOutcome::Failed);
    assert!(is_alive(&other_pid), "another run was ended too");
    let beside = host.lines("beside", 2);
    assert!(beside.iter().all(|pid| !is_alive(pid)), "{beside:?}");
    let receipt = host.coordinator.wait_for_receipt(run);
    let counts = &receipt.tasks;
    assert_eq!(
        (receipt.outcome, counts.timed_out, counts.skipped, counts.succeeded),
        (ReceiptOutcome::Failed, 1, 1, 2)
    );
    let state = host.coordinator.state();
    let results = state.results(run);
    for expected in ["+beside/2", "-stuck TimedOut", "-after Skipped", "-apart Succeeded", "ended Failed"] {
        assert!(results.iter().any(|line| line == expected), "no `{expected}` in {results:?}");
    }
    assert_eq!(results.iter().filter(|line| line.starts_with("+stuck")).count(), 1, "{results:?}");
    drop(state);
    write(host.dir.path(), "go", "");
    assert_eq!(host.coordinator.wait_for_end(other).outcome, RunOutcome::Succeeded);
    until("the daemon says why", || host.log().contains("a call that nothing interrupts outlived its task's timeout"));
}
