//! The functions of modules: whatever they are called with, the run ends in time and in bounds, says why, and touches
//! nothing outside what its bundle was granted.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use serde_json::Value;
use sloth_core::{
    Millis,
    fs::{Access, create_dir, replace},
};
use sloth_workflow::{
    Attempt, Capabilities, Host, Lifetime, Limits, LocalFuture, LogLine, Outcome, Place, RunEnd, RunInput, StateError,
    StateOperation, StateReply, StateStats, Stop, TaskEnd, cancel_pair, run as run_workflow,
};

use super::{Seed, Verdict, calls, scratch, told};

const FILE: &str = "main.sloth";
/// Enough for what does not wait, and little enough that what does costs little.
const TASK_MS: u64 = 100;
/// The run's whole time: what cannot be interrupted must be over soon.
const RUN_MS_MAX: u64 = 8_000;
const MEMORY_BYTES_MAX: usize = 32 * 1024 * 1024;
const LOG_LINE_BYTES_MAX: usize = 1024;
const CAPTURE_BYTES_MAX: usize = 64 * 1024;
const GOROUTINES_MAX: usize = 64;
const STATE_KEYS_MAX: usize = 1_000;
/// What a run may touch; nothing of it leads out of its directories, and no program is found.
const GRANTED: [&str; 3] = ["state", "facts", "secrets"];
/// What is granted besides, where a run only checks.
const GRANTED_TO_CHECK: [&str; 6] = ["pkg", "service", "user", "cron", "sysctl", "exec"];

/// Calls functions as `bytes` say.
///
/// # Panics
///
/// When something outside changed, or the run took too long, said too much or gave no reason for its end.
pub fn run(bytes: &[u8]) -> Verdict {
    let (checks, text) = calls::script(bytes, TASK_MS);
    let dir = scratch::dir();
    let at = |path: &str| dir.path().join(path);
    for made in ["bundle/files", "work", "in/sub", "out", "bin"] {
        create_dir(&at(made), Access::Owner).expect("made");
    }
    for (file, content) in [
        ("bundle/main.sloth", text.as_str()),
        ("bundle/files/hello.txt", "hello {{ name }}\n"),
        ("in/file", "one\ntwo\n"),
        ("in/sub/deep", "deep"),
        ("out/secret", "secret"),
    ] {
        replace(&at(file), content.as_bytes(), Access::Owner).expect("written");
    }
    std::os::unix::fs::symlink(at("out"), at("in/link")).expect("linked");
    let open = [at("work"), at("in")];
    let before = scratch::snapshot(dir.path(), &open.each_ref().map(|path| path.as_path()));
    let began = Instant::now();
    let ended = perform(dir.path(), checks);
    assert!(began.elapsed() < Duration::from_millis(RUN_MS_MAX), "the run took {:?}", began.elapsed());
    let after = scratch::snapshot(dir.path(), &open.each_ref().map(|path| path.as_path()));
    assert!(before == after, "something outside was changed");
    match ended {
        Ok(end) => {
            assert!(end.tasks.len() == 1, "one task ended");
            assert!(end.outcome == Outcome::Succeeded || !end.message.is_empty(), "a failure without a word");
            if end.outcome == Outcome::Succeeded { Verdict::Accepted } else { Verdict::Refused }
        }
        Err(error) => {
            drop(told(&error));
            Verdict::Refused
        }
    }
}

