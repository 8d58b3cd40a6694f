//! `file_ops`: files as they are to be. Each function looks first, changes what differs, and tells what it changed.
//!
//! `file` is the same by its other name, with the functions of `fs` that read and write.

mod arguments;
mod copy;
mod edit;
mod entry;
mod formats;
mod lines;
mod pack;
mod place;
mod tree;
mod unpack;

use std::rc::Rc;

use mlua::{Lua, MultiValue, Table, Value};
use sha2::{Digest, Sha256};

use self::arguments::Arguments;
pub(super) use self::place::beside;
use super::{
    Context,
    call::{Builder, Call, Gate},
    files, fs,
    paths::readable,
};
use crate::{beneath::inode, capability::Capability};

/// What `file` has of `fs`.
const OF_FS: [&str; 11] =
    ["read", "write", "append", "exists", "is_dir", "is_file", "size", "move", "basename", "dirname", "extname"];

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    Ok(extend(Builder::new(lua, context, "file_ops")?)?.finish())
}

pub(super) fn file_module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let mut builder = extend(Builder::new(lua, context, "file")?)?;
    let plain = fs::module(lua, context)?;
    for name in OF_FS {
        builder = builder.value(name, plain.raw_get::<Value>(name)?)?;
    }
    Ok(builder.alias("remove", "absent")?.alias("delete", "absent")?.finish())
}

fn extend(builder: Builder<'_>) -> mlua::Result<Builder<'_>> {
    let gate = Gate::Within(Capability::FsWrite);
    builder
        .asynchronous("copy", gate, copy::copy)?
        .asynchronous("fetch", gate, copy::fetch)?
        .asynchronous("template", gate, copy::template)?
        .asynchronous("lineinfile", gate, edit::line)?
        .asynchronous("blockinfile", gate, edit::block)?
        .asynchronous("replace", gate, edit::replace)?
        .asynchronous("unarchive", gate, unpack::unarchive)?
        .asynchronous("archive", gate, pack::archive)?
        .asynchronous("file", gate, entry::file)?
        .asynchronous("directory", gate, |call, values| entry::of(call, values, entry::State::Directory))?
        .asynchronous("touch", gate, |call, values| entry::of(call, values, entry::State::Touch))?
        .asynchronous("absent", gate, |call, values| entry::of(call, values, entry::State::Absent))?
        .asynchronous("link", gate, |call, values| entry::of(call, values, entry::State::Link))?
        .asynchronous("stat", Gate::Open, stat)
}

/// What is at a path, with the digest of a plain file.
async fn stat(call: Call, values: MultiValue) -> mlua::Result<Table> {
    let arguments = Arguments::read(&call, &values, &["path"], &["path", "follow", "checksum"])?;
    let path = arguments.required("path")?;
    let link = if arguments.flag("follow")?.unwrap_or(true) { fs::Link::Followed } else { fs::Link::Itself };
    let digested = arguments.flag("checksum")?.unwrap_or(true);
    let table = fs::stat(&call, &path, link)?;
    if digested && table.raw_get::<Option<bool>>("is_file")? == Some(true) {
        let path = readable(&call, "path", &path)?;
        let digest = beside(move || {
            let mut file = std::fs::File::open(inode(&path)).map_err(files::said("read", &path))?;
            let mut hasher = Sha256::new();
            std::io::copy(&mut file, &mut hasher).map_err(files::said("read", &path))?;
            Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        });
        // A file that cannot be read has no digest that could be told.
        if let Ok(digest) = digest.await {
            table.raw_set("checksum", digest)?;
        }
    }
    Ok(table)
}
