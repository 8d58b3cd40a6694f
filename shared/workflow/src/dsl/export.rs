//! `export({…})`: outputs of the run from anywhere in a file.

use mlua::{Lua, Table, Value};

use super::argument::{described, error};

/// Where the machine keeps what was exported.
const REGISTRY: &str = "sloth.exported";

/// Adds `export` to the globals.
pub(super) fn install(lua: &Lua) -> mlua::Result<()> {
    let export = lua.create_function(|lua, given: Value| {
        let Value::Table(table) = &given else {
            return Err(error(lua, format_args!("export takes a table, got {}", described(&given))));
        };
        let exported = match exported(lua) {
            Some(exported) => exported,
            None => lua.create_table()?,
        };
        table.for_each(|key: Value, value: Value| exported.raw_set(key, value))?;
        lua.set_named_registry_value(REGISTRY, exported)
    })?;
    lua.globals().raw_set("export", export)
}

/// What was exported, if anything was.
pub(crate) fn exported(lua: &Lua) -> Option<Table> {
    lua.named_registry_value::<Option<Table>>(REGISTRY).ok().flatten()
}
