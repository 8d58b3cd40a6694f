//! The names that tasks and workflows know, and what to say of one that they do not.

use crate::plan::nearest;

pub(super) const TASK_METHODS: [&str; 43] = [
    "name",
    "workflow",
    "description",
    "command",
    "run",
    "action",
    "shell",
    "timeout",
    "workdir",
    "user",
    "delegate_to",
    "target_agent",
    "depends_on",
    "next_if_fail",
    "retries",
    "retry_policy",
    "retry_delay",
    "max_retry_delay",
    "run_if",
    "when",
    "condition",
    "unless",
    "abort_if",
    "on_success",
    "on_complete",
    "on_failure",
    "on_fail",
    "on_timeout",
    "on_retry",
    "pre_hook",
    "pre_exec",
    "post_hook",
    "post_exec",
    "rollback",
    "cleanup",
    "params",
    "env",
    "idempotent",
    "artifacts",
    "consumes",
    "tags",
    "async",
    "build",
];

pub(super) const WORKFLOW_METHODS: [&str; 31] = [
    "name",
    "description",
    "version",
    "tasks",
    "config",
    "values",
    "workdir",
    "delegate_to",
    "timeout",
    "max_parallel_tasks",
    "on_task_failure",
    "fail_fast",
    "retry_policy",
    "env",
    "params",
    "on_start",
    "workflow_start",
    "on_task_start",
    "pre_task",
    "on_task_complete",
    "post_task",
    "on_success",
    "on_failure",
    "on_timeout",
    "on_complete",
    "workflow_complete",
    "cleanup",
    "create_workdir_before_run",
    "clean_workdir_after_run",
    "build",
    "run",
];

/// Names that other tools use, and what is called so here.
const SYNONYMS: [(&str, &str); 30] = [
    ("retry", "retries"),
    ("retry_count", "retries"),
    ("max_retries", "retries"),
    ("attempts", "retries"),
    ("depends", "depends_on"),
    ("dependencies", "depends_on"),
    ("needs", "depends_on"),
    ("requires", "depends_on"),
    ("after", "depends_on"),
    ("exec", "command"),
    ("script", "command"),
    ("cmd", "command"),
    ("execute", "command"),
    ("fn", "command"),
    ("cwd", "workdir"),
    ("dir", "workdir"),
    ("environment", "env"),
    ("env_vars", "env"),
    ("on_error", "on_failure"),
    ("catch", "on_failure"),
    ("agent", "delegate_to"),
    ("host", "delegate_to"),
    ("hosts", "delegate_to"),
    ("target_tags", "delegate_to"),
    ("only_if", "run_if"),
    ("if", "run_if"),
    ("become_user", "user"),
    ("before", "pre_hook"),
    ("parallel", "max_parallel_tasks"),
    ("max_parallel", "max_parallel_tasks"),
];

/// Keys of declarative dialects, and what is written here instead.
const DECLARATIVE: [(&str, &str); 8] = [
    ("module", "call the module in the task's function: `command = function() return pkg.install({ … }) end`"),
    ("action", "call the module in the task's function: `command = function() return pkg.install({ … }) end`"),
    ("args", "call the module in the task's function: `command = function() return pkg.install({ … }) end`"),
    ("register", "return a table of outputs third; tasks that depend on this one get it in `deps`"),
    ("vars", "write `params`, or a local variable of the file"),
    ("notify", "let the other task say `depends_on`, and `run_if` what this one returns"),
    ("loop", "make the tasks in a `for` loop, or loop in the task's function"),
    ("with_items", "make the tasks in a `for` loop, or loop in the task's function"),
];

/// What to say of a task's method or key that does not exist.
pub(super) fn unknown_task_method(method: &str) -> String {
    match DECLARATIVE.iter().find(|(name, _)| *name == method) {
        Some((_, instead)) => format!("there is no method or key `{method}`: {instead}"),
        None => unknown(method, &TASK_METHODS),
    }
}

/// What to say of a workflow's method or key that does not exist.
pub(super) fn unknown_workflow_method(method: &str) -> String {
    unknown(method, &WORKFLOW_METHODS)
}

fn unknown(method: &str, known: &[&str]) -> String {
    match meant(method, known) {
        Some(near) => format!("there is no method or key `{method}`; did you mean `{near}`?"),
        None => format!("there is no method or key `{method}` (known are {})", known.join(", ")),
    }
}

/// The name among `known` that was probably meant.
fn meant<'a>(method: &str, known: &[&'a str]) -> Option<&'a str> {
    let synonym = SYNONYMS.iter().find(|(name, _)| *name == method).map(|(_, meant)| *meant);
    let synonym = known.iter().copied().find(|name| Some(*name) == synonym);
    synonym.or_else(|| nearest(method, known.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_was_meant_is_told() {
        for (method, near) in [
            ("retry", "retries"),
            ("comand", "command"),
            ("needs", "depends_on"),
            ("on_sucess", "on_success"),
            ("desription", "description"),
        ] {
            let told = unknown_task_method(method);
            assert!(told.contains(&format!("`{method}`; did you mean `{near}`?")), "{told}");
        }
        assert!(!unknown_task_method("zzzzz").contains("did you mean"));
        assert!(unknown_task_method("register").contains("in `deps`"));
        for (_, meant) in SYNONYMS {
            assert!(TASK_METHODS.contains(&meant) || WORKFLOW_METHODS.contains(&meant), "{meant}");
        }
    }
}
