//! `reliability`: tries again what failed, and leaves alone what fails again and again.

use std::rc::Rc;

use mlua::{Lua, Table, Value};

use super::{
    Context,
    call::{Builder, Call, Gate},
    goroutine,
    http::exchange::content,
};
use crate::vm::Builtin;

static RETRY: Builtin = Builtin::new(include_str!("reliability/retry.luau"));

static CIRCUIT: Builtin = Builtin::new(include_str!("reliability/circuit.luau"));

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let native = goroutine::waiting(lua, context, "reliability")?
        .function("seconds", Gate::Open, goroutine::seconds)?
        .function("fraction", Gate::Open, fraction)?
        .finish();
    let core = goroutine::core(lua, &native)?;
    let public: Table = RETRY.function(lua)?.call((native, core))?;
    let mut builder = Builder::new(lua, context, "reliability")?;
    for pair in public.pairs::<String, Value>() {
        let (name, value) = pair?;
        builder = builder.value(&name, value)?;
    }
    Ok(builder.finish())
}

/// `circuit`: the circuit breakers of `reliability`, with results that are always tables.
pub(super) fn circuit_module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let reliability = super::find(lua, "reliability")?;
    let content = lua.create_function(|lua, answer: Table| content(lua)?.call::<Table>(answer))?;
    let public: Table = CIRCUIT.function(lua)?.call((reliability, content))?;
    let mut builder = Builder::new(lua, context, "circuit")?;
    for pair in public.pairs::<String, Value>() {
        let (name, value) = pair?;
        builder = builder.value(&name, value)?;
    }
    Ok(builder.finish())
}

/// A random number from 0 to 1.
fn fraction(call: &Call, (): &()) -> mlua::Result<f64> {
    #[expect(clippy::cast_possible_truncation, reason = "32 random bits are enough")]
    let random = call.context.host.random() as u32;
    Ok(f64::from(random) / f64::from(u32::MAX))
}
