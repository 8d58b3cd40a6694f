//! `fs`: files of the host, and `bundle`: files of the bundle.

use std::{io::Write, os::unix::fs::MetadataExt, path::Path, rc::Rc};

use mlua::{Lua, LuaString, Table, Value};
use sloth_core::{error::Chain, fs::Access};

use super::{
    Context,
    call::{Builder, Call, Done, Gate},
    files,
    paths::{self, readable, text, writable},
};
use crate::capability::Capability;

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let write_gate = Gate::Needs(Capability::FsWrite);
    let table = Builder::new(lua, context, "fs")?
        .function("read", Gate::Open, read)?
        .function("exists", Gate::Open, exists)?
        .function("is_dir", Gate::Open, |call, path: &Value| Ok(readable(call, "path", path)?.is_dir()))?
        .function("is_file", Gate::Open, |call, path: &Value| Ok(readable(call, "path", path)?.is_file()))?
        .function("ls", Gate::Open, list)?
        .function("size", Gate::Open, size)?
        .function("stat", Gate::Open, stat)?
        .function("write", write_gate, |call, (path, text): &(Value, Value)| write(call, path, text))?
        .function("append", write_gate, |call, (path, text): &(Value, Value)| append(call, path, text))?
        .function("mkdir", write_gate, |call, path: &Value| {
            act(call, path, |path| {
                sloth_core::fs::create_dir(path, Access::Everyone).map_err(|e| Chain(&e).to_string())
            })
        })?
        .function("rm", write_gate, |call, path: &Value| {
            act(call, path, |path| files::remove(path, files::Depth::One))
        })?
        .function("rmr", write_gate, |call, path: &Value| {
            act(call, path, |path| files::remove(path, files::Depth::All))
        })?
        .alias("rm_r", "rmr")?
        .function("copy", write_gate, copy)?
        .function("move", write_gate, rename)?
        .function("tmpname", Gate::Acting, temporary_name)?
        .function("basename", Gate::Open, |call, path: &Value| Ok(part(call, path)?.1))?
        .function("dirname", Gate::Open, |call, path: &Value| Ok(part(call, path)?.0))?
        .function("bundle", Gate::Open, in_bundle)?
        .finish();
    Ok(table)
}

/// The `bundle` global: the bundle's own files, which need no capability.
pub(super) fn bundle_module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let table = Builder::new(lua, context, "bundle")?
        .function("path", Gate::Open, in_bundle)?
        .function("read", Gate::Open, |call, path: &Value| {
            let path = paths::in_bundle(call, path)?;
            Ok(path.and_then(|path| files::read(&path)).map(|bytes| call.lua.create_string(bytes)))
                .and_then(|read| read.map_or_else(|error| Ok(Err(error)), |text| text.map(Ok)))
        })?
        .function("exists", Gate::Open, |call, path: &Value| Ok(paths::in_bundle(call, path)?.is_ok()))?
        .finish();
    Ok(table)
}

fn in_bundle(call: &Call, path: &Value) -> mlua::Result<Result<String, String>> {
    Ok(paths::in_bundle(call, path)?.map(|path| text(&path)))
}

fn read(call: &Call, path: &Value) -> mlua::Result<Result<LuaString, String>> {
    match files::read(&readable(call, "path", path)?) {
        Ok(bytes) => Ok(Ok(call.lua.create_string(bytes)?)),
        Err(error) => Ok(Err(error)),
    }
}

/// A link that leads nowhere is not there, as a shell's `test -e` sees it.
fn exists(call: &Call, path: &Value) -> mlua::Result<bool> {
    Ok(readable(call, "path", path)?.exists())
}

fn list(call: &Call, path: &Value) -> mlua::Result<Result<Vec<String>, String>> {
    if !path.is_nil() {
        return Ok(files::list(&readable(call, "path", path)?));
    }
    let path = call.workdir();
    // A task may choose any directory for its own; only the run's is the run's to look at.
    let own = files::found_beneath(&path, &call.context.workdir);
    let gate = if own.is_some() { Gate::Acting } else { Gate::Needs(Capability::FsRead) };
    call.pass(gate)?;
    Ok(files::list(&own.unwrap_or(path)))
}

fn size(call: &Call, path: &Value) -> mlua::Result<Result<u64, String>> {
    let path = readable(call, "path", path)?;
    Ok(path.metadata().map(|found| found.len()).map_err(files::said("read the size of", &path)))
}

fn stat(call: &Call, path: &Value) -> mlua::Result<Table> {
    let path = readable(call, "path", path)?;
    let table = call.lua.create_table()?;
    let found = path.metadata();
    table.raw_set("exists", found.is_ok())?;
    if let Ok(found) = found {
        table.raw_set("path", text(&path))?;
        table.raw_set("size", found.len())?;
        table.raw_set("mode", format!("{:o}", found.mode() & 0o7777))?;
        table.raw_set("is_dir", found.is_dir())?;
        table.raw_set("is_file", found.is_file())?;
        table.raw_set("mtime", found.mtime())?;
        table.raw_set("uid", found.uid())?;
        table.raw_set("gid", found.gid())?;
    }
    Ok(table)
}

fn write(call: &Call, path: &Value, text: &Value) -> mlua::Result<Done> {
    let text = call.bytes("text", text)?;
    act(call, path, |path| files::replace(path, &text))
}

fn append(call: &Call, path: &Value, text: &Value) -> mlua::Result<Done> {
    let text = call.bytes("text", text)?;
    act(call, path, |path| files::open_to_append(path)?.write_all(&text).map_err(files::said("append to", path)))
}

fn copy(call: &Call, (from, to): &(Value, Value)) -> mlua::Result<Done> {
    let from = readable(call, "from", from)?;
    let to = writable(call, "to", to)?;
    Ok(Done(files::copy(&from, &to)))
}

fn rename(call: &Call, (from, to): &(Value, Value)) -> mlua::Result<Done> {
    let (from, to) = (writable(call, "from", from)?, writable(call, "to", to)?);
    Ok(Done(std::fs::rename(&from, &to).map_err(files::said("move", &from))))
}

/// A name in the task's directory that nothing has. Nothing is made.
fn temporary_name(call: &Call, prefix: &Value) -> mlua::Result<String> {
    let prefix = call.optional_text("prefix", prefix)?.unwrap_or_else(|| "sloth-".to_owned());
    if prefix.contains(['/', '\0']) {
        return Err(call.error("`prefix` cannot hold `/`"));
    }
    Ok(text(&call.workdir().join(format!("{prefix}{:032x}", call.context.host.random()))))
}

fn act(call: &Call, path: &Value, action: impl FnOnce(&Path) -> Result<(), String>) -> mlua::Result<Done> {
    Ok(Done(action(&writable(call, "path", path)?)))
}

/// Directory and name of a path, by its text alone, as `dirname` and `basename` give them.
fn part(call: &Call, path: &Value) -> mlua::Result<(String, String)> {
    let path = call.text("path", path)?;
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        let root = if path.is_empty() { "." } else { "/" };
        return Ok((root.to_owned(), root.to_owned()));
    }
    Ok(match trimmed.rsplit_once('/') {
        None => (".".to_owned(), trimmed.to_owned()),
        Some((dir, name)) => {
            let dir = dir.trim_end_matches('/');
            (if dir.is_empty() { "/" } else { dir }.to_owned(), name.to_owned())
        }
    })
}
