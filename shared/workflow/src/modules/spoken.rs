//! Results that are tables and speak as one of their texts: old files join them, match them and print them.

use mlua::{Function, Lua, Table, Value};

use crate::vm::Builtin;

/// Makes the metatable of results that speak as the text called `field`.
static SPOKEN: Builtin = Builtin::new(
    r#"
local field = ...
local methods, type, getmetatable, rawget, tostring = string, type, getmetatable, rawget, tostring
local metatable = {}
local function text(value)
    if type(value) == "table" and getmetatable(value) == metatable then return rawget(value, field) end
    return value
end
function metatable.__index(_, name)
    local method = methods[name]
    if method == nil then return nil end
    return function(first, ...) return method(text(first), ...) end
end
function metatable.__concat(left, right) return tostring(text(left)) .. tostring(text(right)) end
function metatable.__tostring(self) return rawget(self, field) end
function metatable.__len(self) return #rawget(self, field) end
return metatable
"#,
);

/// A result is a number where the text that it speaks as is one.
static TONUMBER: Builtin = Builtin::new(
    r#"
local tonumber, tostring, type, getmetatable = tonumber, tostring, type, getmetatable
return function(value, ...)
    if type(value) == "table" then
        local metatable = getmetatable(value)
        if type(metatable) == "table" and metatable.__tostring then value = tostring(value) end
    end
    return tonumber(value, ...)
end
"#,
);

/// How deep results of modules are looked for in the outputs of a task.
const OUTPUTS_DEPTH_MAX: usize = 4;

/// Gives results of modules their voice again that lost it on their way through JSON: those of commands, and those of what
/// changes the host.
pub(crate) fn speak_again(lua: &Lua, outputs: &Table) -> mlua::Result<()> {
    within(lua, outputs, OUTPUTS_DEPTH_MAX)
}

fn within(lua: &Lua, table: &Table, depth: usize) -> mlua::Result<()> {
    if depth == 0 {
        return Ok(());
    }
    table.for_each(|_: Value, value: Value| {
        let Value::Table(inner) = value else { return Ok(()) };
        let is_text = |key: &str| inner.raw_get::<Value>(key).is_ok_and(|value| value.is_string());
        let is_flag = |key: &str| inner.raw_get::<Value>(key).is_ok_and(|value| value.is_boolean());
        if is_flag("success") && is_text("stdout") && is_text("stderr") {
            speak(lua, &inner, Voice::Stdout)
        } else if is_flag("success") && is_flag("changed") && is_text("message") {
            speak(lua, &inner, Voice::Message)
        } else {
            within(lua, &inner, depth - 1)
        }
    })
}

/// Replaces `tonumber`.
pub(super) fn install(lua: &Lua) -> mlua::Result<()> {
    let tonumber: Function = TONUMBER.function(lua)?.call(())?;
    lua.globals().set("tonumber", tonumber)
}

/// The text that a result speaks as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voice {
    /// What a command printed.
    Stdout,
    /// What was done.
    Message,
    /// What it is called.
    Name,
    /// The user that it is.
    Username,
}

impl Voice {
    const fn field(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Message => "message",
            Self::Name => "name",
            Self::Username => "username",
        }
    }

    const fn registry(self) -> &'static str {
        match self {
            Self::Stdout => "sloth.spoken.stdout",
            Self::Message => "sloth.spoken.message",
            Self::Name => "sloth.spoken.name",
            Self::Username => "sloth.spoken.username",
        }
    }
}

/// Gives `result` its voice.
pub(crate) fn speak(lua: &Lua, result: &Table, voice: Voice) -> mlua::Result<()> {
    result.set_metatable(Some(metatable(lua, voice)?))
}

fn metatable(lua: &Lua, voice: Voice) -> mlua::Result<Table> {
    if let Ok(Value::Table(known)) = lua.named_registry_value(voice.registry()) {
        return Ok(known);
    }
    let metatable: Table = SPOKEN.function(lua)?.call(voice.field())?;
    metatable.set_readonly(true);
    lua.set_named_registry_value(voice.registry(), &metatable)?;
    Ok(metatable)
}
