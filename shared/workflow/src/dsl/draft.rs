//! A task while it is written.

use std::{collections::BTreeMap, time::Duration};

use mlua::{Function, Table, Value};

use super::{
    SharedTask,
    action::Action,
    argument::{Arguments, text},
    task::TaskBuilder,
};
use crate::{limits::RETRIES_MAX, plan::Backoff};

/// When a task's hook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TaskHook {
    /// Before each attempt; it can refuse it.
    Before,
    /// After each attempt that did its work; it can make it a failure.
    After,
    /// After success.
    Success,
    /// After each failed attempt.
    Failure,
    /// After an attempt whose time was over.
    Timeout,
}

/// What a task waits for.
#[derive(Debug, Clone)]
pub(super) enum Dependency {
    Name(String),
    Task(SharedTask),
}

/// Where a task is meant to run.
#[derive(Debug, Clone)]
pub(super) enum Delegate {
    Names(Vec<String>),
    Function(Function),
}

/// A task while it is written.
#[derive(Debug, Clone)]
pub(crate) struct TaskDraft {
    pub(crate) name: String,
    pub(super) description: String,
    pub(crate) action: Option<Action>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) workdir: Option<String>,
    pub(crate) user: Option<String>,
    pub(super) delegate_to: Option<Delegate>,
    pub(super) depends_on: Vec<Dependency>,
    pub(super) retries: u32,
    pub(super) backoff: Backoff,
    pub(crate) run_if: Option<Action>,
    pub(crate) abort_if: Option<Action>,
    pub(crate) hooks: BTreeMap<TaskHook, Vec<Function>>,
    pub(crate) params: BTreeMap<String, String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(super) idempotent: Option<bool>,
    pub(crate) artifacts: Vec<String>,
    pub(crate) consumes: Vec<String>,
    /// Whether a workflow has it.
    pub(super) used: bool,
}

/// The hooks of a workflow.
#[derive(Debug, Clone, Default)]
pub(crate) struct WorkflowHooks {
    pub(crate) start: Vec<Function>,
    pub(crate) complete: Vec<Function>,
    pub(crate) task_start: Vec<Function>,
    pub(crate) task_complete: Vec<Function>,
}

/// The methods of a task, which are the keys of its table form as well.
pub(super) const METHODS: [&str; 32] = [
    "name",
    "description",
    "command",
    "run",
    "shell",
    "timeout",
    "workdir",
    "user",
    "delegate_to",
    "depends_on",
    "retries",
    "run_if",
    "when",
    "condition",
    "abort_if",
    "on_success",
    "on_complete",
    "on_failure",
    "on_fail",
    "on_timeout",
    "pre_hook",
    "pre_exec",
    "post_hook",
    "post_exec",
    "params",
    "env",
    "idempotent",
    "artifacts",
    "consumes",
    "tags",
    "async",
    "build",
];

/// Keys that the old table form knew and that mean nothing here.
const MEANINGLESS: [&str; 1] = ["next_if_fail"];

