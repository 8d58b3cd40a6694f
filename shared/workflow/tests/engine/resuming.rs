//! A run that goes on after its worker was gone.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use sloth_core::Millis;
use sloth_workflow::{
    Attempt, CancelSignal, Host, LocalFuture, LogLine, Outcome, Resume, RunEnd, StateError, StateOperation, StateReply,
    Stop, TaskEnd, TaskName, TaskStatus, run,
};

use crate::harness::{Case, Memory};

const TEXT: &str = r#"
    task("a"):command(function() error("run again", 0) end)
    task("b"):idempotent(true):depends_on("a"):command(function(this, _, deps) return true, deps.a.n .. "/" .. this.attempt end)
    task("off"):run_if(false):command("true")
    task("c"):depends_on("off"):command(function() return true end)
    task("bad"):command("false")
    task("d"):depends_on("bad"):command("true")
    task("e"):depends_on("d"):command("true")
    task("once"):command(function() return true end)
    task("never"):idempotent(false):retries(5):command("true")
    task("f"):retries(2):command(function(this) return false, "at " .. this.attempt end)
"#;

fn name(task: &str) -> TaskName {
    TaskName { workflow: "main".into(), task: task.into() }
}

fn end(task: &str, status: TaskStatus, outputs: &Value) -> TaskEnd {
    let outputs = outputs.as_object().cloned().unwrap_or_else(Map::new);
    let (started, ended) = (Millis::ZERO, Millis::ZERO);
    TaskEnd { task: name(task), status, attempts: 1, message: "before".into(), outputs, started, ended }
}

#[test]
fn what_ended_is_not_run_again_and_what_was_cut_off_is() {
    let mut case = Case::new(TEXT);
    case.input.resume.ended = vec![
        end("a", TaskStatus::Succeeded, &json!({"n": 7})),
        end("off", TaskStatus::Skipped, &json!({})),
        end("bad", TaskStatus::Failed, &json!({})),
        end("d", TaskStatus::Skipped, &json!({})),
    ];
    case.input.resume.attempts = [(name("b"), 2), (name("once"), 1), (name("never"), 1), (name("f"), 1)].into();
    let ended = case.run();
    assert_eq!(
        ended.lines(),
        [
            "a succeeded: before",
            "b succeeded: 7/3",
            "off skipped: before",
            "c succeeded",
            "bad failed: before",
            "d skipped: before",
            "e skipped: `d`, which it depends on, did not end well",
            "once interrupted: it was cut off while it ran, and it is neither idempotent nor to be retried: see what it did, then run it anew",
            "never interrupted: it was cut off while it ran, and it is neither idempotent nor to be retried: see what it did, then run it anew",
            "f failed: at 3",
        ]
    );
    let told = ended.told();
    assert!(!told.contains("+a/") && !told.contains("-bad") && told.contains("+b/3"), "{told}");
    assert!(
        !told.contains("+once") && told.contains("-once") && told.contains("+f/2") && told.contains("+f/3"),
        "{told}"
    );
}

/// A host whose journal outlives it, and which is gone at some call.
#[derive(Default)]
struct Journal {
    inner: Memory,
    calls: Cell<usize>,
    /// It is gone at this call, counted from 0.
    gone_at: Option<usize>,
    ended: RefCell<Vec<TaskEnd>>,
    attempts: RefCell<BTreeMap<TaskName, u32>>,
}

impl Journal {
    fn is_gone(&self) -> bool {
        let call = self.calls.get();
        self.calls.set(call + 1);
        self.gone_at.is_some_and(|gone_at| gone_at <= call)
    }

    /// What its next life knows.
    fn resume(&self) -> Resume {
        let ended = self.ended.borrow().clone();
        let mut attempts = self.attempts.borrow().clone();
        attempts.retain(|task, _| ended.iter().all(|end| end.task != *task));
        Resume { ended, attempts }
    }
}

fn gone() -> Stop {
    Stop { reason: "gone".to_owned() }
}

impl Host for Journal {
    fn now(&self) -> Millis {
        self.inner.now()
    }

    fn random(&self) -> u128 {
        self.inner.random()
    }

    fn log(&self, line: LogLine) {
        self.inner.log(line);
    }

    fn starting<'a>(&'a self, attempt: &'a Attempt) -> LocalFuture<'a, Result<(), Stop>> {
        let gone_now = self.is_gone();
        if !gone_now {
            self.attempts.borrow_mut().insert(attempt.task.clone(), attempt.number);
        }
        Box::pin(async move { if gone_now { Err(gone()) } else { Ok(()) } })
    }

    fn finished<'a>(&'a self, end: &'a TaskEnd) -> LocalFuture<'a, Result<(), Stop>> {
        let gone_now = self.is_gone();
        if !gone_now {
            self.ended.borrow_mut().push(end.clone());
        }
        Box::pin(async move { if gone_now { Err(gone()) } else { Ok(()) } })
    }

