//! From what a file defined to its plans.

use std::{rc::Rc, time::Duration};

use mlua::{Lua, Table, Value};

use super::{
    SharedDefinitions, TaskDraft, WorkflowHooks,
    argument::text,
    draft::{Delegate, Dependency},
    workflow::WorkflowDraft,
};
use crate::{
    LoadError,
    plan::{Plan, TaskSpec, WorkflowSpec},
};

/// A workflow of the file, ready to run.
pub(crate) struct Finished {
    pub(crate) plan: Plan,
    /// The tasks in the plan's order.
    pub(crate) tasks: Vec<Rc<TaskDraft>>,
    pub(crate) hooks: WorkflowHooks,
    /// What its author should know.
    pub(crate) warnings: Vec<String>,
}

/// The workflows of the file `file`, in the order they were defined. Tasks alone make one of the file's name.
pub(crate) fn finish(lua: &Lua, definitions: &SharedDefinitions, file: &str) -> Result<Vec<Finished>, LoadError> {
    // A copy: functions of the file are called below, and they may define more, which comes too late.
    let (tasks, drafts, tasks_max) = {
        let definitions = definitions.borrow();
        let drafts: Vec<WorkflowDraft> = definitions.workflows.iter().map(|draft| draft.borrow().clone()).collect();
        (definitions.tasks.clone(), drafts, definitions.tasks_max)
    };
    if drafts.is_empty() {
        if tasks.is_empty() {
            return Err(LoadError::NoWorkflow { file: file.to_owned() });
        }
        let implicit = WorkflowDraft { name: stem(file), tasks, ..WorkflowDraft::default() };
        return Ok(vec![workflow(lua, &implicit, tasks_max)?]);
    }
    let mut left = tasks_max;
    let mut finished = Vec::new();
    for draft in &drafts {
        let workflow = workflow(lua, draft, left)?;
        left = left.saturating_sub(workflow.tasks.len());
        finished.push(workflow);
    }
    let orphans = tasks.iter().filter(|task| !task.borrow().used);
    let orphans: Vec<String> = orphans.map(|task| format!("`{}`", task.borrow().name)).collect();
    if let (Some(first), false) = (finished.first_mut(), orphans.is_empty()) {
        first.warnings.push(format!("no workflow has these tasks, so they are not run: {}", shortened(&orphans)));
    }
    Ok(finished)
}

fn workflow(lua: &Lua, draft: &WorkflowDraft, tasks_max: usize) -> Result<Finished, LoadError> {
    let tasks: Vec<Rc<TaskDraft>> = draft.tasks.iter().map(|task| Rc::new(task.borrow().clone())).collect();
    let mut specs = tasks.iter().map(|task| spec(lua, draft, task)).collect::<Result<Vec<_>, _>>()?;
    wait_for_artifacts(&mut specs);
    let spec = WorkflowSpec {
        name: draft.name.clone(),
        description: draft.description.clone(),
        version: draft.version.clone(),
        max_parallel_tasks: draft.max_parallel_tasks,
        timeout_ms: draft.timeout.map(millis),
        on_task_failure: draft.on_task_failure,
        workdir: draft.workdir.clone(),
        tasks: specs,
    };
    let mut warnings = Vec::new();
    if !draft.idle.is_empty() {
        let keys: Vec<String> = draft.idle.iter().map(|key| format!("`{key}`")).collect();
        warnings.push(format!("workflow `{}`: these settings have no effect: {}", draft.name, shortened(&keys)));
    }
    Ok(Finished { plan: Plan::new(spec, tasks_max)?, tasks, hooks: draft.hooks.clone(), warnings })
}

fn spec(lua: &Lua, workflow: &WorkflowDraft, task: &TaskDraft) -> Result<TaskSpec, LoadError> {
    if task.action.is_none() {
        return Err(LoadError::NoCommand { task: task.name.clone(), workflow: workflow.name.clone() });
    }
    let delegate_to = match &task.delegate_to {
        None => workflow.delegate_to.clone(),
        Some(Delegate::Names(names)) => names.clone(),
        Some(Delegate::Function(function)) => {
            let value = function.call::<Value>(()).map_err(|error| LoadError::lua(&error))?;
            names(&value).ok_or_else(|| LoadError::Delegate { task: task.name.clone() })?
        }
    };
    Ok(TaskSpec {
        name: task.name.clone(),
        description: task.description.clone(),
        depends_on: task.depends_on.iter().map(Dependency::name).collect(),
        delegate_to: delegate_to.into_iter().map(|name| interpolated(lua, &name)).collect(),
        timeout_ms: task.timeout.map(millis),
        retries: task.retries,
        backoff: task.backoff,
        idempotent: task.idempotent,
        user: task.user.clone(),
        workdir: task.workdir.clone(),
        artifacts: task.artifacts.clone(),
        consumes: task.consumes.clone(),
    })
}

/// A task that consumes what another leaves waits for it, said or not.
fn wait_for_artifacts(specs: &mut [TaskSpec]) {
    let leaves: Vec<(String, Vec<String>)> = specs
        .iter()
        .filter(|spec| !spec.artifacts.is_empty())
        .map(|spec| (spec.name.clone(), spec.artifacts.clone()))
        .collect();
    for spec in specs.iter_mut().filter(|spec| !spec.consumes.is_empty()) {
        let wanted = |name: &str, pattern: &str| crate::files::matches(crate::files::last_part(pattern), name);
        for (producer, artifacts) in &leaves {
            let feeds = artifacts.iter().any(|pattern| spec.consumes.iter().any(|name| wanted(name, pattern)));
            if feeds && *producer != spec.name && !spec.depends_on.contains(producer) {
                spec.depends_on.push(producer.clone());
            }
        }
    }
}

impl Dependency {
    fn name(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Task(task) => task.borrow().name.clone(),
        }
    }
}

fn names(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Nil => Some(Vec::new()),
        Value::Table(list) => list.sequence_values::<Value>().map(|item| text(&item.ok()?)).collect(),
        other => text(other).map(|name| vec![name]),
    }
}

/// `${values.a.b}` becomes what the values say; what they do not say stays as it is.
fn interpolated(lua: &Lua, name: &str) -> String {
    let mut text = String::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("${values.") {
        let Some((path, end)) = after.split_once('}') else { break };
        text.push_str(before);
        match look_up(lua, path) {
            Some(found) => text.push_str(&found),
            None => text.push_str(&format!("${{values.{path}}}")),
        }
        rest = end;
    }
    text.push_str(rest);
    text
}

fn look_up(lua: &Lua, path: &str) -> Option<String> {
    let mut value: Value = lua.globals().get("values").ok()?;
    for key in path.split('.') {
        let table: &Table = value.as_table()?;
        value = table.raw_get(key).ok()?;
    }
    text(&value)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn stem(file: &str) -> String {
    let path = std::path::Path::new(file);
    path.file_stem().map_or_else(|| "workflow".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

fn shortened(names: &[String]) -> String {
    const SHOWN_MAX: usize = 10;
    let shown = names.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN_MAX) {
        Some(more) if 0 < more => format!("{shown} and {more} more"),
        Some(_) | None => shown,
    }
}
