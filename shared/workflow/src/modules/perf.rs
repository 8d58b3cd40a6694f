//! `perf`: how long functions take, and what memory the run has.

use std::rc::Rc;

use mlua::{Lua, Table, Value};

use super::{
    Context,
    call::{Builder, Call, Gate},
    goroutine,
};
use crate::{Level, Stream, vm::Builtin};

const MIB: f64 = 1024.0 * 1024.0;

static MEASURE: Builtin = Builtin::new(include_str!("perf/measure.luau"));

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let native = goroutine::waiting(lua, context, "perf")?
        .function("note", Gate::Open, |call, text: &String| {
            call.context.log(Stream::Log(Level::Info), text);
            Ok(())
        })?
        .function("warn", Gate::Open, |call, text: &String| {
            call.context.warn(text);
            Ok(())
        })?
        .function("memory", Gate::Open, memory)?
        .finish();
    let public: Table = MEASURE.function(lua)?.call(native)?;
    let mut builder = Builder::new(lua, context, "perf")?;
    for pair in public.pairs::<String, Value>() {
        let (name, value) = pair?;
        builder = builder.value(&name, value)?;
    }
    Ok(builder.finish())
}

/// What the Lua of the run holds now, and what it may hold.
fn memory(call: &Call, (): &()) -> mlua::Result<Table> {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let (used, max) = (call.lua.used_memory() as f64, call.context.limits.memory_bytes as f64);
    let rounded = |number: f64| (number * 100.0).round() / 100.0;
    let table = call.lua.create_table()?;
    table.raw_set("current_mb", rounded(used / MIB))?;
    table.raw_set("max_mb", rounded(max / MIB))?;
    table.raw_set("usage_percent", rounded(100.0 * used / max.max(1.0)))?;
    Ok(table)
}
