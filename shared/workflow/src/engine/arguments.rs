//! What functions of tasks are called with.

use std::rc::Rc;

use mlua::{AnyUserData, IntoLuaMulti, MultiValue, ObjectLike, Table, Value};

use super::{Engine, attempt::Job, this::This};
use crate::{dsl::Signature, vm::Builtin};

/// Some old files are found with `function(params, workdir)`: where a text is wanted, the table is the directory.
static AS_PATH: Builtin = Builtin::new(
    r#"
local metatable, path = ...
local type = type
local function text(value) return if type(value) == "table" then path else value end
metatable.__tostring = function() return path end
metatable.__concat = function(left, right) return text(left) .. text(right) end
"#,
);

impl Engine {
    pub(super) fn this(&self, job: &Job<'_>, attempt: u32) -> mlua::Result<AnyUserData> {
        self.prepared.machine.lua.create_userdata(This {
            context: Rc::clone(&self.context),
            name: job.name.task.as_str().into(),
            workflow: Rc::clone(&job.course.name),
            workdir: job.workdir.clone(),
            params: job.params.clone(),
            attempt,
        })
    }

    /// What a task's function is called with.
    pub(super) fn arguments(&self, job: &Job<'_>, this: &AnyUserData) -> mlua::Result<MultiValue> {
        let lua = &self.prepared.machine.lua;
        match job.draft.signature {
            Signature::This => {
                // Old files are found with `function(params, deps)`: the second argument is both.
                if job.deps.metatable().is_some() {
                    job.params.set_metatable(Some(lua.create_table_from([("__index", &job.deps)])?))?;
                }
                (this, job.params.clone(), job.deps.clone(), self.session.clone()).into_lua_multi(lua)
            }
            Signature::Params => {
                let deps = self.joined(&job.deps, &job.params)?;
                if let Some(metatable) = deps.metatable() {
                    AS_PATH.function(lua)?.call::<()>((metatable, job.workdir.to_string_lossy()))?;
                }
                (self.speaking_params(job, this)?, deps, job.deps.clone(), self.session.clone()).into_lua_multi(lua)
            }
        }
    }

    /// What conditions and `pre_hook` are called with. Files are found that expect `params, deps`, `this, params` or
    /// `this, params, deps`: the first argument is `this` and `params` in one, the second `params` and `deps`.
    pub(super) fn early(&self, job: &Job<'_>, this: &AnyUserData) -> mlua::Result<MultiValue> {
        let second = self.joined(&job.params, &job.deps)?;
        (self.speaking_params(job, this)?, second, job.deps.clone()).into_lua_multi(&self.prepared.machine.lua)
    }

    /// What `post_hook` is called with. Old files are found with `function(params, outputs)`: the second argument is both.
    pub(super) fn late(&self, job: &Job<'_>, this: AnyUserData, outputs: Option<&Table>) -> mlua::Result<MultiValue> {
        let second = outputs.map_or_else(|| Ok(job.params.clone()), |outputs| self.joined(&job.params, outputs))?;
        (this, second, outputs.cloned()).into_lua_multi(&self.prepared.machine.lua)
    }

    /// The entries of `first`; what it does not have is looked up in `second`.
    pub(super) fn joined(&self, first: &Table, second: &Table) -> mlua::Result<Table> {
        let lua = &self.prepared.machine.lua;
        let joined = lua.create_table()?;
        first.for_each(|key: Value, value: Value| joined.raw_set(key, value))?;
        joined.set_metatable(Some(lua.create_table_from([("__index", second)])?))?;
        Ok(joined)
    }

    /// `params` that answer as `this` does as well.
    fn speaking_params(&self, job: &Job<'_>, this: &AnyUserData) -> mlua::Result<Table> {
        let lua = &self.prepared.machine.lua;
        let fields = lua.create_table()?;
        for field in This::FIELDS {
            fields.raw_set(field, this.get::<Value>(field)?)?;
        }
        // In files with `TaskDefinitions` the values of the run are among the params.
        if job.draft.signature == Signature::Params
            && let Value::Table(values) = lua.globals().raw_get("values")?
        {
            fields.set_metatable(Some(lua.create_table_from([("__index", values)])?))?;
        }
        let params = self.joined(&job.params, &fields)?;
        // The directory is a text to those who expect `params`, and an object to those who expect `this`: this is both.
        params.raw_set("workdir", fields.raw_get::<Value>("workdir")?)?;
        Ok(params)
    }
}
