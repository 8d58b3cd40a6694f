//! What a task or a condition does.

use mlua::{Function, Lua, Value};

use super::argument::Arguments;
use crate::{
    modules::{self, cut},
    vm::Builtin,
};

/// Something to do: a function of the script, or a line for the shell.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    Function(Function),
    Shell(String),
}

/// What must hold.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) test: Test,
    /// What the test must say.
    pub(crate) wanted: bool,
}

/// What says whether something holds.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    Fixed(bool),
    Action(Action),
}

/// Most bytes of a condition that a plan shows.
const SHOWN_BYTES_MAX: usize = 200;

/// Makes a shell line a task's function.
static SHELL: Builtin = Builtin::new(include_str!("shell.luau"));
/// Where the machine keeps what it makes, and under which names.
const REGISTRY: &str = "sloth.shell";
const TASK: &str = "task";
const CONDITION: &str = "condition";

impl Action {
    pub(super) fn read(arguments: &Arguments<'_>) -> mlua::Result<Self> {
        match arguments.value(0) {
            Value::Function(function) => Ok(Self::Function(function.clone())),
            Value::String(line) => Ok(Self::Shell(line.to_string_lossy())),
            other => Err(arguments.takes("a function, or a text for the shell", other)),
        }
    }

    /// The function to call. That of a shell line runs it as `exec.run` does, and under the same capability.
    pub(crate) fn function(&self, lua: &Lua) -> mlua::Result<Function> {
        match self {
            Self::Function(function) => Ok(function.clone()),
            Self::Shell(line) => shell(lua, TASK)?.bind(line.as_str()),
        }
    }

    /// The function to call where it is a condition.
    pub(crate) fn condition(&self, lua: &Lua) -> mlua::Result<Function> {
        match self {
            Self::Function(function) => Ok(function.clone()),
            Self::Shell(line) => shell(lua, CONDITION)?.bind(line.as_str()),
        }
    }
}

impl Condition {
    /// A function, a line for the shell, or a plain `true` or `false`.
    pub(super) fn read(arguments: &Arguments<'_>) -> mlua::Result<Self> {
        let test = match arguments.value(0) {
            Value::Boolean(flag) => Test::Fixed(*flag),
            _ => Test::Action(Action::read(arguments)?),
        };
        Ok(Self { test, wanted: true })
    }

    /// How it is written, for people.
    pub(super) fn shown(&self, what: &str) -> String {
        let what = if self.wanted { what } else { "unless" };
        match &self.test {
            Test::Fixed(flag) => format!("{what} {flag}"),
            Test::Action(Action::Shell(line)) => format!("{what} `{}`", cut(line.trim(), SHOWN_BYTES_MAX)),
            Test::Action(Action::Function(_)) => format!("{what} a function says so"),
        }
    }

    /// What holds where this does not.
    pub(super) fn negated(self) -> Self {
        Self { wanted: !self.wanted, ..self }
    }
}

/// Has the next line for the shell look for `exec.run` anew.
pub(crate) fn forget_shell(lua: &Lua) {
    lua.unset_named_registry_value(REGISTRY).unwrap_or_default();
}

fn shell(lua: &Lua, kind: &str) -> mlua::Result<Function> {
    if let Ok(Value::Table(made)) = lua.named_registry_value(REGISTRY) {
        return made.raw_get(kind);
    }
    let exec = modules::find(lua, "exec")?.ok_or_else(|| mlua::Error::runtime("there is no module `exec`"))?;
    let run: Function = exec.get("run")?;
    let (task, condition): (Function, Function) = SHELL.function(lua)?.call(run)?;
    let made = lua.create_table_from([(TASK, task), (CONDITION, condition)])?;
    lua.set_named_registry_value(REGISTRY, &made)?;
    made.raw_get(kind)
}
