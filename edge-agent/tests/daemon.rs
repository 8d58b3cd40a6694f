//! The daemon as a process, with a coordinator on loopback.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod common;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use common::{
    agent,
    coordinator::{Coordinator, DAY, now},
    host::{Agent, until},
    is_alive, said, send, write,
};
use rustix::process::Signal;
use sloth_core::{Digest, Millis};
use sloth_protocol::wire::{RecordBody, Refusal, RefusalCode, RunOutcome};
use sloth_trust::ReceiptOutcome;

/// Tells its process, and waits for the file `go`.
const WAITS: &str = r#"
local function append(name, text)
    exec.run("echo " .. text .. " >> " .. values.dir .. "/" .. name)
end
local first = task("first"):command(function() append("first", "x") return true end):build()
local second = task("second"):depends_on({ "first" }):idempotent(IDEMPOTENT):command(function()
    exec.run("echo $$ >> " .. values.dir .. "/second; while [ ! -e " .. values.dir .. "/go ]; do sleep 0.02; done")
    return true
end):build()
workflow.define("main"):tasks({ first, second }):build()
"#;

fn waits() -> String {
    WAITS.replace("IDEMPOTENT", "true")
}

#[test]
fn a_run_is_done_and_reported() {
    let mut agent = Agent::enrolled();
    write(&agent.agent_dir(), "agent.toml", "log_bytes_per_task = 2000\n[labels]\nzone = 'a'\n");
    agent.start();
    agent.coordinator.wait_for_agent();
    let text = r#"
local a = task("a"):command(function()
    log.info("hello")
    exec.run("echo out; pwd; echo $SLOTH_RUN_ID")
    state.set("k", { 1, 2 })
    return true, "done", { n = state.get("k")[2], label = facts and values.dir ~= nil }
end):build()
local b = task("b"):depends_on({ "a" }):command(function(this, params, deps)
    for i = 1, 100 do log.info(string.rep("y", 99)) end
    return true, "n=" .. deps.a.n
end):build()
workflow.define("main"):tasks({ a, b }):build()
outputs = { all = "well" }
"#;
    let run = agent.run(text);
    let end = agent.coordinator.wait_for_end(run);
    assert_eq!((end.outcome, end.message.as_str()), (RunOutcome::Succeeded, ""));
    assert_eq!(end.outputs, r#"{"all":"well"}"#);
    let receipt = agent.coordinator.wait_for_receipt(run);
    assert_eq!((receipt.outcome, receipt.tasks.succeeded), (ReceiptOutcome::Succeeded, 2));
    assert_eq!(receipt.outputs, Digest::of(end.outputs.as_bytes()));
    assert!(receipt.started.is_some_and(|started| started <= receipt.ended) && 0 < receipt.head, "{receipt:?}");
    let state = agent.coordinator.state();
    let results = ["started", "+a/1", "-a Succeeded", "+b/1", "-b Succeeded", "ended Succeeded"];
    assert_eq!(state.results(run), results);
    let story = state.story(run);
    assert_eq!(story.last().map(String::as_str), Some("ended Succeeded"), "the end comes after the output");
    let output: Vec<&str> = story.iter().filter_map(|line| line.strip_prefix("| ")).flat_map(str::lines).collect();
    let (workdir, id) = (agent.agent_dir().join("runs").join(run.to_string()), run.to_string());
    for line in ["hello", "out", workdir.to_str().expect("text"), &id] {
        assert!(output.contains(&line), "no `{line}` in {output:?}");
    }
    assert_eq!(output.iter().filter(|line| line.starts_with("yyy")).count(), 20);
    assert!(output.contains(&"80 more lines were left out here, 8000 bytes"), "{output:?}");
    let labels: Vec<_> = state.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(labels, ["rack=7", "zone=a"]);
    drop(state);

    until("the run's directory is gone", || !workdir.exists());
    let mut command = common::agent(&["status", "-o", "json", "--dir"]);
    command.arg(agent.agent_dir());
    let (out, errors, code) = said(command);
    let status: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{errors}"));
    assert_eq!((status["connected"].as_bool(), status["name"].as_str(), code), (Some(true), Some("web-1"), 0));
    let mut second = common::agent(&["daemon", "--dir"]);
    second.arg(agent.agent_dir());
    let (_, errors, code) = said(second);
    assert!(errors.contains("is held by process") && code == 3, "{errors}");

    send(agent.pid(), Signal::TERM);
    let status = agent.daemon.take().expect("started").wait().expect("waited for");
    assert_eq!(status.code(), Some(0));
    assert!(!agent.agent_dir().join("agent.sock").exists());
}

#[test]
fn a_daemon_that_was_killed_goes_on_at_the_right_task() {
    let mut agent = Agent::enrolled();
    agent.start();
    agent.coordinator.wait_for_agent();
    let run = agent.run(&waits());
    let command = agent.lines("second", 1).remove(0);
    let worker = agent.worker().to_string();
    agent.kill();
    until("the worker ends with its daemon", || !is_alive(&worker) && !is_alive(&command));

    agent.start();
    agent.lines("second", 2);
    write(agent.dir.path(), "go", "");
    assert_eq!(agent.coordinator.wait_for_end(run).outcome, RunOutcome::Succeeded);
    let expected =
        ["started", "+first/1", "-first Succeeded", "+second/1", "+second/2", "-second Succeeded", "ended Succeeded"];
    assert_eq!(agent.coordinator.state().results(run), expected);
    assert_eq!((agent.lines("first", 1).len(), agent.lines("second", 2).len()), (1, 2));
}

#[test]
fn what_a_killed_worker_left_is_ended_before_its_run_goes_on() {
    for daemon_too in [false, true] {
        let mut agent = Agent::enrolled();
        agent.start();
        agent.coordinator.wait_for_agent();
        let run = agent.run(&waits());
        let command = agent.lines("second", 1).remove(0);
        let worker = agent.worker();
        if daemon_too {
            // Stopped, the worker does not see its daemon go.
            send(worker, Signal::STOP);
            agent.kill();
            send(worker, Signal::KILL);
            assert!(is_alive(&command));
            agent.start();
        } else {
            send(worker, Signal::KILL);
        }
        agent.lines("second", 2);
        assert!(!is_alive(&command), "a task runs twice at a time");
        write(agent.dir.path(), "go", "");
        assert_eq!(agent.coordinator.wait_for_end(run).outcome, RunOutcome::Succeeded);
        assert_eq!(agent.lines("first", 1).len(), 1);
    }
}

#[test]
fn a_task_that_must_not_run_twice_ends_as_interrupted() {
    let mut agent = Agent::enrolled();
    agent.start();
    agent.coordinator.wait_for_agent();
    let run = agent.run(&WAITS.replace("IDEMPOTENT", "false"));
    agent.lines("second", 1);
    agent.kill();
    agent.start();
    assert_eq!(agent.coordinator.wait_for_end(run).outcome, RunOutcome::Failed);
    let expected = ["started", "+first/1", "-first Succeeded", "+second/1", "-second Interrupted", "ended Failed"];
    assert_eq!(agent.coordinator.state().results(run), expected);
    assert_eq!(agent.lines("second", 1).len(), 1);
}

#[test]
fn a_run_is_cancelled_with_all_that_it_started() {
    let mut agent = Agent::enrolled();
    agent.start();
    agent.coordinator.wait_for_agent();
    let run = agent.run(&waits());
    let command = agent.lines("second", 1).remove(0);
    agent.coordinator.cancel(run);
    assert_eq!(agent.coordinator.wait_for_end(run).outcome, RunOutcome::Cancelled);
    assert!(!is_alive(&command));
    let expected = ["started", "+first/1", "-first Succeeded", "+second/1", "-second Cancelled", "ended Cancelled"];
    assert_eq!(agent.coordinator.state().results(run), expected);
}

/// Two runs of one bundle at a time: they share its state, and a lock goes on when the worker that had it is killed.
#[test]
fn the_lock_of_a_killed_worker_goes_to_the_run_that_waits() {
    const LOCKS: &str = r#"
task("a"):idempotent(false):command(function()
    local said = values.dir .. "/said"
    if not state.try_lock("deploy") then
        fs.append(said, "waits\n")
        assert(state.lock("deploy", "20s"))
        fs.append(said, "had it\n")
        return state.unlock("deploy")
    end
    fs.append(said, "has it\n")
    goroutine.sleep(600000)
end)
"#;
    let mut agent = Agent::enrolled();
    agent.start();
    agent.coordinator.wait_for_agent();
    let holding = agent.run(LOCKS);
    assert_eq!(agent.lines("said", 1), ["has it"]);
    let worker = agent.worker();
    let waiting = agent.run(LOCKS);
    assert_eq!(agent.lines("said", 2), ["has it", "waits"]);
    send(worker, Signal::KILL);
    assert_eq!(agent.coordinator.wait_for_end(waiting).outcome, RunOutcome::Succeeded);
    assert_eq!(agent.lines("said", 3)[2], "had it");
    assert_eq!(agent.coordinator.wait_for_end(holding).outcome, RunOutcome::Failed);
}

#[test]
fn a_daemon_that_is_stopped_takes_its_workers_along() {
    let mut agent = Agent::enrolled();
    agent.start();
    agent.coordinator.wait_for_agent();
    agent.run(&waits());
    let command = agent.lines("second", 1).remove(0);
    let worker = agent.worker().to_string();
    send(agent.pid(), Signal::TERM);
    assert_eq!(agent.daemon.take().expect("started").wait().expect("waited for").code(), Some(0));
    assert!(!is_alive(&worker) && !is_alive(&command));
}

#[test]
fn results_wait_while_the_coordinator_is_away() {
    let mut agent = Agent::enrolled();
    agent.start();
    agent.coordinator.wait_for_agent();
    let run = agent.run(&waits());
    agent.lines("second", 1);
    agent.coordinator.hang_up();
    write(agent.dir.path(), "go", "");
    assert_eq!(agent.coordinator.wait_for_end(run).outcome, RunOutcome::Succeeded);
    let connections = agent.coordinator.state().certificates.len();
    assert!(1 < connections);
    assert_eq!(agent.coordinator.state().results(run).len(), 6);
}

#[test]
fn a_download_goes_on_where_it_stopped() {
    let mut agent = Agent::enrolled();
    agent.coordinator.state().cuts = vec![10];
    agent.start();
    agent.coordinator.wait_for_agent();
    let run = agent.run("task('a'):command('true'):build()");
    until("the cut is noticed", || agent.log().contains("ended a download too early"));
    // A new connection is reason enough to try again.
    agent.coordinator.hang_up();
    assert_eq!(agent.coordinator.wait_for_end(run).outcome, RunOutcome::Succeeded);
    assert_eq!(agent.coordinator.state().offsets, [0, 10, 0]);
}

#[test]
fn a_download_of_a_cancelled_run_keeps_no_other_waiting() {
    let mut agent = Agent::enrolled();
    agent.coordinator.state().stalls = 1;
    agent.start();
    agent.coordinator.wait_for_agent();
    let cancelled = agent.run("task('a'):command('true'):build()");
    agent.coordinator.wait("a download", |state| (!state.offsets.is_empty()).then_some(()));
    let begun = Instant::now();
    agent.coordinator.cancel(cancelled);
    assert_eq!(agent.coordinator.wait_for_end(cancelled).outcome, RunOutcome::Cancelled);
    let next = agent.run("task('b'):command('true'):build()");
    assert_eq!(agent.coordinator.wait_for_end(next).outcome, RunOutcome::Succeeded);
    // A download that stands still is given up after 30 s.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn a_worker_may_ask_more_questions_than_are_answered_at_a_time() {
    let mut agent = Agent::enrolled();
    agent.start();
    agent.coordinator.wait_for_agent();
    let count = "local tasks = {}
        for t = 1, 20 do
            tasks[t] = task('t' .. t):command(function()
                for _ = 1, 5 do state.increment('n', 1) end
                return true
            end):build()
        end
        local last = {}
        for t = 1, 20 do last[t] = 't' .. t end
        tasks[21] = task('told'):depends_on(last):command(function()
            log.info('n=' .. state.get('n'))
            return true
        end):build()
        workflow.define('main'):tasks(tasks):build()";
    let run = agent.run(count);
    let end = agent.coordinator.wait_for_end(run);
    assert_eq!(end.outcome, RunOutcome::Succeeded, "{}", end.message);
    agent.coordinator.wait("the count", |state| state.story(run).contains(&"| n=100".to_owned()).then_some(()));
}

#[test]
fn a_bundle_that_is_not_what_was_signed_is_refused() {
    let mut agent = Agent::enrolled();
    agent.coordinator.state().corrupt = true;
    agent.start();
    agent.coordinator.wait_for_agent();
    let run = agent.run(&waits());
    let end = agent.coordinator.wait_for_end(run);
    assert_eq!(end.outcome, RunOutcome::Refused, "{}", end.message);
    assert!(!agent.file("first").exists());
}

/// Whoever has the coordinator's keys still gives no other values than publishers signed for.
#[test]
fn values_that_nobody_signed_are_refused() {
    let mut agent = Agent::enrolled();
    agent.start();
    agent.coordinator.wait_for_agent();
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), "main.sloth", "task('a'):command(function() return true, tostring(values.mode) end):build()");
    let source = serde_json::json!({ "required": ["mode"], "properties": { "mode": { "enum": ["fast", "slow"] } } });
    let schema = sloth_trust::Schema::parse(source).expect("a schema");
    for (values, wanted) in [
        (serde_json::json!({ "mode": "fast" }), None),
        (serde_json::json!({ "mode": "fast; rm -rf /" }), Some("`mode` must be one of `\"fast\"`, `\"slow\"`")),
        (serde_json::json!({}), Some("`mode` is missing")),
    ] {
        let order = |draft: &mut common::coordinator::Draft| draft.metadata.parameters = Some(schema.clone());
        let run = agent.coordinator.order(dir.path(), &values, order);
        let end = agent.coordinator.wait_for_end(run);
        let results = agent.coordinator.state().results(run);
        match wanted {
            None => assert_eq!(end.outcome, RunOutcome::Succeeded, "{}", end.message),
            Some(wanted) => {
                assert_eq!((end.outcome, results.as_slice()), (RunOutcome::Refused, &["ended Refused".to_owned()][..]));
                let begins = "the values do not fit the parameters that bundle `web` was signed with: ";
                assert_eq!(end.message, format!("{begins}{wanted}"));
            }
        }
    }
}

