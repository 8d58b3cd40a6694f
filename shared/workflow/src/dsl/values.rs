//! The global `values`: what the run was given, and what the file says where it was given nothing.

use mlua::{Lua, Table, Value};

use super::argument::{Arguments, error, text};
use crate::{modules::Context, source::calls, vm::convert};

/// The names of the global.
const NAMES: [&str; 2] = ["values", "Values"];

/// Whether a run was given no values: null, or none of any name.
pub(crate) fn are_absent(values: &serde_json::Value) -> bool {
    values.is_null() || values.as_object().is_some_and(serde_json::Map::is_empty)
}

/// Makes the globals `values` and `Values`. They are nil where nothing was given, in a run as where the file is only
/// read, unless the file calls `values {…}`.
pub(crate) fn install(lua: &Lua, context: &Context, text: &str) -> mlua::Result<()> {
    let given = match &context.values {
        absent if are_absent(absent) && NAMES.iter().any(|name| calls(text, name)) => lua.create_table()?,
        absent if are_absent(absent) => return Ok(()),
        serde_json::Value::Object(object) => convert::object_to_lua(lua, object)?,
        other => {
            let given = convert::to_lua(lua, other)?;
            return NAMES.iter().try_for_each(|name| lua.globals().raw_set(*name, &given));
        }
    };
    give_methods(lua, &given)?;
    NAMES.iter().try_for_each(|name| lua.globals().raw_set(*name, &given))
}

/// What `require("values")` gives: the global, or a table without values that can be asked as it can.
pub(crate) fn required(lua: &Lua, (): ()) -> mlua::Result<Table> {
    if let Value::Table(given) = lua.globals().raw_get(NAMES[0])? {
        return Ok(given);
    }
    let none = lua.create_table()?;
    give_methods(lua, &none)?;
    Ok(none)
}

fn give_methods(lua: &Lua, given: &Table) -> mlua::Result<()> {
    let methods = lua.create_table()?;
    // Where there are no values, `values.get` looks into none.
    let own = given.clone();
    methods.raw_set("get", lua.create_function(move |lua, arguments| get(lua, &own, arguments))?)?;
    let metatable = lua.create_table()?;
    metatable.raw_set("__index", methods)?;
    metatable.raw_set(
        "__call",
        lua.create_function(|lua, (given, defaults): (Table, Value)| {
            let arguments = Arguments::one(lua, "values".to_owned(), "values", defaults);
            fill(&given, &arguments.table()?, 0)?;
            Ok(given)
        })?,
    )?;
    given.set_metatable(Some(metatable))
}

/// Says what the values are where the run was given none.
pub(super) fn default_to(lua: &Lua, defaults: &Table) -> mlua::Result<()> {
    let globals = lua.globals();
    let given: Value = globals.get(NAMES[0])?;
    if let Value::Table(given) = given {
        return fill(&given, defaults, 0);
    }
    NAMES.iter().try_for_each(|name| globals.raw_set(*name, defaults))
}

/// Tables are followed to this depth; deeper ones are taken whole.
const DEPTH_MAX: usize = 16;

/// Sets in `given` what only `defaults` has.
fn fill(given: &Table, defaults: &Table, depth: usize) -> mlua::Result<()> {
    for pair in defaults.pairs::<Value, Value>() {
        let (key, default) = pair?;
        match (given.raw_get::<Value>(&key)?, default) {
            (Value::Nil, default) => given.raw_set(key, default)?,
            // A list that was given is the list that is meant.
            (Value::Table(inner), Value::Table(default)) if depth < DEPTH_MAX && inner.raw_len() == 0 => {
                fill(&inner, &default, depth + 1)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// `values.get("a.b", default)`, and with `:`.
fn get(lua: &Lua, own: &Table, (first, second, third): (Value, Value, Value)) -> mlua::Result<Value> {
    let (given, path, default) = match first {
        Value::Table(given) => (given, second, third),
        path => (own.clone(), path, second),
    };
    match text(&path) {
        Some(path) => Ok(look_up(&given, &path)?.unwrap_or(default)),
        None => Err(error(lua, "values.get takes a path like `web.port`, then a default")),
    }
}

/// What is at `a.b.1`.
pub(super) fn look_up(table: &Table, path: &str) -> mlua::Result<Option<Value>> {
    let mut value = Value::Table(table.clone());
    for key in path.split('.') {
        let Value::Table(inner) = &value else { return Ok(None) };
        let mut found: Value = inner.raw_get(key)?;
        if let (true, Ok(at)) = (found.is_nil(), key.parse::<i64>()) {
            found = inner.raw_get(at)?;
        }
        value = found;
    }
    Ok(Some(value).filter(|value| !value.is_nil()))
}
