//! `workdir`: the directory that the running task works in.

use std::{path::PathBuf, rc::Rc};

use mlua::{Lua, Table, Value};

use super::{
    Context,
    call::{Builder, Call, Gate},
    report::{Answer, Change, Report},
};
use crate::capability::Capability;

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let table = Builder::new(lua, context, "workdir")?
        .function("get", Gate::Open, |call, _: &Value| Ok(call.workdir().to_string_lossy().into_owned()))?
        .function("exists", Gate::Needs(Capability::FsRead), |call, path: &Value| Ok(given(call, path)?.is_dir()))?
        .asynchronous("create", Gate::Needs(Capability::FsWrite), create)?
        .asynchronous("cleanup", Gate::Needs(Capability::FsWrite), cleanup)?
        .finish();
    Ok(table)
}

/// A path, or the task's own directory.
fn given(call: &Call, path: &Value) -> mlua::Result<PathBuf> {
    if path.is_nil() { Ok(call.workdir()) } else { call.path("path", path) }
}

async fn create(call: Call, path: Value) -> mlua::Result<Answer> {
    let dir = given(&call, &path)?;
    let shown = dir.display().to_string();
    if dir.is_dir() {
        return Ok(call.answer(Ok(Report::unchanged(format!("`{shown}` is there")))));
    }
    let change = Change::new(format!("make the directory `{shown}`"), format!("made the directory `{shown}`"));
    let outcome = change
        .apply_async(&call, async {
            let making = tokio::task::spawn_blocking(move || std::fs::create_dir_all(dir)).await;
            making.map_err(|error| error.to_string())?.map_err(|error| format!("cannot make `{shown}`: {error}"))
        })
        .await;
    Ok(call.answer(outcome))
}

/// Removes what is in a directory of the run's own. Any other is its owner's.
async fn cleanup(call: Call, path: Value) -> mlua::Result<Answer> {
    let dir = given(&call, &path)?;
    let shown = dir.display().to_string();
    let own = call.context.workdir.canonicalize().unwrap_or_else(|_| call.context.workdir.clone());
    let Ok(real) = dir.canonicalize() else {
        return Ok(call.answer(Ok(Report::unchanged(format!("`{shown}` is not there")))));
    };
    if !real.starts_with(&own) {
        let reason = format!("`{shown}` is not the run's own directory, which is `{}`", own.display());
        return Ok(call.answer(Err(reason)));
    }
    let change = Change::new(format!("empty the directory `{shown}`"), format!("emptied the directory `{shown}`"));
    let outcome = change
        .apply_async(&call, async {
            let emptying = tokio::task::spawn_blocking(move || crate::engine::empty(&real)).await;
            emptying.map_err(|error| error.to_string())?.map_err(|error| format!("cannot empty `{shown}`: {error}"))
        })
        .await;
    Ok(call.answer(outcome))
}
