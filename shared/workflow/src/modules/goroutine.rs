//! `goroutine`: coroutines beside the task that share its upvalues, end with it and are preempted like it.
//!
//! What they wait on is written in Luau, in the files of this directory: its state is then the machine's, and freed
//! by it. From here come turns, time and the places of errors.

use std::{rc::Rc, time::Duration};

use mlua::{Function, IntoLuaMulti, Lua, MultiValue, Table, Value, Variadic};
use tokio::time::Instant;

use super::{
    Context,
    call::{self, Builder, Call, Gate},
    scope::Role,
};
use crate::vm::{Builtin, Fault};

/// The longest sleep: a year.
const SLEEP_MS_MAX: f64 = 365.0 * 24.0 * 60.0 * 60.0 * 1000.0;

static CORE: Builtin = Builtin::new(include_str!("goroutine/core.luau"));
static CHANNEL: Builtin = Builtin::new(include_str!("goroutine/channel.luau"));
static SYNC: Builtin = Builtin::new(include_str!("goroutine/sync.luau"));
static WORK: Builtin = Builtin::new(include_str!("goroutine/work.luau"));
static ASYNC: Builtin = Builtin::new(include_str!("goroutine/async.luau"));
static CONTEXT: Builtin = Builtin::new(include_str!("goroutine/context.luau"));

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let native = native(lua, context)?;
    let core = core(lua, &native)?;
    let channel: Table = CHANNEL.function(lua)?.call((&native, &core))?;
    let sync: Table = SYNC.function(lua)?.call((&native, &core))?;
    let work: Table = WORK.function(lua)?.call((&native, &core, &channel, &sync))?;
    let contexts: Table = CONTEXT.function(lua)?.call((&native, &core))?;
    let mut builder = Builder::new(lua, context, "goroutine")?.value("sleep", native.raw_get::<Function>("sleep")?)?;
    for part in [channel.raw_get("public")?, sync, work, contexts] {
        for pair in part.pairs::<String, Function>() {
            let (name, function) = pair?;
            builder = builder.value(&name, function)?;
        }
    }
    Ok(builder.alias("WaitGroup", "wait_group")?.finish())
}

/// `async`: the same for functions that are handed over together.
pub(super) fn async_module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let native = native(lua, context)?;
    let public: Table = ASYNC.function(lua)?.call((&native, core(lua, &native)?, super::find(lua, "goroutine")?))?;
    let mut builder = Builder::new(lua, context, "async")?;
    for pair in public.pairs::<String, Function>() {
        let (name, function) = pair?;
        builder = builder.value(&name, function)?;
    }
    Ok(builder.finish())
}

/// The helpers of modules that are written in Luau: queues, waiters, arguments, objects.
pub(super) fn core(lua: &Lua, native: &Table) -> mlua::Result<Table> {
    CORE.function(lua)?.call(native)
}

/// What modules that are written in Luau need to wait, in the name of `module`.
pub(super) fn waiting<'a>(lua: &'a Lua, context: &'a Rc<Context>, module: &'static str) -> mlua::Result<Builder<'a>> {
    let began = Instant::now();
    Builder::new(lua, context, module)?
        .asynchronous("sleep", Gate::Acting, sleep)?
        .function("block", Gate::Open, block)?
        .function("wake", Gate::Open, |call, id: &u64| Ok(call.context.current.wake(*id)))?
        .function("take_deadlock", Gate::Open, take_deadlock)?
        .function("describe", Gate::Open, |_, value: &Value| Ok(call::describe(value)))?
        .function("clock", Gate::Open, move |_, (): &()| Ok(milliseconds_since(began)))?
        .value("pending", Lua::poll_pending())
}

fn milliseconds_since(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1000.0
}

/// What the Luau part is given.
fn native(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let began = Instant::now();
    // Milliseconds since 1970 stay far below what a float holds exactly.
    #[expect(clippy::cast_precision_loss)]
    let epoch = context.host.now().as_u64() as f64;
    let table = waiting(lua, context, "goroutine")?
        .function("spawn", Gate::Open, spawn)?
        .function("kill", Gate::Open, |call, id: &u64| {
            call.context.current.kill(*id);
            Ok(())
        })?
        .function("scope", Gate::Open, |call, (): &()| Ok(call.context.current.get().map(|scope| scope.id.0)))?
        .function("warn", Gate::Open, |call, text: &String| {
            call.context.warn(text);
            Ok(())
        })?
        .function("seconds", Gate::Open, seconds)?
        .function("epoch", Gate::Open, move |_, (): &()| Ok((epoch + milliseconds_since(began)).floor()))?
        .finish();
    Ok(table)
}

/// The span that an argument of the function `name` says.
pub(super) fn seconds(call: &Call, (name, argument, value): &(String, String, Value)) -> mlua::Result<f64> {
    let call = Call { name: name.as_str().into(), ..call.clone() };
    call.duration(argument, value).map(|span| span.as_secs_f64())
}

async fn sleep(call: Call, ms: Value) -> mlua::Result<()> {
    let ms = call.number("ms", &ms)?;
    // A sleep of less than nothing is none.
    let ms = ms.clamp(0.0, SLEEP_MS_MAX);
    tokio::time::sleep(Duration::from_secs_f64(ms / 1000.0)).await;
    Ok(())
}

/// Starts a function with the arguments that follow it, in the name of the function that the script called. Its error
/// is a warning of the task, not its failure.
fn spawn(call: &Call, (name, function, arguments): &(String, Function, Variadic<Value>)) -> mlua::Result<u64> {
    call.context.acting(name)?;
    let (function, arguments) = (function.clone(), MultiValue::from_iter(arguments.iter().cloned()));
    let context = Rc::clone(&call.context);
    let max = context.limits.goroutines_max;
    let lua = call.lua.weak();
    call.context.current.spawn(max, async move {
        let end = function.call_async::<MultiValue>(arguments).await;
        if let Err(error) = end {
            let fault = lua.try_upgrade().map_or_else(|| Fault::from(&error), |lua| Fault::of(&lua, &error));
            context.warn(&format!("a goroutine failed: {}", fault.text()));
        }
    })
}

/// Begins a wait in the name of the function that the script called; answers who waits.
fn block(call: &Call, name: &String) -> mlua::Result<u64> {
    call.context.acting(name)?;
    call.context.current.block().ok_or_else(|| mlua::Error::runtime(format!("{name}: only a task can wait")))
}

/// Which time it is that all wait for each other, and who does; nothing when that is not so.
fn take_deadlock(call: &Call, id: &u64) -> mlua::Result<MultiValue> {
    let Some(deadlock) = call.context.current.take_deadlock(*id) else { return Ok(MultiValue::new()) };
    let list = call.lua.create_table()?;
    for who in &deadlock.waiting {
        let entry = call.lua.create_table()?;
        entry.raw_set("id", who.id)?;
        entry.raw_set("main", who.role == Role::Main)?;
        entry.raw_set("task", who.task.as_deref())?;
        list.raw_push(entry)?;
    }
    (deadlock.number, list).into_lua_multi(&call.lua)
}
