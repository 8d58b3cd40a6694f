//! `this`, the first argument of task functions.

use std::{path::PathBuf, rc::Rc};

use mlua::{Lua, LuaString, MetaMethod, MultiValue, Table, UserData, UserDataFields, UserDataMethods, Value};

use crate::{
    beneath::Last,
    modules::{AgentInfo, Context},
    plan::nearest,
    vm::{convert::JSON_FIELD, location},
};

/// A task as its own functions see it.
pub(super) struct This {
    pub(super) context: Rc<Context>,
    pub(super) name: Rc<str>,
    pub(super) workflow: Rc<str>,
    pub(super) workdir: PathBuf,
    pub(super) params: Table,
    pub(super) attempt: u32,
}

impl This {
    /// Everything that it has.
    pub(super) const FIELDS: [&'static str; 7] =
        ["name", "workflow", "attempt", "run_id", "workdir", "agent", "params"];
}

impl UserData for This {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_field_method_get("name", |lua, this| constant(lua, &this.name));
        fields.add_field_method_get("workflow", |lua, this| constant(lua, &this.workflow));
        fields.add_field_method_get("attempt", |_, this| Ok(this.attempt));
        fields.add_field_method_get("run_id", |_, this| Ok(this.context.run_id.clone()));
        fields.add_field_method_get("workdir", workdir);
        fields.add_field_method_get("agent", |lua, this| agent(lua, &this.context.agent));
        fields.add_field_method_get("params", |_, this| Ok(this.params.clone()));
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        // Files are found whose functions take `params` first.
        methods.add_meta_method(MetaMethod::Index, |lua, this, key: Value| {
            let param: Value = this.params.get(&key)?;
            let name = key.to_string()?;
            let near = nearest(&name, Self::FIELDS);
            let (true, Some(near)) = (param.is_nil(), near) else { return Ok(param) };
            let place = location(lua).map_or_else(String::new, |place| format!("{place}: "));
            let known = Self::FIELDS.join(", ");
            Err(mlua::Error::runtime(format!("{place}`this` has no `{name}`; did you mean `{near}`? (it has {known})")))
        });
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| Ok(format!("task `{}`", this.name)));
        methods.add_meta_function(MetaMethod::Concat, joined);
    }
}

/// A function that answers `text`, whether it is called with `.` or with `:`.
fn constant(lua: &Lua, text: &str) -> mlua::Result<mlua::Function> {
    let text = lua.create_string(text)?;
    lua.create_function(move |_, _: MultiValue| Ok(text.clone()))
}

fn workdir(lua: &Lua, this: &This) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let text = this.workdir.to_string_lossy().into_owned();
    table.raw_set("get", constant(lua, &text)?)?;
    let path = this.workdir.clone();
    table.raw_set("exists", lua.create_function(move |_, _: MultiValue| Ok(path.is_dir()))?)?;
    for name in ["ensure", "recreate"] {
        let (path, context) = (this.workdir.clone(), Rc::clone(&this.context));
        let make = lua.create_function(move |_, _: MultiValue| {
            let path = context.may_write(&path, Last::Followed, &format!("this.workdir.{name}"))?;
            let emptied = if name == "recreate" && path.is_dir() { empty(&path) } else { Ok(()) };
            Ok(emptied.and_then(|()| std::fs::create_dir_all(&path)).is_ok())
        })?;
        table.raw_set(name, make)?;
    }
    // The run's scratch directory goes with the run; any other is its owner's.
    table.raw_set("cleanup", lua.create_function(|_, _: MultiValue| Ok(true))?)?;
    table.raw_set("path", text)?;
    speaking(lua, &table, "path")?;
    Ok(table)
}

/// A table that nothing changes, and that is its text called `field` where a text is wanted, and in JSON.
fn speaking(lua: &Lua, table: &Table, field: &str) -> mlua::Result<()> {
    let metatable = lua.create_table()?;
    metatable.raw_set("__tostring", constant(lua, &table.raw_get::<String>(field)?)?)?;
    metatable.raw_set("__concat", lua.create_function(joined)?)?;
    metatable.raw_set(JSON_FIELD, field)?;
    table.set_metatable(Some(metatable))?;
    table.set_readonly(true);
    Ok(())
}

fn joined(lua: &Lua, (left, right): (Value, Value)) -> mlua::Result<LuaString> {
    lua.create_string(format!("{}{}", left.to_string()?, right.to_string()?))
}

/// Removes what is in a directory, and not the directory: others may stand in it.
pub(crate) fn empty(path: &std::path::Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn agent(lua: &Lua, agent: &AgentInfo) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("get", constant(lua, &agent.name)?)?;
    table.raw_set("name", agent.name.as_str())?;
    let labels = lua.create_table()?;
    for (name, value) in &agent.labels {
        labels.raw_set(name.as_str(), value.as_str())?;
    }
    table.raw_set("labels", labels)?;
    speaking(lua, &table, "name")?;
    Ok(table)
}
