//! What Lua's own `os` has and Luau's has not, each behind the gate of the module that does the same.

use std::rc::Rc;

use mlua::{Function, Lua, MultiValue, Table, Value};

use super::{
    Context,
    call::{Builder, Call, Gate},
    exec, files, fs,
    paths::{readable_link, text},
};
use crate::capability::Capability;

/// What a script may see of this process's own environment: who it runs as, and how it speaks.
const SHARED_ENVIRONMENT: [&str; 6] = ["USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ"];

/// Most variables that a run may set.
const VARIABLES_MAX: usize = 256;
/// Most bytes of the value of one. The kernel takes 128 KiB for one, name and end included.
const VARIABLE_BYTES_MAX: usize = 64 * 1024;

/// Adds to the table `os`, so that what Luau gives stays.
pub(super) fn extend(lua: &Lua, context: &Rc<Context>) -> mlua::Result<()> {
    let write_gate = Gate::Within(Capability::FsWrite);
    let os: Table = lua.globals().get("os")?;
    let time: Function = os.get("time")?;
    let added = Builder::new(lua, context, "os")?
        .function("time", Gate::Open, move |call, at: &Value| {
            if at.is_nil() { Ok(call.context.host.now().as_u64() / 1000) } else { time.call(at) }
        })?
        .function("getenv", Gate::Open, getenv)?
        .function("setenv", Gate::Acting, setenv)?
        .asynchronous("execute", Gate::Needs(Capability::Exec), execute)?
        .function("tmpname", Gate::Acting, |call, (): &()| {
            let name = format!("lua_{:032x}", call.context.host.random());
            Ok(call.workdir().join(name).to_string_lossy().into_owned())
        })?
        .function("remove", write_gate, |call, path: &Value| {
            Ok(fs::remove(call, path, files::Depth::One)?.0.map(|()| true))
        })?
        .function("rename", write_gate, |call, ends: &(Value, Value)| Ok(fs::rename(call, ends)?.0.map(|()| true)))?
        .function("lstat", Gate::Open, |call, path: &Value| {
            let found = fs::stat(call, path, fs::Link::Itself)?;
            let there = found.raw_get::<bool>("exists")?;
            Ok(if there { Ok(found) } else { Err(format!("there is no file `{}`", call.text("path", path)?)) })
        })?
        .function("readlink", Gate::Open, |call, path: &Value| {
            let path = readable_link(call, "path", path)?;
            Ok(path.read_link().map(|target| text(&target)).map_err(files::said("read the link", &path)))
        })?
        .function("exit", Gate::Open, |call, _: &MultiValue| -> mlua::Result<()> {
            Err(call.error("a script cannot end the run: end a task with `return true` or `return false, \"why\"`"))
        })?
        .unfinished();
    added.for_each(|name: String, function: Function| os.raw_set(name, function))
}

/// The environment of the running task: what its commands get, and a little of this process's.
fn getenv(call: &Call, name: &Value) -> mlua::Result<Option<String>> {
    let name = call.text("name", name)?;
    if let Some(value) = exec::script_environment(call).remove(&name) {
        return Ok(Some(value));
    }
    Ok(SHARED_ENVIRONMENT.contains(&name.as_str()).then(|| std::env::var(&name).ok()).flatten())
}

/// Adds a variable to the environment of the file's commands, and takes it out again where there is no value.
fn setenv(call: &Call, (name, value): &(Value, Value)) -> mlua::Result<bool> {
    let name = call.text("name", name)?;
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(call.error(format_args!("`{name}` cannot be the name of an environment variable")));
    }
    let value = call.optional_text("value", value)?;
    let mut environment = call.context.settings.environment.borrow_mut();
    let Some(value) = value else {
        environment.remove(&name);
        return Ok(true);
    };
    if value.contains('\0') || VARIABLE_BYTES_MAX < value.len() {
        return Err(call.error(format_args!(
            "the value of `{name}` takes {} bytes; {VARIABLE_BYTES_MAX} is the most, and none of them zero",
            value.len()
        )));
    }
    if VARIABLES_MAX <= environment.len() && !environment.contains_key(&name) {
        return Err(call.error(format_args!("a run may set {VARIABLES_MAX} variables at most")));
    }
    environment.insert(name, value);
    Ok(true)
}

/// The exit code, as Lua 5.1 gives it; without a command, that there is a shell.
async fn execute(call: Call, line: Value) -> mlua::Result<i32> {
    const SHELL_THERE: i32 = 1;
    const NOT_STARTED: i32 = -1;
    let Some(line) = call.optional_text("command", &line)? else { return Ok(SHELL_THERE) };
    match exec::shell(&call, line, None).await {
        Ok(completed) => Ok(completed.ending.exit_code()),
        Err(error) => {
            call.context.warn(&error);
            Ok(NOT_STARTED)
        }
    }
}