impl TaskDraft {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            description: String::new(),
            action: None,
            timeout: None,
            workdir: None,
            user: None,
            delegate_to: None,
            depends_on: Vec::new(),
            retries: 0,
            backoff: Backoff::default(),
            run_if: None,
            abort_if: None,
            hooks: BTreeMap::new(),
            params: BTreeMap::new(),
            env: BTreeMap::new(),
            idempotent: None,
            artifacts: Vec::new(),
            consumes: Vec::new(),
            used: false,
        }
    }

    /// Does what the method `method` says.
    pub(super) fn set(&mut self, method: &str, arguments: &Arguments<'_>) -> mlua::Result<()> {
        match method {
            "name" => self.name = arguments.name()?,
            "description" => self.description = arguments.text()?,
            "command" | "run" => self.set_command(arguments)?,
            "shell" => self.action = Some(Action::Shell(arguments.text()?)),
            "timeout" => self.timeout = Some(arguments.duration()?),
            "workdir" => self.workdir = Some(arguments.text()?),
            "user" => self.user = Some(arguments.text()?),
            "delegate_to" => self.delegate_to = Some(delegate(arguments)?),
            "depends_on" => {
                for value in arguments.values() {
                    dependencies(arguments, value, &mut self.depends_on)?;
                }
            }
            "retries" => self.set_retries(arguments)?,
            "run_if" | "when" | "condition" => self.run_if = Some(condition(arguments)?),
            "abort_if" => self.abort_if = Some(condition(arguments)?),
            "params" => self.params.extend(arguments.map()?),
            "env" => self.env.extend(arguments.map()?),
            "idempotent" => self.idempotent = Some(arguments.flag()?),
            "artifacts" => self.artifacts.extend(arguments.texts()?),
            "consumes" => self.consumes.extend(arguments.texts()?),
            // Every task runs beside the others unless it depends on them.
            "async" => drop(arguments.flag()?),
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
            } else if let (Value::Table(inner), "uses") = (&value, base) {
                self.fill(inner, lua)?;
            }
        }
        if let Some(name) = text(&table.raw_get("name")?) {
            self.name = name;
        }
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            let Value::String(key) = &key else { continue };
            let key = key.to_string_lossy();
            if key == "uses"
                || MEANINGLESS.contains(&key.as_str())
                || TaskBuilder::of(&value).is_some() && key != "depends_on"
            {
                continue;
            }
            let arguments = Arguments::one(lua, self.owner(), &key, value);
            self.set(&key, &arguments)?;
        }
        Ok(())
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
        self.action = Some(action(arguments)?);
        Ok(())
    }

    fn set_retries(&mut self, arguments: &Arguments<'_>) -> mlua::Result<()> {
        self.retries = arguments.count(0, RETRIES_MAX)?;
        let strategy = arguments.value(1);
        if strategy.is_nil() {
            return Ok(());
        }
        let found = text(strategy).and_then(|name| Backoff::NAMES.into_iter().find(|(known, _)| *known == name));
        let (_, backoff) =
            found.ok_or_else(|| arguments.takes("`fixed`, `linear` or `exponential` after the number", strategy))?;
        self.backoff = backoff;
        Ok(())
    }

    fn set_hook(&mut self, method: &str, arguments: &Arguments<'_>) -> mlua::Result<()> {
        let hook = match method {
            "pre_hook" | "pre_exec" => TaskHook::Before,
            "post_hook" | "post_exec" => TaskHook::After,
            "on_success" | "on_complete" => TaskHook::Success,
            "on_failure" | "on_fail" => TaskHook::Failure,
            "on_timeout" => TaskHook::Timeout,
            unknown => return Err(arguments.error(super::task::unknown(unknown, &METHODS))),
        };
        self.hooks.entry(hook).or_default().push(arguments.function()?);
        Ok(())
    }
}

/// A copy of a task that another is made from; it is then not run for itself.
fn base_of(lua: &mlua::Lua, built: &SharedTask) -> mlua::Result<TaskDraft> {
    let Ok(mut base) = built.try_borrow_mut() else {
        return Err(super::argument::error(lua, "a task cannot be its own command"));
    };
    base.used = true;
    Ok(base.clone())
}

fn action(arguments: &Arguments<'_>) -> mlua::Result<Action> {
    match arguments.value(0) {
        Value::Function(function) => Ok(Action::Function(function.clone())),
        Value::String(line) => Ok(Action::Shell(line.to_string_lossy())),
        other => Err(arguments.takes("a function, or a text for the shell", other)),
    }
}

/// As [`action`], or a plain `true` or `false`.
fn condition(arguments: &Arguments<'_>) -> mlua::Result<Action> {
    if let Value::Boolean(flag) = arguments.value(0) {
        let flag = *flag;
        return Ok(Action::Function(arguments.lua.create_function(move |_, ()| Ok(flag))?));
    }
    action(arguments)
}

fn delegate(arguments: &Arguments<'_>) -> mlua::Result<Delegate> {
    match arguments.value(0) {
        Value::Function(function) => Ok(Delegate::Function(function.clone())),
        _ => arguments.texts().map(Delegate::Names),
    }
}

fn dependencies(arguments: &Arguments<'_>, value: &Value, found: &mut Vec<Dependency>) -> mlua::Result<()> {
    if let Some(task) = TaskBuilder::of(value) {
        found.push(Dependency::Task(task));
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
