//! From what a file defined to its plans.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
    time::Duration,
};

use mlua::{Lua, Table, Value};

use super::{
    SharedDefinitions, SharedTask, TaskDraft, WorkflowBuilder,
    argument::{Arguments, text},
    draft::{Delegate, Dependency},
    entries,
    hook::{Hook, WorkflowHook},
    members,
    notes::{self, Notes},
    order, refer,
    values::look_up,
    workflow::{CleanWorkdir, WorkflowDraft},
};
use crate::{
    LoadError,
    plan::{self, Plan, TaskSpec, WorkflowSpec},
};

/// A workflow of the file, ready to run.
pub(crate) struct Finished {
    pub(crate) plan: Plan,
    /// The tasks in the plan's order.
    pub(crate) tasks: Vec<Rc<TaskDraft>>,
    pub(crate) hooks: BTreeMap<WorkflowHook, Vec<Hook>>,
    pub(crate) params: BTreeMap<String, String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) create_workdir: Option<bool>,
    pub(crate) clean_workdir: Option<CleanWorkdir>,
}

/// What became of a file's definitions.
pub(crate) struct Settled {
    /// The workflows, in the order they were defined.
    pub(crate) workflows: Vec<Finished>,
    /// What its author should know.
    pub(crate) warnings: Vec<String>,
    /// What was noted of it while it was evaluated.
    pub(crate) notes: Notes,
    /// What its author should know of the order of the tasks before it is run.
    pub(crate) hints: Vec<String>,
    /// Everything that is wrong with them.
    pub(crate) errors: Vec<LoadError>,
}

/// The workflows of the file `file`, in the order they were defined. Tasks alone make one of the file's name.
pub(crate) fn finish(lua: &Lua, definitions: &SharedDefinitions, file: &str) -> Result<Settled, LoadError> {
    let mut settled = settle(lua, definitions, file);
    if settled.errors.is_empty() { Ok(settled) } else { Err(settled.errors.swap_remove(0)) }
}

/// As [`finish`], with everything that is wrong.
pub(crate) fn settle(lua: &Lua, definitions: &SharedDefinitions, file: &str) -> Settled {
    let mut settled = Settled {
        workflows: Vec::new(),
        warnings: Vec::new(),
        notes: notes::taken(lua),
        hints: Vec::new(),
        errors: Vec::new(),
    };
    if let Err(error) = take_legacy(lua, definitions) {
        settled.errors.push(LoadError::lua(&error));
    }
    // A copy: functions of the file are called below, and they may define more, which comes too late.
    let (tasks, drafts, tasks_max, text) = {
        let definitions = definitions.borrow();
        let mut drafts: Vec<WorkflowDraft> = definitions.workflows.iter().map(|draft| draft.borrow().clone()).collect();
        settled.errors.extend(refer::resolve(&definitions, &mut drafts));
        (definitions.tasks.clone(), drafts, definitions.tasks_max, definitions.text.clone())
    };
    let mut drafts = members::adopted(members::with_members(drafts, &tasks), &tasks);
    drafts.iter_mut().for_each(|draft| members::take_awaited(draft, &tasks));
    if drafts.is_empty() {
        let tasks: Vec<_> = tasks.into_iter().filter(|task| !task.borrow().used).collect();
        if tasks.is_empty() {
            settled.errors.push(LoadError::NoWorkflow { file: file.to_owned() });
        } else {
            let implicit = WorkflowDraft { name: stem(file), tasks, ..WorkflowDraft::default() };
            workflow(lua, &implicit, (file, &text), tasks_max, &mut settled);
        }
        return settled;
    }
    let mut left = tasks_max;
    for draft in &drafts {
        workflow(lua, draft, (file, &text), left, &mut settled);
        left = left.saturating_sub(draft.tasks.len());
    }
    let orphans = tasks.iter().filter(|task| !task.borrow().used && !task.borrow().ran);
    let orphans = orphans.filter(|task| !members::is_named_again(&text, &task.borrow().name));
    let orphans: Vec<String> = orphans.map(|task| format!("`{}`", task.borrow().name)).collect();
    if !orphans.is_empty() {
        let names = shortened(&orphans);
        settled.warnings.push(format!("no workflow has these tasks, so they are not run: {names}"));
    }
    settled
}