#[test]
fn a_bundle_that_was_changed_on_the_disk_is_unpacked_anew() {
    let mut agent = Agent::enrolled();
    agent.start();
    agent.coordinator.wait_for_agent();
    let text = "task('a'):command(function() return true, tostring(bundle.exists('extra')) end):build()";
    for changed in ["main.sloth", "extra", ""] {
        let run = agent.run(text);
        assert_eq!(agent.coordinator.wait_for_end(run).outcome, RunOutcome::Succeeded);
        let state = agent.coordinator.state();
        let ends = state.records.iter().filter_map(|record| match &record.body {
            RecordBody::TaskEnded(end) if record.run == run => Some(end.message.clone()),
            RecordBody::TaskEnded(_)
            | RecordBody::RunStarted
            | RecordBody::TaskStarted { .. }
            | RecordBody::RunEnded(_)
            | RecordBody::Log { .. }
            | RecordBody::Receipt { .. }
            | RecordBody::Update(_) => None,
        });
        assert_eq!(ends.collect::<Vec<_>>(), ["false"]);
        drop(state);
        let bundles = std::fs::read_dir(agent.agent_dir().join("bundles")).expect("listed").flatten();
        let dir = bundles.map(|entry| entry.path()).find(|path| path.is_dir()).expect("a bundle");
        if !changed.is_empty() {
            write(&dir, changed, "error('this was not signed')");
        }
    }
    assert_eq!(agent.log().matches("was changed, and is unpacked anew").count(), 2);
}

