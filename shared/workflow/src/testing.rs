//! Tests of workflow files, written in Lua: `*_test.lua`.
//!
//! A test file has a machine of its own. It stubs functions of modules, runs workflow files in that machine, and looks at
//! what came of them.

mod harness;

use std::{
    cell::RefCell,
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use mlua::{Function, Table};
use tokio::task::LocalSet;

use crate::{
    AgentInfo, Attempt, CancelSignal, Capabilities, Host, Limits, LoadError, LocalFuture, LogLine, StateError,
    StateOperation, StateReply, Stop, TaskEnd, Watch,
    engine::{Called, Engine},
    load::Prepared,
    modules::{self, Context, CurrentTask, Phase},
};

/// How long one test may take.
pub const TEST_TIMEOUT_MS: u64 = 60_000;
/// Most lines of the log that are kept for one run of a test.
const LINES_MAX: usize = 10_000;

/// What to test, and with what.
#[derive(Debug, Clone)]
pub struct TestInput {
    /// The directory that holds the bundle. Nothing outside it is loaded.
    pub bundle_dir: PathBuf,
    /// The test file, relative to the bundle.
    pub file: PathBuf,
    /// Only the tests whose name contains this; empty = all.
    pub filter: String,
    /// What the Lua may touch.
    pub capabilities: Capabilities,
    /// The bounds.
    pub limits: Limits,
    /// An existing scratch directory.
    pub workdir: PathBuf,
    /// An identifier of the whole.
    pub run_id: String,
    /// The host that tests.
    pub agent: AgentInfo,
    /// Sees from another thread whose Lua runs.
    pub watch: Watch,
    /// What values a run may be given, where the bundle says so.
    pub values: ValuesCheck,
}

/// Compares a run's values with what the bundle takes: none is against them, or why they do not fit.
#[derive(Clone)]
pub struct ValuesCheck(Rc<Check>);

type Check = dyn Fn(&serde_json::Value) -> Result<(), String>;

impl ValuesCheck {
    /// The comparison that `check` makes.
    pub fn new(check: impl Fn(&serde_json::Value) -> Result<(), String> + 'static) -> Self {
        Self(Rc::new(check))
    }
}

impl std::fmt::Debug for ValuesCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ValuesCheck")
    }
}

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestEnd {
    /// Its name.
    pub name: String,
    /// In one word.
    pub outcome: TestOutcome,
    /// Why it failed, over several lines; empty when it did not.
    pub message: String,
    /// How long it took.
    pub took: Duration,
    /// What it and its runs printed.
    pub log: Vec<LogLine>,
}

/// How a test ended, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestOutcome {
    /// Everything that it expected held.
    Passed,
    /// Something did not, or it raised an error.
    Failed,
    /// The file says that it is not to be run.
    Skipped,
}

/// Runs the tests of a file, one after the other, and hands over each that ended.
///
/// It needs a tokio runtime with timers, I/O and signals. `host` keeps state and gives time and randomness; it is told of
/// no task.
///
/// # Errors
///
/// When the file cannot be loaded, or defines no test.
pub async fn run_tests(
    input: TestInput,
    host: Rc<dyn Host>,
    cancel: CancelSignal,
    each: &mut dyn FnMut(TestEnd),
) -> Result<(), LoadError> {
    let local = LocalSet::new();
    let ended = local.run_until(Box::pin(run_local(input, host, cancel, each))).await;
    drop(local);
    ended
}

async fn run_local(
    input: TestInput,
    host: Rc<dyn Host>,
    cancel: CancelSignal,
    each: &mut dyn FnMut(TestEnd),
) -> Result<(), LoadError> {
    let recorder = Rc::new(Recorder { host, lines: RefCell::default() });
    let context = Rc::new(Context {
        capabilities: Rc::new(input.capabilities.clone()),
        limits: Rc::new(input.limits.clone()),
        bundle_dir: input.bundle_dir.clone(),
        workdir: input.workdir.clone(),
        run_id: input.run_id.clone(),
        agent: input.agent.clone(),
        current: Rc::new(CurrentTask::shown_to(input.watch.clone())),
        ..Context::new(Rc::clone(&recorder) as Rc<dyn Host>, Phase::Run)
    });
    let prepared = Prepared::new(&context, &input.file, cancel.clone())?;
    let lua = prepared.machine.lua.clone();
    let bench = harness::Bench::new(&context, &recorder, &input, cancel.clone());
    let (tests, perform) = bench.install(&lua).map_err(LoadError::Machine)?;
    let engine = Engine::new(prepared, Rc::clone(&context), cancel);
    let ended = async {
        engine.evaluate().await?;
        let tests = tests.sequence_values::<Table>().collect::<mlua::Result<Vec<_>>>().map_err(LoadError::Machine)?;
        if tests.is_empty() {
            return Err(LoadError::NoTest { file: input.file.display().to_string() });
        }
        for test in tests {
            let name: String = test.get("name").map_err(LoadError::Machine)?;
            if name.contains(&input.filter) {
                recorder.lines.borrow_mut().clear();
                each(test_once(&engine, &recorder, &perform, name, test).await);
            }
        }
        Ok(())
    };
    let ended = ended.await;
    modules::end(&lua).await;
    context.processes.kill_all().await;
    ended
}

async fn test_once(engine: &Engine, recorder: &Recorder, perform: &Function, name: String, test: Table) -> TestEnd {
    let began = Instant::now();
    let limit = Duration::from_millis(TEST_TIMEOUT_MS);
    let (outcome, message) = if test.get("skipped").unwrap_or(false) {
        (TestOutcome::Skipped, String::new())
    } else {
        let scope = engine.scope(limit);
        let called = engine.call(&scope, perform, test).await;
        scope.stop();
        match called {
            Called::Returned(_) => (TestOutcome::Passed, String::new()),
            Called::Raised(error) => (TestOutcome::Failed, explained(&engine.fault(&error).text())),
            Called::TimedOut => (TestOutcome::Failed, format!("it was stopped after {} s", limit.as_secs())),
            Called::Halted => (TestOutcome::Failed, "the tests were cancelled".to_owned()),
        }
    };
    TestEnd { name, outcome, message, took: began.elapsed(), log: recorder.lines.take() }
}

/// A test is granted little, and its author is no publisher.
fn explained(message: &str) -> String {
    const REFUSED: &str = "is not granted";
    if message.contains(REFUSED) {
        return format!("{message}\nin a test: stub the function, or run the tests with `--allow`");
    }
    message.to_owned()
}

/// The host of tests: it keeps what is printed and is told of no task.
struct Recorder {
    host: Rc<dyn Host>,
    lines: RefCell<Vec<LogLine>>,
}

impl Host for Recorder {
    fn now(&self) -> sloth_core::Millis {
        self.host.now()
    }

    fn random(&self) -> u128 {
        self.host.random()
    }

    fn log(&self, line: LogLine) {
        let mut lines = self.lines.borrow_mut();
        if lines.len() < LINES_MAX {
            lines.push(line);
        }
    }

    fn starting<'a>(&'a self, _attempt: &'a Attempt) -> LocalFuture<'a, Result<(), Stop>> {
        Box::pin(async { Ok(()) })
    }

    fn finished<'a>(&'a self, _end: &'a TaskEnd) -> LocalFuture<'a, Result<(), Stop>> {
        Box::pin(async { Ok(()) })
    }

    fn state<'a>(&'a self, operation: StateOperation) -> LocalFuture<'a, Result<StateReply, StateError>> {
        self.host.state(operation)
    }
}
