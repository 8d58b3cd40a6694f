//! The functions of `fs` that change files. In a run that only checks they say what they would do.

use std::{fs::Permissions, io::Write, os::unix::fs::PermissionsExt, path::Path};

use mlua::{Value, Variadic};

use super::super::{
    attributes::{Attributes, Mode},
    call::{Builder, Call, Done, Gate},
    diff, files,
    foreseen::{self, Made, Seen},
    options::Options,
    paths::{movable, readable, text, writable},
    report::Change,
};
use crate::{
    beneath::{create_dirs, entry, followed, metadata},
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
        .alias("remove", "rm")?
        .function("copy", gate, copy)?
        .function("move", gate, rename)?
        .function("chmod", gate, chmod)?
        .function("chown", gate, chown)?
        .function("symlink", gate, symlink)
}

/// As [`act`], where the run itself would refuse what `check` refuses; `made` is then noted for later steps.
fn act_on(
    call: &Call,
    path: &Path,
    made: Made,
    check: impl FnOnce() -> Result<(), String>,
    told: impl FnOnce() -> Option<Told>,
    action: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    if call.checking() {
        check()?;
    }
    act(call, told, action)?;
    foreseen::note(call, path, made);
    Ok(())
}

/// What writing `after` to `path` would change.
pub(in super::super) fn would_write(call: &Call, path: &Path, after: &[u8]) -> Option<Told> {
    let would = format!("write `{}`", path.display());
    match foreseen::look(call, path) {
        Seen::AsItIs => {}
        Seen::File(Some(before)) => {
            return (before != after).then(|| Told { would, diff: diff::unified(&text(path), &before, after) });
        }
        Seen::File(None) | Seen::Directory => return Some(Told::new(would)),
        Seen::Gone | Seen::Perhaps => return Some(Told { would, diff: diff::unified(&text(path), b"", after) }),
    }
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
    let made = Made::File(call.checking().then(|| text.clone()));
    let told = || would_write(call, &path, &text);
    Ok(Done(act_on(call, &path, made, || check_file(call, &path), told, || files::replace(&path, &text))))
}

/// What keeps a file from being written at `path`.
fn check_file(call: &Call, path: &Path) -> Result<(), String> {
    let is_dir = match foreseen::look(call, path) {
        Seen::AsItIs => path.is_dir(),
        Seen::Directory => true,
        Seen::File(_) | Seen::Gone | Seen::Perhaps => false,
    };
    if is_dir {
        return Err(format!("cannot write `{}`: it is a directory", path.display()));
    }
    foreseen::check_parent(call, path)
}

/// What keeps from moving, copying or changing what is at `path`: that it is not there.
fn check_there(call: &Call, action: &str, path: &Path) -> Result<(), String> {
    match foreseen::look(call, path) {
        Seen::AsItIs => entry(path).symlink_metadata().map(drop).map_err(files::said(action, path)),
        Seen::File(_) | Seen::Directory | Seen::Perhaps => Ok(()),
        Seen::Gone => Err(format!("cannot {action} `{}`: an earlier step would have removed it", path.display())),
    }
}

/// What is at `path`, to be noted of another that becomes the same.
fn same_as(call: &Call, path: &Path) -> Made {
    match foreseen::look(call, path) {
        Seen::AsItIs if path.is_dir() => Made::Filled,
        Seen::AsItIs => {
            let small = path.metadata().is_ok_and(|found| found.is_file() && found.len() <= COMPARED_BYTES_MAX);
            Made::File(if small { files::read(path).ok() } else { None })
        }
        Seen::File(content) => Made::File(content),
        Seen::Directory => Made::Filled,
        Seen::Gone | Seen::Perhaps => Made::File(None),
    }
}

fn append(call: &Call, path: &Value, text: &Value) -> mlua::Result<Done> {
    let text = call.bytes("text", text)?;
    let path = writable(call, "path", path)?;
    let after = appended(call, &path, &text);
    let told = || {
        let would = format!("append to `{}`", path.display());
        match &after {
            Some(after) => would_write(call, &path, after).map(|told| Told { would, ..told }),
            None => Some(Told::new(would)),
        }
    };
    Ok(Done(act_on(
        call,
        &path,
        Made::File(after.clone()),
        || check_file(call, &path),
        told,
        || files::open_to_append(&path)?.write_all(&text).map_err(files::said("append to", &path)),
    )))
}

/// What a file holds with `text` at its end, in a run that only checks and where it can be told.
fn appended(call: &Call, path: &Path, text: &[u8]) -> Option<Vec<u8>> {
    if !call.checking() {
        return None;
    }
    let mut after = match foreseen::look(call, path) {
        Seen::AsItIs => match path.metadata() {
            Ok(found) if found.is_file() && found.len() <= COMPARED_BYTES_MAX => files::read(path).ok()?,
            Ok(_) => return None,
            Err(_) => Vec::new(),
        },
        Seen::File(content) => content?,
        Seen::Gone => Vec::new(),
        Seen::Directory | Seen::Perhaps => return None,
    };
    after.extend_from_slice(text);
    Some(after)
}

