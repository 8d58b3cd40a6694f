//! Runs the workflows of a file.

mod arguments;
mod attempt;
mod gates;
mod hooks;
pub(crate) mod place;
mod ready;
mod select;
mod this;
mod undo;
mod verdict;
mod workflow;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use mlua::{Function, IntoLuaMulti, MultiValue, Value as LuaValue};
use serde_json::{Map, Value};
use tokio::{
    sync::watch,
    task::{JoinSet, LocalSet},
};

pub use place::Elsewhere;
pub use select::Selection;
pub(crate) use this::empty;

use crate::{
    AgentInfo, CancelSignal, Capabilities, Host, Limits, LoadError, TaskEnd, TaskName, Watch,
    dsl::{self, Finished, Settled},
    limits,
    load::Prepared,
    modules::{Context, CurrentTask, Phase, Scope, ScopeId, Settings},
    vm::{
        Fault,
        convert::{self, Foreign},
    },
};

/// What to run, and with what.
#[derive(Debug, Clone, Default)]
pub struct RunInput {
    /// The directory that holds the bundle. Nothing outside it is loaded.
    pub bundle_dir: PathBuf,
    /// The workflow file, relative to the bundle.
    pub file: PathBuf,
    /// The workflow to run; `None` = every one of the file, one after the other in its order.
    pub workflow: Option<String>,
    /// Which of their tasks are run.
    pub selection: Selection,
    /// What the script sees as `values`; null = nil.
    pub values: Value,
    /// The stack, the secrets, and what becomes of tasks for other hosts.
    pub settings: Settings,
    /// What the Lua may touch.
    pub capabilities: Capabilities,
    /// The bounds.
    pub limits: Limits,
    /// What an earlier life of this run has done.
    pub resume: Resume,
    /// The run's identifier.
    pub run_id: String,
    /// An existing scratch directory of the run: where commands run when a task does not say.
    pub workdir: PathBuf,
    /// The host that runs it.
    pub agent: AgentInfo,
    /// Sees from another thread whose Lua runs.
    pub watch: Watch,
    /// Only says what would be changed: modules look, and change nothing.
    pub check: bool,
    /// Where programs are looked for, as `PATH` holds it; `None` = [`SEARCH_PATH`].
    pub search_path: Option<String>,
}

/// Where programs are looked for. The environment of this process may hold secrets, so none of it is handed on.
pub const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an earlier life of a run has done.
#[derive(Debug, Clone, Default)]
pub struct Resume {
    /// The tasks that ended. They are not run again; their outputs feed those that depend on them.
    pub ended: Vec<TaskEnd>,
    /// How many attempts were begun at tasks that have not ended; the last one was cut off.
    pub attempts: BTreeMap<TaskName, u32>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct RunEnd {
    /// In one word.
    pub outcome: Outcome,
    /// Every task of the workflows that were run, workflow by workflow in the order of the file.
    pub tasks: Vec<TaskEnd>,
    /// The global table `outputs`.
    pub outputs: Map<String, Value>,
    /// Why it did not succeed; empty when it did.
    pub message: String,
}

/// How a run ended, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// No task failed.
    Succeeded,
    /// A task failed.
    Failed,
    /// It was cancelled, or its host could not go on.
    Cancelled,
}

/// Runs the workflows of a file. Task functions, goroutines and commands overlap, on one thread.
///
/// It needs a tokio runtime with timers, I/O and signals. When it resolves, nothing of it runs any more.
///
/// # Errors
///
/// When the file cannot be loaded: no task was begun then. What goes wrong later is in the [`RunEnd`].
pub async fn run(input: RunInput, host: Rc<dyn Host>, cancel: CancelSignal) -> Result<RunEnd, LoadError> {
    let local = LocalSet::new();
    let end = local.run_until(Box::pin(run_local(input, host, cancel))).await;
    drop(local);
    end
}

async fn run_local(input: RunInput, host: Rc<dyn Host>, cancel: CancelSignal) -> Result<RunEnd, LoadError> {
    let phase = if input.check { Phase::Check } else { Phase::Run };
    let context = Rc::new(Context {
        capabilities: Rc::new(input.capabilities),
        limits: Rc::new(input.limits),
        bundle_dir: input.bundle_dir,
        workdir: input.workdir,
        run_id: input.run_id,
        values: input.values,
        agent: input.agent,
        search_path: input.search_path.unwrap_or_else(|| SEARCH_PATH.to_owned()),
        settings: input.settings,
        current: Rc::new(CurrentTask::shown_to(input.watch)),
        ..Context::new(host, phase)
    });
    let prepared = Prepared::new(&context, &input.file, cancel.clone())?;
    let engine = Engine::new(prepared, Rc::clone(&context), cancel);
    let end = engine.run(input.workflow.as_deref(), &input.selection, &input.resume).await;
    engine.background.borrow_mut().abort_all();
    crate::modules::end(&engine.prepared.machine.lua).await;
    context.processes.kill_all().await;
    end
}

