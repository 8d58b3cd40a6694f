//! `log`: lines of the script's own, with a level and fields.

use std::rc::Rc;

use mlua::{Function, Lua, LuaSerdeExt, MultiValue, Table, Value, Variadic};

use super::{
    Context,
    call::{Builder, Call, Gate, number_of, tostring},
    cut,
};
use crate::{
    host::{Level, Stream},
    vm::SHOW,
};

/// How deep `log.table` shows tables in tables.
const SHOWN_DEPTH_MAX: usize = 8;
/// Past how many bytes `log.table` shows no further tables: one that holds another many times unfolds to much.
const SHOWN_BYTES_MAX: usize = 64 * 1024;
/// How many entries `log.table` shows of a table.
const SHOWN_ENTRIES_MAX: usize = 200;

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let levels = [
        ("debug", Level::Debug),
        ("info", Level::Info),
        ("success", Level::Info),
        ("warn", Level::Warn),
        ("warning", Level::Warn),
        ("error", Level::Error),
    ];
    let mut builder = Builder::new(lua, context, "log")?;
    for (name, level) in levels {
        builder = builder.function(name, Gate::Open, move |call, values: &MultiValue| line(call, level, values))?;
    }
    Ok(builder
        .function("fatal", Gate::Open, fatal)?
        .function("print", Gate::Open, print)?
        .function("table", Gate::Open, table)?
        .finish())
}

/// Tells why the script cannot go on, and raises it.
fn fatal(call: &Call, values: &MultiValue) -> mlua::Result<()> {
    let text = told(call, values)?;
    call.context.log(Stream::Log(Level::Error), &text);
    Err(mlua::Error::runtime(text))
}

fn line(call: &Call, level: Level, values: &MultiValue) -> mlua::Result<()> {
    call.context.log(Stream::Log(level), &told(call, values)?);
    Ok(())
}

/// A message, then fields as a table; anything else that follows is shown as it is.
fn told(call: &Call, values: &MultiValue) -> mlua::Result<String> {
    let mut text = shown(call, values.front().unwrap_or(&Value::Nil))?;
    for value in values.iter().skip(1) {
        if let Some(fields) = value.as_table().filter(|table| !table.has_metatable()) {
            for (name, value) in sorted(call, fields)? {
                text.push_str(&format!(" {name}={}", quoted(&shown(call, &value)?)));
            }
        } else {
            text.push_str(&format!(" {}", shown(call, value)?));
        }
    }
    Ok(text)
}

fn print(call: &Call, values: &Variadic<Value>) -> mlua::Result<()> {
    let texts = values.iter().map(|value| shown(call, value)).collect::<mlua::Result<Vec<_>>>()?;
    call.context.log(Stream::Stdout, &texts.join("\t"));
    Ok(())
}

fn table(call: &Call, (value, title): &(Value, Value)) -> mlua::Result<()> {
    let title = call.optional_text("title", title)?.unwrap_or_else(|| "Table Contents".to_owned());
    let mut text = format!("{title}:");
    dump(call, value, 1, &mut text)?;
    call.context.log(Stream::Log(Level::Info), &text);
    Ok(())
}

fn dump(call: &Call, value: &Value, depth: usize, text: &mut String) -> mlua::Result<()> {
    let Value::Table(table) = value else {
        text.push_str(&format!(" {}", shown(call, value)?));
        return Ok(());
    };
    let entries = sorted(call, table)?;
    for (name, value) in entries.iter().take(SHOWN_ENTRIES_MAX) {
        text.push_str(&format!("\n{}{name}:", "  ".repeat(depth)));
        if value.is_table() && (SHOWN_DEPTH_MAX <= depth || SHOWN_BYTES_MAX < text.len()) {
            text.push_str(" …");
        } else {
            dump(call, value, depth + 1, text)?;
        }
    }
    if SHOWN_ENTRIES_MAX < entries.len() {
        text.push_str(&format!("\n{}… {} more", "  ".repeat(depth), entries.len() - SHOWN_ENTRIES_MAX));
    }
    Ok(())
}

/// The entries with their names as texts: numbers in their order, then names in theirs.
fn sorted(call: &Call, table: &Table) -> mlua::Result<Vec<(String, Value)>> {
    let mut entries = Vec::new();
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        entries.push((number_of(&key), shown(call, &key)?, value));
    }
    entries.sort_by(|(a, a_name, _), (b, b_name, _)| {
        let numbers = a.unwrap_or(f64::INFINITY).total_cmp(&b.unwrap_or(f64::INFINITY));
        numbers.then_with(|| a_name.cmp(b_name))
    });
    Ok(entries.into_iter().map(|(_, name, value)| (name, value)).collect())
}

/// A value as a text; a table that says nothing of itself as its data.
fn shown(call: &Call, value: &Value) -> mlua::Result<String> {
    if value
        .as_table()
        .is_some_and(|table| !table.has_metatable() || table.metatable() == Some(call.lua.array_metatable()))
    {
        let show: Function = SHOW.function(&call.lua)?.call(())?;
        let text: String = show.call(value)?;
        let kept = cut(&text, SHOWN_BYTES_MAX);
        return Ok(if kept.len() < text.len() { format!("{kept}…") } else { text });
    }
    Ok(String::from_utf8_lossy(&tostring(&call.lua, value)?).into_owned())
}

fn quoted(text: &str) -> String {
    let plain = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '"' || c == '=');
    if plain { text.to_owned() } else { format!("{text:?}") }
}
