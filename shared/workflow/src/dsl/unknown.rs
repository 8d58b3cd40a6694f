//! The names that tasks and workflows know, and what to say of one that they do not.

use crate::plan::{misspelt, nearest};

pub(crate) const TASK_METHODS: [&str; 45] = [
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
    "retry",
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
    "on_error",
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

pub(crate) const WORKFLOW_METHODS: [&str; 34] = [
    "name",
    "description",
    "version",
    "tasks",
    "add_task",
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
    "on_fail",
    "on_error",
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
const SYNONYMS: [(&str, &str); 28] = [
    ("retry_count", "retries"),
    ("max_retries", "retries"),
    ("attempts", "retries"),
    ("tries", "retries"),
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
    ("catch", "on_failure"),
    ("agent", "delegate_to"),
    ("host", "delegate_to"),
    ("hosts", "delegate_to"),
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

/// Names of what is said when a run is started, and how it is said there: without it the file does what it says, here.
const OUTSIDE: [(&str, &str); 5] =
    [("target_tags", HOSTS), ("target_agents", HOSTS), ("schedule", TIMES), ("cron", TIMES), ("trigger", TIMES)];
const HOSTS: &str = "hosts are chosen by their labels, in `delegate_to`, as `delegate_to(\"role=web\")`, or when the run is started, as `sloth-coord run BUNDLE --on 'role=web'`";
const TIMES: &str = "a file runs when it is started: let cron or a systemd timer start `sloth-agent run FILE` or `sloth-coord run BUNDLE`";

/// A name that a task or a workflow does not know.
pub(super) struct Unknown<'a> {
    pub(super) name: &'a str,
    /// The name that was meant.
    meant: Option<&'static str>,
    /// What is written here instead of it.
    instead: Option<&'static str>,
    /// How what it meant is said outside the file.
    outside: Option<&'static str>,
    known: &'static [&'static str],
}

impl<'a> Unknown<'a> {
    pub(super) fn of_task(name: &'a str) -> Self {
        let instead = told(&DECLARATIVE, name);
        Self { name, meant: meant(name, &TASK_METHODS), instead, outside: told(&OUTSIDE, name), known: &TASK_METHODS }
    }

    pub(super) fn of_workflow(name: &'a str) -> Self {
        let outside = told(&OUTSIDE, name);
        Self { name, meant: meant(name, &WORKFLOW_METHODS), instead: None, outside, known: &WORKFLOW_METHODS }
    }

    /// One of the settings of a workflow, or of its retries.
    pub(super) fn of_settings(name: &'a str, known: &'static [&'static str]) -> Self {
        Self { name, meant: meant(name, known), instead: None, outside: told(&OUTSIDE, name), known }
    }

    /// Whether it is known what was meant: a task or workflow without it is another than its author wanted.
    pub(super) fn is_meant(&self) -> bool {
        self.outside.is_none() && (self.meant.is_some() || self.instead.is_some())
    }

    /// Whether it was to say what the task does.
    pub(super) fn is_work(&self) -> bool {
        self.meant == Some("command") || matches!(self.name, "module" | "action")
    }

    /// What to say where it stops the file.
    pub(super) fn error(&self) -> String {
        let name = self.name;
        match (self.instead, self.meant) {
            (Some(instead), _) => format!("there is no method or key `{name}`: {instead}"),
            (None, Some(meant)) => format!("there is no method or key `{name}`; did you mean `{meant}`?"),
            (None, None) => format!("there is no method or key `{name}` (known are {})", self.known.join(", ")),
        }
    }

    /// What to say where it changes nothing.
    pub(super) fn warning(&self) -> String {
        let told = format!("there is no method or key `{}`, so it is ignored", self.name);
        match (self.instead.or(self.outside), self.meant, nearest(self.name, self.known.iter().copied())) {
            (Some(instead), _, _) => format!("{told}: {instead}"),
            (None, Some(meant), _) => format!("{told}; did you mean `{meant}`?"),
            (None, None, Some(near)) => format!("{told}; the nearest that is known is `{near}`"),
            (None, None, None) => told,
        }
    }
}

fn told(table: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == name).map(|(_, told)| *told)
}

/// The name among `known` that was meant, by another word or with a slip of the fingers.
fn meant(name: &str, known: &'static [&'static str]) -> Option<&'static str> {
    let synonym = SYNONYMS.iter().find(|(other, _)| *other == name).map(|(_, meant)| *meant);
    let synonym = known.iter().copied().find(|name| Some(*name) == synonym);
    synonym.or_else(|| misspelt(name, known.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_was_meant_is_told() {
        for (name, near) in [
            ("tries", "retries"),
            ("comand", "command"),
            ("needs", "depends_on"),
            ("depend_on", "depends_on"),
            ("on_sucess", "on_success"),
            ("desription", "description"),
        ] {
            let unknown = Unknown::of_task(name);
            let end = format!("`{near}`?");
            assert!(unknown.is_meant() && unknown.error().ends_with(&end), "{}", unknown.error());
            assert!(unknown.warning().ends_with(&end), "{}", unknown.warning());
        }
        for (name, warning) in [
            ("zzzzz", "there is no method or key `zzzzz`, so it is ignored"),
            ("on_skip", "there is no method or key `on_skip`, so it is ignored"),
        ] {
            let unknown = Unknown::of_task(name);
            assert!(!unknown.is_meant(), "{name}");
            assert_eq!(unknown.warning(), warning);
        }
        assert!(Unknown::of_task("register").error().contains("in `deps`"));
        for (_, meant) in SYNONYMS {
            assert!(TASK_METHODS.contains(&meant) || WORKFLOW_METHODS.contains(&meant), "{meant}");
        }
    }
}
