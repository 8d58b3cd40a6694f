//! `validate`: whether values are what a workflow needs them to be.

mod format;
mod rule;

use std::rc::Rc;

use mlua::{IntoLuaMulti, Lua, Table, Value};

pub(super) use format::Format;

use self::rule::{Rule, Walk};
use super::{
    Context,
    call::{Builder, Call, Gate, describe},
    options::Options,
    regex,
};
use crate::{limits::VALUE_DEPTH_MAX, vm::Builtin};

const OPTIONS: [&str; 1] = ["strict"];

/// Lets a list of texts be joined with a text.
static SPOKEN: Builtin = Builtin::new(
    r#"
local list = ...
local metatable = {}
local function text(value)
    if value == list then return table.concat(list, "; ") end
    return tostring(value)
end
metatable.__tostring = text
metatable.__concat = function(left, right) return text(left) .. text(right) end
return setmetatable(list, table.freeze(metatable))
"#,
);

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let mut builder = Builder::new(lua, context, "validate")?;
    for (format, name, description) in Format::ALL {
        builder = builder.function(name, Gate::Open, move |call, value: &Value| {
            let fits = plain(value)?.is_some_and(|text| format.check(&text));
            Ok(verdict(fits, || format!("{} is not {description}", named(call, value))))
        })?;
    }
    let table = builder
        .function("matches", Gate::Open, |call, (value, pattern): &(Value, Value)| {
            let pattern = call.text("pattern", pattern)?;
            let pattern = regex::compile(&pattern).map_err(|reason| call.error(reason))?;
            let fits = plain(value)?.is_some_and(|text| pattern.is_match(&text));
            Ok(verdict(fits, || format!("{} does not match `{pattern}`", named(call, value))))
        })?
        .function("range", Gate::Open, |call, (value, min, max): &(Value, Value, Value)| {
            let (min, max) = (call.number("min", min)?, call.number("max", max)?);
            let fits = super::call::number_of(value).is_some_and(|number| min <= number && number <= max);
            Ok(verdict(fits, || format!("{} is not a number from {min} to {max}", named(call, value))))
        })?
        .function("schema", Gate::Open, |call, arguments: &(Value, Value, Value)| match checked(call, arguments)? {
            Ok(values) => (true, values).into_lua_multi(&call.lua),
            Err(faults) => (false, spoken(&call.lua, faults)?).into_lua_multi(&call.lua),
        })?
        .function("ensure", Gate::Open, |call, arguments: &(Value, Value, Value)| {
            checked(call, arguments)?.map_err(|faults| call.error(faults.join("; ")))
        })?
        .finish();
    Ok(table)
}

/// A copy of the values with what the schema gives where they say nothing, or everything that is wrong with them.
fn checked(call: &Call, (values, schema, options): &(Value, Value, Value)) -> mlua::Result<Result<Table, Vec<String>>> {
    let options = Options::new(call, options, &OPTIONS)?;
    let fields = rule::fields(call, "schema", &call.table("schema", schema)?, VALUE_DEPTH_MAX)?;
    let strict = options.flag("strict")?.unwrap_or(false);
    let whole = Rule::of_fields(fields, strict);
    let mut walk = Walk::new(call);
    let values = if values.is_nil() { Value::Table(call.lua.create_table()?) } else { values.clone() };
    let copy = whole.check(&mut walk, &values)?;
    match (copy, walk.faults()) {
        (Value::Table(copy), faults) if faults.is_empty() => Ok(Ok(copy)),
        (_, faults) => Ok(Err(faults)),
    }
}

/// The faults as a list that speaks as one text. Unlike other results that speak, its length is that of the list.
fn spoken(lua: &Lua, faults: Vec<String>) -> mlua::Result<Table> {
    let list = lua.create_sequence_from(faults)?;
    SPOKEN.function(lua)?.call(list)
}

/// `true`, or `false` and why.
fn verdict(fits: bool, why: impl FnOnce() -> String) -> super::call::Done {
    super::call::Done(if fits { Ok(()) } else { Err(why()) })
}

/// The text of a string or a number; anything else has no form.
fn plain(value: &Value) -> mlua::Result<Option<String>> {
    if let Some(number) = super::call::number_of(value) {
        return Ok(Some(number.to_string()));
    }
    Ok(value.as_string().and_then(|text| text.to_str().ok().map(|text| text.to_owned())))
}

fn named(call: &Call, value: &Value) -> String {
    format!("{}: {}", call.name, describe(value))
}
