//! Tables in tables: merged, flattened, and reached by paths such as `web.ports.1`.

use mlua::{IntoLuaMulti, Lua, MultiValue, Table, Value};
use serde_json::{Map, Value as Json};

use super::{Answer, Call};
use crate::{
    limits::VALUE_DEPTH_MAX,
    vm::convert::{Foreign, to_json, to_lua},
};

const SEPARATOR: &str = ".";

/// A new table: the second wins, tables are merged, lists are replaced.
pub(super) fn deep_merge(call: &Call, (a, b): &(Value, Value)) -> mlua::Result<MultiValue> {
    let (mut merged, added) = (json(call, "a", a)?, json(call, "b", b)?);
    merge(&mut merged, added);
    twice(call, to_lua(&call.lua, &merged)?)
}

/// What was made, as the first value and as the second: files take the first for it, or for a sign that it went well
/// before the second.
pub(super) fn twice(call: &Call, made: Value) -> mlua::Result<MultiValue> {
    (made.clone(), made).into_lua_multi(&call.lua)
}

fn merge(into: &mut Json, from: Json) {
    match (into, from) {
        (Json::Object(into), Json::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Json::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// One level: `{a = {b = 1}}` becomes `{["a.b"] = 1}`.
pub(super) fn flatten(call: &Call, (table, separator): &(Value, Value)) -> mlua::Result<Value> {
    let separator = path_separator(call, separator)?;
    let mut flat = Map::new();
    flatten_into(&mut flat, String::new(), json(call, "table", table)?, &separator);
    to_lua(&call.lua, &Json::Object(flat))
}

fn flatten_into(flat: &mut Map<String, Json>, path: String, value: Json, separator: &str) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}{separator}{key}") };
    match value {
        Json::Object(object) if !object.is_empty() => {
            for (key, value) in object {
                flatten_into(flat, below(&key), value, separator);
            }
        }
        Json::Array(list) if !list.is_empty() => {
            for (index, value) in list.into_iter().enumerate() {
                flatten_into(flat, below(&(index + 1).to_string()), value, separator);
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) | Json::Object(_) => {
            flat.insert(path, value);
        }
    }
}

/// The table that [`flatten`] was given, lists as tables with numbers for keys.
pub(super) fn unflatten(call: &Call, (table, separator): &(Value, Value)) -> mlua::Result<MultiValue> {
    let separator = path_separator(call, separator)?;
    let table = call.table("table", table)?;
    let root = call.lua.create_table()?;
    let mut entries = Vec::new();
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        entries.push((call.text("key", &key)?, value));
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (path, value) in entries {
        if let Err(error) = put(call, &root, &path, &separator, &value)? {
            return (false, error).into_lua_multi(&call.lua);
        }
    }
    twice(call, Value::Table(root))
}

pub(super) fn get_path(call: &Call, (table, path, separator): &(Value, Value, Value)) -> mlua::Result<Value> {
    let separator = path_separator(call, separator)?;
    let mut at = Value::Table(call.table("table", table)?);
    for part in call.text("path", path)?.split(&separator) {
        let Value::Table(table) = at else { return Ok(Value::Nil) };
        at = table.get(key_of(&table, part)?)?;
    }
    Ok(at)
}

/// The table itself, changed; tables on the way are made.
pub(super) fn set_path(call: &Call, (table, path, value, separator): &(Value, Value, Value, Value)) -> Answer<Table> {
    let separator = path_separator(call, separator)?;
    let table = call.table("table", table)?;
    let path = call.text("path", path)?;
    Ok(put(call, &table, &path, &separator, value)?.map(|()| table))
}

fn put(call: &Call, root: &Table, path: &str, separator: &str, value: &Value) -> mlua::Result<Result<(), String>> {
    let parts: Vec<&str> = path.split(separator).collect();
    let Some((last, way)) = parts.split_last() else { return Ok(Ok(())) };
    if VALUE_DEPTH_MAX < parts.len() {
        return Ok(Err(format!("{}: a path has {VALUE_DEPTH_MAX} parts at most", call.name)));
    }
    let mut at = root.clone();
    for part in way {
        let key = key_of(&at, part)?;
        let below = at.get::<Value>(&key)?;
        at = match below.as_table() {
            Some(below) => below.clone(),
            None if below.is_nil() => {
                let below = call.lua.create_table()?;
                at.set(key, &below)?;
                below
            }
            None => return Ok(Err(format!("{}: `{part}` in `{path}` is no table", call.name))),
        };
    }
    at.set(key_of(&at, last)?, value).map(Ok)
}

/// A part of a path as a key: a number is one where the table has no such name.
fn key_of(table: &Table, part: &str) -> mlua::Result<Key> {
    match part.parse::<i64>() {
        Ok(index) if !table.contains_key(part)? => Ok(Key::Index(index)),
        _ => Ok(Key::Name(part.to_owned())),
    }
}

enum Key {
    Index(i64),
    Name(String),
}

impl mlua::IntoLua for &Key {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        match self {
            Key::Index(index) => index.into_lua(lua),
            Key::Name(name) => name.as_str().into_lua(lua),
        }
    }
}

impl mlua::IntoLua for Key {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        (&self).into_lua(lua)
    }
}

fn path_separator(call: &Call, separator: &Value) -> mlua::Result<String> {
    match call.optional_text("separator", separator)? {
        Some(text) if text.is_empty() => Err(call.error("`separator` is empty")),
        text => Ok(text.unwrap_or_else(|| SEPARATOR.to_owned())),
    }
}

fn json(call: &Call, argument: &str, table: &Value) -> mlua::Result<Json> {
    let table = Value::Table(call.table(argument, table)?);
    to_json(&call.lua, &table, Foreign::Refuse).map_err(|error| call.error(error))
}
