//! A task while it is written.

use std::{collections::BTreeMap, time::Duration};

use mlua::{Function, Table, Value};

use super::{
    SharedTask,
    action::{Action, Condition},
    argument::{Arguments, described, text},
    collect::tolerate,
    flow::TaskGroup,
    hook::{Hook, TaskHook},
    notes,
    retry::Retry,
    task::TaskBuilder,
    unknown::{TASK_METHODS, Unknown},
};

/// What a task waits for.
#[derive(Debug, Clone)]
pub(super) enum Dependency {
    Name(String),
    Task(SharedTask),
}

impl Dependency {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Task(task) => task.borrow().name.clone(),
        }
    }
}

/// Where a task is meant to run.
#[derive(Debug, Clone)]
pub(super) enum Delegate {
    Names(Vec<String>),
    Function(Function),
}

/// How a task's function is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Signature {
    /// With `this`, `params` and `deps`.
    #[default]
    This,
    /// As files with `TaskDefinitions` expect it: with `params` and `deps`.
    Params,
}

/// What a task's function that returns nothing says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Silence {
    /// That it failed: its author forgot to say how it went.
    #[default]
    Failure,
    /// That it did its work: the form in which it is written never asked for more.
    Success,
}

/// A task while it is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct TaskDraft {
    pub(crate) name: String,
    pub(super) description: String,
    pub(crate) action: Option<Action>,
    pub(crate) signature: Signature,
    pub(crate) silence: Silence,
    /// The workflow that it says it belongs to.
    pub(super) workflow: Option<String>,
    /// Whether it was said that it runs beside others.
    pub(super) at_once: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) workdir: Option<String>,
    pub(crate) user: Option<String>,
    pub(super) delegate_to: Option<Delegate>,
    pub(super) fallback_here: bool,
    pub(super) depends_on: Vec<Dependency>,
    /// Tasks that are bound to this one by a failure, one way or the other.
    pub(super) next_if_fail: Vec<Dependency>,
    pub(super) retry: Retry,
    /// All of them must hold.
    pub(crate) run_if: Vec<Condition>,
    pub(crate) abort_if: Option<Condition>,
    pub(crate) hooks: BTreeMap<TaskHook, Vec<Hook>>,
    pub(crate) params: BTreeMap<String, String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(super) idempotent: Option<bool>,
    pub(crate) artifacts: Vec<String>,
    pub(crate) consumes: Vec<String>,
    /// Whether a workflow has it.
    pub(super) used: bool,
    /// Whether the file ran it by `built:run()`.
    pub(super) ran: bool,
}

impl TaskDraft {
    pub(super) fn new(name: String) -> Self {
        Self { name, ..Self::default() }
    }

    /// Does what the method `method` says.
    pub(super) fn set(&mut self, method: &str, arguments: &Arguments<'_>) -> mlua::Result<()> {
        match method {
            "name" => self.name = arguments.name()?,
            "description" => self.description = arguments.plain_text()?,
            "command" | "run" => self.set_command(arguments)?,
            "action" if arguments.value(0).is_function() => self.set_command(arguments)?,
            "workflow" => self.workflow = Some(arguments.text()?),
            "shell" => self.action = Some(Action::Shell(arguments.plain_text()?)),
            "timeout" => self.timeout = Some(arguments.duration()?),
            "workdir" => self.workdir = Some(arguments.plain_text()?),
            "user" => self.user = Some(arguments.plain_text()?),
            "delegate_to" | "target_agent" => self.set_delegate(arguments)?,
            "depends_on" => add_dependencies(arguments, &mut self.depends_on)?,
            "next_if_fail" => add_dependencies(arguments, &mut self.next_if_fail)?,
            "retries" | "retry" => self.retry = Retry::read(arguments)?.or(self.retry),
            "retry_policy" => self.retry = Retry::policy(arguments)?.or(self.retry),
            "retry_delay" => self.retry.wait = Some(arguments.duration()?),
            "max_retry_delay" => self.retry.wait_max = Some(arguments.duration()?),
            "run_if" | "when" | "condition" => self.run_if.push(Condition::read(arguments)?),
            "unless" => self.run_if.push(Condition::read(arguments)?.negated()),
            "abort_if" => self.abort_if = Some(Condition::read(arguments)?),
            "params" => self.params.extend(arguments.map()?),
            "env" => self.env.extend(arguments.map()?),
            "idempotent" => self.idempotent = Some(arguments.flag()?),
            "artifacts" => self.artifacts.extend(arguments.texts()?),
            "consumes" => self.consumes.extend(arguments.texts()?),
            "async" => self.at_once = arguments.flag()?,
            "tags" => drop(arguments.texts()?),
            "build" => {}
            other => return self.set_hook(other, arguments),
        }
        Ok(())
    }