/// The global `TaskDefinitions` of files that define nothing else: tables of workflows by name.
fn take_legacy(lua: &Lua, definitions: &SharedDefinitions) -> mlua::Result<()> {
    if !definitions.borrow().workflows.is_empty() {
        return Ok(());
    }
    let Value::Table(table) = lua.globals().raw_get("TaskDefinitions")? else { return Ok(()) };
    let groups = entries::groups(&definitions.borrow().text, &table)?;
    for (name, group) in groups {
        let arguments = Arguments::one(lua, "TaskDefinitions".to_owned(), "name", Value::Nil);
        let builder = WorkflowBuilder::begin(definitions, &arguments, &name)?;
        builder.fill(lua, &group)?;
        builder.as_of_old();
    }
    Ok(())
}

/// Whether the tasks are to be done in the order of the file, one after the other. So is a list in which no task names
/// another, for that is what such files always meant; who wants its tasks side by side says so.
fn is_list(draft: &WorkflowDraft) -> bool {
    let free = |task: &SharedTask| task.borrow().depends_on.is_empty() && !task.borrow().at_once;
    draft.max_parallel_tasks.is_none() && draft.tasks.iter().all(free)
}

fn workflow(lua: &Lua, draft: &WorkflowDraft, (file, text): (&str, &str), tasks_max: usize, settled: &mut Settled) {
    let tasks: Vec<Rc<TaskDraft>> = draft.tasks.iter().map(|task| Rc::new(task.borrow().clone())).collect();
    let before = settled.errors.len();
    let mut specs = Vec::with_capacity(tasks.len());
    for task in &tasks {
        match spec(lua, draft, task) {
            Ok(spec) => specs.push(spec),
            Err(error) => settled.errors.push(error),
        }
    }
    // What depends on a task that has an error of its own would look as if it depended on none.
    if before < settled.errors.len() {
        return;
    }
    bind_failures(&draft.tasks, &mut specs);
    wait_for_artifacts(&mut specs);
    settled.warnings.extend(unknown_consumes(&specs));
    let spec = WorkflowSpec {
        name: draft.name.clone(),
        description: draft.description.clone(),
        version: draft.version.clone(),
        max_parallel_tasks: if is_list(draft) { Some(1) } else { draft.max_parallel_tasks },
        timeout_ms: draft.timeout.map(millis),
        on_task_failure: draft.on_task_failure,
        workdir: draft.workdir.clone().or_else(|| own_workdir(draft)),
        tasks: specs,
    };
    settled.hints.extend(order::told(draft, &spec, file, text));
    if !draft.idle.is_empty() {
        let keys: Vec<String> = draft.idle.iter().map(|key| format!("`{key}`")).collect();
        let keys = shortened(&keys);
        settled.warnings.push(format!("workflow `{}`: these settings have no effect: {keys}", draft.name));
    }
    match Plan::new(spec.clone(), tasks_max) {
        Ok(plan) => settled.workflows.push(Finished {
            plan,
            tasks,
            hooks: draft.hooks.clone(),
            params: draft.params.clone(),
            env: draft.env.clone(),
            create_workdir: draft.create_workdir,
            clean_workdir: draft.clean_workdir.clone(),
        }),
        Err(_) => settled.errors.extend(plan::problems(&spec, tasks_max).into_iter().map(LoadError::Plan)),
    }
}

/// A workflow that asks for a directory and names none has one of its own in the run's.
fn own_workdir(draft: &WorkflowDraft) -> Option<String> {
    let wanted = draft.create_workdir == Some(true) || draft.clean_workdir.is_some();
    wanted.then(|| format!("workflow-{}", draft.name.replace(|c: char| !c.is_ascii_alphanumeric(), "-")))
}

