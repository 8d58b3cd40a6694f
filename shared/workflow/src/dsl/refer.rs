//! Tasks that are named before they are known, as `chain({ "build", "test" })` does: what is said of the name is said of
//! the task.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use mlua::Lua;

use super::{Definitions, SharedTask, TaskDraft, workflow::WorkflowDraft};
use crate::{LoadError, plan::nearest, vm::location};

/// A name that stands for a task of the file.
pub(super) struct Reference {
    /// A draft of that name that has nothing but what the reference says of the task.
    pub(super) task: SharedTask,
    /// The file and line of who names it.
    pub(super) place: String,
    /// The function that was given the name.
    pub(super) by: String,
}

/// Notes that `by` names a task. Gives what stands for it.
pub(super) fn name(lua: &Lua, definitions: &Definitions, name: String, by: &str) -> SharedTask {
    let task = Rc::new(RefCell::new(TaskDraft::new(name)));
    let place = location(lua).unwrap_or_default();
    definitions.references.borrow_mut().push(Reference { task: Rc::clone(&task), place, by: by.to_owned() });
    task
}

/// Puts the tasks of the file in the places of their names. Gives what is wrong with the names.
pub(super) fn resolve(definitions: &Definitions, drafts: &mut [WorkflowDraft]) -> Vec<LoadError> {
    let references = definitions.references.borrow();
    if references.is_empty() {
        return Vec::new();
    }
    let is_reference = |task: &SharedTask| references.iter().any(|other| Rc::ptr_eq(&other.task, task));
    let own = drafts.iter().flat_map(|draft| &draft.tasks).filter(|task| !is_reference(task));
    let mut known: BTreeMap<String, Vec<SharedTask>> = BTreeMap::new();
    for task in definitions.tasks.iter().chain(own) {
        let same = known.entry(task.borrow().name.clone()).or_default();
        if !same.iter().any(|other| Rc::ptr_eq(other, task)) {
            same.push(Rc::clone(task));
        }
    }
    let mut errors = Vec::new();
    for Reference { task: said, place, by } in references.iter() {
        let said = said.borrow();
        match known.get(&said.name) {
            Some(tasks) => tasks.iter().for_each(|task| task.borrow_mut().adopt(&said)),
            None => errors.push(LoadError::Script {
                message: format!("{place}: {by}: {}", unknown(&said.name, known.keys().map(String::as_str))),
            }),
        }
    }
    for draft in drafts {
        let mut tasks: Vec<SharedTask> = Vec::with_capacity(draft.tasks.len());
        let own: Vec<SharedTask> = draft.tasks.iter().filter(|task| !is_reference(task)).cloned().collect();
        for task in &draft.tasks {
            let named = || {
                let same = |other: &&SharedTask| other.borrow().name == task.borrow().name;
                own.iter().find(same).or_else(|| known.get(&task.borrow().name)?.first()).cloned()
            };
            let Some(task) = (if is_reference(task) { named() } else { Some(Rc::clone(task)) }) else { continue };
            task.borrow_mut().used = true;
            tasks.push(task);
        }
        draft.tasks = once(tasks, &own);
    }
    errors
}

/// The tasks without those that names brought in a second time. What the file itself lists twice stays an error.
fn once(tasks: Vec<SharedTask>, own: &[SharedTask]) -> Vec<SharedTask> {
    let mut kept: Vec<SharedTask> = Vec::with_capacity(tasks.len());
    for task in tasks {
        let count = |list: &[SharedTask]| list.iter().filter(|other| Rc::ptr_eq(other, &task)).count();
        if count(&kept) < count(own).max(1) {
            kept.push(task);
        }
    }
    kept
}

/// The task of this name, or that there is none.
pub(super) fn find(definitions: &Definitions, name: &str) -> Result<SharedTask, String> {
    let listed: Vec<SharedTask> =
        definitions.workflows.iter().flat_map(|workflow| workflow.borrow().tasks.clone()).collect();
    let tasks: Vec<&SharedTask> = definitions.tasks.iter().chain(&listed).collect();
    let found = tasks.iter().find(|task| task.borrow().name == name && task.borrow().action.is_some());
    found.map(|task| Rc::clone(task)).ok_or_else(|| {
        let names: Vec<String> = tasks.iter().map(|task| task.borrow().name.clone()).collect();
        unknown(name, names.iter().map(String::as_str))
    })
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let hint = nearest(name, known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    format!("the file has no task `{name}`{hint}")
}
