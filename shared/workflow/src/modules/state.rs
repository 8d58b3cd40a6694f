//! `state`: values that outlive the run, kept by the host.

use std::rc::Rc;

use mlua::{IntoLuaMulti, Lua, MultiValue, Table, Value};
use serde_json::Value as Json;
use sloth_core::Millis;

use super::{
    Context,
    call::{Builder, Call, Gate},
};
use crate::{
    capability::Capability,
    host::{StateOperation, StateReply},
    vm::convert::{Foreign, object_to_lua, to_json, to_lua},
};

/// Most bytes of a key.
const KEY_BYTES_MAX: usize = 512;
/// Most bytes of a value, as JSON.
const VALUE_BYTES_MAX: usize = 1024 * 1024;

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let gate = Gate::Needs(Capability::State);
    let table = Builder::new(lua, context, "state")?
        .asynchronous("get", gate, get)?
        .asynchronous("set", gate, |call, (key, value, ttl): (Value, Value, Value)| set(call, key, value, ttl))?
        .asynchronous("set_with_ttl", gate, |call, (key, value, ttl): (Value, Value, Value)| async move {
            if ttl.is_nil() {
                return Err(call.error("`ttl` is missing: give seconds, or a duration like `30s`"));
            }
            set(call, key, value, ttl).await
        })?
        .asynchronous("delete", gate, |call, key: Value| async move {
            let key = key_of(&call, &key)?;
            ask_done(&call, StateOperation::Delete { key }).await
        })?
        .asynchronous("exists", gate, exists)?
        .alias("has", "exists")?
        .asynchronous("keys", gate, keys)?
        .asynchronous("list", gate, list)?
        .asynchronous("clear", gate, |call, ()| async move { ask_done(&call, StateOperation::Clear).await })?
        .asynchronous("increment", gate, |call, (key, by): (Value, Value)| add(call, key, by, 1.0))?
        .asynchronous("decrement", gate, |call, (key, by): (Value, Value)| add(call, key, by, -1.0))?
        .asynchronous("compare_swap", gate, compare_swap)?
        .asynchronous("stats", gate, stats)?
        .finish();
    Ok(table)
}

/// The value; without one the default, or nothing and why.
async fn get(call: Call, (key, default): (Value, Value)) -> mlua::Result<MultiValue> {
    let key = key_of(&call, &key)?;
    match ask_value(&call, key.clone()).await? {
        Some(value) => to_lua(&call.lua, &value)?.into_lua_multi(&call.lua),
        None if default.is_nil() => (Value::Nil, format!("key not found: {key}")).into_lua_multi(&call.lua),
        None => default.into_lua_multi(&call.lua),
    }
}

async fn set(call: Call, key: Value, value: Value, ttl: Value) -> mlua::Result<bool> {
    let key = key_of(&call, &key)?;
    let value = value_of(&call, "value", &value)?;
    if value.is_null() {
        return Err(call.error(format_args!("`value` is nothing: remove `{key}` with `state.delete`")));
    }
    let ttl = if ttl.is_nil() { None } else { Some(Millis::from(call.duration("ttl", &ttl)?)) };
    ask_done(&call, StateOperation::Set { key, value, ttl }).await?;
    Ok(true)
}

async fn exists(call: Call, key: Value) -> mlua::Result<bool> {
    let key = key_of(&call, &key)?;
    Ok(ask_value(&call, key).await?.is_some())
}

/// A table of keys to values.
async fn keys(call: Call, prefix: Value) -> mlua::Result<Table> {
    let entries = ask_keys(&call, &prefix).await?;
    object_to_lua(&call.lua, &entries.into_iter().collect())
}

/// A list of keys, in order.
async fn list(call: Call, prefix: Value) -> mlua::Result<Vec<String>> {
    let entries = ask_keys(&call, &prefix).await?;
    Ok(entries.into_iter().map(|(key, _)| key).collect())
}

async fn add(call: Call, key: Value, by: Value, sign: f64) -> mlua::Result<f64> {
    let key = key_of(&call, &key)?;
    let by = if by.is_nil() { 1.0 } else { call.number("n", &by)? };
    match ask(&call, StateOperation::Increment { key, by: sign * by }).await? {
        StateReply::Number(sum) => Ok(sum),
        other @ (StateReply::Value(_) | StateReply::Keys(_) | StateReply::Done(_)) => Err(strange(&call, &other)),
    }
}

/// Whether it held what was expected; nothing is expected of a key that must be missing.
async fn compare_swap(call: Call, (key, expected, value): (Value, Value, Value)) -> mlua::Result<bool> {
    let key = key_of(&call, &key)?;
    let expected = if expected.is_nil() { None } else { Some(value_of(&call, "expected", &expected)?) };
    let value = value_of(&call, "value", &value)?;
    ask_done(&call, StateOperation::CompareAndSwap { key, expected, value }).await
}

async fn stats(call: Call, (): ()) -> mlua::Result<Table> {
    let entries = ask_keys(&call, &Value::Nil).await?;
    let size: usize = entries.iter().map(|(key, value)| key.len() + value.to_string().len()).sum();
    let table = call.lua.create_table()?;
    table.raw_set("total_keys", entries.len())?;
    table.raw_set("total_size", size)?;
    Ok(table)
}

fn key_of(call: &Call, key: &Value) -> mlua::Result<String> {
    let key = call.text("key", key)?;
    if key.is_empty() || KEY_BYTES_MAX < key.len() {
        return Err(call.error(format_args!("`key` takes 1 to {KEY_BYTES_MAX} bytes, got {}", key.len())));
    }
    Ok(key)
}

fn value_of(call: &Call, argument: &str, value: &Value) -> mlua::Result<Json> {
    let json = to_json(&call.lua, value, Foreign::Refuse)
        .map_err(|error| call.error(format_args!("`{argument}`: {error}")))?;
    let bytes = json.to_string().len();
    if VALUE_BYTES_MAX < bytes {
        return Err(call.error(format_args!("`{argument}` takes {VALUE_BYTES_MAX} bytes at most, got {bytes}")));
    }
    Ok(json)
}

async fn ask(call: &Call, operation: StateOperation) -> mlua::Result<StateReply> {
    let host = Rc::clone(&call.context.host);
    host.state(operation).await.map_err(|error| call.error(error))
}

async fn ask_done(call: &Call, operation: StateOperation) -> mlua::Result<bool> {
    match ask(call, operation).await? {
        StateReply::Done(done) => Ok(done),
        other @ (StateReply::Value(_) | StateReply::Keys(_) | StateReply::Number(_)) => Err(strange(call, &other)),
    }
}

async fn ask_value(call: &Call, key: String) -> mlua::Result<Option<Json>> {
    match ask(call, StateOperation::Get { key }).await? {
        StateReply::Value(value) => Ok(value),
        other @ (StateReply::Keys(_) | StateReply::Number(_) | StateReply::Done(_)) => Err(strange(call, &other)),
    }
}

async fn ask_keys(call: &Call, prefix: &Value) -> mlua::Result<Vec<(String, Json)>> {
    let prefix = call.optional_text("prefix", prefix)?.unwrap_or_default();
    match ask(call, StateOperation::Keys { prefix }).await? {
        StateReply::Keys(entries) => Ok(entries),
        other @ (StateReply::Value(_) | StateReply::Number(_) | StateReply::Done(_)) => Err(strange(call, &other)),
    }
}

fn strange(call: &Call, reply: &StateReply) -> mlua::Error {
    call.error(format_args!("the store gave an answer to another question: {reply:?}"))
}