#[test]
fn a_certificate_is_renewed_and_used() {
    let coordinator = Coordinator::start();
    coordinator.state().term = Some(Millis::from_secs(60));
    let mut agent = Agent::enrolled_at(coordinator);
    agent.start();
    let identity = agent.agent_dir().join("identity.pem");
    let before = std::fs::read(&identity).expect("read");
    until("a new identity", || std::fs::read(&identity).expect("read") != before);
    until("it is known", || agent.log().contains("the certificate was renewed"));
    agent.coordinator.hang_up();
    let soon = now() + DAY - Millis::from_secs(600);
    agent
        .coordinator
        .wait("a connection with it", |state| state.certificates.iter().find(|until| soon < **until).copied());
}

#[test]
fn why_a_host_was_not_enrolled_is_said_and_it_can_be_tried_again() {
    let coordinator = Coordinator::start();
    let dir = tempfile::tempdir().expect("a directory");
    let agent_dir = dir.path().join("agent");
    let enroll = |token: &str| {
        let mut command = agent(&["enroll", token, "--name", "web-1", "--dir"]);
        command.arg(&agent_dir);
        said(command)
    };
    let check = |token: &str, expected: &str, code: i32| {
        let (out, errors, got) = enroll(token);
        assert!(errors.contains(expected), "no `{expected}` in {errors}");
        assert_eq!((out.as_str(), got), ("", code), "{errors}");
    };
    let text = coordinator.token().to_string();
    check("nonsense", "this is not a join token", 2);
    check(&text[..text.len() - 4], "the join token is damaged", 2);
    let other = Coordinator::start();
    let wrong = sloth_protocol::wire::JoinToken { addresses: vec![other.address], ..coordinator.token() };
    check(&wrong.to_string(), "is not the coordinator this token is for", 3);
    let nowhere = sloth_protocol::wire::JoinToken { addresses: vec!["127.0.0.1".into()], ..coordinator.token() };
    check(&nowhere.to_string(), "cannot find the address of `127.0.0.1`", 4);
    coordinator.state().refusal = Some(Refusal::new(RefusalCode::Denied, "the join token was used up"));
    check(&text, "the coordinator refused to enrol this host: the join token was used up", 3);
    coordinator.state().refusal = None;
    coordinator.state().other_root = Some(b"garbage".to_vec());
    check(&text, "the coordinator sent a trust root that cannot be read", 3);
    coordinator.state().other_root = None;
    coordinator.state().lose_answers = 1;
    check(&text, "the coordinator did not answer", 4);
    let (out, errors, code) = enroll(&text);
    assert!(out.contains("enrolled as `web-1`") && code == 0, "{errors}");
    assert_eq!(coordinator.state().agents.len(), 1, "every attempt was one of the same agent");
    check(&text, "has the enrolled agent `web-1`", 3);

    let file = dir.path().join("file");
    write(dir.path(), "file", "");
    let mut command = agent(&["enroll", &text, "--dir"]);
    command.arg(file.join("agent"));
    let (_, errors, code) = said(command);
    assert!(errors.contains("cannot create") && code == 70, "{errors}");
    assert!(!Path::new(&agent_dir).join("pending.key").exists());
}
