//! Errors of modules as texts, where a script catches them.

use mlua::{Function, Lua, Table, Value};

use crate::vm::{Builtin, Fault};

/// The machine's own errors are objects; scripts expect to join a text with what `pcall` caught.
static PROTECT: Builtin = Builtin::new(
    r#"
local plain = ...
local pcall, xpcall, resume, type = pcall, xpcall, coroutine.resume, type
local function spoken(reason)
    if type(reason) == "userdata" then return plain(reason) end
    return reason
end
local function settle(ok, ...)
    if ok then return true, ... end
    return false, spoken((...))
end
local function protected(f, ...) return settle(pcall(f, ...)) end
local function handled(f, handler, ...)
    return xpcall(f, function(reason) return handler(spoken(reason)) end, ...)
end
local function resumed(co, ...) return settle(resume(co, ...)) end
return protected, handled, resumed
"#,
);

/// Replaces `pcall`, `xpcall` and `coroutine.resume`.
pub(super) fn install(lua: &Lua) -> mlua::Result<()> {
    let plain = lua.create_function(|lua, reason: Value| match reason.as_error() {
        Some(error) => lua.create_string(Fault::from(error).message).map(Value::String),
        None => Ok(reason),
    })?;
    let (protected, handled, resumed): (Function, Function, Function) = PROTECT.function(lua)?.call(plain)?;
    lua.globals().set("pcall", protected)?;
    lua.globals().set("xpcall", handled)?;
    lua.globals().get::<Table>("coroutine")?.set("resume", resumed)
}
