//! What the values mean that a task's function returns.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kinds of Lua values are the machine's, and most are refused alike"
)]

use std::io;

use mlua::{Lua, MultiValue, Table, Value};
use serde_json::{Map, Value as Json};

use crate::{
    dsl::Silence,
    modules::cut,
    vm::convert::{self, Foreign},
};

/// What a task's function said of its attempt.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// It did its work, or found none to do.
    Good { message: String, outputs: Map<String, Json> },
    /// It failed.
    Bad(String),
}

impl Verdict {
    /// Reads `ok, message, outputs`, or `{success = …, message = …, outputs = …}`, also with `changed` or `failed`.
    pub(super) fn read(
        lua: &Lua,
        values: &MultiValue,
        silence: Silence,
        message_bytes: usize,
        output_bytes: usize,
    ) -> Self {
        let value = |at: usize| values.get(at).unwrap_or(&Value::Nil);
        let (good, message, outputs) = match value(0) {
            Value::Boolean(good) => (*good, text(value(1)), value(2).as_table().cloned()),
            Value::Table(table) => match read_table(lua, table) {
                Ok(Some((good, message, outputs))) => {
                    (good, message.or_else(|| text(value(1))), outputs.or_else(|| value(1).as_table().cloned()))
                }
                Ok(None) => return Self::Bad(UNMARKED.to_owned()),
                Err(error) => return Self::Bad(format!("the outputs cannot be kept: {error}")),
            },
            Value::Nil if values.len() < 2 => match silence {
                Silence::Failure => return Self::Bad(NOTHING.to_owned()),
                Silence::Success => (true, None, None),
            },
            Value::Nil => (false, text(value(1)), None),
            other => {
                let kind = if other.is_number() || other.is_integer() { "number" } else { other.type_name() };
                return Self::Bad(format!(
                    "the command returned a {kind} first: return `true` or `false`, then a message, then a table of outputs"
                ));
            }
        };
        let message = cut(message.unwrap_or_default().trim_end(), message_bytes).to_owned();
        if !good {
            return Self::Bad(if message.is_empty() { wordless(value(0)) } else { message });
        }
        match outputs.map_or_else(|| Ok(Map::new()), |table| convert::to_object(lua, &table, Foreign::Drop)) {
            Ok(outputs) if outputs.is_empty() || bytes(&outputs) <= output_bytes => Self::Good { message, outputs },
            Ok(outputs) => Self::Bad(format!(
                "the outputs take {} bytes, and {output_bytes} is the most: write them to a file and name it in `artifacts`",
                bytes(&outputs)
            )),
            Err(error) => Self::Bad(format!("the outputs cannot be kept: {error}")),
        }
    }
}

/// What is said of a failure that says nothing of itself.
fn wordless(value: &Value) -> String {
    let Some(table) = value.as_table() else { return "the command returned `false`".to_owned() };
    if let Ok(Some(code)) = table.raw_get::<Option<f64>>("exit_code") {
        return format!("the command that it returned exited with code {code}");
    }
    let said = if table.raw_get::<Option<bool>>("success").ok().flatten() == Some(false) {
        "success = false"
    } else {
        "failed = true"
    };
    format!("the command returned `{{{said}}}` without a `message`")
}

/// What a task's function returned in vain: a message that is no text, outputs that are no table.
pub(super) fn in_vain(values: &MultiValue) -> Option<String> {
    if !matches!(values.front(), Some(Value::Boolean(_) | Value::Nil)) {
        return None;
    }
    let kind = |at: usize| values.get(at).map_or("nil", Value::type_name);
    if !matches!(kind(1), "nil" | "string" | "number" | "integer" | "table") {
        return Some(format!("the command returned a {} as its message, which takes a text", kind(1)));
    }
    if !matches!(kind(2), "nil" | "table") {
        return Some(format!("the command returned a {} as its outputs, which take a table", kind(2)));
    }
    None
}

/// Whether a command succeeded, its message and its outputs.
type Told = (bool, Option<String>, Option<Table>);

const UNMARKED: &str = "the command returned a table without `success`, `changed` or `failed`: return `true, message, outputs` or `{success = true, …}`";
const NOTHING: &str = "the command returned nothing: end it with `return true` or `return false, message`";

