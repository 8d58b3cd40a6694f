//! `goroutine`: coroutines beside the task that share its upvalues, end with it and are preempted like it.

use std::{rc::Rc, time::Duration};

use mlua::{Function, Lua, MultiValue, Table, Value, Variadic};
use tokio::sync::watch;

use super::{
    Context,
    call::{Builder, Call, Gate},
};
use crate::vm::Fault;

/// The longest sleep: a year.
const SLEEP_MS_MAX: u64 = 365 * 24 * 60 * 60 * 1000;

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let table = Builder::new(lua, context, "goroutine")?
        .asynchronous("sleep", Gate::Acting, sleep)?
        .function("spawn", Gate::Acting, spawn)?
        .function("wait_group", Gate::Open, wait_group)?
        .finish();
    Ok(table)
}

async fn sleep(call: Call, ms: Value) -> mlua::Result<()> {
    let ms = call.number("ms", &ms)?;
    // A float becomes the nearest whole number in the target's range; a sleep of less than nothing is none.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let ms = (ms as u64).min(SLEEP_MS_MAX);
    tokio::time::sleep(Duration::from_millis(ms)).await;
    Ok(())
}

/// Starts a function with the arguments that follow it. Its error is a warning of the task, not its failure.
fn spawn(call: &Call, (function, arguments): &(Value, Variadic<Value>)) -> mlua::Result<()> {
    let Value::Function(function) = function else {
        return Err(call.expected("function", "a function", function));
    };
    let (function, arguments) = (function.clone(), MultiValue::from_iter(arguments.iter().cloned()));
    let context = Rc::clone(&call.context);
    let max = context.limits.goroutines_max;
    call.context.current.spawn(max, async move {
        let end = run(&function, arguments).await;
        if let Err(error) = end {
            context.warn(&format!("a goroutine failed: {}", Fault::from(&error).text()));
        }
    })
}

async fn run(function: &Function, arguments: MultiValue) -> mlua::Result<()> {
    function.call_async::<MultiValue>(arguments).await.map(drop)
}

/// A counter to wait on. Its functions work with `:` and with `.`.
fn wait_group(call: &Call, (): &()) -> mlua::Result<Table> {
    let count = Rc::new(watch::Sender::new(0_u64));
    let (added, done, waited) = (Rc::clone(&count), Rc::clone(&count), count);
    let table = Builder::new(&call.lua, &call.context, "wait_group")?
        .function("add", Gate::Open, move |call, arguments: &MultiValue| {
            let by = after_self(arguments);
            let by = if by.is_nil() { 1.0 } else { call.number("n", &by)? };
            count_by(call, &added, by)
        })?
        .function("done", Gate::Open, move |call, _: &MultiValue| count_by(call, &done, -1.0))?
        .asynchronous("wait", Gate::Acting, move |call, _: MultiValue| wait(call, waited.subscribe()))?
        .finish();
    Ok(table)
}

fn count_by(call: &Call, count: &watch::Sender<u64>, by: f64) -> mlua::Result<()> {
    let before = *count.borrow();
    // No script has more goroutines than a float can count exactly.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let after = {
        let after = before as f64 + by;
        if after < 0.0 || by.fract() != 0.0 {
            return Err(call.error(format_args!("{by} more than {before} is no count: call `add` before `done`")));
        }
        after as u64
    };
    count.send_replace(after);
    Ok(())
}

async fn wait(call: Call, mut count: watch::Receiver<u64>) -> mlua::Result<()> {
    count.wait_for(|count| *count == 0).await.map(drop).map_err(|error| call.error(error))
}

/// The first argument of a function that may have been called with `:`.
fn after_self(arguments: &MultiValue) -> Value {
    arguments.iter().find(|argument| !argument.is_table()).cloned().unwrap_or(Value::Nil)
}
