//! `event`: what happens in a run, told to its handlers and to its host.

use std::{collections::BTreeMap, rc::Rc};

use mlua::{Function, Lua, MultiValue, Table, Value};
use serde_json::{Map, Value as Json, json};

use super::{
    Context,
    call::{Builder, Call, Done, Gate},
    star, watcher,
};
use crate::{
    Event,
    vm::{Fault, convert},
};

/// Most bytes of an event's type.
const TYPE_BYTES_MAX: usize = 256;
/// Most bytes of an event's data as JSON.
const DATA_BYTES_MAX: usize = 64 * 1024;
/// Most handlers of a run.
const HANDLERS_MAX: usize = 1000;
/// How deep handlers may tell of events that are handled in turn.
const DEPTH_MAX: usize = 8;
/// The type of events that have a name and a message only.
const CUSTOM: &str = "custom";
/// What may happen to a file.
const FILE_ACTIONS: [&str; 5] = ["created", "modified", "changed", "deleted", "renamed"];

tokio::task_local! {
    /// How many handlers are under way, one in the other.
    static DEPTH: usize;
}

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let table = Builder::new(lua, context, "event")?
        .asynchronous("dispatch", Gate::Acting, |call, (kind, data): (Value, Value)| async move {
            let kind = kind_of(&call, "type", &kind)?;
            let data = data_of(&call, &data)?;
            told(&call, &kind, data).await
        })?
        .asynchronous("dispatch_custom", Gate::Acting, |call, (name, message): (Value, Value)| async move {
            let name = kind_of(&call, "name", &name)?;
            let mut data = match message.as_table() {
                Some(_) => data_of(&call, &message)?,
                None => json!({ "message": call.optional_text("message", &message)?.unwrap_or_default() }),
            };
            if let Some(data) = data.as_object_mut() {
                data.insert("name".to_owned(), name.into());
            }
            told(&call, CUSTOM, data).await
        })?
        .asynchronous("dispatch_file", Gate::Acting, dispatch_file)?
        .function("on", Gate::Open, on)?
        .function("off", Gate::Open, |call, id: &Value| {
            let id = call.integer("id", id, 0, u64::from(u32::MAX))?;
            Ok(Handlers::with(&call.lua, |handlers| handlers.list.remove(&id).is_some()))
        })?
        .value("register", watcher::register_table(lua, context, "event.register")?)?
        .finish();
    Ok(table)
}

/// Tells the host and the handlers, in the order in which these were added, and waits for them. One that fails is a
/// warning of the task, and keeps the others from nothing.
pub(super) async fn tell(call: &Call, kind: &str, data: Json) -> Result<Event, String> {
    let depth = DEPTH.try_with(|depth| *depth).unwrap_or(0);
    if DEPTH_MAX <= depth {
        return Err(format!(
            "`{kind}` is told by a handler of a handler, {DEPTH_MAX} deep: a handler seems to tell of what it handles"
        ));
    }
    let bytes = data.to_string().len();
    if DATA_BYTES_MAX < bytes {
        return Err(format!("the data of an event is {DATA_BYTES_MAX} bytes at most as JSON, got {bytes}"));
    }
    let context = &call.context;
    let task = context.current.get().and_then(|scope| scope.task.clone());
    let (agent, run) = (context.agent.name.clone(), context.run_id.clone());
    let event = Event { kind: kind.to_owned(), at: context.host.now(), data, agent, run, task };
    context.host.event(&event);
    for handler in Handlers::with(&call.lua, |handlers| handlers.of(kind)) {
        let shown = to_lua(&call.lua, &event).map_err(|error| error.to_string())?;
        if let Err(error) = DEPTH.scope(depth + 1, run_handler(&handler, shown)).await {
            context.warn(&format!("a handler of the event `{kind}` failed: {}", Fault::of(&call.lua, &error).text()));
        }
    }
    Ok(event)
}

