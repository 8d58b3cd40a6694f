//! `workflow.define("name")` and its methods.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use mlua::{AnyUserData, Function, Lua, MetaMethod, MultiValue, Table, UserData, UserDataMethods, Value};

use super::{
    SharedDefinitions, SharedTask, SharedWorkflow,
    argument::{Arguments, text},
    collect::{no_method, tolerate},
    draft::Delegate,
    entries,
    hook::{Hook, WorkflowHook},
    notes,
    retry::Retry,
    task::{owner, shown},
    unknown::{Unknown, WORKFLOW_METHODS},
    values,
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
    pub(super) delegate_to: Option<Delegate>,
    pub(super) fallback_here: bool,
    pub(super) retry: Retry,
    pub(super) params: BTreeMap<String, String>,
    pub(super) env: BTreeMap<String, String>,
    /// Whether its directory is made where there is none; `None` = it is.
    pub(super) create_workdir: Option<bool>,
    pub(super) clean_workdir: Option<CleanWorkdir>,
    pub(super) timeout: Option<Duration>,
    pub(super) max_parallel_tasks: Option<usize>,
    pub(super) on_task_failure: OnTaskFailure,
    pub(super) tasks: Vec<SharedTask>,
    pub(super) hooks: BTreeMap<WorkflowHook, Vec<Hook>>,
    /// Settings that have no effect.
    pub(super) idle: Vec<String>,
}

/// Keys of `config` that do something.
const SETTINGS: [&str; 12] = [
    "timeout",
    "max_parallel_tasks",
    "on_task_failure",
    "fail_fast",
    "retry_policy",
    "workdir",
    "create_workdir_before_run",
    "clean_workdir_after_run",
    "params",
    "values",
    "cleanup",
    "description",
];

/// Keys that tell people something of a workflow.
const ABOUT: [&str; 4] = ["metadata", "tags", "author", "labels"];