    /// Does what a table's keys say.
    pub(super) fn fill(&mut self, table: &Table, lua: &mlua::Lua) -> mlua::Result<()> {
        for base in ["uses", "command", "run"] {
            let value: Value = table.raw_get(base)?;
            if let Some(built) = TaskBuilder::of(&value) {
                let name = std::mem::take(&mut self.name);
                *self = base_of(lua, &built)?;
                if !name.is_empty() {
                    self.name = name;
                }
            } else if base == "uses" && !value.is_nil() {
                let Value::Table(inner) = &value else {
                    let arguments = Arguments::one(lua, self.owner(), base, value);
                    return Err(arguments.takes("a built task or a table of one", arguments.value(0)));
                };
                self.fill(inner, lua)?;
            }
        }
        if let Some(name) = text(&table.raw_get("name")?) {
            self.name = name;
        }
        let mut work = None;
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            let Value::String(key) = &key else {
                let told = Arguments::one(lua, self.owner(), "", Value::Nil);
                let got = described(&value);
                tolerate(
                    lua,
                    Err::<(), _>(told.error(format_args!("its table holds {got} without a name: write `command = …`"))),
                )?;
                continue;
            };
            let key = key.to_string_lossy();
            let is_base =
                key == "uses" || matches!(key.as_str(), "command" | "run") && TaskBuilder::of(&value).is_some();
            if is_base {
                continue;
            }
            if !TASK_METHODS.contains(&key.as_str()) || key == "action" && !value.is_function() {
                let unknown = Unknown::of_task(&key);
                notes::ignored(lua, self.owner(), &unknown);
                if unknown.is_work() && (work.is_none() || key == "module") {
                    work = Some(unknown.error());
                }
                continue;
            }
            if matches!(key.as_str(), "action" | "run") {
                self.silence = Silence::Success;
            }
            let arguments = Arguments::one(lua, self.owner(), &key, value);
            tolerate(lua, self.set(&key, &arguments))?;
        }
        match work {
            // What says nothing else to do would do nothing.
            Some(told) if self.action.is_none() => Err(Arguments::one(lua, self.owner(), "", Value::Nil).error(told)),
            Some(_) | None => Ok(()),
        }
    }

    /// Has what was said of it by its name.
    pub(super) fn adopt(&mut self, said: &Self) {
        self.depends_on.extend(said.depends_on.iter().cloned());
        self.run_if.extend(said.run_if.iter().cloned());
        self.at_once |= said.at_once;
    }

    /// It in a message.
    pub(super) fn owner(&self) -> String {
        format!("task `{}`", self.name)
    }

    fn set_command(&mut self, arguments: &Arguments<'_>) -> mlua::Result<()> {
        if let Some(built) = TaskBuilder::of(arguments.value(0)) {
            self.action = base_of(arguments.lua, &built)?.action;
            return Ok(());
        }
        self.action = Some(Action::read(arguments)?);
        Ok(())
    }

    fn set_delegate(&mut self, arguments: &Arguments<'_>) -> mlua::Result<()> {
        let (delegate, fallback) = arguments.delegate()?;
        self.fallback_here = fallback;
        self.delegate_to = Some(delegate);
        Ok(())
    }

    fn set_hook(&mut self, method: &str, arguments: &Arguments<'_>) -> mlua::Result<()> {
        let hook = match method {
            "pre_hook" | "pre_exec" => TaskHook::Before,
            "post_hook" | "post_exec" => TaskHook::After,
            "on_success" | "on_complete" => TaskHook::Success,
            "on_failure" | "on_fail" | "on_error" => TaskHook::Failure,
            "on_timeout" => TaskHook::Timeout,
            "on_retry" => TaskHook::Retry,
            "rollback" => TaskHook::Rollback,
            "cleanup" => TaskHook::Cleanup,
            unknown => return Err(arguments.error(Unknown::of_task(unknown).error())),
        };
        let read = Hook::read(arguments)?;
        if read.is_async && matches!(hook, TaskHook::Before | TaskHook::After) {
            return Err(arguments.error(format_args!("`{method}` decides about the attempt, so it cannot be `async`")));
        }
        self.hooks.entry(hook).or_default().push(read);
        Ok(())
    }
}

/// The methods of a task, which are the keys of its table form as well.
pub(super) const fn methods() -> &'static [&'static str] {
    &TASK_METHODS
}

/// A copy of a task that another is made from; it is then not run for itself.
fn base_of(lua: &mlua::Lua, built: &SharedTask) -> mlua::Result<TaskDraft> {
    let Ok(mut base) = built.try_borrow_mut() else {
        return Err(super::argument::error(lua, "a task cannot be its own command"));
    };
    base.used = true;
    Ok(base.clone())
}

fn add_dependencies(arguments: &Arguments<'_>, found: &mut Vec<Dependency>) -> mlua::Result<()> {
    arguments.values().try_for_each(|value| dependencies(arguments, value, found))
}

fn dependencies(arguments: &Arguments<'_>, value: &Value, found: &mut Vec<Dependency>) -> mlua::Result<()> {
    if let Some(task) = TaskBuilder::of(value) {
        found.push(Dependency::Task(task));
        return Ok(());
    }
    if let Some(group) = TaskGroup::of(value) {
        found.extend(group.tails.iter().cloned().map(Dependency::Task));
        return Ok(());
    }
    match value {
        Value::Table(list) => {
            if let Some(name) = text(&list.raw_get("name")?) {
                found.push(Dependency::Name(name));
                return Ok(());
            }
            for item in list.sequence_values::<Value>() {
                let item = item?;
                if matches!(&item, Value::Table(inner) if inner.raw_get::<Value>("name")?.is_nil()) {
                    return Err(arguments.takes("names of tasks, built tasks, or one list of them", &item));
                }
                dependencies(arguments, &item, found)?;
            }
            Ok(())
        }
        other => match text(other) {
            Some(name) => {
                found.push(Dependency::Name(name));
                Ok(())
            }
            None => Err(arguments.takes("names of tasks, built tasks, or a list of them", other)),
        },
    }
}
