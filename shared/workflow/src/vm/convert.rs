//! Between Lua's values and JSON's.
//!
//! An array is a table whose keys are 1 to n; an empty table is an object, unless it came from a JSON array.
//! JSON's null becomes nil, so a key that holds it is missing in Lua, unless a caller wants it kept as a value of its own.

use mlua::{AnyUserData, Lua, LuaSerdeExt, MetaMethod, Table, Value};
use serde_json::{Map, Number, Value as Json};

use crate::limits::{VALUE_BYTES_MAX, VALUE_DEPTH_MAX};

/// What a value costs besides its text, in bytes of JSON in memory.
const VALUE_COST_BYTES: usize = 32;
/// The largest whole number that a float holds exactly together with all below it.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// The same as an integer.
const EXACT_SIZE_MAX: u64 = 1 << 53;

/// The field of a metatable that names the field that the table is in JSON.
pub(crate) const JSON_FIELD: &str = "__json";

/// What to do with functions, coroutines and other things that JSON has no name for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// Leave them out.
    Drop,
    /// Refuse the whole value.
    Refuse,
}

/// What JSON's null becomes in Lua.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Null {
    /// Nil, so that a key that holds it is missing.
    Missing,
    /// The value `json.null`, which is written as null again.
    Kept,
}

/// Why a Lua value cannot be written as JSON.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ConvertError {
    /// Something JSON has no name for.
    #[error("a {kind} cannot be written as JSON{}", place(at))]
    Foreign {
        /// Its type.
        kind: String,
        /// The keys that lead to it.
        at: String,
    },
    /// Tables in tables in tables, or a table in itself.
    #[error("tables are nested more than {VALUE_DEPTH_MAX} deep{}", place(at))]
    TooDeep {
        /// The keys that lead there.
        at: String,
    },
    /// A table that holds others again and again is small in Lua and endless in JSON.
    #[error("the value would take more than {VALUE_BYTES_MAX} bytes as JSON")]
    TooLarge,
    /// The machine itself failed.
    #[error("cannot read a table")]
    Machine(#[source] mlua::Error),
}

/// Where a conversion is, and how much it may still make.
struct Walk {
    /// The keys that lead to where it is.
    path: Vec<String>,
    bytes_left: usize,
}

impl Default for Walk {
    fn default() -> Self {
        Self { path: Vec::new(), bytes_left: VALUE_BYTES_MAX }
    }
}

impl Walk {
    fn spend(&mut self, bytes: usize) -> Result<(), ConvertError> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(ConvertError::TooLarge)?;
        Ok(())
    }
}

/// A Lua value as JSON.
///
/// # Errors
///
/// When it is nested too deep, or holds what JSON cannot and `foreign` refuses that.
pub(crate) fn to_json(lua: &Lua, value: &Value, foreign: Foreign) -> Result<Json, ConvertError> {
    Ok(json(lua, value, foreign, &mut Walk::default())?.unwrap_or(Json::Null))
}

/// A table as a JSON object; its list part, if any, gets its numbers as keys.
///
/// # Errors
///
/// As [`to_json`].
pub(crate) fn to_object(lua: &Lua, table: &Table, foreign: Foreign) -> Result<Map<String, Json>, ConvertError> {
    object(lua, table, foreign, &mut Walk::default())
}

/// A JSON value as Lua's.
///
/// # Errors
///
/// When the machine is out of memory, or the value is nested too deep.
pub(crate) fn to_lua(lua: &Lua, value: &Json) -> mlua::Result<Value> {
    nested(lua, value, Null::Missing, 0)
}

/// As [`to_lua`], with a choice of what null becomes.
///
/// # Errors
///
/// As [`to_lua`].
pub(crate) fn to_lua_with(lua: &Lua, value: &Json, null: Null) -> mlua::Result<Value> {
    nested(lua, value, null, 0)
}

/// A JSON object as a table.
///
/// # Errors
///
/// As [`to_lua`].
pub(crate) fn object_to_lua(lua: &Lua, object: &Map<String, Json>) -> mlua::Result<Table> {
    table(lua, object, Null::Missing, 0)
}

