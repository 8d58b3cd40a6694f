//! Hooks. One that fails is logged and changes nothing else.

use std::{rc::Rc, time::Duration};

use mlua::{IntoLuaMulti, Lua, MultiValue, Table, Value};

use super::{Called, Engine, attempt::Job, attempt::is_true, workflow::Course};
use crate::{
    TaskEnd,
    dsl::{Condition, Finished, Hook, Test, WorkflowHook},
    limits::HOOK_TIMEOUT_MS,
    modules::{self, Phase, Scope},
    vm::{Fault, convert},
};

/// How long a hook or a condition may take.
pub(super) const HOOK_TIME: Duration = Duration::from_millis(HOOK_TIMEOUT_MS);

impl WorkflowHook {
    const fn name(self) -> &'static str {
        match self {
            Self::Start => "on_start",
            Self::TaskStart => "on_task_start",
            Self::TaskComplete => "on_task_complete",
            Self::Success => "on_success",
            Self::Failure => "on_failure",
            Self::Timeout => "on_timeout",
            Self::Complete => "on_complete",
            Self::Cleanup => "cleanup",
        }
    }
}

impl Engine {
    /// Calls the hooks of one kind with the same arguments, one after the other.
    pub(super) async fn hooks(&self, finished: &Finished, hook: WorkflowHook, arguments: impl IntoLuaMulti) {
        let Some(hooks) = finished.hooks.get(&hook) else { return };
        if self.is_halted() {
            return;
        }
        let what = format!("the hook `{}`", hook.name());
        let arguments = match arguments.into_lua_multi(&self.prepared.machine.lua) {
            Ok(arguments) => arguments,
            Err(error) => return self.hook_ended(&what, Called::Raised(error)),
        };
        for hook in hooks {
            let called = self.hook(self.scope(HOOK_TIME), &what, hook, arguments.clone()).await;
            self.hook_ended(&what, called);
        }
    }

    /// Calls one hook of a task; gives why it failed, which is logged.
    pub(super) async fn task_hook(&self, job: &Job<'_>, hook: &Hook, arguments: MultiValue) -> Result<(), String> {
        let scope = self.task_scope(job, HOOK_TIME);
        let what = "a hook of the task";
        let called = self.hook(Rc::clone(&scope), what, hook, arguments).await;
        let outcome = match &called {
            Called::Returned(values) if matches!(values.front(), Some(Value::Boolean(false))) => {
                let reason = values.get(1).and_then(Value::as_string).map(mlua::LuaString::to_string_lossy);
                Err(reason.unwrap_or_else(|| "it returned `false`".to_owned()))
            }
            Called::Returned(_) => Ok(()),
            Called::Raised(error) => Err(self.prepared.fault(error).message),
            Called::TimedOut => Err("its time is over".to_owned()),
            Called::Halted => Err("the run ended".to_owned()),
        };
        self.context.current.with(&scope, || self.hook_ended(what, called));
        outcome
    }

    pub(super) fn hook_ended(&self, what: &str, called: Called) {
        match called {
            Called::Returned(_) | Called::Halted => {}
            Called::Raised(error) => {
                self.context.warn(&format!("{what} failed: {}", self.prepared.fault(&error).text()));
            }
            Called::TimedOut => self.context.warn(&format!("{what} was stopped: its time is over")),
        }
    }

    /// Whether a condition holds.
    pub(super) async fn holds(
        &self,
        scope: &Rc<Scope>,
        condition: &Condition,
        arguments: impl IntoLuaMulti,
    ) -> Result<bool, Called> {
        let held = match &condition.test {
            Test::Fixed(held) => *held,
            Test::Action(action) => {
                let function = action.condition(&self.prepared.machine.lua).map_err(Called::Raised)?;
                match self.call(scope, &function, arguments).await {
                    Called::Returned(values) => is_true(&values),
                    other @ (Called::Raised(_) | Called::TimedOut | Called::Halted) => return Err(other),
                }
            }
        };
        Ok(held == condition.wanted)
    }

    /// Waits for hooks that nothing waited for.
    pub(super) async fn background_ended(&self) {
        let mut background = self.background.take();
        while !background.is_empty() {
            let _idle = self.context.current.idle();
            tokio::select! {
                _ = background.join_next() => {}
                () = self.halted() => return,
            }
        }
    }