/// The event as handlers see it.
pub(super) fn to_lua(lua: &Lua, event: &Event) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("type", event.kind.as_str())?;
    table.raw_set("timestamp", event.at.as_u64() / 1000)?;
    table.raw_set("data", convert::to_lua(lua, &event.data)?)?;
    table.raw_set("agent", if event.agent.is_empty() { "local" } else { &event.agent })?;
    table.raw_set("run_id", event.run.as_str())?;
    table.raw_set("task", event.task.as_ref().map(|task| task.task.as_str()))?;
    Ok(table)
}

async fn run_handler(handler: &Function, event: Table) -> mlua::Result<()> {
    handler.call_async::<MultiValue>(event).await.map(drop)
}

async fn told(call: &Call, kind: &str, mut data: Json) -> mlua::Result<Done> {
    if let Some(data) = data.as_object_mut() {
        data.entry("timestamp").or_insert_with(|| (call.context.host.now().as_u64() / 1000).into());
    }
    Ok(Done(tell(call, kind, data).await.map(drop).map_err(|reason| call.refusal(reason))))
}

async fn dispatch_file(call: Call, (action, path, watcher): (Value, Value, Value)) -> mlua::Result<Done> {
    let (action, path) = (call.text("action", &action)?, call.text("path", &path)?);
    let action = action.strip_prefix("file.").unwrap_or(&action);
    if !FILE_ACTIONS.contains(&action) {
        let known = FILE_ACTIONS.map(|known| format!("`{known}`")).join(", ");
        return Ok(Done(Err(format!("{}: `action` takes one of {known}, got `{action}`", call.name))));
    }
    let mut data = json!({ "path": path, "action": action });
    if let Some(watcher) = call.optional_text("watcher", &watcher)? {
        data["watcher"] = watcher.into();
    }
    told(&call, &format!("file.{action}"), data).await
}

/// Adds a handler of every event whose type fits a pattern, in which `*` stands for anything.
fn on(call: &Call, (pattern, function): &(Value, Value)) -> mlua::Result<u64> {
    let pattern = kind_of(call, "pattern", pattern)?;
    let Value::Function(function) = function else {
        return Err(call.expected("fn", "a function", function));
    };
    Handlers::with(&call.lua, |handlers| handlers.add(pattern, function.clone())).map_err(|reason| call.error(reason))
}

fn kind_of(call: &Call, argument: &str, value: &Value) -> mlua::Result<String> {
    let kind = call.text(argument, value)?;
    let plain = !kind.contains(|c: char| c.is_whitespace() || c.is_control());
    if kind.is_empty() || TYPE_BYTES_MAX < kind.len() || !plain {
        return Err(call.error(format_args!(
            "`{argument}` takes a text of 1 to {TYPE_BYTES_MAX} bytes without white space, got `{kind}`"
        )));
    }
    Ok(kind)
}

/// A table; anything else that JSON has a name for is its `value`.
fn data_of(call: &Call, data: &Value) -> mlua::Result<Json> {
    if data.is_nil() {
        return Ok(Json::Object(Map::new()));
    }
    let data = convert::to_json(&call.lua, data, convert::Foreign::Refuse);
    let data = data.map_err(|error| call.error(format_args!("`data`: {error}")))?;
    Ok(if data.is_object() || data.is_array() { data } else { json!({ "value": data }) })
}

/// The handlers of a run. They live in the machine.
#[derive(Default)]
struct Handlers {
    list: BTreeMap<u64, (String, Function)>,
    next: u64,
}

impl Handlers {
    fn with<T>(lua: &Lua, f: impl FnOnce(&mut Self) -> T) -> T {
        if let Some(mut handlers) = lua.app_data_mut::<Self>() {
            return f(&mut handlers);
        }
        let mut handlers = Self::default();
        let result = f(&mut handlers);
        lua.set_app_data(handlers);
        result
    }

    fn add(&mut self, pattern: String, function: Function) -> Result<u64, String> {
        if HANDLERS_MAX <= self.list.len() {
            return Err(format!("a run has {HANDLERS_MAX} handlers at most"));
        }
        self.next += 1;
        self.list.insert(self.next, (pattern, function));
        Ok(self.next)
    }

    fn of(&self, kind: &str) -> Vec<Function> {
        let fitting = self.list.values().filter(|(pattern, _)| star::fits(pattern, kind));
        fitting.map(|(_, function)| function.clone()).collect()
    }
}
