//! What Lua can call: one file a module.
//!
//! A module is a table that scripts cannot change. Each function says by its gate what it needs; arguments are
//! checked and named, unknown options are refused. A wrong call raises an error; what the host refuses comes back
//! as a value, in the form that the function's documentation says.

mod account;
mod call;
mod context;
mod crypto;
mod csv;
mod data;
mod exec;
mod facts;
mod files;
mod fs;
mod goroutine;
mod io;
mod log;
mod options;
mod os;
mod protect;
mod state;
mod template;

use std::rc::Rc;

use mlua::{Lua, Table};

pub use context::*;

/// Where the machine keeps its modules, out of scripts' reach.
const REGISTRY: &str = "sloth.modules";

/// Makes the table of a module.
type Make = fn(&Lua, &Rc<Context>) -> mlua::Result<Table>;

const MODULES: [(&str, Make); 13] = [
    ("bundle", fs::bundle_module),
    ("crypto", crypto::module),
    ("data", data::module),
    ("exec", exec::module),
    ("facts", facts::module),
    ("fs", fs::module),
    ("goroutine", goroutine::module),
    ("io", io::module),
    ("json", data::json_module),
    ("log", log::module),
    ("state", state::module),
    ("template", template::module),
    ("yaml", data::yaml_module),
];

/// Sets the globals of every module and the table that `require` consults.
///
/// # Errors
///
/// When the machine has no memory left.
pub fn install(lua: &Lua, context: &Rc<Context>) -> mlua::Result<()> {
    let known = lua.create_table()?;
    for (name, make) in MODULES {
        let module = make(lua, context)?;
        lua.globals().set(name, &module)?;
        known.raw_set(name, module)?;
    }
    os::extend(lua, context)?;
    known.raw_set("os", lua.globals().get::<Table>("os")?)?;
    protect::install(lua)?;
    lua.set_named_registry_value(REGISTRY, known)
}

/// The module that `require` and the globals know as `name`, if there is one.
///
/// # Errors
///
/// When the machine has no memory left.
pub fn find(lua: &Lua, name: &str) -> mlua::Result<Option<Table>> {
    lua.named_registry_value::<Table>(REGISTRY)?.raw_get(name)
}
