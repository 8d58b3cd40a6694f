//! `state`: values and locks that outlive the run, kept by the host.
#![expect(clippy::wildcard_enum_match_arm, reason = "every answer to another question is as strange")]

mod check;
mod locks;

use std::rc::Rc;

pub(super) use check::Overlay;

use mlua::{Function, IntoLuaMulti, Lua, MultiValue, Table, Value};
use serde_json::Value as Json;
use sloth_core::Millis;

use super::{
    Context,
    call::{Builder, Call, Gate},
    star,
};
use crate::{
    capability::Capability,
    host::{Lifetime, Place, StateOperation, StateReply},
    limits::{STATE_KEY_BYTES_MAX, STATE_VALUE_BYTES_MAX},
    vm::{
        Builtin,
        convert::{Foreign, object_to_lua, to_json, to_lua},
    },
};

/// Calls a function under a lock, and gives the lock back whatever becomes of it.
static WITH_LOCK: Builtin = Builtin::new(
    r#"
local lock, unlock = ...
local pcall, error, type = pcall, error, type
local function finish(name, ok, ...)
    unlock(name)
    if not ok then error((...), 0) end
    return ...
end
return function(name, handler, timeout)
    if type(handler) ~= "function" then
        error("state.with_lock: `function` takes a function, got a " .. type(handler), 2)
    end
    local had, reason = lock(name, timeout)
    if not had then return nil, reason end
    return finish(name, pcall(handler))
end
"#,
);

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let storage = Rc::new(Storage { overlay: Overlay::of(lua), held: locks::Held::default() });
    let table = locked(values(Builder::new(lua, context, "state")?, &storage)?, &storage)?.unfinished();
    let parts: (Function, Function) = (table.raw_get("lock")?, table.raw_get("unlock")?);
    let with_lock: Function = WITH_LOCK.function(lua)?.call(parts)?;
    table.raw_set("with_lock", with_lock)?;
    table.set_readonly(true);
    Ok(table)
}

/// What the functions share.
struct Storage {
    overlay: Rc<Overlay>,
    held: locks::Held,
}

/// Adds an asynchronous function that gets the storage.
macro_rules! stored {
    ($builder:expr, $storage:expr, $($name:literal => $function:expr),* $(,)?) => {{
        let mut builder = $builder;
        $({
            let storage = Rc::clone($storage);
            builder = builder.asynchronous($name, Gate::Needs(Capability::State), move |call, arguments| {
                $function(call, Rc::clone(&storage), arguments)
            })?;
        })*
        builder
    }};
}

fn values<'a>(builder: Builder<'a>, storage: &Rc<Storage>) -> mlua::Result<Builder<'a>> {
    let builder = stored!(builder, storage,
        "get" => get,
        "set" => set,
        "set_with_ttl" => set_with_ttl,
        "set_ttl" => set_ttl,
        "get_ttl" => get_ttl,
        "delete" => delete,
        "exists" => exists,
        "keys" => keys,
        "list" => list,
        "clear" => clear,
        "increment" => |call, storage, (key, by)| add(call, storage, key, by, 1.0),
        "decrement" => |call, storage, (key, by)| add(call, storage, key, by, -1.0),
        "compare_swap" => compare_swap,
        "list_push" => list_push,
        "list_pop" => list_pop,
        "list_length" => list_length,
        "append" => append,
        "stats" => stats,
    );
    builder.alias("has", "exists")
}

fn locked<'a>(builder: Builder<'a>, storage: &Rc<Storage>) -> mlua::Result<Builder<'a>> {
    Ok(stored!(builder, storage,
        "lock" => locks::lock,
        "try_lock" => locks::try_lock,
        "unlock" => locks::unlock,
    ))
}

/// The value; without one the default, or nothing and why.
async fn get(call: Call, storage: Rc<Storage>, (key, default): (Value, Value)) -> mlua::Result<MultiValue> {
    let key = key_of(&call, "key", &key)?;
    match storage.value(&call, key.clone()).await? {
        Some(value) => to_lua(&call.lua, &value)?.into_lua_multi(&call.lua),
        None if default.is_nil() => (Value::Nil, format!("key not found: {key}")).into_lua_multi(&call.lua),
        None => default.into_lua_multi(&call.lua),
    }
}

async fn set(call: Call, storage: Rc<Storage>, (key, value, ttl): (Value, Value, Value)) -> mlua::Result<bool> {
    let key = key_of(&call, "key", &key)?;
    let value = value_of(&call, "value", &value)?;
    if value.is_null() {
        return Err(call.error(format_args!("`value` is nothing: remove `{key}` with `state.delete`")));
    }
    let ttl = if ttl.is_nil() { None } else { Some(Millis::from(call.duration("ttl", &ttl)?)) };
    storage.done(&call, StateOperation::Set { key, value, ttl }).await?;
    Ok(true)
}