/// One run under way.
pub(crate) struct Engine {
    prepared: Prepared,
    context: Rc<Context>,
    cancel: CancelSignal,
    /// Why everything that runs must end, once it must.
    halt: watch::Sender<Option<Halt>>,
    /// What every task function gets as its fourth argument.
    session: Option<mlua::Table>,
    /// Hooks that nothing waits for.
    background: RefCell<JoinSet<()>>,
    /// The directories that this run made for its tasks.
    made: RefCell<BTreeSet<PathBuf>>,
}

/// Why everything that runs must end.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Halt {
    /// The run was cancelled.
    Cancelled,
    /// The workflow's own time is over.
    Workflow(Duration),
    /// The host cannot go on; it is told nothing any more.
    Host(String),
    /// The machine is out of memory, which it cannot recover from.
    Memory,
}

/// What became of a call of a function.
pub(crate) enum Called {
    Returned(MultiValue),
    Raised(mlua::Error),
    TimedOut,
    Halted,
}

impl Engine {
    pub(crate) fn new(prepared: Prepared, context: Rc<Context>, cancel: CancelSignal) -> Self {
        let session = prepared.machine.lua.create_table().ok();
        if let Some(session) = &session {
            session.set_readonly(true);
        }
        Self {
            prepared,
            context,
            cancel,
            halt: watch::Sender::new(None),
            session,
            background: RefCell::default(),
            made: RefCell::default(),
        }
    }

    pub(crate) async fn run(
        &self,
        wanted: Option<&str>,
        selection: &Selection,
        resume: &Resume,
    ) -> Result<RunEnd, LoadError> {
        self.evaluate().await?;
        let Settled { mut workflows, warnings, notes, hints: _, errors: _ } =
            self.in_phase(|| self.prepared.finish())?;
        if let Some(name) = wanted {
            self.select(&mut workflows, name)?;
        }
        let left_out = selection.left_out(&workflows)?;
        self.place(&workflows.iter().map(|workflow| &workflow.plan).collect::<Vec<_>>())?;
        for warning in notes.warnings.iter().chain(&warnings) {
            self.context.warn(warning);
        }
        let plans: Vec<_> = workflows.iter().map(|workflow| workflow.plan.clone()).collect();
        self.context.host.planned(&plans);
        drop(plans);
        let mut before = workflow::Before::new(resume);
        let mut tasks = Vec::new();
        let mut failed = None;
        for (workflow, left_out) in workflows.iter().zip(&left_out) {
            let end = self.workflow(workflow, left_out, &mut before).await;
            failed = failed.or(end.message);
            tasks.extend(end.tasks);
        }
        let outputs = self.outputs();
        // Told again where it is not lost among what the tasks said: they may have done something else than was meant.
        for told in &notes.misspelt {
            self.context.warn(told);
        }
        let halt = self.halt.borrow().clone();
        let (outcome, message) = match (halt, failed) {
            (Some(Halt::Cancelled), _) => (Outcome::Cancelled, "the run was cancelled".to_owned()),
            (Some(Halt::Host(reason)), _) => (Outcome::Cancelled, reason),
            (Some(Halt::Memory | Halt::Workflow(_)) | None, Some(message)) => (Outcome::Failed, message),
            (Some(Halt::Memory | Halt::Workflow(_)) | None, None) => (Outcome::Succeeded, String::new()),
        };
        Ok(RunEnd { outcome, tasks, outputs, message })
    }

    /// Runs the file's top level, where its tasks are defined.
    pub(crate) async fn evaluate(&self) -> Result<(), LoadError> {
        let limit = self.context.limits.top_level_time;
        let scope = self.scope(limit);
        // What waits for commands at the top level is not bound to the workflows' time.
        let called = self.call(&scope, &self.prepared.chunk, ()).await;
        let over = |error: &mlua::Error| self.prepared.error(error, &scope, limit);
        let end = match called {
            Called::Returned(_) => Ok(()),
            Called::Raised(error) => Err(over(&error)),
            Called::TimedOut => Err(LoadError::Slow { file: self.prepared.file.clone(), limit }),
            Called::Halted => Err(LoadError::Cancelled { file: self.prepared.file.clone() }),
        };
        scope.stop();
        end
    }

