//! Functions that are told what happens.

use mlua::{Function, Table, Value};

use super::{action::Condition, argument::Arguments};

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
    /// After a failed attempt that another follows.
    Retry,
    /// When the workflow undoes what its tasks did.
    Rollback,
    /// When the workflow has ended, however it did.
    Cleanup,
}

/// When a workflow's hook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WorkflowHook {
    /// Before its first task.
    Start,
    /// Before each task that is run.
    TaskStart,
    /// After each task that was run.
    TaskComplete,
    /// After its last task, when none failed.
    Success,
    /// After its last task, when one failed.
    Failure,
    /// After its last task, when its own time was over.
    Timeout,
    /// After all of these.
    Complete,
    /// At the very end.
    Cleanup,
}

/// One hook.
#[derive(Debug, Clone)]
pub(crate) struct Hook {
    pub(crate) function: Function,
    /// It is called only where this holds.
    pub(crate) when: Option<Condition>,
    /// Nothing waits for it but the end of the workflow.
    pub(crate) is_async: bool,
}

impl Hook {
    /// Reads `function`, `function, {when = …, async = …}` or `{function, when = …, async = …}`.
    pub(super) fn read(arguments: &Arguments<'_>) -> mlua::Result<Self> {
        match arguments.value(0) {
            Value::Function(function) => {
                let hook = Self { function: function.clone(), when: None, is_async: false };
                match arguments.optional_table(1)? {
                    Some(options) => hook.with(arguments, &options),
                    None => Ok(hook),
                }
            }
            Value::Table(table) => {
                let keyed = ["run", "command"].iter().find_map(|key| table.raw_get::<Option<Function>>(*key).ok()?);
                let function = table.raw_get::<Option<Function>>(1).ok().flatten().or(keyed);
                let function = function.ok_or_else(|| {
                    arguments.error(format_args!(
                        "`{}` takes a function first: `{{ function() … end, when = … }}`",
                        arguments.method()
                    ))
                })?;
                Self { function, when: None, is_async: false }.with(arguments, table)
            }
            other => Err(arguments.takes("a function", other)),
        }
    }

    fn with(mut self, arguments: &Arguments<'_>, options: &Table) -> mlua::Result<Self> {
        for pair in options.pairs::<Value, Value>() {
            let (key, value) = pair?;
            let Value::String(key) = &key else { continue };
            let key = key.to_string_lossy();
            let option = Arguments::one(arguments.lua, arguments.owner().to_owned(), &key, value);
            match key.as_str() {
                "when" | "run_if" | "condition" => self.when = Some(Condition::read(&option)?),
                "async" => self.is_async = option.flag()?,
                "run" | "command" => {}
                other => {
                    let method = arguments.method();
                    return Err(arguments
                        .error(format_args!("`{method}` has no option `{other}`; it takes `when` and `async`")));
                }
            }
        }
        Ok(self)
    }
}