fn nested(lua: &Lua, value: &Json, null: Null, depth: usize) -> mlua::Result<Value> {
    if VALUE_DEPTH_MAX < depth {
        return Err(mlua::Error::external(ConvertError::TooDeep { at: String::new() }));
    }
    Ok(match value {
        Json::Null => match null {
            Null::Missing => Value::Nil,
            Null::Kept => Value::NULL,
        },
        Json::Bool(value) => Value::Boolean(*value),
        Json::Number(number) => match digits(number) {
            Some(digits) => Value::String(lua.create_string(digits)?),
            None => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(lua.create_string(text)?),
        Json::Array(items) => {
            let list = lua.create_table_with_capacity(items.len(), 0)?;
            for (at, item) in items.iter().enumerate() {
                list.raw_set(at + 1, nested(lua, item, null, depth + 1)?)?;
            }
            if items.is_empty() {
                list.set_metatable(Some(lua.array_metatable()))?;
            }
            Value::Table(list)
        }
        Json::Object(object) => Value::Table(table(lua, object, null, depth)?),
    })
}

/// The text of a whole number that Lua cannot hold exactly: it becomes that.
fn digits(number: &Number) -> Option<String> {
    let size = number.as_i64().map(i64::unsigned_abs).or_else(|| number.as_u64())?;
    (EXACT_SIZE_MAX < size).then(|| number.to_string())
}

fn table(lua: &Lua, object: &Map<String, Json>, null: Null, depth: usize) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(0, object.len())?;
    for (key, value) in object {
        table.raw_set(key.as_str(), nested(lua, value, null, depth + 1)?)?;
    }
    Ok(table)
}

/// `None` = left out.
fn json(lua: &Lua, value: &Value, foreign: Foreign, walk: &mut Walk) -> Result<Option<Json>, ConvertError> {
    walk.spend(VALUE_COST_BYTES)?;
    match value {
        Value::Nil => Ok(Some(Json::Null)),
        Value::LightUserData(pointer) if pointer.0.is_null() => Ok(Some(Json::Null)),
        Value::Boolean(value) => Ok(Some(Json::Bool(*value))),
        Value::Integer(number) => Ok(Some(Json::from(*number))),
        Value::Number(value) => match number(*value) {
            Some(value) => Ok(Some(Json::Number(value))),
            None => unnamed("number that is not finite", foreign, walk),
        },
        Value::String(text) => {
            walk.spend(text.as_bytes().len())?;
            Ok(Some(Json::String(text.to_string_lossy())))
        }
        Value::Table(table) => {
            if VALUE_DEPTH_MAX <= walk.path.len() {
                return Err(ConvertError::TooDeep { at: at(&walk.path) });
            }
            if let Some(value) = spoken(table).map_err(ConvertError::Machine)? {
                // One more level: the field may be the table itself.
                walk.path.push(String::new());
                let value = json(lua, &value, foreign, walk);
                walk.path.pop();
                return value;
            }
            if is_list(lua, table) {
                return list(lua, table, foreign, walk).map(Some);
            }
            object(lua, table, foreign, walk).map(|object| Some(Json::Object(object)))
        }
        Value::UserData(data) if speaks(data) => Ok(Some(Json::String(value.to_string().unwrap_or_default()))),
        other => unnamed(other.type_name(), foreign, walk),
    }
}

/// What a table that is an object stands for in JSON: its field that the `__json` of its metatable names.
fn spoken(table: &Table) -> mlua::Result<Option<Value>> {
    let Some(metatable) = table.metatable() else { return Ok(None) };
    match metatable.raw_get::<Value>(JSON_FIELD)? {
        Value::String(field) => table.raw_get(field).map(Some),
        _ => Ok(None),
    }
}

fn speaks(data: &AnyUserData) -> bool {
    data.metatable().is_ok_and(|metatable| metatable.contains(MetaMethod::ToString).unwrap_or(false))
}

fn is_list(lua: &Lua, table: &Table) -> bool {
    let length = table.raw_len();
    if length == 0 {
        return table.is_empty() && table.metatable().is_some_and(|metatable| metatable == lua.array_metatable());
    }
    // A list has as many keys as its length says. Counting stops at the first key too many.
    table.pairs::<Value, Value>().take(length + 1).count() == length
}

fn list(lua: &Lua, table: &Table, foreign: Foreign, walk: &mut Walk) -> Result<Json, ConvertError> {
    let mut items = Vec::with_capacity(table.raw_len());
    for (at, item) in table.sequence_values::<Value>().enumerate() {
        walk.path.push((at + 1).to_string());
        items.extend(json(lua, &item.map_err(ConvertError::Machine)?, foreign, walk)?);
        walk.path.pop();
    }
    Ok(Json::Array(items))
}

