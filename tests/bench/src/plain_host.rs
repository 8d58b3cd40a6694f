//! A host of runs that keeps nothing: what the engine takes by itself.

use std::{future::ready, path::Path, rc::Rc, time::Duration, time::Instant};

use anyhow::{Result, anyhow, ensure};
use sloth_core::{Chain, Clock, Millis};
use sloth_workflow::{
    Attempt, CancelSignal, Capabilities, Host, LoadError, LocalFuture, LogLine, Outcome, RunInput, StateError,
    StateOperation, StateReply, Stop, TaskEnd,
};

struct PlainHost(Clock);

impl Host for PlainHost {
    fn now(&self) -> Millis {
        self.0.now()
    }

    fn random(&self) -> u128 {
        0
    }

    fn log(&self, _line: LogLine) {}

    fn starting<'a>(&'a self, _attempt: &'a Attempt) -> LocalFuture<'a, Result<(), Stop>> {
        Box::pin(ready(Ok(())))
    }

    fn finished<'a>(&'a self, _end: &'a TaskEnd) -> LocalFuture<'a, Result<(), Stop>> {
        Box::pin(ready(Ok(())))
    }

    fn state<'a>(&'a self, _operation: StateOperation) -> LocalFuture<'a, Result<StateReply, StateError>> {
        Box::pin(ready(Err(StateError { message: "there is no state here".to_owned() })))
    }
}

/// Runs the file `name` in `dir`, which must have `tasks` tasks and succeed, and gives how long that took.
pub(crate) fn run(dir: &Path, name: &str, tasks: usize) -> Result<Duration> {
    let input = RunInput {
        bundle_dir: dir.to_owned(),
        file: name.into(),
        capabilities: Capabilities::all(),
        workdir: dir.to_owned(),
        ..RunInput::default()
    };
    let host = Rc::new(PlainHost(Clock::new()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let began = Instant::now();
    let end = runtime.block_on(sloth_workflow::run(input, host, CancelSignal::never())).map_err(unload)?;
    let took = began.elapsed();
    ensure!(end.outcome == Outcome::Succeeded, "the run did not succeed: {}", end.message);
    ensure!(end.tasks.len() == tasks, "the run has {} tasks and not {tasks}", end.tasks.len());
    Ok(took)
}

/// An error of loading as one that threads can hand on.
#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
pub(crate) fn unload(error: LoadError) -> anyhow::Error {
    anyhow!("{}", Chain(&error))
}
