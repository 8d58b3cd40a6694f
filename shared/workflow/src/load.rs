//! From a file of a bundle to its plans, without running a task.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use mlua::{Function, Lua};
use serde_json::Value;

use crate::{
    Capabilities, Limits, Plan, PlanError,
    cancel::CancelSignal,
    describe::{NameFault, undefined},
    dsl::{self, Definitions, Settled},
    host::{Attempt, Host, LocalFuture, LogLine, StateError, StateOperation, StateReply, Stop, TaskEnd},
    modules::{Context, Phase, Scope, ScopeId},
    source::{Source, SourceError, Sources, column, unclosed},
    vm::{Fault, FaultKind, Machine, hint},
};

/// Why a workflow file cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file is missing, outside the bundle, too long or no text.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The text is not Lua.
    #[error("{file}:{line}:{column}: {message}\n{}", pointed(source_line, *line, *column))]
    Syntax {
        /// The file, by its path in the bundle.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1, as well as the message tells it.
        column: usize,
        /// What the compiler says.
        message: String,
        /// The line's text.
        source_line: String,
    },
    /// The file raised an error.
    #[error("{message}")]
    Script {
        /// What and where; the lines that led there follow, each on a line of its own.
        message: String,
    },
    /// Evaluating the file took too much memory.
    #[error("`{file}` takes more than the {memory_bytes} bytes of memory that a run may have")]
    Memory {
        /// The file.
        file: String,
        /// The limit.
        memory_bytes: usize,
    },
    /// Evaluating the file took too long.
    #[error("`{file}` was not evaluated within {} s: move work into tasks", limit.as_secs_f64())]
    Slow {
        /// The file.
        file: String,
        /// The limit.
        limit: Duration,
    },
    /// The run was cancelled before its first task.
    #[error("the run was cancelled while `{file}` was evaluated")]
    Cancelled {
        /// The file.
        file: String,
    },
    /// The file defines nothing.
    #[error("`{file}` defines no workflow and no task: write `workflow.define(\"name\")` or `task(\"name\")`")]
    NoWorkflow {
        /// The file.
        file: String,
    },
    /// The test file defines nothing.
    #[error("`{file}` defines no test: write `test(\"name\", function() … end)`")]
    NoTest {
        /// The file.
        file: String,
    },
    /// The workflow that was asked for does not exist.
    #[error("`{file}` has no workflow `{name}`: it has {known}")]
    UnknownWorkflow {
        /// The file.
        file: String,
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A task that is to be run, or left out, does not exist.
    #[error("`{option}` names `{pattern}`, and no task is called so{}", hint(nearest.as_deref()))]
    UnknownTask {
        /// `only`, `skip` or `from`.
        option: &'static str,
        /// The name or pattern.
        pattern: String,
        /// What may have been meant.
        nearest: Option<String>,
    },
    /// A task that does nothing.
    #[error(
        "task `{task}` of workflow `{workflow}` has no command: write `:command(function() … end)` or `:command(\"…\")`"
    )]
    NoCommand {
        /// The task.
        task: String,
        /// Its workflow.
        workflow: String,
    },
    /// A placement that cannot be read.
    #[error("task `{task}`: the function given to `delegate_to` must return a name or a list of names")]
    Delegate {
        /// The task.
        task: String,
    },
    /// A task for another host.
    #[error("task `{task}` is delegated to `{delegate}`, and this run can use only {here}")]
    Elsewhere {
        /// The task.
        task: String,
        /// The host it is meant for.
        delegate: String,
        /// What this host answers to.
        here: String,
    },
    /// The tasks do not fit together.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The machine itself failed.
    #[error("cannot start the Lua machine")]
    Machine(#[source] mlua::Error),
}

impl LoadError {
    pub(crate) fn lua(error: &mlua::Error) -> Self {
        Self::Script { message: Fault::from(error).text() }
    }
}

/// What is known of a file that was looked through.
#[derive(Debug, Default)]
pub struct Validation {
    /// The plans of the workflows that have no error, in the order of the file.
    pub plans: Vec<Plan>,
    /// Everything that is wrong, in the order of the file as far as that is known.
    pub errors: Vec<LoadError>,
    /// What its author should know though it is no error.
    pub warnings: Vec<String>,
    /// Names that nothing has.
    pub names: Vec<NameFault>,
}

/// The plans of a file's workflows, in the order of the file. No task is run, and nothing outside is touched.
///
/// `file` is relative to `bundle_dir`. `values` is what the script sees as `values`; null = nil.
///
/// # Errors
///
/// When the file cannot be read, raises an error, takes too long, or its tasks do not fit together.
pub fn load(bundle_dir: &Path, file: &Path, values: &Value, limits: &Limits) -> Result<Vec<Plan>, LoadError> {
    load_and_warn(bundle_dir, file, values, limits).map(|(plans, _)| plans)
}

