//! What becomes of the order of a list when some of its tasks say what they wait for.

use super::workflow::WorkflowDraft;
use crate::plan::WorkflowSpec;

/// Tells of a task that would have run after the one before it, had no task of its workflow said what it waits for. Who
/// says how many run at a time, or that a task runs beside others, knows.
pub(super) fn told(draft: &WorkflowDraft, spec: &WorkflowSpec, file: &str, text: &str) -> Option<String> {
    if draft.max_parallel_tasks.is_some() || spec.tasks.iter().all(|task| task.depends_on.is_empty()) {
        return None;
    }
    let waits = |at: usize| !spec.tasks[at].depends_on.is_empty() || !spec.tasks[at].if_failed.is_empty();
    let at = (1..spec.tasks.len()).find(|at| !waits(*at) && !draft.tasks[*at].borrow().at_once)?;
    let (task, before) = (&spec.tasks[at].name, &spec.tasks[at - 1].name);
    let place = line_of(text, task).map_or_else(String::new, |line| format!("{file}:{line}: "));
    Some(format!(
        "{place}task `{task}` of workflow `{}` does not wait for `{before}`, which stands before it: some of the tasks say \
         `depends_on`, so they are no list any more. Write `depends_on = \"{before}\"`, or `async = true` where it may run beside the others",
        spec.name
    ))
}

/// The line that has the name as a text, from 1.
fn line_of(text: &str, name: &str) -> Option<usize> {
    let quoted = [format!("\"{name}\""), format!("'{name}'")];
    text.lines().position(|line| quoted.iter().any(|quoted| line.contains(quoted))).map(|at| at + 1)
}
