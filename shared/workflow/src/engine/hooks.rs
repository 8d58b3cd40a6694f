//! Hooks of a workflow. One that fails is logged and changes nothing else.

use std::time::Duration;

use mlua::{Function, IntoLuaMulti, Table};

use super::{Called, Engine};
use crate::{
    TaskEnd, TaskStatus,
    limits::HOOK_TIMEOUT_MS,
    vm::{Fault, convert},
};

impl Engine {
    /// Calls each hook with the same arguments, one after the other.
    pub(super) async fn hooks(&self, what: &str, hooks: &[Function], arguments: impl IntoLuaMulti + Clone) {
        for hook in hooks {
            let scope = self.scope(Duration::from_millis(HOOK_TIMEOUT_MS));
            let called = self.call(&scope, hook, arguments.clone()).await;
            scope.stop();
            self.hook_ended(what, called);
        }
    }

    pub(super) fn hook_ended(&self, what: &str, called: Called) {
        match called {
            Called::Returned(_) | Called::Halted => {}
            Called::Raised(error) => self.context.warn(&format!("{what} failed: {}", Fault::from(&error).text())),
            Called::TimedOut => self.context.warn(&format!("{what} was stopped: its time is over")),
        }
    }

    /// What `on_complete` gets: how each task ended, by name.
    pub(super) fn results(&self, ends: &[TaskEnd]) -> mlua::Result<Table> {
        let lua = &self.prepared.machine.lua;
        let results = lua.create_table_with_capacity(0, ends.len())?;
        for end in ends {
            let result = lua.create_table()?;
            result.raw_set("status", end.status.as_str())?;
            result.raw_set("success", !end.status.is_failure() && end.status != TaskStatus::Cancelled)?;
            result.raw_set("message", end.message.as_str())?;
            // Milliseconds of a run stay far below what a float holds exactly.
            #[expect(clippy::cast_precision_loss)]
            result.raw_set("duration", end.ended.since(end.started).as_u64() as f64 / 1000.0)?;
            result.raw_set("attempts", end.attempts)?;
            if end.status.is_failure() {
                result.raw_set("error", end.message.as_str())?;
            }
            result.raw_set("outputs", convert::object_to_lua(lua, &end.outputs)?)?;
            results.raw_set(end.task.task.as_str(), result)?;
        }
        Ok(results)
    }
}