    /// An error of the file's in words, with what was probably meant.
    pub(crate) fn fault(&self, error: &mlua::Error) -> Fault {
        self.prepared.fault(error)
    }

    /// Calls `f`, which may call functions of the file at once, under the time that the top level has.
    fn in_phase<T>(&self, f: impl FnOnce() -> T) -> T {
        let scope = self.scope(self.context.limits.plan_time);
        let result = self.context.current.with(&scope, f);
        scope.stop();
        result
    }

    fn select(&self, workflows: &mut Vec<Finished>, name: &str) -> Result<(), LoadError> {
        if workflows.iter().any(|workflow| workflow.plan.name() == name) {
            workflows.retain(|workflow| workflow.plan.name() == name);
            return Ok(());
        }
        let known: Vec<String> = workflows.iter().map(|workflow| format!("`{}`", workflow.plan.name())).collect();
        let file = self.prepared.file.clone();
        Err(LoadError::UnknownWorkflow { file, name: name.to_owned(), known: known.join(", ") })
    }

    /// A scope outside tasks.
    pub(crate) fn scope(&self, time: Duration) -> Rc<Scope> {
        let workdir = self.context.workdir.clone();
        Rc::new(Scope::new(self.next_scope(), None, workdir, limits::deadline(time)))
    }

    fn next_scope(&self) -> ScopeId {
        self.context.current.next_scope()
    }

    /// Calls a function of the script in the name of `scope`, until its deadline or the run's end.
    pub(crate) async fn call(&self, scope: &Rc<Scope>, function: &Function, arguments: impl IntoLuaMulti) -> Called {
        let future = function.call_async::<MultiValue>(arguments);
        let future = self.context.current.enter(Rc::clone(scope), future);
        let called = tokio::select! {
            biased;
            result = future => match result {
                // Work that the machine cannot stop may end long after its time was over.
                Ok(_) if scope.is_over() => Called::TimedOut,
                Ok(values) => return Called::Returned(values),
                Err(error) => Called::Raised(error),
            },
            () = tokio::time::sleep_until(scope.deadline.into()) => Called::TimedOut,
            () = self.halted() => Called::Halted,
        };
        // A script that cannot yield is stopped by an error of the machine, and one that runs out of time while
        // it waits by the timer: both are the same to the task.
        let called = match called {
            Called::Raised(_) if self.cancel.is_cancelled() => Called::Halted,
            Called::Raised(_) if scope.is_over() => Called::TimedOut,
            Called::Returned(_) | Called::Raised(_) | Called::TimedOut | Called::Halted => called,
        };
        if matches!(called, Called::TimedOut | Called::Halted) {
            scope.stop();
            self.context.processes.kill(scope.id).await;
        }
        called
    }

    /// Resolves when everything that runs must end.
    async fn halted(&self) {
        let mut halt = self.halt.subscribe();
        let mut cancel = self.cancel.clone();
        tokio::select! {
            _ = halt.wait_for(Option::is_some) => {}
            () = cancel.cancelled() => {}
        }
    }

    fn is_halted(&self) -> bool {
        self.cancel.is_cancelled() || self.halt.borrow().is_some()
    }

    /// The first reason to halt stands.
    fn halt(&self, reason: Halt) {
        self.halt.send_if_modified(|halt| {
            let first = halt.is_none();
            if first {
                *halt = Some(reason);
            }
            first
        });
    }

    /// What the script left in its global `outputs`, and what it exported, which goes over the former.
    fn outputs(&self) -> Map<String, Value> {
        let lua = &self.prepared.machine.lua;
        let global = match lua.globals().raw_get("outputs") {
            Ok(LuaValue::Table(table)) => convert::to_object(lua, &table, Foreign::Drop),
            Ok(_) | Err(_) => Ok(Map::new()),
        };
        let exported = dsl::exported(lua).map(|table| convert::to_object(lua, &table, Foreign::Drop));
        let joined = global.and_then(|mut outputs| {
            outputs.extend(exported.transpose()?.unwrap_or_default());
            Ok(outputs)
        });
        match joined {
            Ok(outputs) if verdict::bytes(&outputs) <= self.context.limits.output_bytes_per_task => outputs,
            Ok(_) => {
                self.context.warn("the run's outputs are too large and are not kept");
                Map::new()
            }
            Err(error) => {
                self.context.warn(&format!("the run's outputs are not kept: {error}"));
                Map::new()
            }
        }
    }
}
