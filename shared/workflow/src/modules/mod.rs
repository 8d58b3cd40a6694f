//! What Lua can call.

mod context;

pub use context::*;

/// Sets the globals of every module and the table that `require` consults.
///
/// # Errors
///
/// When the machine has no memory left.
pub fn install(lua: &mlua::Lua, context: &std::rc::Rc<Context>) -> mlua::Result<()> {
    let _ = (lua, context);
    Ok(())
}

/// The module that `require` and the globals know as `name`, if there is one.
///
/// # Errors
///
/// When the machine has no memory left.
pub fn find(lua: &mlua::Lua, name: &str) -> mlua::Result<Option<mlua::Table>> {
    let _ = (lua, name);
    Ok(None)
}