fn spec(lua: &Lua, workflow: &WorkflowDraft, task: &TaskDraft) -> Result<TaskSpec, LoadError> {
    if task.action.is_none() {
        return Err(LoadError::NoCommand { task: task.name.clone(), workflow: workflow.name.clone() });
    }
    let delegate_to = match task.delegate_to.as_ref().or(workflow.delegate_to.as_ref()) {
        None => Vec::new(),
        Some(Delegate::Names(names)) => names.clone(),
        Some(Delegate::Function(function)) => {
            let value = function.call::<Value>(()).map_err(|error| LoadError::lua(&error))?;
            names(&value).ok_or_else(|| LoadError::Delegate { task: task.name.clone() })?
        }
    };
    let retry = task.retry.or(workflow.retry);
    Ok(TaskSpec {
        name: task.name.clone(),
        description: task.description.clone(),
        depends_on: task.depends_on.iter().map(Dependency::name).collect(),
        if_failed: Vec::new(),
        delegate_to: delegate_to.into_iter().map(|name| interpolated(lua, &name)).collect(),
        fallback_here: task.fallback_here || task.delegate_to.is_none() && workflow.fallback_here,
        timeout_ms: task.timeout.map(millis),
        retries: retry.count.unwrap_or(0),
        backoff: retry.backoff.unwrap_or_default(),
        retry_wait_ms: retry.wait.map(millis),
        retry_wait_ms_max: retry.wait_max.map(millis),
        idempotent: task.idempotent,
        user: task.user.clone(),
        conditions: conditions(task),
        workdir: task.workdir.clone(),
        artifacts: task.artifacts.clone(),
        consumes: task.consumes.clone(),
    })
}

fn conditions(task: &TaskDraft) -> Vec<String> {
    let runs = task.run_if.iter().map(|condition| condition.shown("run_if"));
    runs.chain(task.abort_if.iter().map(|condition| condition.shown("abort_if"))).collect()
}

/// `next_if_fail` binds two tasks: of the two, the one that the file has later runs only when the earlier one failed.
/// Files are found that write it on either of them.
fn bind_failures(tasks: &[SharedTask], specs: &mut [TaskSpec]) {
    if tasks.iter().all(|task| task.borrow().next_if_fail.is_empty()) {
        return;
    }
    let places: HashMap<String, usize> = specs.iter().enumerate().map(|(at, spec)| (spec.name.clone(), at)).collect();
    for (at, task) in tasks.iter().enumerate() {
        for name in task.borrow().next_if_fail.iter().map(Dependency::name) {
            match places.get(&name) {
                Some(&other) if at < other => {
                    let failing = specs[at].name.clone();
                    specs[other].if_failed.push(failing);
                }
                Some(_) | None => specs[at].if_failed.push(name),
            }
        }
    }
}

/// A task that consumes what another leaves waits for it, said or not.
fn wait_for_artifacts(specs: &mut [TaskSpec]) {
    let leaves: Vec<(String, Vec<String>)> = specs
        .iter()
        .filter(|spec| !spec.artifacts.is_empty())
        .map(|spec| (spec.name.clone(), spec.artifacts.clone()))
        .collect();
    for spec in specs.iter_mut().filter(|spec| !spec.consumes.is_empty()) {
        let wanted = |name: &str, pattern: &str| crate::artifacts::matches(crate::artifacts::last_part(pattern), name);
        for (producer, artifacts) in &leaves {
            let feeds = artifacts.iter().any(|pattern| spec.consumes.iter().any(|name| wanted(name, pattern)));
            let known = spec.depends_on.contains(producer) || spec.if_failed.contains(producer);
            if feeds && *producer != spec.name && !known {
                spec.depends_on.push(producer.clone());
            }
        }
    }
}

/// Warnings of files that tasks need and no task leaves.
fn unknown_consumes(specs: &[TaskSpec]) -> Vec<String> {
    let leaves = |name: &str| {
        specs.iter().flat_map(|spec| &spec.artifacts).any(|pattern| {
            let last = crate::artifacts::last_part(pattern);
            crate::artifacts::matches(last, name) || crate::artifacts::matches(name, last)
        })
    };
    let mut told = Vec::new();
    for spec in specs {
        let missing = spec.consumes.iter().filter(|name| !leaves(name));
        told.extend(missing.map(|name| {
            format!("task `{}` consumes `{name}`, which no task of its workflow leaves as an artifact", spec.name)
        }));
    }
    told
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
        match value_at(lua, path) {
            Some(found) => text.push_str(&found),
            None => text.push_str(&format!("${{values.{path}}}")),
        }
        rest = end;
    }
    text.push_str(rest);
    text
}

fn value_at(lua: &Lua, path: &str) -> Option<String> {
    let values: Option<Table> = lua.globals().get("values").ok()?;
    text(&look_up(&values?, path).ok()??)
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