/// What becomes of a workflow's directory at its end.
#[derive(Debug, Clone)]
pub(crate) enum CleanWorkdir {
    Always,
    /// It goes where the workflow ended well.
    AfterSuccess,
    /// A function that gets how the workflow ended, and says whether the directory goes.
    Asked(Function),
}

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

    /// One that stands for a workflow that could not be begun, where a file is only looked through.
    pub(super) fn apart(definitions: &SharedDefinitions) -> Self {
        Self { workflow: SharedWorkflow::default(), definitions: Rc::clone(definitions) }
    }

    /// Does what a table's keys say. Its list part are tasks.
    pub(super) fn fill(&self, lua: &Lua, table: &Table) -> mlua::Result<()> {
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            let Value::String(key) = &key else { continue };
            let key = key.to_string_lossy();
            if WORKFLOW_METHODS.iter().chain(&ABOUT).any(|known| *known == key) {
                tolerate(lua, self.set(lua, &key, MultiValue::from_iter([value])))?;
            } else {
                notes::ignored(lua, self.workflow.borrow().owner(), &Unknown::of_workflow(&key));
            }
        }
        if table.raw_len() == 0 {
            return Ok(());
        }
        let owner = self.workflow.borrow().owner();
        let tasks = entries::list(lua, &owner, table, &self.definitions.borrow())?;
        self.workflow.borrow_mut().tasks.extend(tasks);
        Ok(())
    }

    /// Gives it tasks.
    pub(super) fn add(&self, tasks: Vec<SharedTask>) {
        for task in &tasks {
            task.borrow_mut().used = true;
        }
        self.workflow.borrow_mut().tasks.extend(tasks);
    }

    /// Its tasks are called as files with `TaskDefinitions` expect it.
    pub(super) fn as_of_old(&self) {
        entries::as_of_old(&self.workflow.borrow().tasks);
    }

    fn set(&self, lua: &Lua, method: &str, values: MultiValue) -> mlua::Result<()> {
        let owner = self.workflow.borrow().owner();
        let arguments = Arguments::new(lua, owner, method, values);
        if matches!(method, "tasks" | "add_task") {
            let table = match method {
                "tasks" => arguments.table()?,
                _ => lua.create_sequence_from([arguments.value(0).clone()])?,
            };
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
            "description" => self.description = arguments.plain_text()?,
            "version" => self.version = arguments.text()?,
            "workdir" => self.workdir = Some(arguments.plain_text()?),
            "delegate_to" => {
                let (delegate, fallback) = arguments.delegate()?;
                (self.delegate_to, self.fallback_here) = (Some(delegate), fallback);
            }
            "config" => self.configure(arguments)?,
            "timeout" | "max_parallel_tasks" | "on_task_failure" | "fail_fast" => self.setting(method, arguments)?,
            "retry_policy" => self.retry = Retry::policy(arguments)?.or(self.retry),
            "params" => self.params.extend(arguments.map()?),
            "env" => self.env.extend(arguments.map()?),
            "values" => values::default_to(arguments.lua, &arguments.table()?)?,
            "create_workdir_before_run" => self.create_workdir = Some(arguments.flag()?),
            "clean_workdir_after_run" => {
                self.clean_workdir = match arguments.value(0) {
                    Value::Boolean(clean) => clean.then_some(CleanWorkdir::Always),
                    Value::Function(function) => Some(CleanWorkdir::Asked(function.clone())),
                    other => return Err(arguments.takes("`true`, `false` or a function", other)),
                };
            }
            // They end a chain; the workflow has been registered from its beginning.
            "build" | "run" => {}
            about if ABOUT.contains(&about) => {}
            other => return self.set_hook(other, arguments),
        }
        Ok(())
    }

    fn set_hook(&mut self, method: &str, arguments: &Arguments<'_>) -> mlua::Result<()> {
        let hook = match method {
            "on_start" | "workflow_start" => WorkflowHook::Start,
            "on_task_start" | "pre_task" => WorkflowHook::TaskStart,
            "on_task_complete" | "post_task" => WorkflowHook::TaskComplete,
            "on_success" => WorkflowHook::Success,
            "on_failure" | "on_fail" | "on_error" => WorkflowHook::Failure,
            "on_timeout" => WorkflowHook::Timeout,
            "on_complete" | "workflow_complete" => WorkflowHook::Complete,
            "cleanup" => WorkflowHook::Cleanup,
            other => return Err(arguments.error(Unknown::of_workflow(other).error())),
        };
        self.hooks.entry(hook).or_default().push(Hook::read(arguments)?);
        Ok(())
    }

    fn configure(&mut self, arguments: &Arguments<'_>) -> mlua::Result<()> {
        for pair in arguments.table()?.pairs::<Value, Value>() {
            let (key, value) = pair?;
            let Some(key) = text(&key) else { continue };
            // These two are a table and a function where they do something.
            let idle = match (key.as_str(), &value) {
                ("values", value) => !value.is_table(),
                ("cleanup", Value::Boolean(clean)) => {
                    self.clean_workdir = clean.then_some(CleanWorkdir::Always);
                    continue;
                }
                ("cleanup", Value::String(when)) => {
                    self.clean_workdir = match when.to_string_lossy().as_str() {
                        "always" => Some(CleanWorkdir::Always),
                        "on_success" => Some(CleanWorkdir::AfterSuccess),
                        "never" => None,
                        _ => {
                            let told = arguments.with(value.clone());
                            return Err(
                                told.takes("`cleanup` as `\"always\"`, `\"on_success\"` or `\"never\"`", &value)
                            );
                        }
                    };
                    continue;
                }
                (key, _) => !SETTINGS.contains(&key),
            };
            let unknown = Unknown::of_settings(&key, &SETTINGS);
            if idle && unknown.is_meant() {
                notes::ignored(arguments.lua, format_args!("{}: `config`", self.owner()), &unknown);
            } else if idle {
                self.idle.push(key);
            } else {
                self.set(&key, &Arguments::one(arguments.lua, self.owner(), &key, value))?;
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
            "fail_fast" => {
                let stops = arguments.flag()?;
                self.on_task_failure = if stops { OnTaskFailure::Stop } else { OnTaskFailure::Continue };
            }
            _ => {
                self.on_task_failure = match text(arguments.value(0)).as_deref() {
                    Some("continue") => OnTaskFailure::Continue,
                    Some("stop" | "fail" | "abort") => OnTaskFailure::Stop,
                    Some("rollback") => OnTaskFailure::Rollback,
                    Some(_) | None => {
                        return Err(arguments.takes("`continue`, `stop` or `rollback`", arguments.value(0)));
                    }
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
        for method in WORKFLOW_METHODS {
            methods.add_function(method, move |lua, mut values: MultiValue| {
                let this = owner(lua, method, values.pop_front())?;
                let builder = this.borrow::<Self>()?.clone();
                tolerate(lua, builder.set(lua, method, values))?;
                Ok(this)
            });
        }
        methods.add_meta_function(MetaMethod::Call, |lua, (this, table): (AnyUserData, Table)| {
            let builder = this.borrow::<Self>()?.clone();
            builder.fill(lua, &table)?;
            Ok(this)
        });
        methods.add_meta_method(MetaMethod::Index, |lua, this, key: Value| {
            let (owner, name) = (this.workflow.borrow().owner(), shown(lua, &key));
            no_method(lua, &owner, &Unknown::of_workflow(&name))
        });
    }
}
