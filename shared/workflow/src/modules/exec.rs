//! `exec`: commands of the host.

use std::{collections::BTreeMap, ffi::OsString, os::unix::ffi::OsStringExt, rc::Rc};

use mlua::{IntoLuaMulti, Lua, MultiValue, Table, Value};
use sloth_core::error::Chain;

use super::{
    Context, account,
    call::{Builder, Call, Gate},
    options::Options,
};
use crate::{
    capability::Capability,
    process::{Command, Completed, Ending, Program, User},
    vm::Builtin,
};

/// Where commands are looked for. The daemon's own environment may hold secrets, so none of it is handed on.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Exit code that stands for a command that could not be started, as shells give it.
const EXIT_NOT_STARTED: i32 = 127;
/// How long a program of the system may take to tell a fact.
const QUIET_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);
const OPTIONS: [&str; 6] = ["workdir", "env", "timeout", "stdin", "shell", "quiet"];

/// Makes a result speak as its standard output where a script takes it for a text.
static RESULT: Builtin = Builtin::new(
    r#"
local methods, number = string, tonumber
local result = {}
local function text(value)
    if type(value) == "table" and getmetatable(value) == result then return rawget(value, "stdout") end
    return value
end
function result.__index(_, name)
    local method = methods[name]
    if method == nil then return nil end
    return function(first, ...) return method(text(first), ...) end
end
function result.__concat(left, right) return tostring(text(left)) .. tostring(text(right)) end
function result.__tostring(self) return rawget(self, "stdout") end
function result.__len(self) return #rawget(self, "stdout") end
return result, function(value, ...) return number(text(value), ...) end
"#,
);

/// `exec(…)` is `exec.run(…)`: drops the table that a call of a table puts before its arguments.
static CALL_RUN: Builtin = Builtin::new("local run = ... return function(_, ...) return run(...) end");

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let (metatable, tonumber): (Table, mlua::Function) = RESULT.function(lua)?.call(())?;
    metatable.set_readonly(true);
    lua.globals().set("tonumber", tonumber)?;
    let gate = Gate::Needs(Capability::Exec);
    let table = Builder::new(lua, context, "exec")?
        .asynchronous("run", gate, move |call, (command, options): (Value, Value)| {
            run(call, command, options, metatable.clone())
        })?
        .asynchronous("sh", gate, sh)?
        .alias("command", "run")?
        .unfinished();
    let callable = lua.create_table()?;
    let run: mlua::Function = CALL_RUN.function(lua)?.call(table.raw_get::<mlua::Function>("run")?)?;
    callable.raw_set("__call", run)?;
    callable.set_readonly(true);
    table.set_metatable(Some(callable))?;
    table.set_readonly(true);
    Ok(table)
}

/// Runs a shell line without options; what `os.execute` and `io.popen` are made of.
pub(super) async fn shell(call: &Call, line: String, stdin: Option<Vec<u8>>) -> Result<Completed, String> {
    let settings = Settings::new(call).map_err(|error| error.to_string())?;
    perform(call, Program::Shell(line), Settings { stdin, ..settings }).await
}

/// The environment that commands of the running task get.
pub(super) fn environment(call: &Call) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
    env.insert("HOME".to_owned(), std::env::var("HOME").unwrap_or_else(|_| "/".to_owned()));
    if let Some(scope) = call.context.current.get() {
        if let Some(task) = &scope.task {
            env.insert("SLOTH_TASK".to_owned(), task.task.clone());
        }
        env.extend(scope.env.clone());
    }
    mark(&mut env, call);
    env
}

/// Marks a command as the run's. What a crash leaves behind is found by it, so no script may unset it.
fn mark(env: &mut BTreeMap<String, String>, call: &Call) {
    env.insert("SLOTH_RUN_ID".to_owned(), call.context.run_id.clone());
}

struct Settings {
    workdir: std::path::PathBuf,
    env: BTreeMap<String, String>,
    timeout: Option<std::time::Duration>,
    stdin: Option<Vec<u8>>,
    user: Option<User>,
    log: Log,
}

/// Whether what a command prints is logged as well.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Log {
    Lines,
    Nothing,
}

impl Settings {
    fn new(call: &Call) -> mlua::Result<Self> {
        let mut env = environment(call);
        let user = user(call, &mut env)?;
        Ok(Self { workdir: call.workdir(), env, timeout: None, stdin: None, user, log: Log::Lines })
    }

    fn read(call: &Call, options: &Options<'_>) -> mlua::Result<Self> {
        let mut settings = Self::new(call)?;
        let added = options.texts("env")?;
        if let Some(name) = added.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return Err(call.error(format_args!("`{name}` cannot be the name of an environment variable")));
        }
        settings.env.extend(added);
        mark(&mut settings.env, call);
        settings.workdir = options.path("workdir")?.unwrap_or(settings.workdir);
        settings.timeout = options.duration("timeout")?;
        settings.stdin = options.bytes("stdin")?;
        if options.flag("quiet")?.unwrap_or(false) {
            settings.log = Log::Nothing;
        }
        Ok(settings)
    }
}

/// `result, error, failed`: the error is set only when the command could not be brought to its own end.
async fn run(
    call: Call,
    command: Value,
    options: Value,
    metatable: Table,
) -> mlua::Result<(Table, Option<String>, bool)> {
    let options = Options::new(&call, &options, &OPTIONS)?;
    let program = program(&call, &command, options.flag("shell")?)?;
    let settings = Settings::read(&call, &options)?;
    let limit = settings.timeout;
    let outcome = perform(&call, program, settings).await;
    let error = match &outcome {
        Ok(Completed { ending: Ending::TimedOut, .. }) => {
            let limit = humantime::format_duration(limit.unwrap_or_default());
            Some(format!("{}: the command was ended after its timeout of {limit}", call.name))
        }
        Ok(_) => None,
        Err(error) => Some(error.clone()),
    };
    let result = to_result(&call.lua, outcome, metatable)?;
    let failed = !result.raw_get::<bool>("success")?;
    Ok((result, error, failed))
}

