//! Code of this crate that is written in Lua.

use std::sync::OnceLock;

use mlua::{
    Function, Lua, Value,
    chunk::{ChunkMode, Compiler},
};

/// The name of all of it in tracebacks. Scripts' errors are never placed there.
pub(crate) const NAME: &str = "[sloth]";

/// Where the machine keeps the globals that no script can change.
const GLOBALS: &str = "sloth.globals";

/// The compiler's level that inlines: nobody debugs this code by its lines.
const OPTIMIZATION_LEVEL: u8 = 2;

/// Has all code of this crate use the globals as they are now, whatever a script makes of its own.
pub(crate) fn pin_globals(lua: &Lua) -> mlua::Result<()> {
    lua.set_named_registry_value(GLOBALS, lua.globals())
}

/// A chunk that is compiled once in the life of the process, since many machines come and go in it.
pub(crate) struct Builtin {
    text: &'static str,
    bytecode: OnceLock<Vec<u8>>,
}

impl Builtin {
    pub(crate) const fn new(text: &'static str) -> Self {
        Self { text, bytecode: OnceLock::new() }
    }

    /// The function that runs it.
    pub(crate) fn function(&self, lua: &Lua) -> mlua::Result<Function> {
        let bytecode = match self.bytecode.get() {
            Some(bytecode) => bytecode,
            None => {
                let bytecode = Compiler::new().set_optimization_level(OPTIMIZATION_LEVEL).compile(self.text)?;
                self.bytecode.get_or_init(|| bytecode)
            }
        };
        let chunk = lua.load(bytecode.as_slice()).set_name(format!("={NAME}")).set_mode(ChunkMode::Binary);
        match lua.named_registry_value(GLOBALS)? {
            Value::Table(globals) => chunk.set_environment(globals).into_function(),
            // Nothing was pinned: no script has run.
            _ => chunk.into_function(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_compilation_serves_many_machines() {
        static DOUBLE: Builtin = Builtin::new("local n = ... if n == 0 then error('none') end return 2 * n");
        for n in 1..3 {
            let lua = Lua::new();
            assert_eq!(DOUBLE.function(&lua).and_then(|f| f.call::<u32>(n)).expect("a number"), 2 * n);
        }
        let error = DOUBLE.function(&Lua::new()).and_then(|f| f.call::<u32>(0)).expect_err("an error");
        assert!(error.to_string().contains("[sloth]:1: none"), "{error}");
    }
}
