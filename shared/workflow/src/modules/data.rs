//! `json`, `yaml` and `data`: values as text and back, and tables by paths.

use std::{fmt::Display, rc::Rc};

use mlua::{IntoLuaMulti, Lua, MultiValue, Table, Value};
use serde_json::{Map, Value as Json};

use super::{
    Context,
    call::{Builder, Call, Gate},
    csv,
};
use crate::{
    limits::VALUE_DEPTH_MAX,
    vm::convert::{Foreign, to_json, to_lua},
};

/// Most bytes of a text that is read or written.
const TEXT_BYTES_MAX: usize = 32 * 1024 * 1024;
const SEPARATOR: &str = ".";

/// A value, or nothing and why.
type Answer<T = Value> = mlua::Result<Result<T, String>>;

/// Writes a value as a text.
type Encode = fn(&Json) -> Result<String, String>;
/// Reads a text.
type Decode = fn(&str) -> Result<Json, String>;

pub(super) fn json_module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let table = Builder::new(lua, context, "json")?
        .function("encode", Gate::Open, encoder(write_json))?
        .function("pretty", Gate::Open, encoder(write_pretty))?
        .function("decode", Gate::Open, decoder(read_json))?
        .function("validate", Gate::Open, validator(read_json))?
        .finish();
    Ok(table)
}

pub(super) fn yaml_module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let table = Builder::new(lua, context, "yaml")?
        .function("encode", Gate::Open, encoder(write_yaml))?
        .function("decode", Gate::Open, decoder(read_yaml))?
        .function("validate", Gate::Open, validator(read_yaml))?
        .finish();
    Ok(table)
}

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let table = Builder::new(lua, context, "data")?
        .function("json_encode", Gate::Open, encoder(write_json))?
        .function("json_pretty", Gate::Open, encoder(write_pretty))?
        .alias("to_json", "json_pretty")?
        .function("json_decode", Gate::Open, decoder(read_json))?
        .alias("parse_json", "json_decode")?
        .function("json_validate", Gate::Open, validator(read_json))?
        .function("yaml_encode", Gate::Open, encoder(write_yaml))?
        .alias("to_yaml", "yaml_encode")?
        .function("yaml_decode", Gate::Open, decoder(read_yaml))?
        .alias("parse_yaml", "yaml_decode")?
        .function("yaml_validate", Gate::Open, validator(read_yaml))?
        .function("yaml_to_json", Gate::Open, |call, text: &Value| convert(call, text, read_yaml, write_json))?
        .function("json_to_yaml", Gate::Open, |call, text: &Value| convert(call, text, read_json, write_yaml))?
        .function("csv_parse", Gate::Open, csv_parse)?
        .function("csv_generate", Gate::Open, csv_generate)?
        .function("deep_merge", Gate::Open, deep_merge)?
        .function("flatten", Gate::Open, flatten)?
        .function("unflatten", Gate::Open, unflatten)?
        .function("get_path", Gate::Open, get_path)?
        .function("set_path", Gate::Open, set_path)?
        .finish();
    Ok(table)
}

fn encoder(write: Encode) -> impl Fn(&Call, &Value) -> Answer<String> {
    move |call, value| {
        Ok(to_json(&call.lua, value, Foreign::Refuse).map_err(said).and_then(|json| write(&json)).map_err(named(call)))
    }
}

fn decoder(read: Decode) -> impl Fn(&Call, &Value) -> Answer {
    move |call, text| {
        let text = call.text("text", text)?;
        Ok(read(&text).and_then(|json| to_lua(&call.lua, &json).map_err(said)).map_err(named(call)))
    }
}

/// `true`, or `false` and why.
fn validator(read: Decode) -> impl Fn(&Call, &Value) -> mlua::Result<(bool, Option<String>)> {
    move |call, text| {
        let text = call.text("text", text)?;
        Ok(match read(&text) {
            Ok(_) => (true, None),
            Err(error) => (false, Some(error)),
        })
    }
}

fn convert(call: &Call, text: &Value, read: Decode, write: Encode) -> Answer<String> {
    let text = call.text("text", text)?;
    Ok(read(&text).and_then(|json| write(&json)).map_err(named(call)))
}