async fn set_with_ttl(
    call: Call,
    storage: Rc<Storage>,
    (key, value, ttl): (Value, Value, Value),
) -> mlua::Result<bool> {
    if ttl.is_nil() {
        return Err(call.error("`ttl` is missing: give seconds, or a duration like `30s`"));
    }
    set(call, storage, (key, value, ttl)).await
}

/// Whether there is such a key; without a span it lives for good from now on.
async fn set_ttl(call: Call, storage: Rc<Storage>, (key, ttl): (Value, Value)) -> mlua::Result<bool> {
    let key = key_of(&call, "key", &key)?;
    let ttl = if ttl.is_nil() { None } else { Some(Millis::from(call.duration("ttl", &ttl)?)) };
    storage.done(&call, StateOperation::Expire { key, ttl }).await
}

/// The seconds that are left, whole ones; -1 for a key that lives for good, -2 for none and why.
async fn get_ttl(call: Call, storage: Rc<Storage>, key: Value) -> mlua::Result<(f64, Option<String>)> {
    let key = key_of(&call, "key", &key)?;
    match storage.ask(&call, StateOperation::Lifetime { key: key.clone() }).await? {
        StateReply::Lifetime(Lifetime::Missing) => Ok((-2.0, Some(format!("key not found: {key}")))),
        StateReply::Lifetime(Lifetime::Forever) => Ok((-1.0, None)),
        StateReply::Lifetime(Lifetime::Left(left)) => Ok((left.as_duration().as_secs_f64().ceil(), None)),
        other => Err(strange(&call, &other)),
    }
}

async fn delete(call: Call, storage: Rc<Storage>, key: Value) -> mlua::Result<bool> {
    let key = key_of(&call, "key", &key)?;
    storage.done(&call, StateOperation::Delete { key }).await
}

async fn exists(call: Call, storage: Rc<Storage>, key: Value) -> mlua::Result<bool> {
    let key = key_of(&call, "key", &key)?;
    Ok(storage.value(&call, key).await?.is_some())
}

/// A list of keys, in order, that answers each key with its value.
async fn keys(call: Call, storage: Rc<Storage>, pattern: Value) -> mlua::Result<Table> {
    let entries = storage.matching(&call, &pattern).await?;
    let keys = call.lua.create_sequence_from(entries.iter().map(|(key, _)| key.as_str()))?;
    let values = object_to_lua(&call.lua, &entries.into_iter().collect())?;
    keys.set_metatable(Some(call.lua.create_table_from([("__index", values)])?))?;
    Ok(keys)
}

/// A list of keys, in order.
async fn list(call: Call, storage: Rc<Storage>, pattern: Value) -> mlua::Result<Vec<String>> {
    let entries = storage.matching(&call, &pattern).await?;
    Ok(entries.into_iter().map(|(key, _)| key).collect())
}

/// All keys, or those of a pattern.
async fn clear(call: Call, storage: Rc<Storage>, pattern: Value) -> mlua::Result<bool> {
    if pattern.is_nil() {
        return storage.done(&call, StateOperation::Clear).await;
    }
    for (key, _) in storage.matching(&call, &pattern).await? {
        storage.done(&call, StateOperation::Delete { key }).await?;
    }
    Ok(true)
}

async fn add(call: Call, storage: Rc<Storage>, key: Value, by: Value, sign: f64) -> mlua::Result<f64> {
    let key = key_of(&call, "key", &key)?;
    let by = if by.is_nil() { 1.0 } else { call.number("n", &by)? };
    storage.number(&call, StateOperation::Increment { key, by: sign * by }).await
}

/// Whether it held what was expected; nothing is expected of a key that must be missing.
async fn compare_swap(
    call: Call,
    storage: Rc<Storage>,
    (key, expected, value): (Value, Value, Value),
) -> mlua::Result<bool> {
    let key = key_of(&call, "key", &key)?;
    let expected = if expected.is_nil() { None } else { Some(value_of(&call, "expected", &expected)?) };
    let value = value_of(&call, "value", &value)?;
    if value.is_null() {
        return Err(call.error(format_args!("`value` is nothing: remove `{key}` with `state.delete`")));
    }
    storage.done(&call, StateOperation::CompareAndSwap { key, expected, value }).await
}

async fn list_push(call: Call, storage: Rc<Storage>, (key, value): (Value, Value)) -> mlua::Result<f64> {
    let key = key_of(&call, "key", &key)?;
    let value = value_of(&call, "value", &value)?;
    if value.is_null() {
        return Err(call.error("`value` is nothing, which no list holds"));
    }
    storage.number(&call, StateOperation::Push { key, value }).await
}

