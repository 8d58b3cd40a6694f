//! Commands as another user.

use mlua::{IntoLuaMulti, MultiValue};

use super::user_name;
use crate::{
    Level, Stream,
    modules::{call::Call, exec, foreseen, options::Options},
    process::Ending,
};

/// Runs a line of shell as a user: whether it succeeded, and what it printed.
pub(super) async fn run_as(call: Call, arguments: MultiValue) -> mlua::Result<MultiValue> {
    let options = Options::named(&call, &arguments, &["username", "command"], &["name", "workdir", "timeout"])?;
    let (name, line) = (user_name(&call, &options)?, options.required("command")?);
    let (workdir, timeout) = (options.path("workdir")?, options.duration("timeout")?);
    if call.checking() {
        foreseen::left_out_unknown(&call);
        call.context.log(Stream::Log(Level::Info), &format!("would run as `{name}`: {line}"));
        return (true, "").into_lua_multi(&call.lua);
    }
    match exec::shell_as(&call, &name, line, workdir, timeout).await {
        Ok(completed) => {
            let output = [completed.stdout, completed.stderr].concat();
            (completed.ending == Ending::Exited(0), call.lua.create_string(output)?).into_lua_multi(&call.lua)
        }
        Err(reason) => (false, reason).into_lua_multi(&call.lua),
    }
}
