//! `fs`: files of the host, and `bundle`: files of the bundle.

mod change;
mod find;

use std::{fs::Metadata, os::unix::fs::MetadataExt, path::Path, rc::Rc};

pub(super) use change::{Told, act, remove, rename};
use mlua::{Lua, LuaString, Table, Value};

use super::{
    Context, attributes,
    call::{Builder, Call, Gate},
    files,
    foreseen::{self, Seen},
    paths::{self, readable, readable_link, text},
};
use crate::beneath::Last;

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let reading = Builder::new(lua, context, "fs")?
        .function("read", Gate::Open, read)?
        .function("exists", Gate::Open, exists)?
        .function("is_dir", Gate::Open, is_dir)?
        .function("is_file", Gate::Open, is_file)?
        .function("is_link", Gate::Open, |call, path: &Value| Ok(readable_link(call, "path", path)?.is_symlink()))?
        .function("ls", Gate::Open, list)?
        .function("size", Gate::Open, size)?
        .function("stat", Gate::Open, |call, path: &Value| stat(call, path, Link::Followed))?
        .function("lstat", Gate::Open, |call, path: &Value| stat(call, path, Link::Itself))?
        .function("readlink", Gate::Open, read_link)?
        .function("realpath", Gate::Open, real_path)?
        .function("tmpname", Gate::Acting, temporary_name)?
        .function("basename", Gate::Open, |call, path: &Value| Ok(part(call, path)?.1))?
        .function("dirname", Gate::Open, |call, path: &Value| Ok(part(call, path)?.0))?
        .function("extname", Gate::Open, extension)?
        .function("join", Gate::Open, join)?
        .function("bundle", Gate::Open, in_bundle)?;
    Ok(change::extend(find::extend(reading)?)?.finish())
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
        .function("ls", Gate::Open, |call, path: &Value| {
            Ok(paths::in_bundle(call, path)?.and_then(|path| files::list(&path)))
        })?
        .finish();
    Ok(table)
}

/// What is looked at where a path leads to a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Followed,
    Itself,
}

/// What is at a path, as a table; `exists = false` when nothing is.
pub(super) fn stat(call: &Call, path: &Value, link: Link) -> mlua::Result<Table> {
    let (path, found) = match link {
        Link::Followed => {
            let path = readable(call, "path", path)?;
            let found = path.metadata();
            (path, found)
        }
        Link::Itself => {
            let path = readable_link(call, "path", path)?;
            let found = path.symlink_metadata();
            (path, found)
        }
    };
    let table = call.lua.create_table()?;
    let seen = foreseen::look(call, &path);
    if seen != Seen::AsItIs {
        foretell(&table, &path, &seen)?;
        return Ok(table);
    }
    table.raw_set("exists", found.is_ok())?;
    if let Ok(found) = found {
        describe(&table, &path, &found)?;
    }
    Ok(table)
}

/// What can be told of what an earlier step would have made.
fn foretell(table: &Table, path: &Path, seen: &Seen) -> mlua::Result<()> {
    let (is_file, is_dir) = (matches!(seen, Seen::File(_)), *seen == Seen::Directory);
    table.raw_set("exists", is_file || is_dir)?;
    if is_file || is_dir {
        table.raw_set("path", text(path))?;
        table.raw_set("type", if is_dir { "directory" } else { "file" })?;
        table.raw_set("is_dir", is_dir)?;
        table.raw_set("is_directory", is_dir)?;
        table.raw_set("is_file", is_file)?;
        table.raw_set("is_link", false)?;
        // Texts, as of what is there, so that who shows them can.
        for name in ["mode", "owner", "group"] {
            table.raw_set(name, "unknown")?;
        }
    }
    if let Seen::File(Some(content)) = seen {
        table.raw_set("size", content.len())?;
    }
    Ok(())
}

fn describe(table: &Table, path: &Path, found: &Metadata) -> mlua::Result<()> {
    table.raw_set("path", text(path))?;
    table.raw_set("type", kind(found))?;
    table.raw_set("size", found.len())?;
    table.raw_set("mode", format!("{:o}", found.mode() & files::MODE_BITS))?;
    table.raw_set("is_dir", found.is_dir())?;
    table.raw_set("is_directory", found.is_dir())?;
    table.raw_set("is_file", found.is_file())?;
    table.raw_set("is_link", found.is_symlink() || path.is_symlink())?;
    table.raw_set("mtime", found.mtime())?;
    table.raw_set("uid", found.uid())?;
    table.raw_set("gid", found.gid())?;
    table.raw_set("owner", attributes::user_name(found.uid()))?;
    table.raw_set("group", attributes::group_name(found.gid()))?;
    if let Ok(target) = path.read_link() {
        table.raw_set("target", text(&target))?;
    }
    Ok(())
}