fn mkdir(call: &Call, (path, mode): &(Value, Value)) -> mlua::Result<Done> {
    let path = writable(call, "path", path)?;
    let mode = if mode.is_nil() { None } else { Some(Mode::read(call, "mode", mode)?) };
    let seen = foreseen::look(call, &path);
    if call.checking() && (seen == Seen::Directory || seen == Seen::AsItIs && path.is_dir()) {
        return Ok(Done(Ok(())));
    }
    let check = || match seen {
        Seen::AsItIs if entry(&path).symlink_metadata().is_err() => Ok(()),
        Seen::AsItIs | Seen::File(_) => Err(format!("cannot make `{}`: it is there and no directory", path.display())),
        Seen::Directory | Seen::Gone | Seen::Perhaps => Ok(()),
    };
    let told = || Some(Told::new(format!("make the directory `{}`", path.display())));
    Ok(Done(act_on(call, &path, Made::Directory, check, told, || {
        let there = path.is_dir();
        create_dirs(&path).map_err(files::told)?;
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
    let made = act_on(
        call,
        &path,
        Made::Directory,
        || foreseen::check_parent(call, &path),
        told,
        || {
            std::fs::create_dir(entry(&path))
                .and_then(|()| std::fs::set_permissions(entry(&path), Permissions::from_mode(PRIVATE_DIR_MODE)))
                .map_err(files::said("make", &path))
        },
    );
    Ok(made.map(|()| text(&path)))
}

fn touch(call: &Call, path: &Value) -> mlua::Result<Done> {
    let path = writable(call, "path", path)?;
    if call.checking() && foreseen::exists(call, &path) {
        let told = || Some(Told::new(format!("touch `{}`", path.display())));
        return Ok(Done(act(call, told, || Ok(()))));
    }
    let told = || Some(Told::new(format!("touch `{}`", path.display())));
    let made = Made::File(Some(Vec::new()));
    Ok(Done(act_on(call, &path, made, || check_file(call, &path), told, || files::touch(&path))))
}

pub(in super::super) fn remove(call: &Call, path: &Value, depth: files::Depth) -> mlua::Result<Done> {
    let path = movable(call, "path", path)?;
    let there = match foreseen::look(call, &path) {
        Seen::AsItIs => entry(&path).symlink_metadata().is_ok(),
        Seen::File(_) | Seen::Directory | Seen::Perhaps => true,
        Seen::Gone => false,
    };
    let perhaps = foreseen::look(call, &path) == Seen::Perhaps;
    if call.checking() && (!there || perhaps) && depth == files::Depth::All {
        return Ok(Done(Ok(())));
    }
    let check = || match depth {
        files::Depth::All => Ok(()),
        files::Depth::One if !there => check_there(call, "remove", &path),
        files::Depth::One => match foreseen::list(call, &path) {
            // A link to a directory goes alone.
            Ok(names) if !names.is_empty() && !path.is_symlink() => {
                Err(format!("cannot remove `{}`: the directory is not empty", path.display()))
            }
            Ok(_) | Err(_) => Ok(()),
        },
    };
    let told = || Some(Told::new(format!("remove `{}`", path.display())));
    Ok(Done(act_on(call, &path, Made::Gone, check, told, || files::remove(&path, depth))))
}

fn copy(call: &Call, (from, to): &(Value, Value)) -> mlua::Result<Done> {
    let (from, to) = (readable(call, "from", from)?, writable(call, "to", to)?);
    if !call.checking() {
        return Ok(Done(files::copy(&from, &to)));
    }
    let into = match foreseen::look(call, &to) {
        Seen::AsItIs => to.is_dir(),
        Seen::Directory => true,
        Seen::File(_) | Seen::Gone | Seen::Perhaps => false,
    };
    let target = match from.file_name() {
        Some(name) if into => to.join(name),
        Some(_) | None => to.to_path_buf(),
    };
    let made = same_as(call, &from);
    let check = || match &made {
        Made::File(_) => check_there(call, "copy", &from).and_then(|()| check_file(call, &target)),
        Made::Directory | Made::Filled | Made::Gone => {
            Err(format!("cannot copy `{}`: it is no plain file", from.display()))
        }
    };
    let told = || {
        let would = format!("copy `{}` to `{}`", from.display(), target.display());
        match &made {
            Made::File(Some(after)) => would_write(call, &target, after).map(|told| Told { would, ..told }),
            Made::File(None) | Made::Directory | Made::Filled | Made::Gone => Some(Told::new(would)),
        }
    };
    Ok(Done(act_on(call, &target, made.clone(), check, told, || Ok(()))))
}

pub(in super::super) fn rename(call: &Call, (from, to): &(Value, Value)) -> mlua::Result<Done> {
    let (from, to) = (movable(call, "from", from)?, movable(call, "to", to)?);
    let told = || Some(Told::new(format!("move `{}` to `{}`", from.display(), to.display())));
    let check = || check_there(call, "move", &from).and_then(|()| foreseen::check_parent(call, &to));
    let made = if call.checking() { same_as(call, &from) } else { Made::Gone };
    let moved = act_on(call, &to, made, check, told, || files::rename(&from, &to));
    if moved.is_ok() {
        foreseen::note(call, &from, Made::Gone);
    }
    Ok(Done(moved))
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
    if call.checking()
        && let Err(reason) = check_there(call, "find", path).and_then(|()| attributes.check(call))
    {
        return Done(Err(reason));
    }
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
    let check = || {
        let replaced = force && path.is_symlink();
        if !replaced
            && (foreseen::exists(call, &path) || entry(&path).symlink_metadata().is_ok())
            && foreseen::look(call, &path) != Seen::Gone
        {
            return Err(format!("cannot make the link `{}`: something is there already", path.display()));
        }
        foreseen::check_parent(call, &path)
    };
    Ok(Done(act_on(call, &path, Made::File(None), check, told, || {
        if force && path.is_symlink() {
            files::remove(&path, files::Depth::One)?;
        }
        std::os::unix::fs::symlink(&target, entry(&path)).map_err(files::said("make the link", &path))
    })))
}
