//! The functions of `fs` that change files. In a run that only checks they say what they would do.

use std::{fs::Permissions, io::Write, os::unix::fs::PermissionsExt, path::Path};

use mlua::{Value, Variadic};
use sloth_core::fs::Access;

use super::super::{
    attributes::{Attributes, Mode},
    call::{Builder, Call, Done, Gate},
    diff, files,
    options::Options,
    paths::{movable, readable, text, writable},
    report::Change,
};
use crate::{
    beneath::{entry, followed, metadata},
    capability::Capability,
};

/// Most bytes of a file that is compared with what is to be written to it.
const COMPARED_BYTES_MAX: u64 = 1024 * 1024;
/// The mode of a directory that only its maker may use.
const PRIVATE_DIR_MODE: u32 = 0o700;

/// What a change is told as in a run that only checks: what it would do, and the lines that differ.
pub(in super::super) struct Told {
    pub(in super::super) would: String,
    pub(in super::super) diff: String,
}

impl Told {
    pub(in super::super) fn new(would: impl Into<String>) -> Self {
        Self { would: would.into(), diff: String::new() }
    }
}

/// Does it; a run that only checks says what it would do instead. `told` looks, and says nothing when there is nothing
/// to do.
pub(in super::super) fn act(
    call: &Call,
    told: impl FnOnce() -> Option<Told>,
    action: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    if !call.checking() {
        return action();
    }
    match told() {
        Some(told) => Change::new(told.would, "").diff(told.diff).apply(call, action).map(drop),
        None => Ok(()),
    }
}