async fn list_pop(call: Call, storage: Rc<Storage>, key: Value) -> mlua::Result<Value> {
    let key = key_of(&call, "key", &key)?;
    match storage.ask(&call, StateOperation::Pop { key }).await? {
        StateReply::Value(value) => value.map_or(Ok(Value::Nil), |value| to_lua(&call.lua, &value)),
        other => Err(strange(&call, &other)),
    }
}

async fn list_length(call: Call, storage: Rc<Storage>, key: Value) -> mlua::Result<usize> {
    let key = key_of(&call, "key", &key)?;
    match storage.value(&call, key.clone()).await? {
        None => Ok(0),
        Some(Json::Array(list)) => Ok(list.len()),
        Some(_) => Err(call.error(format_args!("`{key}` holds no list: use another key"))),
    }
}

async fn append(call: Call, storage: Rc<Storage>, (key, text): (Value, Value)) -> mlua::Result<f64> {
    let key = key_of(&call, "key", &key)?;
    let text = call.text("text", &text)?;
    storage.number(&call, StateOperation::Append { key, text }).await
}

async fn stats(call: Call, storage: Rc<Storage>, (): ()) -> mlua::Result<Table> {
    let StateReply::Stats(stats) = storage.ask(&call, StateOperation::Stats).await? else {
        return Err(call.error("the store gave an answer to another question"));
    };
    let table = call.lua.create_table()?;
    table.raw_set("total_keys", stats.keys)?;
    table.raw_set("total_size", stats.bytes)?;
    table.raw_set("last_modified", stats.modified.map(|at| at.as_duration().as_secs()))?;
    table.raw_set("backend", "redb")?;
    Ok(table)
}

fn key_of(call: &Call, argument: &str, key: &Value) -> mlua::Result<String> {
    let key = call.text(argument, key)?;
    if key.is_empty() || STATE_KEY_BYTES_MAX < key.len() {
        return Err(call.error(format_args!("`{argument}` takes 1 to {STATE_KEY_BYTES_MAX} bytes, got {}", key.len())));
    }
    Ok(key)
}

fn value_of(call: &Call, argument: &str, value: &Value) -> mlua::Result<Json> {
    let json = to_json(&call.lua, value, Foreign::Refuse)
        .map_err(|error| call.error(format_args!("`{argument}`: {error}")))?;
    let bytes = json.to_string().len();
    if STATE_VALUE_BYTES_MAX < bytes {
        return Err(call.error(format_args!("`{argument}` takes {STATE_VALUE_BYTES_MAX} bytes at most, got {bytes}")));
    }
    Ok(json)
}

impl Storage {
    /// Asks the host; in a run that only checks, what would be written stays here.
    async fn ask(&self, call: &Call, operation: StateOperation) -> mlua::Result<StateReply> {
        let host = Rc::clone(&call.context.host);
        let reply =
            if call.checking() { self.overlay.apply(&host, operation).await } else { host.state(operation).await };
        reply.map_err(|error| call.error(error))
    }

    async fn done(&self, call: &Call, operation: StateOperation) -> mlua::Result<bool> {
        match self.ask(call, operation).await? {
            StateReply::Done(done) => Ok(done),
            other => Err(strange(call, &other)),
        }
    }

    async fn number(&self, call: &Call, operation: StateOperation) -> mlua::Result<f64> {
        match self.ask(call, operation).await? {
            StateReply::Number(number) => Ok(number),
            other => Err(strange(call, &other)),
        }
    }

    async fn value(&self, call: &Call, key: String) -> mlua::Result<Option<Json>> {
        match self.ask(call, StateOperation::Get { key }).await? {
            StateReply::Value(value) => Ok(value),
            other => Err(strange(call, &other)),
        }
    }

    async fn place(&self, call: &Call, operation: StateOperation) -> mlua::Result<Place> {
        match self.ask(call, operation).await? {
            StateReply::Place(place) => Ok(place),
            other => Err(strange(call, &other)),
        }
    }

    /// The keys that begin with a text, or that fit it where it has a `*`.
    async fn matching(&self, call: &Call, pattern: &Value) -> mlua::Result<Vec<(String, Json)>> {
        let pattern = call.optional_text("pattern", pattern)?.unwrap_or_default();
        let prefix = pattern.split('*').next().unwrap_or_default().to_owned();
        let entries = match self.ask(call, StateOperation::Keys { prefix }).await? {
            StateReply::Keys(entries) => entries,
            other => return Err(strange(call, &other)),
        };
        let fits = |key: &str| !pattern.contains('*') || star::fits(&pattern, key);
        Ok(entries.into_iter().filter(|(key, _)| fits(key)).collect())
    }
}

fn strange(call: &Call, reply: &StateReply) -> mlua::Error {
    call.error(format_args!("the store gave an answer to another question: {reply:?}"))
}
