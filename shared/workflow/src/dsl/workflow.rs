//! `workflow.define("name")` and its methods.

use std::{cell::RefCell, rc::Rc, time::Duration};

use mlua::{AnyUserData, Lua, MetaMethod, MultiValue, Table, UserData, UserDataMethods, Value};

use super::{
    SharedDefinitions, SharedTask, SharedWorkflow, WorkflowHooks,
    argument::{Arguments, error, text},
    entries,
    task::{shown, unknown},
};
use crate::plan::OnTaskFailure;

/// Most tasks that a workflow may ask to run at a time.
const PARALLEL_TASKS_MAX: u32 = 1_000;

/// A workflow while it is written.
#[derive(Debug, Clone, Default)]
pub(super) struct WorkflowDraft {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) version: String,
    pub(super) workdir: Option<String>,
    pub(super) delegate_to: Vec<String>,
    pub(super) timeout: Option<Duration>,
    pub(super) max_parallel_tasks: Option<usize>,
    pub(super) on_task_failure: OnTaskFailure,
    pub(super) tasks: Vec<SharedTask>,
    pub(super) hooks: WorkflowHooks,
    /// Settings that have no effect.
    pub(super) idle: Vec<String>,
}

/// The methods of a workflow, which are the keys of its table form as well.
const METHODS: [&str; 17] = [
    "name",
    "description",
    "version",
    "tasks",
    "config",
    "workdir",
    "delegate_to",
    "timeout",
    "max_parallel_tasks",
    "on_task_failure",
    "on_start",
    "on_complete",
    "on_task_start",
    "on_task_complete",
    "create_workdir_before_run",
    "build",
    "run",
];

/// Keys of `config` that do something.
const SETTINGS: [&str; 3] = ["timeout", "max_parallel_tasks", "on_task_failure"];

/// A workflow while it is written, as Lua holds it.
#[derive(Clone)]
pub(super) struct WorkflowBuilder {
    workflow: SharedWorkflow,
    definitions: SharedDefinitions,
}

impl WorkflowBuilder {
    /// Registers a workflow.
    pub(super) fn begin(definitions: &SharedDefinitions, arguments: &Arguments<'_>, name: &str) -> mlua::Result<Self> {
        let mut known = definitions.borrow_mut();
        if known.workflows.iter().any(|other| other.borrow().name == name) {
            return Err(
                arguments.error(format_args!("there is a workflow `{name}` already: give one of them another name"))
            );
        }
        let workflow = WorkflowDraft { name: name.to_owned(), ..WorkflowDraft::default() };
        let workflow = Rc::new(RefCell::new(workflow));
        known.workflows.push(Rc::clone(&workflow));
        Ok(Self { workflow, definitions: Rc::clone(definitions) })
    }

    /// Does what a table's keys say. Its list part are tasks.
    pub(super) fn fill(&self, lua: &Lua, table: &Table) -> mlua::Result<()> {
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            if let Value::String(key) = &key {
                self.set(lua, &key.to_string_lossy(), MultiValue::from_iter([value]))?;
            }
        }
        if table.raw_len() == 0 {
            return Ok(());
        }
        let owner = self.workflow.borrow().owner();
        let tasks = entries::list(lua, &owner, table)?;
        self.workflow.borrow_mut().tasks.extend(tasks);
        Ok(())
    }

    fn set(&self, lua: &Lua, method: &str, values: MultiValue) -> mlua::Result<()> {
        let owner = self.workflow.borrow().owner();
        let arguments = Arguments::new(lua, owner, method, values);
        if method == "tasks" {
            let table = arguments.table()?;
            let owner = self.workflow.borrow().owner();
            let tasks = entries::tasks(lua, &owner, &table, &self.definitions.borrow())?;
            self.workflow.borrow_mut().tasks.extend(tasks);
            return Ok(());
        }
        self.workflow.borrow_mut().set(method, &arguments)
    }
}

impl WorkflowDraft {
    fn set(&mut self, method: &str, arguments: &Arguments<'_>) -> mlua::Result<()> {
        match method {
            "name" => self.name = arguments.name()?,
            "description" => self.description = arguments.text()?,
            "version" => self.version = arguments.text()?,
            "workdir" => self.workdir = Some(arguments.text()?),
            "delegate_to" => self.delegate_to = arguments.texts()?,
            "config" => self.configure(arguments)?,
            "timeout" | "max_parallel_tasks" | "on_task_failure" => self.setting(method, arguments)?,
            "on_start" => self.hooks.start.push(arguments.function()?),
            "on_complete" => self.hooks.complete.push(arguments.function()?),
            "on_task_start" => self.hooks.task_start.push(arguments.function()?),
            "on_task_complete" => self.hooks.task_complete.push(arguments.function()?),
            // A working directory is made where there is none, whatever this says.
            "create_workdir_before_run" => drop(arguments.flag()?),
            // They end a chain; the workflow has been registered from its beginning.
            "build" | "run" => {}
            "env" | "params" | "clean_workdir_after_run" | "retry_policy" | "cleanup" | "tags" | "author" => {
                self.idle.push(method.to_owned());
            }
            other => return Err(arguments.error(unknown(other, &METHODS))),
        }
        Ok(())
    }

    fn configure(&mut self, arguments: &Arguments<'_>) -> mlua::Result<()> {
        for pair in arguments.table()?.pairs::<Value, Value>() {
            let (key, value) = pair?;
            let Some(key) = text(&key) else { continue };
            if SETTINGS.contains(&key.as_str()) {
                self.setting(&key, &Arguments::one(arguments.lua, self.owner(), &key, value))?;
            } else {
                self.idle.push(key);
            }
        }
        self.idle.sort();
        Ok(())
    }

    fn setting(&mut self, key: &str, arguments: &Arguments<'_>) -> mlua::Result<()> {
        match key {
            "timeout" => self.timeout = Some(arguments.duration()?),
            "max_parallel_tasks" => {
                self.max_parallel_tasks = usize::try_from(arguments.count(1, PARALLEL_TASKS_MAX)?).ok();
            }
            _ => {
                self.on_task_failure = match text(arguments.value(0)).as_deref() {
                    Some("continue") => OnTaskFailure::Continue,
                    Some("stop" | "fail" | "abort") => OnTaskFailure::Stop,
                    Some(_) | None => return Err(arguments.takes("`continue` or `stop`", arguments.value(0))),
                }
            }
        }
        Ok(())
    }

    fn owner(&self) -> String {
        format!("workflow `{}`", self.name)
    }
}

impl UserData for WorkflowBuilder {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        for method in METHODS {
            methods.add_function(method, move |lua, (this, values): (AnyUserData, MultiValue)| {
                let builder = this.borrow::<Self>()?.clone();
                builder.set(lua, method, values)?;
                Ok(this)
            });
        }
        methods.add_meta_function(MetaMethod::Call, |lua, (this, table): (AnyUserData, Table)| {
            let builder = this.borrow::<Self>()?.clone();
            builder.fill(lua, &table)?;
            Ok(this)
        });
        methods.add_meta_method(MetaMethod::Index, |lua, this, key: Value| {
            let owner = this.workflow.borrow().owner();
            Err::<Value, _>(error(lua, format_args!("{owner}: {}", unknown(&shown(lua, &key), &METHODS))))
        });
    }
}
