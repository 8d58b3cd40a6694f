//! Hooks of one task.

use std::rc::Rc;

use mlua::{AnyUserData, IntoLuaMulti, Table, Value};

use super::{
    Called, Engine,
    attempt::{Job, Tried},
};
use crate::{dsl::TaskHook, modules::Scope};

impl Engine {
    /// Hooks that can make the attempt a failure: by an error, or by returning `false`.
    pub(super) async fn gates(
        &self,
        job: &Job<'_>,
        scope: &Rc<Scope>,
        hook: TaskHook,
        arguments: impl IntoLuaMulti + Clone,
    ) -> Option<Tried> {
        let what = if hook == TaskHook::Before { "pre_hook" } else { "post_hook" };
        for hook in job.draft.hooks.get(&hook)? {
            if let Some(condition) = &hook.when {
                match self.holds(scope, condition, arguments.clone()).await {
                    Ok(true) => {}
                    Ok(false) | Err(Called::Returned(_)) => continue,
                    Err(Called::Raised(error)) => {
                        return Some(Tried::Bad(format!("`{what}`: {}", self.explained(&error))));
                    }
                    Err(Called::TimedOut) => return Some(Tried::TimedOut),
                    Err(Called::Halted) => return Some(Tried::Halted),
                }
            }
            match self.call(scope, &hook.function, arguments.clone()).await {
                Called::Returned(values) if matches!(values.front(), Some(Value::Boolean(false))) => {
                    let reason = values.get(1).and_then(Value::as_string).map(mlua::LuaString::to_string_lossy);
                    let reason = reason.unwrap_or_else(|| "it returned `false`".to_owned());
                    return Some(Tried::Bad(format!("`{what}`: {reason}")));
                }
                Called::Returned(_) => {}
                Called::Raised(error) => return Some(Tried::Bad(format!("`{what}`: {}", self.explained(&error)))),
                Called::TimedOut => return Some(Tried::TimedOut),
                Called::Halted => return Some(Tried::Halted),
            }
        }
        None
    }

    /// Hooks that only hear what happened.
    pub(super) async fn task_hooks<A: IntoLuaMulti>(
        &self,
        job: &Job<'_>,
        hook: TaskHook,
        number: u32,
        arguments: impl Fn(AnyUserData, Table) -> mlua::Result<A>,
    ) {
        let Some(hooks) = job.draft.hooks.get(&hook) else { return };
        let lua = &self.prepared.machine.lua;
        for hook in hooks {
            let made = self.this(job, number).and_then(|this| arguments(this, job.params.clone())?.into_lua_multi(lua));
            match made {
                Ok(arguments) => drop(self.task_hook(job, hook, arguments).await),
                Err(error) => self.hook_ended("a hook of the task", Called::Raised(error)),
            }
        }
    }
}