async fn sh(call: Call, (command, options): (Value, Value)) -> mlua::Result<MultiValue> {
    let options = Options::new(&call, &options, &OPTIONS)?;
    let program = program(&call, &command, options.flag("shell")?)?;
    let settings = Settings::read(&call, &options)?;
    match perform(&call, program, settings).await {
        Ok(completed) => {
            let success = completed.ending == Ending::Exited(0);
            let output = [completed.stdout, completed.stderr].concat();
            (success, call.lua.create_string(output)?).into_lua_multi(&call.lua)
        }
        Err(error) => (false, error).into_lua_multi(&call.lua),
    }
}

async fn perform(call: &Call, program: Program, settings: Settings) -> Result<Completed, String> {
    let context = &call.context;
    if !settings.workdir.is_dir() {
        return Err(format!("{}: there is no directory `{}` to run in", call.name, settings.workdir.display()));
    }
    let command = Command {
        program,
        workdir: settings.workdir,
        env: settings.env,
        stdin: settings.stdin,
        timeout: settings.timeout,
        user: settings.user,
        capture_bytes_max: context.limits.capture_bytes,
        line_bytes_max: context.limits.log_line_bytes,
    };
    let scope = context.current.get().map(|scope| scope.id);
    let sink = |stream, line: String| {
        if settings.log == Log::Lines {
            context.log(stream, &line);
        }
    };
    let processes = Rc::clone(&context.processes);
    let run = processes.run(scope, command, &sink).await;
    run.map_err(|error| format!("{}: {}", call.name, Chain(&error)))
}

/// What to run: a line for the shell, or a list of a program and its arguments that no shell sees.
fn program(call: &Call, command: &Value, shell: Option<bool>) -> mlua::Result<Program> {
    // A table that turns itself into a text is a text.
    let Some(list) = command.as_table().filter(|table| !table.has_metatable()) else {
        if shell == Some(false) {
            return Err(call.expected(
                "command",
                "a list of a program and its arguments with `shell = false`",
                command,
            ));
        }
        return Ok(Program::Shell(call.text("command", command)?));
    };
    if shell == Some(true) {
        return Err(call.expected("command", "a text with `shell = true`", command));
    }
    let mut words = Vec::with_capacity(list.raw_len());
    for (index, word) in list.sequence_values::<Value>().enumerate() {
        words.push(OsString::from_vec(call.bytes(&format!("command[{}]", index + 1), &word?)?));
    }
    if words.is_empty() {
        return Err(call.error("`command` is an empty list: begin it with the program"));
    }
    let program = words.remove(0);
    Ok(Program::Direct { program, arguments: words })
}

/// Who is to run it, when that is not the user of this process; the environment is made to agree.
fn user(call: &Call, env: &mut BTreeMap<String, String>) -> mlua::Result<Option<User>> {
    let Some(name) = call.context.current.get().and_then(|scope| scope.user.clone()) else { return Ok(None) };
    let Some(account) = account::find(|account| account.name == name) else {
        return Err(call.error(format_args!("there is no user `{name}` in /etc/passwd")));
    };
    let own = rustix::process::geteuid();
    env.insert("HOME".to_owned(), account.home);
    env.insert("USER".to_owned(), name.clone());
    env.insert("LOGNAME".to_owned(), name.clone());
    if own.as_raw() == account.uid {
        return Ok(None);
    }
    if !own.is_root() {
        return Err(call.error(format_args!("only root can run commands as another user, here `{name}`")));
    }
    Ok(Some(User { uid: account.uid, gid: account.gid }))
}

fn to_result(lua: &Lua, outcome: Result<Completed, String>, metatable: Table) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let (stdout, stderr, exit_code) = match &outcome {
        Ok(completed) => (&completed.stdout[..], &completed.stderr[..], completed.ending.exit_code()),
        Err(error) => (&b""[..], error.as_bytes(), EXIT_NOT_STARTED),
    };
    table.raw_set("stdout", lua.create_string(stdout)?)?;
    table.raw_set("stderr", lua.create_string(stderr)?)?;
    table.raw_set("output", lua.create_string([stdout, stderr].concat())?)?;
    table.raw_set("exit_code", exit_code)?;
    table.raw_set("success", exit_code == 0)?;
    table.raw_set("timed_out", matches!(&outcome, Ok(completed) if completed.ending == Ending::TimedOut))?;
    table.raw_set("truncated", outcome.is_ok_and(|completed| completed.truncated))?;
    table.set_metatable(Some(metatable))?;
    Ok(table)
}

/// What a program of the system prints, for modules of their own. Nothing is logged.
pub(super) async fn quiet(call: &Call, words: &[&str]) -> Result<String, String> {
    let name = words.first().copied().unwrap_or_default();
    let settings = Settings::new(call).map_err(|error| error.to_string())?;
    let settings = Settings { timeout: Some(QUIET_TIMEOUT), log: Log::Nothing, ..settings };
    let mut words = words.iter().map(OsString::from);
    let program = Program::Direct { program: words.next().unwrap_or_default(), arguments: words.collect() };
    let completed = perform(call, program, settings).await?;
    if completed.ending == Ending::Exited(0) {
        return Ok(String::from_utf8_lossy(&completed.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&completed.stderr);
    let reason = stderr.lines().next().unwrap_or_default();
    Err(format!("`{name}` ended with exit code {}: {reason}", completed.ending.exit_code()))
}