fn read_json(text: &str) -> Result<Json, String> {
    serde_json::from_str(bounded(text)?).map_err(said)
}

fn read_yaml(text: &str) -> Result<Json, String> {
    // The YAML of today, where `no` is a text, and so is `0755`.
    let options =
        serde_saphyr::options! { strict_booleans: true, leading_zero_numbers_as_strings: true, with_snippet: false };
    serde_saphyr::from_str_with_options(bounded(text)?, options).map_err(said)
}

fn write_json(json: &Json) -> Result<String, String> {
    serde_json::to_string(json).map_err(said)
}

fn write_pretty(json: &Json) -> Result<String, String> {
    serde_json::to_string_pretty(json).map_err(said)
}

fn write_yaml(json: &Json) -> Result<String, String> {
    serde_saphyr::to_string(json).map_err(said)
}

fn bounded(text: &str) -> Result<&str, String> {
    if TEXT_BYTES_MAX < text.len() {
        return Err(format!("the text is larger than the {TEXT_BYTES_MAX} bytes it may have"));
    }
    Ok(text)
}

/// `true` and the rows, each a list of texts.
fn csv_parse(call: &Call, (text, separator): &(Value, Value)) -> mlua::Result<MultiValue> {
    let text = call.text("text", text)?;
    let separator = separator_of(call, separator)?;
    match bounded(&text).and_then(|text| csv::parse(text, separator)) {
        Ok(rows) => (true, rows).into_lua_multi(&call.lua),
        Err(error) => (false, format!("{}: {error}", call.name)).into_lua_multi(&call.lua),
    }
}

fn csv_generate(call: &Call, (rows, separator): &(Value, Value)) -> mlua::Result<String> {
    let separator = separator_of(call, separator)?;
    let mut text = String::new();
    for row in call.table("rows", rows)?.sequence_values::<Value>() {
        let mut cells = Vec::new();
        for cell in call.table("rows", &row?)?.sequence_values::<Value>() {
            let cell = cell?;
            cells.push(match cell.as_boolean() {
                Some(cell) => cell.to_string(),
                None => call.text("rows", &cell)?,
            });
        }
        csv::write(&mut text, &cells, separator);
    }
    Ok(text)
}

fn separator_of(call: &Call, separator: &Value) -> mlua::Result<char> {
    let text = call.optional_text("separator", separator)?.unwrap_or_else(|| ",".to_owned());
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(char), None) if !"\"\r\n".contains(char) => Ok(char),
        _ => Err(call.error(format_args!("`separator` takes one character, got `{text}`"))),
    }
}

/// `true` and a new table: the second wins, tables are merged, lists are replaced.
fn deep_merge(call: &Call, (a, b): &(Value, Value)) -> mlua::Result<(bool, Value)> {
    let (mut merged, added) = (json(call, "a", a)?, json(call, "b", b)?);
    merge(&mut merged, added);
    Ok((true, to_lua(&call.lua, &merged)?))
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
fn flatten(call: &Call, (table, separator): &(Value, Value)) -> mlua::Result<Value> {
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

/// `true` and the table that [`flatten`] was given, lists as tables with numbers for keys.
fn unflatten(call: &Call, (table, separator): &(Value, Value)) -> mlua::Result<MultiValue> {
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
    (true, root).into_lua_multi(&call.lua)
}

fn get_path(call: &Call, (table, path, separator): &(Value, Value, Value)) -> mlua::Result<Value> {
    let separator = path_separator(call, separator)?;
    let mut at = Value::Table(call.table("table", table)?);
    for part in call.text("path", path)?.split(&separator) {
        let Value::Table(table) = at else { return Ok(Value::Nil) };
        at = table.get(key_of(&table, part)?)?;
    }
    Ok(at)
}

/// The table itself, changed; tables on the way are made.
fn set_path(call: &Call, (table, path, value, separator): &(Value, Value, Value, Value)) -> Answer<Table> {
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

fn named(call: &Call) -> impl Fn(String) -> String + '_ {
    |error| format!("{}: {error}", call.name)
}

fn said(error: impl Display) -> String {
    error.to_string()
}
