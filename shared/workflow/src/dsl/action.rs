//! What a task or a condition does.

use mlua::{Function, Lua, Value};

use crate::{modules, vm::Builtin};

/// Something to do: a function of the script, or a line for the shell.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    Function(Function),
    Shell(String),
}

/// Makes a shell line a task's function.
static SHELL: Builtin = Builtin::new(include_str!("shell.luau"));
/// Where the machine keeps it.
const REGISTRY: &str = "sloth.shell";

impl Action {
    /// The function to call. That of a shell line runs it as `exec.run` does, and under the same capability.
    pub(crate) fn function(&self, lua: &Lua) -> mlua::Result<Function> {
        match self {
            Self::Function(function) => Ok(function.clone()),
            Self::Shell(line) => shell(lua)?.bind(line.as_str()),
        }
    }
}

fn shell(lua: &Lua) -> mlua::Result<Function> {
    if let Ok(Value::Function(shell)) = lua.named_registry_value(REGISTRY) {
        return Ok(shell);
    }
    let exec = modules::find(lua, "exec")?.ok_or_else(|| mlua::Error::runtime("there is no module `exec`"))?;
    let run: Function = exec.raw_get("run")?;
    let shell: Function = SHELL.function(lua)?.call(run)?;
    lua.set_named_registry_value(REGISTRY, &shell)?;
    Ok(shell)
}