/// `file`, `directory`, `link`, or `other`, such as a device or a pipe.
pub(super) fn kind(found: &Metadata) -> &'static str {
    match (found.is_file(), found.is_dir(), found.is_symlink()) {
        (true, _, _) => "file",
        (_, true, _) => "directory",
        (_, _, true) => "link",
        (false, false, false) => "other",
    }
}

fn in_bundle(call: &Call, path: &Value) -> mlua::Result<Result<String, String>> {
    Ok(paths::in_bundle(call, path)?.map(|path| text(&path)))
}

fn read(call: &Call, path: &Value) -> mlua::Result<Result<LuaString, String>> {
    match foreseen::read(call, &readable(call, "path", path)?) {
        Ok(bytes) => Ok(Ok(call.lua.create_string(bytes)?)),
        Err(error) => Ok(Err(error)),
    }
}

/// A link that leads nowhere is not there, as a shell's `test -e` sees it.
fn exists(call: &Call, path: &Value) -> mlua::Result<bool> {
    Ok(foreseen::exists(call, &readable(call, "path", path)?))
}

fn is_dir(call: &Call, path: &Value) -> mlua::Result<bool> {
    let path = readable(call, "path", path)?;
    Ok(match foreseen::look(call, &path) {
        Seen::AsItIs => path.is_dir(),
        Seen::Directory => true,
        Seen::File(_) | Seen::Gone | Seen::Perhaps => false,
    })
}

fn is_file(call: &Call, path: &Value) -> mlua::Result<bool> {
    let path = readable(call, "path", path)?;
    Ok(match foreseen::look(call, &path) {
        Seen::AsItIs => path.is_file(),
        Seen::File(_) => true,
        Seen::Directory | Seen::Gone | Seen::Perhaps => false,
    })
}

fn list(call: &Call, path: &Value) -> mlua::Result<Result<Vec<String>, String>> {
    if !path.is_nil() {
        return Ok(foreseen::list(call, &readable(call, "path", path)?));
    }
    let path = call.workdir();
    // A task may choose any directory for its own; only the run's is the run's to look at.
    if let Some(own) = files::found_beneath(&path, &call.context.workdir) {
        call.pass(Gate::Acting)?;
        return Ok(foreseen::list(call, &own));
    }
    Ok(foreseen::list(call, &call.context.may_read(&path, Last::Followed, &call.name)?))
}

/// The size of a file; where there is none to tell, 0 and why.
fn size(call: &Call, path: &Value) -> mlua::Result<(u64, Option<String>)> {
    let path = readable(call, "path", path)?;
    let found = if foreseen::look(call, &path) == Seen::AsItIs {
        path.metadata().map(|found| found.len()).map_err(files::said("read the size of", &path))
    } else {
        foreseen::read(call, &path).map(|content| content.len() as u64)
    };
    Ok(found.map_or_else(|reason| (0, Some(reason)), |size| (size, None)))
}

fn read_link(call: &Call, path: &Value) -> mlua::Result<Result<String, String>> {
    let path = readable_link(call, "path", path)?;
    Ok(path.read_link().map(|target| text(&target)).map_err(files::said("read the link", &path)))
}

fn real_path(call: &Call, path: &Value) -> mlua::Result<Result<String, String>> {
    let path = readable(call, "path", path)?;
    Ok(path.canonicalize().map(|found| text(&found)).map_err(files::said("follow", &path)))
}

/// A name in the task's directory that nothing has. Nothing is made.
fn temporary_name(call: &Call, prefix: &Value) -> mlua::Result<String> {
    let prefix = call.optional_text("prefix", prefix)?.unwrap_or_else(|| "sloth-".to_owned());
    if prefix.contains(['/', '\0']) {
        return Err(call.error("`prefix` cannot hold `/`"));
    }
    Ok(text(&call.workdir().join(format!("{prefix}{:032x}", call.context.host.random()))))
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

/// The ending of a name with its dot; nothing for a name that only begins with one.
fn extension(call: &Call, path: &Value) -> mlua::Result<String> {
    let name = part(call, path)?.1;
    Ok(name.rfind('.').filter(|at| 0 < *at).map(|at| name[at..].to_owned()).unwrap_or_default())
}

/// The parts with one `/` between them; an absolute one begins anew.
fn join(call: &Call, parts: &mlua::Variadic<Value>) -> mlua::Result<String> {
    let mut joined = std::path::PathBuf::new();
    for part in parts.iter() {
        joined.push(call.text("part", part)?);
    }
    Ok(text(&joined))
}
