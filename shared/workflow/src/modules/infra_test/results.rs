//! Tests that are collected instead of raised.

use mlua::{Lua, MultiValue, Table, Value};

use crate::{
    Level, Stream,
    modules::{
        call::{Call, Done},
        spoken::{Voice, speak},
    },
    vm::Fault,
};

/// Most tests that a run collects.
const RESULTS_MAX: usize = 10_000;

/// They live in the machine, and so as long as the run.
#[derive(Default)]
struct Results(Vec<(String, Result<(), String>)>);

impl Results {
    fn with<T>(lua: &Lua, f: impl FnOnce(&mut Self) -> T) -> T {
        if let Some(mut results) = lua.app_data_mut::<Self>() {
            return f(&mut results);
        }
        let mut results = Self::default();
        let result = f(&mut results);
        lua.set_app_data(results);
        result
    }
}

/// Calls a function and notes whether it went well: `true`, or `false` and why.
pub(super) async fn check(call: Call, (name, function): (Value, Value)) -> mlua::Result<Done> {
    let name = call.text("name", &name)?;
    let Value::Function(function) = function else {
        return Err(call.expected("fn", "a function", &function));
    };
    let outcome = match function.call_async::<MultiValue>(()).await {
        Ok(values) => verdict(&values),
        Err(error) => Err(Fault::of(&call.lua, &error).message),
    };
    let (level, line) = match &outcome {
        Ok(()) => (Level::Info, format!("ok: {name}")),
        Err(reason) => (Level::Error, format!("not ok: {name}: {reason}")),
    };
    call.context.log(Stream::Log(level), &line);
    let is_kept = Results::with(&call.lua, |results| {
        let is_kept = results.0.len() < RESULTS_MAX;
        if is_kept {
            results.0.push((name, outcome.clone()));
        }
        is_kept
    });
    if !is_kept {
        return Err(call.error(format_args!("a run collects {RESULTS_MAX} tests at most")));
    }
    Ok(Done(outcome))
}

/// What the tests so far came to. Where a text is wanted, it is its `message`.
pub(super) fn report(call: &Call, (): &()) -> mlua::Result<Table> {
    let lua = &call.lua;
    let table = lua.create_table()?;
    let list = Results::with(lua, |results| results.0.clone());
    let total = list.len();
    let failed = list.iter().filter(|(_, outcome)| outcome.is_err()).count();
    let names: Vec<_> =
        list.iter().filter(|(_, outcome)| outcome.is_err()).map(|(name, _)| format!("`{name}`")).collect();
    let rows = lua.create_table()?;
    for (name, outcome) in list {
        let row = lua.create_table()?;
        row.raw_set("name", name)?;
        row.raw_set("ok", outcome.is_ok())?;
        row.raw_set("error", outcome.err())?;
        rows.raw_push(row)?;
    }
    let failures = if names.is_empty() { String::new() } else { format!(", failed: {}", names.join(", ")) };
    table.raw_set("total", total)?;
    table.raw_set("passed", total - failed)?;
    table.raw_set("failed", failed)?;
    table.raw_set("ok", failed == 0)?;
    table.raw_set("results", rows)?;
    table.raw_set("message", format!("{} of {total} tests passed{failures}", total - failed))?;
    speak(lua, &table, Voice::Message)?;
    Ok(table)
}

/// A function that gives `false`, and perhaps why, says that it did not go well.
fn verdict(values: &MultiValue) -> Result<(), String> {
    match values.front() {
        Some(Value::Boolean(false)) => {
            let why = values.get(1).and_then(Value::as_string).map(|why| why.to_string_lossy());
            Err(why.unwrap_or_else(|| "it gave `false`".to_owned()))
        }
        Some(_) | None => Ok(()),
    }
}