/// As [`load`], with what the file's author should know though it is no error.
///
/// # Errors
///
/// As [`load`].
pub fn load_and_warn(
    bundle_dir: &Path,
    file: &Path,
    values: &Value,
    limits: &Limits,
) -> Result<(Vec<Plan>, Vec<String>), LoadError> {
    let context = planning(bundle_dir, values, limits);
    let prepared = Prepared::new(&context, file, CancelSignal::never())?;
    let scope = Rc::new(Scope::new(ScopeId(0), None, PathBuf::new(), Instant::now() + limits.plan_time));
    let called = context.current.with(&scope, || prepared.chunk.call::<()>(()));
    called.map_err(|error| prepared.error(&error, &scope, limits.plan_time))?;
    let settled = context.current.with(&scope, || prepared.finish())?;
    let plans = settled.workflows.into_iter().map(|workflow| workflow.plan).collect();
    Ok((plans, [settled.notes.warnings, settled.warnings, settled.hints].concat()))
}

/// As [`load`], with all the errors that one look can find: the evaluation goes on after a wrong call of a builder.
#[must_use]
pub fn validate(bundle_dir: &Path, file: &Path, values: &Value, limits: &Limits) -> Validation {
    let context = planning(bundle_dir, values, limits);
    let prepared = match Prepared::new(&context, file, CancelSignal::never()) {
        Ok(prepared) => prepared,
        Err(error) => return Validation { errors: vec![error], ..Validation::default() },
    };
    let lua = &prepared.machine.lua;
    dsl::collect::keep(lua);
    let scope = Rc::new(Scope::new(ScopeId(0), None, PathBuf::new(), Instant::now() + limits.plan_time));
    let called = context.current.with(&scope, || prepared.chunk.call::<()>(()));
    let raised = called.err().map(|error| prepared.error(&error, &scope, limits.plan_time));
    let mut settled = context.current.with(&scope, || prepared.settle());
    let text = prepared.sources.text(&prepared.file).unwrap_or_default();
    if raised.is_some() {
        // A file that was not evaluated to its end looks as if it lacked what comes later.
        settled.errors.retain(|error| stands(error, &text));
        settled.workflows.clear();
        settled.warnings.clear();
        settled.hints.clear();
    }
    let names = if raised.is_some() { Vec::new() } else { undefined(lua, &text) };
    let mut errors = dsl::collect::taken(lua);
    errors.extend(raised);
    // Tasks and workflows that a kept error left out or half made are not to be complained of twice.
    let known = !errors.is_empty();
    let follow_ups =
        |error: &LoadError| !(known && matches!(error, LoadError::NoCommand { .. } | LoadError::NoWorkflow { .. }));
    errors.extend(settled.errors.into_iter().filter(follow_ups));
    let plans = settled.workflows.into_iter().map(|workflow| workflow.plan).collect();
    let warnings = [settled.notes.warnings, settled.warnings, settled.hints].concat();
    Validation { plans, errors, warnings, names }
}

/// Whether what is wrong with a file's definitions is so whatever the part of it says that was not evaluated.
fn stands(error: &LoadError, text: &str) -> bool {
    let LoadError::Plan(error) = error else { return false };
    match error {
        PlanError::Unknown { unknown, .. } => {
            let mentions = |quote: char| text.matches(&format!("{quote}{unknown}{quote}")).count();
            mentions('"') + mentions('\'') == 1
        }
        PlanError::Duplicate { .. } | PlanError::Cycle { .. } | PlanError::Never { .. } => true,
        PlanError::Unnamed { .. } | PlanError::TooMany { .. } | PlanError::NoneAtATime { .. } => false,
    }
}

/// What surrounds a file that is only read for its plan.
fn planning(bundle_dir: &Path, values: &Value, limits: &Limits) -> Rc<Context> {
    Rc::new(Context {
        capabilities: Rc::new(Capabilities::all()),
        limits: Rc::new(limits.clone()),
        bundle_dir: bundle_dir.to_owned(),
        values: values.clone(),
        search_path: String::new(),
        ..Context::new(Rc::new(NoHost), Phase::Plan)
    })
}

/// A file compiled in a machine of its own, not yet evaluated.
pub(crate) struct Prepared {
    pub(crate) machine: Machine,
    pub(crate) chunk: Function,
    pub(crate) file: String,
    sources: Sources,
    definitions: Rc<RefCell<Definitions>>,
    context: Rc<Context>,
    cancel: CancelSignal,
}

impl Prepared {
    pub(crate) fn new(context: &Rc<Context>, file: &Path, cancel: CancelSignal) -> Result<Self, LoadError> {
        let sources = Sources::open(&context.bundle_dir, file, context.limits.script_bytes)?;
        let source = sources.main(file)?;
        let definitions = Definitions::new(source.text.clone(), context.limits.tasks_max);
        let machine =
            Machine::new(context, sources.clone(), cancel.clone(), |lua| dsl::install(lua, &definitions, context));
        let machine = machine.map_err(LoadError::Machine)?;
        dsl::install_values(&machine.lua, &definitions, context).map_err(LoadError::Machine)?;
        dsl::begin_notes(&machine.lua, &source.name, &source.text);
        let chunk = machine.compile(&source).map_err(|error| syntax(&machine, &source, &error))?;
        Ok(Self { machine, chunk, file: source.name, sources, definitions, context: Rc::clone(context), cancel })
    }