/// How many bytes outputs take as JSON.
pub(super) fn bytes(outputs: &Map<String, Json>) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Counting cannot fail, and maps of texts always can be written.
    let written = serde_json::to_writer(&mut count, outputs);
    written.map_or(usize::MAX, |()| count.0)
}

/// What a table with `success`, `failed` or `changed` says. Metatables are passed over: the result of a command answers
/// any key. Outputs that do not say themselves whether anything changed are told it by the table.
fn read_table(lua: &Lua, table: &Table) -> mlua::Result<Option<Told>> {
    let raw = |key: &str| table.raw_get::<Value>(key).unwrap_or(Value::Nil);
    let flag = |key: &str| raw(key).as_boolean();
    let changed = flag("changed");
    let good = flag("success").or_else(|| flag("failed").map(|failed| !failed)).or_else(|| changed.map(|_| true));
    let Some(good) = good else { return Ok(None) };
    let message = ["message", "error", "stderr"].into_iter().find_map(|key| text(&raw(key)).filter(|m| !m.is_empty()));
    let mut outputs = ["outputs", "data"].into_iter().find_map(|key| raw(key).as_table().cloned());
    if let Some(changed) = changed {
        let told = lua.create_table()?;
        told.raw_set("changed", changed)?;
        if let Some(outputs) = outputs {
            outputs.for_each(|key: Value, value: Value| told.raw_set(key, value))?;
        }
        outputs = Some(told);
    }
    Ok(Some((good, message.map(|message| message.trim_end().to_owned()), outputs)))
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.to_string_lossy()),
        Value::Integer(_) | Value::Number(_) => value.to_string().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn good(message: &str, outputs: Json) -> Verdict {
        let Json::Object(outputs) = outputs else { unreachable!("an object") };
        Verdict::Good { message: message.to_owned(), outputs }
    }

    #[test]
    fn returned_values_are_read_as_documented() {
        let bad = |message: &str| Verdict::Bad(message.to_owned());
        for (returned, expected) in [
            ("true", good("", json!({}))),
            ("true, 'done', {a = 1, f = print}", good("done", json!({"a": 1}))),
            ("true, {}, {a = 1}", good("", json!({"a": 1}))),
            ("false, 'no'", bad("no")),
            ("false", bad("the command returned `false`")),
            ("nil, 'no such host'", bad("no such host")),
            ("", bad(NOTHING)),
            ("nil", bad(NOTHING)),
            ("{success = true, message = 'ok', outputs = {n = 2}}", good("ok", json!({"n": 2}))),
            ("{success = true, data = {n = 2}}", good("", json!({"n": 2}))),
            ("{success = false, error = 'bad'}", bad("bad")),
            ("{success = true, stdout = 'x'}, nil, false", good("", json!({}))),
            ("{changed = true, message = 'made'}", good("made", json!({"changed": true}))),
            ("{changed = false, outputs = {n = 2}}", good("", json!({"changed": false, "n": 2}))),
            ("{changed = true, success = false, message = 'half'}", bad("half")),
            ("{failed = true, message = 'no'}", bad("no")),
            ("{failed = true}", bad("the command returned `{failed = true}` without a `message`")),
            ("{failed = true, message = ''}", bad("the command returned `{failed = true}` without a `message`")),
            ("{success = false, changed = false}", bad("the command returned `{success = false}` without a `message`")),
            ("{success = false, exit_code = 3, stderr = ''}", bad("the command that it returned exited with code 3")),
            ("{failed = false}", good("", json!({}))),
            ("{}", bad(UNMARKED)),
            (
                "'text'",
                bad(
                    "the command returned a string first: return `true` or `false`, then a message, then a table of outputs",
                ),
            ),
            (
                "true, '', {s = ('x'):rep(100)}",
                bad("the outputs take 108 bytes, and 50 is the most: write them to a file and name it in `artifacts`"),
            ),
            ("true, ('m'):rep(300)", good(&"m".repeat(200), json!({}))),
        ] {
            let lua = Lua::new();
            let values: MultiValue = lua.load(format!("return {returned}")).eval().expect(returned);
            assert_eq!(Verdict::read(&lua, &values, Silence::Failure, 200, 50), expected, "{returned}");
        }
    }
}