pub(super) fn extend(builder: Builder<'_>) -> mlua::Result<Builder<'_>> {
    let gate = Gate::Within(Capability::FsWrite);
    builder
        .function("write", gate, |call, (path, text): &(Value, Value)| write(call, path, text))?
        .function("append", gate, |call, (path, text): &(Value, Value)| append(call, path, text))?
        .function("mkdir", gate, mkdir)?
        .function("mkdtemp", gate, make_temporary_dir)?
        .function("touch", gate, touch)?
        .function("rm", gate, |call, path: &Value| remove(call, path, files::Depth::One))?
        .function("rmr", gate, |call, path: &Value| remove(call, path, files::Depth::All))?
        .alias("rm_r", "rmr")?
        .function("copy", gate, copy)?
        .function("move", gate, rename)?
        .function("chmod", gate, chmod)?
        .function("chown", gate, chown)?
        .function("symlink", gate, symlink)
}

/// What writing `after` to `path` would change.
pub(in super::super) fn would_write(path: &Path, after: &[u8]) -> Option<Told> {
    let would = format!("write `{}`", path.display());
    let Ok(found) = path.metadata() else {
        return Some(Told { would, diff: diff::unified(&text(path), b"", after) });
    };
    if !found.is_file() || COMPARED_BYTES_MAX < found.len() {
        return Some(Told::new(would));
    }
    let before = files::read(path).unwrap_or_default();
    (before != after).then(|| Told { would, diff: diff::unified(&text(path), &before, after) })
}

fn write(call: &Call, path: &Value, text: &Value) -> mlua::Result<Done> {
    let text = call.bytes("text", text)?;
    let path = writable(call, "path", path)?;
    Ok(Done(act(call, || would_write(&path, &text), || files::replace(&path, &text))))
}

fn append(call: &Call, path: &Value, text: &Value) -> mlua::Result<Done> {
    let text = call.bytes("text", text)?;
    let path = writable(call, "path", path)?;
    let told = || {
        let small = path.metadata().is_ok_and(|found| found.is_file() && found.len() <= COMPARED_BYTES_MAX);
        let mut after = if small { files::read(&path).unwrap_or_default() } else { Vec::new() };
        after.extend_from_slice(&text);
        would_write(&path, &after).map(|told| Told { would: format!("append to `{}`", path.display()), ..told })
    };
    Ok(Done(act(call, told, || {
        files::open_to_append(&path)?.write_all(&text).map_err(files::said("append to", &path))
    })))
}

fn mkdir(call: &Call, (path, mode): &(Value, Value)) -> mlua::Result<Done> {
    let path = writable(call, "path", path)?;
    let mode = if mode.is_nil() { None } else { Some(Mode::read(call, "mode", mode)?) };
    let told = || (!path.is_dir()).then(|| Told::new(format!("make the directory `{}`", path.display())));
    Ok(Done(act(call, told, || {
        let there = path.is_dir();
        sloth_core::fs::create_dir(&entry(&path), Access::Everyone).map_err(files::told)?;
        match mode {
            Some(mode) if !there => Attributes { mode: Some(mode), ..Attributes::default() }.apply(&path),
            Some(_) | None => Ok(()),
        }
    })))
}

/// A directory that nobody else can look into, with a name that nothing has.
fn make_temporary_dir(call: &Call, prefix: &Value) -> mlua::Result<Result<String, String>> {
    let path = call.lua.create_string(super::temporary_name(call, prefix)?)?;
    let path = writable(call, "path", &Value::String(path))?;
    let told = || Some(Told::new(format!("make the directory `{}`", path.display())));
    let made = act(call, told, || {
        std::fs::create_dir(entry(&path))
            .and_then(|()| std::fs::set_permissions(entry(&path), Permissions::from_mode(PRIVATE_DIR_MODE)))
            .map_err(files::said("make", &path))
    });
    Ok(made.map(|()| text(&path)))
}

fn touch(call: &Call, path: &Value) -> mlua::Result<Done> {
    let path = writable(call, "path", path)?;
    Ok(Done(act(call, || Some(Told::new(format!("touch `{}`", path.display()))), || files::touch(&path))))
}

fn remove(call: &Call, path: &Value, depth: files::Depth) -> mlua::Result<Done> {
    let path = movable(call, "path", path)?;
    let told = || path.symlink_metadata().is_ok().then(|| Told::new(format!("remove `{}`", path.display())));
    Ok(Done(act(call, told, || files::remove(&path, depth))))
}

fn copy(call: &Call, (from, to): &(Value, Value)) -> mlua::Result<Done> {
    let (from, to) = (readable(call, "from", from)?, writable(call, "to", to)?);
    let told = || {
        let after = from.metadata().ok().filter(|found| found.len() <= COMPARED_BYTES_MAX);
        let target = match from.file_name() {
            Some(name) if to.is_dir() => to.join(name),
            Some(_) | None => to.to_path_buf(),
        };
        let would = format!("copy `{}` to `{}`", from.display(), target.display());
        match after.and_then(|_| files::read(&from).ok()) {
            Some(after) => would_write(&target, &after).map(|told| Told { would, ..told }),
            None => Some(Told::new(would)),
        }
    };
    Ok(Done(act(call, told, || files::copy(&from, &to))))
}

fn rename(call: &Call, (from, to): &(Value, Value)) -> mlua::Result<Done> {
    let (from, to) = (movable(call, "from", from)?, movable(call, "to", to)?);
    let told = || Some(Told::new(format!("move `{}` to `{}`", from.display(), to.display())));
    Ok(Done(act(call, told, || files::rename(&from, &to))))
}

fn chmod(call: &Call, (path, mode): &(Value, Value)) -> mlua::Result<Done> {
    let path = writable(call, "path", path)?;
    let mode = Some(Mode::read(call, "mode", mode)?);
    Ok(attribute(call, &path, &Attributes { mode, ..Attributes::default() }))
}

fn chown(call: &Call, (path, owner, group): &(Value, Value, Value)) -> mlua::Result<Done> {
    let path = writable(call, "path", path)?;
    Ok(attribute(call, &path, &Attributes::owners(call, owner, group)?))
}

/// What a link leads to gets the attributes, as the shell's tools do it.
fn attribute(call: &Call, path: &Path, attributes: &Attributes) -> Done {
    let told = || {
        let differences = metadata(&followed(path)).map_or_else(|_| Vec::new(), |found| attributes.differences(&found));
        let would = format!("change {} of `{}`", differences.join(", "), path.display());
        (!differences.is_empty()).then(|| Told::new(would))
    };
    Done(act(call, told, || {
        let target = followed(path);
        metadata(&target).map_err(files::said("find", path))?;
        attributes.apply(&target)
    }))
}

/// Makes a link at `path` that leads to `target`; one that leads elsewhere is replaced when that is asked for.
fn symlink(call: &Call, values: &Variadic<Value>) -> mlua::Result<Done> {
    let value = |at: usize| values.get(at).cloned().unwrap_or(Value::Nil);
    let target = call.text("target", &value(0))?;
    let path = movable(call, "path", &value(1))?;
    let force = Options::new(call, &value(2), &["force"])?.flag("force")?.unwrap_or(false);
    if path.read_link().is_ok_and(|found| found.as_os_str() == target.as_str()) {
        return Ok(Done(Ok(())));
    }
    let told = || Some(Told::new(format!("link `{}` to `{target}`", path.display())));
    Ok(Done(act(call, told, || {
        if force && path.is_symlink() {
            files::remove(&path, files::Depth::One)?;
        }
        std::os::unix::fs::symlink(&target, entry(&path)).map_err(files::said("make the link", &path))
    })))
}