    /// As [`Self::new`], in a machine that has loaded other files before. What those defined is forgotten.
    pub(crate) fn within(
        lua: &Lua,
        context: &Rc<Context>,
        file: &Path,
        cancel: CancelSignal,
    ) -> Result<Self, LoadError> {
        let sources = Sources::open(&context.bundle_dir, file, context.limits.script_bytes)?;
        let source = sources.main(file)?;
        let definitions = Definitions::new(source.text.clone(), context.limits.tasks_max);
        let globals = lua.globals();
        let forgotten = ["values", "Values", "outputs"].iter().try_for_each(|name| globals.raw_remove(*name));
        let installed = forgotten.and_then(|()| dsl::install(lua, &definitions, context));
        installed.and_then(|()| dsl::install_values(lua, &definitions, context)).map_err(LoadError::Machine)?;
        let machine = Machine { lua: lua.clone() };
        dsl::begin_notes(&machine.lua, &source.name, &source.text);
        let chunk = machine.compile(&source).map_err(|error| syntax(&machine, &source, &error))?;
        Ok(Self { machine, chunk, file: source.name, sources, definitions, context: Rc::clone(context), cancel })
    }

    /// The workflows that the file defined when it was evaluated.
    pub(crate) fn finish(&self) -> Result<Settled, LoadError> {
        dsl::finish(&self.machine.lua, &self.definitions, &self.file)
    }

    /// As [`Self::finish`], with everything that is wrong.
    fn settle(&self) -> Settled {
        dsl::settle(&self.machine.lua, &self.definitions, &self.file)
    }

    /// An error in words, with what was probably meant.
    pub(crate) fn fault(&self, error: &mlua::Error) -> Fault {
        let mut fault = Fault::of(&self.machine.lua, error);
        if fault.kind == FaultKind::Script {
            let values_given = !dsl::are_absent(&self.context.values);
            hint::explain(&self.machine.lua, &mut fault, values_given, |file| self.sources.text(file));
        }
        fault
    }

    /// What to say of an error that evaluating the file raised.
    pub(crate) fn error(&self, error: &mlua::Error, scope: &Scope, limit: Duration) -> LoadError {
        let fault = self.fault(error);
        if fault.kind == FaultKind::Memory {
            return LoadError::Memory { file: self.file.clone(), memory_bytes: self.context.limits.memory_bytes };
        }
        if self.cancel.is_cancelled() {
            return LoadError::Cancelled { file: self.file.clone() };
        }
        if scope.is_over() {
            return LoadError::Slow { file: self.file.clone(), limit };
        }
        LoadError::Script { message: fault.text() }
    }
}

/// The compiler tells `file:line: message`.
fn syntax(machine: &Machine, source: &Source, error: &mlua::Error) -> LoadError {
    let fault = Fault::from(error);
    if let Some((file, line, message)) = placed(&fault.message, &source.name) {
        let source_line = source.text.lines().nth(line.saturating_sub(1)).unwrap_or_default().to_owned();
        let complaint = |text: &str| {
            let part = Source { name: source.name.clone(), text: text.to_owned() };
            machine.compile(&part).err().map(|error| Fault::from(&error).message)
        };
        let column = column(&source.text, line, &fault.message, complaint);
        let named = message.contains("(to close");
        let message = match unclosed(&source.text).filter(|_| !named) {
            Some(hint) => format!("{message}; {hint}"),
            None => message,
        };
        return LoadError::Syntax { file, line, column, message, source_line };
    }
    LoadError::Script { message: fault.text() }
}

fn placed(message: &str, file: &str) -> Option<(String, usize, String)> {
    let (line, told) = message.strip_prefix(file)?.strip_prefix(':')?.split_once(':')?;
    Some((file.to_owned(), line.trim().parse().ok()?, told.trim().to_owned()))
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// The line with a caret under its column.
fn pointed(source_line: &str, line: usize, column: usize) -> String {
    let pad: String = source_line.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    format!("{number} | {source_line}\n{margin} | {pad}^")
}

/// The host of a file that is only read: nothing asks it for anything, and its log goes nowhere.
struct NoHost;

const NO_HOST: &str = "the file is only read for its plan";

impl Host for NoHost {
    fn now(&self) -> sloth_core::Millis {
        sloth_core::Millis::ZERO
    }

    fn random(&self) -> u128 {
        0
    }

    fn log(&self, _line: LogLine) {}

    fn starting<'a>(&'a self, _attempt: &'a Attempt) -> LocalFuture<'a, Result<(), Stop>> {
        Box::pin(async { Err(Stop { reason: NO_HOST.to_owned() }) })
    }

    fn finished<'a>(&'a self, _end: &'a TaskEnd) -> LocalFuture<'a, Result<(), Stop>> {
        Box::pin(async { Err(Stop { reason: NO_HOST.to_owned() }) })
    }

    fn state<'a>(&'a self, _operation: StateOperation) -> LocalFuture<'a, Result<StateReply, StateError>> {
        Box::pin(async { Err(StateError { message: NO_HOST.to_owned() }) })
    }
}