fn perform(dir: &Path, checks: bool) -> Result<RunEnd, sloth_workflow::LoadError> {
    let at = |path: &str| dir.join(path);
    let scoped = ["fs:read", "fs:write"].map(|name| format!("{name}:{}", at("in").display()));
    let more: &[&str] = if checks { &GRANTED_TO_CHECK } else { &[] };
    let granted = GRANTED.iter().chain(more).map(ToString::to_string).chain(scoped);
    let input = RunInput {
        bundle_dir: at("bundle"),
        file: FILE.into(),
        capabilities: Capabilities::parse(granted).expect("grants"),
        limits: limits(),
        run_id: "01JD5Z3V9QK7T2M4X8R6WBCY0N".to_owned(),
        workdir: at("work"),
        check: checks,
        search_path: Some(at("bin").display().to_string()),
        values: serde_json::json!({ "dir": dir }),
        ..RunInput::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (_canceller, signal) = cancel_pair();
    runtime.block_on(run_workflow(input, Rc::new(Memory::default()), signal))
}

fn limits() -> Limits {
    Limits {
        memory_bytes: MEMORY_BYTES_MAX,
        log_line_bytes: LOG_LINE_BYTES_MAX,
        capture_bytes: CAPTURE_BYTES_MAX,
        goroutines_max: GOROUTINES_MAX,
        task_timeout: Duration::from_millis(TASK_MS),
        plan_time: Duration::from_millis(TASK_MS),
        top_level_time: Duration::from_millis(TASK_MS),
        parallel_tasks: 1,
        ..Limits::default()
    }
}

/// A host in memory. Its clock stands still and its randomness counts.
#[derive(Default)]
struct Memory {
    random: Cell<u128>,
    state: RefCell<BTreeMap<String, Value>>,
}

impl Memory {
    fn answer(&self, operation: StateOperation) -> StateReply {
        let mut state = self.state.borrow_mut();
        match operation {
            StateOperation::Get { key } => StateReply::Value(state.get(&key).cloned()),
            StateOperation::Set { key, value, .. } => {
                if state.len() < STATE_KEYS_MAX {
                    state.insert(key, value);
                }
                StateReply::Done(true)
            }
            StateOperation::Delete { key } => StateReply::Done(state.remove(&key).is_some()),
            StateOperation::Keys { prefix } => {
                let found = state.iter().filter(|(key, _)| key.starts_with(&prefix));
                StateReply::Keys(found.map(|(key, value)| (key.clone(), value.clone())).collect())
            }
            StateOperation::Increment { by, .. } => StateReply::Number(by),
            StateOperation::CompareAndSwap { key, expected, .. } => {
                StateReply::Done(state.get(&key).cloned() == expected)
            }
            StateOperation::Clear => {
                state.clear();
                StateReply::Done(true)
            }
            StateOperation::Expire { key, .. } => StateReply::Done(state.contains_key(&key)),
            StateOperation::Lifetime { .. } => StateReply::Lifetime(Lifetime::Forever),
            StateOperation::Push { .. } | StateOperation::Append { .. } => StateReply::Number(1.0),
            StateOperation::Pop { key } => StateReply::Value(state.remove(&key)),
            StateOperation::Stats => StateReply::Stats(StateStats::default()),
            StateOperation::Lock { .. } => StateReply::Place(Place { ahead: 0, held_by: None }),
            StateOperation::Unlock { .. } => StateReply::Done(true),
        }
    }
}

impl Host for Memory {
    fn now(&self) -> Millis {
        Millis::from_secs(1_700_000_000)
    }

    fn random(&self) -> u128 {
        self.random.set(self.random.get() + 1);
        self.random.get()
    }

    fn log(&self, line: LogLine) {
        assert!(line.text.len() <= LOG_LINE_BYTES_MAX, "a line of {} bytes", line.text.len());
        assert!(!line.text.contains('\n'), "a line of several");
    }

    fn starting<'a>(&'a self, _: &'a Attempt) -> LocalFuture<'a, Result<(), Stop>> {
        Box::pin(async { Ok(()) })
    }

    fn finished<'a>(&'a self, _: &'a TaskEnd) -> LocalFuture<'a, Result<(), Stop>> {
        Box::pin(async { Ok(()) })
    }

    fn state<'a>(&'a self, operation: StateOperation) -> LocalFuture<'a, Result<StateReply, StateError>> {
        let reply = self.answer(operation);
        Box::pin(async { Ok(reply) })
    }
}

pub(super) fn seeds() -> Vec<Seed> {
    let calls = |lines: &[&str]| lines.join("\n").replace(' ', "\t");
    vec![
        Seed::accepted(
            "files",
            calls(&["fs.write /file 'x", "fs.read /file", "fs.copy /file /sub", "fs.rmr /sub", "fs.ls ^."]),
        ),
        Seed::accepted(
            "outside",
            calls(&[
                "fs.read /../out/secret",
                "fs.write /link/x 'x",
                "fs.rmr /link",
                "fs.read ^etc/passwd",
                "io.open /link/secret 'w",
            ]),
        ),
        Seed::accepted(
            "checked",
            calls(&["?", "fs.write /new 'x", "exec.run 'true", "exec.run ['true]", "fs.mkdir /x"]),
        ),
        Seed::accepted(
            "odd",
            calls(&[
                "json.encode %0",
                "yaml.encode %1",
                "log.info %2",
                "log.table %0",
                "data.deep_merge %0 %0",
                "string.rep 'x #9e15",
            ]),
        ),
        Seed::accepted(
            "data",
            calls(&[
                "json.decode '{\"a\":[1]}",
                "data.flatten @0",
                "yaml.decode 'a:\\x20[1]",
                "data.set_path @0 'a.b #1",
                "json.encode @0",
            ]),
        ),
        Seed::accepted(
            "coroutines",
            calls(&[
                "goroutine.spawn !0",
                "goroutine.wait_group",
                ":add @1 #1",
                "&goroutine.sleep #5",
                "goroutine.sleep #1",
            ]),
        ),
        Seed::accepted("objects", calls(&["io.open /file", ":read @0 '*a", ":lines @0", ":close @0", ":close @0"])),
        Seed::accepted(
            "options",
            calls(&[
                "exec.run 'x {timeout='1s,env={A='b}}",
                "template.render 'x{{a}} {a=#1}",
                "state.set 'k [#1,'b,t]",
                "state.get 'k",
            ]),
        ),
        Seed::accepted(
            "functions",
            calls(&["table.sort [#3,#1] !1", "string.gsub 'abc '. !2", "pcall !3", "string.format '%d 'x"]),
        ),
        Seed::refused("endless", calls(&["goroutine.sleep #60000"])),
        Seed::refused("loop", calls(&["pcall !4"])),
    ]
}