    fn state<'a>(&'a self, operation: StateOperation) -> LocalFuture<'a, Result<StateReply, StateError>> {
        self.inner.state(operation)
    }
}

/// One life of a run, with what the lives before it left.
fn live(text: &str, parallel: usize, resume: Resume, gone_at: Option<usize>) -> (RunEnd, Rc<Journal>) {
    let mut case = Case::new(text).parallel(parallel);
    let (ended, attempts) = (RefCell::new(resume.ended.clone()), RefCell::new(resume.attempts.clone()));
    let host = Rc::new(Journal { gone_at, ended, attempts, ..Journal::default() });
    case.load().expect("a plan");
    case.input.resume = resume;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let hosted = Rc::clone(&host) as Rc<dyn Host>;
    (runtime.block_on(run(case.input, hosted, CancelSignal::never())).expect("a run"), host)
}

/// A file of tasks; those of each depend on lower numbers.
fn file(kinds: &[u8], edges: &[(usize, usize)], policy: &str) -> String {
    let mut text = String::from("local tasks = {}\n");
    for (n, kind) in kinds.iter().enumerate() {
        let below: Vec<usize> =
            edges.iter().filter(|(a, b)| *a.max(b) == n && a != b).map(|(a, b)| *a.min(b)).collect();
        let names = below.iter().map(|n| format!("'t{n}'")).collect::<Vec<_>>().join(", ");
        let relation = match kind {
            0 if !below.is_empty() => format!(":next_if_fail({names})"),
            _ if below.is_empty() => String::new(),
            _ => format!(":depends_on({names})"),
        };
        let more = match kind {
            1 => ":run_if(false)",
            2 => ":abort_if(function() return true end)",
            _ => "",
        };
        let good = if *kind == 3 { "false, 'broken'" } else { "true, 'fine', { n = n }" };
        text.push_str(&format!(
            "tasks[#tasks + 1] = task('t{n}'):idempotent(true){relation}{more}:command(function(this, params, deps)
                local n = 1
                for _, outputs in pairs(deps) do n = n + outputs.n end
                goroutine.sleep(0)
                return {good}
            end)\n"
        ));
    }
    format!("{text}workflow.define('w'):tasks(tasks):config({{ on_task_failure = '{policy}' }})")
}

/// What must be the same: how each task ended, and with what.
fn told(end: &RunEnd) -> (Outcome, Vec<(String, TaskStatus, Value)>) {
    let task = |end: &TaskEnd| (end.task.task.clone(), end.status, Value::Object(end.outputs.clone()));
    (end.outcome, end.tasks.iter().map(task).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    /// Whenever a run is cut off, its next life ends as it would have ended at once.
    #[test]
    fn a_run_that_was_cut_off_anywhere_ends_as_one_that_was_not(
        kinds in prop::collection::vec(0_u8..10, 2..6),
        edges in prop::collection::vec((0_usize..6, 0_usize..6), 0..8),
        policy in prop::sample::select(vec!["continue", "stop", "rollback"]),
        parallel in 1_usize..4,
    ) {
        let text = file(&kinds, &edges, policy);
        // Which of several tasks that run at a time a failure finds begun is a matter of time.
        let in_turn = policy != "continue" || kinds.contains(&2);
        let parallel = if in_turn { 1 } else { parallel };
        let (whole, host) = live(&text, parallel, Resume::default(), None);
        for gone_at in 0..host.calls.get() {
            let (first, host) = live(&text, parallel, Resume::default(), Some(gone_at));
            prop_assert_eq!(first.outcome, Outcome::Cancelled, "gone at {}", gone_at);
            let (second, _) = live(&text, parallel, host.resume(), None);
            prop_assert_eq!(told(&second), told(&whole), "gone at {} of\n{}", gone_at, text);
        }
    }
}

#[test]
fn what_was_done_before_the_cut_is_rolled_back_after_it() {
    let text = r#"
        local function undo(this) print("undo", this.name()) end
        workflow.define("w"):config({ on_task_failure = "rollback", max_parallel_tasks = 1 }):tasks({
            task("a"):idempotent(true):command(function() return true end):rollback(undo),
            task("b"):idempotent(true):depends_on("a"):command(function() return true end):rollback(undo),
            task("c"):idempotent(true):depends_on("b"):command(function() return false, "no" end),
        })"#;
    // Gone when the end of `c` is to be kept.
    let (_, host) = live(text, 1, Resume::default(), Some(5));
    let (end, host) = live(text, 1, host.resume(), None);
    assert_eq!(end.message, "workflow `w`: 1 of 3 tasks failed, first `c`: no; rolled back `b`, `a`");
    assert_eq!(host.inner.log.take(), ["b: undo\tb", "a: undo\ta"]);
}