    /// Calls a hook where its condition holds. One that is asynchronous is only begun.
    async fn hook(&self, scope: Rc<Scope>, what: &str, hook: &Hook, arguments: MultiValue) -> Called {
        if let Some(condition) = &hook.when {
            match self.holds(&scope, condition, arguments.clone()).await {
                Ok(true) => {}
                Ok(false) => {
                    scope.stop();
                    return Called::Returned(MultiValue::new());
                }
                Err(called) => {
                    scope.stop();
                    return called;
                }
            }
        }
        if hook.is_async {
            self.begin(scope, what, hook, arguments);
            return Called::Returned(MultiValue::new());
        }
        let called = self.call(&scope, &hook.function, arguments).await;
        scope.stop();
        called
    }

    fn begin(&self, scope: Rc<Scope>, what: &str, hook: &Hook, arguments: MultiValue) {
        let context = Rc::clone(&self.context);
        let (what, function) = (what.to_owned(), hook.function.clone());
        let lua = self.prepared.machine.lua.weak();
        self.background.borrow_mut().spawn_local(async move {
            let running = context.current.enter(Rc::clone(&scope), function.call_async::<MultiValue>(arguments));
            let told = tokio::select! {
                ended = running => ended.err().map(|error| {
                    let fault = lua.try_upgrade().map_or_else(|| Fault::from(&error), |lua| Fault::of(&lua, &error));
                    format!("{what} failed: {}", fault.text())
                }),
                () = tokio::time::sleep_until(scope.deadline.into()) => {
                    Some(format!("{what} was stopped: its time is over"))
                }
            };
            scope.stop();
            context.processes.kill(scope.id).await;
            if let Some(told) = told {
                context.current.with(&scope, || context.warn(&told));
            }
        });
    }

    /// The params of a workflow, and that its run only checks.
    pub(super) fn params(&self, finished: &Finished) -> mlua::Result<Table> {
        let params = self.prepared.machine.lua.create_table()?;
        if self.context.phase == Phase::Check {
            params.raw_set("dry_run", true)?;
        }
        for (key, value) in &finished.params {
            params.raw_set(key.as_str(), value.as_str())?;
        }
        Ok(params)
    }

    /// What `on_complete` gets: how each task ended, by name. As a list it has them in the order in which they ended.
    pub(super) fn results(&self, course: &Course<'_>) -> mlua::Result<Table> {
        let lua = &self.prepared.machine.lua;
        let (results, list) = (lua.create_table()?, lua.create_table()?);
        let good = course.good();
        for task in course.completed() {
            let Some(end) = course.end(task) else { continue };
            let result = self.result(&end, good[task])?;
            list.raw_push(&result)?;
            results.raw_set(end.task.task.as_str(), result)?;
        }
        let length = list.raw_len();
        let metatable = lua.create_table()?;
        metatable.raw_set("__index", &list)?;
        metatable.raw_set("__ipairs", &list)?;
        metatable.raw_set("__len", lua.create_function(move |_, _: MultiValue| Ok(length))?)?;
        results.set_metatable(Some(metatable))?;
        Ok(results)
    }

    /// How a task ended. What it does not have itself is looked up in the task's outputs.
    fn result(&self, end: &TaskEnd, good: bool) -> mlua::Result<Table> {
        let lua = &self.prepared.machine.lua;
        let result = lua.create_table()?;
        result.raw_set("name", end.task.task.as_str())?;
        result.raw_set("status", end.status.as_str())?;
        result.raw_set("success", good)?;
        result.raw_set("message", end.message.as_str())?;
        // Milliseconds of a run stay far below what a float holds exactly.
        #[expect(clippy::cast_precision_loss)]
        result.raw_set("duration", end.ended.since(end.started).as_u64() as f64 / 1000.0)?;
        result.raw_set("attempts", end.attempts)?;
        if end.status.is_failure() {
            result.raw_set("error", end.message.as_str())?;
        }
        let outputs = outputs(lua, end)?;
        result.set_metatable(Some(lua.create_table_from([("__index", &outputs)])?))?;
        result.raw_set("outputs", outputs)?;
        Ok(result)
    }
}

/// The outputs of a task as others get them: results of modules among them speak as they did.
pub(super) fn outputs(lua: &Lua, end: &TaskEnd) -> mlua::Result<Table> {
    let table = convert::object_to_lua(lua, &end.outputs)?;
    modules::speak_again(lua, &table)?;
    Ok(table)
}