fn object(lua: &Lua, table: &Table, foreign: Foreign, walk: &mut Walk) -> Result<Map<String, Json>, ConvertError> {
    let mut entries = Vec::new();
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair.map_err(ConvertError::Machine)?;
        let key = match &key {
            Value::String(text) => text.to_string_lossy(),
            Value::Integer(number) => number.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Boolean(value) => value.to_string(),
            other => {
                unnamed(&format!("{} as a key", other.type_name()), foreign, walk)?;
                continue;
            }
        };
        walk.spend(key.len())?;
        walk.path.push(key);
        let value = json(lua, &value, foreign, walk)?;
        entries.extend(walk.path.pop().zip(value));
    }
    // The order of a table is an accident of its hashes.
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(entries.into_iter().collect())
}

fn number(value: f64) -> Option<Number> {
    if value.fract() == 0.0 && value.abs() <= EXACT_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "a whole number that i64 holds")]
        return Some(Number::from(value as i64));
    }
    Number::from_f64(value)
}

fn unnamed(kind: &str, foreign: Foreign, walk: &Walk) -> Result<Option<Json>, ConvertError> {
    match foreign {
        Foreign::Drop => Ok(None),
        Foreign::Refuse => Err(ConvertError::Foreign { kind: kind.to_owned(), at: at(&walk.path) }),
    }
}

fn at(path: &[String]) -> String {
    const SHOWN_MAX: usize = 6;
    path.iter().take(SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(".")
}

fn place(at: &str) -> String {
    if at.is_empty() { String::new() } else { format!(" (at `{at}`)") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn eval(text: &str) -> (Lua, Value) {
        let lua = Lua::new();
        let value = lua.load(text).eval().expect(text);
        (lua, value)
    }

    #[test]
    fn values_become_json() {
        for (lua, expected) in [
            ("10 / 2", json!(5)),
            ("1 / 4", json!(0.25)),
            ("nil", json!(null)),
            ("{1, 2, {3}}", json!([1, 2, [3]])),
            ("{}", json!({})),
            ("{b = 1, a = {true, false}}", json!({"a": [true, false], "b": 1})),
            ("{[1] = 'x', [3] = 'y'}", json!({"1": "x", "3": "y"})),
            ("{1, 2, name = 'mixed'}", json!({"1": 1, "2": 2, "name": "mixed"})),
            ("{f = print, n = 1}", json!({"n": 1})),
            ("'\\255'", json!("\u{fffd}")),
        ] {
            let (machine, value) = eval(&format!("return {lua}"));
            assert_eq!(to_json(&machine, &value, Foreign::Drop).expect(lua), expected, "{lua}");
        }
    }

    #[test]
    fn what_has_no_json_is_refused_with_its_place() {
        for (lua, expected) in [
            ("return {a = {b = print}}", "a function cannot be written as JSON (at `a.b`)"),
            ("return 0/0", "a number that is not finite cannot be written as JSON"),
            (
                "local t = 'x' for i = 1, 60 do t = {t, t} end return t",
                "the value would take more than 16777216 bytes as JSON",
            ),
            (
                "local t = {} t.t = t return setmetatable(t, { __json = 't' })",
                "tables are nested more than 64 deep (at `.....`)",
            ),
            ("local t = {} t.t = t return t", "tables are nested more than 64 deep (at `t.t.t.t.t.t`)"),
        ] {
            let (machine, value) = eval(lua);
            assert_eq!(to_json(&machine, &value, Foreign::Refuse).expect_err(lua).to_string(), expected);
        }
    }

    #[test]
    fn large_whole_numbers_become_their_digits() {
        let lua = Lua::new();
        let json = "[9007199254740992, 9007199254740993, -9007199254740993, 18446744073709551615, 0.5]";
        let value = to_lua(&lua, &serde_json::from_str(json).expect("JSON")).expect("a value");
        let expected =
            json!([9007199254740992_u64, "9007199254740993", "-9007199254740993", "18446744073709551615", 0.5]);
        assert_eq!(to_json(&lua, &value, Foreign::Refuse).expect("JSON"), expected);
    }

    #[test]
    fn json_round_trips() {
        let lua = Lua::new();
        let value = json!({"list": [], "object": {}, "deep": [{"x": [1.5, "two", true]}]});
        let there = to_lua(&lua, &value).expect("a value");
        assert_eq!(to_json(&lua, &there, Foreign::Refuse).expect("JSON"), value);
    }
}
