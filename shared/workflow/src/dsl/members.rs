//! Which tasks a workflow has besides those that it lists.

use std::{collections::BTreeSet, rc::Rc};

use super::{SharedTask, draft::Dependency, workflow::WorkflowDraft};

/// The workflows with the tasks that name them; one that nobody began is begun by the first that names it.
pub(super) fn with_members(mut drafts: Vec<WorkflowDraft>, tasks: &[SharedTask]) -> Vec<WorkflowDraft> {
    for task in tasks {
        let name = task.borrow().workflow.clone().filter(|_| !task.borrow().used);
        let Some(name) = name else { continue };
        task.borrow_mut().used = true;
        match drafts.iter_mut().find(|draft| draft.name == name) {
            Some(draft) => draft.tasks.push(Rc::clone(task)),
            None => drafts.push(WorkflowDraft { name, tasks: vec![Rc::clone(task)], ..WorkflowDraft::default() }),
        }
    }
    drafts
}

/// The file's only workflow, where it names no tasks at all, has those that the file defines beside it.
pub(super) fn adopted(mut drafts: Vec<WorkflowDraft>, tasks: &[SharedTask]) -> Vec<WorkflowDraft> {
    if let [draft] = drafts.as_mut_slice()
        && draft.tasks.is_empty()
    {
        for task in tasks.iter().filter(|task| !task.borrow().used && !task.borrow().ran) {
            task.borrow_mut().used = true;
            draft.tasks.push(Rc::clone(task));
        }
    }
    drafts
}

/// A workflow has the tasks that its tasks wait for, where no workflow lists them: each before the first that waits for it.
pub(super) fn take_awaited(draft: &mut WorkflowDraft, tasks: &[SharedTask]) {
    let mut names: BTreeSet<String> = draft.tasks.iter().map(|task| task.borrow().name.clone()).collect();
    let mut at = 0;
    while let Some(task) = draft.tasks.get(at) {
        let awaited: Vec<String> = task.borrow().depends_on.iter().map(Dependency::name).collect();
        let missing = awaited.iter().filter(|name| !names.contains(*name));
        let free =
            |name: &String| tasks.iter().find(|task| !task.borrow().used && task.borrow().name == *name).map(Rc::clone);
        let found: Vec<SharedTask> = missing.filter_map(free).collect();
        if found.is_empty() {
            at += 1;
            continue;
        }
        for task in &found {
            task.borrow_mut().used = true;
            names.insert(task.borrow().name.clone());
        }
        // What they wait for themselves is looked at next.
        draft.tasks.splice(at..at, found);
    }
}

/// Whether a file names a task, or the variable that holds it, again after it made it: then something else runs it, such as
/// `built:run()` inside another task.
pub(super) fn is_named_again(text: &str, name: &str) -> bool {
    let code: String =
        text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let quoted = [format!("\"{name}\""), format!("'{name}'")];
    let places: Vec<usize> =
        quoted.iter().flat_map(|quoted| code.match_indices(quoted.as_str())).map(|(at, _)| at).collect();
    // A name that is put together in a loop says nothing of who runs its tasks.
    let Some(first) = places.iter().min() else { return code.contains(":run()") };
    let before = code[..*first].trim_end().trim_end_matches(['(', '{']).trim_end();
    let variable = before.strip_suffix("task").map(str::trim_end).and_then(|before| before.strip_suffix('='));
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let variable = variable.map(str::trim_end).and_then(|before| before.rsplit(|c| !is_word(c)).next());
    match variable.filter(|variable| !variable.is_empty()) {
        None => 1 < places.len(),
        Some(variable) => {
            let whole = |at: usize| {
                let (before, after) = (code[..at].chars().next_back(), code[at + variable.len()..].chars().next());
                !before.is_some_and(is_word) && !after.is_some_and(is_word)
            };
            1 < places.len() || 1 < code.match_indices(variable).filter(|(at, _)| whole(*at)).count()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_named_again_by_its_name_or_its_variable() {
        for (text, again) in [
            ("local t = task(\"a\"):command('x'):build()", false),
            ("local t = task(\"a\"):build()\n-- t:run()", false),
            ("local t = task(\"a\"):build()\nf(function() t:run() end)", true),
            ("local t = task 'a' { }\nreturn { t }", true),
            ("task(\"a\"):build() local at = 1", false),
            ("task(\"a\"):build() parallel({ 'a' })", true),
            ("for _, n in ipairs(names) do task(n) end", false),
            ("for _, n in ipairs(names) do local t = task(n) f(function() t:run() end) end", true),
        ] {
            assert_eq!(is_named_again(text, "a"), again, "{text}");
        }
    }
}
